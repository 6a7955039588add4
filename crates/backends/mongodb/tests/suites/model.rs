//! The ledger against a model that recounts everything.

use std::sync::Arc;

use crate::served::Database;
use xpush_core::Clock;
use xpush_mongodb::Ledger;
use xpush_testkit::suite::model;

#[test]
fn what_is_read_is_what_a_model_says() {
    model::recounts(12, || {
        let database = Database::new();
        move |clock: Arc<dyn Clock>| Ledger::new(database.open(), clock)
    });
}
