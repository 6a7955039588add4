//! MessagePack ⇄ the canonical form: JSON text in which `{"_placeholder":true,"num":n}` stands for attachment n.
//!
//! The format is <https://github.com/msgpack/msgpack/blob/master/spec.md>; what the extension types mean is what notepack.io (the library
//! of socket.io-msgpack-parser, 2.x and 3.x) makes of them.

use std::io::Write as _;

use bytes::Bytes;

use crate::json;

/// Why msgpack is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Ends in the middle of a value.
    Truncated,
    /// The reserved byte 0xc1, a key that is no string, trailing bytes.
    Malformed,
    /// Nested deeper than allowed.
    TooDeep,
    /// A string that is not UTF-8.
    Utf8,
    /// More attachments than allowed.
    TooManyAttachments,
}

/// One value, or the head of a container, whose elements follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    /// JavaScript's `undefined`.
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    /// Milliseconds since 1970; `None` for what JavaScript calls an invalid date.
    Date(Option<i64>),
    Array(u32),
    Map(u32),
}

/// A step of [`walk`].
enum Step<'a> {
    /// A scalar, or the opening of a container.
    Value(Token<'a>),
    Key(&'a str),
    Close(Container),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Map,
}

/// Transcodes the value at the front of `input`, which is shortened by it: appends JSON to `json`, moves each bin into `attachments` and writes a placeholder for it.
///
/// Not-a-number and infinities become `null`; 64-bit integers keep their digits. notepack.io's extensions become what `JSON.stringify`
/// makes of them: `undefined` (ext 0) is left out of an object and is `null` elsewhere; a Date (ext 0 of 8 bytes, or the timestamp, ext −1) is
/// an ISO 8601 string. An ArrayBuffer (ext 0 with an explicit length) is an attachment like a bin. Other exts are [`Error::Malformed`].
/// An object with the key `_placeholder` is plain data; beside an attachment, whose placeholder it could pass for, it is refused as [`Error::Malformed`].
///
/// Depth is the JSON's, in which an attachment's placeholder is an object. After an error `json` and `attachments` hold what came before it.
pub fn to_json(
    input: &mut &[u8],
    max_depth: usize,
    max_attachments: usize,
    json: &mut Vec<u8>,
    attachments: &mut Vec<Bytes>,
) -> Result<(), Error> {
    let start = json.len();
    let before = attachments.len();
    let mut ambiguous = false;
    let mut member_start = None; // where a key was written that waits for its value
    walk(input, max_depth, |step| {
        let first = json.len() == start || matches!(json.last(), Some(b'[' | b'{' | b':'));
        if !first && !matches!(step, Step::Close(_)) {
            json.push(b',');
        }
        let key_start = member_start.take();
        match step {
            Step::Key(key) => {
                ambiguous |= key == json::PLACEHOLDER;
                member_start = Some(json.len() - usize::from(!first));
                json::write_string(key, json);
                json.push(b':');
            }
            Step::Value(Token::Array(_)) => json.push(b'['),
            Step::Value(Token::Map(_)) => json.push(b'{'),
            Step::Close(Container::Array) => json.push(b']'),
            Step::Close(Container::Map) => json.push(b'}'),
            Step::Value(Token::Bin(data)) => {
                if attachments.len() >= max_attachments {
                    return Err(Error::TooManyAttachments);
                }
                json.extend_from_slice(br#"{"_placeholder":true,"num":"#);
                append(json, format_args!("{}}}", attachments.len()));
                attachments.push(Bytes::copy_from_slice(data));
            }
            Step::Value(Token::Undefined) => match key_start {
                Some(start) => json.truncate(start),
                None => json.extend_from_slice(b"null"),
            },
            Step::Value(Token::Nil) => json.extend_from_slice(b"null"),
            Step::Value(Token::Bool(value)) => append(json, format_args!("{value}")),
            Step::Value(Token::Unsigned(value)) => append(json, format_args!("{value}")),
            Step::Value(Token::Signed(value)) => append(json, format_args!("{value}")),
            Step::Value(Token::Float(value)) => write_json_float(value, json),
            Step::Value(Token::Str(text)) => json::write_string(text, json),
            Step::Value(Token::Date(milliseconds)) => write_json_date(milliseconds, json),
        }
        Ok(())
    })?;
    if ambiguous && attachments.len() > before { Err(Error::Malformed) } else { Ok(()) }
}

/// Skips the value at the front of `input`, checking it as [`to_json`] does.
pub fn skip(input: &mut &[u8], max_depth: usize) -> Result<(), Error> {
    walk(input, max_depth, |_| Ok(()))
}

/// Appends valid JSON as msgpack; placeholders become bins when there are `attachments`. Whole numbers that fit become integers, others float 64.
pub fn from_json(json: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
    let mut lengths = container_lengths(json).into_iter();
    let mut rest = json;
    while let Some(&byte) = rest.as_bytes().first() {
        if byte == b'{'
            && !attachments.is_empty()
            && let Some((num, after)) = json::placeholder(rest)
            && let Some(attachment) = attachments.get(num)
        {
            lengths.next();
            write_bin(attachment, out);
            rest = after;
            continue;
        }
        let (token, after) = match byte {
            b'{' | b'[' => rest.split_at(1),
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b']' | b'}' => {
                rest = &rest[1..];
                continue;
            }
            _ => json::split_value(rest),
        };
        match byte {
            b'{' => write_map(lengths.next().unwrap_or(0), out),
            b'[' => write_array(lengths.next().unwrap_or(0), out),
            b'"' => write_str(&json::string(token).unwrap_or_default(), out),
            b't' => out.push(0xc3),
            b'f' => out.push(0xc2),
            b'n' => out.push(0xc0),
            _ => write_number(token, out),
        }
        rest = after;
    }
}

/// Appends a string.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    let len = length(text.len());
    match u8::try_from(len) {
        Ok(len @ 0..32) => out.push(0xa0 | len),
        Ok(len) => out.extend([0xd9, len]),
        Err(_) => write_long(len, 0xda, out),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends a map's header.
pub fn write_map(len: u32, out: &mut Vec<u8>) {
    match u8::try_from(len) {
        Ok(len @ 0..16) => out.push(0x80 | len),
        _ => write_long(len, 0xde, out),
    }
}

/// Appends an array's header.
pub fn write_array(len: u32, out: &mut Vec<u8>) {
    match u8::try_from(len) {
        Ok(len @ 0..16) => out.push(0x90 | len),
        _ => write_long(len, 0xdc, out),
    }
}

/// Appends an unsigned integer in its shortest form.
pub fn write_uint(value: u64, out: &mut Vec<u8>) {
    if let Ok(value) = u8::try_from(value) {
        if value >= 0x80 {
            out.push(0xcc);
        }
        out.push(value);
    } else if let Ok(value) = u16::try_from(value) {
        out.push(0xcd);
        out.extend(value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.push(0xce);
        out.extend(value.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend(value.to_be_bytes());
    }
}

/// Reads one scalar, or the head of a container.
pub(crate) fn token<'a>(input: &mut &'a [u8]) -> Result<Token<'a>, Error> {
    let [tag] = take_array(input)?;
    Ok(match tag {
        0x00..=0x7f => Token::Unsigned(tag.into()),
        0x80..=0x8f => Token::Map((tag & 0x0f).into()),
        0x90..=0x9f => Token::Array((tag & 0x0f).into()),
        0xa0..=0xbf => text(input, (tag & 0x1f).into())?,
        0xc0 => Token::Nil,
        0xc1 => return Err(Error::Malformed),
        0xc2 => Token::Bool(false),
        0xc3 => Token::Bool(true),
        0xc4..=0xc6 => {
            let len = take_length(input, tag - 0xc4)?;
            Token::Bin(take(input, len)?)
        }
        0xc7..=0xc9 => {
            let len = take_length(input, tag - 0xc7)?;
            extension(input, len, false)?
        }
        0xca => Token::Float(f32::from_be_bytes(take_array(input)?).into()),
        0xcb => Token::Float(f64::from_be_bytes(take_array(input)?)),
        0xcc => Token::Unsigned(u8::from_be_bytes(take_array(input)?).into()),
        0xcd => Token::Unsigned(u16::from_be_bytes(take_array(input)?).into()),
        0xce => Token::Unsigned(u32::from_be_bytes(take_array(input)?).into()),
        0xcf => Token::Unsigned(u64::from_be_bytes(take_array(input)?)),
        0xd0 => Token::Signed(i8::from_be_bytes(take_array(input)?).into()),
        0xd1 => Token::Signed(i16::from_be_bytes(take_array(input)?).into()),
        0xd2 => Token::Signed(i32::from_be_bytes(take_array(input)?).into()),
        0xd3 => Token::Signed(i64::from_be_bytes(take_array(input)?)),
        0xd4..=0xd8 => extension(input, 1 << (tag - 0xd4), true)?,
        0xd9..=0xdb => {
            let len = take_length(input, tag - 0xd9)?;
            text(input, len)?
        }
        0xdc..=0xdd => Token::Array(take_length(input, tag - 0xdc + 1)?),
        0xde..=0xdf => Token::Map(take_length(input, tag - 0xde + 1)?),
        0xe0..=0xff => Token::Signed(tag.cast_signed().into()),
    })
}

/// Visits the value at the front of `input` in writing order, without recursion.
///
/// A declared length costs nothing but a counter: the input ends long before.
fn walk<'a>(
    input: &mut &'a [u8],
    max_depth: usize,
    mut visit: impl FnMut(Step<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut open = [(Container::Array, 0_u32); json::DEEPEST]; // with how many elements are to come
    let max_depth = max_depth.min(open.len());
    let mut depth = 0;
    loop {
        let token = token(input)?;
        if let Token::Array(_) | Token::Map(_) | Token::Bin(_) = token
            && depth >= max_depth
        {
            return Err(Error::TooDeep);
        }
        let container = match token {
            Token::Array(len) => Some((Container::Array, len)),
            Token::Map(len) => Some((Container::Map, len)),
            _ => None,
        };
        if let Some(container) = container {
            open[depth] = container;
            depth += 1;
        }
        visit(Step::Value(token))?;
        // Close what is complete, then go on to the next element.
        loop {
            let Some((container, left)) = open[..depth].last_mut() else { return Ok(()) };
            if *left == 0 {
                visit(Step::Close(*container))?;
                depth -= 1;
                continue;
            }
            *left -= 1;
            if *container == Container::Map {
                match self::token(input)? {
                    Token::Str(key) => visit(Step::Key(key))?,
                    _ => return Err(Error::Malformed),
                }
            }
            break;
        }
    }
}

/// `fixed`: the tag implied the length. notepack.io uses ext 0 for three things, and only this tells a Date from an ArrayBuffer of 8 bytes.
fn extension<'a>(input: &mut &'a [u8], len: u32, fixed: bool) -> Result<Token<'a>, Error> {
    let [kind] = take_array(input)?;
    let mut data = take(input, len)?;
    match (kind.cast_signed(), len) {
        (0, _) if !fixed => Ok(Token::Bin(data)),
        (0, 1) => Ok(Token::Undefined),
        (0, 8) => Ok(date(i64::from_be_bytes(take_array(&mut data)?))),
        (-1, 4) => timestamp(u32::from_be_bytes(take_array(&mut data)?).into(), 0),
        (-1, 8) => {
            let packed = u64::from_be_bytes(take_array(&mut data)?);
            timestamp((packed & ((1 << 34) - 1)).cast_signed(), packed >> 34)
        }
        (-1, 12) => {
            let nanoseconds = u32::from_be_bytes(take_array(&mut data)?);
            timestamp(i64::from_be_bytes(take_array(&mut data)?), nanoseconds.into())
        }
        _ => Err(Error::Malformed),
    }
}

fn timestamp(seconds: i64, nanoseconds: u64) -> Result<Token<'static>, Error> {
    if nanoseconds >= 1_000_000_000 {
        return Err(Error::Malformed);
    }
    let milliseconds = (nanoseconds / 1_000_000).cast_signed();
    Ok(date(seconds.saturating_mul(1000).saturating_add(milliseconds)))
}

