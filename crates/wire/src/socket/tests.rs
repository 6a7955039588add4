#![allow(clippy::unwrap_used)]

use super::*;

const MAX_ATTACHMENTS: usize = 10;

fn packet(kind: Kind, data: &str) -> Packet<'_> {
    Packet { kind, attachments: 0, namespace: "/", query: "", id: None, data }
}

#[test]
fn packets_of_both_protocols() {
    let cases = [
        ("0", packet(Kind::Connect, "")),
        ("0/admin,", Packet { namespace: "/admin", ..packet(Kind::Connect, "") }),
        ("0/admin", Packet { namespace: "/admin", ..packet(Kind::Connect, "") }),
        ("0/,", packet(Kind::Connect, "")),
        ("1", packet(Kind::Disconnect, "")),
        ("1/admin,", Packet { namespace: "/admin", ..packet(Kind::Disconnect, "") }),
        (r#"2["hello",1]"#, packet(Kind::Event, r#"["hello",1]"#)),
        (r#"212["a"]"#, Packet { id: Some(12), ..packet(Kind::Event, r#"["a"]"#) }),
        (
            r#"2/admin,456["a",{"b":[]}]"#,
            Packet { namespace: "/admin", id: Some(456), ..packet(Kind::Event, r#"["a",{"b":[]}]"#) },
        ),
        ("312[]", Packet { id: Some(12), ..packet(Kind::Ack, "[]") }),
        (r#"3/admin,0["x"]"#, Packet { namespace: "/admin", id: Some(0), ..packet(Kind::Ack, r#"["x"]"#) }),
        (r#"4"text""#, packet(Kind::ConnectError, r#""text""#)),
        (
            r#"4/admin,{"message":"no"}"#,
            Packet { namespace: "/admin", ..packet(Kind::ConnectError, r#"{"message":"no"}"#) },
        ),
        (
            r#"51-["hello",{"_placeholder":true,"num":0}]"#,
            Packet {
                attachments: 1,
                ..packet(Kind::BinaryEvent, r#"["hello",{"_placeholder":true,"num":0}]"#)
            },
        ),
        (
            r#"62-/admin,456[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
            Packet {
                attachments: 2,
                namespace: "/admin",
                id: Some(456),
                ..packet(Kind::BinaryAck, r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#)
            },
        ),
        // White space around the data is JSON's, and not kept.
        ("21 \n[ \"a\" ] ", Packet { id: Some(1), ..packet(Kind::Event, "[ \"a\" ]") }),
        // Without attachments placeholders are data.
        (
            r#"2["a",{"_placeholder":true,"num":0}]"#,
            packet(Kind::Event, r#"["a",{"_placeholder":true,"num":0}]"#),
        ),
    ];
    for version in [Version::V3, Version::V4] {
        for (text, expected) in &cases {
            assert_eq!(read(version, text, MAX_ATTACHMENTS), Ok(*expected), "{text}");
        }
    }
}

#[test]
fn connect_differs_between_the_protocols() {
    let connect = packet(Kind::Connect, "");
    let auth = r#"0/admin,{"token":"x"}"#;
    assert_eq!(
        read(Version::V4, auth, 0),
        Ok(Packet { namespace: "/admin", data: r#"{"token":"x"}"#, ..connect })
    );
    assert_eq!(read(Version::V3, auth, 0), Err(Error::Data));

    for (text, namespace, query) in [
        ("0/channel?A=x&C=y,", "/channel", "A=x&C=y"),
        ("0/channel?A=x&C=y", "/channel", "A=x&C=y"),
        ("0/channel?", "/channel", ""),
        ("0/channel?a?b,", "/channel", "a?b"),
        ("0/?a=b,", "/", "a=b"),
    ] {
        assert_eq!(read(Version::V3, text, 0), Ok(Packet { namespace, query, ..connect }), "{text}");
    }
    assert_eq!(
        read(Version::V4, "0/channel?A=x,", 0),
        Ok(Packet { namespace: "/channel?A=x", ..connect }),
        "protocol 5 has no query here"
    );
    assert_eq!(
        read(Version::V3, r#"2/channel?A=x,["e"]"#, 0),
        Ok(Packet { namespace: "/channel", ..packet(Kind::Event, r#"["e"]"#) })
    );
}

#[test]
fn bad_packets_are_refused() {
    let deep = format!("2[\"a\",{}{}]", "[".repeat(32), "]".repeat(32));
    let long_id = format!("2{}[\"a\"]", "1".repeat(16));
    let endless_id = format!("2{}", "1".repeat(100_000));
    let endless_count = format!("5{}", "1".repeat(100_000));
    for (text, error) in [
        ("", Error::UnknownType),
        ("7", Error::UnknownType),
        ("9[]", Error::UnknownType),
        ("a", Error::UnknownType),
        ("é", Error::UnknownType),
        (" 2[\"a\"]", Error::UnknownType),
        ("-1", Error::UnknownType),
        // Events.
        ("2", Error::Data),
        ("2[]", Error::Data),
        ("2[ ]", Error::Data),
        ("2[true]", Error::Data),
        ("2[1]", Error::Data),
        ("2[null,\"a\"]", Error::Data),
        ("2[{\"toString\":\"x\"}]", Error::Data),
        ("2[[\"a\"]]", Error::Data),
        ("2{\"0\":\"a\"}", Error::Data),
        ("2\"a\"", Error::Data),
        ("2[\"a\"", Error::Data),
        ("2[\"a\",]", Error::Data),
        ("2[\"a\"]x", Error::Data),
        ("2[\"\u{1}\"]", Error::Data),
        ("2/admin", Error::Data),
        ("2/admin[\"a\"]", Error::Data),
        ("2admin,[\"a\"]", Error::Data),
        ("2\u{feff}[\"a\"]", Error::Data),
        (deep.as_str(), Error::TooDeep),
        // Ids.
        (long_id.as_str(), Error::Malformed),
        (endless_id.as_str(), Error::Malformed),
        ("2-1[\"a\"]", Error::Malformed),
        ("21.5[\"a\"]", Error::Data),
        ("21e3[\"a\"]", Error::Data),
        // Acks.
        ("31", Error::Data),
        ("31{}", Error::Data),
        ("31\"a\"", Error::Data),
        // The others.
        ("0[]", Error::Data),
        ("0null", Error::Data),
        ("0\"a\"", Error::Data),
        ("0{", Error::Data),
        ("1{}", Error::Data),
        ("1/admin,[]", Error::Data),
        ("4[]", Error::Data),
        // Attachment counts.
        ("21-[\"a\"]", Error::Malformed),
        ("5[\"a\"]", Error::Malformed),
        ("5-[\"a\"]", Error::Malformed),
        ("50-[\"a\"]", Error::Malformed),
        ("51[\"a\"]", Error::Malformed),
        ("5+1-[\"a\"]", Error::Malformed),
        ("51.0-[\"a\"]", Error::Malformed),
        ("51e1-[\"a\"]", Error::Malformed),
        ("5 1-[\"a\"]", Error::Malformed),
        ("51", Error::Malformed),
        ("51-1-[\"a\"]", Error::Malformed),
        ("511-[\"a\"]", Error::TooManyAttachments),
        ("5999999999999999-[\"a\"]", Error::TooManyAttachments),
        ("59999999999999999-[\"a\"]", Error::Malformed),
        (endless_count.as_str(), Error::Malformed),
        // Placeholders.
        ("51-[\"a\"]", Error::Placeholders),
        ("51-[\"a\",{\"_placeholder\":true,\"num\":1}]", Error::Placeholders),
        ("51-[\"a\",{\"_placeholder\":true,\"num\":-1}]", Error::Placeholders),
        ("51-[\"a\",{\"_placeholder\":true,\"num\":\"splice\"}]", Error::Placeholders),
        ("51-[{\"_placeholder\":true,\"num\":0}]", Error::Data),
    ] {
        for version in [Version::V3, Version::V4] {
            let shown = &text[..text.len().min(60)];
            assert_eq!(read(version, text, MAX_ATTACHMENTS), Err(error), "{shown}");
        }
    }
}

#[test]
fn heads_are_written_as_the_protocol_says() {
    for (kind, attachments, namespace, id, expected) in [
        (Kind::Connect, 0, "/", None, "0"),
        (Kind::Connect, 0, "/admin", None, "0/admin,"),
        (Kind::Event, 0, "/", Some(0), "20"),
        (Kind::Ack, 0, "/admin", Some(123), "3/admin,123"),
        (Kind::BinaryEvent, 1, "/", None, "51-"),
        (Kind::BinaryAck, 12, "/admin", Some(7), "612-/admin,7"),
    ] {
        let mut out = Vec::new();
        write_head(kind, attachments, namespace, id, &mut out);
        assert_eq!(out, expected.as_bytes());
    }
}

type Members<'a> = &'a [(&'a str, &'a [u8])];

/// A msgpack map from names and encoded values.
fn map(members: Members<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    msgpack::write_map(u32::try_from(members.len()).unwrap(), &mut out);
    for (name, value) in members {
        msgpack::write_str(name, &mut out);
        out.extend_from_slice(value);
    }
    out
}

#[test]
fn msgpack_packets_are_read() {
    let undefined: &[u8] = b"\xd4\x00\x00";
    let event = |id| Unpacked {
        kind: Kind::Event,
        namespace: "/a".to_owned(),
        id,
        data: r#"["e"]"#.to_owned(),
        attachments: Vec::new(),
    };
    let data: (&str, &[u8]) = ("data", b"\x91\xa1e");
    let cases: &[(Members<'_>, Unpacked)] = &[
        (&[("type", b"\x02"), data, ("nsp", b"\xa2/a"), ("id", b"\x05")], event(Some(5))),
        (&[("id", undefined), ("nsp", b"\xa2/a"), data, ("type", b"\x02")], event(None)),
        (
            &[
                ("options", b"\x81\xa8compress\xc3"),
                ("type", b"\x02"),
                data,
                ("nsp", b"\xa2/a"),
                ("id", b"\xc0"),
            ],
            event(None),
        ),
        (
            &[("type", b"\x00"), ("data", undefined), ("nsp", b"\xa1/")],
            Unpacked { kind: Kind::Connect, namespace: "/".to_owned(), data: String::new(), ..event(None) },
        ),
        (
            &[("type", b"\x00"), ("data", b"\x81\xa1a\xc4\x01x")],
            Unpacked {
                kind: Kind::Connect,
                namespace: "/".to_owned(),
                data: r#"{"a":{"_placeholder":true,"num":0}}"#.to_owned(),
                attachments: vec![Bytes::from_static(b"x")],
                ..event(None)
            },
        ),
    ];
    for (members, expected) in cases {
        assert_eq!(read_msgpack(&map(members), MAX_ATTACHMENTS).as_ref(), Ok(expected));
    }
}

#[test]
fn bad_msgpack_packets_are_refused() {
    let kind: (&str, &[u8]) = ("type", b"\x02");
    let nsp: (&str, &[u8]) = ("nsp", b"\xa1/");
    let data: (&str, &[u8]) = ("data", b"\x91\xa1e");
    let deep = [&b"\x92\xa1e"[..], &[0x91; 32], b"\x01"].concat();
    let bins = [&b"\x9c\xa1e"[..], &b"\xc4\x00".repeat(11)].concat();
    let cases: &[(Members<'_>, Error)] = &[
        (&[], Error::UnknownType),
        (&[nsp, data], Error::UnknownType),
        (&[("type", b"\x05"), nsp, data], Error::UnknownType),
        (&[("type", b"\xa12"), nsp, data], Error::UnknownType),
        (&[("type", b"\xff"), nsp, data], Error::UnknownType),
        (&[kind, ("nsp", b"\x01"), data], Error::Malformed),
        (&[kind, nsp], Error::Data),
        (&[kind, nsp, ("data", b"\xd4\x00\x00")], Error::Data),
        (&[kind, nsp, ("data", b"\x90")], Error::Data),
        (&[kind, nsp, ("data", b"\x91\x01")], Error::Data),
        (&[kind, nsp, ("data", b"\x91\xd4\x00\x00")], Error::Data),
        (&[kind, nsp, ("data", b"\x91\xc4\x01e")], Error::Data),
        (&[kind, nsp, ("data", b"\x80")], Error::Data),
        (&[kind, nsp, ("data", &deep)], Error::TooDeep),
        (&[kind, nsp, ("data", &bins)], Error::TooManyAttachments),
        (&[kind, nsp, data, ("id", b"\xff")], Error::Malformed),
        (&[kind, nsp, data, ("id", b"\xa11")], Error::Malformed),
        (&[kind, nsp, data, ("id", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff")], Error::Malformed),
        (&[kind, nsp, data, data], Error::Malformed),
        (&[kind, nsp, data, ("options", &[0x91; 40])], Error::TooDeep),
        (&[("type", b"\x01"), nsp, data], Error::Data),
        (&[("type", b"\x00"), nsp, data], Error::Data),
    ];
    for (members, error) in cases {
        assert_eq!(read_msgpack(&map(members), MAX_ATTACHMENTS), Err(*error), "{members:x?}");
    }
    let whole = map(&[kind, nsp, data]);
    assert!(read_msgpack(&whole, 0).is_ok());
    for end in 0..whole.len() {
        assert_eq!(read_msgpack(&whole[..end], 0), Err(Error::Malformed), "cut at {end}");
    }
    assert_eq!(read_msgpack(&[&whole[..], b"\x00"].concat(), 0), Err(Error::Malformed));
    assert_eq!(read_msgpack(b"\xdf\xff\xff\xff\xff", 0), Err(Error::Malformed));
    assert_eq!(read_msgpack(b"\x93\x02\x01\x01", 0), Err(Error::Malformed));
}

#[test]
fn msgpack_packets_are_written() {
    let mut out = Vec::new();
    let attachment = [Bytes::from_static(b"xyz")];
    let data = r#"["e",{"_placeholder":true,"num":0}]"#;
    write_msgpack(Kind::BinaryEvent, "/a", Some(3), data, &attachment, &mut out);
    assert_eq!(out, b"\x84\xa4type\x02\xa3nsp\xa2/a\xa2id\x03\xa4data\x92\xa1e\xc4\x03xyz");
    assert_eq!(
        read_msgpack(&out, 1),
        Ok(Unpacked {
            kind: Kind::Event,
            namespace: "/a".to_owned(),
            id: Some(3),
            data: data.to_owned(),
            attachments: attachment.to_vec()
        })
    );
    out.clear();
    write_msgpack(Kind::Disconnect, "/", None, "", &[], &mut out);
    assert_eq!(out, b"\x82\xa4type\x01\xa3nsp\xa1/");
}
