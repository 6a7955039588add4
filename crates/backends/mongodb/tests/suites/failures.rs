//! Servers that stop, hang or keep garbage.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::served::{Database, PATIENCE};
use mongodb::bson::{Document, doc};
use xpush_core::ports::directory::{Change, Directory, Expected, Key, Listing, Record, UserRecord};
use xpush_core::ports::markers::{Mark, Markers};
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::online::LastSeen;
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, Kind, Retention};
use xpush_mongodb::{Ledger, MongoDirectory, MongoLastSeen, OpenError, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft, draft_with, user};
use xpush_testkit::service::mongo::{Mongo, Product};
use xpush_testkit::suite::answer;

/// What callers wait for at most, and some for a machine that is busy.
const SOON: Duration = Duration::from_secs(5);

struct Open {
    ledger: Ledger,
    directory: MongoDirectory,
    last_seen: MongoLastSeen,
}

fn open(options: Options) -> Open {
    let store = Store::open(options).unwrap();
    Open {
        ledger: Ledger::new(Arc::clone(&store), Arc::new(ManualClock::new())),
        directory: MongoDirectory::new(Arc::clone(&store)),
        last_seen: MongoLastSeen::new(store),
    }
}

fn append(ledger: &Ledger, channel: &ChannelKey, drafts: Vec<Draft>) -> Result<Appended, PortError> {
    answer(|done| ledger.append(channel, Retention::ENDLESS, drafts, done))
}

fn all(ledger: &Ledger, channel: &ChannelKey) -> Result<Page, PortError> {
    answer(|done| ledger.read(channel, Range::After(0), usize::MAX, done))
}

fn person(name: &str) -> Key {
    Key::User(app("demo"), user(name))
}

fn put(directory: &MongoDirectory, name: &str) -> Result<u64, PortError> {
    let record = UserRecord { password: Some("a-digest".into()), ..UserRecord::default() };
    let to = Some(Record::User(Box::new(record)));
    answer(|done| directory.apply(Change { key: person(name), expected: Expected::Any, to }, done))
}

/// What an append says of its one draft.
fn told(result: Result<Appended, PortError>) -> Result<(), PortError> {
    let Appended { failure, .. } = result?;
    failure.map_or(Ok(()), Err)
}

/// Every operation, each on its own: what it is told, and how long that took.
fn everything(open: &Open) -> Vec<(&'static str, bool, Result<(), PortError>, Duration)> {
    let key = channel("chat:a");
    let mut results = Vec::new();
    let mut ask = |name, writes, result: &dyn Fn() -> Result<(), PortError>| {
        let start = Instant::now();
        results.push((name, writes, result(), start.elapsed()));
    };
    let ledger = &open.ledger;
    ask("append", true, &|| told(append(ledger, &key, vec![draft("ann", "late")])));
    ask("read", false, &|| all(ledger, &key).map(drop));
    ask("heads", false, &|| answer(|done| ledger.heads(vec![key.clone()], done)).map(drop));
    ask("begin", true, &|| answer(|done| ledger.begin(&key, &user("bob"), done)).map(drop));
    ask("advance", true, &|| {
        answer(|done| ledger.advance(&key, &user("bob"), Mark::Read, 1, done)).map(drop)
    });
    ask("conversations", false, &|| {
        answer(|done| ledger.conversations(&app("demo"), &user("ann"), None, 9, done)).map(drop)
    });
    ask("get", false, &|| answer(|done| open.directory.get(&person("ann"), done)).map(drop));
    ask("apply", true, &|| put(&open.directory, "late").map(drop));
    ask("changes", false, &|| answer(|done| open.directory.changes(0, 9, done)).map(drop));
    ask("note", true, &|| answer(|done| open.last_seen.note(vec![(app("demo"), user("ann"), 1)], done)));
    results
}

fn expect_typed_errors(open: &Open) {
    for (name, writes, result, took) in everything(open) {
        let error = result.expect_err(name);
        let fair = error.kind == Failure::NotApplied || (writes && error.kind == Failure::Unknown);
        assert!(fair, "{name}: {error}");
        assert!(took < SOON, "{name} took {took:?}");
    }
}

