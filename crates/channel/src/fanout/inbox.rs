//! What is sent to a shard, and how it is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use xpush_core::message::Message;
use xpush_core::ports::PortError;
use xpush_core::ports::access::Changed;
use xpush_core::ports::bus::{Enlisting, Inbound, Moved, Signal};
use xpush_core::ports::cluster::View;
use xpush_core::ports::inquiry::{Inquiry, Report};
use xpush_core::ports::lease::Lease;
use xpush_core::ports::message_log::{Appended, Draft, Page};
use xpush_core::ports::online::{Movement, Status, Transition};
use xpush_core::ports::presence::{Delta, Member, Outcome, Roster};
use xpush_core::{
    App, ChannelKey, ClientId, Grant, Monotonic, NodeId, Position, Problem, Rule, UnixMillis, User,
};

use super::forward::Guests;
use super::marking::{self, Marks};
use super::notices::{Counted, Notification};
use super::receipts::Marked;
use crate::backend::{Batch, Tally};
use crate::cluster::inquiring::Inquire;
use crate::cluster::keeping::{Evicted, Knowledge, Store};
use crate::cluster::recount::{Count, Question, Relisted};
use crate::command::Asked;
use crate::command::members::Enrolled;
use crate::command::sanction::Sanctioned;
use crate::session::admission::Admitted;
use crate::session::change::Reviewed;
use crate::session::gate::Permitted;
use crate::session::kept::Reclaim;
use crate::session::online::Rolled;
use crate::session::recovery::{Kept, Pid};
use crate::transport::api::Opened;
use crate::transport::polling::{Poll, Post};
use crate::transport::{Open, Probe};

/// Where a session lives, or a connection of a back end. A slot is used again, with another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    pub(crate) shard: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A home within its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HomeRef {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Everything that reaches a shard other than by its sockets and its wheel.
pub(crate) enum Inbox {
    // From the HTTP front.
    Open(Box<Open>),
    OpenApi(Box<Opened>),
    /// To the request of a back end that a connection has brought; `None`: it broke off.
    ApiAnswered(Handle, Option<Vec<u8>>),
    Poll(Poll),
    Post(Box<Post>),
    Probe(Box<Probe>),
    // From sessions to a channel's home.
    Join(Box<Join>),
    Leave(Box<Leave>),
    Publish(Box<Publication>),
    /// From the app's own back end: several, for channels that are at home in this shard.
    PublishAll(Vec<Publication>),
    Signal {
        signal: Arc<Signal>,
        exclude: Option<Handle>,
    },
    // From a channel's home.
    Deliver(Delivery),
    Reply {
        to: Handle,
        asked: Asked,
        reply: Reply,
    },
    ApiPublished {
        to: Handle,
        number: u64,
        reply: Reply,
    },
    // From a session to one socket of an XPUSH 0.1 client.
    Direct {
        to: Handle,
        message: Arc<Message>,
    },
    // From the ports: completions.
    Appended(HomeRef, Result<Appended, PortError>),
    Followed(HomeRef, u32, Result<(), PortError>),
    PageRead(HomeRef, Wanted, Result<Page, PortError>),
    PresenceApplied(HomeRef, Result<Vec<Outcome>, PortError>),
    RosterRead(HomeRef, u32, Result<Roster, PortError>),
    Marked(Box<Marked>),
    JoinMarked(HomeRef, u32, Result<marking::Marked, PortError>),
    Counted(Box<Counted>),
    Heads(Vec<(ChannelKey, Position)>, Result<Vec<Position>, PortError>),
    Bus(Inbound),
    // For a user's sessions.
    OwnMarker {
        moved: Arc<Moved>,
        except: Option<Handle>,
    },
    Notify(Box<Notification>),
    // For the members of a message's channel, as far as they are connected with this node.
    Newest(Arc<Message>),
    // From ACCESS: completions, and news.
    Admitted(Box<Admitted>),
    Permitted(Box<Permitted>),
    // From the app's back end.
    Sanctioned(Box<Sanctioned>),
    Reviewed(Box<Reviewed>),
    Readmitted(Handle, Result<(), Problem>),
    // Of a client that recovers: to the shard that knows its pid, from there, and of whoever has it still.
    Keep(Pid, Option<Box<Kept>>),
    Reclaim(Box<Reclaim>),
    Reclaimed(Box<Reclaim>, Option<Box<Kept>>),
    Yield(Handle),
    Return(Handle),
    Changed(Box<Changed>),
    Enrolled(Box<Enrolled>),
    // To the shard that tells who is online, and what came of it.
    Moves(u16, Box<Movement>),
    Roll(u32),
    Rolled(Box<Rolled>),
    Transitions(Result<Vec<Transition>, PortError>),
    Chronicled(App, Result<Appended, PortError>),
    // Who is in channels, said again: between a home and the shards, and from the store.
    Restate,
    Recount(Question),
    Counts(Box<Count>),
    Restated(HomeRef, u64, Result<Delta, PortError>),
    Relisted(HomeRef, Box<Relisted>),
    Knowledge(Knowledge),
    // To the registry of hosts, and what came of it.
    Rehost,
    Hosted(Vec<ChannelKey>, Result<(), PortError>),
    // To the shard that keeps leases and clears up.
    View(Arc<View>),
    Leased(Store, Result<Lease, PortError>),
    Lapsed(Result<Vec<NodeId>, PortError>),
    Evicted(Evicted),
    /// By an app's own back end: for a user's sessions.
    Enlist(Arc<Enlisting>),
    /// Which of an app's channels are followed here.
    Tally(Arc<Tally>),
    // To the shard that asks other nodes: what is asked, by others, and what they tell.
    Inquire(Box<Inquire>),
    Asked(NodeId, Arc<Inquiry>),
    Told(NodeId, Arc<Report>),
    // From the node.
    Drain {
        within_ms: u64,
    },
    /// Connections are welcome again.
    Refill,
    /// Who belongs elsewhere is asked to go there.
    Rebalance {
        within_ms: u64,
    },
    Stop,
}

