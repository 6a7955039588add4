//! The log takes users out as the port's contract says.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::message_log::MessageLog;
use xpush_embedded::MemoryLog;
use xpush_testkit::ManualClock;
use xpush_testkit::suite::erasure::ErasureStore;

fn store() -> ErasureStore {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let log = Arc::new(MemoryLog::new(7, 64 << 20, clock));
    ErasureStore {
        handles: [0, 1].map(|_| Arc::clone(&log) as Arc<dyn Erasure>),
        logs: [0, 1].map(|_| Arc::clone(&log) as Arc<dyn MessageLog>),
        markers: None,
        keeps: Box::new(()),
    }
}

xpush_testkit::erasure_suite!(store);
