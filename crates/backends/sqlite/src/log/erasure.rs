//! Taking users out.
//!
//! A step looks for slots of the user on a reader, from where the last one stopped, and then has the writer blank those few. So a long file costs appends nothing,
//! and no index of senders is kept for what hardly ever happens. How far it is stands in the file, and goes on after a restart. Behind the last slot it goes through
//! what waits for hooks in the same way.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use xpush_core::ports::erasure::{Erasure, NOBODY, Pending, Step, is_about};
use xpush_core::ports::{Done, PortError};
use xpush_core::{App, Channel as Name, ChannelKey, UnixMillis, User};

use super::fences::Fences;
use super::indexing::unindex;
use super::slot;
use super::{Inner, Ledger};
use crate::outbox;
use crate::store::{Fault, Store, Writing};

/// Slots and channels that one step looks at, and rows that it changes.
const LOOKED_AT: i64 = 20_000;
const CHANNELS: usize = 1_000;
const CHANGED: usize = 500;

/// Items of the outbox that one step looks at: their data are read, too.
const ITEMS: usize = 2_000;

/// Behind every slot: from here on it is items of the outbox, by their ids.
const OUTBOX: i64 = i64::MAX - (1 << 48);

/// The largest seq, in a key.
const LAST: u64 = (1 << 36) - 1;

/// What a reader has found.
#[derive(Default)]
struct Found {
    /// Slots up to this one need not be looked at again, or from [`OUTBOX`] on items.
    at: i64,
    looked: i64,
    /// To be blanked.
    slots: Vec<i64>,
    /// Items of the outbox to be blanked.
    items: Vec<i64>,
    /// A channel of the user's own, to be taken out.
    own: Option<(i64, ChannelKey)>,
    /// Behind `at` there is nothing.
    last: bool,
}

impl Erasure for Ledger {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        let (app, user, store) = (app.clone(), user.clone(), Arc::clone(&self.store));
        let counted = {
            let app = app.clone();
            move |connection: &Connection| count(connection, &app)
        };
        let begin = move |of: i64, done| {
            let job = move |writing: &Writing<'_>| {
                const SQL: &str =
                    "INSERT INTO erasures VALUES (?1, ?2, ?3, 0, ?4, 0, 0) ON CONFLICT DO NOTHING";
                let since = i64::try_from(since).unwrap_or(i64::MAX);
                writing.prepare_cached(SQL)?.execute(params![app.as_str(), user.as_str(), since, of])?;
                Ok(())
            };
            store.write(job, done);
        };
        self.store.read(counted, and_then(begin, done));
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        self.store.read(pending, done);
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        let (store, inner) = (Arc::clone(&self.store), Arc::clone(&self.inner));
        let (app, user) = (app.clone(), user.clone());
        let look = {
            let (app, user) = (app.clone(), user.clone());
            move |connection: &Connection| look(connection, &app, &user)
        };
        let erase = move |found: Option<Found>, done: Done<Step>| match found {
            Some(found) => erase(&store, inner, app, user, found, done),
            None => done(Ok(Step { ended: true, ..Step::default() })),
        };
        self.store.read(look, and_then(erase, done));
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        let (inner, app, user) = (Arc::clone(&self.inner), app.clone(), user.clone());
        let job = move |writing: &Writing<'_>| {
            drop(inner.settled(writing)?);
            writing.without_a_trace(|| {
                outbox::rename(writing, &app, &user)?;
                end(writing, &app, &user)
            })
        };
        self.store.write(job, done);
    }
}

/// What goes on with what another operation has found.
fn and_then<A: Send + 'static, B: Send + 'static>(
    next: impl FnOnce(A, Done<B>) + Send + 'static,
    done: Done<B>,
) -> Done<A> {
    Box::new(move |result: Result<A, PortError>| match result {
        Ok(found) => next(found, done),
        Err(error) => done(Err(error)),
    })
}

fn count(connection: &Connection, app: &App) -> Result<i64, Fault> {
    const SQL: &str = "SELECT coalesce(sum(head + 1 - oldest), 0) FROM channels WHERE app = ?1";
    Ok(connection.prepare_cached(SQL)?.query_row([app.as_str()], |row| row.get(0))?)
}

