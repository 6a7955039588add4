//! The port's contract, over two stores on one file.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::message_log::MessageLog;
use xpush_core::ports::outbox::{Claim, Item, MOST_WAITING, Outbox, Settlement, Tap, Then};
use xpush_core::{ChannelKey, Clock, Message, Retention};
use xpush_sqlite::{Ledger, Options, SqliteOutbox, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft, draft_with, user};
use xpush_testkit::suite::answer;
use xpush_testkit::suite::outbox::OutboxStore;

fn fixture() -> OutboxStore {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let open = || -> Arc<dyn Outbox> {
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        Arc::new(SqliteOutbox::new(store, Arc::clone(&clock) as Arc<dyn Clock>).unwrap())
    };
    let handles = [open(), open()];
    let pass = Box::new(move |ms| {
        let _kept = &folder;
        clock.advance(ms);
    });
    OutboxStore { handles, pass }
}

xpush_testkit::outbox_suite!(fixture);

/// Each message makes one piece of work, and those of `nobody` none.
struct Each;

impl Tap for Each {
    fn wants(&self, _: &ChannelKey) -> bool {
        true
    }

    fn became(&self, _: &ChannelKey, _: &Item, _: bool) {}

    fn work(&self, message: &Message) -> Vec<Item> {
        if message.from.user.as_str() == "nobody" {
            return Vec::new();
        }
        let data = std::str::from_utf8(&message.payload.json).unwrap();
        let body = format!(
            r#"{{"id":"e{}","type":"message","message":{{"data":{data},"from":{{"user":"{}"}}}}}}"#,
            message.seq(),
            message.from.user
        );
        vec![Item {
            queue: "hook/demo/main".into(),
            key: format!("c{}", message.channel.name).into(),
            body: Bytes::from(body),
        }]
    }
}

struct World {
    folder: tempfile::TempDir,
    ledger: Ledger,
    outbox: SqliteOutbox,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(folder)
    }

    fn on(folder: tempfile::TempDir) -> Self {
        Self::tapped(folder, Arc::new(Each))
    }

    fn tapped(folder: tempfile::TempDir, tap: Arc<dyn Tap>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
        let ledger = Ledger::new(store.clone(), clock.clone()).unwrap();
        ledger.tap(tap);
        Self { folder, ledger, outbox: SqliteOutbox::new(store, clock).unwrap() }
    }

    fn append(&self, to: &str, drafts: &[(&str, &str)]) {
        let drafts = drafts.iter().map(|(from, id)| draft(from, id)).collect();
        let appended = answer(|done| self.ledger.append(&channel(to), Retention::ENDLESS, drafts, done));
        assert_eq!(appended.unwrap().failure, None);
    }

    fn claims(&self) -> Vec<Claim> {
        answer(|done| self.outbox.claim("hook/demo/main", 99, 99, 10_000, done)).unwrap()
    }
}

fn texts(claim: &Claim) -> Vec<String> {
    claim.items.iter().map(|item| String::from_utf8(item.body.to_vec()).unwrap()).collect()
}

