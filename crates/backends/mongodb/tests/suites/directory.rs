//! The port's contract, over two stores on one database.

use std::sync::{Arc, Mutex, mpsc};

use crate::served::Database;
use xpush_core::ports::directory::{Change, Directory, Entry, Expected, Key, Record, UserRecord};
use xpush_core::ports::online::LastSeen;
use xpush_mongodb::{MongoDirectory, MongoLastSeen, Options, Store};
use xpush_testkit::sample::{app, user};
use xpush_testkit::service::mongo::{Mongo, Product};
use xpush_testkit::suite::answer;
use xpush_testkit::suite::directory::DirectoryStore;

fn open(server: &Mongo) -> Arc<dyn Directory> {
    Arc::new(MongoDirectory::new(Store::open(Options::new(server.uri(), "xpush")).unwrap()))
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
