//! What every [`RateLimit`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::sync::Arc;
use std::thread;

use xpush_core::ports::rate_limit::{Limit, RateLimit, Taken};
use xpush_core::ports::{Failure, PortError};

use crate::suite::{answer, ends};

/// New limits: all buckets are full.
pub struct LimitStore {
    /// Two handles on them, as two nodes have them.
    pub handles: [Arc<dyn RateLimit>; 2],
    /// Lets so many ms pass, as the store counts them; none pass otherwise.
    pub pass: Box<dyn Fn(u64)>,
}

/// Makes each property of a [`RateLimit`] a test; `$fixture` is a function that gives a [`LimitStore`].
#[macro_export]
macro_rules! rate_limit_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, rate_limit:
            a_bucket_gives_what_it_holds
            a_bucket_is_filled_evenly
            a_bucket_holds_no_more_than_its_burst
            after_the_time_told_it_is_allowed
            what_is_refused_takes_nothing
            a_dear_thing_takes_more
            keys_are_apart
            what_can_never_be_taken_is_invalid
            slow_limits_are_exact
            callers_together_get_no_more_than_the_bucket_gives
            done_may_take_again
        );
    };
}

/// Ten a second, and five at once.
const LIMIT: Limit = Limit { tokens: 10, per_ms: 1_000, burst: 5 };

impl LimitStore {
    fn take(&self, handle: usize, key: &str, cost: u32, limit: Limit) -> Result<Taken, PortError> {
        answer(|done| self.handles[handle].take(key, cost, limit, done))
    }

    /// How many of `asked` single tokens are given, by both handles in turn.
    fn given(&self, key: &str, asked: usize) -> usize {
        (0..asked).filter(|turn| self.take(turn % 2, key, 1, LIMIT) == Ok(Taken::Allowed)).count()
    }
}

pub fn a_bucket_gives_what_it_holds(store: &LimitStore) {
    assert_eq!(store.given("a", 20), 5);
    assert_eq!(store.take(0, "a", 1, LIMIT), Ok(Taken::RetryAfter(100)));
}

pub fn a_bucket_is_filled_evenly(store: &LimitStore) {
    store.given("a", 20);
    for _ in 0..5 {
        (store.pass)(99);
        assert_eq!(store.given("a", 3), 0);
        (store.pass)(1);
        assert_eq!(store.given("a", 3), 1);
    }
    (store.pass)(300);
    assert_eq!(store.given("a", 20), 3);
}

pub fn a_bucket_holds_no_more_than_its_burst(store: &LimitStore) {
    store.given("a", 2);
    (store.pass)(86_400_000);
    assert_eq!(store.given("a", 20), 5);
}

pub fn after_the_time_told_it_is_allowed(store: &LimitStore) {
    store.given("a", 4);
    for cost in [5, 3, 1, 4] {
        if let Taken::RetryAfter(ms) = store.take(0, "a", cost, LIMIT).expect("an answer") {
            (store.pass)(ms - 1);
            assert_eq!(store.take(1, "a", cost, LIMIT), Ok(Taken::RetryAfter(1)));
            (store.pass)(1);
            assert_eq!(store.take(0, "a", cost, LIMIT), Ok(Taken::Allowed), "{cost}");
        }
    }
}

pub fn what_is_refused_takes_nothing(store: &LimitStore) {
    store.given("a", 3);
    for _ in 0..10 {
        assert_eq!(store.take(0, "a", 5, LIMIT), Ok(Taken::RetryAfter(300)));
    }
    assert_eq!(store.given("a", 5), 2);
}

pub fn a_dear_thing_takes_more(store: &LimitStore) {
    assert_eq!(store.take(0, "a", 3, LIMIT), Ok(Taken::Allowed));
    assert_eq!(store.take(1, "a", 3, LIMIT), Ok(Taken::RetryAfter(100)));
    assert_eq!(store.take(0, "a", 0, LIMIT), Ok(Taken::Allowed));
    assert_eq!(store.take(0, "a", 2, LIMIT), Ok(Taken::Allowed));
}

pub fn keys_are_apart(store: &LimitStore) {
    let long = "x".repeat(256);
    for key in ["a", "b", "a:b", "{a}", "{", "}{a}", "login/ä\n", "", "A", &long] {
        assert_eq!(store.given(key, 20), 5, "{key:?}");
    }
}

pub fn what_can_never_be_taken_is_invalid(store: &LimitStore) {
    let bad = [
        (6, LIMIT),
        (1, Limit { tokens: 0, ..LIMIT }),
        (1, Limit { per_ms: 0, ..LIMIT }),
        (1, Limit { burst: 0, ..LIMIT }),
    ];
    for (cost, limit) in bad {
        let kind = store.take(0, "a", cost, limit).map_err(|error| error.kind);
        assert_eq!(kind, Err(Failure::Invalid), "{cost} of {limit:?}");
    }
    assert_eq!(store.given("a", 20), 5);
}

pub fn slow_limits_are_exact(store: &LimitStore) {
    // Seven in an hour: no whole number of ms each.
    let limit = Limit { tokens: 7, per_ms: 3_600_000, burst: 7 };
    for _ in 0..7 {
        assert_eq!(store.take(0, "a", 1, limit), Ok(Taken::Allowed));
    }
    assert_eq!(store.take(1, "a", 1, limit), Ok(Taken::RetryAfter(514_286)));
    (store.pass)(3_600_000);
    for _ in 0..7 {
        assert_eq!(store.take(1, "a", 1, limit), Ok(Taken::Allowed));
    }
}

pub fn callers_together_get_no_more_than_the_bucket_gives(store: &LimitStore) {
    let limit = Limit { tokens: 1, per_ms: 1_000, burst: 100 };
    let given: usize = thread::scope(|scope| {
        let call = |thread: usize| {
            let limits = &store.handles[thread % 2];
            let take = move || answer(|done| limits.take("a", 1, limit, done));
            scope.spawn(move || (0..40).filter(|_| take() == Ok(Taken::Allowed)).count())
        };
        let threads: Vec<_> = (0..8).map(call).collect();
        threads.into_iter().map(|thread| thread.join().expect("a caller")).sum()
    });
    assert_eq!(given, 100);
}

pub fn done_may_take_again(store: &LimitStore) {
    let limits = Arc::clone(&store.handles[0]);
    ends(move || {
        let again = Arc::clone(&limits);
        let second = answer(|done| {
            limits.take("a", 5, LIMIT, Box::new(move |_| again.take("a", 1, LIMIT, done)));
        });
        assert_eq!(second, Ok(Taken::RetryAfter(100)));
    });
}