/// ECMA-262, 21.4.1.31 (TimeClip).
fn date(milliseconds: i64) -> Token<'static> {
    const RANGE: u64 = 8_640_000_000_000_000;
    Token::Date(Some(milliseconds).filter(|ms| ms.unsigned_abs() <= RANGE))
}

fn text<'a>(input: &mut &'a [u8], len: u32) -> Result<Token<'a>, Error> {
    std::str::from_utf8(take(input, len)?).map(Token::Str).map_err(|_| Error::Utf8)
}

/// A length of 1, 2 or 4 bytes: `log2_width` is 0, 1 or 2.
fn take_length(input: &mut &[u8], log2_width: u8) -> Result<u32, Error> {
    match log2_width {
        0 => Ok(u8::from_be_bytes(take_array(input)?).into()),
        1 => Ok(u16::from_be_bytes(take_array(input)?).into()),
        _ => Ok(u32::from_be_bytes(take_array(input)?)),
    }
}

fn take<'a>(input: &mut &'a [u8], len: u32) -> Result<&'a [u8], Error> {
    let len = usize::try_from(len).map_err(|_| Error::Truncated)?;
    let (data, rest) = input.split_at_checked(len).ok_or(Error::Truncated)?;
    *input = rest;
    Ok(data)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Error> {
    let (data, rest) = input.split_first_chunk().ok_or(Error::Truncated)?;
    *input = rest;
    Ok(*data)
}

