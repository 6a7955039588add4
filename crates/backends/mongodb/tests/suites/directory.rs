//! The port's contract, over two stores on one database.

use std::sync::{Arc, Mutex, mpsc};

use crate::served::{Database, PATIENCE};
use mongodb::bson::{Document, doc};
use xpush_core::ports::directory::{Change, Changes, Directory, Entry, Expected, Key, Record, UserRecord};
use xpush_core::ports::online::LastSeen;
use xpush_mongodb::{MongoDirectory, MongoLastSeen, Options, Store};
use xpush_testkit::sample::{app, user};
use xpush_testkit::service::mongo::{Mongo, Product};
use xpush_testkit::suite::answer;
use xpush_testkit::suite::directory::DirectoryStore;

fn open(server: &Mongo) -> Arc<dyn Directory> {
    let options = Options { patience: PATIENCE, ..Options::new(server.uri(), "xpush") };
    Arc::new(MongoDirectory::new(Store::open(options).unwrap()))
}

/// On a server of its own, which it can crash.
fn fixture() -> DirectoryStore {
    let server = Mongo::durable(Product::wanted());
    let handles = [open(&server), open(&server)];
    // The server, and the others that were made of it: they live as long as the test.
    let servers = Mutex::new(vec![server]);
    let after_a_crash = Box::new(move || {
        let mut servers = servers.lock().unwrap();
        let left = servers[0].crash();
        let directory = open(&left);
        servers.push(left);
        directory
    });
    DirectoryStore { handles, after_a_crash }
}

xpush_testkit::directory_suite!(fixture);

/// As when all who were at a server that has died come back elsewhere.
#[test]
fn many_who_ask_at_once_are_each_told_of_their_own() {
    let database = Database::new();
    let directory = MongoDirectory::new(database.open());
    let key = |number: usize| Key::User(app("demo"), user(&format!("user-{number:04}")));
    for number in (0..1_500).step_by(500) {
        let name = Some(format!("number {number}").into());
        let record = Record::User(Box::new(UserRecord { name, ..UserRecord::default() }));
        let change = Change { key: key(number), expected: Expected::Absent, to: Some(record) };
        answer(|done| directory.apply(change, done)).unwrap();
    }
    let (told, answers) = mpsc::channel();
    for number in (0..1_500).chain([500]) {
        let told = told.clone();
        let done = Box::new(move |entry| told.send((number, entry)).unwrap());
        directory.get(&key(number), done);
    }
    drop(told);
    let mut counts = [0; 1_500];
    for (number, entry) in answers {
        counts[number] += 1;
        let entry: Option<Entry> = entry.unwrap();
        let name = entry.map(|entry| match entry {
            Entry { key: found, record: Record::User(record), .. } if found == key(number) => record.name,
            other => panic!("{other:?}"),
        });
        assert_eq!(name, (number % 500 == 0).then(|| Some(format!("number {number}").into())));
    }
    assert!(counts.iter().enumerate().all(|(number, count)| *count == 1 + usize::from(number == 500)));
}

#[test]
fn a_last_time_is_known_to_other_nodes_and_never_goes_back() {
    let database = Database::new();
    let open = || MongoLastSeen::new(database.open());
    let note = |at: &MongoLastSeen, seen| answer(|done| at.note(seen, done)).unwrap();
    let recall = |at: &MongoLastSeen, of: &str, names: [&str; 3]| {
        answer(|done| at.recall(&app(of), names.map(user).to_vec(), done)).unwrap()
    };
    let first = open();
    note(
        &first,
        vec![(app("demo"), user("ann"), 7), (app("other"), user("ann"), 9), (app("demo"), user("bob"), 8)],
    );
    note(&first, vec![(app("demo"), user("ann"), 6)]);
    drop(first);
    let second = open();
    assert_eq!(recall(&second, "demo", ["bob", "eve", "ann"]), [Some(8), None, Some(7)]);
    assert_eq!(recall(&second, "other", ["bob", "eve", "ann"]), [None, None, Some(9)]);
}

fn person(name: &str) -> Key {
    Key::User(app("demo"), user(name))
}

fn apply(directory: &MongoDirectory, name: &str, expected: Expected, to: Option<u64>) -> u64 {
    let record = |tokens_valid_from| UserRecord { tokens_valid_from, ..UserRecord::default() };
    let to = to.map(|stamp| Record::User(Box::new(record(stamp))));
    answer(|done| directory.apply(Change { key: person(name), expected, to }, done)).unwrap()
}

