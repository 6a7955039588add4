//! Limits that hold over all nodes together.

use crate::ports::Done;

/// A token bucket: full at first, and filled evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Tokens that come back in `per_ms`, at least 1.
    pub tokens: u32,
    /// In how many ms, at least 1.
    pub per_ms: u64,
    /// Tokens that the bucket holds, at least 1.
    pub burst: u32,
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// It may; its tokens are gone.
    Allowed,
    /// It may not; nothing was taken. After so many ms it will be allowed, if nobody else takes what comes meanwhile; at least 1.
    RetryAfter(u64),
}

/// Counts what is done under a key, over all nodes.
///
/// - Each call is decided atomically: callers together are never allowed more than the bucket gives.
/// - **Open when it fails**: a limit whose store does not answer in time allows, since it stands before things that work without it. So `done` is given an error
///   for what can never be taken only ([`Failure::Invalid`](super::Failure::Invalid): more than the bucket holds, or a limit with a 0 in it).
/// - A bucket that would be full is forgotten.
pub trait RateLimit: Send + Sync {
    /// Takes `cost` tokens from the bucket of `key`, which is any text of at most 256 bytes. All callers name the same limit for a key; one that was changed holds from the next call on.
    fn take(&self, key: &str, cost: u32, limit: Limit, done: Done<Taken>);
}

impl Limit {
    /// Whether `cost` tokens can ever be taken.
    pub const fn can_give(&self, cost: u32) -> bool {
        self.tokens > 0 && self.per_ms > 0 && cost <= self.burst
    }
}
