//! The ledger that stands for the durable one in tests keeps both of its ports' contracts.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::markers::Markers;
use xpush_core::ports::message_log::MessageLog;
use xpush_testkit::suite::markers::MarkerStore;
use xpush_testkit::suite::message_log::LogStore;
use xpush_testkit::{ManualClock, MemoryLedger};

fn ledger() -> (Arc<MemoryLedger>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (Arc::new(MemoryLedger::new(1, Arc::clone(&clock) as Arc<dyn Clock>)), clock)
}

mod log {
    use super::*;

    fn store() -> LogStore {
        let (ledger, clock) = ledger();
        let handles = [(); 2].map(|()| Arc::clone(&ledger) as Arc<dyn MessageLog>);
        LogStore { handles, pass: Box::new(move |ms| clock.advance(ms)), too_large: None }
    }

    xpush_testkit::message_log_suite!(store);
}

mod markers {
    use super::*;

    fn store() -> MarkerStore {
        let (ledger, clock) = ledger();
        let handles = [(); 2].map(|()| Arc::clone(&ledger) as Arc<dyn Markers>);
        let logs = [(); 2].map(|()| Arc::clone(&ledger) as Arc<dyn MessageLog>);
        MarkerStore { handles, logs, pass: Box::new(move |ms| clock.advance(ms)) }
    }

    xpush_testkit::markers_suite!(store);
}
