//! A slot's document.
//!
//! | field | is |
//! |---|---|
//! | `_id` | `c` and `s` |
//! | `c`, `s` | the channel in one of its lives ([`slots_id`]) and the seq: unique together |
//! | `h` | the fence: whose message of which id, unique in its channel; see [`fence`]. Of a slot that was erased, anything |
//! | `k`, `t` | the kind, and of an edit or a deletion the slot that it changes; of a counted message that was erased, itself |
//! | `d` | 1 for a deletion whose target was counted, and for a counted message that was erased |
//! | `u`, `i`, `at` | sender, its id for the message, and when, as the draft said |
//! | `p`, `w` | when it was placed, by the ledger's clock (never less than the slot before) and by the wall clock |
//! | `n`, `b` | what the slots before it came to: messages that count as unread, and bytes as retention counts them |
//! | `o` | its own bytes |
//! | `f`, `g` | the smallest slot that may be read once this one is the newest, and the age (ms) beyond which none may |
//! | `l` | the newest slot up to this one that is a message; 0: none |
//! | `e`, `y`, `j`, `x` | the body: event, display name, JSON, attachments; retention takes it out |
//! | `r` | of a message: the newest edit or deletion that was folded in; its `j` and `x` are gone then |
//! | `z` | of a deleted message: the deletion's `at` |
//! | `q` | it is the last one: the channel has begun anew |
//! | `tell` | apps' back ends are still to be told of it; [`telling`](super::telling) has it |

use std::sync::Arc;

use bytes::Bytes;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use sha2::{Digest, Sha256};
use xpush_core::ports::message_log::Draft;
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, ClientId, EventName, Kind, Message, Payload, Sender, User};

/// What data are that were deleted.
pub(super) const NULL: Bytes = Bytes::from_static(b"null");

pub(super) const MESSAGE: i32 = 0;
pub(super) const SILENT: i32 = 1;
pub(super) const EDIT: i32 = 2;
pub(super) const DELETE: i32 = 3;

/// Bytes of a digest that a channel, or a sender with an id, is known by: nobody can aim at another's.
const DIGEST: usize = 16;

/// Everything of a slot but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    pub(super) user: String,
    pub(super) at: u64,
    pub(super) uncounts: bool,
    pub(super) placed: u64,
    pub(super) wall: u64,
    /// Before the slot.
    pub(super) counted: u64,
    /// Before the slot.
    pub(super) bytes: u64,
    pub(super) own_bytes: u64,
    pub(super) first: u64,
    pub(super) age: u64,
    pub(super) newest: u64,
    /// The newest change that was folded in.
    pub(super) revised: u64,
    /// When it was deleted.
    pub(super) deleted_at: Option<u64>,
    /// Behind it the channel begins anew.
    pub(super) is_last: bool,
}

/// A slot as a message, before what has been made of it since.
pub(super) struct Content {
    pub(super) slot: Slot,
    pub(super) id: ClientId,
    pub(super) name: Option<Arc<str>>,
    /// `None` when retention has blanked it.
    pub(super) event: Option<EventName>,
    /// `None` when it was taken out: by retention, or because a newer one or none counts.
    pub(super) payload: Option<Payload>,
}

impl Slot {
    /// Countable messages up to this one.
    pub(super) fn counted_through(&self) -> u64 {
        self.counted + u64::from(self.kind.is_countable())
    }

    /// Bytes up to this one.
    pub(super) const fn bytes_through(&self) -> u64 {
        self.bytes + self.own_bytes
    }

    pub(super) fn read(document: &Document) -> Result<Self, PortError> {
        Self::parse(document).ok_or_else(unreadable)
    }

    fn parse(document: &Document) -> Option<Self> {
        let number = |field: &str| document.get_i64(field).ok().map(|value| value as u64);
        let kind = match (document.get_i32("k").ok()?, number("t")) {
            (MESSAGE, _) => Kind::Message,
            (SILENT, _) => Kind::Silent,
            (EDIT, Some(target)) => Kind::Edit { target },
            (DELETE, Some(target)) => Kind::Delete { target },
            _ => return None,
        };
        Some(Self {
            seq: number("s")?,
            kind,
            user: document.get_str("u").ok()?.to_owned(),
            at: number("at")?,
            uncounts: document.contains_key("d"),
            placed: number("p")?,
            wall: number("w")?,
            counted: number("n")?,
            bytes: number("b")?,
            own_bytes: number("o")?,
            first: number("f")?,
            age: number("g")?,
            newest: number("l")?,
            revised: number("r").unwrap_or(0),
            deleted_at: number("z"),
            is_last: document.contains_key("q"),
        })
    }

