//! The ledger takes users out as the port's contract says, with two stores on one database; what is left of them in the documents is nothing.

use std::sync::Arc;

use crate::served::Database;
use mongodb::bson::doc;
use xpush_core::ports::directory::{
    Change, Changes, Directory, Expected, Key, Listing, MemberRecord, Record, UserRecord,
};
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::markers::{Mark, Markers};
use xpush_core::ports::message_log::{Draft, MessageLog, Page, Range};
use xpush_core::ports::online::LastSeen;
use xpush_core::{Clock, Device, Kind, Message, Retention, Sender};
use xpush_mongodb::{Ledger, MongoDirectory, MongoLastSeen};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft, draft_with, user};
use xpush_testkit::suite::answer;
use xpush_testkit::suite::erasure::{ErasureStore, a_change_that_is_forgotten_is_a_gap};

fn open(database: &Database) -> Arc<Ledger> {
    Arc::new(Ledger::new(database.open(), Arc::new(ManualClock::new()) as Arc<dyn Clock>))
}

fn store() -> ErasureStore {
    let database = Database::new();
    let ledgers = [open(&database), open(&database)];
    ErasureStore::of_ledgers(ledgers, Box::new(database))
}

xpush_testkit::erasure_suite!(store);

/// In whatever the user says, is called by, and has.
const CANARY: &str = "canary-4711";
const USER: &str = "user-canary-4711";

const COLLECTIONS: [&str; 8] =
    ["slots", "channels", "markers", "entries", "changes", "last_seen", "erasures", "meta"];

fn append(ledger: &Ledger, name: &str, drafts: Vec<Draft>) -> Vec<Arc<Message>> {
    let appended = answer(|done| ledger.append(&channel(name), Retention::ENDLESS, drafts, done)).unwrap();
    assert_eq!(appended.failure, None);
    appended.taken.into_iter().map(|taken| taken.unwrap().message).collect()
}

fn all(ledger: &Ledger, name: &str) -> Page {
    answer(|done| ledger.read(&channel(name), Range::After(0), usize::MAX, done)).unwrap()
}

fn edit(from: &str, id: &str, target: u64, json: &str) -> Draft {
    Draft { kind: Kind::Edit { target }, moderates: true, ..draft_with(from, id, json) }
}

fn begin(ledger: &Ledger, name: &str) {
    answer(|done| Erasure::begin(ledger, &app("demo"), &user(name), 7, done)).unwrap();
}

fn step(ledger: &Ledger, name: &str) -> bool {
    answer(|done| Erasure::step(ledger, &app("demo"), &user(name), done)).unwrap().ended
}

fn end(ledger: &Ledger, name: &str) {
    answer(|done| Erasure::end(ledger, &app("demo"), &user(name), done)).unwrap();
}

fn write_of_the_user(ledger: &Ledger) {
    for name in ["chat:a", "chat:b"] {
        let said = |number: usize| {
            let from = if number.is_multiple_of(3) { USER } else { "bob" };
            let text = if number.is_multiple_of(3) { CANARY } else { "something else" };
            let mut draft = draft_with(from, &format!("{text}-{number}"), &format!("\"{text}\""));
            draft.from = Sender { name: number.is_multiple_of(3).then(|| CANARY.into()), ..draft.from };
            draft
        };
        append(ledger, name, (0..400).map(said).collect());
        append(
            ledger,
            name,
            vec![edit(USER, CANARY, 2, &format!("\"{CANARY}\"")), edit("bob", "e", 1, "\"canary-4711\"")],
        );
    }
    append(ledger, &format!("@{USER}"), vec![draft_with("bob", "1", &format!("\"to {CANARY}\""))]);
    append(ledger, &format!("@{USER}/phone-{CANARY}"), vec![draft("bob", "1")]);
    append(ledger, "$presence", vec![draft_with("$", "1", &format!("{{\"user\":\"{USER}\"}}"))]);
    answer(|done| ledger.advance(&channel("chat:c"), &user(USER), Mark::Read, 1, done)).unwrap();
}

fn enter_the_user(directory: &dyn Directory) {
    let (app, user, bob) = (app("demo"), user(USER), user("bob"));
    let named = UserRecord { name: Some(CANARY.into()), ..UserRecord::default() };
    let phone = Device::new(&format!("phone-{CANARY}")).unwrap();
    let room = Key::Member(channel("room:a"), user.clone());
    let entries = [
        (Key::User(app.clone(), user.clone()), Record::User(Box::new(named))),
        (Key::Device(app.clone(), user.clone(), phone), Record::Device(Box::default())),
        (Key::Block(app.clone(), user.clone(), bob.clone()), Record::Block(7)),
        (Key::Block(app.clone(), bob.clone(), user.clone()), Record::Block(7)),
        (Key::Identity(app.clone(), "https://id.example".into(), CANARY.into()), Record::Identity(user)),
        (room, Record::Member(MemberRecord::default())),
        (Key::User(app, bob), Record::User(Box::default())),
    ];
    for (key, record) in entries {
        let change = Change { key, expected: Expected::Any, to: Some(record) };
        answer(|done| directory.apply(change, done)).unwrap();
    }
}

