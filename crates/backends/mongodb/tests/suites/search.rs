//! An index of a ledger that servers share keeps the port's contract: it follows what others write, goes on where it stood, and takes out what others erase.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::served::Database;
use xpush_core::access::Apps;
use xpush_core::ports::Done;
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::message_log::{Draft, MessageLog};
use xpush_core::ports::search::{
    Erased, Followed, Moved, Places, Search, Standing, Standings, Stretch, Wanted,
};
use xpush_core::search::Query;
use xpush_core::{ChannelKey, Clock, Message, Retention};
use xpush_mongodb::Ledger;
use xpush_sqlite::{Rules, SearchIndex};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft_with, user};
use xpush_testkit::service::wait_until;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::search::SearchStore;

const CANARY: &str = "canary4711";

fn ledger(database: &Database) -> Arc<Ledger> {
    Arc::new(Ledger::new(database.open(), Arc::new(ManualClock::new()) as Arc<dyn Clock>))
}

fn index(folder: &Path, database: &Database, apps: &Arc<Mutex<Arc<Apps>>>) -> SearchIndex {
    let apps = apps.clone();
    let rules: Rules = Arc::new(move || apps.lock().unwrap().clone());
    let followed: Arc<dyn Followed> = ledger(database);
    SearchIndex::open_shared(folder.join("search.db"), followed, rules).unwrap()
}

fn searched() -> Arc<Mutex<Arc<Apps>>> {
    Arc::new(Mutex::new(SearchStore::apps(true)))
}

fn store() -> SearchStore {
    let (folder, database, apps) = (tempfile::tempdir().unwrap(), Database::new(), searched());
    // Whoever writes is another server than the one that is asked.
    let (writer, eraser) = (ledger(&database), ledger(&database));
    SearchStore {
        search: Arc::new(index(folder.path(), &database, &apps)),
        log: writer,
        erasure: eraser,
        rule: Box::new(move |rules| *apps.lock().unwrap() = rules),
        keeps: Box::new((folder, database)),
    }
}

xpush_testkit::search_suite!(store);

/// A ledger with so many channels that nobody comes to the end of them.
struct Endless(Arc<Ledger>);

impl Followed for Endless {
    fn identity(&self) -> u64 {
        self.0.identity()
    }

    fn standings(&self, _: Option<Box<[u8]>>, _: usize, done: Done<Standings>) {
        done(Ok(Standings { channels: Vec::new(), next: Some([0].into()) }));
    }

    fn moved(&self, since: u64, done: Done<Moved>) {
        self.0.moved(since, done);
    }

    fn stretch(&self, channel: &ChannelKey, after: u64, limit: u64, done: Done<Stretch>) {
        self.0.stretch(channel, after, limit, done);
    }

    fn messages(&self, channel: &ChannelKey, seqs: Vec<u64>, done: Done<Vec<(u64, Arc<Message>)>>) {
        self.0.messages(channel, seqs, done);
    }

    fn erased(&self, since: u64, done: Done<Erased>) {
        self.0.erased(since, done);
    }
}

fn say(ledger: &Ledger, name: &str, from: &str, texts: impl Iterator<Item = String>) {
    let drafts: Vec<Draft> =
        texts.map(|text| draft_with(from, &format!("{from}{text}"), &format!("{text:?}"))).collect();
    let appended = answer(|done| ledger.append(&channel(name), Retention::ENDLESS, drafts, done)).unwrap();
    assert!(appended.failure.is_none() && appended.taken.iter().all(Result::is_ok), "{appended:?}");
}

fn count(index: &SearchIndex, query: &str) -> usize {
    let query = Query::parse(query).unwrap();
    let wanted = Wanted { app: app("demo"), places: Places::All, query, before: None, limit: 100 };
    answer(|done| index.search(wanted, done)).unwrap().hits.len()
}

