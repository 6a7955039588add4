//! A ledger that servers share ([`Followed`]): each has an index of its own, in its data folder.
//!
//! The index gives numbers to the channels that it has, and keeps them in its own file, with how far it knows what was erased. All of it can be lost: it is made anew then.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeSeed as _;
use xpush_core::ports::search::{ERASED_FOR, Followed, Standing as Theirs};
use xpush_core::ports::{Done, PortError, wait};
use xpush_core::search::text::Strings;
use xpush_core::{App, Channel, ChannelKey, Epoch, Message};

use super::index;
use super::source::{After, Compared, Source, Wanted};
use crate::lock;
use crate::log::indexing::{Due, Standing, Stretch, Words};
use crate::log::slot;
use crate::store::{Fault, OpenError};

const SCHEMA: &str = "
    -- The channels that are indexed, in the life that they have.
    CREATE TABLE IF NOT EXISTS names (id INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, name TEXT NOT NULL, mark BLOB NOT NULL,
        epoch INTEGER NOT NULL, UNIQUE (app, name)) STRICT;
    -- What was erased until then is taken out: by the ledger's time, in ms.
    CREATE TABLE IF NOT EXISTS erased (until INTEGER NOT NULL) STRICT;
";

/// How often the ledger is asked what was erased.
const PACE: Duration = Duration::from_millis(500);

/// A day, in ms: what is told for so long still is told for long enough to be taken out.
const DAY: u64 = 24 * 3_600_000;

/// A shared ledger, and the numbers of its channels.
pub(super) struct Shared {
    ledger: Arc<dyn Followed>,
    state: Mutex<State>,
}

struct State {
    /// The index's file, by a connection of its own.
    file: Connection,
    by_id: HashMap<i64, (ChannelKey, Epoch)>,
    by_key: HashMap<ChannelKey, i64>,
    by_mark: HashMap<Box<[u8]>, i64>,
    /// What was written until then is compared, as a rule.
    moved: u64,
    erased: Erased,
}

/// What was erased, as far as it is known.
struct Erased {
    /// To be asked for next.
    until: u64,
    /// As the file has it.
    written: u64,
    /// Was told since the ledger had no more to tell.
    told: HashSet<i64>,
    /// Was taken out already, and may be told again.
    done: HashSet<i64>,
    /// Is to be taken out, until then.
    waiting: Option<(Vec<i64>, u64)>,
    asked: Option<Instant>,
}

/// Whether an index has not heard for too long what was erased; `now` by the ledger.
pub(super) fn is_too_old(file: &Connection, now: u64) -> Result<bool, OpenError> {
    file.execute_batch(SCHEMA)?;
    Ok(until(file)?.is_some_and(|until| now.saturating_sub(until) > ERASED_FOR - DAY))
}

/// The ledger's time.
pub(super) fn now(ledger: &dyn Followed) -> Result<u64, PortError> {
    Ok(wait(|done| ledger.erased(i64::MAX as u64, done))?.until)
}

impl Shared {
    /// Of an index that is open already.
    pub(super) fn open(path: &Path, ledger: Arc<dyn Followed>, now: u64) -> Result<Self, OpenError> {
        let file = index::connect(path)?;
        file.execute_batch(SCHEMA)?;
        let until = match until(&file)? {
            Some(until) => until,
            // What is indexed from now on is not erased yet.
            None => {
                file.execute("INSERT INTO erased VALUES (?1)", [now as i64])?;
                now
            }
        };
        let (mut by_id, mut by_key, mut by_mark) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut select = file.prepare("SELECT id, app, name, epoch, mark FROM names")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (app, name): (String, String) = (row.get(1)?, row.get(2)?);
            let (Ok(app), Ok(name)) = (App::new(&app), Channel::new(&name)) else { continue };
            let (id, key) = (row.get(0)?, ChannelKey::new(app, name));
            by_key.insert(key.clone(), id);
            by_mark.insert(row.get::<_, Vec<u8>>(4)?.into(), id);
            by_id.insert(id, (key, Epoch(row.get::<_, i64>(3)? as u64)));
        }
        drop(rows);
        drop(select);
        let (told, done) = (HashSet::new(), HashSet::new());
        let erased = Erased { until, written: until, told, done, waiting: None, asked: None };
        let state = State { file, by_id, by_key, by_mark, moved: now, erased };
        Ok(Self { ledger, state: Mutex::new(state) })
    }

    fn key(&self, id: i64) -> Option<(ChannelKey, Epoch)> {
        lock(&self.state).by_id.get(&id).cloned()
    }
}

