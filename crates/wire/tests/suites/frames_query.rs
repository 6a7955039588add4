//! Query strings against the serializer of the WHATWG URL standard, 5.2.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use xpush_wire::query::{Repeated, pairs, single};

fn serialize(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a string takes all"),
        }
    }
    out
}

proptest! {
    #[test]
    fn what_a_client_serialized_is_read(sent in vec(("[a-c =&%+é]{0,2}", any::<String>()), 0..6)) {
        let query: Vec<String> =
            sent.iter().map(|(name, value)| format!("{}={}", serialize(name), serialize(value))).collect();
        let query = query.join("&");
        let read: Vec<(String, String)> =
            pairs(&query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        prop_assert_eq!(&read, &sent);
        for (name, value) in &sent {
            let is_repeated = sent.iter().filter(|(other, _)| other == name).count() > 1;
            let expected = if is_repeated { Err(Repeated) } else { Ok(Some(value.into())) };
            prop_assert_eq!(single(&query, name), expected);
        }
    }
}
