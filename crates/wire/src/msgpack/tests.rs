#![allow(clippy::unwrap_used)]

use super::*;

const MAX_ATTACHMENTS: usize = 3;

fn decode(input: &[u8]) -> Result<(String, Vec<Bytes>), Error> {
    let mut rest = input;
    let (mut json, mut attachments) = (Vec::new(), Vec::new());
    to_json(&mut rest, 32, MAX_ATTACHMENTS, &mut json, &mut attachments)?;
    assert!(rest.is_empty(), "{} trailing bytes", rest.len());
    Ok((String::from_utf8(json).unwrap(), attachments))
}

fn decode_json(input: &[u8]) -> String {
    let (json, attachments) = decode(input).unwrap();
    assert!(attachments.is_empty());
    json
}

fn encode(json: &str, attachments: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::new();
    from_json(json, attachments, &mut out);
    out
}

#[test]
fn scalars_become_json() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x00", "0"),
        (b"\x7f", "127"),
        (b"\xe0", "-32"),
        (b"\xff", "-1"),
        (b"\xc0", "null"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\xcc\xff", "255"),
        (b"\xcd\xff\xfe", "65534"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xd0\x80", "-128"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xca\x3f\xc0\x00\x00", "1.5"),
        (b"\xca\x7f\xc0\x00\x00", "null"),
        (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "null"),
        (b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "0"),
        (b"\xcb\x40\x08\x00\x00\x00\x00\x00\x00", "3"),
        (b"\xcb\x44\x15\xaf\x1d\x78\xb5\x8c\x40", "100000000000000000000"),
        (b"\xcb\x44\x4b\x1a\xe4\xd6\xe2\xef\x50", "1e21"),
        (b"\xcb\x3e\xb0\xc6\xf7\xa0\xb5\xed\x8d", "0.000001"),
        (b"\xcb\x3e\x7a\xd7\xf2\x9a\xbc\xaf\x48", "1e-7"),
        (b"\xcb\x7f\xef\xff\xff\xff\xff\xff\xff", "1.7976931348623157e308"),
        (b"\xcb\x00\x00\x00\x00\x00\x00\x00\x01", "5e-324"),
        (b"\xa3a\"\n", r#""a\"\n""#),
        (b"\xd9\x01x", r#""x""#),
        (b"\xda\x00\x01x", r#""x""#),
        (b"\xdb\x00\x00\x00\x01x", r#""x""#),
    ];
    for (input, expected) in cases {
        assert_eq!(decode_json(input), *expected, "{input:x?}");
    }
}

#[test]
fn containers_become_json() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x90", "[]"),
        (b"\x80", "{}"),
        (b"\x93\x01\x90\x92\x02\x80", "[1,[],[2,{}]]"),
        (b"\x82\xa1a\x81\xa1b\x90\xa1c\xc0", r#"{"a":{"b":[]},"c":null}"#),
        (b"\xdc\x00\x01\x01", "[1]"),
        (b"\xdd\x00\x00\x00\x01\x01", "[1]"),
        (b"\xde\x00\x01\xa0\x01", r#"{"":1}"#),
        (b"\xdf\x00\x00\x00\x01\xa0\x01", r#"{"":1}"#),
    ];
    for (input, expected) in cases {
        assert_eq!(decode_json(input), *expected, "{input:x?}");
    }
}

#[test]
fn json_that_is_already_there_stays() {
    let (mut json, mut attachments) = (b"{\"x\":[".to_vec(), vec![Bytes::from_static(b"a")]);
    let mut input: &[u8] = b"\x92\xc4\x01b\x01\x02";
    to_json(&mut input, 32, 3, &mut json, &mut attachments).unwrap();
    assert_eq!(input, b"\x02");
    assert_eq!(json, br#"{"x":[[{"_placeholder":true,"num":1},1]"#);
    assert_eq!(attachments, ["a", "b"]);
    to_json(&mut input, 32, 3, &mut json, &mut attachments).unwrap();
    assert!(json.ends_with(b",1]2"), "commas between values are the caller's");
}

#[test]
fn bins_become_attachments() {
    let (json, attachments) = decode(b"\x93\xc4\x00\xc5\x00\x01a\xc6\x00\x00\x00\x02bc").unwrap();
    let placeholder = |num| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
    assert_eq!(json, format!("[{},{},{}]", placeholder(0), placeholder(1), placeholder(2)));
    assert_eq!(attachments, ["", "a", "bc"]);
    assert_eq!(decode(b"\x94\xc4\x00\xc4\x00\xc4\x00\xc4\x00"), Err(Error::TooManyAttachments));
}

#[test]
fn extensions_mean_what_notepack_means() {
    let cases: &[(&[u8], &str)] = &[
        // undefined
        (b"\xd4\x00\x00", "null"),
        (b"\x93\x01\xd4\x00\x00\x02", "[1,null,2]"),
        (b"\x81\xa1a\xd4\x00\x00", "{}"),
        (b"\x83\xa1a\xd4\x00\x00\xa1b\x01\xa1c\xd4\x00\x00", r#"{"b":1}"#),
        (b"\x82\xa1a\x01\xa1b\x91\xd4\x00\x00", r#"{"a":1,"b":[null]}"#),
        // Date of notepack.io 2
        (b"\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00", r#""1970-01-01T00:00:00.000Z""#),
        (b"\xd7\x00\x00\x00\x01\x5d\x3e\xf7\x98\x7b", r#""2017-07-14T02:40:00.123Z""#),
        (b"\xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff", r#""1969-12-31T23:59:59.999Z""#),
        (b"\xd7\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        // timestamps of 32, 64 and 96 bits
        (b"\xd6\xff\x38\x6d\x43\x80", r#""2000-01-01T00:00:00.000Z""#),
        (b"\xd7\xff\xee\x6b\x27\xfc\x00\x00\x00\x00", r#""1970-01-01T00:00:00.999Z""#),
        (b"\xc7\x0c\xff\x1d\xcd\x65\x00\xff\xff\xff\xff\xff\xff\xff\xff", r#""1969-12-31T23:59:59.500Z""#),
        (b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
    ];
    for (input, expected) in cases {
        assert_eq!(decode_json(input), *expected, "{input:x?}");
    }
    // ArrayBuffer and typed arrays of notepack.io 2
    let (_, attachments) = decode(b"\x92\xc7\x01\x00a\xc7\x08\x0001234567").unwrap();
    assert_eq!(attachments, ["a", "01234567"]);
}

#[test]
fn dates_reach_as_far_as_javascript() {
    let date = |milliseconds: i64| {
        let mut input = vec![0xd7, 0];
        input.extend(milliseconds.to_be_bytes());
        decode_json(&input)
    };
    assert_eq!(date(8_640_000_000_000_000), r#""+275760-09-13T00:00:00.000Z""#);
    assert_eq!(date(-8_640_000_000_000_000), r#""-271821-04-20T00:00:00.000Z""#);
    assert_eq!(date(8_640_000_000_000_001), "null");
    assert_eq!(date(253_402_300_799_999), r#""9999-12-31T23:59:59.999Z""#);
    assert_eq!(date(253_402_300_800_000), r#""+010000-01-01T00:00:00.000Z""#);
    assert_eq!(date(-62_167_219_200_000), r#""0000-01-01T00:00:00.000Z""#);
    assert_eq!(date(-62_167_219_200_001), r#""-000001-12-31T23:59:59.999Z""#);
    assert_eq!(date(951_782_400_000), r#""2000-02-29T00:00:00.000Z""#);
    assert_eq!(date(4_107_542_400_000), r#""2100-03-01T00:00:00.000Z""#);
}

#[test]
fn bad_input_is_refused_by_both() {
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    let cases: Vec<(Vec<u8>, Error)> = vec![
        (b"".to_vec(), Error::Truncated),
        (b"\xcd\x01".to_vec(), Error::Truncated),
        (b"\xa2a".to_vec(), Error::Truncated),
        (b"\x92\x01".to_vec(), Error::Truncated),
        (b"\x81".to_vec(), Error::Truncated),
        (b"\x81\xa1a".to_vec(), Error::Truncated),
        (b"\xc4".to_vec(), Error::Truncated),
        (b"\xd6\x00\x00".to_vec(), Error::Truncated),
        // Lengths near 2^32 with nothing behind them.
        (b"\xdd\xff\xff\xff\xff".to_vec(), Error::Truncated),
        (b"\xdf\xff\xff\xff\xff".to_vec(), Error::Truncated),
        (b"\xdb\xff\xff\xff\xff".to_vec(), Error::Truncated),
        (b"\xc6\xff\xff\xff\xff".to_vec(), Error::Truncated),
        (b"\xc9\xff\xff\xff\xff\x00".to_vec(), Error::Truncated),
        (b"\xdd\xff\xff\xff\xff\x01\xdd\xff\xff\xff\xff".to_vec(), Error::Truncated),
        (b"\xc1".to_vec(), Error::Malformed),
        (b"\x81\x01\x01".to_vec(), Error::Malformed),
        (b"\x81\xc4\x01a\x01".to_vec(), Error::Malformed),
        (b"\x81\x90\x01".to_vec(), Error::Malformed),
        (b"\xd4\x01\x00".to_vec(), Error::Malformed),
        (b"\xd5\x00\x00\x00".to_vec(), Error::Malformed),
        (b"\xc7\x01\x05a".to_vec(), Error::Malformed),
        (b"\xd4\xff\x00".to_vec(), Error::Malformed),
        // More than 999,999,999 ns.
        (b"\xd7\xff\xff\xff\xff\xfc\x00\x00\x00\x00".to_vec(), Error::Malformed),
        // It would be taken for an attachment.
        (b"\xa2\xc3\x28".to_vec(), Error::Utf8),
        (b"\xa3\xed\xa0\x80".to_vec(), Error::Utf8),
        (b"\x81\xa1\xff\x01".to_vec(), Error::Utf8),
        (nested(33), Error::TooDeep),
        ([vec![0x91; 32], b"\xc4\x00".to_vec()].concat(), Error::TooDeep), // the placeholder is an object
        (nested(1_000_000), Error::TooDeep),
    ];
    for (input, error) in cases {
        let shown = &input[..input.len().min(20)];
        assert_eq!(decode(&input), Err(error), "{shown:x?}");
        assert_eq!(skip(&mut &input[..], 32), Err(error), "{shown:x?}");
    }
    assert!(decode(&nested(32)).is_ok());
    assert_eq!(skip(&mut &nested(32)[..], 32), Ok(()));
    assert_eq!(skip(&mut &nested(65)[..], usize::MAX), Err(Error::TooDeep));
}

#[test]
fn skip_stops_behind_the_value() {
    let mut input: &[u8] = b"\x82\xa1a\x92\x01\xc4\x01x\xa1b\xd4\x00\x00\x05";
    assert_eq!(skip(&mut input, 3), Ok(()));
    assert_eq!(input, b"\x05");
}

#[test]
fn json_becomes_the_shortest_msgpack() {
    let cases: &[(&str, &[u8])] = &[
        (" null ", b"\xc0"),
        ("true", b"\xc3"),
        ("false", b"\xc2"),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("256", b"\xcd\x01\x00"),
        ("65536", b"\xce\x00\x01\x00\x00"),
        ("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"),
        ("-0", b"\x00"),
        ("-1", b"\xff"),
        ("-32", b"\xe0"),
        ("-33", b"\xd0\xdf"),
        ("-129", b"\xd1\xff\x7f"),
        ("-32769", b"\xd2\xff\xff\x7f\xff"),
        ("-2147483649", b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        ("1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        ("1e2", b"\xcb\x40\x59\x00\x00\x00\x00\x00\x00"),
        ("1e999", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
        (r#""""#, b"\xa0"),
        (r#""a\n\ud83d""#, b"\xa5a\n\xef\xbf\xbd"),
        ("[ ]", b"\x90"),
        ("{\n}", b"\x80"),
        (r#"[1,"[,",[],{"a":[ {} ,2]}]"#, b"\x94\x01\xa2[,\x90\x81\xa1a\x92\x80\x02"),
    ];
    for (json, expected) in cases {
        assert_eq!(encode(json, &[]), *expected, "{json}");
    }
}

#[test]
fn lengths_take_the_width_they_need() {
    for (len, head) in [
        (31, &b"\xbf"[..]),
        (32, b"\xd9\x20"),
        (255, b"\xd9\xff"),
        (256, b"\xda\x01\x00"),
        (65_536, b"\xdb\x00\x01\x00\x00"),
    ] {
        let text = "x".repeat(len);
        assert_eq!(encode(&format!("\"{text}\""), &[]), [head, text.as_bytes()].concat());
    }
    for (len, array, map) in [
        (15_u16, &b"\x9f"[..], &b"\x8f"[..]),
        (16, b"\xdc\x00\x10", b"\xde\x00\x10"),
        (65_535, b"\xdc\xff\xff", b"\xde\xff\xff"),
    ] {
        let json = format!("[{}]", vec!["1"; len.into()].join(","));
        assert_eq!(encode(&json, &[])[..array.len()], *array);
        let json = format!("{{{}}}", vec!["\"\":1"; len.into()].join(","));
        assert_eq!(encode(&json, &[])[..map.len()], *map);
    }
    let json = format!("[{}]", vec!["1"; 65_536].join(","));
    assert_eq!(encode(&json, &[])[..5], *b"\xdd\x00\x01\x00\x00");
    let large = vec![7; 65_536];
    let bins = [Bytes::from(large[..255].to_vec()), Bytes::from(large[..256].to_vec()), Bytes::from(large)];
    for (num, head) in [&b"\xc4\xff"[..], b"\xc5\x01\x00", b"\xc6\x00\x01\x00\x00"].into_iter().enumerate() {
        let json = format!(r#"{{"num":{num},"_placeholder":true}}"#);
        assert_eq!(encode(&json, &bins), [head, &bins[num]].concat());
    }
}

#[test]
fn what_looks_like_a_placeholder_is_plain_data_but_beside_an_attachment() {
    let read = |input: &[u8]| {
        let (mut json, mut attachments) = (Vec::new(), Vec::new());
        to_json(&mut &*input, 32, 4, &mut json, &mut attachments).map(|()| String::from_utf8(json).unwrap())
    };
    let alone = b"\x82\xac_placeholder\xc3\xa3num\x00";
    assert_eq!(read(alone).unwrap(), r#"{"_placeholder":true,"num":0}"#);
    assert_eq!(read(&[b"\x92\xc4\x00".as_slice(), alone].concat()), Err(Error::Malformed));
}

#[test]
fn placeholders_become_bins_only_with_attachments() {
    let json = r#"[{"_placeholder":true,"num":0},[1]]"#;
    assert_eq!(encode(json, &[Bytes::from_static(b"ab")]), b"\x92\xc4\x02ab\x91\x01");
    assert_eq!(encode(json, &[]), b"\x92\x82\xac_placeholder\xc3\xa3num\x00\x91\x01");
}
