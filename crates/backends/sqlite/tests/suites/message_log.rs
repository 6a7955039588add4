//! The log keeps the port's contract, with two stores on one file.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::message_log::MessageLog;
use xpush_sqlite::{LARGEST_MESSAGE, Ledger, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::suite::message_log::LogStore;

mod few_in_memory {
    use super::*;

    /// Fences go into the table again and again.
    fn store() -> LogStore {
        super::store_with(Options { recent_fences: 2, ..Options::default() })
    }

    xpush_testkit::message_log_suite!(store);
}

fn store() -> LogStore {
    store_with(Options::default())
}

fn store_with(options: Options) -> LogStore {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let open = || -> Arc<dyn MessageLog> {
        let store = Store::open(folder.path().join("xpush.db"), options.clone()).unwrap();
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
