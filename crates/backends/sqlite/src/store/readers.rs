//! The threads that read.

use rusqlite::Connection;

use super::queue::Taken;
use super::{Fault, Shared, Weight};

/// Runs jobs until the store is closed.
pub(super) fn run(connection: &Connection, shared: &Shared) {
    let mut jobs = Vec::new();
    // One at a time: a long one must not hold up others that another thread could take.
    while shared.reads.take(&mut jobs, Weight { rows: 1, bytes: usize::MAX }, None) == Taken::Some {
        jobs.drain(..).for_each(|job| job(Ok(connection)));
    }
}

/// So that all of a job's queries see the same state.
pub(super) fn in_transaction<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = job(connection);
    if !connection.is_autocommit() {
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    result
}