#[test]
fn what_a_message_makes_to_do_is_there_with_it_after_a_crash_and_once() {
    let world = World::new();
    world.append("a", &[("ann", "1"), ("nobody", "2"), ("ann", "3")]);
    // A retry has made its work before.
    world.append("a", &[("ann", "1")]);
    let copy = tempfile::tempdir().unwrap();
    for file in ["xpush.db-wal", "xpush.db"] {
        std::fs::copy(world.folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let after = World::on(copy);
    let claims = after.claims();
    assert_eq!(claims.len(), 1);
    let ids: Vec<_> = texts(&claims[0]).iter().map(|text| text[..12].to_owned()).collect();
    assert_eq!(ids, [r#"{"id":"e1","#, r#"{"id":"e3","#].map(|id| format!("{id}\"")));
}

#[test]
fn what_is_refused_makes_nothing_to_do() {
    let world = World::new();
    let mut edit = draft_with("ann", "x", "1");
    edit.kind = xpush_core::Kind::Edit { target: 7 };
    let appended = answer(|done| world.ledger.append(&channel("a"), Retention::ENDLESS, vec![edit], done));
    assert!(appended.unwrap().taken[0].is_err());
    assert!(world.claims().is_empty());
}

/// Each message makes two pieces of work, in queues of their own; one of them is too long when the message says so.
#[derive(Default)]
struct Two(Mutex<Vec<(Box<str>, bool)>>);

impl Tap for Two {
    fn wants(&self, _: &ChannelKey) -> bool {
        true
    }

    fn work(&self, message: &Message) -> Vec<Item> {
        let item = |queue: &str| {
            let long = queue.ends_with("other") && *message.payload.json == *b"\"long\"";
            let body = if long { Bytes::from(vec![b' '; (16 << 20) + 1]) } else { "{}".into() };
            Item { queue: queue.into(), key: "k".into(), body }
        };
        ["hook/demo/other", "hook/demo/main"].map(item).into()
    }

    fn became(&self, _: &ChannelKey, item: &Item, put: bool) {
        self.0.lock().unwrap().push((item.queue.clone(), put));
    }
}

#[test]
fn a_queue_that_is_full_takes_nothing_from_the_others() {
    let tap = Arc::new(Two::default());
    let world = World::tapped(tempfile::tempdir().unwrap(), tap.clone());
    world.append("a", &[("ann", "1")]);
    {
        let file = rusqlite::Connection::open(world.folder.path().join("xpush.db")).unwrap();
        let sql = "UPDATE outbox_queues SET waiting = ?1 WHERE name = 'hook/demo/other'";
        assert_eq!(file.execute(sql, [MOST_WAITING.cast_signed()]).unwrap(), 1);
    }
    world.append("a", &[("ann", "2")]);
    let claims = world.claims();
    assert_eq!(claims.iter().map(|claim| claim.items.len()).sum::<usize>(), 2);
    let (other, main) = (Box::<str>::from("hook/demo/other"), Box::<str>::from("hook/demo/main"));
    let became = |put| [(other.clone(), put), (main.clone(), true)];
    assert_eq!(*tap.0.lock().unwrap(), [became(true), became(false)].concat());
}

#[test]
fn what_is_too_long_takes_nothing_from_the_others() {
    let tap = Arc::new(Two::default());
    let world = World::tapped(tempfile::tempdir().unwrap(), tap.clone());
    let drafts = vec![draft_with("ann", "1", "\"long\"")];
    answer(|done| world.ledger.append(&channel("a"), Retention::ENDLESS, drafts, done)).unwrap();
    assert_eq!(world.claims().len(), 1);
    assert_eq!(tap.0.lock().unwrap().iter().map(|(_, put)| *put).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn what_waits_is_looked_through_in_steps_and_nothing_is_left_for_the_end() {
    let world = World::new();
    let event = |number: u32| {
        let user = if number.is_multiple_of(1_000) { "ann" } else { "bob" };
        let body = format!(r#"{{"id":"{number}","type":"online","user":"{user}"}}"#);
        Item { queue: "hook/demo/main".into(), key: "k".into(), body: body.into() }
    };
    answer(|done| world.outbox.put((0..5_001).map(event).collect(), done)).unwrap();
    answer(|done| world.ledger.begin(&app("demo"), &user("ann"), 0, done)).unwrap();
    let mut steps = 1;
    while !answer(|done| world.ledger.step(&app("demo"), &user("ann"), done)).unwrap().ended {
        steps += 1;
    }
    assert!(steps > 3, "{steps}");
    let claims = answer(|done| world.outbox.claim("hook/demo/main", 1, 9_999, 10_000, done)).unwrap();
    let all = texts(&claims[0]);
    assert_eq!(all.len(), 5_001);
    assert!(all.iter().all(|text| !text.contains("ann")));
    assert_eq!(all[5_000], r#"{"id":"5000","type":"erased"}"#);
    assert_eq!(all.iter().filter(|text| text.contains("erased")).count(), 6);
}

#[test]
fn who_is_erased_is_told_of_no_more() {
    let world = World::new();
    world.append("a", &[("ann", "canary"), ("bob", "2")]);
    world.append("@ann", &[("bob", "canary-to-ann")]);
    let personal = Item {
        queue: "hook/demo/main".into(),
        key: "uann".into(),
        body: Bytes::from_static(br#"{"id":"o","type":"online","user":"ann"}"#),
    };
    answer(|done| world.outbox.put(vec![personal], done)).unwrap();
    let claimed = answer(|done| world.outbox.claim("hook/demo/main", 1, 1, 10_000, done)).unwrap();
    answer(|done| world.ledger.begin(&app("demo"), &user("ann"), 0, done)).unwrap();
    while !answer(|done| world.ledger.step(&app("demo"), &user("ann"), done)).unwrap().ended {}
    answer(|done| world.ledger.end(&app("demo"), &user("ann"), done)).unwrap();
    // Whoever has claimed before settles what it claimed, and not what is behind it.
    let settled =
        Settlement { key: claimed[0].key.clone(), lease: claimed[0].lease, done: 1, then: Then::Release };
    assert_eq!(answer(|done| world.outbox.settle("hook/demo/main", vec![settled], done)), Ok(1));
    let claims = world.claims();
    let all: Vec<String> = claims.iter().flat_map(texts).collect();
    assert!(all.iter().any(|text| text.contains(r#""user":"bob""#)), "{all:?}");
    assert_eq!(all.iter().filter(|text| text.contains(r#""type":"erased""#)).count(), 2, "{all:?}");
    let keys = claims.iter().map(|claim| claim.key.to_string());
    for text in all.iter().cloned().chain(keys) {
        assert!(!text.contains("ann") && !text.contains("canary"), "{text}");
    }
}
