//! Ports take callbacks and tasks wait.

use tokio::sync::oneshot;
use xpush_core::ports::{Done, Failure, PortError};

/// What a port answers.
pub(crate) async fn ask<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Result<T, PortError> {
    let (sender, answer) = oneshot::channel();
    call(Box::new(move |result| drop(sender.send(result))));
    answer.await.unwrap_or_else(|_| Err(PortError::new(Failure::Unknown, "it has closed")))
}
