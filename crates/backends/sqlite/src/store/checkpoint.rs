//! The write-ahead log is copied back into the file behind the writer.
//!
//! A thread of its own copies (PASSIVE: nobody waits for it). Under load it never meets the log's end, because the writer goes on; so
//! when the log has grown long, the writer copies the short rest between two batches and begins the log anew (RESTART).

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Shared, is_sync_failure};
use crate::lock;

/// Pages that wait before the thread copies them.
const SOON: i64 = 2000;

/// Pages in the log at which the writer begins it anew: 64 MB.
const LONG: i64 = 16_000;

/// Pages that the writer copies itself then; when there are more, the thread comes first.
const SHORT: i64 = 250;

/// Pages in the log at which the writer waits for the thread: the disk copies more slowly than it takes new ones.
const TOO_LONG: i64 = 2 * LONG;

/// How long the writer waits for readers of the log's end, such as a backup, and how long it does not try again when that was in vain.
const RESTART_PATIENCE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Checkpoints {
    asked: Mutex<Asked>,
    changed: Condvar,
    /// When a reader kept the writer from beginning the log anew.
    held_up: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Asked {
    copy: bool,
    /// The thread has been asked, and is not done.
    copying: bool,
    closed: bool,
}

/// What SQLite says of the log.
struct Log {
    busy: bool,
    pages: i64,
    copied: i64,
}

impl Checkpoints {
    pub(super) fn close(&self) {
        lock(&self.asked).closed = true;
        self.changed.notify_all();
    }

    /// Called by the writer between two batches.
    pub(super) fn after_commit(&self, connection: &Connection, shared: &Shared) {
        let Some(log) = checkpoint(connection, shared, "PRAGMA wal_checkpoint(NOOP)") else { return };
        if log.pages >= TOO_LONG {
            self.wait_for_copier();
        }
        if self.is_copying() {
            return;
        }
        let rest = log.pages - log.copied;
        if log.pages >= LONG && (rest <= SHORT || log.pages >= TOO_LONG) {
            self.restart(connection, shared);
        } else if rest >= SOON || log.pages >= LONG {
            let mut asked = lock(&self.asked);
            asked.copy = true;
            asked.copying = true;
            drop(asked);
            self.changed.notify_all();
        }
    }

    fn restart(&self, connection: &Connection, shared: &Shared) {
        let mut held_up = lock(&self.held_up);
        if held_up.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        let _ = connection.busy_timeout(RESTART_PATIENCE);
        let log = checkpoint(connection, shared, "PRAGMA wal_checkpoint(RESTART)");
        let _ = connection.busy_timeout(shared.patience);
        *held_up = log.filter(|log| log.busy).map(|_| Instant::now());
    }

    fn is_copying(&self) -> bool {
        lock(&self.asked).copying
    }

    fn wait_for_copier(&self) {
        let busy = |asked: &mut Asked| asked.copying && !asked.closed;
        let waited = self.changed.wait_timeout_while(lock(&self.asked), PAUSE, busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn copied(&self) {
        lock(&self.asked).copying = false;
        self.changed.notify_all();
    }

    /// Waits until there is something to copy; false when the store closes.
    fn wait(&self) -> bool {
        let mut asked = lock(&self.asked);
        while !asked.copy && !asked.closed {
            asked = self.changed.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
        asked.copy = false;
        !asked.closed
    }
}

/// Copies whenever it is asked to, until the store closes.
pub(super) fn run(connection: &Connection, shared: &Shared) {
    while shared.checkpoints.wait() {
        if !shared.is_dead() {
            checkpoint(connection, shared, "PRAGMA wal_checkpoint(PASSIVE)");
        }
        shared.checkpoints.copied();
    }
}

/// When the store closes: the file alone holds everything then, unless another process has it open.
pub(super) fn last(connection: &Connection, shared: &Shared) {
    let _ = connection.busy_timeout(RESTART_PATIENCE);
    checkpoint(connection, shared, "PRAGMA wal_checkpoint(TRUNCATE)");
}

fn checkpoint(connection: &Connection, shared: &Shared, sql: &str) -> Option<Log> {
    let log =
        |row: &rusqlite::Row<'_>| Ok(Log { busy: row.get(0)?, pages: row.get(1)?, copied: row.get(2)? });
    let result = connection.prepare_cached(sql).and_then(|mut statement| statement.query_row([], log));
    match result {
        Ok(log) => Some(log),
        Err(error) if is_sync_failure(&error) => {
            shared.die(&format!("checkpoint: {error}"));
            None
        }
        // Full, or busy: what was not copied stays in the log, and is copied later.
        Err(error) => {
            tracing::warn!(%error, "the write-ahead log was not copied");
            None
        }
    }
}
