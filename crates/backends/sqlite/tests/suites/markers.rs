//! The markers keep the port's contract, with two stores on one file.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::markers::Markers;
use xpush_core::ports::message_log::MessageLog;
use xpush_sqlite::{Ledger, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::suite::markers::MarkerStore;

fn store() -> MarkerStore {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let open = || {
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        Arc::new(Ledger::new(store, Arc::clone(&clock) as Arc<dyn Clock>).unwrap())
    };
    let ledgers = [open(), open()];
    MarkerStore {
        handles: [0, 1].map(|handle| Arc::clone(&ledgers[handle]) as Arc<dyn Markers>),
        logs: [0, 1].map(|handle| Arc::clone(&ledgers[handle]) as Arc<dyn MessageLog>),
        pass: Box::new(move |ms| {
            // The folder goes with the store.
            let _ = &folder;
            clock.advance(ms);
        }),
    }
}

xpush_testkit::markers_suite!(store);
