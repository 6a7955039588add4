//! A message as it travels: through homes, over the bus, into the log and out again.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Reader, Writer};
use crate::environment::UnixMillis;
use crate::names::{App, Channel, ChannelKey, ClientId, EventName, User};

/// The identity of a stretch of history: it changes only when history was lost or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A place in a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// In which history.
    pub epoch: Epoch,
    /// 1, 2, 3 … without holes; 0 is the place before the first message.
    pub seq: u64,
}

/// What a client published: JSON text in which `{"_placeholder":true,"num":n}` stands for attachment n.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// Validated JSON, in the bytes that came in.
    pub json: Bytes,
    /// Binary attachments; when there are none, placeholders in `json` mean nothing.
    pub attachments: Vec<Bytes>,
}

/// Who published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The user.
    pub user: User,
    /// The display name.
    pub name: Option<Arc<str>>,
}

/// What takes a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A message.
    #[default]
    Message,
    /// A message that is not counted as unread and notifies nobody.
    Silent,
    /// New data for the message in slot `target`.
    Edit {
        /// An earlier message's seq.
        target: u64,
    },
    /// The message in slot `target` is withdrawn.
    Delete {
        /// An earlier message's seq.
        target: u64,
    },
}

/// What later slots have made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// The slot of the newest edit, or of the deletion.
    pub seq: u64,
    /// When, ms since 1970.
    pub at: UnixMillis,
    /// Withdrawn: the data are `null`.
    pub deleted: bool,
}

/// One publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Where it was published.
    pub channel: ChannelKey,
    /// Its place; `None` in a channel without history.
    pub position: Option<Position>,
    /// The publisher's id for it; with the sender it identifies a retry.
    pub id: ClientId,
    /// The event's name.
    pub event: EventName,
    /// The data.
    pub payload: Payload,
    /// Who published it.
    pub from: Sender,
    /// When the first node took it, ms since 1970.
    pub at: UnixMillis,
    /// Of a message read from a log: the newest edit or the deletion, which `payload` shows already. Who meets that edit's own slot later has it already.
    pub revision: Option<Revision>,
}

/// Bytes that are no record of a version that this build reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// Written by a release that this one does not know.
    Version(u8),
    /// Cut off or altered.
    Corrupt,
}

/// The version that [`Message::encode`] writes. A reader takes this one and its predecessor, so that adjacent releases run mixed.
pub const RECORD_VERSION: u8 = 2;

/// Before edits.
const FIRST_VERSION: u8 = 1;

impl Message {
    /// Whether it was withdrawn.
    pub fn is_deleted(&self) -> bool {
        self.revision.is_some_and(|revision| revision.deleted)
    }

    /// The record that bus and log carry.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(self.payload.json.len() + 128);
        out.byte(RECORD_VERSION);
        out.text(self.channel.app.as_str());
        out.text(self.channel.name.as_str());
        out.option(self.position, |out, position| {
            out.varint(position.epoch.0);
            out.varint(position.seq);
        });
        out.text(self.id.as_str());
        out.text(self.event.as_str());
        out.text(self.from.user.as_str());
        out.option(self.from.name.as_deref(), Writer::text);
        out.varint(self.at);
        out.bytes(&self.payload.json);
        out.varint(self.payload.attachments.len() as u64);
        for attachment in &self.payload.attachments {
            out.bytes(attachment);
        }
        let (kind, target) = match self.kind {
            Kind::Message => (0, None),
            Kind::Silent => (1, None),
            Kind::Edit { target } => (2, Some(target)),
            Kind::Delete { target } => (3, Some(target)),
        };
        out.byte(kind);
        target.into_iter().for_each(|target| out.varint(target));
        out.option(self.revision, |out, revision| {
            out.varint(revision.seq);
            out.varint(revision.at);
            out.byte(u8::from(revision.deleted));
        });
        out.finish()
    }

    /// Reads a record; data and attachments share its memory.
    pub fn decode(record: &Bytes) -> Result<Self, RecordError> {
        let mut input = Reader::new(record);
        let version = input.byte()?;
        if !(FIRST_VERSION..=RECORD_VERSION).contains(&version) {
            return Err(RecordError::Version(version));
        }
        let app = App::new(input.text()?).map_err(corrupt)?;
        let name = Channel::new(input.text()?).map_err(corrupt)?;
        let position =
            input.option(|input| Ok(Position { epoch: Epoch(input.varint()?), seq: input.varint()? }))?;
        let id = ClientId::new(input.text()?).map_err(corrupt)?;
        let event = EventName::new(input.text()?).map_err(corrupt)?;
        let user = User::new(input.text()?).map_err(corrupt)?;
        let display = input.option(|input| Ok(Arc::from(input.text()?)))?;
        let at = input.varint()?;
        let json = input.bytes()?;
        let mut attachments = Vec::new();
        for _ in 0..input.varint()? {
            attachments.push(input.bytes()?);
        }
        let (mut kind, mut revision) = (Kind::Message, None);
        if version > FIRST_VERSION {
            kind = match input.byte()? {
                0 => Kind::Message,
                1 => Kind::Silent,
                2 => Kind::Edit { target: input.varint()? },
                3 => Kind::Delete { target: input.varint()? },
                _ => return Err(RecordError::Corrupt),
            };
            revision = input.option(|input| {
                let (seq, at) = (input.varint()?, input.varint()?);
                let deleted = match input.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err(RecordError::Corrupt),
                };
                Ok(Revision { seq, at, deleted })
            })?;
        }
        input.end()?;
        Ok(Self {
            kind,
            revision,
            channel: ChannelKey::new(app, name),
            position,
            id,
            event,
            payload: Payload { json, attachments },
            from: Sender { user, name: display },
            at,
        })
    }

    /// The seq, 0 in a channel without history.
    pub fn seq(&self) -> u64 {
        self.position.map_or(0, |position| position.seq)
    }
}