#[test]
fn without_a_server_everything_is_refused_soon_and_goes_on_when_it_is_back() {
    let mut server = Mongo::start(Product::wanted(), &[]);
    let open = open(Options::new(server.uri(), "xpush"));
    let key = channel("chat:a");
    told(append(&open.ledger, &key, vec![draft("ann", "1")])).unwrap();
    put(&open.directory, "ann").unwrap();
    server.kill();
    expect_typed_errors(&open);
    server.restart();
    wait_for(|| told(append(&open.ledger, &key, vec![draft("ann", "2")])));
    wait_for(|| put(&open.directory, "bob").map(drop));
    let page = all(&open.ledger, &key).unwrap();
    let ids: Vec<_> = page.messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["1", "2"]);
}

#[test]
fn with_a_server_that_hangs_everything_is_refused_soon_and_no_message_is_doubled() {
    let server = Mongo::start(Product::wanted(), &[]);
    let open = open(Options::new(server.uri(), "xpush"));
    let key = channel("chat:a");
    told(append(&open.ledger, &key, vec![draft("ann", "1")])).unwrap();
    put(&open.directory, "ann").unwrap();
    server.freeze();
    expect_typed_errors(&open);
    server.thaw();
    // What had been sent may be there by now; the same again finds it.
    wait_for(|| told(append(&open.ledger, &key, vec![draft("ann", "late"), draft("ann", "2")])));
    let page = all(&open.ledger, &key).unwrap();
    let ids: Vec<_> = page.messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["1", "late", "2"]);
}

/// The driver gives up all connections to a server that does not answer its own questions, also those on which a write is under way.
#[test]
fn a_write_that_was_under_way_when_the_driver_gave_up_may_have_been_made() {
    let server = Mongo::start(Product::wanted(), &[]);
    // The driver notices after three quarters of it and a second: before the store does.
    let patience = Duration::from_secs(8);
    let open = open(Options { patience, ..Options::new(server.uri(), "xpush") });
    let note = |at| answer(|done| open.last_seen.note(vec![(app("demo"), user("ann"), at)], done));
    let recall = || answer(|done| open.last_seen.recall(&app("demo"), vec![user("ann")], done));
    note(1).unwrap();
    server.freeze();
    let error = note(2).unwrap_err();
    assert_eq!(error.kind, Failure::Unknown, "{error}");
    server.thaw();
    xpush_testkit::service::wait_until("it was made", || recall() == Ok(vec![Some(2)]));
}

#[test]
fn those_who_wait_in_a_lane_are_told_together() {
    let mut server = Mongo::start(Product::wanted(), &[]);
    let open = open(Options::new(server.uri(), "xpush"));
    let key = channel("chat:a");
    told(append(&open.ledger, &key, vec![draft("ann", "1")])).unwrap();
    server.kill();
    let (sender, receiver) = std::sync::mpsc::channel();
    let start = Instant::now();
    for id in 0..200 {
        let sender = sender.clone();
        let done = Box::new(move |result| sender.send(result).unwrap_or_default());
        open.ledger.append(&key, Retention::ENDLESS, vec![draft("ann", &format!("late {id}"))], done);
    }
    for _ in 0..200 {
        let result: Result<Appended, PortError> = receiver.recv_timeout(SOON).unwrap();
        let error = told(result).unwrap_err();
        assert!(matches!(error.kind, Failure::NotApplied | Failure::Unknown), "{error}");
    }
    assert!(start.elapsed() < SOON);
}

#[test]
fn without_a_server_a_store_is_not_opened() {
    let uri = {
        let server = Mongo::start(Product::wanted(), &[]);
        server.uri()
    };
    let start = Instant::now();
    let error = Store::open(Options::new(uri, "xpush")).err().unwrap();
    assert!(matches!(&error, OpenError::Server(error) if error.kind == Failure::NotApplied), "{error}");
    assert!(start.elapsed() < SOON);
}

#[test]
fn servers_that_begin_together_agree_on_the_epoch() {
    let database = Database::new();
    let start = Barrier::new(6);
    let key = channel("chat:a");
    let begin = || {
        start.wait();
        let open = open(database.options());
        answer(|done| open.ledger.heads(vec![key.clone()], done)).unwrap()[0].epoch
    };
    let epochs: Vec<_> = std::thread::scope(|scope| {
        let servers: Vec<_> = (0..6).map(|_| scope.spawn(begin)).collect();
        servers.into_iter().map(|server| server.join().unwrap()).collect()
    });
    assert!(epochs.windows(2).all(|two| two[0] == two[1]), "{epochs:?}");
}