fn stamp(directory: &MongoDirectory, name: &str) -> Option<(u64, u64)> {
    let entry = answer(|done| directory.get(&person(name), done)).unwrap()?;
    match entry.record {
        Record::User(user) => Some((entry.revision, user.tokens_valid_from)),
        _ => unreachable!("a user's"),
    }
}

/// As if so many changes had been made that the first ones are not remembered any more; the newest one's number.
fn go_far(database: &Database) -> u64 {
    const FAR: i64 = 30_000;
    database.delete("changes", Document::new());
    database.insert("changes", doc! { "_id": FAR, "key": "2\u{1}demo\u{1}eve\u{1}", "by": 7_i64 });
    database.change("entries", Document::new(), doc! { "$set": { "rev": FAR - 1 } });
    FAR.unsigned_abs()
}

#[test]
fn the_first_change_of_a_node_counts_however_much_was_changed_before() {
    let database = Database::new();
    apply(&MongoDirectory::new(database.open()), "ann", Expected::Absent, Some(1));
    let newest = go_far(&database);
    let fresh = MongoDirectory::new(database.open());
    let other = MongoDirectory::new(database.open());
    assert_eq!(apply(&fresh, "ann", Expected::Revision(newest - 1), Some(2)), newest + 1);
    assert_eq!(stamp(&other, "ann"), Some((newest + 1, 2)));
    let Changes { keys, next, gap } = answer(|done| other.changes(newest, 9, done)).unwrap();
    assert_eq!((keys, next, gap), (vec![person("ann")], newest + 1, false));
}

#[test]
fn who_has_paused_for_long_changes_what_there_is_now() {
    let database = Database::new();
    let paused = MongoDirectory::new(database.open());
    apply(&paused, "ann", Expected::Absent, Some(1));
    let newest = go_far(&database);
    assert_eq!(apply(&paused, "ann", Expected::Any, Some(2)), newest + 1);
    let other = MongoDirectory::new(database.open());
    assert_eq!(stamp(&other, "ann"), Some((newest + 1, 2)));
    assert_eq!(apply(&other, "ann", Expected::Revision(newest + 1), None), newest + 2);
    assert_eq!(apply(&paused, "bob", Expected::Absent, Some(3)), newest + 3);
    let Changes { keys, gap, .. } = answer(|done| other.changes(newest, 9, done)).unwrap();
    assert_eq!((keys, gap), (["ann", "ann", "bob"].map(person).to_vec(), false));
}

#[test]
fn who_knows_more_than_there_is_goes_on_behind_what_there_is() {
    let database = Database::new();
    let late = MongoDirectory::new(database.open());
    for name in ["ann", "bob", "cid"] {
        apply(&late, name, Expected::Absent, Some(1));
    }
    // As after a backup.
    database.delete("changes", doc! { "_id": { "$gt": 1_i64 } });
    assert_eq!(apply(&late, "dee", Expected::Absent, Some(1)), 2);
    let Changes { keys, next, gap } = answer(|done| late.changes(0, 9, done)).unwrap();
    assert_eq!((keys, next, gap), (["ann", "dee"].map(person).to_vec(), 2, false));
}

#[test]
fn a_change_is_made_whether_or_not_old_ones_can_be_removed() {
    let Some(database) = Database::with_faults() else { return };
    let directory = MongoDirectory::new(database.open());
    apply(&directory, "ann", Expected::Absent, Some(1));
    let newest = go_far(&database);
    database.fail(&["delete"], 91);
    assert_eq!(apply(&directory, "ann", Expected::Any, None), newest + 1);
    assert_eq!(apply(&directory, "bob", Expected::Absent, Some(1)), newest + 2);
    assert_eq!(stamp(&directory, "ann"), None);
}

/// What grows with an installation is looked through by nobody who has to be quick.
#[test]
fn what_may_be_much_is_found_by_indexes() {
    let database = Database::new();
    drop(database.open());
    let id =
        mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![7; 16] };
    for (collection, filter, sort) in [
        ("channels", doc! { "app": "demo", "_id": { "$gte": id } }, doc! { "_id": 1 }),
        ("erased", doc! { "at": { "$gte": 7_i64 } }, doc! { "at": 1 }),
        ("erased", doc! { "at": { "$lt": 7_i64 } }, doc! {}),
        ("entries", doc! { "gone": true }, doc! {}),
    ] {
        let plan = database.plan(collection, filter, sort);
        assert!(!plan.contains("COLLSCAN"), "{collection}: {plan}");
    }
}
