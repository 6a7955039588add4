//! Socket.IO packets: protocol 4 (with Engine.IO 3) and 5 (with Engine.IO 4).
//!
//! A packet is a text message, followed by its binary attachments; or, with the msgpack parser, one binary message.

use bytes::Bytes;

use crate::engine::Version;

/// The packet types; the discriminant is the digit on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Connection to a namespace.
    Connect = 0,
    /// Disconnection from a namespace.
    Disconnect = 1,
    /// An event.
    Event = 2,
    /// An event's acknowledgement.
    Ack = 3,
    /// A refused connection (ERROR in protocol 4).
    ConnectError = 4,
    /// An event with attachments.
    BinaryEvent = 5,
    /// An acknowledgement with attachments.
    BinaryAck = 6,
}

/// A packet as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The type.
    pub kind: Kind,
    /// How many binary messages follow (0 unless the kind is binary).
    pub attachments: usize,
    /// The namespace without its query; `/` when absent.
    pub namespace: &'a str,
    /// Protocol 4: the query that a CONNECT's namespace carries (`/channel?A=…`), without `?`; else empty.
    pub query: &'a str,
    /// The acknowledgement's id.
    pub id: Option<u64>,
    /// The rest: validated JSON (an array for events and acks, an object or nothing for CONNECT); empty when absent.
    pub data: &'a str,
}

/// Why a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// An unknown type, or a type that its place does not allow.
    UnknownType,
    /// Digits that are no number, over-long digit runs (more than 15), a missing `-`, an attachment count on a kind that has none.
    Malformed,
    /// More attachments than `max_attachments`.
    TooManyAttachments,
    /// The data are not JSON, or not of the shape that the type needs: an event is a non-empty array with a string first; an ack is an array; a CONNECT has an object or nothing; a DISCONNECT has nothing.
    Data,
    /// Nested deeper than the server accepts.
    TooDeep,
    /// Attachments and placeholders do not fit together.
    Placeholders,
}

/// Reads a text packet (the message after Engine.IO's `4`).
///
/// For the binary kinds [`crate::json::placeholders_match`] is checked here.
pub fn read<'a>(version: Version, text: &'a str, max_attachments: usize) -> Result<Packet<'a>, Error> {
    let _ = (version, text, max_attachments);
    todo!()
}

/// A packet of the msgpack parser, in the canonical form. BINARY_EVENT and BINARY_ACK do not occur on this wire (socket.io-msgpack-parser sends EVENT and ACK).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The type.
    pub kind: Kind,
    /// The namespace; `/` when absent.
    pub namespace: String,
    /// The acknowledgement's id.
    pub id: Option<u64>,
    /// As [`Packet::data`]: validated JSON with placeholders; empty when absent.
    pub data: String,
    /// What the placeholders stand for.
    pub attachments: Vec<Bytes>,
}

/// Reads a packet of `socket.io-msgpack-parser`: a map with `type`, `nsp`, `data`, `id`, `options` (ignored).
pub fn read_msgpack(data: &[u8], max_attachments: usize) -> Result<Unpacked, Error> {
    let _ = (data, max_attachments);
    todo!()
}

/// Appends the head of a text packet: type, `<attachments>-` for the binary kinds, `<namespace>,` unless it is `/`, the id. The data follow.
pub fn write_head(kind: Kind, attachments: usize, namespace: &str, id: Option<u64>, out: &mut Vec<u8>) {
    let _ = (kind, attachments, namespace, id, out);
    todo!()
}

/// Appends a msgpack packet with `data` (valid JSON, or empty for none) transcoded.
pub fn write_msgpack(
    kind: Kind,
    namespace: &str,
    id: Option<u64>,
    data: &str,
    attachments: &[Bytes],
    out: &mut Vec<u8>,
) {
    let _ = (kind, namespace, id, data, attachments, out);
    todo!()
}