impl State {
    /// Channels with their numbers; those that are neither known nor wanted are left out.
    fn compared(&mut self, standings: Vec<Theirs>, wanted: Wanted<'_>) -> Result<Compared, Fault> {
        let mut compared = Compared::default();
        for standing in standings {
            let key = &standing.channel;
            if !self.by_key.contains_key(key) && !wanted(key) {
                continue;
            }
            let (id, before) = self.number(&standing)?;
            compared.gone.extend(before);
            let Theirs { channel: key, head, first, .. } = standing;
            compared.channels.push(Standing { id, key, head, first });
        }
        Ok(compared)
    }

    /// The channel's number in this life, and the one that it had in the life before.
    fn number(&mut self, standing: &Theirs) -> Result<(i64, Option<i64>), Fault> {
        let Theirs { channel: key, mark, epoch, .. } = standing;
        let known = self.by_key.get(key).copied();
        if let Some(id) = known
            && self.by_id.get(&id).is_some_and(|(_, known)| known == epoch)
        {
            return Ok((id, None));
        }
        const REPLACE: &str =
            "INSERT OR REPLACE INTO names (app, name, mark, epoch) VALUES (?1, ?2, ?3, ?4) RETURNING id";
        let mut replace = self.file.prepare_cached(REPLACE)?;
        let names = params![key.app.as_str(), key.name.as_str(), mark, epoch.0 as i64];
        let id = replace.query_row(names, |row| row.get(0))?;
        drop(replace);
        if let Some(gone) = known {
            self.by_id.remove(&gone);
            self.by_mark.retain(|_, known| *known != gone);
        }
        self.by_id.insert(id, (key.clone(), *epoch));
        self.by_key.insert(key.clone(), id);
        self.by_mark.insert(mark.clone(), id);
        Ok((id, known))
    }
}

impl Source for Shared {
    fn tell(&self, _: Arc<Due>) -> Result<bool, PortError> {
        Ok(false)
    }

    fn compare(&self, after: After, limit: usize, wanted: Wanted<'_>) -> Result<Compared, PortError> {
        let after = if let After::Place(place) = after { Some(place) } else { None };
        let standings = wait(|done| self.ledger.standings(after, limit, done))?;
        let compared = lock(&self.state).compared(standings.channels, wanted).map_err(Fault::into_port)?;
        Ok(Compared { next: standings.next.map(After::Place), ..compared })
    }

    fn moved(&self, wanted: Wanted<'_>) -> Result<(Compared, bool), PortError> {
        let since = lock(&self.state).moved;
        let moved = wait(|done| self.ledger.moved(since, done))?;
        let mut state = lock(&self.state);
        let compared = state.compared(moved.channels, wanted).map_err(Fault::into_port)?;
        state.moved = moved.until;
        Ok((compared, moved.more))
    }

    fn stretch(&self, id: i64, after: u64, limit: u64) -> Result<Option<Stretch>, PortError> {
        let Some((key, epoch)) = self.key(id) else { return Ok(None) };
        let stretch = wait(|done| self.ledger.stretch(&key, after, limit, done))?;
        if stretch.standing.epoch != epoch {
            // It is seen when it is compared next.
            return Ok(None);
        }
        let words = |(seq, message): (u64, Option<Arc<Message>>)| {
            (slot::key(id, seq), message.map(|message| words(&message)))
        };
        Ok(Some(Stretch {
            head: stretch.standing.head,
            first: stretch.standing.first,
            to: stretch.to,
            messages: stretch.messages.into_iter().map(words).collect(),
            key,
        }))
    }

    fn ids(&self, keys: Vec<ChannelKey>) -> Result<Vec<i64>, PortError> {
        let state = lock(&self.state);
        Ok(keys.iter().filter_map(|key| state.by_key.get(key).copied()).collect())
    }

