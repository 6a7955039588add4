//! A database, and how it is spoken to: with patience that ends, with bounds, and durably.

mod failure;
mod open;
mod options;

use std::future::{Future, IntoFuture};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::{CollectionOptions, ReadConcern};
use mongodb::{Collection, Database};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use xpush_core::ports::transfer::Origin;
use xpush_core::ports::{Done, Failure, PortError};

pub(crate) use failure::{Intent, coded, is_duplicate, is_duplicate_code, port_error};
pub use open::OpenError;
use open::What;
pub use options::Options;

/// Operations that wait for their turn, at most.
const WAITING: usize = 50_000;

/// Operations under way, for each connection: most of the time an operation waits for an answer.
const PER_CONNECTION: usize = 2;

/// A database of a MongoDB deployment. Its threads are its own, so callers need no runtime.
pub struct Store {
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
    database: Database,
    patience: Duration,
    /// What epochs are made from.
    epoch: u64,
    /// Where ledgers' clocks have been.
    left_at: u64,
    gone_back: bool,
    gate: Semaphore,
    waiting: AtomicUsize,
    started: Instant,
    /// When the server has answered last, ms since `started`.
    answered: AtomicU64,
}

/// A document of an `update` command.
#[derive(Clone)]
pub(crate) struct Update {
    pub(crate) filter: Document,
    pub(crate) change: Document,
    pub(crate) upsert: bool,
}

