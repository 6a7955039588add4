//! Work that is to be done, in the store's file: what a message makes to do is committed with the message ([`Ledger::tap`](crate::Ledger::tap)).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use xpush_core::ports::outbox::{
    Backlog, Claim, Dead, Item, LONGEST_MS, MOST_DEAD, MOST_WAITING, Outbox, Settlement, Then, Waiting,
};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, Clock, LedgerClock, User};

use crate::store::{Fault, Store, Weight, Writing};

/// [`Outbox`] on a [`Store`].
pub struct SqliteOutbox {
    store: Arc<Store>,
    clock: Arc<LedgerClock>,
}

impl SqliteOutbox {
    /// What this file has to be done.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let left_at = |connection: &Connection| {
            let sql = "SELECT value FROM meta WHERE key = 'clock'";
            Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
        };
        store.read(left_at, Box::new(move |result| drop(sender.send(result))));
        let gone = |_| PortError::new(Failure::NotApplied, "the store is closed");
        let left_at = receiver.recv().map_err(gone)??;
        Ok(Self { store, clock: Arc::new(LedgerClock::new(clock, left_at)) })
    }
}

impl Outbox for SqliteOutbox {
    fn put(&self, items: Vec<Item>, done: Done<()>) {
        if !items.iter().all(Item::is_valid) {
            return done(Err(PortError::new(Failure::Invalid, "an item that is too long")));
        }
        let bytes = items.iter().map(|item| 256 + item.body.len()).sum();
        let weight = Weight { rows: 2 * items.len(), bytes };
        let clock = self.clock.clone();
        let job = move |writing: &Writing<'_>| {
            if !has_room(writing, &items)? {
                // No failure of the job: that would take the others of its batch with it.
                return Ok(Err(PortError::new(Failure::Full, "too much waits in the queue")));
            }
            put(writing, &items, clock.now(), clock.wall())?;
            Ok(Ok(()))
        };
        self.store.write_checked(weight, job, Box::new(|result| done(result.flatten())));
    }

    fn claim(&self, queue: &str, keys: usize, items: usize, lease_ms: u64, done: Done<Vec<Claim>>) {
        let (queue, clock) = (queue.to_owned(), self.clock.clone());
        let job = move |writing: &Writing<'_>| {
            let now = clock.now();
            claim(writing, &queue, (keys, items), now, now.saturating_add(lease_ms.min(LONGEST_MS)))
        };
        self.store.write(job, done);
    }

    fn settle(&self, queue: &str, settlements: Vec<Settlement>, done: Done<usize>) {
        let (queue, clock) = (queue.to_owned(), self.clock.clone());
        let job = move |writing: &Writing<'_>| {
            let Some(queue) = queue_of(writing, &queue)? else { return Ok(0) };
            let mut held = 0;
            for settlement in &settlements {
                held += usize::from(settle(writing, queue, settlement, clock.now(), clock.wall())?);
            }
            Ok(held)
        };
        self.store.write(job, done);
    }

    fn backlog(&self, queue: &str, done: Done<Backlog>) {
        const OLDEST: &str = "SELECT i.put_at FROM outbox_items i JOIN outbox_keys k ON k.id = i.key
            WHERE k.queue = ?1 ORDER BY i.id LIMIT 1";
        let queue = queue.to_owned();
        let read = move |connection: &Connection| {
            let sql = "SELECT id, waiting FROM outbox_queues WHERE name = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let found =
                statement.query_row([&queue], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
            let Some((id, waiting)) = found.optional()? else { return Ok(Backlog::default()) };
            let oldest = match waiting {
                0 => None,
                _ => connection
                    .prepare_cached(OLDEST)?
                    .query_row([id], |row| row.get::<_, i64>(0))
                    .optional()?,
            };
            Ok(Backlog { waiting: waiting.cast_unsigned(), oldest: oldest.map(i64::cast_unsigned) })
        };
        self.store.read(read, done);
    }

    fn dead(&self, queue: &str, limit: usize, done: Done<Vec<Dead>>) {
        const SQL: &str = "SELECT d.id, d.key, d.attempts, d.put_at, d.died_at, d.why
            FROM outbox_dead d JOIN outbox_queues q ON q.id = d.queue WHERE q.name = ?1 ORDER BY d.died_at DESC, d.id DESC LIMIT ?2";
        let (queue, limit) = (queue.to_owned(), i64::try_from(limit).unwrap_or(i64::MAX));
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(SQL)?;
            let rows = statement.query_map(params![queue, limit], |row| {
                Ok(Dead {
                    id: row.get::<_, i64>(0)?.cast_unsigned(),
                    key: row.get::<_, String>(1)?.into(),
                    attempts: row.get(2)?,
                    put_at: row.get::<_, i64>(3)?.cast_unsigned(),
                    died_at: row.get::<_, i64>(4)?.cast_unsigned(),
                    why: row.get::<_, String>(5)?.into(),
                })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        };
        self.store.read(read, done);
    }
}

/// Whether nothing would be more than its queue may hold.
pub(crate) fn has_room(writing: &Writing<'_>, items: &[Item]) -> Result<bool, Fault> {
    let mut more: HashMap<&str, u64> = HashMap::new();
    for item in items {
        *more.entry(&item.queue).or_default() += 1;
    }
    let mut statement = writing.prepare_cached("SELECT waiting FROM outbox_queues WHERE name = ?1")?;
    for (queue, more) in more {
        let waiting = statement.query_row([queue], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0);
        if waiting.cast_unsigned() + more > MOST_WAITING {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts items for which there is room.
pub(crate) fn put(writing: &Writing<'_>, items: &[Item], now: u64, wall: u64) -> Result<(), Fault> {
    const QUEUE: &str = "INSERT INTO outbox_queues (name, waiting) VALUES (?1, 1)
        ON CONFLICT (name) DO UPDATE SET waiting = waiting + 1 RETURNING id";
    // A conflict must change something, or nothing is returned.
    const KEY: &str = "INSERT INTO outbox_keys (queue, name, due, lease) VALUES (?1, ?2, ?3, 0)
        ON CONFLICT (queue, name) DO UPDATE SET lease = lease RETURNING id";
    const ITEM: &str = "INSERT INTO outbox_items (key, attempts, put_at, body) VALUES (?1, 0, ?2, ?3)";
    for item in items {
        let id = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let queue = writing.prepare_cached(QUEUE)?.query_row([&*item.queue], id)?;
        let now = now.cast_signed();
        let key = writing.prepare_cached(KEY)?.query_row(params![queue, &*item.key, now], id)?;
        writing.prepare_cached(ITEM)?.execute(params![key, wall.cast_signed(), &item.body[..]])?;
    }
    Ok(())
}

fn queue_of(connection: &Connection, name: &str) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT id FROM outbox_queues WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn claim(
    writing: &Writing<'_>,
    queue: &str,
    (keys, items): (usize, usize),
    now: u64,
    until: u64,
) -> Result<Vec<Claim>, Fault> {
    const KEYS: &str =
        "SELECT id, name FROM outbox_keys WHERE queue = ?1 AND due <= ?2 ORDER BY due, id LIMIT ?3";
    const ITEMS: &str =
        "SELECT id, body, attempts, put_at FROM outbox_items WHERE key = ?1 ORDER BY id LIMIT ?2";
    // 0 is no claim's.
    const LEASE: &str =
        "UPDATE outbox_keys SET due = ?2, lease = (random() >> 1) | 1 WHERE id = ?1 RETURNING lease";
    let Some(queue) = queue_of(writing, queue)? else { return Ok(Vec::new()) };
    let limit = i64::try_from(keys).unwrap_or(i64::MAX);
    let due: Vec<(i64, String)> = writing
        .prepare_cached(KEYS)?
        .query_map(params![queue, now.cast_signed(), limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let (mut claims, mut left) = (Vec::with_capacity(due.len()), items);
    for (key, name) in due {
        if left == 0 {
            break;
        }
        let limit = i64::try_from(left).unwrap_or(i64::MAX);
        let taken: Vec<Waiting> = writing
            .prepare_cached(ITEMS)?
            .query_map(params![key, limit], |row| {
                Ok(Waiting {
                    id: row.get::<_, i64>(0)?.cast_unsigned(),
                    body: Bytes::from(row.get::<_, Vec<u8>>(1)?),
                    attempts: row.get(2)?,
                    put_at: row.get::<_, i64>(3)?.cast_unsigned(),
                })
            })?
            .collect::<Result<_, _>>()?;
        left -= taken.len();
        let lease: i64 =
            writing.prepare_cached(LEASE)?.query_row(params![key, until.cast_signed()], |row| row.get(0))?;
        claims.push(Claim { key: name.into(), lease: lease.cast_unsigned(), items: taken });
    }
    Ok(claims)
}

/// Whether the claim still held.
fn settle(
    writing: &Writing<'_>,
    queue: i64,
    settlement: &Settlement,
    now: u64,
    wall: u64,
) -> Result<bool, Fault> {
    const HELD: &str = "SELECT id FROM outbox_keys WHERE queue = ?1 AND name = ?2 AND lease = ?3 AND lease <> 0 AND due > ?4";
    const DONE: &str = "DELETE FROM outbox_items WHERE id IN (SELECT id FROM outbox_items WHERE key = ?1 ORDER BY id LIMIT ?2)";
    let Settlement { key: name, lease, done, then } = settlement;
    let now = now.cast_signed();
    let held = writing
        .prepare_cached(HELD)?
        .query_row(params![queue, &**name, lease.cast_signed(), now], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(key) = held else { return Ok(false) };
    let done = i64::try_from(*done).unwrap_or(i64::MAX);
    let mut gone = writing.prepare_cached(DONE)?.execute([key, done])?;
    let mut due = now;
    match then {
        Then::Release => {}
        Then::Retry { after_ms } => {
            const FAILED: &str = "UPDATE outbox_items SET attempts = attempts + 1
                WHERE id = (SELECT min(id) FROM outbox_items WHERE key = ?1)";
            writing.prepare_cached(FAILED)?.execute([key])?;
            due = now.saturating_add((*after_ms).min(LONGEST_MS).cast_signed());
        }
        Then::Bury { why } => gone += bury(writing, (queue, key), name, wall, why)?,
    }
    let left = writing.prepare_cached("SELECT 1 FROM outbox_items WHERE key = ?1 LIMIT 1")?.exists([key])?;
    if left {
        writing
            .prepare_cached("UPDATE outbox_keys SET due = ?2, lease = 0 WHERE id = ?1")?
            .execute([key, due])?;
    } else {
        writing.prepare_cached("DELETE FROM outbox_keys WHERE id = ?1")?.execute([key])?;
    }
    let gone = i64::try_from(gone).unwrap_or(i64::MAX);
    writing
        .prepare_cached("UPDATE outbox_queues SET waiting = max(waiting - ?2, 0) WHERE id = ?1")?
        .execute([queue, gone])?;
    Ok(true)
}

/// Gives the first item of a key up; how many that were.
fn bury(
    writing: &Writing<'_>,
    (queue, key): (i64, i64),
    name: &str,
    wall: u64,
    why: &str,
) -> Result<usize, Fault> {
    const BURY: &str = "INSERT OR REPLACE INTO outbox_dead (id, queue, key, attempts, put_at, died_at, why)
        SELECT id, ?2, ?3, attempts + 1, put_at, ?4, ?5 FROM outbox_items WHERE key = ?1 ORDER BY id LIMIT 1";
    const FORGET: &str =
        "DELETE FROM outbox_items WHERE id = (SELECT min(id) FROM outbox_items WHERE key = ?1)";
    const TRIM: &str = "DELETE FROM outbox_dead WHERE queue = ?1 AND id <= (
        SELECT id FROM outbox_dead WHERE queue = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    writing.prepare_cached(BURY)?.execute(params![key, queue, name, wall.cast_signed(), why])?;
    let gone = writing.prepare_cached(FORGET)?.execute([key])?;
    writing.prepare_cached(TRIM)?.execute(params![queue, i64::try_from(MOST_DEAD).unwrap_or(i64::MAX)])?;
    Ok(gone)
}

/// Which of at most `most` items behind `after` tell hooks of a user, and the id of the last one that was looked at; `None`: there is none behind those.
pub(crate) fn about(
    connection: &Connection,
    app: &App,
    user: &User,
    after: i64,
    most: usize,
) -> Result<(Vec<i64>, Option<i64>), Fault> {
    // In the order in which they are looked through.
    const SQL: &str = "SELECT i.id, CASE WHEN q.name GLOB ?1 THEN
            k.name IN (?3, ?4) OR substr(k.name, 1, length(?4) + 1) = ?4 || '/'
            OR CAST(i.body AS TEXT) ->> '$.user' = ?2 OR CAST(i.body AS TEXT) ->> '$.message.from.user' = ?2 END
        FROM outbox_items i CROSS JOIN outbox_keys k ON k.id = i.key CROSS JOIN outbox_queues q ON q.id = k.queue
        WHERE i.id > ?5 ORDER BY i.id LIMIT ?6";
    let (queues, of_user, own) = names(app, user);
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(SQL)?;
    let mut rows = select.query(params![queues, user.as_str(), of_user, own, after, limit])?;
    let (mut found, mut looked, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if row.get::<_, Option<bool>>(1)? == Some(true) {
            found.push(id);
        }
        (looked, last) = (looked + 1, Some(id));
    }
    Ok((found, last.filter(|_| looked == most)))
}

/// Takes what an item tells out of it. It keeps its place: it may be claimed at this moment.
pub(crate) fn blank(writing: &Writing<'_>, item: i64) -> Result<(), Fault> {
    const SQL: &str = "UPDATE outbox_items SET
        body = CAST(json_object('id', CAST(body AS TEXT) ->> '$.id', 'type', 'erased') AS BLOB) WHERE id = ?1";
    writing.prepare_cached(SQL)?.execute([item])?;
    Ok(())
}

/// Takes a user's id out of what items are ordered by, and out of what was given up.
pub(crate) fn rename(writing: &Writing<'_>, app: &App, user: &User) -> Result<(), Fault> {
    const KEYS: &str = "UPDATE outbox_keys SET name = 'e' || id
        WHERE queue IN (SELECT id FROM outbox_queues WHERE name GLOB ?1) AND name IN (?2, ?3)";
    // `0` is what comes after `/`.
    const DEVICES: &str = "UPDATE outbox_keys SET name = 'e' || id
        WHERE queue IN (SELECT id FROM outbox_queues WHERE name GLOB ?1) AND name >= ?2 || '/' AND name < ?2 || '0'";
    const DEAD: &str = "UPDATE outbox_dead SET key = '' WHERE (key IN (?2, ?3) OR substr(key, 1, length(?3) + 1) = ?3 || '/')
        AND queue IN (SELECT id FROM outbox_queues WHERE name GLOB ?1)";
    let (queues, of_user, own) = names(app, user);
    writing.prepare_cached(DEVICES)?.execute(params![queues, own])?;
    for sql in [KEYS, DEAD] {
        writing.prepare_cached(sql)?.execute(params![queues, of_user, own])?;
    }
    Ok(())
}

/// A pattern of an app's queues, in which there are no characters that a pattern knows but the last; the keys of what a user does, and of its own channel.
fn names(app: &App, user: &User) -> (String, String, String) {
    (format!("hook/{app}/*"), format!("u{user}"), format!("c{}", Channel::personal(user, None)))
}
