//! Between nodes: what one node publishes, the others that follow its topic receive.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Reader, Writer};
use crate::message::{Message, RecordError};
use crate::names::{App, Channel, ChannelKey, NodeId, User};
use crate::ports::Done;
use crate::ports::forward::{Forward, Forwarded};
use crate::ports::inquiry::{Inquiry, Report};
use crate::ports::markers::Mark;
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
    Signal(Arc<Signal>),
    /// Users who came and went.
    Presence(ChannelKey, Arc<Delta>),
    /// A user's marker moved: for those who follow the channel with receipts.
    Marker(Arc<Moved>),
    /// The same, for the user's own connections, whatever they follow.
    OwnMarker(Arc<Moved>),
    /// The newest message of a channel whose members are notified: each node tells those that are connected with it.
    Notify(Arc<Message>),
    /// A user's connections shall follow a channel, or follow it no more: by its app's own back end.
    Enlist(Arc<Enlisting>),
    /// Drafts for the node that the topic names, as the channel's host.
    Forward(Arc<Forward>),
    /// The host's word on those of the node that the topic names.
    Forwarded(Arc<Forwarded>),
    /// A question to the node that the topic names, about itself.
    Inquiry(Arc<Inquiry>),
    /// The answer, to the node that asked.
    Report(Arc<Report>),
}

/// What a user's connections shall follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enlisting {
    /// Which channel.
    pub channel: ChannelKey,
    /// Whose connections.
    pub user: User,
    /// From now on; else no more.
    pub follows: bool,
}

/// What is told now and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// A message without position and id.
    pub message: Message,
    /// For how many ms what it tells holds.
    pub ttl_ms: Option<u64>,
}

/// A marker stands further on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where.
    pub channel: ChannelKey,
    /// Whose it is.
    pub user: User,
    /// What it tells.
    pub mark: Mark,
    /// Where it stands.
    pub seq: u64,
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
/// - `follow` takes effect for everything that is published after `done` was called with `Ok`: a caller who must not miss anything reads the log *then*. With an
///   error the topic is followed all the same as soon as the bus works, which [`Inbound::Gap`] shows; until then nobody should wait for it. Following twice is
///   following once, and each `done` is called.
/// - `unfollow`: events already under way may still come.
pub trait Bus: Send + Sync {
    /// Queues an event for the other nodes that follow `topic`.
    fn publish(&self, topic: &Topic, event: Event);
    /// Begins to receive `topic`; `done` is called when it is sure that nothing is missed any more, or that the bus does not work.
    fn follow(&self, topic: Topic, done: Done<()>);
    /// Ceases to receive `topic`.
    fn unfollow(&self, topic: &Topic);
}

/// The newest version that [`Envelope::encode`] writes; each event is written in the oldest one that has it, so that adjacent releases run mixed: a node
/// that does not know an event yet takes all the others. What it cannot read is a gap to it, and a forward that it cannot read is one that nobody answers.
pub const ENVELOPE_VERSION: u8 = 4;

/// Before nodes asked each other about themselves.
const THIRD_VERSION: u8 = 3;

/// Before drafts were forwarded.
const SECOND_VERSION: u8 = 2;

/// Before markers and notifications.
const FIRST_VERSION: u8 = 1;

impl Envelope {
    /// The bytes for a bus that leaves the process.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(256);
        out.byte(match self.event {
            Event::Inquiry(_) | Event::Report(_) => ENVELOPE_VERSION,
            Event::Forward(_) | Event::Forwarded(_) => THIRD_VERSION,
            _ => SECOND_VERSION,
        });
        out.text(self.origin.as_str());
        match &self.event {
            Event::Message(message) => {
                out.byte(0);
                out.bytes(&message.encode());
            }
            Event::Signal(signal) => {
                out.byte(1);
                out.bytes(&signal.message.encode());
                out.option(signal.ttl_ms, Writer::varint);
            }
            Event::Presence(channel, delta) => {
                out.byte(2);
                out.text(channel.app.as_str());
                out.text(channel.name.as_str());
                delta.encode(&mut out);
            }
            Event::Marker(moved) => {
                out.byte(3);
                moved.encode(&mut out);
            }
            Event::OwnMarker(moved) => {
                out.byte(4);
                moved.encode(&mut out);
            }
            Event::Notify(message) => {
                out.byte(5);
                out.bytes(&message.encode());
            }
            Event::Enlist(enlisting) => {
                out.byte(6);
                out.text(enlisting.channel.app.as_str());
                out.text(enlisting.channel.name.as_str());
                out.text(enlisting.user.as_str());
                out.byte(u8::from(enlisting.follows));
            }
            Event::Forward(forward) => {
                out.byte(7);
                forward.encode(&mut out);
            }
            Event::Forwarded(forwarded) => {
                out.byte(8);
                forwarded.encode(&mut out);
            }
            Event::Inquiry(inquiry) => {
                out.byte(9);
                inquiry.encode(&mut out);
            }
            Event::Report(report) => {
                out.byte(10);
                report.encode(&mut out);
            }
        }
        out.finish()
    }

    /// Reads what [`Envelope::encode`] wrote.
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        let mut input = Reader::new(bytes);
        let version = input.byte()?;
        if !(FIRST_VERSION..=ENVELOPE_VERSION).contains(&version) {
            return Err(RecordError::Version(version));
        }
        let origin = NodeId::new(input.text()?).map_err(corrupt)?;
        let message = |input: &mut Reader<'_>| Message::decode(&input.bytes()?);
        let event = match input.byte()? {
            0 => Event::Message(Arc::new(message(&mut input)?)),
            1 => {
                let message = message(&mut input)?;
                let ttl_ms = if version > FIRST_VERSION { input.option(Reader::varint)? } else { None };
                Event::Signal(Arc::new(Signal { message, ttl_ms }))
            }
            2 => Event::Presence(channel(&mut input)?, Arc::new(Delta::decode(&mut input)?)),
            3 => Event::Marker(Arc::new(Moved::decode(&mut input)?)),
            4 => Event::OwnMarker(Arc::new(Moved::decode(&mut input)?)),
            5 => Event::Notify(Arc::new(message(&mut input)?)),
            6 => {
                let channel = channel(&mut input)?;
                let user = User::new(input.text()?).map_err(corrupt)?;
                let follows = match input.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err(RecordError::Corrupt),
                };
                Event::Enlist(Arc::new(Enlisting { channel, user, follows }))
            }
            7 if version > SECOND_VERSION => Event::Forward(Arc::new(Forward::decode(&mut input)?)),
            8 if version > SECOND_VERSION => Event::Forwarded(Arc::new(Forwarded::decode(&mut input)?)),
            9 if version > THIRD_VERSION => Event::Inquiry(Arc::new(Inquiry::decode(&mut input)?)),
            10 if version > THIRD_VERSION => Event::Report(Arc::new(Report::decode(&mut input)?)),
            _ => return Err(RecordError::Corrupt),
        };
        input.end()?;
        Ok(Self { origin, event })
    }
}