impl Kind {
    /// Whether it counts as unread for those who have not read it.
    pub const fn is_countable(self) -> bool {
        matches!(self, Self::Message)
    }

    /// Whether it can be edited and deleted.
    pub const fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Silent)
    }

    /// The slot that it changes.
    pub const fn target(self) -> Option<u64> {
        match self {
            Self::Message | Self::Silent => None,
            Self::Edit { target } | Self::Delete { target } => Some(target),
        }
    }
}

impl Payload {
    /// Bytes of data and attachments.
    pub fn size(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Epoch {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

fn corrupt<T>(_: T) -> RecordError {
    RecordError::Corrupt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Message> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
        (
            ("[a-z]{1,8}", "[a-z:]{1,16}", "[ -~]{1,64}", "[ -~]{1,64}", "[ -~]{1,32}"),
            proptest::option::of("[ -~]{1,64}"),
            proptest::option::of((any::<u64>(), any::<u64>())),
            any::<u64>(),
            (bytes(), proptest::collection::vec(bytes(), 0..4)),
            prop_oneof![
                Just(Kind::Message),
                Just(Kind::Silent),
                any::<u64>().prop_map(|target| Kind::Edit { target }),
                any::<u64>().prop_map(|target| Kind::Delete { target }),
            ],
            proptest::option::of(
                (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(seq, at, deleted)| Revision {
                    seq,
                    at,
                    deleted,
                }),
            ),
        )
            .prop_map(|(names, display, position, at, (json, attachments), kind, revision)| {
                let (app, name, id, event, user): (String, String, String, String, String) = names;
                Message {
                    kind,
                    revision,
                    channel: ChannelKey::new(App::new(&app).unwrap(), Channel::new(&name).unwrap()),
                    position: position.map(|(epoch, seq)| Position { epoch: Epoch(epoch), seq }),
                    id: ClientId::new(&id).unwrap(),
                    event: EventName::new(&event).unwrap(),
                    payload: Payload { json, attachments },
                    from: Sender { user: User::new(&user).unwrap(), name: display.map(Arc::from) },
                    at,
                }
            })
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(message in message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn a_record_cut_anywhere_is_refused(message in message(), cut in any::<prop::sample::Index>()) {
            let record = message.encode();
            let cut = cut.index(record.len());
            prop_assert!(Message::decode(&record.slice(..cut)).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut record = vec![RECORD_VERSION];
            record.extend(bytes);
            let _ = Message::decode(&Bytes::from(record));
        }
    }

    #[test]
    fn the_version_before_is_read() {
        let first: &[u8] = b"\x01\x04demo\x06chat:a\x01\x07\x05\x02id\x01e\x03ann\x00\x2a\x04null\x00";
        let message = Message::decode(&Bytes::from_static(first)).unwrap();
        assert_eq!((message.seq(), message.at, message.kind, message.revision), (5, 42, Kind::Message, None));
    }

    #[test]
    fn a_later_version_is_named() {
        assert_eq!(Message::decode(&Bytes::from_static(&[9, 1, 2])), Err(RecordError::Version(9)));
    }

    #[test]
    fn epochs_as_text() {
        assert_eq!(Epoch::parse(&Epoch(0xab).to_string()), Some(Epoch(0xab)));
        for bad in ["", "ab", "00000000000000zz", "+00000000000000a", "00000000000000000"] {
            assert_eq!(Epoch::parse(bad), None, "{bad}");
        }
    }
}
