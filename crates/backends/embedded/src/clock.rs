//! The machine's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use xpush_core::{Clock, Monotonic, UnixMillis};

/// `std`'s clocks; the monotonic one begins at 0 when this is made.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Begins to count. One a process: moments of two clocks cannot be compared.
    #[expect(clippy::new_without_default, reason = "reads the clock, which a default should not")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(millis(self.start.elapsed().as_millis()))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that others have injected")]
    fn wall(&self) -> UnixMillis {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| millis(since.as_millis()))
    }
}

fn millis(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_on() {
        let clock = SystemClock::new();
        let (start, year_2020) = (clock.monotonic(), 1_577_836_800_000);
        while clock.monotonic() == start {
            std::hint::spin_loop();
        }
        assert!(clock.monotonic() > start && start < Monotonic(60_000));
        assert!(clock.wall() > year_2020);
    }
}
