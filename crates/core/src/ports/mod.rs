//! The ports. Each trait's doc is its contract: ordering, delivery, atomicity, expiry.
//!
//! Ports know no runtime. A method that must wait takes a [`Done`]: it is called exactly once, from any thread, possibly before the
//! method returns. Shards never wait: their `Done` posts into the shard's inbox.

pub mod access;
pub mod backend;
pub mod blobs;
pub mod bus;
pub mod cluster;
pub mod directory;
pub mod erasure;
pub mod files;
pub mod forward;
pub mod hooks;
pub mod hosts;
pub mod inquiry;
pub mod lease;
pub mod markers;
pub mod message_log;
pub mod online;
pub mod outbox;
pub mod presence;
pub mod rate_limit;
pub mod search;
pub mod transfer;

use std::fmt;
use std::sync::mpsc;

use crate::error::Code;

/// What is called when an operation has ended. Exactly once; from any thread; perhaps before the call that took it has returned.
pub type Done<T> = Box<dyn FnOnce(Result<T, PortError>) + Send>;

/// Waits for an answer: on a thread that has nothing else to do, which is none of a shard's and none of a runtime's.
pub fn wait<T: Send + 'static>(ask: impl FnOnce(Done<T>)) -> Result<T, PortError> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |result| drop(sender.send(result))));
    receiver.recv().unwrap_or_else(|_| Err(PortError::new(Failure::Unknown, "the store has closed")))
}

/// What happened to an operation that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It had no effect; the backend cannot be reached or refuses.
    NotApplied,
    /// It may have had its effect: retry with the same id.
    Unknown,
    /// It had no effect; the backend has too much to do.
    Overloaded,
    /// It had no effect; the caller has been replaced by a newer one.
    Fenced,
    /// It had no effect; somebody else changed the same thing first.
    Conflict,
    /// It had no effect; it can never succeed.
    Invalid,
    /// It had no effect; there is no room.
    Full,
}

/// A failure, and what the backend says of it (for the log, never for clients).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortError {
    /// What happened.
    pub kind: Failure,
    /// The backend's words.
    pub detail: Box<str>,
}

impl PortError {
    /// A failure with the backend's words.
    pub fn new(kind: Failure, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// What a client is told.
    pub const fn code(&self) -> Code {
        match self.kind {
            Failure::NotApplied | Failure::Fenced | Failure::Conflict => Code::Unavailable,
            Failure::Unknown => Code::OutcomeUnknown,
            Failure::Overloaded => Code::Overloaded,
            Failure::Invalid => Code::BadRequest,
            Failure::Full => Code::Full,
        }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for PortError {}