/// What a page was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To fill a hole behind this seq.
    Hole(u64),
    /// For the join of this ticket.
    Join(u32),
    /// To notify of what has waited.
    Notice,
}

/// A session begins to follow a channel.
pub(crate) struct Join {
    pub(crate) channel: ChannelKey,
    pub(crate) rule: Arc<Rule>,
    pub(crate) who: Handle,
    pub(crate) asked: Asked,
    /// The session's own number for this subscription.
    pub(crate) ticket: u32,
    /// The session follows already, and is counted.
    pub(crate) again: bool,
    pub(crate) since: Option<Position>,
    /// A position was given by someone who may not read what came behind it.
    pub(crate) unreadable: bool,
    /// Who enters, in a channel with presence.
    pub(crate) enters: Option<Entrance>,
    /// The answer shall say who is here.
    pub(crate) wants_roster: bool,
    /// The answer shall say how far this user is.
    pub(crate) marks_of: Option<User>,
    /// The answer shall say how far the others are.
    pub(crate) wants_receipts: bool,
}

/// A connection as presence counts it.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    pub(crate) member: Member,
    /// An XPUSH 0.1 client is announced by `_event`.
    pub(crate) legacy: Option<Arc<LegacyEntrance>>,
}

/// What `_event` says of an XPUSH 0.1 client: JSON members, as `"A":"demo","C":"room",…`.
#[derive(Debug)]
pub(crate) struct LegacyEntrance {
    pub(crate) came: Box<str>,
    pub(crate) left: Box<str>,
}

/// A session ceases to follow a channel.
pub(crate) struct Leave {
    pub(crate) channel: ChannelKey,
    pub(crate) who: Handle,
    pub(crate) ticket: u32,
    pub(crate) leaves: Option<Entrance>,
}

/// Who publishes, and is answered.
#[derive(Clone)]
pub(crate) enum Publisher {
    /// A session, by its command.
    Session(Handle, Asked),
    /// The app's own back end: the message of this number in a batch.
    Backend(Arc<Batch>, usize),
    /// The same, by the request of this number on a connection of its own.
    Request(Handle, u64),
    /// Another node, which has left it to this one: the draft of this number.
    Node(Arc<Guests>, usize),
}

/// Somebody publishes.
pub(crate) struct Publication {
    pub(crate) channel: ChannelKey,
    pub(crate) rule: Arc<Rule>,
    pub(crate) draft: Draft,
    pub(crate) by: Publisher,
    /// The publisher's own subscription gets it too.
    pub(crate) echo: bool,
    /// What an XPUSH 0.1 client's ack repeats.
    pub(crate) params: Option<Bytes>,
    /// When it was taken: its answer has a deadline.
    pub(crate) arrived: Monotonic,
}

/// Something for a channel's subscribers of this shard.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) happening: Happening,
    /// A session that does not get it.
    pub(crate) exclude: Option<Handle>,
}