/// Whether a file of the index holds the text.
fn lies_in_index(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn each_server_finds_all_and_goes_on_where_it_stood() {
    let (database, apps) = (Database::new(), searched());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let writer = ledger(&database);
    let [one, other] = folders.each_ref().map(|folder| index(folder.path(), &database, &apps));
    say(&writer, "chat:lobby", "ann", ["first words".to_owned()].into_iter());
    for index in [&one, &other] {
        wait_until("each has it", || count(index, "words") == 1);
    }
    drop(one);
    say(&writer, "chat:lobby", "ann", ["second words".to_owned()].into_iter());
    say(&writer, "chat:other", "ann", ["third words".to_owned()].into_iter());
    let one = index(folders[0].path(), &database, &apps);
    wait_until("it has caught up", || count(&one, "words") == 3);
    // Lost, it is made anew.
    drop(one);
    for name in ["search.db", "search.db-wal", "search.db-shm"] {
        drop(std::fs::remove_file(folders[0].path().join(name)));
    }
    let one = index(folders[0].path(), &database, &apps);
    wait_until("it was made anew", || count(&one, "words") == 3);
    wait_until("the other follows as well", || count(&other, "words") == 3);
}

#[test]
fn what_is_written_now_is_found_before_all_channels_were_compared() {
    let (database, apps, folder) = (Database::new(), searched(), tempfile::tempdir().unwrap());
    let writer = ledger(&database);
    let rules: Rules = Arc::new(move || apps.lock().unwrap().clone());
    let endless = Arc::new(Endless(ledger(&database)));
    let index = SearchIndex::open_shared(folder.path().join("search.db"), endless, rules).unwrap();
    for (round, text) in ["first words", "second words", "third words"].into_iter().enumerate() {
        for name in ["chat:lobby", "chat:other"] {
            say(&writer, name, "ann", [text.to_owned()].into_iter());
        }
        wait_until("it has them", || count(&index, "words") == 2 * (round + 1));
    }
}

#[test]
fn channels_are_told_when_they_were_written() {
    let database = Database::new();
    let writer = ledger(&database);
    let moved = |since: u64| answer(|done| writer.moved(since, done)).unwrap();
    let names = |moved: &Moved| {
        let name = |standing: &Standing| (standing.channel.name.to_string(), standing.head);
        moved.channels.iter().map(name).collect::<Vec<_>>()
    };
    say(&writer, "chat:a", "ann", ["1".to_owned()].into_iter());
    wait_until("it is told", || names(&moved(0)) == [("chat:a".to_owned(), 1)]);
    say(&writer, "chat:b", "ann", ["1".to_owned(), "2".to_owned()].into_iter());
    wait_until("the other is told behind it", || {
        names(&moved(0)) == [("chat:a".to_owned(), 1), ("chat:b".to_owned(), 2)]
    });
    let now = moved(0);
    assert!(!now.more);
    assert!(names(&moved(now.until + 3_600_000)).is_empty());
}

#[test]
fn what_another_server_erases_is_left_in_no_file_of_the_index() {
    let (database, apps, folder) = (Database::new(), searched(), tempfile::tempdir().unwrap());
    let writer = ledger(&database);
    let index = index(folder.path(), &database, &apps);
    // FTS5 keeps of a word only what it has not in common with the one before it: so the canary stands between others.
    say(&writer, "chat:lobby", "bob", (0..50).map(|number| format!("message {number} b{number} d{number}")));
    say(&writer, "chat:lobby", "ann", [CANARY.to_owned()].into_iter());
    say(&writer, "@ann", "bob", [format!("for ann {CANARY}")].into_iter());
    wait_until("both are found", || count(&index, CANARY) == 2);
    wait_until("it lies there", || lies_in_index(folder.path(), CANARY));
    let ann = (app("demo"), user("ann"));
    answer(|done| writer.begin(&ann.0, &ann.1, 1, done)).unwrap();
    while !answer(|done| writer.step(&ann.0, &ann.1, done)).unwrap().ended {}
    answer(|done| writer.end(&ann.0, &ann.1, done)).unwrap();
    assert_eq!(count(&index, CANARY), 0);
    wait_until("it is gone", || !lies_in_index(folder.path(), CANARY));
    assert_eq!(count(&index, "message"), 50);
}