fn remove_the_user(directory: &dyn Directory) {
    let (app, user) = (app("demo"), user(USER));
    let mut keys = vec![Key::User(app.clone(), user.clone())];
    for listing in Listing::of_user(&app, &user) {
        let page = answer(|done| directory.page(&listing, None, 99, done)).unwrap();
        assert!(matches!(listing, Listing::Logins(..)) || !page.is_empty(), "{listing:?}");
        keys.extend(page.into_iter().map(|entry| entry.key));
    }
    for key in keys {
        answer(|done| directory.apply(Change { key, expected: Expected::Any, to: None }, done)).unwrap();
    }
}

fn holding(database: &Database, text: &str) -> Vec<&'static str> {
    COLLECTIONS.into_iter().filter(|collection| database.text(collection).contains(text)).collect()
}

#[test]
fn nothing_of_the_user_is_left_in_any_document() {
    let database = Database::new();
    let store = database.open();
    let directory = MongoDirectory::new(Arc::clone(&store));
    {
        let first = open(&database);
        write_of_the_user(&first);
        enter_the_user(&directory);
        let seen = MongoLastSeen::new(Arc::clone(&store));
        answer(|done| seen.note(vec![(app("demo"), user(USER), 7)], done)).unwrap();
        let named = ["slots", "channels", "markers", "entries", "changes", "last_seen"];
        assert_eq!(holding(&database, CANARY), named);
        begin(&first, USER);
        assert!(!step(&first, USER));
    }
    // What one node has begun another one ends.
    let ledger = open(&database);
    let pending = answer(|done| ledger.pending(done)).unwrap();
    assert_eq!((pending.len(), pending[0].user.as_str()), (1, USER));
    while !step(&ledger, USER) {}
    remove_the_user(&directory);
    end(&ledger, USER);
    assert_eq!(answer(|done| ledger.pending(done)).unwrap(), []);
    assert_eq!(holding(&database, CANARY), Vec::<&str>::new());
    let page = all(&ledger, "chat:a");
    assert_eq!((page.first, page.head, page.messages.len()), (1, 402, 402));
}

#[test]
fn a_change_that_is_forgotten_is_a_gap_to_who_has_not_heard_of_it() {
    let database = Database::new();
    let directory = || Arc::new(MongoDirectory::new(database.open())) as Arc<dyn Directory>;
    let directories = [directory(), directory()];
    let ledgers = [open(&database), open(&database)];
    a_change_that_is_forgotten_is_a_gap(
        &ErasureStore::of_ledgers(ledgers, Box::new(database.clone())),
        &directories,
    );
}

/// Who is erased is barred first: a server that has not heard of it by the end must not take for unchanged what it remembers.
#[test]
fn who_was_cut_off_while_a_user_was_erased_is_told_that_something_is_missing() {
    let database = Database::new();
    let (ledger, store) = (open(&database), database.open());
    let (directory, other) = (MongoDirectory::new(Arc::clone(&store)), MongoDirectory::new(store));
    let changes = |since| answer(|done| other.changes(since, 99, done)).unwrap();
    let bob = Key::User(app("demo"), user("bob"));
    let put = |key: &Key, record: UserRecord| {
        let to = Some(Record::User(Box::new(record)));
        answer(|done| directory.apply(Change { key: key.clone(), expected: Expected::Any, to }, done))
            .unwrap()
    };
    enter_the_user(&directory);
    let before = changes(u64::MAX).next;
    begin(&ledger, USER);
    let barred = UserRecord { disabled: true, ..UserRecord::default() };
    let heard = put(&Key::User(app("demo"), user(USER)), barred);
    while !step(&ledger, USER) {}
    let last = put(&bob, UserRecord::default());
    remove_the_user(&directory);
    end(&ledger, USER);
    let newest = changes(u64::MAX).next;
    assert_eq!(newest, last + 6, "numbers stay");
    for since in [0, before, heard - 1] {
        assert_eq!(changes(since), Changes { keys: Vec::new(), next: newest, gap: true }, "{since}");
    }
    // Who was there all the time has missed removals of a moment ago, if anything.
    for (since, keys) in [(heard, vec![bob]), (last, Vec::new()), (newest, Vec::new())] {
        assert_eq!(changes(since), Changes { keys, next: newest, gap: false }, "{since}");
    }
}

