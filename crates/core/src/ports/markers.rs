//! How far each user has read a channel: a capability of logs that keep what was acknowledged.

use std::sync::Arc;

use crate::environment::UnixMillis;
use crate::message::{Epoch, Message};
use crate::names::{App, Channel, ChannelKey, User};
use crate::ports::Done;
use crate::ports::message_log::MessageLog;

/// What a marker tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// It has reached one of the user's devices.
    Delivered,
    /// The user has seen it; so it has been delivered, too.
    Read,
}

/// How far a user is in a channel; 0 before the first message. `read` is never beyond `delivered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marker {
    /// The newest slot that was delivered.
    pub delivered: u64,
    /// The newest slot that was read.
    pub read: u64,
}

/// What an advance came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    /// It stands there now.
    pub marker: Marker,
    /// It stood further back before.
    pub moved: bool,
    /// Countable messages behind `marker.read` that are not deleted.
    pub unread: u64,
}

/// A user's channel, at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The channel.
    pub channel: Channel,
    /// Its history.
    pub epoch: Epoch,
    /// Its newest slot.
    pub head: u64,
    /// The user's marker.
    pub marker: Marker,
    /// Countable messages behind `marker.read` that are not deleted.
    pub unread: u64,
    /// The newest slot that is a message, as it reads now (perhaps deleted); `None` when there is none or it is no longer kept.
    pub last: Option<Arc<Message>>,
    /// When the newest slot was written, or, without any, the marker made; ms since 1970.
    pub active_at: UnixMillis,
}

/// Where a list of conversations goes on: behind the one with this `active_at` and name.
pub type After = (UnixMillis, Channel);

/// Keeps markers beside the messages, so that a user's channels and what is unread in them are one query.
///
/// - **Forward only**: over all handles, a marker never goes back. A `seq` beyond the head counts as the head.
/// - An append moves its sender's marker to the sender's own newest slot (`read` and `delivered`), atomically with it, and makes the marker when there is none; edits and deletions do not.
/// - `unread` counts what [`Kind::is_countable`](crate::message::Kind::is_countable) says, without deleted ones; what retention has blanked is not unread any more.
/// - **Visible**: a change is seen by every later call, on every handle.
pub trait Markers: Send + Sync {
    /// Makes a marker at the head, unless there is one. Its state now.
    fn begin(&self, channel: &ChannelKey, user: &User, done: Done<Marker>);
    /// Moves a marker forward, made if there is none.
    fn advance(&self, channel: &ChannelKey, user: &User, mark: Mark, seq: u64, done: Done<Advanced>);
    /// Removes a marker, or all of a user's in an app when `channel` is `None`.
    fn end(&self, app: &App, channel: Option<&Channel>, user: &User, done: Done<()>);
    /// Markers of a channel, those that moved last first; at most `limit`.
    fn of_channel(&self, channel: &ChannelKey, limit: usize, done: Done<Vec<(User, Marker)>>);
    /// How many messages are unread for each of `users`; those without a marker are left out.
    fn unread(&self, channel: &ChannelKey, users: Vec<User>, done: Done<Vec<(User, u64)>>);
    /// The channels in which a user has a marker, the ones active last first (equal times by name, descending); at most `limit`.
    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
        done: Done<Vec<Conversation>>,
    );
}

/// What keeps channels with durable history: their messages and, beside them, their markers.
pub trait Ledger: MessageLog + Markers {}

impl<T: MessageLog + Markers + ?Sized> Ledger for T {}
