//! JSON (RFC 8259) without a tree: validate once, then slice.
//!
//! [`validate`] (or [`validate_depth`]) is the only gate; the other functions take text that passed it and never fail on its shape.
//! Given other text they answer nonsense, but do not panic and stay linear.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// Deepest nesting of arrays and objects that the server accepts.
pub const MAX_DEPTH: usize = 32;

/// What any `max_depth` is capped at: nesting is tracked in 64 bits.
pub(crate) const DEEPEST: usize = 64;

/// The key that makes an object stand for a binary attachment.
pub(crate) const PLACEHOLDER: &str = "_placeholder";

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

/// See [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a str,
}

/// See [`members`].
#[derive(Debug, Clone)]
pub struct Members<'a> {
    rest: &'a str,
}

/// The validator's place in the text.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (value, rest) = split_value(trim_start(self.rest));
        self.rest = next_sibling(rest);
        (!value.is_empty()).then_some(value)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = split_key(self.rest)?;
        let (value, rest) = split_value(rest);
        self.rest = next_sibling(rest);
        Some((key, value))
    }
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong<T>(&self) -> Result<T, Error> {
        Err(Error::Syntax(self.at))
    }

    fn space(&mut self) {
        while self.peek().as_ref().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() != Some(byte) {
            return self.wrong();
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Error> {
        literal.iter().try_for_each(|&byte| self.expect(byte))
    }

    /// From the byte behind the opening quote to behind the closing one.
    fn string(&mut self) -> Result<(), Error> {
        loop {
            self.at += plain_run(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 1,
                _ => return self.wrong(),
            }
            match self.peek() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                Some(b'u') => {
                    self.at += 1;
                    for _ in 0..4 {
                        if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                            return self.wrong();
                        }
                        self.at += 1;
                    }
                }
                _ => return self.wrong(),
            }
        }
    }

    fn key(&mut self) -> Result<(), Error> {
        self.expect(b'"')?;
        self.string()?;
        self.space();
        self.expect(b':')
    }

    fn number(&mut self) -> Result<(), Error> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.wrong() } else { Ok(()) }
    }

    fn document(&mut self, max_depth: usize) -> Result<(), Error> {
        let max_depth = max_depth.min(DEEPEST);
        let mut depth = 0;
        let mut objects = 0_u64; // the lowest bit is the innermost level: 1 in an object, 0 in an array
        loop {
            self.space();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.string()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    if depth == max_depth {
                        return Err(Error::TooDeep(self.at));
                    }
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(open + 2) {
                        self.at += 1; // empty: `{` + 2 is `}`, `[` + 2 is `]`
                    } else {
                        depth += 1;
                        objects = objects << 1 | u64::from(open == b'{');
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return self.wrong(),
            }
            // Behind a value: close what ends here, then go on to the next value.
            loop {
                self.space();
                if depth == 0 {
                    return if self.at == self.bytes.len() { Ok(()) } else { self.wrong() };
                }
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.space();
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return self.wrong(),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }
}

/// Checks that `text` is exactly one JSON value, white space around it allowed, no deeper than `max_depth` (64 at most). One pass, no allocation, no recursion.
///
/// A scalar has depth 0, `[]` depth 1.
pub fn validate_depth(text: &str, max_depth: usize) -> Result<(), Error> {
    Scanner { bytes: text.as_bytes(), at: 0 }.document(max_depth)
}

/// [`validate_depth`] with [`MAX_DEPTH`].
pub fn validate(text: &str) -> Result<(), Error> {
    validate_depth(text, MAX_DEPTH)
}

/// [`validate_depth`] for bytes.
pub fn validate_bytes(text: &[u8], max_depth: usize) -> Result<&str, Error> {
    let text = std::str::from_utf8(text).map_err(|error| Error::Utf8(error.valid_up_to()))?;
    validate_depth(text, max_depth)?;
    Ok(text)
}

/// The elements of a valid array, each trimmed of white space; `None` when the value is no array.
pub fn elements(array: &str) -> Option<Elements<'_>> {
    Some(Elements { rest: trim_start(array).strip_prefix('[')? })
}

/// The members of a valid object, in order, as (unescaped key, trimmed value); `None` when the value is no object.
pub fn members(object: &str) -> Option<Members<'_>> {
    Some(Members { rest: trim_start(object).strip_prefix('{')? })
}

/// A valid string value, unescaped; borrowed when it has no escapes. Lone surrogates become U+FFFD. `None` when the value is no string.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    trim(value).strip_prefix('"')?.strip_suffix('"').map(unescape)
}

/// A valid number that is a whole one from 0 to 2^53 − 1, without fraction or exponent. `None` otherwise.
pub fn unsigned(value: &str) -> Option<u64> {
    const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
    let value = trim(value);
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok().filter(|&number| number <= MAX_SAFE_INTEGER)
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let (plain, special) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
            }
        }
        rest = after;
    }
    out.push(b'"');
}

