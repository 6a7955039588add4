//! The app's own back end, as a channel server needs it: it is told what happens, asked whether something may happen, and called.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::Grant;
use crate::environment::UnixMillis;
use crate::message::{Message, Sender};
use crate::names::{App, Channel, ChannelKey, EventName, User};
use crate::ports::access::Decided;
use crate::ports::online::State;

/// Something that has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A connection acts as somebody. `connection` tells it from every other one; it is no secret.
    Connected {
        /// Who.
        grant: Arc<Grant>,
        /// Which.
        connection: Box<str>,
    },
    /// It does so no more.
    Disconnected {
        /// Who.
        grant: Arc<Grant>,
        /// Which.
        connection: Box<str>,
    },
    /// A channel has got its first subscriber on this node.
    Occupied(ChannelKey),
    /// A channel has lost its last subscriber on this node.
    Vacated(ChannelKey),
    /// A message, an edit or a deletion that has its place, where it has one.
    Message {
        /// Which.
        message: Arc<Message>,
        /// It is in the history of a durable channel, which may have put what it makes to do beside it ([`Tap`](super::outbox::Tap)).
        durable: bool,
    },
    /// A user is seen as another than before.
    Status {
        /// The app.
        app: App,
        /// Who.
        user: User,
        /// As what.
        state: State,
        /// Since when, ms since 1970.
        at: UnixMillis,
    },
}

/// What an app may be asked before it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A client connects. Asked by whoever decides on that ([`Access`](super::access::Access)).
    Connect,
    /// A user begins to do anything in a channel. Asked by the same.
    Subscribe,
    /// A message, or an edit, is published.
    Publish,
    /// The same, by the app's own back end: over HTTP, or by a token of the role `server`.
    PublishByServer,
}

/// A message that is to be published.
#[derive(Debug, Clone)]
pub struct Publishing {
    /// Where.
    pub channel: ChannelKey,
    /// By whom.
    pub grant: Arc<Grant>,
    /// The event's name.
    pub event: EventName,
    /// Validated JSON.
    pub data: Bytes,
    /// How many binary parts it has; they are not shown, and not to be changed.
    pub attachments: usize,
    /// The message that it edits.
    pub edits: Option<u64>,
}

/// What becomes of an event that is no command of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// It is published in a channel.
    Publish {
        /// Which.
        channel: Channel,
        /// To the sender's own connection, too.
        echo: bool,
    },
    /// The app's back end is called.
    Call,
}

/// A call to an app's back end.
#[derive(Debug, Clone)]
pub struct Called {
    /// By whom.
    pub grant: Arc<Grant>,
    /// By which connection.
    pub connection: Box<str>,
    /// What.
    pub name: Box<str>,
    /// Validated JSON.
    pub data: Bytes,
}

/// Tells, asks and calls apps' back ends.
///
/// - Nothing blocks, and what concerns an app without hooks costs a look at a flag.
/// - `tell` is best effort until the event is in the outbox, which takes a moment; from then on it is told at least once, and in order: of a channel's events, and of a user's.
///   What a [`Tap`](super::outbox::Tap) has put is there with the message.
/// - Each question is answered within a bounded time: when the back end does not answer, by what its app has said for that case.
pub trait Hooks: Send + Sync {
    /// Something has happened.
    fn tell(&self, event: Event);
    /// Whether the app wants to be asked.
    fn asks(&self, app: &App, ask: Ask, channel: Option<&Channel>) -> bool;
    /// Whether a message may be published, as those say that are asked about what `grant` publishes: with these data in the place of its own, if any are given; they are validated JSON.
    fn publishing(&self, publishing: Publishing, done: Decided<Option<Bytes>>);
    /// What an event of this name becomes; `None` when the app knows nothing of it.
    fn route(&self, app: &App, name: &str) -> Option<Route>;
    /// Channels that every Socket.IO client of an app follows from the beginning, to be given their messages as plain events.
    fn joined(&self, app: &App) -> Vec<Channel>;
    /// Calls the back end: its answer, as validated JSON.
    fn call(&self, called: Called, done: Decided<Bytes>);
}

/// No app has any.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn tell(&self, _: Event) {}

    fn asks(&self, _: &App, _: Ask, _: Option<&Channel>) -> bool {
        false
    }

    fn publishing(&self, _: Publishing, done: Decided<Option<Bytes>>) {
        done(Ok(None));
    }

    fn route(&self, _: &App, _: &str) -> Option<Route> {
        None
    }

    fn joined(&self, _: &App) -> Vec<Channel> {
        Vec::new()
    }

    fn call(&self, _: Called, done: Decided<Bytes>) {
        done(Err(crate::error::Code::UnknownCommand.into()));
    }
}

impl Called {
    /// Who calls.
    pub fn sender(&self) -> &Sender {
        &self.grant.sender
    }
}
