//! A slot's row.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};
use xpush_core::ports::message_log::Draft;
use xpush_core::{
    ChannelKey, ClientId, Epoch, EventName, Kind, Message, Payload, Position, Revision, Sender, User,
};

use crate::store::Fault;

/// Bits of a slot's key that are its seq: 68 billion slots in each of 134 million channels.
const SEQ_BITS: u32 = 36;

/// What data are that were deleted.
const NULL: Bytes = Bytes::from_static(b"null");

/// The columns of [`message`], and the tables that they come from: a message, and what its revision has made of it.
macro_rules! slot_columns {
    () => {
        "s.slot, s.kind, s.target, s.user, s.id, s.at, s.event, s.display, iif(r.slot IS NULL, s.json, r.json), \
         iif(r.slot IS NULL, s.attachments, r.attachments), r.slot, r.at, s.withdrawn \
         FROM slots AS s LEFT JOIN slots AS r ON r.slot = s.revised"
    };
}
pub(super) use slot_columns;

/// The key of a channel's slot.
pub(crate) const fn key(channel: i64, seq: u64) -> i64 {
    (channel << SEQ_BITS) | seq as i64
}

/// The channel of a key.
pub(crate) const fn channel(key: i64) -> i64 {
    key >> SEQ_BITS
}

/// The seq of a key.
pub(crate) const fn seq(key: i64) -> u64 {
    key as u64 & ((1 << SEQ_BITS) - 1)
}

/// What a sender's message of one id has in common with its retries, and with nothing else: 128 bits of a digest that nobody can aim at another's.
pub(super) fn fence(user: &User, id: &ClientId) -> [u8; 16] {
    let mut digest = Sha256::new();
    // Neither holds a control character.
    digest.update(user.as_str());
    digest.update([0]);
    digest.update(id.as_str());
    let mut fence = [0; 16];
    fence.copy_from_slice(&digest.finalize()[..16]);
    fence
}

/// `kind` as it is kept.
pub(super) const fn kind(kind: Kind) -> i64 {
    match kind {
        Kind::Message => 0,
        Kind::Silent => 1,
        Kind::Edit { .. } => 2,
        Kind::Delete { .. } => 3,
    }
}

/// Bytes as retention counts them.
pub(super) fn bytes_of(draft: &Draft) -> i64 {
    (draft.event.as_str().len() + draft.payload.size()) as i64
}

/// Each with its length before it; `None` when there are none.
pub(super) fn pack(attachments: &[Bytes]) -> Option<Bytes> {
    let size = attachments.iter().map(|attachment| 8 + attachment.len()).sum();
    let mut packed = BytesMut::with_capacity(size);
    for attachment in attachments {
        packed.put_u64_le(attachment.len() as u64);
        packed.put_slice(attachment);
    }
    (!attachments.is_empty()).then(|| packed.freeze())
}

/// Data as they are kept.
pub(super) fn payload(json: &[u8], attachments: Option<&[u8]>) -> Payload {
    Payload { json: Bytes::copy_from_slice(json), attachments: attachments.map_or_else(Vec::new, unpack) }
}

fn unpack(packed: &[u8]) -> Vec<Bytes> {
    let mut packed = Bytes::copy_from_slice(packed);
    let mut attachments = Vec::new();
    while packed.remaining() >= 8 {
        let len = usize::try_from(packed.get_u64_le()).unwrap_or(usize::MAX).min(packed.len());
        attachments.push(packed.split_to(len));
    }
    attachments
}

/// Reads a row of `slot_columns`. `draft`: who asks has the message again, should its body be blanked.
pub(super) fn message(
    row: &Row<'_>,
    channel: &ChannelKey,
    epoch: Epoch,
    draft: Option<&Draft>,
) -> Result<Message, Fault> {
    let text = |column| -> Result<&str, rusqlite::Error> { Ok(row.get_ref(column)?.as_str()?) };
    let target = || -> Result<u64, rusqlite::Error> { Ok(seq(row.get(2)?)) };
    let kind = match row.get::<_, i64>(1)? {
        0 => Kind::Message,
        1 => Kind::Silent,
        2 => Kind::Edit { target: target()? },
        _ => Kind::Delete { target: target()? },
    };
    let deleted = row.get::<_, Option<i64>>(12)?.is_some();
    let revision = match row.get::<_, Option<i64>>(10)? {
        Some(key) => Some(Revision { seq: seq(key), at: row.get::<_, i64>(11)? as u64, deleted }),
        None => None,
    };
    let blanked = row.get_ref(6)?.as_str_or_null()?.is_none();
    let payload = match (row.get_ref(8)?.as_blob_or_null()?, draft) {
        _ if deleted => Payload { json: NULL, attachments: Vec::new() },
        (Some(json), _) => self::payload(json, row.get_ref(9)?.as_blob_or_null()?),
        (None, Some(draft)) if blanked => draft.payload.clone(),
        (None, _) => Payload { json: NULL, attachments: Vec::new() },
    };
    let event = match (row.get_ref(6)?.as_str_or_null()?, draft) {
        (Some(event), _) => EventName::new(event).map_err(unreadable)?,
        (None, Some(draft)) => draft.event.clone(),
        (None, None) => return Err(unreadable("blanked")),
    };
    Ok(Message {
        kind,
        channel: channel.clone(),
        position: Some(Position { epoch, seq: seq(row.get(0)?) }),
        id: ClientId::new(text(4)?).map_err(unreadable)?,
        event,
        payload,
        from: Sender {
            user: User::new(text(3)?).map_err(unreadable)?,
            name: row.get_ref(7)?.as_str_or_null()?.map(Arc::from),
        },
        at: row.get::<_, i64>(5)? as u64,
        revision,
    })
}

/// What is asked of a slot that is not its body.
pub(super) struct Sums {
    pub(super) placed: u64,
    /// Before the slot.
    pub(super) counted: i64,
    /// Before the slot.
    pub(super) bytes: i64,
}

/// `None` when the slot is gone.
pub(super) fn sums(connection: &Connection, key: i64) -> Result<Option<Sums>, Fault> {
    let mut select = connection.prepare_cached("SELECT placed, counted, bytes FROM slots WHERE slot = ?1")?;
    let sums = |row: &Row<'_>| {
        Ok(Sums { placed: row.get::<_, i64>(0)? as u64, counted: row.get(1)?, bytes: row.get(2)? })
    };
    Ok(select.query_row([key], sums).optional()?)
}

fn unreadable(what: impl std::fmt::Display) -> Fault {
    let detail = format!("a slot cannot be read: {what}");
    Fault::Port(xpush_core::ports::PortError::new(xpush_core::ports::Failure::NotApplied, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_channel_and_a_seq() {
        assert!(key(1, (1 << SEQ_BITS) - 1) < key(2, 0));
        assert_eq!(seq(key(134_000_000, 68_000_000_000)), 68_000_000_000);
        assert!(key(134_000_000, 0) > 0);
    }

    #[test]
    fn attachments_are_read_as_they_were_packed() {
        for attachments in [vec![], vec![Bytes::new()], vec![Bytes::from_static(b"ab"), Bytes::new()]] {
            assert_eq!(pack(&attachments).map_or_else(Vec::new, |packed| unpack(&packed)), attachments);
        }
    }
}
