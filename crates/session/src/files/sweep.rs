//! What goes by itself: files that are over, uploads that were never finished, and the files of users who are erased.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};
use xpush_core::ports::blobs::Blobs;
use xpush_core::ports::erasure::{Erasure, Pending, Step};
use xpush_core::ports::files::{FileListing, Files};
use xpush_core::ports::{Done, PortError};
use xpush_core::{App, Clock, UnixMillis, User};

use super::remove;
use crate::port::ask;

/// Between two looks.
const PACE: Duration = Duration::from_secs(10);

/// Files of one look at the list.
const AT_ONCE: usize = 100;

/// Files of one step of an erasure: it is waited for only for a moment.
const OF_A_STEP: usize = 4;

/// Where files are: their contents, and what is known of them.
#[derive(Clone)]
pub struct Stores {
    /// Their contents.
    pub blobs: Arc<dyn Blobs>,
    /// What is known of them.
    pub files: Arc<dyn Files>,
}

impl Stores {
    /// Removes an app's files that were made before a moment, those on their way included, and at most so many; whether none of them is left.
    pub(crate) async fn remove_of_app(
        &self,
        app: &App,
        before: UnixMillis,
        most: usize,
    ) -> Result<bool, PortError> {
        let listing = FileListing::OfApp(app.clone());
        let (mut after, mut removed) = (None, 0);
        loop {
            let behind = after.take();
            let page = ask(|done| self.files.list(&listing, behind, AT_ONCE, done)).await?;
            for file in page.iter().filter(|file| file.created_at < before) {
                if removed == most {
                    return Ok(false);
                }
                remove(&*self.blobs, &*self.files, file).await?;
                removed += 1;
            }
            if page.len() < AT_ONCE {
                return Ok(true);
            }
            after = page.last().map(|file| file.id.clone());
        }
    }
}

/// Removes what is due, as long as the runtime lives. Several servers may do the same at the same time.
pub async fn sweep(blobs: Arc<dyn Blobs>, files: Arc<dyn Files>, clock: Arc<dyn Clock>) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = round(&*blobs, &*files, clock.wall()).await {
            tracing::warn!(%error, "files that are over were not removed; it goes on");
        }
    }
}

/// Everything that is due by now; how many files it was.
pub(crate) async fn round(blobs: &dyn Blobs, files: &dyn Files, now: UnixMillis) -> Result<usize, PortError> {
    let mut removed = 0;
    loop {
        let due = ask(|done| files.due(now, AT_ONCE, done)).await?;
        for file in &due {
            remove(blobs, files, file).await?;
        }
        removed += due.len();
        if due.len() < AT_ONCE {
            return Ok(removed);
        }
    }
}

/// A log from which users are erased with their files: these go before the log's steps come to their end, so that an erasure that was cut short finds them again.
pub fn erasing(
    log: Arc<dyn Erasure>,
    blobs: Arc<dyn Blobs>,
    files: Arc<dyn Files>,
    runtime: Handle,
) -> Arc<dyn Erasure> {
    Arc::new(WithFiles { log, blobs, files, runtime })
}

struct WithFiles {
    log: Arc<dyn Erasure>,
    blobs: Arc<dyn Blobs>,
    files: Arc<dyn Files>,
    runtime: Handle,
}

impl Erasure for WithFiles {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        self.log.begin(app, user, since, done);
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        self.log.pending(done);
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        let (log, blobs, files) = (self.log.clone(), self.blobs.clone(), self.files.clone());
        let (app, user) = (app.clone(), user.clone());
        self.runtime.spawn(async move {
            match step(&*blobs, &*files, &app, &user).await {
                Ok(false) => log.step(&app, &user, done),
                Ok(true) => done(Ok(Step::default())),
                Err(error) => done(Err(error)),
            }
        });
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        self.log.end(app, user, done);
    }
}

/// Some of a user's files; whether there were any.
async fn step(blobs: &dyn Blobs, files: &dyn Files, app: &App, user: &User) -> Result<bool, PortError> {
    let listing = FileListing::OfUser(app.clone(), user.clone());
    let some = ask(|done| files.list(&listing, None, OF_A_STEP, done)).await?;
    for file in &some {
        remove(blobs, files, file).await?;
    }
    Ok(!some.is_empty())
}
