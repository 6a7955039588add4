//! The ledger takes users out as the port's contract says, with two stores on one file; what is left of them in the file is nothing.

use std::path::Path;
use std::sync::Arc;

use xpush_core::ports::directory::{
    Change, Directory, Expected, Key, Listing, MemberRecord, Record, UserRecord,
};
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::markers::{Mark, Markers};
use xpush_core::ports::message_log::{Draft, MessageLog};
use xpush_core::ports::online::LastSeen;
use xpush_core::{Clock, Device, Kind, Retention, Sender};
use xpush_sqlite::{Ledger, Options, SqliteDirectory, SqliteLastSeen, Store, compact};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft_with, user};
use xpush_testkit::suite::answer;
use xpush_testkit::suite::erasure::{ErasureStore, a_change_that_is_forgotten_is_a_gap};

fn open(folder: &Path) -> Arc<Ledger> {
    let store =
        Store::open(folder.join("xpush.db"), Options { recent_fences: 3, ..Options::default() }).unwrap();
    Arc::new(Ledger::new(store, Arc::new(ManualClock::new()) as Arc<dyn Clock>).unwrap())
}

fn store() -> ErasureStore {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = [open(folder.path()), open(folder.path())];
    ErasureStore::of_ledgers(ledgers, Box::new(folder))
}

xpush_testkit::erasure_suite!(store);

#[test]
fn a_change_that_is_forgotten_is_a_gap_to_who_has_not_heard_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledgers = [open(folder.path()), open(folder.path())];
    let directories = [(); 2].map(|()| -> Arc<dyn Directory> {
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        Arc::new(SqliteDirectory::new(store))
    });
    let store = ErasureStore::of_ledgers(ledgers, Box::new(folder));
    a_change_that_is_forgotten_is_a_gap(&store, &directories);
}

/// In whatever the user says, is called by, and has.
const CANARY: &str = "canary-4711";
const USER: &str = "user-canary-4711";

fn append(ledger: &Ledger, name: &str, drafts: Vec<Draft>) {
    let appended = answer(|done| ledger.append(&channel(name), Retention::ENDLESS, drafts, done)).unwrap();
    assert!(appended.failure.is_none() && appended.taken.iter().all(Result::is_ok));
}

/// Whether the folder's files hold the text anywhere.
fn is_found(folder: &Path, text: &str) -> Vec<String> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text.as_bytes());
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let held = files.filter_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = holds(&bytes)?;
        let around = String::from_utf8_lossy(&bytes[at.saturating_sub(100)..bytes.len().min(at + 100)]);
        Some(format!("{} at {at:#x}: {around}", path.display()))
    });
    held.collect()
}

