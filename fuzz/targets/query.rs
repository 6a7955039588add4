//! A query string: what is decoded can be encoded, and decodes the same again.

use std::fmt::Write as _;

use xpush_wire::query::{Repeated, pairs, single};

/// The data is the query string.
pub(crate) fn run(data: &[u8]) {
    let Ok(query) = str::from_utf8(data) else { return };
    let decoded: Vec<(String, String)> =
        pairs(query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();

    let mut encoded = String::new();
    for (name, value) in &decoded {
        encode(name, &mut encoded);
        encoded.push('=');
        encode(value, &mut encoded);
        encoded.push('&');
    }
    assert!(pairs(&encoded).eq(decoded.iter().map(|(name, value)| (name.into(), value.into()))));

    // The search below is quadratic, the parser is not.
    for (name, value) in decoded.iter().take(16) {
        let expected = match decoded.iter().filter(|(other, _)| other == name).count() {
            1 => Ok(Some(value.into())),
            _ => Err(Repeated),
        };
        assert_eq!(single(query, name), expected);
    }
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a string"),
        }
    }
}
