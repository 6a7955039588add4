//! The bodies of long polling: several packets in one.

use std::fmt::Write as _;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine as _};
use bytes::Bytes;

use super::{Error, Packet, Version, read_binary, read_text};

/// Between the packets of version 4.
const SEPARATOR: char = '\x1e';

/// Between length and packet in version 3's binary form.
const END_OF_LENGTH: u8 = 0xff;

/// A length of more digits is no length: enough for a gigabyte.
const MAX_LENGTH_DIGITS: usize = 10;

/// Padding is optional, as for the browsers' and Node's own decoders.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes a long-polling body.
#[derive(Debug)]
pub struct PayloadWriter {
    form: Form,
    /// Framed already, in that form.
    body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Version 4.
    Separated,
    /// Version 3 as text. `base64`: for good; else only until a binary packet comes.
    Counted { base64: bool },
    /// Version 3 as bytes.
    Binary,
}

impl PayloadWriter {
    /// `base64`: the client cannot take binary bodies (`b64=1`). Version 4 always uses base64 for binary packets.
    /// For version 3 without `base64`, a body is binary as soon as it has one binary packet (then text packets use that form too; those before it are framed anew).
    pub fn new(version: Version, base64: bool) -> Self {
        let form = match version {
            Version::V3 => Form::Counted { base64 },
            Version::V4 => Form::Separated,
        };
        Self { form, body: Vec::new() }
    }

    /// Adds a text packet, type digit included.
    ///
    /// With version 3 its characters beyond ASCII are written as JSON escapes (Socket.IO has them in JSON strings only). Clients of
    /// Socket.IO 1 expect text that is UTF-8 encoded twice here, those of Socket.IO 2 once, and nothing in the handshake
    /// tells them apart; ASCII is the same to both.
    pub fn text(&mut self, packet: &str) {
        if self.form == Form::Separated {
            self.separate();
            self.body.extend_from_slice(packet.as_bytes());
        } else if packet.is_ascii() {
            self.ascii(packet);
        } else {
            self.ascii(&escape(packet));
        }
    }

    /// Adds a binary message: only the data, without version 3's type byte.
    pub fn binary(&mut self, data: &[u8]) {
        match self.form {
            Form::Separated => {
                self.separate();
                self.body.push(b'b');
                self.base64(data);
            }
            Form::Counted { base64: true } => {
                self.counted_head("b4".len() + data.len().div_ceil(3) * 4);
                self.body.extend_from_slice(b"b4");
                self.base64(data);
            }
            Form::Counted { base64: false } => {
                self.become_binary();
                self.binary(data);
            }
            Form::Binary => {
                self.binary_head(1, 1 + data.len());
                self.body.push(4);
                self.body.extend_from_slice(data);
            }
        }
    }

    /// Bytes so far: to stop at the peer's `maxPayload`.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether no packet was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body, and whether its content type is `application/octet-stream` (else `text/plain; charset=UTF-8`).
    pub fn finish(self) -> (Bytes, bool) {
        (self.body.into(), self.form == Form::Binary)
    }

    /// Adds a text packet of version 3: in ASCII, code units and bytes are the same number.
    fn ascii(&mut self, packet: &str) {
        if self.form == Form::Binary {
            self.binary_head(0, packet.len());
        } else {
            self.counted_head(packet.len());
        }
        self.body.extend_from_slice(packet.as_bytes());
    }

    fn separate(&mut self) {
        if !self.body.is_empty() {
            self.body.push(SEPARATOR as u8);
        }
    }

    fn base64(&mut self, data: &[u8]) {
        self.body.extend_from_slice(STANDARD.encode(data).as_bytes());
    }

    fn counted_head(&mut self, len: usize) {
        self.body.extend_from_slice(len.to_string().as_bytes());
        self.body.push(b':');
    }

    fn binary_head(&mut self, is_binary: u8, len: usize) {
        self.body.push(is_binary);
        self.body.extend(len.to_string().bytes().map(|digit| digit - b'0'));
        self.body.push(END_OF_LENGTH);
    }

    /// Frames the text packets so far anew.
    fn become_binary(&mut self) {
        self.form = Form::Binary;
        let counted = String::from_utf8(std::mem::take(&mut self.body)).expect("text packets only");
        let mut rest = &counted[..];
        while let Ok(packet) = take_counted(&mut rest) {
            self.ascii(packet);
        }
    }
}