/// Every value of every table that has the text in it, whatever its type.
fn rows_with(folder: &Path, text: &str) -> Vec<String> {
    let file = rusqlite::Connection::open(folder.join("xpush.db")).unwrap();
    let names = |sql: &str| -> Vec<String> {
        let mut select = file.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let mut found = Vec::new();
    for table in names("SELECT name FROM sqlite_schema WHERE type = 'table'") {
        for column in names(&format!("SELECT name FROM pragma_table_info('{table}')")) {
            let sql = format!(
                "SELECT count(*) FROM {table} WHERE instr(CAST({column} AS BLOB), CAST(?1 AS BLOB)) > 0"
            );
            let count: i64 = file.query_row(&sql, [text], |row| row.get(0)).unwrap();
            if count > 0 {
                found.push(format!("{table}.{column}: {count}"));
            }
        }
    }
    found
}

/// Many rows, so that tables and indexes have split their pages meanwhile, and long ones, which have pages of their own.
fn write_of_the_user(folder: &Path) {
    let ledger = open(folder);
    for round in 0..40 {
        for name in ["chat:a", "chat:b"] {
            let said = |number: usize| {
                let from =
                    if number.is_multiple_of(3) { USER.to_owned() } else { format!("bob-{}", number % 7) };
                let text = if number.is_multiple_of(3) { CANARY } else { "something else" };
                let long = if number.is_multiple_of(30) { text.repeat(2_000) } else { text.to_owned() };
                let mut draft =
                    draft_with(&from, &format!("{text}-{round}-{number}"), &format!("\"{long}\""));
                draft.from = Sender { name: (number.is_multiple_of(3)).then(|| CANARY.into()), ..draft.from };
                draft
            };
            append(&ledger, name, (0..100).map(said).collect());
        }
        let edit = Draft {
            kind: Kind::Edit { target: 1 },
            ..draft_with(USER, &format!("e{round}"), &format!("\"{CANARY}\""))
        };
        append(&ledger, "chat:a", vec![edit]);
        append(
            &ledger,
            &format!("@{USER}"),
            vec![draft_with("bob", &format!("{round}"), &format!("\"to {CANARY}\""))],
        );
        append(&ledger, &format!("@{USER}/phone"), vec![draft_with("bob", &format!("{round}"), "1")]);
        append(
            &ledger,
            "$presence",
            vec![draft_with("$", &format!("{round}"), &format!("{{\"user\":\"{USER}\"}}"))],
        );
        answer(|done| ledger.advance(&channel(&format!("chat:{round}")), &user(USER), Mark::Read, 1, done))
            .unwrap();
    }
}

fn enter_the_user(directory: &dyn Directory) {
    let (app, user, bob) = (app("demo"), user(USER), user("bob"));
    let named = UserRecord { name: Some(CANARY.into()), ..UserRecord::default() };
    let phone = Device::new(&format!("phone-{CANARY}")).unwrap();
    let mut entries = vec![
        (Key::User(app.clone(), user.clone()), Record::User(Box::new(named))),
        (Key::Device(app.clone(), user.clone(), phone), Record::Device(Box::default())),
        (Key::Block(app.clone(), user.clone(), bob.clone()), Record::Block(7)),
        (Key::Block(app.clone(), bob, user.clone()), Record::Block(7)),
        (Key::Identity(app, "https://id.example".into(), CANARY.into()), Record::Identity(user.clone())),
    ];
    for number in 0..200 {
        let key = Key::Member(channel(&format!("room:{number}")), user.clone());
        entries.push((key, Record::Member(MemberRecord::default())));
    }
    for (key, record) in entries {
        let change = Change { key, expected: Expected::Any, to: Some(record) };
        answer(|done| directory.apply(change, done)).unwrap();
    }
}

fn remove_the_user(directory: &dyn Directory) {
    let (app, user) = (app("demo"), user(USER));
    let mut keys = vec![Key::User(app.clone(), user.clone())];
    for listing in Listing::of_user(&app, &user) {
        let page = answer(|done| directory.page(&listing, None, usize::MAX, done)).unwrap();
        assert!(matches!(listing, Listing::Logins(..)) || !page.is_empty(), "{listing:?}");
        keys.extend(page.into_iter().map(|entry| entry.key));
    }
    for key in keys {
        answer(|done| directory.apply(Change { key, expected: Expected::Any, to: None }, done)).unwrap();
    }
}

#[test]
fn nothing_of_the_user_is_left_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    write_of_the_user(folder.path());
    {
        let store =
            Store::open(folder.path().join("xpush.db"), Options { recent_fences: 3, ..Options::default() })
                .unwrap();
        enter_the_user(&SqliteDirectory::new(store.clone()));
        let seen = SqliteLastSeen::new(store);
        answer(|done| seen.note(vec![(app("demo"), user(USER), 7)], done)).unwrap();
    }
    for canary in [CANARY, USER] {
        assert!(!is_found(folder.path(), canary).is_empty(), "{canary} would be found");
    }
    {
        let store =
            Store::open(folder.path().join("xpush.db"), Options { recent_fences: 3, ..Options::default() })
                .unwrap();
        let ledger = Ledger::new(store.clone(), Arc::new(ManualClock::new()) as Arc<dyn Clock>).unwrap();
        answer(|done| Erasure::begin(&ledger, &app("demo"), &user(USER), 7, done)).unwrap();
        while !answer(|done| Erasure::step(&ledger, &app("demo"), &user(USER), done)).unwrap().ended {}
        remove_the_user(&SqliteDirectory::new(store));
        answer(|done| Erasure::end(&ledger, &app("demo"), &user(USER), done)).unwrap();
    }
    assert_eq!(rows_with(folder.path(), CANARY), Vec::<String>::new());
    compact(&folder.path().join("xpush.db")).unwrap();
    for canary in [CANARY, USER] {
        assert_eq!(is_found(folder.path(), canary), Vec::<String>::new(), "{canary}");
    }
    let ledger = open(folder.path());
    let page = answer(|done| {
        ledger.read(&channel("chat:a"), xpush_core::ports::message_log::Range::After(0), usize::MAX, done);
    })
    .unwrap();
    assert_eq!((page.first, page.head, page.messages.len()), (1, 4040, 4040));
}

#[test]
fn what_was_cut_short_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    write_of_the_user(folder.path());
    let done = {
        let ledger = open(folder.path());
        answer(|done| Erasure::begin(&*ledger, &app("demo"), &user(USER), 7, done)).unwrap();
        let step = answer(|done| Erasure::step(&*ledger, &app("demo"), &user(USER), done)).unwrap();
        assert!(step.erased > 0 && !step.ended);
        step.erased
    };
    let ledger = open(folder.path());
    let pending = answer(|done| ledger.pending(done)).unwrap();
    assert_eq!(pending.len(), 1);
    loop {
        let step = answer(|done| Erasure::step(&*ledger, &pending[0].app, &pending[0].user, done)).unwrap();
        assert!(step.erased >= done, "it goes on where it was");
        if step.ended {
            break;
        }
    }
    answer(|done| Erasure::end(&*ledger, &pending[0].app, &pending[0].user, done)).unwrap();
    assert_eq!(answer(|done| ledger.pending(done)).unwrap(), []);
    drop(ledger);
    assert_eq!(rows_with(folder.path(), CANARY), Vec::<String>::new());
}
