//! Uploads into a store that is late, as one of another machine may be.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Mutex;

use axum::body::Bytes;
use tokio::sync::Notify;
use xpush_core::message::Sender;
use xpush_core::ports::blobs::{Blobs, Opened};
use xpush_core::ports::files::FileListing;
use xpush_core::ports::{Done, Failure};
use xpush_core::{App, Clock as _, Role};
use xpush_sqlite::{Options, SqliteFiles, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::access::OpenAccess;

use super::*;
use crate::files::{in_process_decoder, round};

/// Contents that are there some time after their uploads were finished, whoever waits for that.
#[derive(Clone)]
struct Late(Arc<State>);

struct State {
    kept: Mutex<HashSet<String>>,
    /// What it answers before the content is there; `None`: nothing, until it is.
    fails: Option<Failure>,
    begun: Notify,
    goes_on: Notify,
    ended: Notify,
}

struct Sent(Arc<State>, String);

impl Blobs for Late {
    fn create(&self, id: &BlobId, _: u64, done: Done<Box<dyn Upload>>) {
        done(Ok(Box::new(Sent(self.0.clone(), id.to_string()))));
    }

    fn open(&self, _: &BlobId, _: Range<u64>, done: Done<Option<Opened>>) {
        done(Ok(None));
    }

    fn delete(&self, id: &BlobId, done: Done<()>) {
        self.0.kept.lock().unwrap().remove(&id.to_string());
        done(Ok(()));
    }
}

impl Upload for Sent {
    fn write(&mut self, _: Bytes, done: Done<()>) {
        done(Ok(()));
    }

    fn finish(self: Box<Self>, done: Done<u64>) {
        tokio::spawn(async move {
            let Self(state, name) = *self;
            let mut done = Some(done);
            if let Some(kind) = state.fails
                && let Some(done) = done.take()
            {
                done(Err(PortError::new(kind, "no answer")));
            }
            state.begun.notify_one();
            state.goes_on.notified().await;
            state.kept.lock().unwrap().insert(name);
            if let Some(done) = done.take() {
                done(Ok(1));
            }
            state.ended.notify_one();
        });
    }
}

struct World {
    filing: Arc<Filing>,
    late: Late,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(fails: Option<Failure>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("test.db"), Options::default()).unwrap();
        let clock = Arc::new(ManualClock::new());
        let late = Late(Arc::new(State {
            kept: Mutex::default(),
            fails,
            begun: Notify::new(),
            goes_on: Notify::new(),
            ended: Notify::new(),
        }));
        let filing = Arc::new(Filing::new(Parts {
            blobs: Arc::new(late.clone()),
            files: Arc::new(SqliteFiles::new(store)),
            access: Arc::new(OpenAccess::demo([])),
            clock: clock.clone(),
            uploads: 8,
            decoder: in_process_decoder(),
            pixels: 1,
        }));
        Self { filing, late, clock, _folder: folder }
    }

    /// Uploads five bytes, in a task of its own.
    fn upload(&self) -> tokio::task::JoinHandle<Result<FileRecord, Refusal>> {
        let filing = self.filing.clone();
        tokio::spawn(async move {
            let (app, user) = (App::new("demo").unwrap(), User::new("ann").unwrap());
            let rule = FileRule {
                channels: "*".into(),
                size: 99,
                types: vec!["*/*".into()],
                keep_ms: None,
                per_day: None,
            };
            let plan = Plan {
                channel: ChannelKey::new(app.clone(), Channel::new("room:1").unwrap()),
                owner: user.clone(),
                rule,
                name: None,
                largest: 99,
                bound: Bound::File,
            };
            let who = Arc::new(Grant {
                app,
                sender: Sender { user, name: None },
                device: None,
                guest: false,
                roles: vec![Role::new("server").unwrap()],
                capabilities: None,
                issued_at: 0,
                expires_at: None,
                login: None,
                info: None,
            });
            take(&filing, &plan, &who, &HeaderMap::new(), Body::from("hello")).await
        })
    }

    fn kept(&self) -> usize {
        self.late.0.kept.lock().unwrap().len()
    }

    async fn known(&self) -> Vec<FileRecord> {
        let listing = FileListing::OfApp(App::new("demo").unwrap());
        ask(|done| self.filing.parts.files.list(&listing, None, 9, done)).await.unwrap()
    }

    async fn swept(&self) -> usize {
        let Parts { blobs, files, .. } = &self.filing.parts;
        round(&**blobs, &**files, self.clock.wall()).await.unwrap()
    }

    /// What comes although nobody waits for it is known until it has come, and then it is swept.
    async fn comes_late_and_is_swept(&self) {
        for _ in 0..3_000 {
            if self.known().await.first().is_none_or(|file| file.size == 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.clock.advance(LATE - 1);
        assert_eq!(self.swept().await, 0, "something may still come");
        self.late.0.goes_on.notify_one();
        self.late.0.ended.notified().await;
        assert_eq!(self.kept(), 1);
        self.clock.advance(1);
        assert_eq!(self.swept().await, 1);
        assert_eq!((self.kept(), self.known().await), (0, Vec::new()));
    }
}

#[tokio::test]
async fn who_leaves_while_a_content_is_being_finished_leaves_nothing() {
    let world = World::new(None);
    let asked = world.upload();
    world.late.0.begun.notified().await;
    asked.abort();
    world.comes_late_and_is_swept().await;
}

#[tokio::test]
async fn a_content_that_comes_after_a_failure_is_not_left() {
    let world = World::new(Some(Failure::NotApplied));
    assert!(world.upload().await.unwrap().is_err());
    world.comes_late_and_is_swept().await;
}

#[tokio::test]
async fn what_is_finished_in_time_stays() {
    let world = World::new(None);
    world.late.0.goes_on.notify_one();
    let file = world.upload().await.unwrap().unwrap_or_else(|_| panic!("refused"));
    assert_eq!((file.state, file.size), (FileState::Ready, 5));
    world.clock.advance(DAY);
    assert_eq!((world.swept().await, world.kept(), world.known().await), (0, 1, vec![file]));
}