/// What subscribers are told.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Message(Arc<Message>),
    Signal(Arc<Signal>),
    Presence(ChannelKey, Arc<Delta>),
    /// Who is there, all anew.
    Roster(ChannelKey, Arc<Roster>),
    /// Who is there cannot be known at the moment.
    Unknown(ChannelKey),
    /// A user has read further: for those who asked for receipts.
    Marker(Arc<Moved>),
    /// Messages up to and with this position cannot be had any more.
    Gap(ChannelKey, Position),
}

/// What a home, or a port, answers a session's command.
pub(crate) enum Reply {
    Joined(Box<Joined>),
    Published(Box<Published>),
    History(ChannelKey, Box<Page>),
    /// Who is in a channel, and, where that may be known, how they are: one status for each that is listed.
    Roster(ChannelKey, Box<Roster>, Vec<Status>),
    /// A new token was accepted by ACCESS.
    Renewed(Box<Grant>),
    /// The JSON object of `ok`.
    Body(String),
    Failed(Problem),
    JoinFailed {
        ticket: u32,
        problem: Problem,
    },
}

/// A publish that took effect.
pub(crate) struct Published {
    pub(crate) channel: ChannelKey,
    pub(crate) id: ClientId,
    pub(crate) position: Option<Position>,
    /// It had its place before.
    pub(crate) retry: bool,
    /// What it edits or deletes.
    pub(crate) target: Option<u64>,
    pub(crate) at: UnixMillis,
    pub(crate) params: Option<Bytes>,
}

/// A join that succeeded: from now on the home delivers everything behind `position`.
pub(crate) struct Joined {
    pub(crate) channel: ChannelKey,
    pub(crate) ticket: u32,
    /// The newest position that `missed` reaches; `None` in a channel without history.
    pub(crate) position: Option<Position>,
    /// With `since`: whether `missed` goes on exactly there.
    pub(crate) recovered: Option<bool>,
    pub(crate) missed: Vec<Arc<Message>>,
    pub(crate) roster: Option<Roster>,
    pub(crate) marks: Option<Box<Marks>>,
}

/// A shard's address. Posting wakes the shard only if it sleeps.
pub(crate) struct Mailbox {
    sender: Sender<Inbox>,
    asleep: AtomicBool,
    waker: Option<mio::Waker>,
}

impl Publisher {
    /// Whether both are one connection, one batch, or one node's forward.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Session(one, _), Self::Session(other, _)) => one == other,
            (Self::Request(one, _), Self::Request(other, _)) => one == other,
            (Self::Backend(one, _), Self::Backend(other, _)) => Arc::ptr_eq(one, other),
            (Self::Node(one, _), Self::Node(other, _)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Publication {
    /// The session that does not get the message.
    pub(crate) fn excluded(&self) -> Option<Handle> {
        match self.by {
            Publisher::Session(handle, _) if !self.echo => Some(handle),
            _ => None,
        }
    }
}

impl Happening {
    /// Whether it is for those only who asked who is there.
    pub(crate) fn is_of_presence(&self) -> bool {
        matches!(self, Self::Presence(..) | Self::Roster(..) | Self::Unknown(_))
    }

    pub(crate) fn channel(&self) -> &ChannelKey {
        match self {
            Self::Message(message) => &message.channel,
            Self::Signal(signal) => &signal.message.channel,
            Self::Presence(channel, _)
            | Self::Roster(channel, _)
            | Self::Unknown(channel)
            | Self::Gap(channel, _) => channel,
            Self::Marker(moved) => &moved.channel,
        }
    }
}

impl Mailbox {
    /// `waker` is `None` when somebody else turns the shard: a simulation.
    pub(crate) fn new(sender: Sender<Inbox>, waker: Option<mio::Waker>) -> Self {
        Self { sender, asleep: AtomicBool::new(false), waker }
    }

    /// Never blocks. After the shard has stopped, nothing happens.
    pub(crate) fn post(&self, inbox: Inbox) {
        if self.sender.send(inbox).is_err() {
            return;
        }
        // Pairs with the fence in `prepare_sleep`: either the shard sees the message, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = &self.waker
            && let Err(error) = waker.wake()
        {
            tracing::error!(%error, "cannot wake a shard");
        }
    }

    /// To be called before the last look into the inbox that precedes sleep.
    pub(crate) fn prepare_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// To be called after sleep, or when the last look found something.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
