//! When a back end is left alone for a while, because it does not work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use xpush_core::Monotonic;

/// Failures in a row after which it is.
const TRIPS: u32 = 5;
/// The first pause, and the longest, in ms.
const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 30_000;
/// Who was let through to try, and has not come back after so many ms, is not waited for.
const LOST_MS: u64 = 60_000;

/// Closed while requests succeed. After [`TRIPS`] failures in a row it is open: nothing goes through, for pauses that double; after each, one request is let through to try.
#[derive(Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// Until then nobody is let through.
    open_until: Monotonic,
    /// Somebody is trying since then.
    trying: Option<Monotonic>,
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// Not before so many ms.
    Wait(u64),
}

/// What a request has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// It is open now, for so many ms.
    Opened(u64),
    /// It is closed now.
    Closed,
}

impl Breaker {
    pub(crate) fn ask(&self, now: Monotonic) -> Verdict {
        let mut state = self.state();
        if state.failures < TRIPS {
            return Verdict::Go;
        }
        if now < state.open_until {
            return Verdict::Wait(state.open_until.since(now));
        }
        match state.trying {
            Some(since) if now.since(since) < LOST_MS => Verdict::Wait(FIRST_MS),
            _ => {
                state.trying = Some(now);
                Verdict::Go
            }
        }
    }

    /// Whoever was let through has nothing to try.
    pub(crate) fn gives_up(&self) {
        self.state().trying = None;
    }

    /// Whether the last request has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.state().failures > 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().failures >= TRIPS
    }

    pub(crate) fn succeeds(&self) -> Change {
        let mut state = self.state();
        let was_open = state.failures >= TRIPS;
        *state = State::default();
        if was_open { Change::Closed } else { Change::None }
    }

    /// `chance`: any number; pauses of many nodes shall not end together.
    pub(crate) fn fails(&self, now: Monotonic, chance: u64) -> Change {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.trying = None;
        if state.failures < TRIPS {
            return Change::None;
        }
        let doubled = FIRST_MS << (state.failures - TRIPS).min(10);
        let pause = jittered(doubled.min(LONGEST_MS), chance);
        state.open_until = now.after(pause);
        if state.failures == TRIPS { Change::Opened(pause) } else { Change::None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something between half of `ms` and all of it.
pub(crate) fn jittered(ms: u64, chance: u64) -> u64 {
    let half = ms / 2;
    half + chance % (ms - half + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_lets_one_try() {
        let breaker = Breaker::default();
        let at = Monotonic;
        for _ in 0..3 {
            for _ in 1..TRIPS {
                assert_eq!(breaker.fails(at(0), 0), Change::None);
            }
            assert_eq!(breaker.succeeds(), Change::None, "not in a row");
        }
        for _ in 1..TRIPS {
            breaker.fails(at(0), 0);
        }
        assert_eq!(breaker.ask(at(0)), Verdict::Go);
        assert_eq!(
            breaker.fails(at(0), u64::MAX),
            Change::Opened(FIRST_MS / 2 + u64::MAX % (FIRST_MS / 2 + 1))
        );
        assert!(matches!(breaker.ask(at(1)), Verdict::Wait(_)));
        assert_eq!(breaker.ask(at(FIRST_MS)), Verdict::Go);
        assert!(matches!(breaker.ask(at(FIRST_MS)), Verdict::Wait(_)), "one is enough");
        assert_eq!(breaker.fails(at(FIRST_MS), 0), Change::None);
        assert!(matches!(breaker.ask(at(2 * FIRST_MS - 1)), Verdict::Wait(_)), "twice as long now");
        assert_eq!(breaker.ask(at(3 * FIRST_MS)), Verdict::Go);
        assert_eq!(breaker.succeeds(), Change::Closed);
        assert_eq!(breaker.ask(at(0)), Verdict::Go);
    }

    #[test]
    fn pauses_are_bounded_and_who_is_lost_is_not_waited_for() {
        let breaker = Breaker::default();
        for chance in 0..200 {
            breaker.fails(Monotonic(0), chance * 7_919);
        }
        assert_eq!(breaker.ask(Monotonic(LONGEST_MS)), Verdict::Go);
        assert!(matches!(breaker.ask(Monotonic(LONGEST_MS + LOST_MS - 1)), Verdict::Wait(_)));
        assert_eq!(breaker.ask(Monotonic(LONGEST_MS + LOST_MS)), Verdict::Go);
        breaker.gives_up();
        assert_eq!(breaker.ask(Monotonic(LONGEST_MS + LOST_MS)), Verdict::Go);
    }
}
