//! Every port in-process: one node needs nothing beside it.
//!
//! Nothing here knows a runtime, and nothing waits: each `Done` is called before the method that took it returns, by the caller's
//! thread and with no lock held, so that it may call the port again.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bus;
mod clock;
mod cluster;
mod entropy;
mod hosts;
mod last_seen;
mod message_log;
mod online;
mod outbox;
mod presence;
mod rate_limit;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use bus::{LocalBus, LocalHub};
pub use clock::SystemClock;
pub use cluster::SoloCluster;
pub use entropy::OsEntropy;
pub use hosts::LocalHosts;
pub use last_seen::MemoryLastSeen;
pub use message_log::{DEFAULT_BOUND, MemoryLog};
pub use online::LocalOnline;
pub use outbox::MemoryOutbox;
pub use presence::LocalPresence;
pub use rate_limit::LocalLimits;

/// Locks, whatever became of earlier holders: no foreign code runs under the locks that are taken by this, so a panic there is no more than
/// a failed allocation, and one channel's loss must not stop its neighbours.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
