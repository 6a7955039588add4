//! What an error of Redis says of what happened.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use xpush_core::ports::{Failure, PortError};

/// The port's error for a command that was given to the driver.
pub(crate) fn of(error: &RedisError) -> PortError {
    use ServerErrorKind::*;
    let kind = match error.kind() {
        ErrorKind::Server(kind) => match kind {
            // The server says so before it begins, or the driver has given up to find who is to begin.
            BusyLoading | Moved | Ask | TryAgain | ClusterDown | MasterDown | ReadOnly | NoPerm
            | NoScript => Failure::NotApplied,
            _ => by_code(error.code()),
        },
        ErrorKind::Extension => by_code(error.code()),
        ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => Failure::NotApplied,
        ErrorKind::InvalidClientConfig | ErrorKind::Client => Failure::Invalid,
        // It may be on its way, or done with an answer that cannot be read.
        _ => Failure::Unknown,
    };
    PortError::new(kind, format!("redis: {error}"))
}

fn by_code(code: Option<&str>) -> Failure {
    match code {
        // Refused before anything was written.
        Some("OOM") => Failure::Full,
        Some("BUSY" | "MISCONF" | "NOREPLICAS" | "NOAUTH" | "WRONGPASS" | "UNBLOCKED") => Failure::NotApplied,
        _ => Failure::Invalid,
    }
}
