//! Ports take callbacks and tasks wait: the bridge between them.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{Code, Problem};

/// How long a store may take before what needs it is refused: it fails closed, soon.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts an operation now; the future waits for its answer. So several that were started together run together.
pub(crate) fn ask<T: Send + 'static>(
    start: impl FnOnce(Done<T>),
) -> impl Future<Output = Result<T, PortError>> + Send + 'static {
    ask_within(PATIENCE, start)
}

/// The same of what may take longer.
pub(crate) fn ask_within<T: Send + 'static>(
    patience: Duration,
    start: impl FnOnce(Done<T>),
) -> impl Future<Output = Result<T, PortError>> + Send + 'static {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |result| {
        // Who asked has given up when nobody listens any more.
        let _ = sender.send(result);
    }));
    async move {
        match timeout(patience, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PortError::new(Failure::Unknown, "the store has dropped the request")),
            Err(_) => Err(PortError::new(Failure::Unknown, "no answer from the store in time")),
        }
    }
}

/// What a client is told when a *reading* has failed: it had no effect, whatever happened to it.
pub(crate) fn unreadable(error: &PortError) -> Problem {
    tracing::debug!(%error, "the directory cannot be read");
    match error.kind {
        Failure::Overloaded => Code::Overloaded.into(),
        _ => Code::Unavailable.into(),
    }
}
