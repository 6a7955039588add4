//! Engine.IO 3 and 4: packets, and the payloads of long polling.

use bytes::Bytes;

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

/// Reads a text packet: a WebSocket text message, or one element of a text payload.
/// A text element of a payload that begins with `b` is base64 and is *not* handled here but by [`read_payload`].
pub fn read_text(text: &str) -> Result<Packet<'_>, Error> {
    let _ = text;
    todo!()
}

/// Reads a binary WebSocket message: with version 3 the first byte is the type (4), with version 4 all is data.
pub fn read_binary(version: Version, data: &[u8]) -> Result<Packet<'_>, Error> {
    let _ = (version, data);
    todo!()
}

/// Reads a long-polling body and gives each packet to `visit`, in order; stops at the first error of either.
///
/// Version 4: packets separated by 0x1e, `b…` is base64. Version 3: `<length>:<packet>…`, where the length counts UTF-16 code
/// units of the whole packet, `b4…` is base64; or, when `binary` (content type `application/octet-stream`), each packet is
/// 0 (text) or 1 (binary), the length's decimal digits as bytes 0 to 9, 0xff, the packet. In that form a text packet's length counts bytes.
/// At most `max_packets` packets. Nothing is allocated by a declared length.
pub fn read_payload<E: From<Error>>(
    version: Version,
    binary: bool,
    body: &[u8],
    max_packets: usize,
    visit: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let _ = (version, binary, body, max_packets, visit);
    todo!()
}

/// Writes a long-polling body.
#[derive(Debug)]
pub struct PayloadWriter {
    // …
}

impl PayloadWriter {
    /// `base64`: the client cannot take binary bodies (`b64=1`). Version 4 always uses base64 for binary packets.
    /// For version 3 without `base64`, a body is binary as soon as it has one binary packet (then text packets use that form too, re-framed at [`PayloadWriter::finish`]).
    pub fn new(version: Version, base64: bool) -> Self {
        let _ = (version, base64);
        todo!()
    }

    /// Adds a text packet, type digit included.
    pub fn text(&mut self, packet: &str) {
        let _ = packet;
        todo!()
    }

    /// Adds a binary message: only the data, without version 3's type byte.
    pub fn binary(&mut self, data: &[u8]) {
        let _ = data;
        todo!()
    }

    /// Bytes so far: to stop at the peer's `maxPayload`.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether no packet was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body, and whether its content type is `application/octet-stream` (else `text/plain; charset=UTF-8`).
    pub fn finish(self) -> (Bytes, bool) {
        todo!()
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
    let _ = (version, sid, upgrades, ping_interval_ms, ping_timeout_ms, max_payload);
    todo!()
}
