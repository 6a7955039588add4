//! What all files of an app have together, and whether more of them may come.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use xpush_core::ports::PortError;
use xpush_core::ports::files::Files;
use xpush_core::{App, UnixMillis};

use crate::port::ask;

/// For how long a sum of the store's is good for more uploads, in ms: of an app with many files it is not made for each of them.
const FRESH: UnixMillis = 10_000;

/// The last sums, with what this server has taken since. What others take within [`FRESH`] may go beyond a bound.
#[derive(Default)]
pub(super) struct Quota(Mutex<HashMap<App, Sum>>);

#[derive(Clone, Copy)]
struct Sum {
    at: UnixMillis,
    bytes: u64,
}

impl Quota {
    /// Bytes that an app's files may still get, of `most` in all. A refusal is never told from an older sum: somebody may just have made room.
    pub(super) async fn left(
        &self,
        files: &dyn Files,
        app: &App,
        most: u64,
        wanted: u64,
        now: UnixMillis,
    ) -> Result<u64, PortError> {
        let known = self.sums().get(app).copied();
        if let Some(sum) = known
            && now.saturating_sub(sum.at) < FRESH
            && sum.bytes.saturating_add(wanted) <= most
        {
            return Ok(most - sum.bytes);
        }
        let bytes = ask(|done| files.bytes(app, done)).await?;
        self.sums().insert(app.clone(), Sum { at: now, bytes });
        Ok(most.saturating_sub(bytes))
    }

    /// An upload was noted, with what it may become.
    pub(super) fn took(&self, app: &App, bytes: u64) {
        if let Some(sum) = self.sums().get_mut(app) {
            sum.bytes = sum.bytes.saturating_add(bytes);
        }
    }

    fn sums(&self) -> MutexGuard<'_, HashMap<App, Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
