//! The server is killed in the middle of appends and changes, again and again: what was acknowledged is there, once, in its place.
//!
//! Proved for the server that the tests run with (see docs/mongodb.md), and for the processes here whatever the server: that retries after every kind of broken
//! answer make neither holes nor doubles. Its files survive the kill in the page cache, so a missing sync of the server is not seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use xpush_core::ports::directory::{Change, Directory, Expected, Key, Record, UserRecord};
use xpush_core::ports::message_log::{Appended, MessageLog, Range};
use xpush_core::{ChannelKey, Retention};
use xpush_mongodb::{Ledger, MongoDirectory, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft, user};
use xpush_testkit::service::mongo::{Mongo, Product};
use xpush_testkit::suite::{PATIENCE, answer};

const CHANNELS: usize = 2;
const WRITERS: usize = 4;
const KILLS: usize = 3;

/// Messages acknowledged between two kills, at least.
const BETWEEN: usize = 60;

#[derive(Default)]
struct Acknowledged {
    /// By channel: ids and the seqs that were told.
    messages: Vec<(usize, String, u64)>,
    /// Keys and revisions.
    entries: Vec<(String, u64)>,
}

struct Load {
    stores: Vec<Arc<Store>>,
    over: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Load {
    /// Appends in batches; each batch is tried again until it is acknowledged, as clients do.
    fn write(&self, writer: usize) -> Acknowledged {
        let store = &self.stores[writer % self.stores.len()];
        let ledger = Ledger::new(Arc::clone(store), Arc::new(ManualClock::new()));
        let mut acknowledged = Acknowledged::default();
        let name = format!("writer{writer}");
        for round in 0.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let at = round % CHANNELS;
            let drafts: Vec<_> = (0..5).map(|place| draft(&name, &format!("{round}-{place}"))).collect();
            let mut wanted: BTreeSet<String> =
                drafts.iter().map(|draft| draft.id.as_str().to_owned()).collect();
            in_the_end("a batch is acknowledged", || {
                let drafts = drafts.clone();
                let appended = answer(|done| ledger.append(&key(at), Retention::ENDLESS, drafts, done));
                let Ok(Appended { taken, failure }) = appended else { return false };
                for placed in taken {
                    let message = placed.unwrap().message;
                    if wanted.remove(message.id.as_str()) {
                        let id = format!("{name} {}", message.id);
                        acknowledged.messages.push((at, id, message.seq()));
                        self.acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                }
                failure.is_none()
            });
        }
        acknowledged
    }

    fn change(&self) -> Acknowledged {
        let directory = MongoDirectory::new(Arc::clone(&self.stores[0]));
        let mut acknowledged = Acknowledged::default();
        for round in 0_u64.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let name = format!("u{}", round % 7);
            let record = UserRecord { tokens_valid_from: round, ..UserRecord::default() };
            in_the_end("a change is acknowledged", || {
                let to = Some(Record::User(Box::new(record.clone())));
                let change = Change { key: person(&name), expected: Expected::Any, to };
                let made = answer(|done| directory.apply(change, done));
                acknowledged.entries.extend(made.iter().map(|revision| (name.clone(), *revision)));
                made.is_ok()
            });
        }
        acknowledged
    }
}

/// Tries again until it succeeds, through restarts of the server on a machine that is busy.
fn in_the_end(what: &str, mut attempt: impl FnMut() -> bool) {
    let patient = Instant::now() + PATIENCE;
    let (_nobody, pause) = mpsc::channel::<()>();
    while !attempt() {
        assert!(Instant::now() < patient, "{what}: not within {PATIENCE:?}");
        let _ = pause.recv_timeout(Duration::from_millis(20));
    }
}

fn key(at: usize) -> ChannelKey {
    channel(&format!("chat:{at}"))
}

fn person(name: &str) -> Key {
    Key::User(app("demo"), user(name))
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed() {
    let mut server = Mongo::durable(Product::wanted());
    let open = || Store::open(Options::new(server.uri(), "xpush")).unwrap();
    let load = Load {
        stores: vec![open(), open()],
        over: AtomicBool::new(false),
        acknowledged: AtomicUsize::new(0),
    };
    let all = thread::scope(|scope| {
        let mut writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let load = &load;
                    move || load.write(writer)
                })
            })
            .collect();
        writers.push(scope.spawn(|| load.change()));
        for _ in 0..KILLS {
            let before = load.acknowledged.load(Ordering::SeqCst);
            in_the_end("there is load", || load.acknowledged.load(Ordering::SeqCst) >= before + BETWEEN);
            server.kill();
            server.restart();
        }
        let before = load.acknowledged.load(Ordering::SeqCst);
        in_the_end("there is load", || load.acknowledged.load(Ordering::SeqCst) >= before + BETWEEN);
        load.over.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let node = Store::open(Options::new(server.uri(), "xpush")).unwrap();
    judge_messages(&node, &all);
    judge_entries(&node, &all);
}

fn judge_messages(node: &Arc<Store>, all: &[Acknowledged]) {
    let ledger = Ledger::new(Arc::clone(node), Arc::new(ManualClock::new()));
    for at in 0..CHANNELS {
        let page = answer(|done| ledger.read(&key(at), Range::After(0), usize::MAX, done)).unwrap();
        let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq()).collect();
        assert_eq!(seqs, (1..=page.head).collect::<Vec<_>>(), "no hole");
        let mut there = HashMap::new();
        for message in &page.messages {
            let id = format!("{} {}", message.from.user, message.id);
            assert_eq!(there.insert(id.clone(), message.seq()), None, "{id} is there twice");
        }
        for (_, id, seq) in all.iter().flat_map(|one| &one.messages).filter(|(of, ..)| *of == at) {
            assert_eq!(there.get(id), Some(seq), "{id} was acknowledged");
        }
    }
}

fn judge_entries(node: &Arc<Store>, all: &[Acknowledged]) {
    let directory = MongoDirectory::new(Arc::clone(node));
    let mut newest = BTreeMap::new();
    for (name, revision) in all.iter().flat_map(|one| &one.entries) {
        newest.insert(name.clone(), *revision);
    }
    assert!(!newest.is_empty());
    for (name, revision) in newest {
        let entry = answer(|done| directory.get(&person(&name), done)).unwrap().unwrap();
        assert!(entry.revision >= revision, "{name}: {} came after {revision}", entry.revision);
    }
    let changes = answer(|done| directory.changes(0, usize::MAX, done)).unwrap();
    assert!(!changes.gap, "no number is missing");
}