#[test]
fn a_writer_that_has_missed_that_a_channel_began_anew_begins_with_it() {
    let database = Database::new();
    let (late, other) = (open(&database), open(&database));
    append(&late, "@ann", vec![draft("bob", "1")]);
    append(&other, "@ann", vec![draft("bob", "2"), draft("bob", "3")]);
    begin(&other, "ann");
    while !step(&other, "ann") {}
    end(&other, "ann");
    // It knows the channel up to 1, and takes 2 for free.
    let placed = append(&late, "@ann", vec![draft("bob", "1"), draft("bob", "4")]);
    let page = all(&other, "@ann");
    assert_eq!(placed.iter().map(|one| one.seq()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((page.head, page.messages), (2, placed.clone()));
    assert_eq!(placed[0].position.unwrap().epoch, page.epoch);
    let list = answer(|done| late.conversations(&app("demo"), &user("bob"), None, 9, done)).unwrap();
    assert_eq!((list.len(), list[0].head, list[0].marker.read), (1, 2, 2));
    // And it can be emptied again.
    begin(&late, "ann");
    while !step(&late, "ann") {}
    end(&late, "ann");
    let again = all(&other, "@ann");
    assert!(again.head == 0 && again.epoch != page.epoch);
    assert!(!database.text("channels").contains("@ann"));
}

#[test]
fn a_writer_remembers_nothing_of_a_channel_that_began_anew() {
    let database = Database::new();
    let (late, other) = (open(&database), open(&database));
    let say = |ledger: &Ledger, ids: std::ops::Range<usize>, size: usize| {
        let json = format!("\"{}\"", "1".repeat(size));
        let drafts = ids.map(|id| draft_with("bob", &id.to_string(), &json)).collect();
        let retention = Retention { bytes: 1_500, ..Retention::ENDLESS };
        let appended = answer(|done| ledger.append(&channel("@ann"), retention, drafts, done)).unwrap();
        assert_eq!(appended.failure, None);
    };
    say(&late, 0..5, 1_400);
    begin(&other, "ann");
    while !step(&other, "ann") {}
    end(&other, "ann");
    say(&other, 5..10, 800);
    // Its old end was another one, behind more bytes than there are now.
    say(&late, 10..11, 60);
    let page = all(&other, "@ann");
    assert_eq!((page.first, page.head, page.messages.len()), (5, 6, 2));
}

#[test]
fn an_edit_that_comes_behind_the_erasure_loses_its_data() {
    let database = Database::new();
    let ledger = open(&database);
    append(&ledger, "chat:a", vec![draft("ann", "1"), edit("bob", "2", 1, "\"secret\"")]);
    // As if the edit had been decided before: it is there, and nobody has settled it.
    begin(&ledger, "ann");
    while !step(&ledger, "ann") {}
    let data = mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::Generic,
        bytes: b"\"secret\"".to_vec(),
    };
    database.change("slots", doc! { "s": 2_i64 }, doc! { "$set": { "j": data } });
    database.change("channels", doc! {}, doc! { "$set": { "settled": 1_i64 } });
    assert!(database.text("slots").contains("secret"));
    let message = &all(&ledger, "chat:a").messages[0];
    assert!(message.revision.unwrap().deleted && &*message.payload.json == b"null");
    answer(|done| ledger.advance(&channel("chat:a"), &user("bob"), Mark::Read, 1, done)).unwrap();
    assert!(!database.text("slots").contains("secret"));
}

#[test]
fn a_channel_begins_anew_also_when_whoever_ended_it_died_behind_its_last_slot() {
    let database = Database::new();
    let (late, other) = (open(&database), open(&database));
    append(&late, "@ann", vec![draft("bob", "1"), draft("bob", "2")]);
    begin(&other, "ann");
    while !step(&other, "ann") {}
    let anew = all(&other, "@ann");
    // As if nothing but the last slot had been written.
    let before = doc! { "$set": { "incarnation": 0_i64, "settled": 0_i64 }, "$unset": { "past": 1 } };
    database.change("channels", doc! {}, before);
    let found = all(&other, "@ann");
    assert_eq!((found.epoch, found.head), (anew.epoch, 0));
    let heads = answer(|done| other.heads(vec![channel("@ann"), channel("chat:a")], done)).unwrap();
    assert_eq!((heads[0].epoch, heads[0].seq), (anew.epoch, 0));
    let placed = append(&late, "@ann", vec![draft("bob", "3")]);
    assert_eq!(placed[0].position.map(|place| (place.epoch, place.seq)), Some((anew.epoch, 1)));
    assert!(database.text("channels").contains("past"), "the document has followed");
}
