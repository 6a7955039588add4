//! The log keeps the port's contract.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::message_log::MessageLog;
use xpush_embedded::MemoryLog;
use xpush_testkit::ManualClock;
use xpush_testkit::suite::message_log::LogStore;

/// Of which a message may take a quarter.
const BOUND: usize = 16 << 20;

fn store() -> LogStore {
    let clock = Arc::new(ManualClock::new());
    let log: Arc<dyn MessageLog> = Arc::new(MemoryLog::new(7, BOUND, Arc::clone(&clock) as Arc<dyn Clock>));
    LogStore {
        handles: [Arc::clone(&log), log],
        pass: Box::new(move |ms| clock.advance(ms)),
        too_large: Some(BOUND / 4),
    }
}

xpush_testkit::message_log_suite!(store);
