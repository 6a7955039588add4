//! Backups of a store in use, and restores.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xpush_core::Retention;
use xpush_core::ports::message_log::{Appended, MessageLog, Page, Range};
use xpush_sqlite::{CopyError, Ledger, OpenError, Options, Store, backup, restore};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{channel, draft};
use xpush_testkit::suite::answer;

struct Open {
    store: Arc<Store>,
    ledger: Ledger,
}

fn open(path: &Path) -> Open {
    let store = Store::open(path, Options::default()).unwrap();
    let ledger = Ledger::new(Arc::clone(&store), Arc::new(ManualClock::new())).unwrap();
    Open { store, ledger }
}

impl Open {
    fn append(&self, ids: impl IntoIterator<Item = u64>) {
        let drafts = ids.into_iter().map(|id| draft("ann", &id.to_string())).collect();
        let appended: Appended =
            answer(|done| self.ledger.append(&channel("chat:a"), Retention::ENDLESS, drafts, done)).unwrap();
        assert_eq!(appended.failure, None);
    }

    fn all(&self) -> Page {
        answer(|done| self.ledger.read(&channel("chat:a"), Range::After(0), usize::MAX, done)).unwrap()
    }
}

#[test]
fn a_backup_is_one_state_of_a_store_that_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, to) = (folder.path().join("xpush.db"), folder.path().join("copy.db"));
    let source = open(&path);
    for thousand in 0..20 {
        source.append(thousand * 1000..(thousand + 1) * 1000);
    }
    let (copied, mut seen) = (AtomicBool::new(false), Vec::new());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut id = 20_000;
            while !copied.load(Ordering::SeqCst) {
                source.append(id..id + 10);
                id += 10;
            }
        });
        backup(&path, &to, |progress| {
            assert!(!to.exists(), "not before it is whole");
            seen.push(progress);
        })
        .unwrap();
        copied.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
    assert!(seen.len() > 1 && seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    assert!(seen.last().is_some_and(|last| last.done == last.total && last.total > 0));

    let (now, copy) = (source.all(), open(&to).all());
    assert!(copy.head >= 20_000 && copy.head % 10 == 0);
    assert_eq!(copy.epoch, now.epoch);
    assert!(copy.messages[..] == now.messages[..copy.messages.len()]);
    assert_eq!(copy.messages.len() as u64, copy.head);
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let (path, to) = (folder.path().join("xpush.db"), folder.path().join("copy.db"));
    open(&path).append(1..=3);
    std::fs::write(&to, "precious").unwrap();
    assert!(matches!(backup(&path, &to, |_| {}), Err(CopyError::Exists(_))));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "precious");
    let nowhere = folder.path().join("none").join("copy.db");
    assert!(backup(&path, &nowhere, |_| {}).is_err());
    assert!(matches!(backup(&nowhere, &path, |_| {}), Err(CopyError::Missing(_))));
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("partial")));
}

#[test]
fn a_restored_store_has_what_the_backup_had_in_another_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("xpush.db"), folder.path().join("copy.db"));
    let source = open(&path);
    source.append(1..=3);
    let before = source.all();
    backup(&path, &copy, |_| {}).unwrap();
    source.append(4..=5);

    assert!(matches!(restore(&copy, &path, true, |_| {}), Err(CopyError::InUse)));
    source.store.close();
    assert!(matches!(restore(&copy, &path, false, |_| {}), Err(CopyError::Exists(_))));
    assert_eq!(open(&path).all().head, 5);
    restore(&copy, &path, true, |_| {}).unwrap();

    let restored = open(&path);
    let after = restored.all();
    assert_eq!((after.head, after.messages.len()), (3, 3));
    assert_ne!(after.epoch, before.epoch);
    for (after, before) in after.messages.iter().zip(&before.messages) {
        assert_eq!((after.seq(), &after.id, &after.payload), (before.seq(), &before.id, &before.payload));
    }
    // Again: no two restores have the same epoch.
    restored.store.close();
    restore(&copy, &path, true, |_| {}).unwrap();
    assert_ne!(open(&path).all().epoch, after.epoch);
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bad) = (folder.path().join("xpush.db"), folder.path().join("bad.db"));
    open(&path).append(1..=3);
    let refused = |what: &str| {
        let error = restore(&bad, &path, true, |_| {}).expect_err(what);
        assert_eq!(open(&path).all().head, 3, "{what}: what was there is there still");
        error
    };
    assert!(matches!(refused("no file"), CopyError::Missing(_)));
    std::fs::write(&bad, "").unwrap();
    assert!(matches!(refused("an empty file"), CopyError::Damaged(_)));
    std::fs::write(&bad, "not a database at all, but long enough to be taken for a header".repeat(50))
        .unwrap();
    refused("a text");

    std::fs::remove_file(&bad).unwrap();
    rusqlite::Connection::open(&bad).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    assert!(matches!(refused("another program's"), CopyError::Open(OpenError::Foreign)));

    std::fs::remove_file(&bad).unwrap();
    backup(&path, &bad, |_| {}).unwrap();
    rusqlite::Connection::open(&bad).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    assert!(matches!(refused("a later release's"), CopyError::Open(OpenError::Newer { found: 1000, .. })));

    std::fs::remove_file(&bad).unwrap();
    backup(&path, &bad, |_| {}).unwrap();
    let mut bytes = std::fs::read(&bad).unwrap();
    bytes[3 * 4096..5 * 4096].fill(0xa5);
    std::fs::write(&bad, bytes).unwrap();
    refused("a damaged one");
}
