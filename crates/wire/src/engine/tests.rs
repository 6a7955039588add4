use super::*;

/// A packet with its own storage.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Text(Kind, String),
    Binary(Vec<u8>),
}

impl From<Packet<'_>> for Got {
    fn from(packet: Packet<'_>) -> Self {
        match packet {
            Packet::Text(kind, text) => Self::Text(kind, text.to_owned()),
            Packet::Binary(data) => Self::Binary(data.to_owned()),
        }
    }
}

fn message(text: &str) -> Got {
    Got::Text(Kind::Message, text.to_owned())
}

/// The packets before the first error, and the error.
fn read(version: Version, binary: bool, body: &[u8]) -> (Vec<Got>, Option<Error>) {
    let mut got = Vec::new();
    let result = read_payload(version, binary, body, 16, |packet| {
        got.push(packet.into());
        Ok::<_, Error>(())
    });
    (got, result.err())
}

fn v3(body: &str) -> (Vec<Got>, Option<Error>) {
    read(Version::V3, false, body.as_bytes())
}

fn v3_binary(body: &[u8]) -> (Vec<Got>, Option<Error>) {
    read(Version::V3, true, body)
}

fn v4(body: &str) -> (Vec<Got>, Option<Error>) {
    read(Version::V4, false, body.as_bytes())
}

mod packets {
    use super::*;

    #[test]
    fn the_first_digit_is_the_type() {
        let kinds = [
            ("0", Kind::Open),
            ("1", Kind::Close),
            ("2", Kind::Ping),
            ("3", Kind::Pong),
            ("4", Kind::Message),
            ("5", Kind::Upgrade),
            ("6", Kind::Noop),
        ];
        for (digit, kind) in kinds {
            assert_eq!(kind as u8, digit.as_bytes()[0] - b'0');
            assert_eq!(read_text(digit), Ok(Packet::Text(kind, "")));
            assert_eq!(read_text(&format!("{digit}probé")), Ok(Packet::Text(kind, "probé")));
        }
        assert_eq!(read_text(""), Err(Error::Empty));
        for unknown in ["7", "9x", "x", "b4AA==", "-4", " 4", "é", "\u{664}"] {
            assert_eq!(read_text(unknown), Err(Error::UnknownType), "{unknown}");
        }
    }

    #[test]
    fn binary_messages_have_a_type_in_version_3_only() {
        assert_eq!(read_binary(Version::V4, &[4, 1]), Ok(Packet::Binary(&[4, 1])));
        assert_eq!(read_binary(Version::V4, &[]), Ok(Packet::Binary(&[])));
        assert_eq!(read_binary(Version::V3, &[4, 1]), Ok(Packet::Binary(&[1])));
        assert_eq!(read_binary(Version::V3, &[4]), Ok(Packet::Binary(&[])));
        assert_eq!(read_binary(Version::V3, &[]), Err(Error::Empty));
        for kind in [0, 2, 3, 5, 7, b'4'] {
            assert_eq!(read_binary(Version::V3, &[kind, 1]), Err(Error::UnknownType));
        }
    }

    #[test]
    fn binary_messages_as_base64() {
        assert_eq!(read_base64(Version::V4, "bAQIDBA=="), Ok(vec![1, 2, 3, 4]));
        assert_eq!(read_base64(Version::V4, "bAQIDBA"), Ok(vec![1, 2, 3, 4]), "padding is optional");
        assert_eq!(read_base64(Version::V4, "b"), Ok(vec![]));
        assert_eq!(read_base64(Version::V3, "b4AQIDBA=="), Ok(vec![1, 2, 3, 4]));
        assert_eq!(read_base64(Version::V3, "bAQIDBA=="), Err(Error::UnknownType));
        for bad in ["bA", "bAQ=D", "bAQ-_", "bAQ==AQ==", "b A==", "bé", "4AQ=="] {
            assert_eq!(read_base64(Version::V4, bad), Err(Error::Malformed), "{bad}");
        }
    }

