//! What goes wrong in a job, and what its caller is told.

use rusqlite::ErrorCode;
use rusqlite::ffi;
use xpush_core::ports::{Failure, PortError};

/// Why a job has failed.
#[derive(Debug)]
pub enum Fault {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// The job itself does.
    Port(PortError),
}

impl Fault {
    /// What the caller is told. Whatever it is, nothing was committed.
    pub fn into_port(self) -> PortError {
        match self {
            Self::Port(error) => error,
            Self::Sqlite(error) => PortError::new(failure(&error), error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Fault {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sqlite(error.into())
    }
}

impl From<PortError> for Fault {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// Whether a commit or a checkpoint that ended so may have left something unwritten that the next one would take for written.
pub(crate) fn is_sync_failure(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    // Growing the index of the write-ahead log and finding no room is no failed sync (see `failure`); nor are locks and reads.
    matches!(
        extended,
        ffi::SQLITE_IOERR
            | ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_CLOSE
            | ffi::SQLITE_IOERR_DATA
    )
}

fn failure(error: &rusqlite::Error) -> Failure {
    let Some(sqlite) = error.sqlite_error() else { return Failure::NotApplied };
    match (sqlite.code, sqlite.extended_code) {
        (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => Failure::Full,
        (ErrorCode::TooBig, _) => Failure::Invalid,
        _ => Failure::NotApplied,
    }
}
