//! WebSocket frames, the server's side (RFC 6455). No extensions are negotiated: RSV bits are refused.

use bytes::Bytes;

/// Frame opcodes (RFC 6455, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a text or binary message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Binary data.
    Binary = 2,
    /// Connection close.
    Close = 8,
    /// Ping.
    Ping = 9,
    /// Pong.
    Pong = 10,
}

/// A whole message, or a control frame between its fragments.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
    /// At most 125 bytes; to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// At most 125 bytes.
    Pong(&'a [u8]),
    /// The close code, 1005 when the frame had none, and the reason.
    Close(u16, &'a str),
}

/// Why a connection must be failed. [`Error::close_code`] says with which code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A reserved bit or opcode.
    Reserved,
    /// A frame without a mask (clients must mask; RFC 6455, 5.1).
    Unmasked,
    /// A fragmented or over-long control frame, a stray continuation, a bad close frame, a non-minimal length.
    Protocol,
    /// A text message, or a close reason, that is not UTF-8.
    Utf8,
    /// A message longer than the limit; known from the header, before any of it is stored.
    TooLarge,
}

impl Error {
    /// The close code to send (RFC 6455, 7.4.1).
    pub fn close_code(self) -> u16 {
        todo!()
    }
}

/// Decodes the frames of one client. Holds no buffer while no frame is incomplete.
#[derive(Debug, Default)]
pub struct Decoder {
    // at most a pointer and a few bytes: an idle connection has one of these
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Self {
        todo!()
    }

    /// Takes the next message from the front of `input`, unmasking in place.
    ///
    /// `None` means that `input` is used up and more is needed; what was incomplete is kept inside. A message that lies whole
    /// in `input` is not copied. `max` bounds a whole message, over all of its fragments. After an error the connection must be
    /// failed and the decoder dropped.
    pub fn next<'m, 'i: 'm>(
        &'m mut self,
        input: &mut &'i mut [u8],
        max: usize,
    ) -> Result<Option<Message<'m>>, Error> {
        let _ = (input, max);
        todo!()
    }
}

/// Appends the header of an unfragmented, unmasked frame.
pub fn write_header(opcode: Opcode, len: usize, out: &mut Vec<u8>) {
    let _ = (opcode, len, out);
    todo!()
}

/// Appends a whole frame.
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a close frame; `reason` is cut to fit 123 bytes at a character boundary.
pub fn write_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let _ = (code, reason, out);
    todo!()
}

/// The frames that *this module wrote* into `chunk`, as (opcode, payload): an outbox keeps WebSocket frames, and long
/// polling takes their payloads out again. `chunk` holds whole frames only.
pub fn frames(chunk: &Bytes) -> impl Iterator<Item = (Opcode, Bytes)> + '_ {
    let _ = chunk;
    std::iter::empty()
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(key: &str) -> String {
    let _ = key;
    todo!()
}
