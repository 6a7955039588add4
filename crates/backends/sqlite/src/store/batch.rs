//! What one transaction is made of.

use std::cell::Cell;
use std::ops::Deref;

use rusqlite::Connection;
use xpush_core::ports::{Done, PortError};

use super::Fault;

/// The writer's connection, within a transaction.
pub struct Writing<'a> {
    connection: &'a Connection,
    view: u64,
    messages: Cell<u64>,
    recent_fences: usize,
}

/// What lives in the writer beside the jobs.
pub(crate) trait Attendant: Send {
    /// Before a batch is committed.
    fn flush(&mut self, writing: &Writing<'_>) -> Result<(), Fault>;
    /// About once a second, within a transaction of its own; `flush` follows. True when there is more to do soon.
    fn sweep(&mut self, writing: &Writing<'_>) -> Result<bool, Fault>;
    /// What it flushed last is on disk.
    fn committed(&mut self) {}
}

/// A job, and what its caller waits for.
pub(super) struct Queued {
    pub(super) job: Box<dyn Job>,
    /// Whether it needs a savepoint.
    pub(super) isolated: bool,
}

pub(super) trait Job: Send {
    /// Runs, and keeps its result for `end`; a failure is told to the batch, too.
    fn run(&mut self, writing: &Writing<'_>) -> Result<(), PortError>;
    /// The batch is committed, or failed; the caller is told.
    fn end(self: Box<Self>, batch: Result<(), PortError>);
}

pub(super) struct Call<T, F> {
    job: Option<F>,
    result: Option<Result<T, PortError>>,
    done: Done<T>,
}

impl<'a> Writing<'a> {
    pub(super) const fn new(connection: &'a Connection, view: u64, recent_fences: usize) -> Self {
        Self { connection, view, messages: Cell::new(0), recent_fences }
    }

    /// See [`Options::recent_fences`](super::Options::recent_fences).
    pub(crate) const fn recent_fences(&self) -> usize {
        self.recent_fences
    }

    /// The transaction has so many messages more.
    pub(crate) fn placed(&self, messages: u64) {
        self.messages.set(self.messages.get() + messages);
    }

    /// Messages of the transaction.
    pub(super) const fn messages(&self) -> u64 {
        self.messages.get()
    }

    /// As long as it is the same, what an earlier job has read or written still holds: since then nothing was undone, and nobody else has written.
    pub(crate) const fn view(&self) -> u64 {
        self.view
    }

    /// Runs `steps`; what they take out is overwritten with zeros, the pages that it leaves included.
    pub(crate) fn without_a_trace<T>(&self, steps: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.pragma("PRAGMA secure_delete = ON")?;
        let done = steps();
        self.pragma("PRAGMA secure_delete = FAST")?;
        done
    }

    fn pragma(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.connection.prepare_cached(sql)?.query_row([], |_| Ok(()))?)
    }
}

impl Deref for Writing<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<T, F> Call<T, F>
where
    T: Send + 'static,
    F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
{
    pub(super) fn boxed(job: F, done: Done<T>) -> Box<dyn Job> {
        Box::new(Self { job: Some(job), result: None, done })
    }
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, writing: &Writing<'_>) -> Result<(), PortError> {
        let Some(job) = self.job.take() else { return Ok(()) };
        let result = job(writing).map_err(Fault::into_port);
        let failure = result.as_ref().err().cloned();
        self.result = Some(result);
        failure.map_or(Ok(()), Err)
    }

    fn end(self: Box<Self>, batch: Result<(), PortError>) {
        let result = match (self.result, batch) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(batch)) => Err(batch),
            (Some(result), Ok(())) => result,
            (None, Ok(())) => Err(super::closed()),
        };
        (self.done)(result);
    }
}
