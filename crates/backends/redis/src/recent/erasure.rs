//! Taking users out of recent history.
//!
//! Channels are found by looking through the masters' keys (`SCAN`), one master behind the other, some keys in each step; what a channel holds of the user is
//! found and blanked by scripts that look at some hundred slots each. What is pending is in Redis, too, so that several nodes share the work; whoever has begun an
//! erasure remembers it elsewhere, should Redis forget it.
//!
//! A cursor is good for one run of one server. When the server is another one, or was started again, it is looked through from its beginning; when slots of
//! a Cluster have moved, all are. A failover that loses the newest writes may bring back what was blanked a moment ago: until its age takes it out, as with everything here.

use std::collections::HashMap;
use std::fmt;

use redis::Value;
use redis::cluster_routing::Slot;
use sha1::{Digest, Sha1};
use xpush_core::ports::erasure::{Erasure, NOBODY, Pending, Step};
use xpush_core::ports::{Done, PortError};
use xpush_core::{App, Channel, ChannelKey, ClientId, EventName, Kind, Message, Sender, UnixMillis, User};

use super::{RedisLog, Scripts, keys};
use crate::connection::Connection;
use crate::presence::{read, strange};

/// Keys that a step looks at, about, and slots that it blanks, about.
const KEYS: u32 = 200;
const CHANGED: u64 = 500;
/// Slots that one script looks at, and finds.
const LOOKED_AT: &str = "500";
const FOUND: &str = "100";
/// Of how much [`Step`] speaks.
const WHOLE: u64 = 1 << 16;
/// How long it is remembered that somebody is to be erased when nobody goes on, ms.
const REMEMBERED: u64 = 86_400_000;

/// How far an erasure is. As text: its fields, with blanks between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    looked_at: u64,
    ended: bool,
    /// Which master has which slots, as a digest.
    table: u64,
    /// The range of slots whose master is looked through.
    range: usize,
    cursor: u64,
    /// That master, in this run of it.
    run: String,
    /// Those that were looked through.
    done: Vec<String>,
}

impl Erasure for RedisLog {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        let whom = whom(app, user);
        self.connection.start(whom.len(), done, move |connection| async move {
            let key = pending_key(&connection);
            let mut begin = redis::cmd("HSETNX");
            begin.arg(&key).arg(format!("since {whom}")).arg(since);
            connection.query::<Value>(&begin).await?;
            let mut remember = redis::cmd("PEXPIRE");
            remember.arg(&key).arg(REMEMBERED);
            connection.query::<Value>(&remember).await.map(drop)
        });
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        self.connection.start(1024, done, move |connection| async move {
            let mut all = redis::cmd("HGETALL");
            all.arg(pending_key(&connection));
            let fields: HashMap<String, String> = connection.query(&all).await?;
            let pending = |(field, since): (&String, &String)| {
                let (app, user) = field.strip_prefix("since ")?.split_once(' ')?;
                let (app, user) = (App::new(app).ok()?, User::new(user).ok()?);
                Some(Pending { app, user, since: since.parse().ok()? })
            };
            let mut pending: Vec<Pending> = fields.iter().filter_map(pending).collect();
            pending.sort_by_key(|pending| pending.since);
            Ok(pending)
        });
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        let (scripts, app, user) = (self.scripts.clone(), app.clone(), user.clone());
        self.connection.start(4096, done, move |connection| async move {
            scripts.erase(&connection, &app, &user).await
        });
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        let whom = whom(app, user);
        self.connection.start(whom.len(), done, move |connection| async move {
            let mut end = redis::cmd("HDEL");
            end.arg(pending_key(&connection));
            for field in ["since", "step", "place", "erased"] {
                end.arg(format!("{field} {whom}"));
            }
            connection.query::<Value>(&end).await.map(drop)
        });
    }
}

