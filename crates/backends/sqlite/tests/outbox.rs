//! The port's contract, over two stores on one file.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::outbox::Outbox;
use xpush_sqlite::{Options, SqliteOutbox, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::suite::outbox::OutboxStore;

fn fixture() -> OutboxStore {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let open = || -> Arc<dyn Outbox> {
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        Arc::new(SqliteOutbox::new(store, Arc::clone(&clock) as Arc<dyn Clock>).unwrap())
    };
    let handles = [open(), open()];
    let pass = Box::new(move |ms| {
        let _kept = &folder;
        clock.advance(ms);
    });
    OutboxStore { handles, pass }
}

xpush_testkit::outbox_suite!(fixture);
