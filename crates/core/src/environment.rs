//! Clock and randomness, injected so that everything above them can be simulated.

use std::sync::Arc;

/// Milliseconds on a clock that never goes back; meaningful only as a difference within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// This moment plus `ms`.
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How many ms `earlier` lies back; 0 when it does not.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, for people: it may jump, so nothing is ordered or timed out by it.
pub type UnixMillis = u64;

/// Both clocks of a process.
pub trait Clock: Send + Sync {
    /// For timers, leases and ages.
    fn monotonic(&self) -> Monotonic;
    /// For `at` fields.
    fn wall(&self) -> UnixMillis;
}

/// A source of bytes that nobody can guess.
pub trait Entropy: Send {
    /// Fills `bytes`. A source that cannot must end the process: ids made without it could be guessed.
    fn fill(&mut self, bytes: &mut [u8]);

    /// Eight of them.
    fn word(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The ledger's clock: ms since 1970, about, that never go back over the life of a store.
///
/// It starts at the wall clock, or where the store's last writer has left it when that is later, and goes on with the monotonic clock. So a jump of the wall clock
/// changes nothing while the process runs; one back changes nothing after a restart either; and one forward before a restart cannot be told from having been
/// down so long: ages count it. What may not be forgotten early is kept for a day longer than it is needed.
/// Clocks of several nodes differ, so a store places nothing before what it has placed already.
pub struct LedgerClock {
    clock: Arc<dyn Clock>,
    start: u64,
    started: Monotonic,
}

impl LedgerClock {
    /// Goes on where the last writer has left it, in ms since 1970; 0 when there was none.
    pub fn new(clock: Arc<dyn Clock>, left_at: u64) -> Self {
        let (start, started) = (clock.wall().max(left_at), clock.monotonic());
        Self { clock, start, started }
    }

    /// In ms since 1970, about.
    pub fn now(&self) -> u64 {
        self.start.saturating_add(self.clock.monotonic().since(self.started))
    }

    /// For people.
    pub fn wall(&self) -> u64 {
        self.clock.wall()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const DAY: u64 = 86_400_000;

    /// Both clocks, as a test sets them.
    struct Hands(Mutex<(u64, UnixMillis)>);

    impl Hands {
        fn turn(&self, monotonic: u64, wall: UnixMillis) {
            *self.0.lock().unwrap() = (monotonic, wall);
        }
    }

    impl Clock for Hands {
        fn monotonic(&self) -> Monotonic {
            Monotonic(self.0.lock().unwrap().0)
        }

        fn wall(&self) -> UnixMillis {
            self.0.lock().unwrap().1
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_not_seen_while_it_runs() {
        let hands = Arc::new(Hands(Mutex::new((0, 10 * DAY))));
        let clock = LedgerClock::new(hands.clone(), 0);
        for (ms, jump) in [(1_000, 11 * DAY), (2_000, 9 * DAY)] {
            hands.turn(ms, jump);
            assert_eq!((clock.now(), clock.wall()), (10 * DAY + ms, jump));
        }
    }

    #[test]
    fn a_jump_back_before_a_restart_does_not_turn_it_back() {
        let left_at = 10 * DAY;
        let hands = Arc::new(Hands(Mutex::new((0, left_at - DAY))));
        let clock = LedgerClock::new(hands.clone(), left_at);
        hands.turn(7, left_at - DAY + 7);
        assert_eq!(clock.now(), left_at + 7);
        hands.turn(7, left_at + DAY);
        assert_eq!(LedgerClock::new(hands, left_at).now(), left_at + DAY, "it may have been down so long");
    }
}
