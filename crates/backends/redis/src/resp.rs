//! The protocol of Redis, as far as the bus needs it: commands out, RESP 2 and 3 in.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// The longest string that is taken, in bytes.
const LONGEST: usize = 64 << 20;
/// The most elements of one aggregate.
const MOST: usize = 100_000;
/// How deep aggregates may lie in one another.
const DEEPEST: usize = 8;
/// The longest line of a number or a length.
const LINE: usize = 64 << 10;

/// Something that Redis said. Maps come as arrays of names and values in turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    Text(Bytes),
    Error(Bytes),
    Integer(i64),
    Null,
    Array(Vec<Frame>),
    /// Said without being asked, or the confirmation of a subscription.
    Push(Vec<Frame>),
}

/// Bytes that are not the protocol, or beyond our bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbled;

impl Frame {
    /// The bytes of a text.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Frame::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text that is UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// Writes a command.
pub(crate) fn command(out: &mut BytesMut, words: &[&[u8]]) {
    header(out, b'*', words.len());
    for word in words {
        header(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(out: &mut BytesMut, kind: u8, count: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = count;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Takes one whole frame from the front; `None` when more must come. Texts share the buffer's memory.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, Garbled> {
    let mut end = 0;
    if !skip(buffer, &mut end, DEEPEST)? {
        return Ok(None);
    }
    let mut whole = buffer.split_to(end).freeze();
    read(&mut whole).map(Some)
}

/// Moves `at` behind one frame; false when it is not whole yet.
fn skip(bytes: &[u8], at: &mut usize, depth: usize) -> Result<bool, Garbled> {
    let Some(Line { kind, text, next }) = line(bytes, *at)? else { return Ok(false) };
    let line = &bytes[text];
    *at = next;
    let elements = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(true),
        b'$' | b'=' | b'!' => {
            let Some(length) = length(line, LONGEST)? else { return Ok(true) };
            if bytes.len() < next + length + 2 {
                return Ok(false);
            }
            *at = next + length + 2;
            return if bytes[next + length..*at] == *b"\r\n" { Ok(true) } else { Err(Garbled) };
        }
        b'*' | b'~' | b'>' => length(line, MOST)?.unwrap_or(0),
        b'%' => 2 * length(line, MOST)?.unwrap_or(0),
        // Attributes, and whatever else we never ask for.
        _ => return Err(Garbled),
    };
    if depth == 0 && elements > 0 {
        return Err(Garbled);
    }
    for _ in 0..elements {
        if !skip(bytes, at, depth - 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads what [`skip`] found whole.
fn read(bytes: &mut Bytes) -> Result<Frame, Garbled> {
    let Some(Line { kind, text, next }) = line(bytes, 0)? else { return Err(Garbled) };
    let line = bytes.slice(text);
    bytes.advance(next);
    Ok(match kind {
        b'+' | b',' | b'(' | b'#' => Frame::Text(line),
        b'-' => Frame::Error(line),
        b':' => Frame::Integer(number(&line)?),
        b'_' => Frame::Null,
        b'$' | b'=' | b'!' => {
            let Some(length) = length(&line, LONGEST)? else { return Ok(Frame::Null) };
            let text = bytes.split_to(length);
            bytes.advance(2);
            if kind == b'!' { Frame::Error(text) } else { Frame::Text(text) }
        }
        _ => {
            let Some(count) = length(&line, MOST)? else { return Ok(Frame::Null) };
            let count = if kind == b'%' { 2 * count } else { count };
            let elements = (0..count).map(|_| read(bytes)).collect::<Result<_, _>>()?;
            if kind == b'>' { Frame::Push(elements) } else { Frame::Array(elements) }
        }
    })
}

/// The line in which a value begins.
struct Line {
    kind: u8,
    /// What stands behind the kind.
    text: Range<usize>,
    /// Where the next line begins.
    next: usize,
}

fn line(bytes: &[u8], at: usize) -> Result<Option<Line>, Garbled> {
    let Some((kind, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let within = &rest[..rest.len().min(LINE)];
    let Some(end) = within.iter().position(|byte| *byte == b'\r') else {
        return if rest.len() >= LINE { Err(Garbled) } else { Ok(None) };
    };
    match rest.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => {
            let start = at + 1;
            Ok(Some(Line { kind: *kind, text: start..start + end, next: start + end + 2 }))
        }
        Some(_) => Err(Garbled),
    }
}

/// A length up to `most`; `None` is RESP 2's null.
fn length(line: &[u8], most: usize) -> Result<Option<usize>, Garbled> {
    if line == b"-1" {
        return Ok(None);
    }
    let length = usize::try_from(number(line)?).map_err(|_| Garbled)?;
    if length <= most { Ok(Some(length)) } else { Err(Garbled) }
}

fn number(line: &[u8]) -> Result<i64, Garbled> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(frame: &Frame, out: &mut BytesMut) {
        let mut aggregate = |kind, elements: &Vec<Frame>| {
            header(out, kind, elements.len());
            elements.iter().for_each(|element| encode(element, out));
        };
        match frame {
            Frame::Array(elements) => aggregate(b'*', elements),
            Frame::Push(elements) => aggregate(b'>', elements),
            Frame::Text(text) => {
                header(out, b'$', text.len());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Frame::Error(text) => {
                header(out, b'!', text.len());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Frame::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Frame::Null => out.extend_from_slice(b"_\r\n"),
        }
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let text = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let leaf = prop_oneof![
            text().prop_map(Frame::Text),
            text().prop_map(Frame::Error),
            any::<i64>().prop_map(Frame::Integer),
            Just(Frame::Null),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let elements = prop::collection::vec(inner, 0..6);
            prop_oneof![elements.clone().prop_map(Frame::Array), elements.prop_map(Frame::Push)]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_any_pieces(
            all in prop::collection::vec(frames(), 1..5),
            piece in 1_usize..40,
        ) {
            let mut bytes = BytesMut::new();
            all.iter().for_each(|frame| encode(frame, &mut bytes));
            let (mut buffer, mut came) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take(&mut buffer).unwrap() {
                    came.push(frame);
                }
            }
            prop_assert_eq!(came, all);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes_are_taken_refused_or_waited_for(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
        }

        #[test]
        fn bytes_like_the_protocol_too(text in "([*%>$:+~=-][0-9-]{0,3}\r\n|a{0,4}\r\n){0,30}") {
            let mut buffer = BytesMut::from(text.as_bytes());
            while let Ok(Some(_)) = take(&mut buffer) {}
        }
    }

    #[test]
    fn bounds_hold() {
        let taken = |text: &str| take(&mut BytesMut::from(text.as_bytes()));
        assert_eq!(taken("$99999999999\r\n"), Err(Garbled));
        assert_eq!(taken("*9999999\r\n"), Err(Garbled));
        assert_eq!(taken(&"*1\r\n".repeat(20)), Err(Garbled));
        assert_eq!(taken(&"1".repeat(LINE + 2)), Err(Garbled));
        assert_eq!(taken("$3\r\nabcde"), Err(Garbled));
        assert_eq!(taken("$3\r\nabc\r"), Ok(None));
        assert_eq!(
            taken("%1\r\n+a\r\n:1\r\n"),
            Ok(Some(Frame::Array(vec![Frame::Text("a".into()), Frame::Integer(1)])))
        );
        assert_eq!(taken("$-1\r\n"), Ok(Some(Frame::Null)));
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"PUBLISH", b"a", &[b'x'; 123]]);
        assert_eq!(out, format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$123\r\n{}\r\n", "x".repeat(123)));
    }
}