    /// The document of a new slot.
    pub(super) fn document(&self, channel: &Binary, draft: &Draft) -> Document {
        let mut document = doc! {
            "_id": place(channel, self.seq),
            "c": channel.clone(),
            "s": self.seq as i64,
            "h": fence(&draft.from.user, &draft.id),
            "k": number_of(self.kind),
            "u": &self.user,
            "i": draft.id.as_str(),
            "at": self.at as i64,
            "p": self.placed as i64,
            "w": self.wall as i64,
            "n": self.counted as i64,
            "b": self.bytes as i64,
            "o": self.own_bytes as i64,
            "f": self.first as i64,
            "g": self.age as i64,
            "l": self.newest as i64,
            "e": draft.event.as_str(),
            "j": binary(&draft.payload.json),
        };
        if let Some(target) = self.kind.target() {
            document.insert("t", target as i64);
        }
        if self.uncounts {
            document.insert("d", 1);
        }
        if self.is_last {
            document.insert("q", true);
        }
        if let Some(name) = &draft.from.name {
            document.insert("y", &**name);
        }
        if !draft.payload.attachments.is_empty() {
            let attachments = draft.payload.attachments.iter().map(|bytes| Bson::Binary(binary(bytes)));
            document.insert("x", attachments.collect::<Vec<_>>());
        }
        document
    }
}

impl Content {
    pub(super) fn read(document: &Document) -> Result<Self, PortError> {
        Self::parse(document).ok_or_else(unreadable)
    }

    fn parse(document: &Document) -> Option<Self> {
        let event = match document.get("e") {
            None => None,
            Some(event) => Some(EventName::new(event.as_str()?).ok()?),
        };
        let name = match document.get("y") {
            None => None,
            Some(name) => Some(Arc::from(name.as_str()?)),
        };
        Some(Self {
            slot: Slot::parse(document)?,
            id: ClientId::new(document.get_str("i").ok()?).ok()?,
            name,
            event,
            payload: payload(document)?,
        })
    }

    pub(super) fn sender(&self) -> Result<Sender, PortError> {
        let user = User::new(&self.slot.user).map_err(|_| unreadable())?;
        Ok(Sender { user, name: self.name.clone() })
    }
}

/// The data of a slot, when it has any; `None` when they are not what data are.
fn payload(document: &Document) -> Option<Option<Payload>> {
    let Some(json) = document.get("j") else { return Some(None) };
    let bytes = |bson: &Bson| match bson {
        Bson::Binary(Binary { bytes, .. }) => Some(Bytes::copy_from_slice(bytes)),
        _ => None,
    };
    let attachments = match document.get("x") {
        None => Vec::new(),
        Some(attachments) => attachments.as_array()?.iter().map(bytes).collect::<Option<_>>()?,
    };
    Some(Some(Payload { json: bytes(json)?, attachments }))
}

/// What a channel is known by. Names of other lengths and apps never meet, and channels spread evenly whatever they are called.
pub(super) fn channel_id(key: &ChannelKey) -> Binary {
    binary(&digest(&[key.app.as_str(), key.name.as_str()]))
}

/// What the slots and markers of one of a channel's lives are known by: their shard key, too. The first life's is the channel's.
pub(super) fn slots_id(channel: &Binary, incarnation: u64) -> Binary {
    if incarnation == 0 {
        return channel.clone();
    }
    let mut hash = Sha256::new();
    hash.update(&channel.bytes);
    hash.update(incarnation.to_be_bytes());
    binary(&hash.finalize()[..DIGEST])
}

/// What a sender's message of one id has in common with its retries, and with nothing else in its channel.
pub(super) fn fence(user: &User, id: &ClientId) -> Binary {
    binary(&digest(&[user.as_str(), id.as_str()]))
}

/// A fence that nobody's message has.
pub(super) fn no_fence() -> Binary {
    binary(&[crate::random().to_be_bytes(), crate::random().to_be_bytes()].concat())
}

/// What a slot's document is known by.
pub(super) fn place(channel: &Binary, seq: u64) -> Binary {
    let mut place = channel.bytes.clone();
    place.extend(seq.to_be_bytes());
    binary(&place)
}

/// What a user's marker in a channel is known by.
pub(super) fn marker_id(channel: &Binary, user: &str) -> Binary {
    let mut id = channel.bytes.clone();
    id.extend(digest(&[user]));
    binary(&id)
}

/// Bytes as retention counts them.
pub(super) fn bytes_of(draft: &Draft) -> u64 {
    (draft.event.as_str().len() + draft.payload.size()) as u64
}

pub(super) fn message(key: &ChannelKey, position: xpush_core::Position, draft: Draft) -> Message {
    let Draft { kind, id, event, payload, from, at, .. } = draft;
    Message {
        kind,
        channel: key.clone(),
        position: Some(position),
        id,
        event,
        payload,
        from,
        at,
        revision: None,
    }
}

pub(super) const fn number_of(kind: Kind) -> i32 {
    match kind {
        Kind::Message => MESSAGE,
        Kind::Silent => SILENT,
        Kind::Edit { .. } => EDIT,
        Kind::Delete { .. } => DELETE,
    }
}

fn digest(parts: &[&str]) -> [u8; DIGEST] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        // No name holds a control character.
        digest.update([0]);
    }
    let mut short = [0; DIGEST];
    short.copy_from_slice(&digest.finalize()[..DIGEST]);
    short
}

pub(super) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

pub(super) fn unreadable() -> PortError {
    PortError::new(Failure::NotApplied, "a slot cannot be read")
}
