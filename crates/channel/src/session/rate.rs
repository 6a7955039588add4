//! How many commands a connection may send.

use xpush_core::Monotonic;

/// A token bucket with a burst of two seconds' worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Thousandths of a command that may be sent at once.
    tokens: u64,
    at: Monotonic,
    /// How many more commands were refused than accepted of late.
    refused: u32,
}

/// What a bucket says to one more command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Accept,
    /// Refuse it, and tell the client.
    Refuse,
    /// It goes on although it was told: close the connection.
    Close,
}

/// Surplus of refusals, in seconds' worth of commands, at which the connection is closed: a flood is cut off at once, twice the rate is borne for ever.
const PATIENCE_S: u32 = 10;

impl Rate {
    /// Full, whatever the rate will be.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self { tokens: u64::MAX >> 1, at: now, refused: 0 }
    }

    /// Takes one command; `per_second` 0 means no bound.
    pub(crate) fn take(&mut self, now: Monotonic, per_second: u32) -> Verdict {
        if per_second == 0 {
            return Verdict::Accept;
        }
        let burst = 2_000 * u64::from(per_second);
        self.tokens = burst.min(self.tokens.saturating_add(now.since(self.at) * u64::from(per_second)));
        self.at = now;
        if self.tokens >= 1_000 {
            self.tokens -= 1_000;
            self.refused = self.refused.saturating_sub(1);
            return Verdict::Accept;
        }
        self.refused += 1;
        if self.refused > PATIENCE_S * per_second { Verdict::Close } else { Verdict::Refuse }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate_then_close() {
        let mut now = Monotonic(0);
        let mut rate = Rate::new(now);
        for _ in 0..20 {
            assert_eq!(rate.take(now, 10), Verdict::Accept);
        }
        assert_eq!(rate.take(now, 10), Verdict::Refuse);
        now = now.after(100);
        assert_eq!(rate.take(now, 10), Verdict::Accept);
        for _ in 0..100 {
            assert_eq!(rate.take(now, 10), Verdict::Refuse);
        }
        assert_eq!(rate.take(now, 10), Verdict::Close);
    }

    #[test]
    fn twice_the_rate_is_borne_and_a_flood_over_time_is_not() {
        let run = |step_ms: u64| {
            let mut now = Monotonic(0);
            let mut rate = Rate::new(now);
            (0..2_000).any(|_| {
                now = now.after(step_ms);
                rate.take(now, 10) == Verdict::Close
            })
        };
        assert!(!run(50), "twenty a second, ten of them accepted");
        assert!(run(10), "a hundred a second");
    }

    #[test]
    fn a_rate_that_is_changed_holds_at_once() {
        let (now, mut rate) = (Monotonic(0), Rate::new(Monotonic(0)));
        for _ in 0..100 {
            assert_eq!(rate.take(now, 100), Verdict::Accept);
        }
        let accepted = (0..10).filter(|_| rate.take(now, 1) == Verdict::Accept).count();
        assert_eq!(accepted, 2, "a burst of the new rate");
        let later = now.after(1_000);
        assert_eq!(rate.take(later, 100), Verdict::Accept);
    }

    #[test]
    fn no_bound() {
        let (now, mut rate) = (Monotonic(0), Rate::new(Monotonic(0)));
        assert_eq!(rate.take(now, 0), Verdict::Accept);
    }
}
