//! The search index: a file of its own beside the store, behind the write path; or beside no store, of a ledger that servers share.
//!
//! - **Follower**: one thread, of the lowest priority, goes over the ledger's channels from where it stands in each. The writer only notes which channels have changed; in a shared ledger the
//!   channels are compared again and again. How far it is stands in the
//!   index, in the same transactions as what was indexed: after a crash it goes on from there.
//! - **Candidates**: the index says where a query's words may be; what is told is read from the ledger, and compared with the query once more. So what was edited, withdrawn, or may not be
//!   read any more is never told, however far behind the index is.
//! - **Nothing lingers**: the index holds words that somebody may have withdrawn. Taken out, they are overwritten, in the index (FTS5's `secure-delete`), in the pages that it leaves, and in its
//!   write-ahead log. What erasures take out is noted in the ledger until that is done.
//! - **Expendable**: it can be made anew from the ledger, and is, when it is missing or of another store, as after a restore. So its commits do not wait for the disk, and backups leave it out.
//!
//! An index's document is a message. Its id is the time when it was published, and a number beneath it: the newest documents come first without being sorted.

mod find;
mod follow;
mod index;
mod shared;
mod source;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use xpush_core::access::Apps;
use xpush_core::ports::erasure::{Erasure, Pending, Step};
use xpush_core::ports::search::{Followed, Found, Search, Wanted};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, UnixMillis, User};

use self::shared::Shared;
use self::source::Source;
use crate::lock;
use crate::log::Ledger;
use crate::log::indexing::Due;
use crate::store::{OpenError, Queue, Weight};

/// Threads that look.
const READERS: usize = 2;

/// Questions that may wait.
const WAITING: usize = 64;

/// Which channels are searched: by the apps as they are.
pub type Rules = Arc<dyn Fn() -> Arc<Apps> + Send + Sync>;

/// A [`Search`] over a [`Ledger`], or over one that servers share.
pub struct SearchIndex {
    due: Arc<Due>,
    questions: Arc<Queue<Question>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Question {
    wanted: Wanted,
    done: Done<Found>,
}

impl SearchIndex {
    /// Opens the file, or makes it, and follows the ledger from now on. Without `rules` nothing is indexed anew and nothing can be found: what is erased is taken out, beside a server
    /// that may be running. To be opened once for each [`Ledger`].
    pub fn open(
        path: impl AsRef<Path>,
        ledger: Arc<Ledger>,
        rules: Option<Rules>,
    ) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let identity = ledger.identity().map_err(failed)?;
        let writer = index::open(path, identity, |_| Ok(false))?;
        Self::over(path, writer, ledger, rules)
    }

    /// The same of a ledger that servers share: each has an index of its own.
    pub fn open_shared(
        path: impl AsRef<Path>,
        ledger: Arc<dyn Followed>,
        rules: Rules,
    ) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let now = shared::now(&*ledger).map_err(failed)?;
        let writer = index::open(path, shared::identity(&*ledger), |file| shared::is_too_old(file, now))?;
        Self::over(path, writer, Arc::new(Shared::open(path, ledger, now)?), Some(rules))
    }

    fn over(
        path: &Path,
        writer: Connection,
        source: Arc<dyn Source>,
        rules: Option<Rules>,
    ) -> Result<Self, OpenError> {
        let due = Arc::new(Due::default());
        let questions = Arc::new(Queue::new(Weight { rows: WAITING, bytes: usize::MAX }));
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            spawned.map(|thread| threads.push(thread)).map_err(OpenError::Io)
        };
        for rules in rules.iter().flat_map(|rules| std::iter::repeat_n(rules, READERS)) {
            let mut reader = index::connect(path)?;
            let (source, rules, questions) = (source.clone(), rules.clone(), questions.clone());
            spawn("search-read", Box::new(move || find::run(&mut reader, &*source, &rules, &questions)))?;
        }
        let is_told = source.tell(due.clone()).map_err(failed)?;
        let news = due.clone();
        spawn("search-index", Box::new(move || follow::run(writer, &*source, is_told, &news, rules)))?;
        Ok(Self { due, questions, threads: Mutex::new(threads) })
    }

    /// Ends the threads; what is not indexed yet is at the next start. To be called before the store is closed.
    pub fn close(&self) {
        self.due.close();
        self.questions.close();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread of the search index has panicked");
            }
        }
    }
}

impl Drop for SearchIndex {
    fn drop(&mut self) {
        self.close();
    }
}

impl Search for SearchIndex {
    fn search(&self, wanted: Wanted, done: Done<Found>) {
        if let Err((refused, question)) = self.questions.push(Question { wanted, done }, Weight::SMALL) {
            let refused = match refused.kind {
                Failure::Overloaded => PortError::new(Failure::Overloaded, "too many searches wait"),
                _ => refused,
            };
            (question.done)(Err(refused));
        }
    }
}

/// A ledger with its index, to take users out of both.
pub struct IndexedErasure {
    /// The messages.
    pub ledger: Arc<Ledger>,
    /// What takes out of the index what is taken out of them.
    pub index: SearchIndex,
}

impl Erasure for IndexedErasure {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        self.ledger.begin(app, user, since, done);
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        self.ledger.pending(done);
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        self.ledger.step(app, user, done);
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        self.ledger.end(app, user, done);
    }
}

fn failed(error: PortError) -> OpenError {
    OpenError::Io(std::io::Error::other(error))
}

/// How long another process may hold the index.
const PATIENCE: Duration = Duration::from_secs(5);
