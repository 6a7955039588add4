//! The markers keep the port's contract, with two stores on one database.

use std::sync::Arc;

use crate::served::Database;
use xpush_core::Clock;
use xpush_core::ports::markers::Markers;
use xpush_core::ports::message_log::MessageLog;
use xpush_mongodb::Ledger;
use xpush_testkit::ManualClock;
use xpush_testkit::suite::markers::MarkerStore;

fn store() -> MarkerStore {
    let database = Database::new();
    let clock = Arc::new(ManualClock::new());
    let open = || Arc::new(Ledger::new(database.open(), Arc::clone(&clock) as Arc<dyn Clock>));
    let ledgers = [open(), open()];
    MarkerStore {
        handles: [0, 1].map(|handle| Arc::clone(&ledgers[handle]) as Arc<dyn Markers>),
        logs: [0, 1].map(|handle| Arc::clone(&ledgers[handle]) as Arc<dyn MessageLog>),
        pass: Box::new(move |ms| {
            // The server goes with the last database.
            let _ = &database;
            clock.advance(ms);
        }),
    }
}

xpush_testkit::markers_suite!(store);
