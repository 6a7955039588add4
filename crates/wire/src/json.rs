//! JSON (RFC 8259) without a tree: validate once, then slice.
//!
//! [`validate`] (or [`validate_depth`]) is the only gate; the other functions take text that passed it and never fail on its shape.

use std::borrow::Cow;

/// Deepest nesting of arrays and objects that the server accepts.
pub const MAX_DEPTH: usize = 32;

/// Why a text is refused, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not JSON; the byte offset of the first wrong byte (the length, when it ends too early).
    Syntax(usize),
    /// Nested deeper than allowed.
    TooDeep(usize),
    /// An escaped lone surrogate is *not* an error (JavaScript can send one); this is for bytes that are not UTF-8.
    Utf8(usize),
}

/// Checks that `text` is exactly one JSON value, white space around it allowed, no deeper than `max_depth`. One pass, no allocation, no recursion.
pub fn validate_depth(text: &str, max_depth: usize) -> Result<(), Error> {
    let _ = (text, max_depth);
    todo!()
}

/// [`validate_depth`] with [`MAX_DEPTH`].
pub fn validate(text: &str) -> Result<(), Error> {
    validate_depth(text, MAX_DEPTH)
}

/// [`validate_depth`] for bytes.
pub fn validate_bytes(text: &[u8], max_depth: usize) -> Result<&str, Error> {
    let _ = (text, max_depth);
    todo!()
}

/// The elements of a valid array, each trimmed of white space; `None` when the value is no array.
pub fn elements(array: &str) -> Option<Elements<'_>> {
    let _ = array;
    todo!()
}

/// See [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let _ = self.rest;
        todo!()
    }
}

/// The members of a valid object, in order, as (unescaped key, trimmed value); `None` when the value is no object.
pub fn members(object: &str) -> Option<Members<'_>> {
    let _ = object;
    todo!()
}

/// See [`members`].
#[derive(Debug, Clone)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.rest;
        todo!()
    }
}

/// A valid string value, unescaped; borrowed when it has no escapes. Lone surrogates become U+FFFD. `None` when the value is no string.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    let _ = value;
    todo!()
}

/// A valid number that is a whole one from 0 to 2^53 − 1, without fraction or exponent. `None` otherwise.
pub fn unsigned(value: &str) -> Option<u64> {
    let _ = value;
    todo!()
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let _ = (text, out);
    todo!()
}

/// Checks the placeholders of a value that came with `attachments` binary parts: the objects `{"_placeholder":true,"num":n}` are there for
/// each n < `attachments` exactly once, and no other object has the key `_placeholder`. True when so. With 0 attachments: always true,
/// whatever the value holds (it is plain data).
pub fn placeholders_match(value: &str, attachments: usize) -> bool {
    let _ = (value, attachments);
    todo!()
}
