//! Limits, counted in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use xpush_core::Clock;
use xpush_core::ports::rate_limit::{Limit, RateLimit, Taken};
use xpush_core::ports::{Done, Failure, PortError};

use crate::lock;

/// With so many buckets more than twice those that the last sweep left, those that are full by now are forgotten.
const SWEEP: usize = 1_000;

/// [`RateLimit`] of one process.
pub struct LocalLimits {
    clock: Arc<dyn Clock>,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    /// When each bucket will be full, in thousandths of a ms of the monotonic clock: the "theoretical arrival time" of GCRA (ATM Forum TM 4.0).
    full_at: HashMap<Box<str>, u128, RandomState>,
    /// Those that the last sweep left.
    swept: usize,
}

impl LocalLimits {
    /// With all buckets full.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, buckets: Mutex::default() }
    }
}

impl RateLimit for LocalLimits {
    fn take(&self, key: &str, cost: u32, limit: Limit, done: Done<Taken>) {
        if !limit.can_give(cost) {
            return done(Err(PortError::new(Failure::Invalid, "more than the bucket can ever give")));
        }
        let now = u128::from(self.clock.monotonic().0) * 1_000;
        let taken = lock(&self.buckets).take(key, cost, limit, now);
        done(Ok(taken));
    }
}

impl Buckets {
    fn take(&mut self, key: &str, cost: u32, limit: Limit, now: u128) -> Taken {
        let time_of =
            |tokens: u32| u128::from(tokens) * u128::from(limit.per_ms) * 1_000 / u128::from(limit.tokens);
        let full_at = self.full_at.get(key).copied().unwrap_or(now).max(now) + time_of(cost);
        let allowed_at = full_at.saturating_sub(time_of(limit.burst));
        if allowed_at > now {
            let wait = (allowed_at - now).div_ceil(1_000);
            return Taken::RetryAfter(u64::try_from(wait).unwrap_or(u64::MAX));
        }
        match self.full_at.get_mut(key) {
            Some(at) => *at = full_at,
            None => drop(self.full_at.insert(Box::from(key), full_at)),
        }
        if self.full_at.len() > 2 * self.swept + SWEEP {
            self.full_at.retain(|_, at| *at > now);
            self.swept = self.full_at.len();
        }
        Taken::Allowed
    }
}

#[cfg(test)]
mod tests {
    use xpush_testkit::ManualClock;

    use super::*;

    #[test]
    fn buckets_that_are_full_again_take_no_memory() {
        let clock = Arc::new(ManualClock::new());
        let limits = LocalLimits::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let limit = Limit { tokens: 1, per_ms: 1_000, burst: 10 };
        for key in 0..10 * SWEEP {
            clock.advance(10);
            limits.take(&key.to_string(), 1, limit, Box::new(|_| ()));
        }
        let kept = lock(&limits.buckets).full_at.len();
        assert!(kept <= 3 * SWEEP, "{kept}");
    }
}
