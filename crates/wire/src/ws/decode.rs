//! A client's frames → messages.

use super::{Error, Message, Opcode, payload_len};

/// The longest header: two bytes, a length of eight, a mask of four.
const MAX_HEADER: usize = 14;

/// Close frames without a code read as this one (RFC 6455, 7.1.5).
const NO_STATUS: u16 = 1005;

/// Decodes the frames of one client. Holds no buffer while no frame is incomplete.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Boxed, and gone between messages: an idle connection pays for one pointer.
    partial: Option<Box<Partial>>,
}

/// What must outlive one input.
#[derive(Debug, Default)]
struct Partial {
    stage: Stage,
    /// The message that has begun.
    message: Option<Fragments>,
    /// The payload of a control frame that has begun; it may stand between a message's fragments.
    control: Vec<u8>,
}

#[derive(Debug, Default)]
enum Stage {
    /// Between two frames.
    #[default]
    Between,
    /// In a header: its first `len` bytes.
    Header { bytes: [u8; MAX_HEADER], len: usize },
    /// In a payload.
    Payload(Frame),
    /// Handed out by the last call as this kind, and to be freed by the next.
    Lent(Opcode),
}

/// A frame's header, as far as its payload is still to come.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// The mask, turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    /// Bytes of the payload still to come.
    remaining: usize,
}

/// The payloads of a message's frames so far.
#[derive(Debug)]
struct Fragments {
    /// Text or binary.
    opcode: Opcode,
    bytes: Vec<u8>,
    /// How many of the bytes are known to be UTF-8: all but an incomplete last character. Unused for binary.
    checked: usize,
}

/// Where a whole message lies.
enum Whole<'i> {
    Input(Opcode, &'i [u8]),
    Stored,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Self {
        Self { partial: None }
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
        self.release();
        match self.advance(input, max)? {
            None => Ok(None),
            Some(Whole::Input(opcode, payload)) => message(opcode, payload).map(Some),
            Some(Whole::Stored) => self.lent(),
        }
    }

    fn advance<'i>(&mut self, input: &mut &'i mut [u8], max: usize) -> Result<Option<Whole<'i>>, Error> {
        loop {
            let mut frame = match self.partial.as_deref() {
                Some(Partial { stage: Stage::Payload(frame), .. }) => *frame,
                _ => {
                    let Some(frame) = self.read_header(input, max)? else { return Ok(None) };
                    if frame.is_whole_message() && frame.remaining <= input.len() {
                        let payload = take(input, frame.remaining);
                        unmask(payload, frame.mask);
                        return Ok(Some(Whole::Input(frame.opcode, payload)));
                    }
                    frame
                }
            };

            let piece = take(input, frame.remaining.min(input.len()));
            unmask(piece, frame.mask);
            frame.mask.rotate_left(piece.len() % 4);
            frame.remaining -= piece.len();

            let partial = self.partial.get_or_insert_default();
            partial.store(&frame, piece, max)?;
            if frame.remaining > 0 {
                partial.stage = Stage::Payload(frame);
                return Ok(None);
            }
            if frame.fin {
                partial.stage = Stage::Lent(partial.kind(frame.opcode));
                return Ok(Some(Whole::Stored));
            }
            partial.stage = Stage::Between;
        }
    }

    /// Takes a header from `input`, joined to what earlier inputs had of it; `None` when it is still incomplete.
    fn read_header(&mut self, input: &mut &mut [u8], max: usize) -> Result<Option<Frame>, Error> {
        let (mut bytes, known) = match self.partial.as_deref() {
            Some(Partial { stage: Stage::Header { bytes, len }, .. }) => (*bytes, *len),
            _ => ([0; MAX_HEADER], 0),
        };
        let len = MAX_HEADER.min(known + input.len());
        bytes[known..len].copy_from_slice(&input[..len - known]);

        let message = self.partial.as_deref().and_then(|partial| partial.message.as_ref());
        let Some((frame, size)) = Frame::parse(&bytes[..len], message, max)? else {
            take(input, len - known);
            if len > 0 {
                self.partial.get_or_insert_default().stage = Stage::Header { bytes, len };
            }
            return Ok(None);
        };
        take(input, size - known);
        if let Some(partial) = &mut self.partial {
            partial.stage = Stage::Between;
        }
        Ok(Some(frame))
    }

    /// The message that is stored whole.
    fn lent(&self) -> Result<Option<Message<'_>>, Error> {
        let Some(Partial { stage: Stage::Lent(opcode), message: fragments, control }) =
            self.partial.as_deref()
        else {
            return Ok(None);
        };
        match fragments {
            Some(fragments) if !opcode.is_control() => message(*opcode, &fragments.bytes),
            _ => message(*opcode, control),
        }
        .map(Some)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// The message that has begun.
    #[cfg(test)]
    pub(super) fn buffer(&self) -> Option<&Vec<u8>> {
        self.partial.as_ref()?.message.as_ref().map(|message| &message.bytes)
    }

    /// Frees what the last call lent.
    fn release(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        if let Stage::Lent(opcode) = partial.stage {
            partial.stage = Stage::Between;
            if opcode.is_control() {
                partial.control = Vec::new();
            } else {
                partial.message = None;
            }
        }
        if matches!(partial.stage, Stage::Between) && partial.message.is_none() {
            self.partial = None;
        }
    }
}

