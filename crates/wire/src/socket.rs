//! Socket.IO packets: protocol 4 (with Engine.IO 3) and 5 (with Engine.IO 4).
//!
//! A packet is a text message, followed by its binary attachments; or, with the msgpack parser, one binary message.

use std::io::Write as _;

use bytes::Bytes;

use crate::engine::Version;
use crate::{json, msgpack};

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

/// A count or an id with more digits than this is an attack, not a number (and would lose precision in JavaScript).
const MAX_DIGITS: usize = 15;

impl Kind {
    /// Whether binary messages follow.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Connect,
            1 => Self::Disconnect,
            2 => Self::Event,
            3 => Self::Ack,
            4 => Self::ConnectError,
            5 => Self::BinaryEvent,
            6 => Self::BinaryAck,
            _ => return None,
        })
    }
}

impl From<json::Error> for Error {
    fn from(error: json::Error) -> Self {
        match error {
            json::Error::TooDeep(_) => Self::TooDeep,
            json::Error::Syntax(_) | json::Error::Utf8(_) => Self::Data,
        }
    }
}

impl From<msgpack::Error> for Error {
    fn from(error: msgpack::Error) -> Self {
        match error {
            msgpack::Error::TooDeep => Self::TooDeep,
            msgpack::Error::TooManyAttachments => Self::TooManyAttachments,
            msgpack::Error::Truncated | msgpack::Error::Malformed | msgpack::Error::Utf8 => Self::Malformed,
        }
    }
}

/// Reads a text packet (the message after Engine.IO's `4`).
///
/// For the binary kinds [`crate::json::placeholders_match`] is checked here.
pub fn read<'a>(version: Version, text: &'a str, max_attachments: usize) -> Result<Packet<'a>, Error> {
    let digit = text.bytes().next().filter(u8::is_ascii_digit).ok_or(Error::UnknownType)?;
    let kind = Kind::from_number(u64::from(digit - b'0')).ok_or(Error::UnknownType)?;
    let mut rest = &text[1..];

    let mut attachments = 0;
    if kind.is_binary() {
        let (count, after) = split_number(rest)?;
        attachments = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        rest = after.strip_prefix('-').ok_or(Error::Malformed)?;
        if attachments == 0 {
            return Err(Error::Malformed); // as in the newer parsers; nothing would come to complete the packet
        } else if attachments > max_attachments {
            return Err(Error::TooManyAttachments);
        }
    }

    let (mut namespace, mut query) = ("/", "");
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        // Only protocol 4 has queries there; its servers ignore all but the CONNECT's.
        if version == Version::V3
            && let Some((before, behind)) = namespace.split_once('?')
        {
            namespace = before;
            query = if kind == Kind::Connect { behind } else { "" };
        }
    }

    let (id, rest) = split_number(rest)?;
    if rest.starts_with('-') {
        return Err(Error::Malformed);
    }

    let data = json::trim(rest);
    if !data.is_empty() {
        json::validate(data)?;
    }
    if !has_shape(kind, data) || (version == Version::V3 && kind == Kind::Connect && !data.is_empty()) {
        return Err(Error::Data);
    }
    if !json::placeholders_match(data, attachments) {
        return Err(Error::Placeholders);
    }
    Ok(Packet { kind, attachments, namespace, query, id, data })
}

