//! WebSocket frames, the server's side (RFC 6455). No extensions are negotiated: RSV bits are refused.

mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::{accept_key, frames, split_frame, write_close, write_frame, write_header};

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
    /// The close code, 1005 when the frame had none, and the reason. What the client sends after it is to be ignored.
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

impl Opcode {
    /// The opcode of a frame's first byte; `None` when it is a reserved one.
    fn from_first_byte(byte: u8) -> Option<Self> {
        match byte & 0x0f {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Error {
    /// The close code to send (RFC 6455, 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Reserved | Self::Unmasked | Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// The payload length that a frame's second byte and the bytes after it say, and how many of those bytes it
/// takes; `None` when they are incomplete.
fn payload_len(second: u8, rest: &[u8]) -> Option<(u64, usize)> {
    match second & 0x7f {
        126 => rest.first_chunk().map(|len| (u64::from(u16::from_be_bytes(*len)), 2)),
        127 => rest.first_chunk().map(|len| (u64::from_be_bytes(*len), 8)),
        len => Some((u64::from(len), 0)),
    }
}

#[cfg(test)]
mod tests;