impl Partial {
    /// Keeps a piece of the frame's payload.
    fn store(&mut self, frame: &Frame, piece: &[u8], max: usize) -> Result<(), Error> {
        if frame.opcode.is_control() {
            self.control.extend_from_slice(piece);
            return Ok(());
        }
        let message = self.message.get_or_insert_with(|| Fragments {
            opcode: frame.opcode,
            bytes: Vec::new(),
            checked: 0,
        });
        let at_most =
            if frame.fin { piece.len() + frame.remaining } else { max.saturating_sub(message.bytes.len()) };
        message.push(piece, at_most)
    }

    /// What a frame of this opcode completes.
    fn kind(&self, opcode: Opcode) -> Opcode {
        match &self.message {
            Some(message) if opcode == Opcode::Continuation => message.opcode,
            _ => opcode,
        }
    }
}

impl Fragments {
    /// Appends `piece`, the first of `at_most` bytes that can still come. The buffer at most doubles, so that it stays
    /// in proportion to what has arrived, whatever lengths were declared.
    fn push(&mut self, piece: &[u8], at_most: usize) -> Result<(), Error> {
        if self.bytes.capacity() - self.bytes.len() < piece.len() {
            self.bytes.reserve_exact(self.bytes.len().max(piece.len()).min(at_most));
        }
        self.bytes.extend_from_slice(piece);
        if self.opcode == Opcode::Text {
            self.checked += complete_characters(&self.bytes[self.checked..])?;
        }
        Ok(())
    }
}

impl Frame {
    /// Reads a header and says how long it was; `None` when it is incomplete. What its first bytes show to be wrong is an
    /// error even then. `message` is the one that has begun.
    fn parse(bytes: &[u8], message: Option<&Fragments>, max: usize) -> Result<Option<(Self, usize)>, Error> {
        let [first, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Error::Reserved);
        }
        let opcode = Opcode::from_first_byte(*first).ok_or(Error::Reserved)?;
        let fin = first & 0x80 != 0;
        let in_place = match opcode {
            Opcode::Continuation => message.is_some(),
            Opcode::Text | Opcode::Binary => message.is_none(),
            Opcode::Close | Opcode::Ping | Opcode::Pong => fin,
        };
        if !in_place {
            return Err(Error::Protocol);
        }

        let [second, rest @ ..] = rest else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Error::Unmasked);
        }
        if opcode.is_control() && second & 0x7f > 125 {
            return Err(Error::Protocol);
        }

        let Some((len, extended)) = payload_len(*second, rest) else { return Ok(None) };
        let least = match extended {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if len < least || len >= 1 << 63 {
            return Err(Error::Protocol);
        }
        let stored = message.map_or(0, |message| message.bytes.len());
        let room = if opcode.is_control() { 125 } else { max.saturating_sub(stored) };
        let remaining = usize::try_from(len).ok().filter(|len| *len <= room).ok_or(Error::TooLarge)?;

        let Some(mask) = rest[extended..].first_chunk() else { return Ok(None) };
        Ok(Some((Self { opcode, fin, mask: *mask, remaining }, 2 + extended + mask.len())))
    }

    /// Whether it is all of a message.
    fn is_whole_message(&self) -> bool {
        self.fin && self.opcode != Opcode::Continuation
    }
}

/// Gives a whole payload the form that its opcode demands.
fn message(opcode: Opcode, payload: &[u8]) -> Result<Message<'_>, Error> {
    match opcode {
        Opcode::Text => str::from_utf8(payload).map(Message::Text).map_err(|_| Error::Utf8),
        Opcode::Binary | Opcode::Continuation => Ok(Message::Binary(payload)),
        Opcode::Ping => Ok(Message::Ping(payload)),
        Opcode::Pong => Ok(Message::Pong(payload)),
        Opcode::Close => close(payload),
    }
}

fn close(payload: &[u8]) -> Result<Message<'_>, Error> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(Message::Close(NO_STATUS, "")) } else { Err(Error::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455, 7.4, and the IANA registry: the others are unassigned, or must not travel.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Error::Protocol);
    }
    let reason = str::from_utf8(reason).map_err(|_| Error::Utf8)?;
    Ok(Message::Close(code, reason))
}

/// How many bytes at the front are complete characters; an error when the rest cannot become one.
fn complete_characters(bytes: &[u8]) -> Result<usize, Error> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(Error::Utf8),
    }
}

fn take<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

/// Eight bytes a step: the compiler widens this to the machine's vectors.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
