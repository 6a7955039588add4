//! Disks that are full or broken, many callers at once, and crashes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, Retention};
use xpush_sqlite::{Ledger, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{channel, draft, draft_with};
use xpush_testkit::suite::answer;

/// The disk's state is the process's.
static DISK: Mutex<()> = Mutex::new(());

struct Disk {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Disk {
    fn new() -> Self {
        let alone = DISK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self { folder: tempfile::tempdir().unwrap(), _alone: alone }
    }

    fn open(&self, options: Options) -> (Arc<Store>, Ledger) {
        let vfs = Some(xpush_volatile::register().unwrap().into());
        open(&self.folder.path().join("xpush.db"), Options { vfs, ..options })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        xpush_volatile::fill_disk(false);
        xpush_volatile::fail_syncs(false);
    }
}

fn open(path: &Path, options: Options) -> (Arc<Store>, Ledger) {
    let store = Store::open(path, options).unwrap();
    let ledger = Ledger::new(Arc::clone(&store), Arc::new(ManualClock::new())).unwrap();
    (store, ledger)
}

fn append(ledger: &Ledger, channel: &ChannelKey, drafts: Vec<Draft>) -> Result<Appended, PortError> {
    answer(|done| ledger.append(channel, Retention::ENDLESS, drafts, done))
}

fn all(ledger: &Ledger, channel: &ChannelKey) -> Page {
    answer(|done| ledger.read(channel, Range::After(0), usize::MAX, done)).unwrap()
}

fn one(id: usize) -> Vec<Draft> {
    vec![draft("ann", &id.to_string())]
}

#[test]
fn on_a_full_disk_writes_are_refused_until_there_is_room() {
    let disk = Disk::new();
    let (_store, ledger) = disk.open(Options::default());
    let channel = channel("chat:a");
    for id in 0..10 {
        append(&ledger, &channel, one(id)).unwrap();
    }
    xpush_volatile::fill_disk(true);
    for id in 10..20 {
        let start = Instant::now();
        assert_eq!(append(&ledger, &channel, one(id)).unwrap_err().kind, Failure::Full);
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(all(&ledger, &channel).head, 10, "reads go on");
    }
    xpush_volatile::fill_disk(false);
    // The same again: nothing of the refused ones was left, and no seq is missing.
    for id in 5..20 {
        let placed = append(&ledger, &channel, one(id)).unwrap().taken.remove(0).unwrap();
        assert_eq!((placed.message.seq(), placed.retry), (id as u64 + 1, id < 10));
    }
    assert_eq!(all(&ledger, &channel).messages.len(), 20);
}

#[test]
fn a_file_that_may_not_grow_refuses_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, ledger) =
        open(&folder.path().join("xpush.db"), Options { max_pages: Some(100), ..Options::default() });
    let channel = channel("chat:a");
    let large = |id: usize| vec![draft_with("ann", &id.to_string(), &"1".repeat(10_000))];
    let full = (0..1000).find(|id| append(&ledger, &channel, large(*id)).is_err()).unwrap();
    assert_eq!(append(&ledger, &channel, large(full)).unwrap_err().kind, Failure::Full);
    assert_eq!(all(&ledger, &channel).head, full as u64);
    // What leaves by retention makes room.
    let few = Retention { count: 2, ..Retention::ENDLESS };
    let small = |id: usize| answer(|done| ledger.append(&channel, few, one(id), done)).map(|_: Appended| ());
    assert!((2000..2100).any(|id| small(id).is_ok()));
    assert!((3000..3100).any(|id| append(&ledger, &channel, large(id)).is_ok()));
}

#[test]
fn a_failed_sync_ends_the_process_and_is_not_tried_again() {
    let disk = Disk::new();
    let ends = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&ends);
    let fatal = move |_: &str| {
        ended.fetch_add(1, Ordering::SeqCst);
    };
    let (store, ledger) = disk.open(Options { fatal: Arc::new(fatal), ..Options::default() });
    let channel = channel("chat:a");
    append(&ledger, &channel, one(1)).unwrap();
    xpush_volatile::fail_syncs(true);
    assert_eq!(append(&ledger, &channel, one(2)).unwrap_err().kind, Failure::Unknown);
    assert_eq!(ends.load(Ordering::SeqCst), 1);
    // Should the process live nevertheless: nothing is acknowledged any more, though syncs would succeed again.
    xpush_volatile::fail_syncs(false);
    assert_eq!(append(&ledger, &channel, one(3)).unwrap_err().kind, Failure::NotApplied);
    store.close();
    assert_eq!(ends.load(Ordering::SeqCst), 1);
}

#[test]
fn thousands_at_once_each_have_their_place() {
    const THREADS: usize = 8;
    const EACH: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xpush.db");
    let handles = [open(&path, Options::default()), open(&path, Options::default())];
    let channels = [channel("chat:a"), channel("chat:b")];
    let (sender, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sender, channels) = (sender.clone(), &channels);
            let ledger = &handles[thread % 2].1;
            scope.spawn(move || {
                for id in 0..EACH {
                    let sender = sender.clone();
                    let done = move |result: Result<Appended, PortError>| sender.send(result).unwrap();
                    let drafts = vec![draft("ann", &format!("{thread}-{id}"))];
                    ledger.append(&channels[id % 2], Retention::ENDLESS, drafts, Box::new(done));
                }
            });
        }
    });
    drop(sender);
    let mut places = BTreeSet::new();
    let mut refused = 0;
    for answer in answers {
        match answer {
            Ok(appended) => {
                let message = appended.taken.into_iter().next().unwrap().unwrap().message;
                assert!(
                    places.insert((message.channel.name.clone(), message.seq())),
                    "a place is given once"
                );
            }
            // Two writers take turns; on a machine that is busy one may have waited too long, and said so.
            Err(error) => {
                assert_eq!(error.kind, Failure::NotApplied, "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(places.len() + refused, THREADS * EACH);
    for channel in &channels {
        let page = all(&handles[0].1, channel);
        let acknowledged = places.iter().filter(|(name, _)| *name == channel.name).count();
        assert_eq!((page.head, page.messages.len()), (acknowledged as u64, acknowledged));
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (path, crashed) = (folder.path().join("xpush.db"), folder.path().join("crashed.db"));
    let (_store, ledger) = open(&path, Options::default());
    let channel = channel("chat:a");
    for id in 0..200 {
        append(&ledger, &channel, one(id)).unwrap();
        if id % 50 != 49 {
            continue;
        }
        // What the disk holds at this moment: the file, and the log that nobody has copied back.
        for ending in ["", "-wal"] {
            let name = |path: &Path| format!("{}{ending}", path.display());
            std::fs::copy(name(&path), name(&crashed)).unwrap();
        }
        let (_again, ledger) = open(&crashed, Options::default());
        let ids: Vec<String> =
            all(&ledger, &channel).messages.iter().map(|message| message.id.to_string()).collect();
        assert_eq!(ids, (0..=id).map(|id| id.to_string()).collect::<Vec<_>>());
        let again = append(&ledger, &channel, one(id)).unwrap().taken.remove(0).unwrap();
        assert!(again.retry, "and what was acknowledged is known");
    }
}
