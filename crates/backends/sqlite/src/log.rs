//! The message log and its markers.
//!
//! A channel's slots stand side by side in one table, its head and sums in another. Nothing that is done for one message grows with the
//! history: counts are differences of two sums, bounds are found by bisection, and what leaves by retention leaves a few slots at a time,
//! behind the appends that pushed it out. Until then it cannot be read either: `first` says from where on.

mod append;
mod channels;
mod erasure;
pub(crate) mod export;
mod fences;
pub(crate) mod indexing;
mod markers;
mod page;
mod retention;
pub(crate) mod slot;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock};

use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::outbox::Tap;
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{ChannelKey, Clock, Epoch, LedgerClock, Position, Retention};

use crate::lock;
use crate::store::{Attendant, Fault, Store, Weight, Writing};
use channels::Channels;
use indexing::Due;
use retention::Sweep;

/// Bytes of data and attachments that one message may have: far beyond what any transport lets in, and a bound for what one row can do to a batch.
pub const LARGEST_MESSAGE: usize = 16 << 20;

/// What a message takes beside its contents, about.
const ROW: usize = 300;

/// A [`MessageLog`] and [`Markers`](xpush_core::ports::markers::Markers) on a [`Store`]; one for each.
pub struct Ledger {
    store: Arc<Store>,
    inner: Arc<Inner>,
}

/// What jobs share.
struct Inner {
    clock: LedgerClock,
    /// The epoch of channels that have lost nothing.
    epoch: u64,
    /// What the writer knows of channels. Only the writer's thread takes it.
    channels: Mutex<Channels>,
    /// What messages make to do.
    tap: OnceLock<Arc<dyn Tap>>,
    /// What a search index hears of what is written.
    due: OnceLock<Arc<Due>>,
}

/// The ledger's part in each batch.
struct Tail {
    inner: Arc<Inner>,
    sweep: Sweep,
}

impl Ledger {
    /// On a store that has no ledger yet.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let values = |connection: &rusqlite::Connection| {
            let number = |key: &str| -> Result<i64, rusqlite::Error> {
                connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            };
            Ok((number("epoch")? as u64, number("clock")? as u64))
        };
        store.read(values, Box::new(move |result| drop(sender.send(result))));
        let gone = |_| PortError::new(Failure::NotApplied, "the store is closed");
        let (epoch, left_at) = receiver.recv().map_err(gone)??;
        let clock = LedgerClock::new(clock, left_at);
        let inner = Arc::new(Inner {
            clock,
            epoch,
            channels: Mutex::default(),
            tap: OnceLock::new(),
            due: OnceLock::new(),
        });
        store.attend(Box::new(Tail { inner: Arc::clone(&inner), sweep: Sweep::default() }));
        Ok(Self { store, inner })
    }

    /// From now on, what `tap` says that a message makes to do is put into the file's outbox ([`SqliteOutbox`](crate::SqliteOutbox)) in the message's own transaction. To be called
    /// once. When the outbox has no room for it, the message is taken all the same, and that it was is logged.
    pub fn tap(&self, tap: Arc<dyn Tap>) {
        // A second one is no more right than the first.
        let _ = self.inner.tap.set(tap);
    }
}

impl Inner {
    fn epoch_of(&self, incarnation: i64) -> Epoch {
        // An odd factor: no two incarnations have the same epoch.
        Epoch(self.epoch.wrapping_add((incarnation as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

impl MessageLog for Ledger {
    fn append(
        &self,
        channel: &ChannelKey,
        retention: Retention,
        mut drafts: Vec<Draft>,
        done: Done<Appended>,
    ) {
        let failing = drafts.iter().position(|draft| draft.payload.size() >= LARGEST_MESSAGE);
        let failure = failing.map(|_| PortError::new(Failure::Invalid, "larger than 16 MB"));
        drafts.truncate(failing.unwrap_or(drafts.len()));
        if drafts.is_empty() {
            return done(Ok(Appended { taken: Vec::new(), failure }));
        }
        let bytes = drafts.iter().map(|draft| ROW + draft.payload.size()).sum();
        let weight = Weight { rows: drafts.len(), bytes };
        let (inner, channel) = (Arc::clone(&self.inner), channel.clone());
        let job = move |writing: &Writing<'_>| {
            let appended = inner.append(writing, &channel, retention, drafts)?;
            Ok(Appended { failure: appended.failure.or(failure), ..appended })
        };
        self.store.write_checked(weight, job, done);
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let (inner, channel) = (Arc::clone(&self.inner), channel.clone());
        self.store.read(move |connection| inner.page(connection, &channel, range, limit), done);
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        let inner = Arc::clone(&self.inner);
        self.store.read(move |connection| inner.heads(connection, &channels), done);
    }
}

impl Attendant for Tail {
    fn flush(&mut self, writing: &Writing<'_>) -> Result<(), Fault> {
        lock(&self.inner.channels).flush(writing, self.inner.clock.now())
    }

    fn sweep(&mut self, writing: &Writing<'_>) -> Result<bool, Fault> {
        let mut channels = lock(&self.inner.channels);
        self.sweep.step(writing, &mut channels, self.inner.clock.now())
    }

    fn committed(&mut self) {
        let (changed, everything) = lock(&self.inner.channels).take_news();
        if let Some(due) = self.inner.due.get()
            && (everything || !changed.is_empty())
        {
            due.note(changed, everything);
        }
    }
}
