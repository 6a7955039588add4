//! The history of channels: slots numbered 1, 2, 3 … without holes.

use std::sync::Arc;

use crate::environment::UnixMillis;
use crate::message::{Epoch, Kind, Message, Payload, Position, Sender};
use crate::names::{ChannelKey, ClientId, EventName};
use crate::ports::{Done, PortError};
use crate::rules::Retention;

/// A message that has no place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it is. An edit's payload is the new data.
    pub kind: Kind,
    /// May edit and delete what others have published.
    pub moderates: bool,
    /// The publisher's id for it.
    pub id: ClientId,
    /// The event's name.
    pub event: EventName,
    /// The data.
    pub payload: Payload,
    /// Who publishes.
    pub from: Sender,
    /// When, ms since 1970.
    pub at: UnixMillis,
}

impl Draft {
    /// As a message at `position`.
    pub fn message(self, channel: ChannelKey, position: Option<Position>) -> Message {
        let Self { kind, id, event, payload, from, at, .. } = self;
        Message { kind, channel, position, id, event, payload, from, at, revision: None }
    }
}

/// A draft that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The message with its position; for a retry, the message as it was first stored.
    pub message: Arc<Message>,
    /// The draft was a retry: the same sender's message of the same id had its place already.
    pub retry: bool,
}

/// Why an edit or a deletion takes no place, although the log works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The target is no message of this channel, or none any more.
    NoSuchMessage,
    /// The target is somebody else's, and the draft does not moderate.
    NotYours,
}

/// What became of an append: the drafts taken, in order, and why the next one was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// One for each draft up to the first that failed. What is refused takes no place, and those behind it go on.
    pub taken: Vec<Result<Placed, Refused>>,
    /// Why the draft after `taken` failed; those behind it were not tried.
    pub failure: Option<PortError>,
}

/// Which part of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Slots with a larger seq, the smallest first.
    After(u64),
    /// Slots with a smaller seq: the largest of them, given in ascending order.
    Before(u64),
    /// The newest ones, in ascending order.
    Newest,
}

/// A part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Which history.
    pub epoch: Epoch,
    /// The smallest seq whose body is still kept; `head + 1` when none is.
    pub first: u64,
    /// The newest seq; 0 before the first message.
    pub head: u64,
    /// Ascending, without holes between them.
    pub messages: Vec<Arc<Message>>,
}

/// Keeps messages in the order of their places.
///
/// - **Atomic**: each draft takes head + 1 or nothing. Two fences hold over all callers: a seq is given once, and a (channel, sender, client id) has one slot; a draft that meets its own earlier slot is answered with it
///   (`retry`), and nothing is written. The fence on client ids holds for at least 24 h, or as long as the channel's history when that is bounded (`recent`).
/// - **In order**: drafts of one call take ascending places; an append stops at the first failure.
/// - **Edits**: an edit or a deletion takes a place like any other, and is folded into its target in the same atomic step: whoever reads the target from then on reads its newest data and its
///   [`Revision`](crate::message::Revision). It is refused when the target's body is no longer kept, when it is deleted, or when it is no message.
/// - **Visible**: a placed message is read by every later `read`, on every handle.
/// - **Retention** blanks the oldest slots' bodies; it never lowers `head`, and the newest slot stays. What has left never comes back, whatever bounds come later.
/// - The **epoch** changes only when history was lost or restored; then seqs begin anew.
pub trait MessageLog: Send + Sync {
    /// Gives places to `drafts`, in order. With [`Retention::ENDLESS`] nothing is ever blanked.
    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>, done: Done<Appended>);
    /// As [`append`](Self::append), but gives up with `Conflict`, soon, when others have been faster twice in a row: for a caller who can leave it to one writer. The
    /// drafts from the first that has no place on have had no effect then. A log in which nobody loses a place has no other way than `append`.
    fn append_or_yield(
        &self,
        channel: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
        done: Done<Appended>,
    ) {
        self.append(channel, retention, drafts, done);
    }
    /// Reads at most `limit` messages of `range`. Never a hole inside: when slots of the range were blanked, the page begins behind the last blanked one.
    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>);
    /// The newest position of each channel, in the order asked for.
    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>);
}
