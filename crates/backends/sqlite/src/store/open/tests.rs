use std::path::PathBuf;
use std::sync::Arc;

use xpush_core::Kind;
use xpush_core::Retention;
use xpush_core::ports::markers::{Conversation, Markers};
use xpush_core::ports::message_log::{Appended, MessageLog, Page, Range};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{channel, draft, user};
use xpush_testkit::suite::answer;

use super::*;
use crate::Ledger;
use crate::store::Store;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1.db")
}

/// A file as version 1 has left it. Made once, with `cargo test -p xpush-sqlite -- --ignored`, and never again: later schemas must read what is there.
#[test]
#[ignore = "writes the fixture"]
fn make_version_1() {
    let file = Connection::open(fixture()).unwrap();
    file.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL;").unwrap();
    file.execute_batch(SCHEMA[0]).unwrap();
    file.execute_batch(
        "UPDATE meta SET value = 42 WHERE key = 'epoch';
        INSERT INTO channels (id, app, name, head, counted, bytes, placed, active, newest, moves)
            VALUES (1, 'demo', 'chat:a', 4, 2, 40, 1767225600000, 1767225600000, 2, 2);
        INSERT INTO slots VALUES
            ((1 << 36) | 1, 1767225600000, 0, 0, 0, NULL, (1 << 36) | 3, NULL, x'01', 'ann', '1', 1767225600000, 'message', 'Ann', NULL, NULL),
            ((1 << 36) | 2, 1767225600000, 1, 10, 0, NULL, (1 << 36) | 4, 1, x'02', 'ann', '2', 1767225600000, 'message', NULL, NULL, NULL),
            ((1 << 36) | 3, 1767225600000, 2, 20, 2, (1 << 36) | 1, NULL, NULL, x'03', 'ann', '3', 1767225600000, 'message', NULL, x'2233', NULL),
            ((1 << 36) | 4, 1767225600000, 2, 30, 3, (1 << 36) | 2, NULL, NULL, x'04', 'ann', '4', 1767225600000, 'message', NULL, x'6e756c6c', NULL);
        INSERT INTO markers VALUES (1, 'ann', 'demo', 2, 2, 1, 1767225600000), (1, 'bob', 'demo', 1, 0, 2, 1767225600000);
        PRAGMA user_version = 1;",
    )
    .unwrap();
    file.pragma_update(None, "application_id", APPLICATION).unwrap();
}

#[test]
fn an_older_file_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xpush.db");
    std::fs::copy(fixture(), &path).unwrap();
    let version = |path: &Path| check_header(&Connection::open(path).unwrap()).unwrap();
    assert_eq!(version(&path), 1);
    let store = Store::open(&path, Options::default()).unwrap();
    assert_eq!(version(&path), SCHEMA.len() as i64);

    let ledger = Ledger::new(store, Arc::new(ManualClock::new())).unwrap();
    let channel = channel("chat:a");
    let page: Page = answer(|done| ledger.read(&channel, Range::After(0), 10, done)).unwrap();
    assert_eq!((page.epoch.0, page.first, page.head), (42, 1, 4));
    let read: Vec<_> = page
        .messages
        .iter()
        .map(|message| {
            let revision = message.revision.map(|revision| (revision.seq, revision.deleted));
            (message.kind, &*message.payload.json, revision)
        })
        .collect();
    let expected: [(Kind, &[u8], _); 4] = [
        (Kind::Message, b"\"3", Some((3, false))),
        (Kind::Message, b"null", Some((4, true))),
        (Kind::Edit { target: 1 }, b"\"3", None),
        (Kind::Delete { target: 2 }, b"null", None),
    ];
    assert_eq!(read, expected);
    let list = |done| ledger.conversations(&channel.app, &user("bob"), None, 10, done);
    let told: Vec<Conversation> = answer(list).unwrap();
    assert_eq!((told.len(), told[0].unread, told[0].marker.delivered), (1, 1, 1));
    let appended: Appended =
        answer(|done| ledger.append(&channel, Retention::ENDLESS, vec![draft("ann", "5")], done)).unwrap();
    assert_eq!(appended.taken[0].as_ref().map(|placed| placed.message.seq()), Ok(5));
}

#[test]
fn a_newer_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xpush.db");
    drop(Store::open(&path, Options::default()).unwrap());
    let newer = SCHEMA.len() as i64 + 1;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", newer).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path, Options::default()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found, .. } if found == newer));
    assert!(error.to_string().contains("later release"), "{error}");
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn what_is_not_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE precious (n)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(&path, Options::default()), Err(OpenError::Foreign)));
    assert!(std::fs::read(&path).unwrap() == before);
    std::fs::write(&path, "a text that is no database").unwrap();
    assert!(matches!(Store::open(&path, Options::default()), Err(OpenError::Sqlite(_))));
}

#[test]
fn several_may_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xpush.db");
    std::thread::scope(|scope| {
        let open = || Store::open(&path, Options::default()).map(drop);
        let opened = [0; 6].map(|_| scope.spawn(open));
        for opened in opened {
            opened.join().unwrap().unwrap();
        }
    });
    let stores: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM meta WHERE key = 'store'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(stores, 1);
}