/// Reads a long-polling body and gives each packet to `visit`, in order; stops at the first error of either.
///
/// Version 4: packets separated by 0x1e, `b…` is base64. Version 3: `<length>:<packet>…`, where the length counts UTF-16 code
/// units of the whole packet, `b4…` is base64; or, when `binary` (content type `application/octet-stream`), each packet is
/// 0 (text) or 1 (binary), the length's decimal digits as bytes 0 to 9, 0xff, the packet. In that form a text packet's length counts bytes.
/// In the text form, what a client of Socket.IO 1 encoded twice is decoded twice.
/// At most `max_packets` packets. Nothing is allocated by a declared length.
pub fn read_payload<E: From<Error>>(
    version: Version,
    binary: bool,
    body: &[u8],
    max_packets: usize,
    mut visit: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut left = max_packets;
    let visit = |packet: Packet<'_>| {
        left = left.checked_sub(1).ok_or(Error::TooMany)?;
        visit(packet)
    };
    if body.is_empty() {
        return Err(Error::Empty.into());
    }
    match (version, binary) {
        (Version::V3, true) => read_binary_form(body, visit),
        (Version::V3, false) => read_counted(text(body)?, visit),
        (Version::V4, false) => read_separated(text(body)?, visit),
        // The official server refuses this content type too: version 4 has no such form.
        (Version::V4, true) => Err(Error::Malformed.into()),
    }
}

/// Reads a text message or element that begins with `b`: the data of a binary message, from a client that cannot (or, with
/// `forceBase64`, would not) send bytes.
pub fn read_base64(version: Version, text: &str) -> Result<Vec<u8>, Error> {
    let typed = text.strip_prefix('b').ok_or(Error::Malformed)?;
    let encoded = match version {
        Version::V3 => typed.strip_prefix('4').ok_or(Error::UnknownType)?,
        Version::V4 => typed,
    };
    BASE64.decode(encoded).map_err(|_| Error::Malformed)
}

fn read_separated<E: From<Error>>(
    body: &str,
    mut visit: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    body.split(SEPARATOR).try_for_each(|element| read_element(Version::V4, element, &mut visit))
}

fn read_counted<E: From<Error>>(
    mut body: &str,
    mut visit: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while !body.is_empty() {
        let element = take_counted(&mut body)?;
        read_element(Version::V3, element, &mut visit)?;
    }
    Ok(())
}

fn read_element<E: From<Error>>(
    version: Version,
    element: &str,
    visit: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if element.starts_with('b') {
        visit(Packet::Binary(&read_base64(version, element)?))
    } else if version == Version::V3
        && let Some(decoded) = encoded_twice(element)
    {
        visit(read_text(&decoded)?)
    } else {
        visit(read_text(element)?)
    }
}

fn read_binary_form<E: From<Error>>(
    mut body: &[u8],
    mut visit: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some((form, rest)) = body.split_first() {
        let digits = rest.iter().take(MAX_LENGTH_DIGITS).take_while(|digit| **digit < 10).count();
        let (digits, rest) = rest.split_at(digits);
        let rest = rest.strip_prefix(&[END_OF_LENGTH]).ok_or(Error::Malformed)?;
        let (packet, rest) =
            rest.split_at_checked(decimal(digits.iter().copied())?).ok_or(Error::Malformed)?;
        body = rest;
        match form {
            0 => visit(read_text(text(packet)?)?)?,
            1 => visit(read_binary(Version::V3, packet)?)?,
            _ => return Err(Error::Malformed.into()),
        }
    }
    Ok(())
}

/// Takes one `<length>:<packet>` from the front.
fn take_counted<'a>(body: &mut &'a str) -> Result<&'a str, Error> {
    let bytes = body.as_bytes();
    let digits = bytes.iter().take(MAX_LENGTH_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let units = decimal(bytes[..digits].iter().map(|digit| digit - b'0'))?;
    let rest = body[digits..].strip_prefix(':').ok_or(Error::Malformed)?;
    let (packet, rest) = split_at_utf16(rest, units).ok_or(Error::Malformed)?;
    *body = rest;
    Ok(packet)
}

/// The number that 1 to [`MAX_LENGTH_DIGITS`] digits mean.
fn decimal(digits: impl ExactSizeIterator<Item = u8>) -> Result<usize, Error> {
    if digits.len() == 0 {
        return Err(Error::Malformed);
    }
    let number = digits.fold(0, |number, digit| number * 10 + u64::from(digit));
    usize::try_from(number).map_err(|_| Error::Malformed)
}

/// Splits after that many UTF-16 code units; `None` when there are fewer, or when a character lies across.
fn split_at_utf16(text: &str, units: usize) -> Option<(&str, &str)> {
    // No character has more code units than bytes, so the packet has at least `units` bytes; often they are ASCII and all of it.
    let front = text.as_bytes().get(..units)?;
    if front.is_ascii() {
        return text.split_at_checked(units);
    }
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left == 0 {
            return Some(text.split_at(at));
        }
        left = left.checked_sub(character.len_utf16())?;
    }
    (left == 0).then_some((text, ""))
}

/// Writes what is not ASCII as JSON escapes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").expect("a string takes all");
            }
        }
    }
    escaped
}

/// Text that was UTF-8 encoded twice, as clients of Socket.IO 1 do in version 3's text form; `None` when it was not. It was when all
/// of its characters are bytes, and these bytes are UTF-8 again. Text that was encoded once passes for it only if all that is not
/// ASCII in it comes in pairs such as `É®`.
fn encoded_twice(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|character| u8::try_from(character).ok()).collect();
    String::from_utf8(bytes?).ok()
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    str::from_utf8(bytes).map_err(|_| Error::Utf8)
}
