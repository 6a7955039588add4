//! What goes wrong between here and the server, and what callers are told of it.
//!
//! Nobody else's words are repeated: a server's may quote documents.

use std::io;

use mongodb::error::{Error, ErrorKind, WriteError, WriteFailure};
use xpush_core::ports::{Failure, PortError};

/// A document with the same unique key is there already.
const DUPLICATE: [i32; 3] = [11000, 11001, 12582];

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Repeating it changes nothing, and whatever became of it changes nothing either.
    Read,
    /// It may have had its effect, unless the answer says that it had none.
    Write,
}

/// Whether a unique index said no.
pub(crate) fn is_duplicate(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(WriteError { code, .. })) => DUPLICATE.contains(code),
        ErrorKind::Command(command) => DUPLICATE.contains(&command.code),
        _ => false,
    }
}

/// The same of a code.
pub(crate) fn is_duplicate_code(code: i32) -> bool {
    DUPLICATE.contains(&code)
}

/// What callers are told.
pub(crate) fn port_error(intent: Intent, error: &Error) -> PortError {
    let lost = match intent {
        Intent::Read => Failure::NotApplied,
        Intent::Write => Failure::Unknown,
    };
    match &*error.kind {
        ErrorKind::ServerSelection { .. } => {
            PortError::new(Failure::NotApplied, "no server that takes writes is there")
        }
        // The driver says so of commands that wait for a connection, and of those that were sent and wait for an answer.
        ErrorKind::ConnectionPoolCleared { .. } => {
            PortError::new(lost, "the connection to the server was lost")
        }
        ErrorKind::Authentication { .. } => {
            PortError::new(Failure::NotApplied, "the server does not accept the credentials")
        }
        ErrorKind::DnsResolve { .. } | ErrorKind::InvalidTlsConfig { .. } => {
            PortError::new(Failure::NotApplied, "the server cannot be found, or TLS is not set up")
        }
        ErrorKind::InvalidArgument { .. } | ErrorKind::BsonSerialization(_) => {
            PortError::new(Failure::Invalid, "the driver refuses the command")
        }
        ErrorKind::Io(error) => match error.kind() {
            // Nothing was sent: there was nobody to send it to.
            io::ErrorKind::ConnectionRefused => {
                PortError::new(Failure::NotApplied, "the server refuses connections")
            }
            kind => PortError::new(lost, format!("the connection broke: {kind}")),
        },
        ErrorKind::Command(command) => coded(lost, command.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => coded(lost, error.code),
        // It was written, and may be taken back when another server takes over.
        ErrorKind::Write(_) => PortError::new(lost, "the write was not confirmed by a majority"),
        _ => PortError::new(lost, "the server's answer cannot be read"),
    }
}

/// What an error code of the server comes to, for a command whose end is unknown unless the code says more.
/// The codes: <https://www.mongodb.com/docs/manual/reference/error-codes/>.
pub(crate) fn coded(lost: Failure, code: i32) -> PortError {
    let kind = match code {
        // NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary: it was not begun.
        10107 | 13435 | 13436 => Failure::NotApplied,
        // Unauthorized, AuthenticationFailed, and collections, databases and options that are not as they were made.
        13 | 18 | 26 | 72 => Failure::NotApplied,
        // LockTimeout, ExceededMemoryLimit, TemporarilyUnavailable, IngressRequestRateLimitExceeded, and no more connections.
        24 | 146 | 365 | 462 | 202 => Failure::Overloaded,
        // OutOfDiskSpace.
        14031 => Failure::Full,
        // BadValue, FailedToParse, TypeMismatch, DocumentValidationFailure, BSONObjectTooLarge.
        2 | 9 | 14 | 121 | 10334 => Failure::Invalid,
        // Duplicates where none should be.
        11000 => Failure::Conflict,
        // Interrupted, stepping down, shutting down, out of time: somewhere on the way.
        _ => lost,
    };
    PortError::new(kind, format!("the server answers with error {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> Error {
        Error::from(io::Error::from(kind))
    }

    #[test]
    fn what_was_never_sent_had_no_effect_and_what_was_may_have() {
        for (error, kind) in [
            (io(io::ErrorKind::ConnectionRefused), Failure::NotApplied),
            (io(io::ErrorKind::ConnectionReset), Failure::Unknown),
            (io(io::ErrorKind::UnexpectedEof), Failure::Unknown),
        ] {
            assert_eq!(port_error(Intent::Write, &error).kind, kind, "{error}");
            assert_eq!(port_error(Intent::Read, &error).kind, Failure::NotApplied, "{error}");
        }
    }

    #[test]
    fn codes_say_what_happened() {
        for (code, kind) in [
            (10107, Failure::NotApplied),
            (189, Failure::Unknown),
            (91, Failure::Unknown),
            (50, Failure::Unknown),
            (64, Failure::Unknown),
            (365, Failure::Overloaded),
            (14031, Failure::Full),
            (10334, Failure::Invalid),
        ] {
            assert_eq!(coded(Failure::Unknown, code).kind, kind, "{code}");
        }
    }
}
