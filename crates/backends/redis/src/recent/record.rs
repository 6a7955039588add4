//! The bytes of a slot: a message's record without its data, and the data, which edits and deletions replace.

use bytes::Bytes;
use xpush_core::ports::message_log::Draft;
use xpush_core::{ChannelKey, Message, Payload};

/// The version that [`data`] writes; also in `log.lua`, which writes deleted data.
const VERSION: u8 = 1;

/// All of a message but its place, its data and what became of it.
pub(super) fn head(channel: &ChannelKey, draft: &Draft) -> Bytes {
    let Draft { kind, id, event, from, at, .. } = draft.clone();
    let (channel, payload) = (channel.clone(), Payload::default());
    Message { kind, revision: None, channel, position: None, id, event, payload, from, at }.encode()
}

/// A version, then JSON and attachments, each behind its length in 4 bytes, the lowest first.
pub(super) fn data(payload: &Payload) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.size() + 5 + 4 * payload.attachments.len());
    out.push(VERSION);
    for part in std::iter::once(&payload.json).chain(&payload.attachments) {
        // Larger payloads are refused before.
        out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Reads what [`data`] wrote; shares its memory.
pub(super) fn read_data(bytes: &Bytes) -> Option<Payload> {
    let (version, mut rest) = (*bytes.first()?, bytes.slice(1..));
    if version != VERSION {
        return None;
    }
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let len = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
        let end = len.checked_add(4).filter(|end| *end <= rest.len())?;
        parts.push(rest.slice(4..end));
        rest = rest.slice(end..);
    }
    if parts.is_empty() {
        return None;
    }
    let attachments = parts.split_off(1);
    Some(Payload { json: parts.remove(0), attachments })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn data_are_read_as_they_were_written(json in vec(any::<u8>(), 0..64), attachments in vec(vec(any::<u8>(), 0..64), 0..4)) {
            let attachments = attachments.into_iter().map(Bytes::from).collect();
            let payload = Payload { json: Bytes::from(json), attachments };
            prop_assert_eq!(read_data(&Bytes::from(data(&payload))), Some(payload));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..64)) {
            let mut bytes = bytes;
            bytes.insert(0, VERSION);
            let bytes = Bytes::from(bytes);
            if let Some(payload) = read_data(&bytes) {
                prop_assert_eq!(data(&payload), bytes);
            }
        }
    }

    #[test]
    fn what_the_script_writes_for_deleted_data_is_null() {
        let payload = read_data(&Bytes::from_static(b"\x01\x04\x00\x00\x00null")).unwrap();
        assert_eq!((&*payload.json, payload.attachments.len()), (&b"null"[..], 0));
    }
}
