//! The ledger against a model that recounts everything.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_sqlite::{Ledger, Options, Store};
use xpush_testkit::suite::model;

#[test]
fn what_is_read_is_what_a_model_says() {
    model::recounts(40, || {
        let folder = tempfile::tempdir().unwrap();
        move |clock: Arc<dyn Clock>| {
            let store = Store::open(
                folder.path().join("xpush.db"),
                Options { recent_fences: 3, ..Options::default() },
            )
            .unwrap();
            Ledger::new(store, clock).unwrap()
        }
    });
}
