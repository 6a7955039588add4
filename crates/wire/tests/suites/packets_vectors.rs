//! What the JavaScript implementations make of packets (`packets_vectors/generate.mjs`), against what this crate makes of them.
use bytes::Bytes;
use serde_json::Value;
use xpush_wire::engine::Version;
use xpush_wire::socket::{Kind, Packet, Unpacked};
use xpush_wire::{json, msgpack, socket};

const MAX_ATTACHMENTS: usize = 10; // as in socket.io-parser

/// Texts that the JavaScript decoders let pass and this one refuses, and why.
const STRICTER: &[(&str, &str)] = &[
    ("", "Number('') is 0, a CONNECT"),
    (" ", "Number(' ') is 0, a CONNECT"),
    ("2", "an event without data"),
    ("2/a,", "an event without data"),
    ("2/a,1", "an event without data"),
    (r#"2/a["b"]"#, "all of it is the namespace: an event without data"),
    ("2[1]", "a name that is no string"),
    ("3", "an acknowledgement without data"),
    ("31", "an acknowledgement without data"),
    ("51-", "an event without data"),
    (r#"51-["a"]"#, "fewer placeholders than attachments"),
    (r#"52-["a",{"_placeholder":true,"num":0}]"#, "fewer placeholders than attachments"),
    (r#"52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#, "one attachment twice"),
    (r#"51-["a",{"_placeholder":true,"num":0.5}]"#, "an attachment that is not there"),
    (r#"51-["a",{"_placeholder":true,"num":0},{"_placeholder":false}]"#, "nearly a placeholder"),
    (r#"51-["a",{"_placeholder":true,"num":0,"x":1}]"#, "nearly a placeholder"),
];

/// The same for protocol 4 only: a CONNECT has no data there, and an ERROR is a text or an object.
const STRICTER_V3: &[&str] = &["0{}", "0[]", "0null", "0 {}", "0/a,{}", "4[]"];

/// Reserved names are looked at behind the parser.
const LOOSER_V4: &[&str] = &[r#"2["connect"]"#];

#[test]
fn text_packets_are_read_and_written_as_by_socket_io_parser() {
    for vector in vectors("text") {
        let text = vector["frame"].as_str().unwrap();
        let attachments = attachments(&vector);
        let data = vector["data"].as_str().unwrap();
        let packet = Packet {
            kind: kind(&vector),
            attachments: attachments.len(),
            namespace: vector["nsp"].as_str().unwrap(),
            query: "",
            id: vector["id"].as_u64(),
            data,
        };
        let version = if vector["version"] == 3 { Version::V3 } else { Version::V4 };
        assert_eq!(socket::read(version, text, MAX_ATTACHMENTS), Ok(packet), "{text}");

        let mut out = Vec::new();
        socket::write_head(packet.kind, packet.attachments, packet.namespace, packet.id, &mut out);
        out.extend_from_slice(data.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn texts_are_accepted_as_by_socket_io_parser() {
    for vector in vectors("verdicts") {
        let text = vector[0].as_str().unwrap();
        for (version, verdict) in [(Version::V3, &vector[1]), (Version::V4, &vector[2])] {
            let accepted = socket::read(version, text, MAX_ATTACHMENTS).is_ok();
            let stricter = STRICTER.iter().any(|(listed, _)| *listed == text)
                || (version == Version::V3 && STRICTER_V3.contains(&text));
            let looser = version == Version::V4 && LOOSER_V4.contains(&text);
            assert_eq!(accepted != verdict.as_bool().unwrap(), stricter || looser, "{text} {version:?}");
        }
    }
}

#[test]
fn values_are_transcoded_as_by_notepack() {
    for vector in vectors("msgpack") {
        let expected: Value = serde_json::from_str(vector["json"].as_str().unwrap()).unwrap();
        let expected_attachments = attachments(&vector);
        for library in ["notepack2", "notepack3"] {
            let encoded = bytes(&vector[library]);
            let mut input = &encoded[..];
            let (mut text, mut attachments) = (Vec::new(), Vec::new());
            let result =
                msgpack::to_json(&mut input, json::MAX_DEPTH, MAX_ATTACHMENTS, &mut text, &mut attachments);
            assert_eq!((result, input), (Ok(()), &b""[..]), "{library}: {vector}");
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected, "{library}");
            assert_eq!(attachments, expected_attachments, "{library}: {vector}");
        }

        let mut out = Vec::new();
        msgpack::from_json(vector["json"].as_str().unwrap(), &expected_attachments, &mut out);
        assert_eq!(out, bytes(&vector["written"]), "{vector}");
    }
}

#[test]
fn packets_of_socket_io_msgpack_parser_are_read() {
    for vector in vectors("msgpack_packets") {
        let expected = Unpacked {
            kind: kind(&vector),
            namespace: vector["nsp"].as_str().unwrap().to_owned(),
            id: vector["id"].as_u64(),
            data: vector["data"].as_str().unwrap().to_owned(),
            attachments: attachments(&vector),
        };
        let frame = bytes(&vector["frame"]);
        assert_eq!(socket::read_msgpack(&frame, MAX_ATTACHMENTS).as_ref(), Ok(&expected));

        let Unpacked { kind, namespace, id, data, attachments } = &expected;
        let mut out = Vec::new();
        socket::write_msgpack(*kind, namespace, *id, data, attachments, &mut out);
        assert_eq!(socket::read_msgpack(&out, MAX_ATTACHMENTS).as_ref(), Ok(&expected));
    }
}

fn vectors(section: &str) -> Vec<Value> {
    let mut all: Value = serde_json::from_str(include_str!("packets_vectors/vectors.json")).unwrap();
    let Value::Array(vectors) = all[section].take() else { panic!("no section {section}") };
    assert!(!vectors.is_empty());
    vectors
}

fn kind(vector: &Value) -> Kind {
    const KINDS: [Kind; 7] = [
        Kind::Connect,
        Kind::Disconnect,
        Kind::Event,
        Kind::Ack,
        Kind::ConnectError,
        Kind::BinaryEvent,
        Kind::BinaryAck,
    ];
    KINDS[usize::try_from(vector["type"].as_u64().unwrap()).unwrap()]
}

fn attachments(vector: &Value) -> Vec<Bytes> {
    vector["attachments"].as_array().unwrap().iter().map(|hex| bytes(hex).into()).collect()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let pairs = hex.as_str().unwrap().as_bytes().as_chunks::<2>().0;
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
