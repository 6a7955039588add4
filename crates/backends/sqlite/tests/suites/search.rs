//! The index keeps the port's contract; it goes on after a crash, and nothing that was withdrawn is left in its files.

use std::path::Path;
use std::sync::{Arc, Mutex};

use xpush_core::access::Apps;
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::message_log::{Draft, MessageLog};
use xpush_core::ports::search::{Places, Search, Wanted};
use xpush_core::search::Query;
use xpush_core::{Clock, Kind, Retention};
use xpush_sqlite::{Ledger, Options, Rules, SearchIndex, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft_with, user};
use xpush_testkit::service::wait_until;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::search::SearchStore;

/// A store's ledger and its index. The index ends first.
struct Opened {
    index: Arc<SearchIndex>,
    ledger: Arc<Ledger>,
    apps: Arc<Mutex<Arc<Apps>>>,
}

fn ledger(folder: &Path) -> Arc<Ledger> {
    let store = Store::open(folder.join("xpush.db"), Options::default()).unwrap();
    Arc::new(Ledger::new(store, Arc::new(ManualClock::new()) as Arc<dyn Clock>).unwrap())
}

fn open(folder: &Path) -> Opened {
    let (ledger, held) = (ledger(folder), Arc::new(Mutex::new(SearchStore::apps(true))));
    let rules: Rules = {
        let held = held.clone();
        Arc::new(move || held.lock().unwrap().clone())
    };
    let index = SearchIndex::open(folder.join("search.db"), ledger.clone(), Some(rules)).unwrap();
    Opened { index: Arc::new(index), ledger, apps: held }
}

fn store() -> SearchStore {
    let folder = tempfile::tempdir().unwrap();
    let Opened { index, ledger, apps } = open(folder.path());
    SearchStore {
        search: index,
        log: ledger.clone(),
        erasure: ledger,
        rule: Box::new(move |rules| *apps.lock().unwrap() = rules),
        keeps: Box::new(folder),
    }
}

xpush_testkit::search_suite!(store);

const CANARY: &str = "canary4711";

fn append(ledger: &Ledger, drafts: Vec<Draft>) {
    let lobby = channel("chat:lobby");
    let appended = answer(|done| ledger.append(&lobby, Retention::ENDLESS, drafts, done)).unwrap();
    assert!(appended.failure.is_none() && appended.taken.iter().all(Result::is_ok), "{appended:?}");
}

fn say(ledger: &Ledger, from: &str, texts: impl Iterator<Item = String>) {
    append(ledger, texts.map(|text| draft_with(from, &text, &format!("{text:?}"))).collect());
}

fn count(index: &SearchIndex, query: &str) -> usize {
    let mut wanted = Wanted {
        app: app("demo"),
        places: Places::All,
        query: Query::parse(query).unwrap(),
        before: None,
        limit: 100,
    };
    let mut count = 0;
    loop {
        let page = answer(|done| index.search(wanted.clone(), done)).unwrap();
        count += page.hits.len();
        wanted.before = page.before;
        if page.before.is_none() {
            return count;
        }
    }
}

/// Whether a file of the index holds the text.
fn lies_in_index(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let index = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("search.db"));
    index
        .map(|path| std::fs::read(path).unwrap())
        .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// FTS5 keeps of a word only what it has not in common with the one before it: so the canary stands between others.
fn surroundings() -> impl Iterator<Item = String> {
    (0..2_000).map(|number| format!("message {number} b{number} d{number}"))
}

#[test]
fn what_is_withdrawn_is_left_in_no_file_of_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { index, ledger, .. } = open(folder.path());
    say(&ledger, "ann", surroundings().chain([CANARY.to_owned(), format!("edited {CANARY}")]));
    say(&ledger, "bob", std::iter::once(format!("of bob {CANARY}")));
    wait_until("all are indexed", || count(&index, CANARY) == 3 && count(&index, "message") == 2_000);
    wait_until("it lies there", || lies_in_index(folder.path(), CANARY));
    let changes = [
        Draft { kind: Kind::Delete { target: 2_001 }, ..draft_with("ann", "delete", "null") },
        Draft { kind: Kind::Edit { target: 2_002 }, ..draft_with("ann", "edit", "\"edited\"") },
    ];
    append(&ledger, changes.into());
    assert_eq!(count(&index, CANARY), 1);
    let (app, bob) = (app("demo"), user("bob"));
    answer(|done| ledger.begin(&app, &bob, 1, done)).unwrap();
    wait_until("bob is erased", || answer(|done| ledger.step(&app, &bob, done)).unwrap().ended);
    wait_until("nothing of it is left", || !lies_in_index(folder.path(), CANARY));
    assert_eq!((count(&index, "message"), count(&index, "edited")), (2_000, 1));
}

