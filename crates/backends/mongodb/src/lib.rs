//! What must last, in MongoDB: the message log with its markers, the directory, and when users were last connected.
//!
//! [`Store`] is a database; the ports stand on it. Every write changes one document, durably on a majority (`w: majority, j: true`), and nothing
//! needs a transaction: what belongs together either is in one document or follows from one that is never changed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod directory;
mod files;
mod last_seen;
mod log;
mod store;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use directory::MongoDirectory;
pub use files::MongoFiles;
pub use last_seen::MongoLastSeen;
pub use log::{Import, LARGEST_MESSAGE, Ledger};
pub use store::{OpenError, Options, Store};

/// Locks, whatever became of earlier holders: what is kept under these locks is whole after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that nobody else has chosen.
fn random() -> i64 {
    let mut bytes = [0; 8];
    // Without it there is no telling two histories apart.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    i64::from_le_bytes(bytes)
}
