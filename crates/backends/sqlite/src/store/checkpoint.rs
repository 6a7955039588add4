//! The write-ahead log is copied back into the file behind the writer.
//!
//! A thread of its own copies (PASSIVE: nobody waits for it). Under load it never meets the log's end, because the writer goes on; so
//! when the log has grown long, the writer copies the short rest between two batches and begins the log anew (RESTART).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Shared, is_sync_failure};
use crate::lock;

/// Pages that wait before the thread copies them.
const SOON: i64 = 2000;

/// Pages in the log at which the writer begins it anew: 64 MB.
const LONG: i64 = 16_000;

/// How long the writer waits for readers of the log's end, at most once in `PAUSE`.
const RESTART_PATIENCE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Checkpoints {
    asked: Mutex<Asked>,
    changed: Condvar,
    /// The thread copies at the moment.
    copying: AtomicBool,
    /// When the writer began the log anew, or tried.
    restarted: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Asked {
    copy: bool,
    closed: bool,
}

/// What SQLite says of the log.
struct Log {
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
        if log.pages - log.copied < SOON && log.pages < LONG {
            return;
        }
        if self.copying.load(Ordering::SeqCst) {
            return;
        }
        // The thread has copied most of it, and rests.
        if log.pages >= LONG && log.copied > log.pages / 2 && self.may_restart() {
            let _ = connection.busy_timeout(RESTART_PATIENCE);
            checkpoint(connection, shared, "PRAGMA wal_checkpoint(RESTART)");
            let _ = connection.busy_timeout(shared.patience);
            return;
        }
        self.copying.store(true, Ordering::SeqCst);
        lock(&self.asked).copy = true;
        self.changed.notify_all();
    }

    fn may_restart(&self) -> bool {
        let mut restarted = lock(&self.restarted);
        let rested = restarted.is_none_or(|last| last.elapsed() >= PAUSE);
        if rested {
            *restarted = Some(Instant::now());
        }
        rested
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
        shared.checkpoints.copying.store(false, Ordering::SeqCst);
    }
}

/// When the store closes: the file alone holds everything then, unless another process has it open.
pub(super) fn last(connection: &Connection, shared: &Shared) {
    let _ = connection.busy_timeout(RESTART_PATIENCE);
    checkpoint(connection, shared, "PRAGMA wal_checkpoint(TRUNCATE)");
}

fn checkpoint(connection: &Connection, shared: &Shared, sql: &str) -> Option<Log> {
    let log = |row: &rusqlite::Row<'_>| Ok(Log { pages: row.get(1)?, copied: row.get(2)? });
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
