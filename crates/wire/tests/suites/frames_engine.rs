//! Long-polling payloads against a model of the two protocol documents.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use xpush_wire::engine::{Error, Kind, Packet, PayloadWriter, Version, read_payload};

#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Text(Kind, String),
    Binary(Vec<u8>),
}

fn packets(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Sent>> {
    let kind = prop_oneof![
        Just(Kind::Message),
        Just(Kind::Ping),
        Just(Kind::Pong),
        Just(Kind::Close),
        Just(Kind::Upgrade)
    ];
    let packet = prop_oneof![
        3 => (kind, text).prop_map(|(kind, text)| Sent::Text(kind, text)),
        1 => vec(any::<u8>(), 0..300).prop_map(Sent::Binary),
    ];
    vec(packet, 1..8)
}

/// No record separator, as in all JSON.
fn json_like() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\x1e', ""))
}

/// Text of which none can pass for text that was encoded twice.
fn beyond_latin() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,40}", any::<String>().prop_map(|text| text + "日")]
}

fn digit(kind: Kind) -> char {
    char::from(b'0' + kind as u8)
}

/// Protocol 4: "the packets are concatenated with the record separator".
fn version_4(packets: &[Sent]) -> Vec<u8> {
    let packets: Vec<String> = packets
        .iter()
        .map(|packet| match packet {
            Sent::Text(kind, text) => format!("{}{text}", digit(*kind)),
            Sent::Binary(data) => format!("b{}", BASE64_STANDARD.encode(data)),
        })
        .collect();
    packets.join("\x1e").into()
}

/// Protocol 3 as text; `encode` is done to the text of each packet.
fn version_3(packets: &[Sent], encode: impl Fn(&str) -> String) -> Vec<u8> {
    let mut body = String::new();
    for packet in packets {
        let packet = match packet {
            Sent::Text(kind, text) => format!("{}{}", digit(*kind), encode(text)),
            Sent::Binary(data) => format!("b4{}", BASE64_STANDARD.encode(data)),
        };
        let units = packet.encode_utf16().count();
        write!(body, "{units}:{packet}").expect("a string takes all");
    }
    body.into()
}

/// Protocol 3 as bytes.
fn version_3_binary(packets: &[Sent]) -> Vec<u8> {
    let mut body = Vec::new();
    for packet in packets {
        let (form, packet) = match packet {
            Sent::Text(kind, text) => (0, format!("{}{text}", digit(*kind)).into_bytes()),
            Sent::Binary(data) => (1, [&[4], &data[..]].concat()),
        };
        body.push(form);
        body.extend(packet.len().to_string().bytes().map(|digit| digit - 48));
        body.push(255);
        body.extend(packet);
    }
    body
}

/// What wtf-8's `encode` makes of a string: one character a byte.
fn as_latin(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

/// What a client reads of a JSON string's escapes.
fn unescaped(text: &str) -> String {
    let mut units = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\u") {
        units.extend(before.encode_utf16());
        units.push(u16::from_str_radix(&after[..4], 16).expect("four digits"));
        rest = &after[4..];
    }
    units.extend(rest.encode_utf16());
    String::from_utf16(&units).expect("whole surrogate pairs")
}

fn read(version: Version, binary: bool, body: &[u8]) -> Result<Vec<Sent>, Error> {
    let mut packets = Vec::new();
    read_payload(version, binary, body, usize::MAX, |packet| {
        packets.push(match packet {
            Packet::Text(kind, text) => Sent::Text(kind, text.to_owned()),
            Packet::Binary(data) => Sent::Binary(data.to_owned()),
        });
        Ok(())
    })
    .map(|()| packets)
}

fn write(version: Version, base64: bool, packets: &[Sent]) -> (Vec<u8>, bool) {
    let mut writer = PayloadWriter::new(version, base64);
    for packet in packets {
        match packet {
            Sent::Text(kind, text) => writer.text(&format!("{}{text}", digit(*kind))),
            Sent::Binary(data) => writer.binary(data),
        }
    }
    let len = writer.len();
    let (body, binary) = writer.finish();
    assert_eq!(body.len(), len);
    (body.into(), binary)
}

proptest! {
    #[test]
    fn version_4_is_read_and_written_as_the_model_does(packets in packets(json_like()), base64: bool) {
        let body = version_4(&packets);
        prop_assert_eq!(read(Version::V4, false, &body), Ok(packets.clone()));
        prop_assert_eq!(write(Version::V4, base64, &packets), (body, false));
    }

    #[test]
    fn version_3_is_read_from_each_of_its_forms(packets in packets(beyond_latin())) {
        prop_assert_eq!(read(Version::V3, false, &version_3(&packets, str::to_owned)), Ok(packets.clone()));
        prop_assert_eq!(read(Version::V3, true, &version_3_binary(&packets)), Ok(packets));
    }

    #[test]
    fn version_3_is_read_when_it_was_encoded_twice(packets in packets(any::<String>())) {
        prop_assert_eq!(read(Version::V3, false, &version_3(&packets, as_latin)), Ok(packets));
    }

    #[test]
    fn version_3_is_written_as_the_model_does_but_in_ascii(packets in packets("[^\\\\\x1e]{0,40}"), base64: bool) {
        let (body, binary) = write(Version::V3, base64, &packets);
        prop_assert_eq!(binary, !base64 && packets.iter().any(|packet| matches!(packet, Sent::Binary(_))));
        let mut read = read(Version::V3, binary, &body).expect("readable");
        prop_assert_eq!(&body, &if binary { version_3_binary(&read) } else { version_3(&read, str::to_owned) });
        for packet in &mut read {
            if let Sent::Text(_, text) = packet {
                prop_assert!(text.is_ascii());
                *text = unescaped(text);
            }
        }
        prop_assert_eq!(read, packets);
    }

    #[test]
    fn a_body_cut_short_is_never_read_past_its_end(packets in packets("[ -~]{0,40}"), cut: prop::sample::Index) {
        for (binary, body) in [(false, version_3(&packets, str::to_owned)), (true, version_3_binary(&packets))] {
            let cut = cut.index(body.len());
            match read(Version::V3, binary, &body[..cut]) {
                Ok(read) => prop_assert!(packets.starts_with(&read) && read.len() < packets.len()),
                Err(error) => prop_assert!(matches!(error, Error::Empty | Error::Malformed), "{error:?}"),
            }
        }
    }
}