fn pending(connection: &Connection) -> Result<Vec<Pending>, Fault> {
    const SQL: &str = "SELECT app, user, since FROM erasures ORDER BY since";
    let mut select = connection.prepare_cached(SQL)?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let names = (App::new(row.get_ref(0)?.as_str()?), User::new(row.get_ref(1)?.as_str()?));
        if let (Ok(app), Ok(user)) = names {
            found.push(Pending { app, user, since: row.get::<_, i64>(2)?.unsigned_abs() });
        }
    }
    Ok(found)
}

/// `None` when nothing is pending.
fn look(connection: &Connection, app: &App, user: &User) -> Result<Option<Found>, Fault> {
    const AT: &str = "SELECT at FROM erasures WHERE app = ?1 AND user = ?2";
    // By id: the index by name would have to be sorted.
    const SQL: &str =
        "SELECT id, name FROM channels NOT INDEXED WHERE id >= ?1 AND app = ?2 ORDER BY id LIMIT ?3";
    let mut select = connection.prepare_cached(AT)?;
    let at = select.query_row([app.as_str(), user.as_str()], |row| row.get(0)).optional()?;
    let Some(at) = at else { return Ok(None) };
    let mut found = Found { at, ..Found::default() };
    if at >= OUTBOX {
        let (items, last) = outbox::about(connection, app, user, at - OUTBOX, ITEMS)?;
        found.at = last.map_or(at, |last| OUTBOX + last);
        return Ok(Some(Found { items, last: last.is_none(), ..found }));
    }
    let mut select = connection.prepare_cached(SQL)?;
    let mut rows = select.query(params![at >> 36, app.as_str(), CHANNELS as i64])?;
    let mut channels = 0;
    while let Some(row) = rows.next()? {
        channels += 1;
        let id: i64 = row.get(0)?;
        let Ok(name) = Name::new(row.get_ref(1)?.as_str()?) else { continue };
        if name.owner().is_some_and(|(owner, _)| owner == *user) {
            // Until it is gone it is the next one.
            found.at = found.at.max(slot::key(id, 0) - 1);
            found.own = Some((id, ChannelKey::new(app.clone(), name)));
            return Ok(Some(found));
        }
        if !found.look_through(connection, id, name.is_system(), user)? {
            return Ok(Some(found));
        }
    }
    if channels < CHANNELS {
        found.at = OUTBOX;
    }
    Ok(Some(found))
}

impl Found {
    /// Whether the whole channel was looked through.
    fn look_through(
        &mut self,
        connection: &Connection,
        channel: i64,
        is_system: bool,
        user: &User,
    ) -> Result<bool, Fault> {
        const PEOPLES: &str =
            "SELECT slot, user FROM slots WHERE slot > ?1 AND slot <= ?2 ORDER BY slot LIMIT ?3";
        const SYSTEMS: &str =
            "SELECT slot, user, json FROM slots WHERE slot > ?1 AND slot <= ?2 ORDER BY slot LIMIT ?3";
        let mut select = connection.prepare_cached(if is_system { SYSTEMS } else { PEOPLES })?;
        let (from, to) = (self.at.max(slot::key(channel, 0)), slot::key(channel, LAST));
        let mut rows = select.query(params![from, to, LOOKED_AT - self.looked])?;
        while let Some(row) = rows.next()? {
            self.at = row.get(0)?;
            self.looked += 1;
            let own = row.get_ref(1)?.as_str()? == user.as_str();
            if own || is_system && row.get_ref(2)?.as_blob_or_null()?.is_some_and(|json| is_about(json, user))
            {
                self.slots.push(self.at);
            }
            if self.slots.len() >= CHANGED {
                return Ok(false);
            }
        }
        if self.looked >= LOOKED_AT {
            return Ok(false);
        }
        self.at = to;
        Ok(true)
    }
}