/// Checks the placeholders of a value that came with `attachments` binary parts: the objects `{"_placeholder":true,"num":n}` (members in
/// either order: not every client keeps it) are there for each n < `attachments` exactly once, and no other object has the key
/// `_placeholder`. True when so. With 0 attachments: always true, whatever the value holds (it is plain data).
pub fn placeholders_match(value: &str, attachments: usize) -> bool {
    if attachments == 0 {
        return true;
    }
    if attachments > value.len() {
        return false; // before memory is taken for a count that cannot be right
    }
    let mut seen = vec![false; attachments];
    let mut missing = attachments;
    let mut rest = value;
    while let Some(at) = rest.find(['{', '"']) {
        rest = &rest[at..];
        if let Some((num, after)) = placeholder(rest) {
            match seen.get_mut(num) {
                Some(seen @ false) => *seen = true,
                _ => return false,
            }
            missing -= 1;
            rest = after;
        } else if rest.starts_with('{') {
            rest = &rest[1..];
        } else if let Some((key, after)) = split_key(rest) {
            if key == PLACEHOLDER {
                return false;
            }
            rest = after;
        } else {
            rest = split_value(rest).1;
        }
    }
    missing == 0
}

/// A placeholder at the front of valid text: its number, and what follows it.
///
/// Looks at no value but `true` and digits, so that trying every object of a text stays linear.
pub(crate) fn placeholder(text: &str) -> Option<(usize, &str)> {
    let mut rest = text.strip_prefix('{')?;
    let (mut marked, mut num) = (false, None);
    for end in [',', '}'] {
        let (key, value) = split_key(rest)?;
        rest = match &*key {
            PLACEHOLDER => {
                marked = true;
                value.strip_prefix("true")?
            }
            "num" => {
                let (digits, after) = split_digits(value);
                num = Some(usize::try_from(unsigned(digits)?).ok()?);
                after
            }
            _ => return None,
        };
        rest = trim_start(rest).strip_prefix(end)?;
    }
    marked.then_some((num?, rest))
}

/// The value at the front of valid text, and what follows it; empty at a closing bracket.
pub(crate) fn split_value(text: &str) -> (&str, &str) {
    text.split_at(value_len(text.as_bytes()))
}

/// What follows the closing quote of a valid string whose opening quote is behind us.
pub(crate) fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', text) {
        if text[at] == b'"' {
            return &text[at + 1..];
        }
        text = text.get(at + 2..).unwrap_or_default();
    }
    &[]
}

/// The decimal digits at the front, and what follows them.
pub(crate) fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Without the white space of RFC 8259, section 2 at both ends (Rust's own `trim` takes more).
pub(crate) fn trim(text: &str) -> &str {
    let text = trim_start(text);
    &text[..text.len() - text.bytes().rev().take_while(is_space).count()]
}

/// [`trim`], at the front only.
pub(crate) fn trim_start(text: &str) -> &str {
    &text[text.bytes().take_while(is_space).count()..]
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// An unescaped key at the front of valid text, and the text from its value on; `None` when a string there is no key.
fn split_key(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = trim_start(text);
    if !text.starts_with('"') {
        return None;
    }
    let (key, rest) = split_value(text);
    let value = trim_start(trim_start(rest).strip_prefix(':')?);
    Some((string(key)?, value))
}

/// Behind the comma; at the closing bracket when there is none.
fn next_sibling(rest: &str) -> &str {
    let rest = trim_start(rest);
    rest.strip_prefix(',').unwrap_or(rest)
}

fn value_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => text.len() - after_string(&text[1..]).len(),
        Some(b'{' | b'[') => container_len(text),
        _ => text
            .iter()
            .position(|byte| matches!(byte, b',' | b']' | b'}') || is_space(byte))
            .unwrap_or(text.len()),
    }
}

fn container_len(text: &[u8]) -> usize {
    let (mut rest, mut depth) = (text, 0_usize);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = after_string(after),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    text.len() - rest.len()
}

/// How many bytes at the front a JSON string can hold as they are: up to a quote, a backslash or a control character.
///
/// Eight bytes at a time. In each test the lowest marked byte is right (a borrow can only mark bytes above it), and no more is needed.
fn plain_run(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;

    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = zero_bytes(word ^ (ONES * b'"' as u64))
            | zero_bytes(word ^ (ONES * b'\\' as u64))
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if special & HIGH != 0 {
            return index * 8 + (special & HIGH).trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    text.len() - tail.len() + tail.iter().position(special).unwrap_or(tail.len())
}

fn unescape(text: &str) -> Cow<'_, str> {
    let Some(first) = memchr(b'\\', text.as_bytes()) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    let (plain, mut rest) = text.split_at(first);
    out.push_str(plain);
    while let Some(escape) = rest.strip_prefix('\\') {
        let mut chars = escape.chars();
        let char = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => unescape_unicode(&mut chars),
            Some(itself) => itself,
            None => break,
        };
        out.push(char);
        rest = chars.as_str();
        let plain = memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Cow::Owned(out)
}

/// What follows `\u`; takes the second half of a surrogate pair as well (RFC 8259, section 7).
fn unescape_unicode(chars: &mut std::str::Chars<'_>) -> char {
    let Some((first, mut rest)) = split_hex(chars.as_str()) else { return char::REPLACEMENT_CHARACTER };
    let mut code = first;
    if let 0xd800..0xdc00 = first
        && let Some((second @ 0xdc00..0xe000, behind)) = rest.strip_prefix("\\u").and_then(split_hex)
    {
        code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        rest = behind;
    }
    *chars = rest.chars();
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn split_hex(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests;