impl Store {
    /// Opens the database: makes or migrates what it needs. Blocks until that is done, or has failed.
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        Self::open_as(options, What::Server)
    }

    /// Opens a database that holds nothing, to be filled with what another store held ([`Import`](crate::Import)).
    pub(crate) fn fill(options: Options, origin: Origin) -> Result<Arc<Self>, OpenError> {
        Self::open_as(options, What::Import(origin))
    }

    /// Gives the database another epoch, for when what it holds is not what it held any more: a backup was restored, or a part is lost. Positions that clients
    /// hold are of another history then. Servers that are running go on with the old one, and must not. The new epoch.
    pub fn begin_epoch(options: Options) -> Result<u64, OpenError> {
        Self::open_as(options, What::Epoch).map(|store| store.epoch)
    }

    fn open_as(options: Options, what: What) -> Result<Arc<Self>, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("xpush-mongodb")
            .enable_all()
            .build()
            .map_err(OpenError::Io)?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let opening = options.clone();
        // Not `block_on`: the caller may be within a runtime of its own.
        runtime.spawn(async move { drop(sender.send(open::open(&opening, what).await)) });
        let opened = receiver.recv().map_err(|_| OpenError::Gone)??;
        Ok(Arc::new(Self {
            runtime: Some(runtime),
            database: opened.database,
            patience: options.patience,
            epoch: opened.epoch,
            left_at: opened.clock,
            gone_back: opened.gone_back,
            gate: Semaphore::new(options.connections as usize * PER_CONNECTION),
            waiting: AtomicUsize::new(0),
            started: Instant::now(),
            answered: AtomicU64::new(0),
        }))
    }

    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether somebody had seen, when this was opened, that the database holds less than it did in this epoch: it needs another one ([`Store::begin_epoch`]).
    pub const fn has_gone_back(&self) -> bool {
        self.gone_back
    }

    /// What epochs are made from, and how far the ledgers' clock is noted to have come.
    pub fn origin_now(self: &Arc<Self>, done: Done<Origin>) {
        let store = Arc::clone(self);
        self.run(done, async move {
            let meta = store.collection("meta");
            let number = |document: Option<Document>, field: &str| {
                document.and_then(|document| document.get_i64(field).ok()).map(|number| number as u64)
            };
            let epoch = number(store.read(meta.find_one(doc! { "_id": "store" })).await?, "epoch");
            let clock = number(store.read(meta.find_one(doc! { "_id": "clock" })).await?, "at");
            let gone =
                || PortError::new(Failure::NotApplied, "what is true of the database as a whole is gone");
            Ok(Origin { epoch: epoch.ok_or_else(gone)?, clock: clock.ok_or_else(gone)? })
        });
    }

    pub(crate) const fn left_at(&self) -> u64 {
        self.left_at
    }

    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    /// A collection as a majority has it: nothing that is read so is ever taken back.
    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// A collection as the primary has it at this moment: for what is decided by a write that fails when it is not so.
    pub(crate) fn latest(&self, name: &str) -> Collection<Document> {
        let mut options = CollectionOptions::default();
        options.read_concern = Some(ReadConcern::local());
        self.database.collection_with_options(name, options)
    }

    /// Runs an operation and tells its caller what became of it.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        done: Done<T>,
        operation: impl Future<Output = Result<T, PortError>> + Send + 'static,
    ) {
        let store = Arc::clone(self);
        self.spawn(async move {
            let result = match store.enter().await {
                Ok(_turn) => operation.await,
                Err(error) => Err(error),
            };
            done(result);
        });
    }

    /// Runs something in the background.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// Waits for a turn, as long as the server answers others.
    pub(crate) async fn enter(&self) -> Result<SemaphorePermit<'_>, PortError> {
        let full = || PortError::new(Failure::Overloaded, "too many operations wait for the server");
        let away = || PortError::new(Failure::NotApplied, "the server does not answer");
        if let Ok(turn) = self.gate.try_acquire() {
            return Ok(turn);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(full());
        }
        let asked = Instant::now();
        let entered = loop {
            let answered = self.started + Duration::from_millis(self.answered.load(Ordering::Relaxed));
            let until = asked.max(answered) + self.patience;
            if until <= Instant::now() {
                break Err(away());
            }
            if let Ok(turn) = timeout_at(until, self.gate.acquire()).await {
                break turn.map_err(|_| away());
            }
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        entered
    }

    /// One command that changes nothing.
    pub(crate) async fn read<T>(
        &self,
        command: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, PortError> {
        self.ask(command).await?.map_err(|error| port_error(Intent::Read, &error))
    }

    /// One command that changes something.
    pub(crate) async fn write<T>(
        &self,
        command: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, PortError> {
        match self.ask(command).await {
            Ok(answer) => answer.map_err(|error| port_error(Intent::Write, &error)),
            Err(error) => Err(PortError { kind: Failure::Unknown, ..error }),
        }
    }

    /// The server's answer, for those who want to know more of it.
    pub(crate) async fn ask<T>(
        &self,
        command: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<mongodb::error::Result<T>, PortError> {
        let Ok(answer) = timeout(self.patience, command.into_future()).await else {
            return Err(PortError::new(Failure::NotApplied, "the server has not answered in time"));
        };
        if answer.is_ok() {
            let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.answered.fetch_max(now, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// All that a query finds.
    pub(crate) async fn find(
        &self,
        find: mongodb::action::Find<'_, Document>,
    ) -> Result<Vec<Document>, PortError> {
        use futures_util::TryStreamExt as _;
        self.read(async { find.await?.try_collect().await }).await
    }

    /// What an aggregation answers.
    pub(crate) async fn gather(
        &self,
        aggregate: mongodb::action::Aggregate<'_>,
    ) -> Result<Vec<Document>, PortError> {
        use futures_util::TryStreamExt as _;
        self.read(async { aggregate.await?.try_collect().await }).await
    }

    /// Many updates in one command, in any order: how many documents were met. One that meets a unique key changes nothing, and that is no error.
    pub(crate) async fn update(&self, collection: &str, updates: Vec<Update>) -> Result<u64, PortError> {
        if updates.is_empty() {
            return Ok(0);
        }
        let updates: Vec<Document> = updates
            .into_iter()
            .map(|update| doc! { "q": update.filter, "u": update.change, "upsert": update.upsert })
            .collect();
        let command = doc! {
            "update": collection,
            "updates": updates,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let answer = self.write(self.database.run_command(command)).await?;
        if answer.contains_key("writeConcernError") {
            return Err(PortError::new(Failure::Unknown, "the write was not confirmed by a majority"));
        }
        let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        for error in errors.iter().filter_map(|error| error.as_document()) {
            let code = error.get_i32("code").unwrap_or_default();
            if !failure::is_duplicate_code(code) {
                return Err(failure::coded(Failure::Unknown, code));
            }
        }
        Ok(answer.get_i32("n").map_or(0, |met| u64::from(met.unsigned_abs())))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may be dropped by one of its own threads, which cannot wait for themselves.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `task` again and again, as long as the store is there.
pub(crate) fn attend<T: Send + Sync + 'static, F: Future<Output = ()> + Send>(
    store: &Store,
    subject: &Arc<T>,
    pause: Duration,
    task: impl Fn(Arc<T>) -> F + Send + Sync + 'static,
) {
    let subject: Weak<T> = Arc::downgrade(subject);
    store.spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
            let Some(subject) = subject.upgrade() else { return };
            task(subject).await;
        }
    });
}
