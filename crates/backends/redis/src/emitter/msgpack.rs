//! An emission's msgpack, read in one pass and without a tree: the data become JSON text and attachments at once.

use std::fmt::Write as _;

use bytes::Bytes;
use xpush_core::Payload;

use super::EmissionRefused;

/// How deep data may be nested.
const DEEPEST: usize = 32;

/// What an emission says.
#[derive(Debug)]
pub(super) struct Emitted<'a> {
    pub(super) event: &'a str,
    pub(super) payload: Payload,
    pub(super) rooms: Vec<&'a str>,
}

/// Reads `[uid, packet, options]`.
pub(super) fn read(message: &Bytes) -> Result<Emitted<'_>, EmissionRefused> {
    let mut input = Reader { bytes: message, at: 0 };
    let Head::Array(3) = input.head()? else { return Err(EmissionRefused::Unreadable) };
    input.skip(DEEPEST)?;
    let data = read_packet(&mut input)?;
    let rooms = read_options(&mut input)?;
    if input.at != message.len() {
        return Err(EmissionRefused::Unreadable);
    }
    let mut input = Reader { bytes: message, at: data };
    let Head::Array(words @ 1..=2) = input.head()? else { return Err(EmissionRefused::Data) };
    let event = input.text().map_err(|_| EmissionRefused::Event)?;
    let mut out = Json { text: String::new(), attachments: Vec::new(), message };
    match words {
        1 => out.text.push_str("null"),
        _ => input.write_json(&mut out, DEEPEST)?,
    }
    let payload = Payload { json: Bytes::from(out.text), attachments: out.attachments };
    Ok(Emitted { event, payload, rooms })
}

/// Gives where the packet's data begin.
fn read_packet(input: &mut Reader<'_>) -> Result<usize, EmissionRefused> {
    let Head::Map(fields) = input.head()? else { return Err(EmissionRefused::Unreadable) };
    let (mut data, mut is_event, mut at_root) = (None, false, true);
    for _ in 0..fields {
        match input.text()? {
            "data" => {
                data = Some(input.at);
                // One more for the list of words itself.
                input.skip(DEEPEST + 1)?;
            }
            // EVENT and BINARY_EVENT of Socket.IO.
            "type" => is_event = matches!(input.head()?, Head::Unsigned(2 | 5)),
            "nsp" => at_root = input.text()? == "/",
            _ => input.skip(DEEPEST)?,
        }
    }
    match data {
        Some(data) if is_event && at_root => Ok(data),
        _ => Err(EmissionRefused::Unreadable),
    }
}

/// Gives the rooms. Exceptions would have to be honoured, and flags may say anything: of those, only the ones that change nothing for us pass.
fn read_options<'a>(input: &mut Reader<'a>) -> Result<Vec<&'a str>, EmissionRefused> {
    let Head::Map(fields) = input.head()? else { return Err(EmissionRefused::Unreadable) };
    let mut rooms = Vec::new();
    for _ in 0..fields {
        match input.text()? {
            "rooms" => {
                let Head::Array(count) = input.head()? else { return Err(EmissionRefused::Room) };
                for _ in 0..count {
                    rooms.push(input.text().map_err(|_| EmissionRefused::Room)?);
                }
            }
            "except" => match input.head()? {
                Head::Array(0) | Head::Nil => {}
                _ => return Err(EmissionRefused::Flags),
            },
            "flags" => match input.head()? {
                Head::Nil => {}
                Head::Map(flags) => {
                    for _ in 0..flags {
                        if !matches!(input.text()?, "compress") {
                            return Err(EmissionRefused::Flags);
                        }
                        input.skip(1)?;
                    }
                }
                _ => return Err(EmissionRefused::Flags),
            },
            _ => return Err(EmissionRefused::Flags),
        }
    }
    Ok(rooms)
}

/// What a value begins with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    /// The bytes that follow.
    Text(usize),
    Binary(usize),
    /// Undefined, as the packer of socket.io writes it.
    Extension(usize),
    /// The values that follow.
    Array(usize),
    Map(usize),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct Json<'a> {
    text: String,
    attachments: Vec<Bytes>,
    message: &'a Bytes,
}

