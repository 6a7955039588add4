//! The message log and its markers.
//!
//! **A message is one document, its slot, and the slot is the truth.** It says what the channel comes to once it is the newest one: sums, bounds, the newest
//! message. All that is kept elsewhere (markers of those who have published, what edits and deletions make of their targets) follows from slots and is written
//! behind them; until then readers apply it themselves ([`channel`]). So an append is acknowledged when one insert is.
//!
//! **Two fences.** A digest of sender and client id (`h`) is unique in its channel, and so is a seq. A writer knows the head, or reads it, and inserts the slot
//! behind it: it gets that place or none. When it gets none, either its message has a slot already (it is a retry, and answered so), or somebody else was faster: it
//! reads the head again and tries the next place; and who is faster learns of it and yields from time to time ([`lanes`]). An ordered `insertMany` stops at the first of them, so places of one call ascend, and there is never a hole.
//!
//! **What is decided stays right.** Whether an edit or a deletion is refused depends on the slots up to the head alone. It is decided by reading them as the primary
//! has them once the head H is known, and its slot is inserted as H + 1. Had anybody changed anything meanwhile (edited or deleted the same message, or pushed
//! it out of the bounds), there would be a slot H + 1 already, and the insert fails; then everything is decided anew. So of two deletions of one message one gets
//! its place and the other, which reads the first one's, is refused; an edit never comes behind its target's deletion; and a slot's sums are those of all before it. An insert that was
//! thought lost and arrives late meets the same fences: its place is free only while nothing has changed. Age alone moves on by itself: it is taken from
//! the clock of whoever decides, and a message that leaves in that moment may still be changed, which nobody reads.
//!
//! **What was withdrawn goes.** A deletion is acknowledged when its target and the target's edits have lost their data. Should its writer die between the
//! two, nobody reads them nevertheless (the deletion's slot says so), and whoever settles the channel next takes them out: the next writer or reader of markers, or
//! the sweep. An edit's target loses its data when the edit is settled: what counts is in the edit's slot.
//!
//! **What is erased stays where it was.** Of a slot whose sender is taken out only the place is left ([`erasure`]); a channel that is emptied begins anew, under another digest.
//!
//! **Nothing is read that may be taken back.** Readers, and answers to retries, use the majority's view. Only a writer looks at the primary's own, whose insert a
//! majority must confirm together with everything before it. A primary that was cut off from the others goes on answering readers for some seconds, until it steps down:
//! they read what was true when it was cut off.

mod append;
mod channel;
mod conversations;
mod erasure;
mod followed;
mod import;
mod lanes;
mod markers;
mod page;
mod plan;
mod retention;
mod settle;
mod slot;
mod sweep;
mod telling;
mod tide;
mod unread;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::Document;
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::outbox::Tap;
use xpush_core::ports::{Done, PortError};
use xpush_core::{ChannelKey, Clock, LedgerClock, Position, Retention};

use crate::store::{Store, attend};
pub use import::Import;
use lanes::Lanes;
use settle::Settling;

/// Bytes of data and attachments that one message may have: what MongoDB's limit of 16 MB for a document leaves.
pub const LARGEST_MESSAGE: usize = (16 << 20) - (64 << 10);

/// How often channels that were written are settled.
const SETTLE: Duration = Duration::from_millis(100);

/// How often a few channels are swept.
const SWEEP: Duration = Duration::from_secs(1);

/// A [`MessageLog`] and [`Markers`](xpush_core::ports::markers::Markers) on a [`Store`].
pub struct Ledger {
    inner: Arc<Inner>,
}

/// What operations share.
struct Inner {
    store: Arc<Store>,
    clock: LedgerClock,
    tide: tide::Tide,
    /// What this process calls itself.
    me: i64,
    channels: Collection<Document>,
    slots: Collection<Document>,
    /// The same as the primary has them.
    latest: Collection<Document>,
    markers: Collection<Document>,
    lanes: Mutex<Lanes>,
    settling: Mutex<Settling>,
    /// Writers in a channel of whom it is known that their marker's document is there, and since when.
    known: Mutex<HashMap<Vec<u8>, u64>>,
    /// Who wants to be told of messages.
    tap: OnceLock<Arc<dyn Tap>>,
}

impl Ledger {
    /// On a store.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        let clock = LedgerClock::new(clock, store.left_at());
        let inner = Arc::new(Inner {
            clock,
            tide: tide::Tide::at(store.left_at()),
            me: crate::random(),
            channels: store.collection("channels"),
            slots: store.collection("slots"),
            latest: store.latest("slots"),
            markers: store.collection("markers"),
            lanes: Mutex::default(),
            settling: Mutex::default(),
            known: Mutex::default(),
            tap: OnceLock::new(),
            store: Arc::clone(&store),
        });
        attend(&store, &inner, SETTLE, |inner| async move { inner.settle_written().await });
        attend(&store, &inner, SWEEP, |inner| async move { inner.sweep().await });
        attend(&store, &inner, tide::LOOK, |inner| async move { inner.watch_tide().await });
        Self { inner }
    }

    /// From now on, messages that `tap` wants are noted as untold ([`Notes`](xpush_core::ports::outbox::Notes)). To be called before anybody publishes, and once.
    pub fn tap(&self, tap: Arc<dyn Tap>) {
        // A second one is no more right than the first.
        let _ = self.inner.tap.set(tap);
    }

    fn run<T, F>(&self, done: Done<T>, operation: impl FnOnce(Arc<Inner>) -> F)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PortError>> + Send + 'static,
    {
        self.inner.store.run(done, operation(Arc::clone(&self.inner)));
    }
}

impl MessageLog for Ledger {
    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>, done: Done<Appended>) {
        Inner::append(&self.inner, channel, retention, drafts, false, done);
    }

    fn append_or_yield(
        &self,
        channel: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
        done: Done<Appended>,
    ) {
        Inner::append(&self.inner, channel, retention, drafts, true, done);
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let channel = channel.clone();
        self.run(done, |inner| async move { inner.page(&channel, range, limit).await });
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        self.run(done, |inner| async move {
            let views = inner.look_at(&channels).await?;
            Ok(views.iter().map(|view| inner.position(view, view.seq())).collect())
        });
    }
}