    fn messages(&self, slots: Vec<i64>) -> Result<Vec<(i64, Arc<Message>)>, PortError> {
        let mut by_channel: HashMap<i64, Vec<u64>> = HashMap::new();
        for key in slots {
            by_channel.entry(slot::channel(key)).or_default().push(slot::seq(key));
        }
        let (sender, answers) = mpsc::channel();
        for (id, seqs) in by_channel {
            let Some((key, epoch)) = self.key(id) else { continue };
            let sender = sender.clone();
            let done: Done<Vec<(u64, Arc<Message>)>> =
                Box::new(move |found| drop(sender.send((id, epoch, found))));
            self.ledger.messages(&key, seqs, done);
        }
        drop(sender);
        let mut messages = Vec::new();
        for (id, epoch, found) in answers {
            let of_this_life = |message: &Message| message.position.is_some_and(|at| at.epoch == epoch);
            let found = found?.into_iter().filter(|(_, message)| of_this_life(message));
            messages.extend(found.map(|(seq, message)| (slot::key(id, seq), message)));
        }
        Ok(messages)
    }

    fn removals(&self, limit: usize) -> Result<Vec<i64>, PortError> {
        let since = {
            let state = &mut *lock(&self.state);
            if let Some((waiting, _)) = &state.erased.waiting {
                return Ok(waiting.iter().copied().take(limit).collect());
            }
            if state.erased.asked.is_some_and(|asked| asked.elapsed() < PACE) {
                return Ok(Vec::new());
            }
            state.erased.until
        };
        let erased = wait(|done| self.ledger.erased(since, done))?;
        let state = &mut *lock(&self.state);
        state.erased.asked = (!erased.more).then(Instant::now);
        let known = |(mark, seq): &(Box<[u8]>, u64)| Some(slot::key(*state.by_mark.get(mark)?, *seq));
        let told: HashSet<i64> = erased.slots.iter().filter_map(known).collect();
        let new: Vec<i64> = told.difference(&state.erased.done).copied().collect();
        state.erased.told.extend(told);
        if !erased.more {
            // What is told no more need not be remembered.
            let told = std::mem::take(&mut state.erased.told);
            state.erased.done.retain(|slot| told.contains(slot));
        }
        if new.is_empty() {
            state.until(erased.until).map_err(Fault::into_port)?;
            return Ok(Vec::new());
        }
        let first = new.iter().copied().take(limit).collect();
        state.erased.waiting = Some((new, erased.until));
        Ok(first)
    }

    fn removed(&self, slots: Vec<i64>) -> Result<(), PortError> {
        let state = &mut *lock(&self.state);
        let Some((mut waiting, until)) = state.erased.waiting.take() else { return Ok(()) };
        waiting.retain(|slot| !slots.contains(slot));
        for emptied in slots.iter().filter(|slot| slot::seq(**slot) == 0) {
            state.forget(slot::channel(*emptied)).map_err(Fault::into_port)?;
        }
        state.erased.done.extend(slots);
        if waiting.is_empty() {
            state.until(until).map_err(Fault::into_port)
        } else {
            state.erased.waiting = Some((waiting, until));
            Ok(())
        }
    }
}

impl State {
    /// A channel that was emptied has no number any more, and no name.
    fn forget(&mut self, id: i64) -> Result<(), Fault> {
        self.file.execute("DELETE FROM names WHERE id = ?1", [id])?;
        self.by_id.remove(&id);
        self.by_key.retain(|_, known| *known != id);
        self.by_mark.retain(|_, known| *known != id);
        Ok(())
    }

    fn until(&mut self, until: u64) -> Result<(), Fault> {
        let erased = &mut self.erased;
        erased.until = until;
        // While there is more, it may lie ahead of the ledger's time. A minute is precise enough where days count.
        if erased.asked.is_some() && until.saturating_sub(erased.written) >= 60_000 {
            self.file.execute("UPDATE erased SET until = ?1", [until as i64])?;
            erased.written = until;
        }
        Ok(())
    }
}

/// Of the file of an index.
pub(super) fn identity(ledger: &dyn Followed) -> (i64, i64) {
    // A store has the one or the other: the second number of one beside the index is an epoch.
    (ledger.identity() as i64, 0)
}