impl Scripts {
    async fn erase(&self, connection: &Connection, app: &App, user: &User) -> Result<Step, PortError> {
        let whom = whom(app, user);
        let key = pending_key(connection);
        let mut ask = redis::cmd("HMGET");
        ask.arg(&key);
        for field in ["since", "step", "place", "erased"] {
            ask.arg(format!("{field} {whom}"));
        }
        let begun: Vec<Option<String>> = connection.query(&ask).await?;
        let [Some(_), step, place, erased] = &begun[..] else {
            return Ok(Step { ended: true, ..Step::default() });
        };
        let place = place.as_deref().map(Place::read).unwrap_or_default();
        if place.ended {
            let erased = erased.as_deref().and_then(|erased| erased.parse().ok()).unwrap_or(0);
            return Ok(place.told(erased));
        }
        let (mut next, mut erased) = (place, 0);
        let result = self.erase_some(connection, app, user, &mut next, &mut erased).await;
        // What was erased is counted, also when the rest has failed.
        let step = step.clone().unwrap_or_else(|| "0".to_owned());
        let arguments = [whom, step, next.to_string(), erased.to_string(), REMEMBERED.to_string()];
        let noted: Option<(String, u64)> = connection.invoke(&self.note, &[key], &arguments).await?;
        result?;
        let Some((place, erased)) = noted else { return Ok(Step { ended: true, ..Step::default() }) };
        Ok(Place::read(&place).told(erased))
    }

    async fn erase_some(
        &self,
        connection: &Connection,
        app: &App,
        user: &User,
        place: &mut Place,
        erased: &mut u64,
    ) -> Result<(), PortError> {
        let (ranges, table) = masters(connection).await?;
        if place.table != table {
            *place = Place { table, looked_at: place.looked_at, ..Place::default() };
        }
        loop {
            let Some(slot) = ranges.get(place.range).copied() else {
                place.ended = true;
                return Ok(());
            };
            let run = run_of(connection, slot).await?;
            if !run.is_empty() && place.done.contains(&run) {
                (place.range, place.cursor) = (place.range + 1, 0);
                continue;
            }
            if place.run != run {
                (place.run, place.cursor) = (run, 0);
            }
            break self.look_through(connection, app, user, place, slot, &ranges, erased).await;
        }
    }

    /// One answer of a master: its cursor moves on when all channels in it were looked through.
    #[expect(clippy::too_many_arguments, reason = "what a step knows")]
    async fn look_through(
        &self,
        connection: &Connection,
        app: &App,
        user: &User,
        place: &mut Place,
        slot: Slot,
        ranges: &[Slot],
        erased: &mut u64,
    ) -> Result<(), PortError> {
        let (before, behind) = (format!("{}:{{{app}:", connection.keys().prefix()), "}:log");
        let mut scan = redis::cmd("SCAN");
        scan.arg(place.cursor).arg("MATCH").arg(format!("{}*{behind}", literally(&before)));
        scan.arg("COUNT").arg(KEYS);
        let (cursor, found): (u64, Vec<Vec<u8>>) = connection.query_at(slot, &scan).await?;
        for key in found {
            let name = std::str::from_utf8(&key).ok();
            let name = name.and_then(|key| key.strip_prefix(&*before)?.strip_suffix(behind));
            let Some(name) = name.and_then(|name| Channel::new(name).ok()) else { continue };
            let channel = ChannelKey::new(app.clone(), name);
            self.erase_in(connection, &channel, user, erased).await?;
            if *erased >= CHANGED {
                // What was erased is not found again.
                return Ok(());
            }
        }
        place.cursor = cursor;
        if cursor == 0 {
            place.done.push(std::mem::take(&mut place.run));
            place.range += 1;
        }
        // Cursors count in the order of their bits turned around.
        let within = (u128::from(cursor.reverse_bits()) * u128::from(WHOLE)) >> 64;
        let whole = place.range as u64 * WHOLE + u64::try_from(within).unwrap_or(WHOLE);
        place.looked_at = place.looked_at.max(whole / ranges.len().max(1) as u64).min(WHOLE);
        Ok(())
    }