impl<'a> Reader<'a> {
    fn head(&mut self) -> Result<Head, EmissionRefused> {
        let byte = self.take(1)?[0];
        let low = |mask: u8| usize::from(byte & mask);
        Ok(match byte {
            0x00..=0x7f => Head::Unsigned(u64::from(byte)),
            0x80..=0x8f => Head::Map(low(0x0f)),
            0x90..=0x9f => Head::Array(low(0x0f)),
            0xa0..=0xbf => Head::Text(low(0x1f)),
            0xc0 => Head::Nil,
            0xc2 | 0xc3 => Head::Bool(byte == 0xc3),
            0xc4..=0xc6 => Head::Binary(self.length(byte - 0xc4)?),
            0xc7..=0xc9 => Head::Extension(self.length(byte - 0xc7)? + 1),
            0xca => Head::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Head::Float(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => Head::Unsigned(self.unsigned(byte - 0xcc)?),
            0xd0..=0xd3 => signed(self.unsigned(byte - 0xd0)?, byte - 0xd0),
            0xd4..=0xd8 => Head::Extension((1 << (byte - 0xd4)) + 1),
            0xd9..=0xdb => Head::Text(self.length(byte - 0xd9)?),
            0xdc | 0xdd => Head::Array(self.length(byte - 0xdc + 1)?),
            0xde | 0xdf => Head::Map(self.length(byte - 0xde + 1)?),
            0xe0..=0xff => Head::Negative(i64::from(byte) - 256),
            0xc1 => return Err(EmissionRefused::Unreadable),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], EmissionRefused> {
        let end = self.at.checked_add(count).ok_or(EmissionRefused::Unreadable)?;
        let taken = self.bytes.get(self.at..end).ok_or(EmissionRefused::Unreadable)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EmissionRefused> {
        self.take(N)?.try_into().map_err(|_| EmissionRefused::Unreadable)
    }

    /// A number of 1, 2, 4 or 8 bytes: two to the power of `size`.
    fn unsigned(&mut self, size: u8) -> Result<u64, EmissionRefused> {
        Ok(self.take(1 << size)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, size: u8) -> Result<usize, EmissionRefused> {
        usize::try_from(self.unsigned(size)?).map_err(|_| EmissionRefused::Unreadable)
    }

    fn text(&mut self) -> Result<&'a str, EmissionRefused> {
        let Head::Text(length) = self.head()? else { return Err(EmissionRefused::Unreadable) };
        std::str::from_utf8(self.take(length)?).map_err(|_| EmissionRefused::Unreadable)
    }

    /// Passes one value. Each value takes a byte at least, so a count that lies ends with the bytes.
    fn skip(&mut self, depth: usize) -> Result<(), EmissionRefused> {
        let values = match self.head()? {
            Head::Text(length) | Head::Binary(length) | Head::Extension(length) => {
                return self.take(length).map(|_| ());
            }
            Head::Array(count) => count,
            Head::Map(count) => count.saturating_mul(2),
            _ => return Ok(()),
        };
        let depth = depth.checked_sub(1).ok_or(EmissionRefused::Data)?;
        (0..values).try_for_each(|_| self.skip(depth))
    }

    fn write_json(&mut self, out: &mut Json<'_>, depth: usize) -> Result<(), EmissionRefused> {
        // Writing into a text cannot fail.
        match self.head()? {
            Head::Nil => out.text.push_str("null"),
            Head::Bool(yes) => out.text.push_str(if yes { "true" } else { "false" }),
            Head::Unsigned(number) => drop(write!(out.text, "{number}")),
            Head::Negative(number) => drop(write!(out.text, "{number}")),
            Head::Float(number) if number.is_finite() => drop(write!(out.text, "{number:?}")),
            // As JSON.stringify does.
            Head::Float(_) => out.text.push_str("null"),
            Head::Text(length) => {
                let text = std::str::from_utf8(self.take(length)?);
                write_text(text.map_err(|_| EmissionRefused::Unreadable)?, &mut out.text);
            }
            Head::Binary(length) => {
                let bytes = out.message.slice_ref(self.take(length)?);
                let number = out.attachments.len();
                let _ = write!(out.text, "{{\"_placeholder\":true,\"num\":{number}}}");
                out.attachments.push(bytes);
            }
            Head::Extension(length) => match self.take(length)? {
                [0, 0] => out.text.push_str("null"),
                _ => return Err(EmissionRefused::Data),
            },
            Head::Array(count) => {
                let depth = depth.checked_sub(1).ok_or(EmissionRefused::Data)?;
                out.text.push('[');
                for index in 0..count {
                    if index > 0 {
                        out.text.push(',');
                    }
                    self.write_json(out, depth)?;
                }
                out.text.push(']');
            }
            Head::Map(count) => self.write_map(count, out, depth)?,
        }
        Ok(())
    }

    fn write_map(&mut self, count: usize, out: &mut Json<'_>, depth: usize) -> Result<(), EmissionRefused> {
        let depth = depth.checked_sub(1).ok_or(EmissionRefused::Data)?;
        out.text.push('{');
        for index in 0..count {
            if index > 0 {
                out.text.push(',');
            }
            let name = self.text().map_err(|_| EmissionRefused::Data)?;
            // It would be taken for one of ours.
            if name == "_placeholder" {
                return Err(EmissionRefused::Data);
            }
            write_text(name, &mut out.text);
            out.text.push(':');
            self.write_json(out, depth)?;
        }
        out.text.push('}');
        Ok(())
    }
}

/// A number of two to the power of `size` bytes, two's complement.
fn signed(number: u64, size: u8) -> Head {
    let unused = 64 - (8 << size);
    let number = (number << unused).cast_signed() >> unused;
    u64::try_from(number).map_or(Head::Negative(number), Head::Unsigned)
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