/// As `JSON.stringify`: no exponent where a plain number will do, no minus before zero.
fn write_json_float(value: f64, json: &mut Vec<u8>) {
    if !value.is_finite() {
        json.extend_from_slice(b"null");
    } else if value == 0.0 {
        json.push(b'0');
    } else if (1e-6..1e21).contains(&value.abs()) {
        append(json, format_args!("{value}"));
    } else {
        append(json, format_args!("{value:e}")); // written out, these would be up to 325 digits
    }
}

/// As `Date.prototype.toJSON`.
fn write_json_date(milliseconds: Option<i64>, json: &mut Vec<u8>) {
    const DAY: i64 = 86_400_000;
    let Some(milliseconds) = milliseconds else { return json.extend_from_slice(b"null") };
    let (year, month, day) = civil(milliseconds.div_euclid(DAY));
    match year {
        0..=9999 => append(json, format_args!("\"{year:04}")),
        _ => append(json, format_args!("\"{year:+07}")),
    }
    let time = milliseconds.rem_euclid(DAY);
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, millisecond) = (time / 1000 % 60, time % 1000);
    append(json, format_args!("-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z\""));
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the leap day is the last of its year; an era is 400 of them, from 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let next_year = i64::from(month >= 10);
    (era * 400 + year_of_era + next_year, month + 3 - 12 * next_year, day)
}

