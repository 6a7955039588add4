//! The log keeps the port's contract, with two stores on one database.

use std::sync::Arc;

use crate::served::Database;
use xpush_core::Clock;
use xpush_core::ports::message_log::MessageLog;
use xpush_mongodb::{LARGEST_MESSAGE, Ledger};
use xpush_testkit::ManualClock;
use xpush_testkit::suite::message_log::LogStore;

fn store() -> LogStore {
    let database = Database::new();
    let clock = Arc::new(ManualClock::new());
    let open = || -> Arc<dyn MessageLog> {
        Arc::new(Ledger::new(database.open(), Arc::clone(&clock) as Arc<dyn Clock>))
    };
    LogStore {
        handles: [open(), open()],
        too_large: Some(LARGEST_MESSAGE),
        pass: Box::new(move |ms| {
            // The server goes with the last database.
            let _ = &database;
            clock.advance(ms);
        }),
    }
}

xpush_testkit::message_log_suite!(store);
