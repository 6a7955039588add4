//! One thread for passwords: whatever is asked of it, nobody else waits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use xpush_core::Code;

use super::failures::{Attempt, Failures};
use super::password::{Memory, Password};
use crate::api::Refusal;

/// Requests that wait; more are refused at once. About two seconds' work.
const QUEUE: usize = 32;

/// Seconds in which the queue has surely moved on.
const RETRY_AFTER: u64 = 2;

/// How long the memory of the last one is kept for the next one.
const KEPT: Duration = Duration::from_secs(2);

/// Done with the thread's memory.
type Work = Box<dyn FnOnce(&mut Memory) + Send>;

/// The thread's queue. The thread ends with it.
pub(crate) struct Hashing {
    queue: Sender<Work>,
    seats: Arc<Semaphore>,
}

/// A place in the queue: who has none is refused before anything is looked up.
pub(crate) struct Seat(OwnedSemaphorePermit);

impl Hashing {
    pub(crate) fn start() -> std::io::Result<Self> {
        Self::start_with(|work, memory| work(memory))
    }

    /// `each` does the work.
    pub(crate) fn start_with(each: impl Fn(Work, &mut Memory) + Send + 'static) -> std::io::Result<Self> {
        let (queue, work) = channel();
        thread::Builder::new().name("passwords".to_owned()).spawn(move || run(&work, each))?;
        Ok(Self { queue, seats: Arc::new(Semaphore::new(QUEUE)) })
    }

    /// A place in the queue, if one is free.
    pub(crate) fn seat(&self) -> Result<Seat, Refusal> {
        self.seats.clone().try_acquire_owned().map(Seat).map_err(|_| Refusal::busy(RETRY_AFTER))
    }

    /// What is kept of a password.
    pub(crate) async fn digest(&self, password: Password) -> Result<Box<str>, Refusal> {
        Ok(self.work(self.seat()?, move |memory| password.digest_in(memory)).await??)
    }

    /// Whether a password is the one that `digest` was made of. Takes as long without a digest. Whether the attempt comes too early is asked once more when its turn has
    /// come, and what came of it is noted before the next one's: of many guesses at once no more are tried than one after the other.
    pub(crate) async fn guess(
        &self,
        seat: Seat,
        password: Password,
        digest: Option<Box<str>>,
        failures: Arc<Failures>,
        attempt: Attempt,
    ) -> Result<bool, Refusal> {
        let guess = move |memory: &mut Memory| {
            failures.check(&attempt)?;
            let matches = password.matches_in(digest.as_deref(), memory);
            match matches {
                true => failures.succeeded(&attempt),
                false => failures.failed(&attempt),
            }
            Ok(matches)
        };
        self.work(seat, guess).await?
    }

    /// Keeps the thread until the other end of `until` is dropped; it has begun to when this returns.
    #[cfg(test)]
    pub(crate) fn hold(&self, until: Receiver<()>) {
        let (begin, begun) = std::sync::mpsc::channel();
        let hold = move |_: &mut Memory| {
            let _ = begin.send(());
            let _ = until.recv();
        };
        self.queue.send(Box::new(hold)).unwrap();
        begun.recv().unwrap();
    }

    async fn work<T: Send + 'static>(
        &self,
        Seat(permit): Seat,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let work = move |memory: &mut Memory| {
            drop(permit);
            // Who has gone meanwhile is not worked for.
            if !answer.is_closed() {
                drop(answer.send(work(memory)));
            }
        };
        self.queue.send(Box::new(work)).map_err(|_| Code::Internal)?;
        answered.await.map_err(|_| Code::Internal.into())
    }
}

fn run(work: &Receiver<Work>, each: impl Fn(Work, &mut Memory)) {
    // On Linux this is about the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "cannot lower the priority of the passwords' thread");
    }
    let mut memory = Memory::default();
    loop {
        let next = if memory.is_empty() { work.recv().map_err(Into::into) } else { work.recv_timeout(KEPT) };
        match next {
            Ok(work) => each(work, &mut memory),
            Err(RecvTimeoutError::Timeout) => memory = Memory::default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