fn append(json: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    json.write_fmt(text).expect("a Vec takes all that is written");
}

/// How many elements or members each container of valid JSON has, in the order in which they open.
fn container_lengths(json: &str) -> Vec<u32> {
    let mut lengths = Vec::new();
    let mut open = Vec::new();
    let mut rest = json.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = json::after_string(after),
            b'{' | b'[' => {
                let first = after.iter().find(|byte| !byte.is_ascii_whitespace());
                open.push(lengths.len());
                lengths.push(u32::from(!matches!(first, Some(b'}' | b']'))));
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                if let Some(&container) = open.last() {
                    lengths[container] += 1;
                }
            }
            _ => {}
        }
    }
    lengths
}

fn write_number(number: &str, out: &mut Vec<u8>) {
    if let Ok(value) = number.parse() {
        write_uint(value, out);
    } else if let Ok(value) = number.parse() {
        write_int(value, out);
    } else {
        out.push(0xcb);
        out.extend(number.parse::<f64>().unwrap_or_default().to_be_bytes());
    }
}

/// Appends an integer in its shortest form.
fn write_int(value: i64, out: &mut Vec<u8>) {
    if let Ok(value) = u64::try_from(value) {
        write_uint(value, out);
    } else if let Ok(value) = i8::try_from(value) {
        if value < -0x20 {
            out.push(0xd0);
        }
        out.extend(value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xd1);
        out.extend(value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xd2);
        out.extend(value.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend(value.to_be_bytes());
    }
}

fn write_bin(data: &[u8], out: &mut Vec<u8>) {
    let len = length(data.len());
    match u8::try_from(len) {
        Ok(len) => out.extend([0xc4, len]),
        Err(_) => write_long(len, 0xc5, out),
    }
    out.extend_from_slice(data);
}

/// Appends a length of 16 bits behind `tag`, or of 32 bits behind the next tag.
fn write_long(len: u32, tag: u8, out: &mut Vec<u8>) {
    if let Ok(len) = u16::try_from(len) {
        out.push(tag);
        out.extend(len.to_be_bytes());
    } else {
        out.push(tag + 1);
        out.extend(len.to_be_bytes());
    }
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a message is far shorter than 4 GiB")
}

#[cfg(test)]
mod tests;