#[test]
fn a_database_of_a_later_release_is_left_as_it_is() {
    let database = Database::new();
    drop(database.open());
    database.change("meta", doc! { "_id": "schema" }, doc! { "$set": { "version": 99 } });
    let error = Store::open(database.options()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("later release"));
    database.change("meta", doc! { "_id": "schema" }, doc! { "$set": { "version": 1 } });
    drop(database.open());
}

#[test]
fn a_slot_that_cannot_be_read_fails_those_who_ask_for_it() {
    let database = Database::new();
    let open = open(database.options());
    let key = channel("chat:a");
    let drafts = (1..=5).map(|id| draft("ann", &id.to_string())).collect();
    told(append(&open.ledger, &key, drafts)).unwrap();
    for damage in [doc! { "e": 7 }, doc! { "j": "text" }, doc! { "x": 1 }, doc! { "i": "" }] {
        database.change("slots", doc! { "s": 2_i64 }, doc! { "$set": damage });
        let error = all(&open.ledger, &key).unwrap_err();
        assert_eq!(error.kind, Failure::NotApplied);
        let newest = answer(|done| open.ledger.read(&key, Range::Newest, 3, done)).unwrap();
        assert_eq!(newest.messages.iter().map(|message| message.seq()).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(answer(|done| open.ledger.heads(vec![key.clone()], done)).unwrap()[0].seq, 5);
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_an_error_that_quotes_nothing() {
    let database = Database::new();
    let open = open(database.options());
    for (damage, said) in [
        (doc! { "$set": { "body": "\"a-digest\"" } }, "cannot be read"),
        (doc! { "$set": { "form": 2 } }, "later release"),
        (doc! { "$unset": { "body": 1 } }, "cannot be read"),
    ] {
        put(&open.directory, "ann").unwrap();
        put(&open.directory, "bob").unwrap();
        database.change("entries", doc! { "_id": { "$regex": "ann" } }, damage);
        let got = answer(|done| open.directory.get(&person("ann"), done)).err().unwrap();
        let listed = answer(|done| open.directory.page(&Listing::Users(app("demo")), None, 9, done));
        for error in [got, listed.err().unwrap()] {
            assert_eq!(error.kind, Failure::NotApplied);
            assert!(error.detail.contains(said) && !error.detail.contains("a-digest"), "{error}");
        }
        assert!(answer(|done| open.directory.get(&person("bob"), done)).unwrap().is_some());
    }
}

#[test]
fn withdrawn_and_removed_bytes_are_in_no_document() {
    let database = Database::new();
    let open = open(database.options());
    let key = channel("chat:a");
    told(append(&open.ledger, &key, vec![draft_with("ann", "1", "\"secret one\"")])).unwrap();
    let mut edit = draft_with("ann", "2", "\"secret two\"");
    edit.kind = Kind::Edit { target: 1 };
    let mut delete = draft_with("ann", "3", "null");
    delete.kind = Kind::Delete { target: 1 };
    told(append(&open.ledger, &key, vec![edit])).unwrap();
    assert!(database.text("slots").contains("secret"), "until it is deleted");
    told(append(&open.ledger, &key, vec![delete])).unwrap();
    assert!(!database.text("slots").contains("secret"));

    put(&open.directory, "ann").unwrap();
    assert!(database.text("entries").contains("a-digest"));
    let gone = Change { key: person("ann"), expected: Expected::Any, to: None };
    answer(|done| open.directory.apply(gone, done)).unwrap();
    for collection in ["entries", "changes"] {
        assert!(!database.text(collection).contains("a-digest"), "{collection}");
    }
}

#[test]
fn a_deletion_that_comes_again_is_acknowledged_when_the_data_are_gone() {
    let Some(database) = Database::with_faults() else { return };
    let open = open(Options { patience: PATIENCE, ..database.options() });
    let key = channel("chat:a");
    told(append(&open.ledger, &key, vec![draft_with("ann", "1", "\"secret\"")])).unwrap();
    let delete = || Draft { kind: Kind::Delete { target: 1 }, ..draft_with("ann", "2", "null") };
    // Nobody can take them out, neither the writer nor whoever settles the channel.
    database.fail(&["update"], 91);
    for _ in 0..2 {
        let error = told(append(&open.ledger, &key, vec![delete()])).unwrap_err();
        assert_eq!(error.kind, Failure::Unknown, "{error}");
        assert!(database.text("slots").contains("secret"));
    }
    let page = all(&open.ledger, &key).unwrap();
    assert!(page.head == 2 && page.messages[0].revision.unwrap().deleted, "it has its place");
    // Whoever comes with others is told of those before it.
    let appended = append(&open.ledger, &key, vec![draft("ann", "3"), delete(), draft("ann", "4")]).unwrap();
    assert_eq!((appended.taken.len(), appended.failure.unwrap().kind), (1, Failure::Unknown));
    database.heal();
    told(append(&open.ledger, &key, vec![delete()])).unwrap();
    assert!(!database.text("slots").contains("secret"));
    assert_eq!(all(&open.ledger, &key).unwrap().head, 3, "nothing is doubled");
}

#[test]
fn what_a_writer_has_left_unsettled_is_read_as_if_it_had_not() {
    let database = Database::new();
    let first = open(database.options());
    let key = channel("chat:a");
    told(append(&first.ledger, &key, vec![draft("ann", "1"), draft("bob", "2")])).unwrap();
    drop(first);
    // As if it had died behind its inserts: nothing that follows from slots is there.
    let unsettled = || {
        database.change("channels", Document::new(), doc! { "$set": { "settled": 0_i64 } });
        let zeros = doc! { "on": false, "d": 0_i64, "r": 0_i64, "o": 0_i64, "m": 0_i64 };
        database.change("markers", Document::new(), doc! { "$set": zeros });
    };
    unsettled();
    let second = open(database.options());
    let markers = answer(|done| second.ledger.of_channel(&key, 9, done)).unwrap();
    let told: Vec<_> = markers.iter().map(|(user, marker)| (user.as_str(), marker.read)).collect();
    assert_eq!(told, [("bob", 2), ("ann", 1)]);
    unsettled();
    let list = |name: &str| {
        answer(|done| second.ledger.conversations(&app("demo"), &user(name), None, 9, done)).unwrap()
    };
    assert_eq!((list("ann")[0].unread, list("bob")[0].unread), (1, 0));
}

fn wait_for(mut attempt: impl FnMut() -> Result<(), PortError>) {
    let mut last = None;
    xpush_testkit::service::wait_until("the store works again", || {
        last = attempt().err();
        last.is_none()
    });
}

#[test]
fn a_change_whose_writer_died_is_made_by_whoever_comes_upon_it() {
    let database = Database::new();
    let open = open(database.options());
    let first = put(&open.directory, "ann").unwrap();
    // As if another node had died behind its insert.
    let orphan = |number: u64, body: &str| {
        let bytes = mongodb::bson::Binary {
            subtype: mongodb::bson::spec::BinarySubtype::Generic,
            bytes: body.into(),
        };
        doc! {
            "_id": i64::try_from(number).unwrap(), "key": "2\u{1}demo\u{1}bob\u{1}", "by": 7_i64, "open": true,
            "form": 1, "body": bytes,
        }
    };
    database.insert("changes", orphan(first + 1, r#"{"tokens_valid_from":1}"#));
    let told = answer(|done| open.directory.changes(first, 9, done)).unwrap();
    assert_eq!((told.keys, told.next, told.gap), (vec![person("bob")], first + 1, false));
    let entry = answer(|done| open.directory.get(&person("bob"), done)).unwrap().unwrap();
    assert_eq!(entry.revision, first + 1, "who is told of it finds it");

    database.insert("changes", orphan(first + 2, r#"{"tokens_valid_from":2}"#));
    let to = Some(Record::User(Box::default()));
    let expected = Expected::Revision(first + 1);
    let late = answer(|done| {
        open.directory.apply(Change { key: person("bob"), expected, to: to.clone() }, done);
    });
    assert_eq!(late.unwrap_err().kind, Failure::Conflict, "it is not what it was");
    let expected = Expected::Revision(first + 2);
    let next = answer(|done| open.directory.apply(Change { key: person("bob"), expected, to }, done));
    assert_eq!(next, Ok(first + 3));
}
