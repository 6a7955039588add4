//! What must last, in one SQLite file: the message log with its markers, and the directory.
//!
//! [`Store`] is the file: one thread writes, several read, and what several callers write at the same time is committed together. The
//! ports stand on it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backup;
mod directory;
mod export;
mod files;
mod last_seen;
mod log;
mod outbox;
mod search;
mod store;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use backup::{CopyError, Progress, backup, begin_epoch, compact, restore};
pub use directory::SqliteDirectory;
pub use export::{Amount, Export};
pub use files::{KnownFiles, SqliteFiles};
pub use last_seen::SqliteLastSeen;
pub use log::{LARGEST_MESSAGE, Ledger};
pub use outbox::SqliteOutbox;
pub use search::{IndexedErasure, Rules, SearchIndex};
pub use store::{Fatal, Fault, OpenError, Options, Store, Synchronous, Weight, Writing};

/// Locks, whatever became of earlier holders: what is kept under these locks is whole after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