/// An operator's command beside the server, or without one.
#[test]
fn another_process_erases_and_the_index_follows() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    say(&server.ledger, "bob", std::iter::once(CANARY.to_owned()));
    wait_until("it is indexed", || count(&server.index, CANARY) == 1);
    let erase = || {
        let ledger = ledger(folder.path());
        let index = SearchIndex::open(folder.path().join("search.db"), ledger.clone(), None).unwrap();
        let (app, bob) = (app("demo"), user("bob"));
        answer(|done| ledger.begin(&app, &bob, 1, done)).unwrap();
        wait_until("bob is erased", || answer(|done| ledger.step(&app, &bob, done)).unwrap().ended);
        answer(|done| ledger.end(&app, &bob, done)).unwrap();
        index.close();
    };
    erase();
    assert_eq!(count(&server.index, CANARY), 0);
    say(&server.ledger, "bob", std::iter::once(format!("{CANARY} again")));
    wait_until("it is indexed", || count(&server.index, "again") == 1);
    drop(server);
    erase();
    assert!(!lies_in_index(folder.path(), CANARY));
}

#[test]
fn an_index_goes_on_where_it_stood_and_is_made_anew_when_it_is_missing_or_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.db");
    let first = open(folder.path());
    say(&first.ledger, "ann", surroundings());
    // Wherever it is by then.
    drop(first);
    let second = open(folder.path());
    wait_until("it has caught up", || count(&second.index, "message") == 2_000);
    drop(second);
    // What happens while nobody indexes.
    say(&ledger(folder.path()), "ann", std::iter::once("later".to_owned()));
    let third = open(folder.path());
    wait_until("it has caught up", || count(&third.index, "later") == 1);
    drop(third);
    std::fs::write(&path, "this is no index").unwrap();
    let fourth = open(folder.path());
    wait_until("it is made anew", || count(&fourth.index, "message") == 2_000);
    drop(fourth);
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(&path, other.path().join("search.db")).unwrap();
    let other = open(other.path());
    say(&other.ledger, "ann", std::iter::once("message of another store".to_owned()));
    wait_until("it is indexed", || count(&other.index, "another") == 1);
    assert_eq!(count(&other.index, "message"), 1);
}

#[test]
fn an_answer_comes_in_time_however_much_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { index, ledger, .. } = open(folder.path());
    let long = "a ".repeat(4_000);
    append(&ledger, (0..500).map(|id| draft_with("ann", &id.to_string(), &format!("\"{long}\""))).collect());
    wait_until("all are indexed", || count(&index, "from:ann") == 500);
    let hostile = format!("\"{}b\"", "a ".repeat(60));
    let asked = std::time::Instant::now();
    let wanted = Wanted {
        app: app("demo"),
        places: Places::All,
        query: Query::parse("a from:ann").unwrap(),
        before: None,
        limit: 1_000,
    };
    answer(|done| index.search(wanted.clone(), done)).unwrap();
    let query = Query::parse(&hostile).unwrap();
    answer(|done| index.search(Wanted { query, ..wanted }, done)).unwrap();
    assert!(asked.elapsed() < std::time::Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn an_index_follows_while_others_publish_without_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { index, ledger, .. } = open(folder.path());
    let (mut appended, mut batches) = (0, 0);
    // It rests for longer than it works, and is never starved: what was said first is found while there is always something new.
    wait_until("the first ones are found", || {
        say(&ledger, "ann", (0..200).map(|number| format!("batch{batches} number{number}")));
        (appended, batches) = (appended + 200, batches + 1);
        count(&index, "batch0 number0") == 1
    });
    let newest = format!("batch{} number199", batches - 1);
    wait_until("the last one is found", || count(&index, &newest) == 1);
    assert_eq!(count(&index, "batch0"), 200);
    // What comes while it is closed it takes in behind the next start.
    index.close();
    drop((index, ledger));
    let ledger = self::ledger(folder.path());
    say(&ledger, "ann", (0..2_000).map(|number| format!("meanwhile number{number}")));
    drop(ledger);
    let Opened { index, .. } = open(folder.path());
    wait_until("it has caught up", || count(&index, "meanwhile") == 2_000);
    assert_eq!(count(&index, "batch0"), 200);
}