    #[test]
    fn the_open_packet() {
        assert_eq!(
            open_json(Version::V4, "lv_VI97HAXpY6yYWAAAC", &["websocket"], 25_000, 20_000, 1_000_000),
            r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        );
        assert_eq!(
            open_json(Version::V3, "a", &[], 25_000, 60_000, 1_000_000),
            r#"{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#,
        );
    }
}

mod reading {
    use super::*;

    #[test]
    fn version_4_as_in_the_protocol_document() {
        let expected = vec![message("hello"), Got::Text(Kind::Ping, String::new()), message("world")];
        assert_eq!(v4("4hello\u{1e}2\u{1e}4world"), (expected, None));
        assert_eq!(
            v4("4hello\u{1e}bAQIDBA=="),
            (vec![message("hello"), Got::Binary(vec![1, 2, 3, 4])], None)
        );
    }

    #[test]
    fn version_3_as_in_the_protocol_document() {
        assert_eq!(v3("6:4hello2:4€"), (vec![message("hello"), message("€")], None));
        assert_eq!(v3("2:4€10:b4AQIDBA=="), (vec![message("€"), Got::Binary(vec![1, 2, 3, 4])], None));
        // 4€ as text, then 01 02 03 04 as a binary message
        let body = [0, 4, 0xff, 0x34, 0xe2, 0x82, 0xac, 1, 5, 0xff, 4, 1, 2, 3, 4];
        assert_eq!(v3_binary(&body), (vec![message("€"), Got::Binary(vec![1, 2, 3, 4])], None));
    }

    #[test]
    fn version_3_counts_utf16_code_units() {
        assert_eq!(v3("3:4😀6:4hello"), (vec![message("😀"), message("hello")], None));
        assert_eq!(v3("2:4é1:2"), (vec![message("é"), Got::Text(Kind::Ping, String::new())], None));
        assert_eq!(v3("2:4😀").1, Some(Error::Malformed), "half of a surrogate pair");
        assert_eq!(v3("4:4😀").1, Some(Error::Malformed), "more than there is");
    }