fn words(message: &Message) -> Words {
    let mut text = String::new();
    // What cannot be read has no words.
    let _ = Strings(&mut text).deserialize(&mut serde_json::Deserializer::from_slice(&message.payload.json));
    Words { at: message.at, user: message.from.user.as_str().to_owned(), text }
}

fn until(file: &Connection) -> Result<Option<u64>, OpenError> {
    let until = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    Ok(file.query_row("SELECT until FROM erased", [], until).optional()?.map(i64::unsigned_abs))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use xpush_core::ports::search::{Erased, Moved, Standing as Theirs, Standings, Stretch};

    use super::*;

    const SKEW: u64 = 60_000;
    const BEGIN: u64 = 1_000_000_000;
    /// Slots that are told at once.
    const PAGE: usize = 3;

    /// One channel, and which of its slots were erased when.
    struct Told {
        now: AtomicU64,
        erased: Mutex<Vec<(u64, u64)>>,
    }

    impl Followed for Told {
        fn identity(&self) -> u64 {
            1
        }

        fn standings(&self, _: Option<Box<[u8]>>, _: usize, done: Done<Standings>) {
            let channel = ChannelKey::new(App::new("demo").unwrap(), Channel::new("chat:a").unwrap());
            let standing = Theirs { channel, mark: [1].into(), epoch: Epoch(1), head: 100, first: 1 };
            done(Ok(Standings { channels: vec![standing], next: None }));
        }

        fn moved(&self, _: u64, done: Done<Moved>) {
            done(Ok(Moved::default()));
        }

        fn stretch(&self, _: &ChannelKey, _: u64, _: u64, _: Done<Stretch>) {}

        fn messages(&self, _: &ChannelKey, _: Vec<u64>, _: Done<Vec<(u64, Arc<Message>)>>) {}

        /// Clocks may differ by [`SKEW`]: what is noted later may have been erased before.
        fn erased(&self, since: u64, done: Done<Erased>) {
            let mut found = lock(&self.erased).clone();
            found.sort_unstable();
            found.retain(|(at, _)| *at + SKEW >= since);
            found.truncate(PAGE);
            let more = found.len() == PAGE;
            let until = if more { found[PAGE - 1].0 + SKEW } else { self.now.load(Ordering::Relaxed) };
            let slots = found.into_iter().map(|(_, seq)| ([1].into(), seq)).collect();
            done(Ok(Erased { slots, until, more }));
        }
    }

    #[test]
    fn a_large_erasure_is_taken_out_whole_and_what_is_told_late_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.db");
        let erased = (1..=3 * PAGE as u64).map(|seq| (BEGIN + seq, seq)).collect();
        let ledger = Arc::new(Told { now: AtomicU64::new(BEGIN), erased: Mutex::new(erased) });
        drop(index::open(&path, identity(&*ledger), |_| Ok(false)).unwrap());
        let shared = Shared::open(&path, ledger.clone(), BEGIN).unwrap();
        shared.compare(After::Start, 10, &|_| true).unwrap();
        ledger.now.store(BEGIN + 100, Ordering::Relaxed);
        let take_out = || {
            let slots = shared.removals(2).unwrap();
            shared.removed(slots.clone()).unwrap();
            slots.into_iter().map(slot::seq)
        };
        let later = || lock(&shared.state).erased.asked = None;
        let mut taken: Vec<u64> = (0..6 * PAGE).flat_map(|_| take_out()).collect();
        taken.sort_unstable();
        assert_eq!(taken, (1..=3 * PAGE as u64).collect::<Vec<_>>());
        // By a clock that is slow.
        lock(&ledger.erased).push((BEGIN + 2, 50));
        later();
        let taken: Vec<u64> = (0..6 * PAGE).flat_map(|_| take_out()).collect();
        assert_eq!(taken, [50], "and nothing once more");
        // At another start it goes on from here.
        ledger.now.store(BEGIN + SKEW, Ordering::Relaxed);
        later();
        (0..6 * PAGE).for_each(|_| drop(take_out()));
        assert_eq!(until(&lock(&shared.state).file).unwrap(), Some(BEGIN + SKEW));
    }
}
