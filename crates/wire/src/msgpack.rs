//! MessagePack ⇄ the canonical form: JSON text in which `{"_placeholder":true,"num":n}` stands for attachment n.

use bytes::Bytes;

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

/// Transcodes the value at the front of `input`, which is shortened by it: appends JSON to `json`, moves each bin into `attachments` and writes a placeholder for it.
///
/// Not-a-number and infinities become `null`; 64-bit integers keep their digits; notepack.io's ext 0 (undefined, or a Date as its
/// milliseconds) and ext −1 (timestamp) become what `JSON.stringify` makes of them (`null`, an ISO 8601 string); other exts are [`Error::Malformed`].
/// An object that itself looks like a placeholder is refused as [`Error::Malformed`].
pub fn to_json(
    input: &mut &[u8],
    max_depth: usize,
    max_attachments: usize,
    json: &mut Vec<u8>,
    attachments: &mut Vec<Bytes>,
) -> Result<(), Error> {
    let _ = (input, max_depth, max_attachments, json, attachments);
    todo!()
}

/// Skips the value at the front of `input`, checking it as [`to_json`] does.
pub fn skip(input: &mut &[u8], max_depth: usize) -> Result<(), Error> {
    let _ = (input, max_depth);
    todo!()
}

/// Appends valid JSON as msgpack; placeholders become bins when there are `attachments`. Whole numbers that fit become integers, others float 64.
pub fn from_json(json: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
    let _ = (json, attachments, out);
    todo!()
}

/// Appends a string.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    let _ = (text, out);
    todo!()
}

/// Appends a map's header.
pub fn write_map(len: u32, out: &mut Vec<u8>) {
    let _ = (len, out);
    todo!()
}

/// Appends an array's header.
pub fn write_array(len: u32, out: &mut Vec<u8>) {
    let _ = (len, out);
    todo!()
}

/// Appends an unsigned integer in its shortest form.
pub fn write_uint(value: u64, out: &mut Vec<u8>) {
    let _ = (value, out);
    todo!()
}
