//! Several nodes on one file, one of which is held up where it matters.

use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use xpush_core::ports::Done;
use xpush_core::ports::directory::LoginRecord;
use xpush_core::ports::message_log::{MessageLog, Range};
use xpush_core::{Device, Login, Retention};
use xpush_sqlite::{Ledger, Options, SqliteDirectory, Store as SqliteStore};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, channel, draft, user};

use super::*;

/// Which of a log's operations is held up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Step,
    End,
}

type Held = Box<dyn FnOnce() + Send>;

/// A log of which one operation begins only when the test says so.
struct HeldUp {
    log: Arc<Ledger>,
    at: Mutex<Option<At>>,
    held: Mutex<Option<Held>>,
    news: Notify,
}

impl HeldUp {
    fn pass(&self, at: At, operation: impl FnOnce(&Ledger) + Send + 'static) {
        if self.at.lock().unwrap().take_if(|held| *held == at).is_none() {
            return operation(&self.log);
        }
        let log = self.log.clone();
        *self.held.lock().unwrap() = Some(Box::new(move || operation(&log)));
        self.news.notify_one();
    }

    async fn is_held(&self) -> Held {
        loop {
            if let Some(held) = self.held.lock().unwrap().take() {
                return held;
            }
            self.news.notified().await;
        }
    }
}

impl Erasure for HeldUp {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        Erasure::begin(&*self.log, app, user, since, done);
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        self.log.pending(done);
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        let (app, user) = (app.clone(), user.clone());
        self.pass(At::Step, move |log| log.step(&app, &user, done));
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        let (app, user) = (app.clone(), user.clone());
        self.pass(At::End, move |log| Erasure::end(log, &app, &user, done));
    }
}

/// A node that takes its rounds when the test says so.
struct Node {
    core: Arc<Core>,
    lasting: Arc<HeldUp>,
    seen: Arc<tokio::sync::Mutex<Seen>>,
}

impl Node {
    fn new(folder: &Path, clock: &Arc<ManualClock>) -> Self {
        let store = SqliteStore::open(folder.join("xpush.db"), Options::default()).unwrap();
        let log = Arc::new(Ledger::new(store.clone(), clock.clone() as Arc<dyn Clock>).unwrap());
        let lasting =
            Arc::new(HeldUp { log, at: Mutex::default(), held: Mutex::default(), news: Notify::new() });
        let parts = Parts {
            directory: Arc::new(SqliteDirectory::new(store)),
            lasting: lasting.clone(),
            fleeting: Vec::new(),
            clock: clock.clone(),
        };
        Self { core: Arc::new(Core::new(parts)), lasting, seen: Arc::default() }
    }

    async fn begin(&self) {
        self.core.begin(&app("demo"), &user("ann")).await.unwrap();
    }

    fn starts_a_round(&self) -> JoinHandle<()> {
        let (core, seen) = (self.core.clone(), self.seen.clone());
        tokio::spawn(async move { core.round(&mut *seen.lock().await).await.unwrap() })
    }

    async fn round(&self) {
        self.starts_a_round().await.unwrap();
    }

    /// Its next round, held up there, and how it goes on.
    async fn held_up(&self, at: At) -> (JoinHandle<()>, Held) {
        *self.lasting.at.lock().unwrap() = Some(at);
        let round = self.starts_a_round();
        (round, self.lasting.is_held().await)
    }

    async fn get(&self) -> Option<Record> {
        self.core.store.get(&ann()).await.unwrap().map(|entry| entry.record)
    }

    async fn pending(&self) -> usize {
        ask(|done| self.lasting.pending(done)).await.unwrap().len()
    }

    async fn put(&self, key: Key, record: Record) {
        assert!(self.core.store.apply(key, Expected::Absent, Some(record)).await.unwrap(), "it is free");
    }

    /// Somebody new is called so, and has logged in.
    async fn registers(&self) -> Record {
        let now = self.core.clock.wall();
        let account =
            UserRecord { created_at: now, password: Some("a digest".into()), ..UserRecord::default() };
        let account = Record::User(Box::new(account));
        self.put(ann(), account.clone()).await;
        let login = LoginRecord {
            device: None,
            refresh: "digest".into(),
            previous: None,
            rotated_at: now,
            created_at: now,
            expires_at: now + 1,
        };
        self.put(
            Key::Login(app("demo"), user("ann"), Login::new("l1").unwrap()),
            Record::Login(Box::new(login)),
        )
        .await;
        self.put(phone(), Record::Device(Box::default())).await;
        account
    }

    async fn belongings(&self) -> usize {
        let mut count = 0;
        for listing in Listing::of_user(&app("demo"), &user("ann")) {
            count += self.core.store.all(&listing).await.unwrap().len();
        }
        count
    }