    async fn erase_in(
        &self,
        connection: &Connection,
        channel: &ChannelKey,
        user: &User,
        erased: &mut u64,
    ) -> Result<(), PortError> {
        let keys = keys(connection, channel);
        if channel.name.owner().is_some_and(|(owner, _)| owner == *user) {
            *erased += connection.invoke::<u64>(&self.empty, &keys, &[""]).await?;
            return Ok(());
        }
        let system = if channel.name.is_system() { "1" } else { "0" };
        let mut from = "1".to_owned();
        while from != "0" && *erased < CHANGED {
            let asked = [user.as_str(), system, &from, LOOKED_AT, FOUND];
            let answer: Vec<Value> = connection.invoke(&self.find, &keys, &asked).await?;
            let Some((next, found)) = answer.split_first() else { return Err(strange()) };
            from = read(next)?;
            let mut arguments: Vec<Vec<u8>> = vec![user.as_str().into(), NOBODY.into()];
            for slot in found.chunks(2) {
                let [seq, record] = slot else { return Err(strange()) };
                arguments.extend(blank(read(seq)?, &read::<Vec<u8>>(record)?)?);
            }
            if arguments.len() > 2 {
                *erased += connection.invoke::<u64>(&self.blank, &keys, &arguments).await?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn read(text: &str) -> Self {
        let mut fields = text.split(' ');
        let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let (looked_at, ended, table) = (number(), number() == 1, number());
        let (range, cursor) = (usize::try_from(number()).unwrap_or(usize::MAX), number());
        let run = fields.next().unwrap_or_default().to_owned();
        Self { looked_at, ended, table, range, cursor, run, done: fields.map(str::to_owned).collect() }
    }

    const fn told(&self, erased: u64) -> Step {
        let looked_at = if self.ended { WHOLE } else { self.looked_at };
        Step { looked_at, of: WHOLE, erased, ended: self.ended }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { looked_at, ended, table, range, cursor, run, done } = self;
        write!(f, "{looked_at} {} {table} {range} {cursor} {run}", u8::from(*ended))?;
        done.iter().try_for_each(|run| write!(f, " {run}"))
    }
}

fn pending_key(connection: &Connection) -> String {
    connection.keys().tagged("erasures", "pending")
}

/// No app's name holds a blank.
fn whom(app: &App, user: &User) -> String {
    format!("{app} {user}")
}

/// What a slot of the user becomes, as `blank.lua` takes it.
fn blank(seq: u64, record: &[u8]) -> Result<[Vec<u8>; 4], PortError> {
    let old = Message::decode(&record.to_vec().into()).map_err(|_| strange())?;
    let (Ok(user), Ok(id), Ok(event)) =
        (User::new(NOBODY), ClientId::new(&format!("erased-{seq}")), EventName::new("message"))
    else {
        return Err(strange());
    };
    let (at, target) = (old.at, if let Kind::Edit { target } = old.kind { target } else { 0 });
    let new = Message { id, event, from: Sender { user, name: None }, ..old };
    let text = |number: u64| number.to_string().into_bytes();
    Ok([text(seq), new.encode().to_vec(), text(at), text(target)])
}

/// A slot of each range of slots that one master has, and a digest of who has which.
async fn masters(connection: &Connection) -> Result<(Vec<Slot>, u64), PortError> {
    let first = Slot::new(0).ok_or_else(strange)?;
    if !connection.is_cluster() {
        return Ok((vec![first], 1));
    }
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let answer: Vec<Value> = connection.query_at(first, &command).await?;
    let mut ranges = Vec::new();
    for range in &answer {
        let parts: Vec<Value> = read(range)?;
        let [from, to, master, ..] = &parts[..] else { return Err(strange()) };
        let (from, to): (u16, u16) = (read(from)?, read(to)?);
        let master: Vec<Value> = read(master)?;
        let id: String = read(master.get(2).ok_or_else(strange)?)?;
        ranges.push((from, to, id));
    }
    ranges.sort_unstable();
    let mut digest = Sha1::new();
    for (from, to, id) in &ranges {
        digest.update(format!("{from} {to} {id}\n"));
    }
    let table = digest.finalize().iter().take(8).fold(0, |table: u64, byte| (table << 8) | u64::from(*byte));
    let slots = ranges.iter().map(|(from, ..)| Slot::new(*from).ok_or_else(strange));
    Ok((slots.collect::<Result<_, _>>()?, table))
}

/// Which run of which server has a slot; empty where we may not know.
async fn run_of(connection: &Connection, slot: Slot) -> Result<String, PortError> {
    let mut command = redis::cmd("INFO");
    command.arg("server");
    let info: String = match connection.query_at(slot, &command).await {
        Ok(info) => info,
        Err(error) if error.kind == xpush_core::ports::Failure::NotApplied => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(run.unwrap_or_default().trim().to_owned())
}

/// A text as a pattern that matches nothing else.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let start = Place { table: 7, looked_at: 9, ..Place::default() };
        let runs = vec!["b".to_owned(), "c".to_owned()];
        let place =
            Place { range: 2, cursor: u64::MAX, run: "a".into(), done: runs, ended: true, ..start.clone() };
        for place in [start, place] {
            assert_eq!(Place::read(&place.to_string()), place);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_a_place(text in ".{0,40}") {
            let _ = Place::read(&text);
        }
    }
}