/// Has the writer do what was found.
fn erase(store: &Store, inner: Arc<Inner>, app: App, user: User, found: Found, done: Done<Step>) {
    let job = move |writing: &Writing<'_>| {
        // Those who have published in this batch have their markers.
        let mut channels = inner.settled(writing)?;
        let mut gone = Vec::new();
        let erased = writing.without_a_trace(|| {
            let mut erased = 0;
            for slot in &found.slots {
                erased += blank(writing, *slot, &user, &mut gone)?;
            }
            for item in &found.items {
                outbox::blank(writing, *item)?;
            }
            let mut more = !found.last;
            if let Some((id, key)) = &found.own {
                let (taken, whole) = empty(writing, *id, &mut gone)?;
                erased += taken;
                if whole {
                    channels.forget(*id, key);
                    remove(writing, *id, key)?;
                }
                more = true;
            }
            more |= end_markers(writing, &app, &user)? == CHANGED;
            more |= inner.awaits_index(writing)?;
            note(writing, &app, &user, &found, erased, !more)
        })?;
        for (slot, fence) in gone {
            channels.fences.drop(slot, &fence);
        }
        Ok(erased)
    };
    store.write(job, done);
}

/// One slot, if it is still the user's (or the server's about it); how many.
fn blank(
    writing: &Writing<'_>,
    slot: i64,
    user: &User,
    gone: &mut Vec<(i64, Vec<u8>)>,
) -> Result<usize, Fault> {
    const FENCE: &str = "SELECT fence FROM slots WHERE slot = ?1 AND user IN (?2, '$')";
    // The fence was a digest of the user's id.
    const SLOT: &str =
        "UPDATE slots SET user = ?3, id = 'erased-' || (slot & 68719476735), fence = randomblob(16),
        event = iif(event IS NULL, NULL, 'message'), display = NULL, json = NULL, attachments = NULL,
        revised = iif(kind <= 1, coalesce(revised, slot), revised),
        withdrawn = iif(kind <= 1, coalesce(withdrawn, kind = 0), withdrawn)
        WHERE slot = ?1 AND user IN (?2, '$')";
    const EDITS: &str = "UPDATE slots SET json = NULL, attachments = NULL WHERE target = ?1 AND kind = 2";
    // Words of the user are what another's message reads as.
    const TARGET: &str =
        "UPDATE slots SET withdrawn = iif(kind = 0, 1, 0) WHERE revised = ?1 AND withdrawn IS NULL
        AND slot = (SELECT target FROM slots WHERE slot = ?1 AND kind = 2)";
    const EDITED: &str = "SELECT target FROM slots WHERE slot = ?1 AND kind = 2";
    let mut select = writing.prepare_cached(FENCE)?;
    let fence: Option<Vec<u8>> =
        select.query_row(params![slot, user.as_str()], |row| row.get(0)).optional()?;
    if let Some(fence) = fence {
        Fences::delete(writing, slot, &fence)?;
        gone.push((slot, fence));
    }
    let changed = writing.prepare_cached(SLOT)?.execute(params![slot, user.as_str(), NOBODY])?;
    if changed > 0 {
        writing.prepare_cached(EDITS)?.execute([slot])?;
        writing.prepare_cached(TARGET)?.execute([slot])?;
        unindex(writing, slot)?;
        if let Some(target) =
            writing.prepare_cached(EDITED)?.query_row([slot], |row| row.get(0)).optional()?
        {
            unindex(writing, target)?;
        }
    }
    Ok(changed)
}

/// Takes out slots of a channel; whether there are none any more.
fn empty(
    writing: &Writing<'_>,
    channel: i64,
    gone: &mut Vec<(i64, Vec<u8>)>,
) -> Result<(usize, bool), Fault> {
    const SQL: &str = "DELETE FROM slots WHERE slot IN
        (SELECT slot FROM slots WHERE slot >= ?1 AND slot <= ?2 LIMIT ?3) RETURNING slot, fence";
    let (from, to) = (slot::key(channel, 0), slot::key(channel, LAST));
    let mut delete = writing.prepare_cached(SQL)?;
    let mut rows = delete.query(params![from, to, CHANGED as i64])?;
    let mut taken = 0;
    while let Some(row) = rows.next()? {
        let (key, fence): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        Fences::delete(writing, key, &fence)?;
        gone.push((key, fence));
        taken += 1;
    }
    Ok((taken, taken < CHANGED))
}