    /// The bodies are those of engine.io-parser 1.3.2 and 2.2.1 for the same packets.
    #[test]
    fn version_3_of_socket_io_1_and_2() {
        let expected = (vec![message(r#"2["é","日本","😀"]"#), Got::Text(Kind::Ping, String::new())], None);
        let once = r#"17:42["é","日本","😀"]1:2"#;
        let twice = "24:42[\"Ã©\",\"æ\u{97}¥æ\u{9c}¬\",\"ð\u{9f}\u{98}\u{80}\"]1:2";
        assert_eq!(v3(once), expected);
        assert_eq!(v3(twice), expected);
        let binary =
            b"\0\x02\x04\xff42[\"\xc3\xa9\",\"\xe6\x97\xa5\xe6\x9c\xac\",\"\xf0\x9f\x98\x80\"]\0\x01\xff2";
        assert_eq!(v3_binary(binary), expected);
    }

    #[test]
    fn text_that_was_encoded_once_is_left_alone() {
        for text in ["déjà vu", "«CAFÉ»", "Ã© 日", "\u{80}", "ÿ"] {
            let body = format!("{}:4{text}", 1 + text.encode_utf16().count());
            assert_eq!(v3(&body), (vec![message(text)], None));
        }
        // only version 3's text form was ever encoded twice
        assert_eq!(v4("4Ã©"), (vec![message("Ã©")], None));
        assert_eq!(v3_binary(b"\0\x05\xff4\xc3\x83\xc2\xa9"), (vec![message("Ã©")], None));
    }

    #[test]
    fn packets_before_an_error_are_visited() {
        assert_eq!(v4("4a\u{1e}9\u{1e}4b"), (vec![message("a")], Some(Error::UnknownType)));
        assert_eq!(v3("2:4ax"), (vec![message("a")], Some(Error::Malformed)));
    }

    #[test]
    fn the_visitor_can_stop() {
        #[derive(Debug, PartialEq)]
        enum Stop {
            Payload(Error),
            Enough,
        }
        impl From<Error> for Stop {
            fn from(error: Error) -> Self {
                Self::Payload(error)
            }
        }
        let mut seen = 0;
        let result = read_payload(Version::V4, false, b"4a\x1e4b\x1e9", 9, |_| {
            seen += 1;
            if seen == 2 { Err(Stop::Enough) } else { Ok(()) }
        });
        assert_eq!((result, seen), (Err(Stop::Enough), 2));
        let result = read_payload(Version::V4, false, b"9", 9, |_| Ok(()));
        assert_eq!(result, Err(Stop::Payload(Error::UnknownType)));
    }

    #[test]
    fn no_more_packets_than_allowed() {
        for (version, binary, body) in [
            (Version::V4, false, b"2\x1e2\x1e2".to_vec()),
            (Version::V3, false, b"1:21:21:2".to_vec()),
            (Version::V3, true, b"\0\x01\xff2".repeat(3)),
        ] {
            let count = |max| {
                let mut seen = 0;
                let result = read_payload(version, binary, &body, max, |_| {
                    seen += 1;
                    Ok::<_, Error>(())
                });
                (seen, result)
            };
            assert_eq!(count(3), (3, Ok(())));
            assert_eq!(count(2), (2, Err(Error::TooMany)));
            assert_eq!(count(0), (0, Err(Error::TooMany)));
        }
    }

    #[test]
    fn bodies_that_are_refused() {
        for (version, binary, body, error) in [
            (Version::V4, false, &b""[..], Error::Empty),
            (Version::V4, false, b"4a\x1e", Error::Empty),
            (Version::V4, false, b"\x1e4a", Error::Empty),
            (Version::V4, false, b"4a\x1e\x1e4b", Error::Empty),
            (Version::V4, false, b"7", Error::UnknownType),
            (Version::V4, false, b"4\xff", Error::Utf8),
            (Version::V4, false, b"4\xe2\x82", Error::Utf8),
            (Version::V4, false, b"b*", Error::Malformed),
            (Version::V4, true, b"4a", Error::Malformed),
            (Version::V3, false, b"", Error::Empty),
            (Version::V3, false, b"0:", Error::Empty),
            (Version::V3, false, b"1:8", Error::UnknownType),
            (Version::V3, false, b"2:b5", Error::UnknownType),
            (Version::V3, false, b"1:b", Error::UnknownType),
            (Version::V3, false, b"3:b4*", Error::Malformed),
            (Version::V3, false, b":4", Error::Malformed),
            (Version::V3, false, b"4a", Error::Malformed),
            (Version::V3, false, b"5", Error::Malformed),
            (Version::V3, false, b"-1:4", Error::Malformed),
            (Version::V3, false, b"+1:4", Error::Malformed),
            (Version::V3, false, b"1 :4", Error::Malformed),
            (Version::V3, false, b"9:4hello", Error::Malformed),
            (Version::V3, false, b"9999999999:4", Error::Malformed),
            (Version::V3, false, b"00000000001:4", Error::Malformed),
            (Version::V3, false, b"2:4\xff", Error::Utf8),
            (Version::V3, true, b"", Error::Empty),
            (Version::V3, true, b"\0\0\xff", Error::Empty),
            (Version::V3, true, b"\x01\0\xff", Error::Empty),
            (Version::V3, true, b"\x02\x01\xff4", Error::Malformed),
            (Version::V3, true, b"\0\xff4", Error::Malformed),
            (Version::V3, true, b"\0\x014", Error::Malformed),
            (Version::V3, true, b"\0\x0a\xff4123456789", Error::Malformed),
            (Version::V3, true, b"\0\x02\xff4", Error::Malformed),
            (Version::V3, true, b"\0", Error::Malformed),
            (Version::V3, true, b"\0\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4", Error::Malformed),
            (Version::V3, true, b"\0\x01\xff8", Error::UnknownType),
            (Version::V3, true, b"\x01\x01\xff4\0", Error::UnknownType),
            (Version::V3, true, b"\0\x02\xff4\xc3\0", Error::Utf8),
        ] {
            assert_eq!(read(version, binary, body).1, Some(error), "{version:?} {binary} {body:x?}");
        }
    }

    #[test]
    fn long_digit_runs_are_not_read_to_their_end() {
        let mut body = vec![b'1'; 1 << 20];
        assert_eq!(read(Version::V3, false, &body).1, Some(Error::Malformed));
        body.fill(1);
        body[0] = 0;
        assert_eq!(read(Version::V3, true, &body).1, Some(Error::Malformed));
    }
}

mod writing {
    use super::*;

    fn written(mut writer: PayloadWriter, packets: &[Got]) -> (Vec<u8>, bool) {
        assert!(writer.is_empty());
        for packet in packets {
            let before = writer.len();
            match packet {
                Got::Text(kind, text) => writer.text(&format!("{}{text}", *kind as u8)),
                Got::Binary(data) => writer.binary(data),
            }
            assert!(writer.len() > before);
        }
        let len = writer.len();
        let (body, binary) = writer.finish();
        assert_eq!(body.len(), len);
        (body.to_vec(), binary)
    }

    #[test]
    fn version_4_as_in_the_protocol_document() {
        let packets = [message("hello"), Got::Text(Kind::Ping, String::new()), Got::Binary(vec![1, 2, 3, 4])];
        for base64 in [false, true] {
            let body = written(PayloadWriter::new(Version::V4, base64), &packets);
            assert_eq!(body, (b"4hello\x1e2\x1ebAQIDBA==".to_vec(), false));
        }
    }

    #[test]
    fn version_3_in_its_three_forms() {
        let texts = [message("hello"), Got::Text(Kind::Ping, String::new())];
        for base64 in [false, true] {
            let body = written(PayloadWriter::new(Version::V3, base64), &texts);
            assert_eq!(body, (b"6:4hello1:2".to_vec(), false));
        }
        let packets = [message("hello"), Got::Binary(vec![1, 2, 3, 4])];
        let base64 = written(PayloadWriter::new(Version::V3, true), &packets);
        assert_eq!(base64, (b"6:4hello10:b4AQIDBA==".to_vec(), false));
        let binary = written(PayloadWriter::new(Version::V3, false), &packets);
        assert_eq!(binary, (b"\0\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04".to_vec(), true));
    }

    #[test]
    fn version_3_is_ascii_so_that_clients_of_socket_io_1_and_2_read_the_same() {
        let body = written(PayloadWriter::new(Version::V3, true), &[message(r#"2["é","日本","😀"]"#)]);
        // both parsers make [ 'é', '日本', '😀' ] of it
        let expected = r#"42:42["\u00e9","\u65e5\u672c","\ud83d\ude00"]"#;
        assert_eq!(body, (expected.as_bytes().to_vec(), false));
    }

    #[test]
    fn texts_before_and_after_a_binary_packet_take_its_form() {
        let packets = [message("hello world"), message("2:4x"), Got::Binary(vec![]), message("3:4x")];
        let (body, binary) = written(PayloadWriter::new(Version::V3, false), &packets);
        assert!(binary);
        assert_eq!(body[..4], [0, 1, 2, 0xff], "12 bytes");
        assert_eq!(v3_binary(&body), (packets.to_vec(), None));
    }

    #[test]
    fn nothing_is_an_empty_body() {
        assert_eq!(written(PayloadWriter::new(Version::V3, false), &[]), (vec![], false));
    }
}
