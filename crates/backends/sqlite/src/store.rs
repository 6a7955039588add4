//! The file: one writer with group commit, readers beside it, checkpoints behind it.
//!
//! - **Durable**: `Done` is called after the commit that holds the job is on disk (write-ahead log, `synchronous=FULL`).
//! - **Group commit**: the writer takes everything that waits and commits once. While a commit waits for the disk the next ones gather,
//!   so batches grow with the load and an idle store answers after one sync.
//! - **Visible**: what was answered is seen by every later read, through every `Store` on the file, in this process and in others.
//! - **Bounded**: more than [`Options::queue`] waiting is [`Failure::Overloaded`].
//! - **Full disk**: [`Failure::Full`], at once; reads go on, and writes, too, when there is room again.
//! - **A failed sync ends the process**: the kernel may have dropped the pages that it could not write, and a second sync that succeeds
//!   says nothing of them. After a restart the file itself tells what it holds.

mod batch;
mod checkpoint;
mod fault;
mod metrics;
mod open;
mod queue;
mod readers;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use xpush_core::ports::{Done, Failure, PortError, wait};

use crate::lock;
use batch::{Call, Queued};
use checkpoint::Checkpoints;
use metrics::Metrics;
pub(crate) use queue::{Queue, Taken};

pub(crate) use batch::Attendant;
pub use batch::Writing;
pub use fault::Fault;
pub(crate) use fault::is_sync_failure;
pub use open::OpenError;
pub(crate) use open::{check_header, connect, connect_and_migrate, lock_path, make_private, take_part};

/// What is called when nothing that the disk says can be trusted any more. It is not expected to return.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Threads that read, at least 1.
    pub readers: usize,
    /// What may wait to be written.
    pub queue: Weight,
    /// How long another process may hold the file before a write is refused.
    pub patience: Duration,
    /// SQLite's file system, when it is not the system's own.
    pub vfs: Option<Box<str>>,
    /// Only tests that look for lost messages say anything but `Full`.
    pub synchronous: Synchronous,
    /// At most so many pages of 4 kB; for tests of a full disk.
    pub max_pages: Option<u32>,
    /// Messages of which only memory knows that they have their places, so that a retry is found: from this number on they are entered in the file's table, in order. 70 bytes each, and up
    /// to twice as many while that is done.
    pub recent_fences: usize,
    /// Called when a sync has failed.
    pub fatal: Fatal,
}

/// When SQLite waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Before each commit is answered.
    Full,
    /// Never. What was acknowledged can be lost.
    Off,
}

/// What a write takes of the queue and of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Rows, about.
    pub rows: usize,
    /// Bytes.
    pub bytes: usize,
}

/// The file, open. Closed by [`close`](Self::close), or when the last owner lets it go.
pub struct Store {
    shared: Arc<Shared>,
    path: PathBuf,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held shared as long as the store is open: who restores takes it alone.
    in_use: Mutex<Option<File>>,
}

/// What a reader runs: with its connection, or because there is none.
type Reading = Box<dyn FnOnce(Result<&Connection, PortError>) + Send>;

/// What the threads share.
struct Shared {
    writes: Queue<Queued>,
    reads: Queue<Reading>,
    checkpoints: Checkpoints,
    metrics: Metrics,
    attendants: Mutex<Vec<Box<dyn Attendant>>>,
    patience: Duration,
    recent_fences: usize,
    fatal: Fatal,
    /// A sync has failed: nothing is written any more.
    dead: AtomicBool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 3,
            queue: Weight { rows: 64_000, bytes: 256 << 20 },
            // A write may wait twice: for its batch, and for the one before. Together they stay below 2 s.
            patience: Duration::from_millis(900),
            vfs: None,
            synchronous: Synchronous::Full,
            max_pages: None,
            recent_fences: 50_000,
            fatal: Arc::new(end_process),
        }
    }
}

impl Weight {
    /// Of a write of one small row.
    pub const SMALL: Self = Self { rows: 1, bytes: 256 };
    /// Of everything that a batch takes: enough to make the sync cheap beside it, and few enough to be answered soon.
    const BATCH: Self = Self { rows: 4000, bytes: 8 << 20 };
}