    async fn says(&self, id: &str) {
        let drafts = vec![draft("ann", id)];
        let said =
            ask(|done| self.lasting.log.append(&channel("chat:a"), Retention::ENDLESS, drafts, done)).await;
        assert!(said.unwrap().failure.is_none());
    }

    /// How many messages are hers.
    async fn messages(&self) -> usize {
        let page =
            ask(|done| self.lasting.log.read(&channel("chat:a"), Range::After(0), 100, done)).await.unwrap();
        page.messages.iter().filter(|message| message.from.user == user("ann")).count()
    }
}

struct World {
    nodes: [Node; 2],
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl World {
    /// Where Ann has an account, and has said something.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let nodes = [(); 2].map(|()| Node::new(folder.path(), &clock));
        nodes[0].registers().await;
        nodes[0].says("1").await;
        clock.advance(1);
        Self { nodes, clock, _folder: folder }
    }

    /// She is being erased, and her connections have ended.
    async fn settled() -> Self {
        let world = Self::new().await;
        world.nodes[0].begin().await;
        world.clock.advance(SETTLING);
        world
    }

    /// Its end comes, and nothing is left of it.
    async fn ends(&self) {
        self.goes_on().await;
        assert!(self.nodes[0].get().await.is_none());
        assert_eq!(self.nodes[0].pending().await, 0);
    }

    /// So much time that everything comes to its end.
    async fn goes_on(&self) {
        for _ in 0..4 {
            self.clock.advance(SETTLING);
            for node in &self.nodes {
                node.round().await;
            }
        }
    }
}

fn ann() -> Key {
    Key::User(app("demo"), user("ann"))
}

fn phone() -> Key {
    Key::Device(app("demo"), user("ann"), Device::new("phone").unwrap())
}

#[tokio::test]
async fn nothing_is_left_of_whom_two_nodes_erase() {
    let world = World::new().await;
    let [one, two] = &world.nodes;
    one.begin().await;
    assert_eq!(one.belongings().await, 0);
    tokio::join!(one.round(), two.round());
    assert_eq!((one.messages().await, one.pending().await), (1, 1), "its connections end first");
    for _ in 0..3 {
        world.clock.advance(SETTLING);
        tokio::join!(one.round(), two.round());
    }
    assert!(two.get().await.is_none());
    assert_eq!((two.messages().await, two.pending().await), (0, 0));
}

#[tokio::test]
async fn a_bar_that_one_has_removed_is_set_by_no_other() {
    let world = World::settled().await;
    let [one, two] = &world.nodes;
    one.round().await;
    two.round().await;
    assert!(one.get().await.is_none());
    // What every node has to hear of before it is forgotten.
    assert_eq!(one.pending().await, 1);
    world.clock.advance(HEARD);
    let (round, end) = one.held_up(At::End).await;
    two.round().await;
    end();
    round.await.unwrap();
    assert!(one.get().await.is_none());
    world.ends().await;
}

#[tokio::test]
async fn whoever_has_the_id_next_loses_nothing_to_one_who_is_late() {
    let world = World::settled().await;
    let [one, two] = &world.nodes;
    let (round, step) = two.held_up(At::Step).await;
    one.round().await;
    let account = one.registers().await;
    step();
    round.await.unwrap();
    assert!(one.get().await == Some(account.clone()), "the account is another's");
    assert_eq!(one.belongings().await, 2);
    world.goes_on().await;
    assert!(one.get().await == Some(account));
    assert_eq!((one.belongings().await, one.pending().await), (2, 0));
}

#[tokio::test]
async fn whoever_has_the_id_next_and_is_erased_at_once_is_erased_whole() {
    let world = World::settled().await;
    let [one, two] = &world.nodes;
    one.round().await;
    one.registers().await;
    one.says("2").await;
    two.begin().await;
    world.ends().await;
    assert_eq!((one.messages().await, one.belongings().await), (0, 0));
}

#[tokio::test]
async fn what_begins_while_the_last_one_ends_is_not_forgotten_with_it() {
    let world = World::settled().await;
    let [one, two] = &world.nodes;
    one.round().await;
    one.registers().await;
    world.clock.advance(HEARD);
    let (round, end) = one.held_up(At::End).await;
    two.begin().await;
    end();
    round.await.unwrap();
    assert_eq!(one.pending().await, 0, "the note went with the one before");
    world.ends().await;
}

#[tokio::test]
async fn what_was_cut_short_before_the_bar_goes_on() {
    let world = World::new().await;
    let [one, two] = &world.nodes;
    let (log, since) = (one.lasting.log.clone(), world.clock.wall());
    ask(|done| Erasure::begin(&*log, &app("demo"), &user("ann"), since, done)).await.unwrap();
    two.round().await;
    assert!(matches!(one.get().await, Some(Record::User(record)) if is_barred(&record)));
    world.ends().await;
    assert_eq!((one.messages().await, one.belongings().await), (0, 0));
}
