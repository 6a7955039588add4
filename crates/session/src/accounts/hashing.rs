//! One thread for passwords: whatever is asked of it, nobody else waits.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;
use xpush_core::{Code, Problem};

use super::password::Password;
use crate::api::Refusal;

/// Requests that wait; more are refused at once. About two seconds' work.
const QUEUE: usize = 32;

/// Seconds in which the queue has surely moved on.
const RETRY_AFTER: u64 = 2;

type Work = Box<dyn FnOnce() + Send>;

/// The thread's queue. The thread ends with it.
pub(crate) struct Hashing {
    queue: SyncSender<Work>,
}

impl Hashing {
    pub(crate) fn start() -> std::io::Result<Self> {
        Self::start_with(|work| work())
    }

    /// `each` does the work.
    pub(crate) fn start_with(
        each: impl Fn(Box<dyn FnOnce() + Send>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        thread::Builder::new().name("passwords".to_owned()).spawn(move || run(&work, each))?;
        Ok(Self { queue })
    }

    /// What is kept of a password.
    pub(crate) async fn digest(&self, password: Password) -> Result<Box<str>, Refusal> {
        Ok(self.work(move || password.digest()).await??)
    }

    /// Whether a password is the one that `digest` was made of. Takes as long without a digest.
    pub(crate) async fn matches(
        &self,
        password: Password,
        digest: Option<Box<str>>,
    ) -> Result<bool, Refusal> {
        self.work(move || password.matches(digest.as_deref())).await
    }

    /// Keeps the thread until the other end of `until` is dropped; it has begun to when this returns.
    #[cfg(test)]
    pub(crate) fn hold(&self, until: Receiver<()>) {
        let (begin, begun) = std::sync::mpsc::channel();
        let hold = move || {
            let _ = begin.send(());
            let _ = until.recv();
        };
        self.queue.send(Box::new(hold)).unwrap();
        begun.recv().unwrap();
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // Who has gone meanwhile is not worked for.
            if !answer.is_closed() {
                drop(answer.send(work()));
            }
        };
        match self.queue.try_send(Box::new(work)) {
            Ok(()) => answered.await.map_err(|_| Code::Internal.into()),
            Err(TrySendError::Full(_)) => Err(Refusal::busy(RETRY_AFTER)),
            Err(TrySendError::Disconnected(_)) => Err(Problem::from(Code::Internal).into()),
        }
    }
}

fn run(work: &Receiver<Work>, each: impl Fn(Work)) {
    // On Linux this is about the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "cannot lower the priority of the passwords' thread");
    }
    while let Ok(work) = work.recv() {
        each(work);
    }
}