impl Store {
    /// Opens the file, makes it when there is none, and brings an older one up to date.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Arc<Self>, OpenError> {
        let path = path.as_ref().to_owned();
        let in_use = take_part(&path)?;
        let writer = open::connect_and_migrate(&path, &options)?;
        let readers = (0..options.readers.max(1)).map(|_| open::connect_reader(&path, &options));
        let readers = readers.collect::<Result<Vec<_>, _>>()?;
        let keeper = connect(&path, &options)?;
        let shared = Arc::new(Shared {
            writes: Queue::new(options.queue),
            reads: Queue::new(options.queue),
            checkpoints: Checkpoints::default(),
            metrics: Metrics::new(),
            attendants: Mutex::default(),
            patience: options.patience,
            recent_fences: options.recent_fences,
            fatal: options.fatal,
            dead: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            spawned.map(|thread| threads.push(thread)).map_err(OpenError::Io)
        };
        let of = |shared: &Arc<Shared>| Arc::clone(shared);
        let writing = of(&shared);
        spawn("store-write", Box::new(move || writer::run(writer, &writing)))?;
        for reader in readers {
            let reading = of(&shared);
            spawn("store-read", Box::new(move || readers::run(&reader, &reading)))?;
        }
        let keeping = of(&shared);
        spawn("store-check", Box::new(move || checkpoint::run(&keeper, &keeping)))?;
        Ok(Arc::new(Self { shared, path, threads: Mutex::new(threads), in_use: Mutex::new(Some(in_use)) }))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends what the store counts to other metrics, all in OpenMetrics' text form: `xpush_store_commit_messages` and `xpush_store_commit_seconds`.
    pub fn add_metrics(&self, text: String) -> String {
        self.shared.metrics.add_to(text)
    }

    /// Runs `job` in a transaction, and `done` when it is on disk. A job that fails is undone alone; those committed with it are not touched.
    pub fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
        done: Done<T>,
    ) {
        self.queue(Weight::SMALL, true, job, done);
    }

    /// Like [`write`](Self::write), for jobs that change nothing before they know that they will succeed: they need no savepoint. One that fails nevertheless takes
    /// its whole batch with it.
    pub(crate) fn write_checked<T: Send + 'static>(
        &self,
        weight: Weight,
        job: impl FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
        done: Done<T>,
    ) {
        self.queue(weight, false, job, done);
    }

    /// Runs `job` on one of the readers, within one transaction: it sees one state of the file, with everything that was answered before.
    pub fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        done: Done<T>,
    ) {
        let run = |connection: Result<&Connection, PortError>| {
            let read = |connection| readers::in_transaction(connection, job).map_err(Fault::into_port);
            done(connection.and_then(read));
        };
        if let Err((refused, run)) = self.shared.reads.push(Box::new(run), Weight::SMALL) {
            run(Err(refused));
        }
    }

    /// [`read`](Self::read) for threads that may wait.
    pub(crate) fn read_now<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, PortError> {
        wait(|done| self.read(job, done))
    }

    /// [`write`](Self::write) for threads that may wait.
    pub(crate) fn write_now<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, PortError> {
        wait(|done| self.write(job, done))
    }

    /// Has `attendant` called by the writer from now on.
    pub(crate) fn attend(&self, attendant: Box<dyn Attendant>) {
        lock(&self.shared.attendants).push(attendant);
    }

    /// Takes nothing more, commits everything that waits, and empties the write-ahead log. Returns when that is done.
    pub fn close(&self) {
        self.shared.writes.close();
        self.shared.reads.close();
        self.shared.checkpoints.close();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let own = std::thread::current().id();
        for thread in threads {
            // The last owner may be a `Done`, which one of these threads calls.
            if thread.thread().id() != own && thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
        drop(lock(&self.in_use).take());
    }

    fn queue<T: Send + 'static>(
        &self,
        weight: Weight,
        isolated: bool,
        job: impl FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
        done: Done<T>,
    ) {
        let queued = Queued { job: Call::boxed(job, done), isolated };
        if let Err((refused, queued)) = self.shared.writes.push(queued, weight) {
            queued.job.end(Err(refused));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// The disk has lost something that it was told to keep.
    fn die(&self, what: &str) {
        self.dead.store(true, Ordering::SeqCst);
        (self.fatal)(what);
    }
}

/// Nothing can be promised any more: neither that what was acknowledged is kept, nor that what follows will be.
fn end_process(what: &str) {
    tracing::error!(
        what,
        "the disk has failed to keep what it was given; ending, so that a restart reads what it holds"
    );
    std::process::abort();
}

/// Nothing is taken any more.
fn closed() -> PortError {
    PortError::new(Failure::NotApplied, "the store is closed")
}
