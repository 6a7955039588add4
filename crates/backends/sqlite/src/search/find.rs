//! Finding.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use serde::de::DeserializeSeed as _;
use xpush_core::Message;
use xpush_core::access::Apps;
use xpush_core::ports::search::{Found, Hit, Places, Wanted};
use xpush_core::ports::{Failure, PortError};
use xpush_core::search::Lookup;
use xpush_core::search::text::Strings;

use super::source::Source;
use super::{Question, Rules, index};
use crate::store::{Fault, Queue, Taken, Weight};

/// For how long one question is looked for.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// Steps of SQLite between two looks at the clock.
const STEPS: i32 = 10_000;

/// Candidates that are looked at for one page, and at a time.
const CANDIDATES: usize = 5_000;
const AT_A_TIME: usize = 100;

/// A candidate: its id and its slot.
type Candidate = (i64, i64);

/// Answers questions until there will be no more.
pub(super) fn run(index: &mut Connection, ledger: &dyn Source, rules: &Rules, questions: &Queue<Question>) {
    let mut taken = Vec::new();
    while questions.take(&mut taken, Weight { rows: 1, bytes: usize::MAX }, None) == Taken::Some {
        for Question { wanted, done } in taken.drain(..) {
            done(find(index, ledger, &rules(), wanted));
        }
    }
}

fn find(
    index: &mut Connection,
    ledger: &dyn Source,
    apps: &Apps,
    wanted: Wanted,
) -> Result<Found, PortError> {
    let deadline = Instant::now() + PATIENCE;
    let late = move || Instant::now() >= deadline;
    index.progress_handler(STEPS, Some(late)).map_err(failed)?;
    let Some(expression) = expression(ledger, &wanted)? else { return Ok(Found::default()) };
    let query = &wanted.query;
    let from = query.since.map_or(0, index::id_at);
    let mut until = query.until.map_or(i64::MAX, index::id_at);
    until = until.min(wanted.before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX)));
    let (mut found, mut looked_at) = (Found::default(), 0);
    loop {
        let Some(candidates) = candidates(index, &expression, from, until)? else {
            // Time is up before the next candidate: the page ends where the last one ended.
            if looked_at == 0 {
                return Err(PortError::new(Failure::Overloaded, "a search took too long"));
            }
            found.before = u64::try_from(until).ok();
            return Ok(found);
        };
        let messages: HashMap<i64, Arc<Message>> =
            ledger.messages(candidates.iter().map(|(_, slot)| *slot).collect())?.into_iter().collect();
        for (id, slot) in &candidates {
            until = *id;
            if let Some(hit) = messages.get(slot).and_then(|message| hit(message, apps, &wanted)) {
                found.hits.push(hit);
            }
            if found.hits.len() >= wanted.limit || late() {
                found.before = u64::try_from(until).ok();
                return Ok(found);
            }
        }
        looked_at += candidates.len();
        if candidates.len() < AT_A_TIME {
            return Ok(found);
        }
        if looked_at >= CANDIDATES {
            found.before = u64::try_from(until).ok();
            return Ok(found);
        }
    }
}

/// What FTS5 is asked; `None` when there is nothing to be found.
fn expression(ledger: &dyn Source, wanted: &Wanted) -> Result<Option<String>, PortError> {
    // No token has a quote in it.
    let quoted = |token: &String| format!("\"{token}\"");
    let lookups = wanted.query.lookups();
    let mut all: Vec<String> = lookups
        .iter()
        .map(|lookup| match lookup {
            Lookup::Token(token) => quoted(token),
            Lookup::Beginning(beginning) => format!("{}*", quoted(beginning)),
        })
        .collect();
    all.extend(wanted.query.from.iter().map(|user| quoted(&index::user_token(user.as_str()))));
    match &places(wanted) {
        Places::All => all.push(quoted(&index::app_token(&wanted.app))),
        Places::These(channels) => {
            let key = |channel: &xpush_core::Channel| {
                xpush_core::ChannelKey::new(wanted.app.clone(), channel.clone())
            };
            let ids = ledger.ids(channels.iter().map(key).collect())?;
            if ids.is_empty() {
                return Ok(None);
            }
            let any: Vec<_> = ids.iter().map(|id| quoted(&index::channel_token(*id))).collect();
            all.push(format!("({})", any.join(" OR ")));
        }
    }
    Ok(Some(all.join(" AND ")))
}

/// Where is looked: a channel that the query names is enough.
fn places(wanted: &Wanted) -> Places {
    match (&wanted.places, &wanted.query.channel) {
        (Places::All, Some(channel)) => Places::These(vec![channel.clone()]),
        (Places::These(channels), Some(channel)) => {
            Places::These(channels.iter().filter(|one| *one == channel).cloned().collect())
        }
        (places, None) => places.clone(),
    }
}

/// The next ones, the newest first; `None` when it takes too long.
fn candidates(
    index: &Connection,
    expression: &str,
    from: i64,
    until: i64,
) -> Result<Option<Vec<Candidate>>, PortError> {
    const SQL: &str = "SELECT d.id, d.slot FROM words JOIN documents AS d ON d.id = words.rowid
        WHERE words MATCH ?1 AND words.rowid >= ?2 AND words.rowid < ?3 ORDER BY words.rowid DESC LIMIT ?4";
    let read = || -> Result<Vec<Candidate>, rusqlite::Error> {
        let mut select = index.prepare_cached(SQL)?;
        let found = select.query_map(params![expression, from, until, AT_A_TIME as i64], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        found.collect()
    };
    match read() {
        Ok(candidates) => Ok(Some(candidates)),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether the message is what was asked for, as it reads now.
fn hit(message: &Arc<Message>, apps: &Apps, wanted: &Wanted) -> Option<Hit> {
    let query = &wanted.query;
    let is_there = message.channel.app == wanted.app
        && match &wanted.places {
            Places::All => true,
            Places::These(channels) => channels.contains(&message.channel.name),
        };
    let is_asked_for = query.from.as_ref().is_none_or(|user| *user == message.from.user)
        && query.channel.as_ref().is_none_or(|channel| *channel == message.channel.name)
        && query.is_within(message.at);
    let app = apps.by_name.get(&message.channel.app);
    let rule = app.and_then(|app| app.rules.find(&message.channel.name));
    if !is_there || !is_asked_for || !rule.is_some_and(|rule| rule.is_searched()) {
        return None;
    }
    let mut text = String::new();
    // What cannot be read has no words.
    let _ = Strings(&mut text).deserialize(&mut serde_json::Deserializer::from_slice(&message.payload.json));
    Some(Hit { excerpt: query.excerpt(&text)?, message: message.clone() })
}

fn failed(error: rusqlite::Error) -> PortError {
    Fault::Sqlite(error).into_port()
}
