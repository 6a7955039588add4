//! The log keeps the port's contract, with two stores on one database.

use std::sync::Arc;

use crate::served::Database;
use mongodb::bson::doc;
use xpush_core::ports::message_log::{Appended, MessageLog, Range};
use xpush_core::{Clock, Retention};
use xpush_mongodb::{LARGEST_MESSAGE, Ledger};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{channel, draft};
use xpush_testkit::service::wait_until;
use xpush_testkit::suite::answer;
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

/// By age slots leave while nobody appends: the head's bound stays behind, and its slot is deleted.
#[test]
fn a_channel_whose_oldest_slots_are_deleted_is_written_on() {
    const HOUR: u64 = 3_600_000;
    let (database, clock) = (Database::new(), Arc::new(ManualClock::new()));
    let open = || Ledger::new(database.open(), Arc::clone(&clock) as Arc<dyn Clock>);
    let append = |ledger: &Ledger, name: &str, age_ms: u64, id: &str| {
        let retention = Retention { age_ms, ..Retention::ENDLESS };
        let drafts = vec![draft("ann", id)];
        let appended = answer(|done| ledger.append(&channel(name), retention, drafts, done)).unwrap();
        let Appended { taken, failure } = appended;
        assert_eq!(failure, None, "{name} {id}");
        taken.into_iter().map(|taken| taken.unwrap().message.seq()).collect::<Vec<_>>()
    };
    let bounds = |ledger: &Ledger, name: &str| {
        let page = answer(|done| ledger.read(&channel(name), Range::After(0), 9, done)).unwrap();
        let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq()).collect();
        assert_eq!(seqs, (page.first..=page.head).collect::<Vec<_>>());
        (page.first, page.head)
    };
    let writer = open();
    for id in ["1", "2", "3"] {
        append(&writer, "chat:quiet", 1_000, id);
        append(&writer, "chat:slow", 40 * HOUR, id);
    }
    clock.advance(25 * HOUR);
    append(&writer, "chat:slow", 40 * HOUR, "4");
    clock.advance(24 * HOUR);
    // Of each the newest one is left.
    wait_until("old slots are deleted", || database.count("slots", doc! {}) == 2);
    // Not the writer, who remembers more than there is.
    let other = open();
    assert_eq!((bounds(&other, "chat:quiet"), bounds(&other, "chat:slow")), ((3, 3), (4, 4)));
    assert_eq!(append(&other, "chat:quiet", 1_000, "4"), [4]);
    assert_eq!(append(&other, "chat:slow", 40 * HOUR, "5"), [5]);
    for ledger in [&writer, &other] {
        assert_eq!((bounds(ledger, "chat:quiet"), bounds(ledger, "chat:slow")), ((4, 4), (4, 5)));
    }
    assert_eq!(append(&writer, "chat:slow", 40 * HOUR, "6"), [6]);
    assert_eq!(bounds(&other, "chat:slow"), (4, 6));
}
