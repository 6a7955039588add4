//! What ages are counted by.

use std::sync::Arc;

use xpush_core::{Clock, Monotonic};

/// The ledger's clock: ms since 1970, about, that never go back over the life of a file.
///
/// It starts at the wall clock, or where the file's last writer has left it when that is later, and goes on with the monotonic clock. So a jump of the wall clock
/// changes nothing while the process runs; one back changes nothing after a restart either; and one forward before a restart cannot be told from having been
/// down so long: ages count it. Slots are therefore kept a day longer than retries need ([`KEPT`](super::retention::KEPT)).
pub(crate) struct LedgerClock {
    clock: Arc<dyn Clock>,
    start: u64,
    started: Monotonic,
}

impl LedgerClock {
    pub(crate) fn new(clock: Arc<dyn Clock>, left_at: u64) -> Self {
        let (start, started) = (clock.wall().max(left_at), clock.monotonic());
        Self { clock, start, started }
    }

    pub(crate) fn now(&self) -> u64 {
        self.start.saturating_add(self.clock.monotonic().since(self.started))
    }

    /// For people.
    pub(crate) fn wall(&self) -> u64 {
        self.clock.wall()
    }
}

#[cfg(test)]
mod tests {
    use xpush_testkit::ManualClock;

    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_jump_of_the_wall_clock_is_not_seen_while_it_runs() {
        let manual = Arc::new(ManualClock::new());
        let clock = LedgerClock::new(Arc::clone(&manual) as Arc<dyn Clock>, 0);
        let start = clock.now();
        for jump in [start + DAY, start - DAY] {
            manual.set_wall(jump);
            manual.advance(1000);
        }
        assert_eq!(clock.now(), start + 2000);
    }

    #[test]
    fn a_jump_back_before_a_restart_does_not_turn_it_back() {
        let manual = Arc::new(ManualClock::new());
        let left_at = LedgerClock::new(Arc::clone(&manual) as Arc<dyn Clock>, 0).now();
        manual.set_wall(left_at - DAY);
        let clock = LedgerClock::new(Arc::clone(&manual) as Arc<dyn Clock>, left_at);
        manual.advance(7);
        assert_eq!(clock.now(), left_at + 7);
        manual.set_wall(left_at + DAY);
        assert_eq!(LedgerClock::new(manual, left_at).now(), left_at + DAY, "it may have been down so long");
    }
}
