//! The log keeps the port's contract, with two stores on one file.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::message_log::MessageLog;
use xpush_sqlite::{LARGEST_MESSAGE, Ledger, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::suite::message_log::LogStore;

fn store() -> LogStore {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let open = || -> Arc<dyn MessageLog> {
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        Arc::new(Ledger::new(store, Arc::clone(&clock) as Arc<dyn Clock>).unwrap())
    };
    LogStore {
        handles: [open(), open()],
        too_large: Some(LARGEST_MESSAGE),
        pass: Box::new(move |ms| {
            // The folder goes with the store.
            let _ = &folder;
            clock.advance(ms);
        }),
    }
}

xpush_testkit::message_log_suite!(store);