/// Takes out a channel that is empty. What it was called is told by nothing but a digest.
fn remove(writing: &Writing<'_>, channel: i64, key: &ChannelKey) -> Result<(), Fault> {
    const NOTE: &str = "INSERT INTO removed_channels
        SELECT ?2, incarnation + 1 FROM channels WHERE id = ?1
        ON CONFLICT DO UPDATE SET incarnation = max(incarnation, excluded.incarnation)";
    writing.prepare_cached(NOTE)?.execute(params![channel, name_digest(key)])?;
    unindex(writing, slot::key(channel, 0))?;
    writing.prepare_cached("DELETE FROM markers WHERE channel = ?1")?.execute([channel])?;
    writing.prepare_cached("DELETE FROM channels WHERE id = ?1")?.execute([channel])?;
    Ok(())
}

fn end_markers(writing: &Writing<'_>, app: &App, user: &User) -> Result<usize, Fault> {
    const SQL: &str = "DELETE FROM markers WHERE (channel, user) IN
        (SELECT channel, user FROM markers WHERE app = ?1 AND user = ?2 LIMIT ?3)";
    Ok(writing.prepare_cached(SQL)?.execute(params![app.as_str(), user.as_str(), CHANGED as i64])?)
}

/// Writes down how far it is. Of two that took the same step at once one counts.
fn note(
    writing: &Writing<'_>,
    app: &App,
    user: &User,
    found: &Found,
    erased: usize,
    ended: bool,
) -> Result<Step, Fault> {
    const SQL: &str = "UPDATE erasures SET looked = iif(at < ?3, min(looked + ?4, of), looked),
        at = max(at, ?3), erased = erased + ?5
        WHERE app = ?1 AND user = ?2 RETURNING looked, of, erased";
    let changed = params![app.as_str(), user.as_str(), found.at, found.looked, erased as i64];
    let mut update = writing.prepare_cached(SQL)?;
    let numbers = update.query_row(changed, |row| {
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok((number(0)?, number(1)?, number(2)?))
    });
    let Some((looked_at, of, erased)) = numbers.optional()? else {
        return Ok(Step { ended: true, ..Step::default() });
    };
    Ok(Step { looked_at: if ended { of } else { looked_at }, of, erased, ended })
}

fn end(writing: &Writing<'_>, app: &App, user: &User) -> Result<(), Fault> {
    // The change stays, as a place in the order; whoever has not heard of it by now was cut off, and comes upon a gap. Of an identity its provider's name for the user is
    // the key: all of the app's go, and as nobody remembers any, these are none.
    const CHANGES: &str =
        "UPDATE changes SET kind = 8, app = '', first = '', second = iif(kind = 7, '', 'gap')
        WHERE app = ?1 AND (first = ?2 OR second = ?2 OR kind = 7)";
    const OTHERS: [&str; 3] = [
        "DELETE FROM markers WHERE app = ?1 AND user = ?2",
        "DELETE FROM last_seen WHERE app = ?1 AND user = ?2",
        "DELETE FROM erasures WHERE app = ?1 AND user = ?2",
    ];
    for sql in [CHANGES].iter().chain(&OTHERS) {
        writing.prepare_cached(sql)?.execute([app.as_str(), user.as_str()])?;
    }
    Ok(())
}

/// The first incarnation of a channel that there is not: one that it never had.
pub(super) fn incarnation(connection: &Connection, key: &ChannelKey) -> Result<i64, Fault> {
    if key.name.owner().is_none() {
        return Ok(0);
    }
    let mut select = connection.prepare_cached("SELECT incarnation FROM removed_channels WHERE name = ?1")?;
    Ok(select.query_row([name_digest(key)], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn name_digest(key: &ChannelKey) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(key.app.as_str());
    digest.update([0]);
    digest.update(key.name.as_str());
    let mut name = [0; 16];
    name.copy_from_slice(&digest.finalize()[..16]);
    name
}
