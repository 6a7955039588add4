//! Engine.IO 3 and 4: packets, and the payloads of long polling.

mod payload;

pub use payload::{PayloadWriter, read_base64, read_payload};

use crate::json;

/// The protocol's version: the `EIO` query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `EIO=3`: the client pings; Socket.IO protocol 4.
    V3,
    /// `EIO=4`: the server pings; Socket.IO protocol 5.
    V4,
}

/// The packet types; the discriminant is the digit on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The handshake (server → client).
    Open = 0,
    /// The transport is to be closed.
    Close = 1,
    /// Heartbeat, or the probe of an upgrade.
    Ping = 2,
    /// Heartbeat's or probe's answer.
    Pong = 3,
    /// A message.
    Message = 4,
    /// The client has changed over to this transport.
    Upgrade = 5,
    /// Nothing: ends a hanging poll.
    Noop = 6,
}

/// A packet as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A type and its text.
    Text(Kind, &'a str),
    /// A binary message (only messages can be binary).
    Binary(&'a [u8]),
}

/// Why a packet or a payload is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// No packet where one must be.
    Empty,
    /// A type that is none of the seven digits.
    UnknownType,
    /// A length prefix, a separator or base64 that is wrong.
    Malformed,
    /// Not UTF-8.
    Utf8,
    /// More packets than the caller allows.
    TooMany,
}

impl Kind {
    fn from_digit(digit: u8) -> Option<Self> {
        match digit {
            b'0' => Some(Self::Open),
            b'1' => Some(Self::Close),
            b'2' => Some(Self::Ping),
            b'3' => Some(Self::Pong),
            b'4' => Some(Self::Message),
            b'5' => Some(Self::Upgrade),
            b'6' => Some(Self::Noop),
            _ => None,
        }
    }
}

/// Reads a text packet: a WebSocket text message, or one element of a text payload.
/// A text element of a payload that begins with `b` is base64 and is *not* handled here but by [`read_payload`] and [`read_base64`].
pub fn read_text(text: &str) -> Result<Packet<'_>, Error> {
    let digit = *text.as_bytes().first().ok_or(Error::Empty)?;
    let kind = Kind::from_digit(digit).ok_or(Error::UnknownType)?;
    Ok(Packet::Text(kind, &text[1..]))
}

/// Reads a binary WebSocket message: with version 3 the first byte is the type (4), with version 4 all is data.
pub fn read_binary(version: Version, data: &[u8]) -> Result<Packet<'_>, Error> {
    match (version, data) {
        (Version::V4, data) => Ok(Packet::Binary(data)),
        (Version::V3, [4, data @ ..]) => Ok(Packet::Binary(data)),
        (Version::V3, []) => Err(Error::Empty),
        (Version::V3, _) => Err(Error::UnknownType),
    }
}

/// The JSON of an open packet, without its type digit. `max_payload` is in bytes and left out for version 3; times are in ms.
pub fn open_json(
    version: Version,
    sid: &str,
    upgrades: &[&str],
    ping_interval_ms: u64,
    ping_timeout_ms: u64,
    max_payload: usize,
) -> String {
    let quoted: Vec<String> = upgrades.iter().map(|upgrade| quote(upgrade)).collect();
    let max_payload = match version {
        Version::V3 => String::new(),
        Version::V4 => format!(r#","maxPayload":{max_payload}"#),
    };
    format!(
        r#"{{"sid":{},"upgrades":[{}],"pingInterval":{ping_interval_ms},"pingTimeout":{ping_timeout_ms}{max_payload}}}"#,
        quote(sid),
        quoted.join(","),
    )
}

fn quote(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    json::write_string(text, &mut quoted);
    String::from_utf8_lossy(&quoted).into_owned()
}

#[cfg(test)]
mod tests;
