//! The thread that writes.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use xpush_core::ports::{Failure, PortError};

use super::batch::{Queued, Writing};
use super::queue::Taken;
use super::{Fault, Shared, Weight, closed, is_sync_failure};
use crate::lock;

/// How often attendants sweep, and how often when there is much to do.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_MORE: Duration = Duration::from_millis(50);

struct Writer<'a> {
    connection: &'a Connection,
    shared: &'a Shared,
    /// Changes when what was read in earlier transactions may be wrong.
    view: u64,
    /// SQLite's counter of what others have committed.
    others: i64,
    /// The disk was full the last time; said once.
    full: bool,
}

/// Commits batches until the store is closed, then empties the write-ahead log.
pub(super) fn run(connection: Connection, shared: &Shared) {
    let mut writer = Writer { connection: &connection, shared, view: 0, others: -1, full: false };
    let (mut swept, mut pause) = (Instant::now(), SWEEP);
    let mut batch = Vec::new();
    loop {
        let patience = pause.saturating_sub(swept.elapsed());
        match shared.writes.take(&mut batch, Weight::BATCH, Some(patience)) {
            Taken::Some => writer.commit(&mut batch),
            Taken::None => {}
            Taken::Closed => break,
        }
        writer.bound_log();
        if swept.elapsed() >= pause {
            pause = if writer.sweep() { SWEEP_MORE } else { SWEEP };
            swept = Instant::now();
        }
    }
    if !shared.is_dead() {
        super::checkpoint::last(&connection, shared);
    }
}

impl Writer<'_> {
    fn commit(&mut self, batch: &mut Vec<Queued>) {
        let outcome = self.transaction(|writer, writing| writer.run_jobs(batch, writing));
        if let Err(error) = &outcome {
            self.tell(error);
        } else if std::mem::take(&mut self.full) {
            tracing::info!("the disk has room again");
        }
        for Queued { job, .. } in batch.drain(..) {
            job.end(outcome.clone());
        }
    }

    fn sweep(&mut self) -> bool {
        let mut more = false;
        let swept = self.transaction(|writer, writing| {
            for attendant in lock(&writer.shared.attendants).iter_mut() {
                more |= attendant.sweep(writing).map_err(Fault::into_port)?;
            }
            Ok(())
        });
        if let Err(error) = &swept {
            self.tell(error);
        }
        more && swept.is_ok()
    }

    fn tell(&mut self, error: &PortError) {
        let full = error.kind == Failure::Full;
        if !(full && std::mem::replace(&mut self.full, full)) {
            tracing::error!(%error, "a batch was not committed");
        }
    }

    /// Runs `steps` between BEGIN and COMMIT. After an error nothing of them is left.
    fn transaction(
        &mut self,
        steps: impl FnOnce(&mut Self, &Writing<'_>) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        if self.shared.is_dead() {
            return Err(closed());
        }
        self.begin().map_err(|error| Fault::Sqlite(error).into_port())?;
        let writing = Writing::new(self.connection, self.view, self.shared.recent_fences);
        let committed =
            steps(self, &writing).and_then(|()| self.flush(&writing)).and_then(|()| self.end(&writing));
        if committed.is_ok() {
            lock(&self.shared.attendants).iter_mut().for_each(|attendant| attendant.committed());
        } else {
            self.view += 1;
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "a batch could not be undone");
            }
        }
        committed
    }

    fn begin(&mut self) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // Within the transaction, so that nobody writes between the question and the first job.
        let others =
            self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if std::mem::replace(&mut self.others, others) != others {
            self.view += 1;
        }
        Ok(())
    }

    fn run_jobs(&mut self, batch: &mut [Queued], writing: &Writing<'_>) -> Result<(), PortError> {
        for Queued { job, isolated } in batch {
            if *isolated {
                self.run_isolated(job.as_mut(), writing)?;
            } else {
                job.run(writing)?;
            }
        }
        Ok(())
    }

    /// An error is the whole batch's: SQLite has given the transaction up, or cannot undo the job alone.
    fn run_isolated(&self, job: &mut dyn super::batch::Job, writing: &Writing<'_>) -> Result<(), PortError> {
        let step = |sql| self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        let step = |sql| step(sql).map_err(|error| Fault::Sqlite(error).into_port());
        step("SAVEPOINT job")?;
        if let Err(error) = job.run(writing) {
            if self.connection.is_autocommit() {
                return Err(error);
            }
            step("ROLLBACK TO job")?;
        }
        step("RELEASE job").map(|_| ())
    }

    fn flush(&self, writing: &Writing<'_>) -> Result<(), PortError> {
        let mut attendants = lock(&self.shared.attendants);
        attendants.iter_mut().try_for_each(|attendant| attendant.flush(writing)).map_err(Fault::into_port)
    }

    fn end(&self, writing: &Writing<'_>) -> Result<(), PortError> {
        let started = Instant::now();
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        let Err(error) = committed else {
            self.shared.metrics.committed(writing.messages(), started.elapsed());
            return Ok(());
        };
        if is_sync_failure(&error) {
            self.shared.die(&format!("commit: {error}"));
            return Err(PortError::new(Failure::Unknown, error.to_string()));
        }
        Err(Fault::Sqlite(error).into_port())
    }

    /// Has the write-ahead log copied back by the other thread; when that falls behind, does the rest itself, so that it can begin anew.
    fn bound_log(&self) {
        if !self.shared.is_dead() {
            self.shared.checkpoints.after_commit(self.connection, self.shared);
        }
    }
}
