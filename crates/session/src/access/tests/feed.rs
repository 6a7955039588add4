//! Much that changes at once.

use super::*;

/// Answers nothing that is read before so much is asked for, and tells of no change before it may.
struct Together {
    inner: Arc<dyn Directory>,
    tells: AtomicBool,
    waiting: Mutex<Vec<(Key, Done<Option<Entry>>)>>,
    many: usize,
}

impl Directory for Together {
    fn get(&self, key: &Key, done: Done<Option<Entry>>) {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.push((key.clone(), done));
        if waiting.len() >= self.many {
            for (key, done) in waiting.drain(..) {
                self.inner.get(&key, done);
            }
        }
    }

    fn page(&self, listing: &Listing, after: Option<Key>, limit: usize, done: Done<Vec<Entry>>) {
        self.inner.page(listing, after, limit, done);
    }

    fn apply(&self, change: Change, done: Done<u64>) {
        self.inner.apply(change, done);
    }

    fn changes(&self, since: u64, limit: usize, done: Done<Changes>) {
        match since == u64::MAX || self.tells.load(Ordering::SeqCst) {
            true => self.inner.changes(since, limit, done),
            false => done(Ok(Changes { next: since, ..Changes::default() })),
        }
    }
}

#[tokio::test]
async fn what_has_changed_is_read_together_and_told_in_order() {
    const MANY: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = open(&folder);
    let clock = Arc::new(ManualClock::new());
    let configured = Configured { apps: vec![(demo(), app([]))], default_app: None };
    let directory = Arc::new(Together {
        inner: open(&folder),
        tells: AtomicBool::new(false),
        waiting: Mutex::default(),
        many: MANY,
    });
    let access = DirectoryAccess::start(parts(directory.clone(), clock, configured)).await.unwrap();
    let ear = Arc::new(Ear::default());
    access.watch(ear.clone());
    let users: Vec<_> = (0..MANY).map(|number| user(&format!("u{number}"))).collect();
    for user in &users {
        let record = UserRecord { tokens_valid_from: 1, ..UserRecord::default() };
        let to = Some(Record::User(Box::new(record)));
        let change = Change { key: Key::User(demo(), user.clone()), expected: Expected::Any, to };
        ask(|done| elsewhere.apply(change, done)).await.unwrap();
    }
    directory.tells.store(true, Ordering::SeqCst);
    for user in &users {
        ear.hears(&revoked(user, 1)).await;
    }
}