impl Event {
    /// The channel that the event belongs to, if to any.
    pub fn channel(&self) -> Option<&ChannelKey> {
        Some(match self {
            Event::Inquiry(_) | Event::Report(_) => return None,
            Event::Message(message) | Event::Notify(message) => &message.channel,
            Event::Signal(signal) => &signal.message.channel,
            Event::Presence(channel, _) => channel,
            Event::Marker(moved) | Event::OwnMarker(moved) => &moved.channel,
            Event::Enlist(enlisting) => &enlisting.channel,
            Event::Forward(forward) => &forward.channel,
            Event::Forwarded(forwarded) => &forwarded.channel,
        })
    }
}

impl Moved {
    fn encode(&self, out: &mut Writer) {
        out.text(self.channel.app.as_str());
        out.text(self.channel.name.as_str());
        out.text(self.user.as_str());
        out.byte(match self.mark {
            Mark::Delivered => 0,
            Mark::Read => 1,
        });
        out.varint(self.seq);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        let channel = channel(input)?;
        let user = User::new(input.text()?).map_err(corrupt)?;
        let mark = match input.byte()? {
            0 => Mark::Delivered,
            1 => Mark::Read,
            _ => return Err(RecordError::Corrupt),
        };
        Ok(Self { channel, user, mark, seq: input.varint()? })
    }
}

pub(super) fn channel(input: &mut Reader<'_>) -> Result<ChannelKey, RecordError> {
    let app = App::new(input.text()?).map_err(corrupt)?;
    Ok(ChannelKey::new(app, Channel::new(input.text()?).map_err(corrupt)?))
}

fn corrupt<T>(_: T) -> RecordError {
    RecordError::Corrupt
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ports::forward::Word;

    /// A signal, as the version before wrote it.
    fn first() -> Vec<u8> {
        let record = b"\x01\x04demo\x06chat:a\x00\x01-\x01e\x03ann\x00\x2a\x04null\x00";
        let mut first = b"\x01\x01n\x01".to_vec();
        first.push(u8::try_from(record.len()).unwrap());
        first.extend(record);
        first
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(
            version in 0..=ENVELOPE_VERSION + 1,
            kind in 0..16_u8,
            body in proptest::collection::vec(any::<u8>(), 0..120),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            // Behind a version and an origin, so that what comes after them is reached.
            let any = [&[version, 1, b'n', kind][..], &body].concat();
            let mut other = first();
            let at = at.index(other.len());
            other[at] = byte;
            for bytes in [any, other] {
                if let Ok(read) = Envelope::decode(&Bytes::from(bytes)) {
                    prop_assert_eq!(Envelope::decode(&read.encode()), Ok(read));
                }
            }
        }
    }

    #[test]
    fn the_version_before_is_read() {
        let envelope = Envelope::decode(&Bytes::from(first())).unwrap();
        let Event::Signal(signal) = envelope.event else { panic!("a signal") };
        assert_eq!((signal.message.from.user.as_str(), signal.ttl_ms), ("ann", None));
    }

    #[test]
    fn an_event_is_written_in_the_oldest_version_that_has_it() {
        let channel = ChannelKey::new(App::new("demo").unwrap(), Channel::new("log:a").unwrap());
        let forwarded = Forwarded { channel: channel.clone(), number: 7, word: Word::Waits };
        let enlisting = Enlisting { channel, user: User::new("ann").unwrap(), follows: true };
        let version = |event| Envelope { origin: NodeId::new("n").unwrap(), event }.encode()[0];
        assert_eq!(version(Event::Enlist(Arc::new(enlisting))), 2, "servers of the release before read it");
        assert_eq!(version(Event::Forwarded(Arc::new(forwarded))), 3);
    }
}
