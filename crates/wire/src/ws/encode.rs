//! The server's frames: unfragmented, and unmasked as RFC 6455, 5.1 demands.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::{Opcode, payload_len};

/// The longest close reason: a control frame's 125 bytes without the code.
const MAX_REASON: usize = 123;

/// Appends the header of an unfragmented, unmasked frame.
pub fn write_header(opcode: Opcode, len: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    if let Ok(short @ ..126) = u8::try_from(len) {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// Appends a whole frame.
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a close frame; `reason` is cut to fit 123 bytes at a character boundary.
pub fn write_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    write_header(Opcode::Close, 2 + reason.len(), out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The frames that *this module wrote* into `chunk`, as (opcode, payload): an outbox keeps WebSocket frames, and long
/// polling takes their payloads out again. `chunk` holds whole frames only.
pub fn frames(chunk: &Bytes) -> impl Iterator<Item = (Opcode, Bytes)> + '_ {
    let mut rest = chunk.clone();
    std::iter::from_fn(move || split_frame(&mut rest))
}

/// Takes the first frame off a chunk as [`frames`] reads it; `None` at its end.
pub fn split_frame(chunk: &mut Bytes) -> Option<(Opcode, Bytes)> {
    let [first, second, extended @ ..] = &chunk[..] else { return None };
    let opcode = Opcode::from_first_byte(*first)?;
    let (len, size) = payload_len(*second, extended)?;
    let start = 2 + size;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    if end > chunk.len() {
        return None;
    }
    let frame = chunk.split_to(end);
    Some((opcode, frame.slice(start..)))
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(key: &str) -> String {
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    BASE64_STANDARD.encode(digest)
}