/// Reads a packet of `socket.io-msgpack-parser`: a map with `type`, `nsp`, `data`, `id`, `options` (ignored).
///
/// In protocol 4 the namespace of a CONNECT still has its query: there is no version here to tell.
pub fn read_msgpack(data: &[u8], max_attachments: usize) -> Result<Unpacked, Error> {
    let mut input = data;
    let msgpack::Token::Map(len) = msgpack::token(&mut input)? else { return Err(Error::Malformed) };
    let (mut kind, mut namespace, mut id, mut json) = (None, None, None, None);
    let mut attachments = Vec::new();
    for _ in 0..len {
        let msgpack::Token::Str(key) = msgpack::token(&mut input)? else { return Err(Error::Malformed) };
        match key {
            "type" if kind.is_none() => {
                let msgpack::Token::Unsigned(number) = msgpack::token(&mut input)? else {
                    return Err(Error::UnknownType);
                };
                kind = Some(
                    Kind::from_number(number).filter(|kind| !kind.is_binary()).ok_or(Error::UnknownType)?,
                );
            }
            "nsp" if namespace.is_none() => match msgpack::token(&mut input)? {
                msgpack::Token::Str(name) => namespace = Some(name.to_owned()),
                _ => return Err(Error::Malformed),
            },
            "id" if id.is_none() => match msgpack::token(&mut input)? {
                msgpack::Token::Unsigned(number) if number < 10_u64.pow(15) => id = Some(number),
                msgpack::Token::Undefined | msgpack::Token::Nil => {}
                _ => return Err(Error::Malformed),
            },
            "data" if json.is_none() => {
                let mut ahead = input;
                if let msgpack::Token::Undefined | msgpack::Token::Nil = msgpack::token(&mut ahead)? {
                    input = ahead;
                    continue;
                }
                let mut text = Vec::new();
                msgpack::to_json(&mut input, json::MAX_DEPTH, max_attachments, &mut text, &mut attachments)?;
                json = Some(text);
            }
            "type" | "nsp" | "id" | "data" => return Err(Error::Malformed), // twice
            _ => msgpack::skip(&mut input, json::MAX_DEPTH)?,
        }
    }
    if !input.is_empty() {
        return Err(Error::Malformed);
    }
    let kind = kind.ok_or(Error::UnknownType)?;
    let data = String::from_utf8(json.unwrap_or_default()).map_err(|_| Error::Data)?;
    if !has_shape(kind, &data) {
        return Err(Error::Data);
    }
    Ok(Unpacked { kind, namespace: namespace.unwrap_or_else(|| "/".to_owned()), id, data, attachments })
}

/// Appends the head of a text packet: type, `<attachments>-` for the binary kinds, `<namespace>,` unless it is `/`, the id. The data follow.
pub fn write_head(kind: Kind, attachments: usize, namespace: &str, id: Option<u64>, out: &mut Vec<u8>) {
    out.push(b'0' + kind as u8);
    if kind.is_binary() {
        append(out, format_args!("{attachments}-"));
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        append(out, format_args!("{id}"));
    }
}

/// Appends a msgpack packet with `data` (valid JSON, or empty for none) transcoded. The binary kinds are written as their plain ones.
pub fn write_msgpack(
    kind: Kind,
    namespace: &str,
    id: Option<u64>,
    data: &str,
    attachments: &[Bytes],
    out: &mut Vec<u8>,
) {
    let kind = match kind {
        Kind::BinaryEvent => Kind::Event,
        Kind::BinaryAck => Kind::Ack,
        kind => kind,
    };
    msgpack::write_map(2 + u32::from(id.is_some()) + u32::from(!data.is_empty()), out);
    msgpack::write_str("type", out);
    msgpack::write_uint(kind as u64, out);
    msgpack::write_str("nsp", out);
    msgpack::write_str(namespace, out);
    if let Some(id) = id {
        msgpack::write_str("id", out);
        msgpack::write_uint(id, out);
    }
    if !data.is_empty() {
        msgpack::write_str("data", out);
        msgpack::from_json(data, attachments, out);
    }
}

/// Whether valid (or no) data are what the type needs.
fn has_shape(kind: Kind, data: &str) -> bool {
    match kind {
        Kind::Connect => data.is_empty() || data.starts_with('{'),
        Kind::Disconnect => data.is_empty(),
        Kind::Event | Kind::BinaryEvent => json::elements(data)
            .and_then(|mut elements| elements.next())
            .is_some_and(|name| name.starts_with('"')),
        Kind::Ack | Kind::BinaryAck => data.starts_with('['),
        Kind::ConnectError => data.is_empty() || data.starts_with(['{', '"']),
    }
}

/// The number at the front, if there is one, and what follows it.
fn split_number(text: &str) -> Result<(Option<u64>, &str), Error> {
    let (digits, rest) = json::split_digits(text);
    if digits.len() > MAX_DIGITS {
        return Err(Error::Malformed);
    }
    Ok((digits.parse().ok(), rest))
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes all that is written");
}

#[cfg(test)]
mod tests;
