//! Between nodes: what one node publishes, the others that follow its topic receive.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Reader, Writer};
use crate::message::{Message, RecordError};
use crate::names::{App, Channel, ChannelKey, NodeId, User};
use crate::ports::presence::Delta;

/// What can be followed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A channel: messages, signals, presence.
    Channel(ChannelKey),
    /// A user of an app, on whatever node.
    User(App, User),
    /// One node.
    Node(NodeId),
    /// Every node.
    Nodes,
}

/// What travels on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A publication, with its position when its channel has history.
    Message(Arc<Message>),
    /// A signal: as a message, never stored.
    Signal(Arc<Message>),
    /// Users who came and went.
    Presence(ChannelKey, Arc<Delta>),
}

/// An event and the node that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The publishing node.
    pub origin: NodeId,
    /// What happened.
    pub event: Event,
}

/// What a bus tells its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// Another node published this.
    Envelope(Envelope),
    /// Events of this topic (of all topics, when `None`) may have been lost: read the log.
    Gap(Option<Topic>),
    /// The bus works (again).
    Up,
    /// The bus does not work; publishing has no effect until `Up`.
    Down,
}

/// Where a bus delivers. Called from the bus's own threads; must not block.
pub trait BusSink: Send + Sync {
    /// One event.
    fn receive(&self, inbound: Inbound);
}

/// Carries events to the *other* nodes; a node's own subscribers are never served by it.
///
/// - `publish` queues and never blocks. Delivery is at most once. Two publishes of one origin on one topic are never swapped. An event never comes back to
///   the node that published it. Whatever is lost is shown by [`Inbound::Gap`] where the bus can know of it.
/// - `follow` takes effect for everything that is published after another node can see it: a caller who must not miss anything reads the log *after* following.
///   Following twice is following once.
/// - `unfollow`: events already under way may still come.
pub trait Bus: Send + Sync {
    /// Queues an event for the other nodes that follow `topic`.
    fn publish(&self, topic: &Topic, event: Event);
    /// Begins to receive `topic`.
    fn follow(&self, topic: Topic);
    /// Ceases to receive `topic`.
    fn unfollow(&self, topic: &Topic);
}

/// The version that [`Envelope::encode`] writes.
pub const ENVELOPE_VERSION: u8 = 1;

impl Envelope {
    /// The bytes for a bus that leaves the process.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(256);
        out.byte(ENVELOPE_VERSION);
        out.text(self.origin.as_str());
        match &self.event {
            Event::Message(message) => {
                out.byte(0);
                out.bytes(&message.encode());
            }
            Event::Signal(message) => {
                out.byte(1);
                out.bytes(&message.encode());
            }
            Event::Presence(channel, delta) => {
                out.byte(2);
                out.text(channel.app.as_str());
                out.text(channel.name.as_str());
                delta.encode(&mut out);
            }
        }
        out.finish()
    }

    /// Reads what [`Envelope::encode`] wrote.
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        let corrupt = |_| RecordError::Corrupt;
        let mut input = Reader::new(bytes);
        match input.byte()? {
            ENVELOPE_VERSION => {}
            version => return Err(RecordError::Version(version)),
        }
        let origin = NodeId::new(input.text()?).map_err(corrupt)?;
        let event = match input.byte()? {
            0 => Event::Message(Arc::new(Message::decode(&input.bytes()?)?)),
            1 => Event::Signal(Arc::new(Message::decode(&input.bytes()?)?)),
            2 => {
                let app = App::new(input.text()?).map_err(corrupt)?;
                let name = Channel::new(input.text()?).map_err(corrupt)?;
                Event::Presence(ChannelKey::new(app, name), Arc::new(Delta::decode(&mut input)?))
            }
            _ => return Err(RecordError::Corrupt),
        };
        input.end()?;
        Ok(Self { origin, event })
    }
}

impl Event {
    /// The channel that the event belongs to.
    pub fn channel(&self) -> &ChannelKey {
        match self {
            Event::Message(message) | Event::Signal(message) => &message.channel,
            Event::Presence(channel, _) => channel,
        }
    }
}
