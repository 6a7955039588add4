//! A text from a client: `validate` says what serde_json says, and what passed it can be sliced.

use serde::de::IgnoredAny;
use xpush_wire::json::{self, Error, validate_bytes, validate_depth};

/// More than serde_json's own bound is not compared.
const DEEPEST: usize = 64;

/// All of it is the text.
pub(crate) fn run(data: &[u8]) {
    let text = match validate_bytes(data, DEEPEST) {
        Ok(text) => text,
        Err(Error::Utf8(at)) => {
            assert_eq!(std::str::from_utf8(data).expect_err("no UTF-8").valid_up_to(), at);
            return;
        }
        Err(Error::TooDeep(at)) => {
            assert!(matches!(data[at], b'[' | b'{'));
            return slices(std::str::from_utf8(data).expect("UTF-8"));
        }
        Err(Error::Syntax(at)) => {
            // Up to there it is JSON or could become JSON, and with what follows it cannot. serde_json calls the end of
            // an unfinished number wrong, and takes the four digits behind a \u as one.
            let number = matches!(data[..at].last(), Some(b'-' | b'+' | b'.' | b'e' | b'E'));
            assert!(number || model(&data[..at]).is_ok_and(|complete| !complete || at < data.len()));
            assert!(at + 4 > data.len() || model(&data[..at + 4]).is_err());
            assert_ne!(model(data), Ok(true));
            return slices(std::str::from_utf8(data).expect("UTF-8"));
        }
    };
    assert_eq!(model(data), Ok(true));

    let mut values = vec![(text.trim(), 0)];
    let mut deepest = 0;
    while let Some((value, depth)) = values.pop() {
        assert_eq!(value.trim(), value);
        assert_eq!(validate_depth(value, DEEPEST - depth), Ok(()));
        assert_eq!(value.starts_with('"'), json::string(value).is_some());
        if let Some(elements) = json::elements(value) {
            values.extend(elements.map(|element| (element, depth + 1)));
            deepest = deepest.max(depth + 1);
        } else if let Some(members) = json::members(value) {
            values.extend(members.map(|(_, member)| (member, depth + 1)));
            deepest = deepest.max(depth + 1);
        } else if let Some(string) = json::string(value) {
            let mut written = Vec::new();
            json::write_string(&string, &mut written);
            let written = validate_bytes(&written, 0).expect("a string that was written");
            assert_eq!(json::string(written), Some(string));
        } else if let Some(number) = json::unsigned(value) {
            assert_eq!(value, number.to_string());
        }
    }
    assert_eq!(validate_depth(text, deepest), Ok(()));
    assert!(deepest == 0 || matches!(validate_depth(text, deepest - 1), Err(Error::TooDeep(_))));
    slices(text);
}

/// Whether it is JSON; `Ok(false)` when it only ends too early.
fn model(text: &[u8]) -> Result<bool, ()> {
    match serde_json::from_slice::<IgnoredAny>(text) {
        Ok(_) => Ok(true),
        Err(error) if error.is_eof() => Ok(false),
        Err(_) => Err(()),
    }
}

/// Of other text nothing is promised, but that it does no harm.
fn slices(text: &str) {
    let _ = json::elements(text).map(Iterator::count);
    let _ = json::members(text).map(Iterator::count);
    let _ = (json::string(text), json::unsigned(text));
    let _ = (json::placeholders_match(text, 1), json::placeholders_match(text, usize::MAX));
    xpush_wire::msgpack::from_json(text, &[], &mut Vec::new());
}
