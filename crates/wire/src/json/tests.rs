#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn valid_texts_pass() {
    for text in [
        "null",
        " true\r\n",
        "\tfalse ",
        "0",
        "-0",
        "-0.0e-00",
        "10.25E+7",
        "1e999",
        r#""""#,
        r#""\"\\\/\b\f\n\r\t\u00e9""#,
        r#""\ud83d lone \udE00""#,
        "\"\u{7f}\u{2028} 한글 🙂\"",
        "[]",
        "[ ]",
        "{}",
        "{\n}",
        r#"[1, "a" ,{"k" : [ ] } , null]"#,
        r#"{"a":{"b":[{"c":[]}]},"a":1}"#,
    ] {
        assert_eq!(validate(text), Ok(()), "{text}");
    }
}

#[test]
fn the_first_wrong_byte_is_named() {
    for (text, at) in [
        ("", 0),
        ("  ", 2),
        ("nul", 3),
        ("nulL", 3),
        ("truefalse", 4),
        ("1 2", 2),
        ("01", 1),
        ("-", 1),
        ("+1", 0),
        (".5", 0),
        ("1.", 2),
        ("1.e1", 2),
        ("1e", 2),
        ("1e+", 3),
        ("0x10", 1),
        ("NaN", 0),
        ("Infinity", 0),
        ("\u{a0}1", 0),
        ("\u{feff}1", 0),
        ("1\u{c}", 1),
        ("'a'", 0),
        ("\"a", 2),
        ("\"a\nb\"", 2),
        ("\"0123456789\u{1}\"", 11),
        ("\"\\", 2),
        ("\"\\x\"", 2),
        ("\"\\u12g4\"", 5),
        ("\"\\u12", 5),
        ("[", 1),
        ("]", 0),
        ("[1", 2),
        ("[1,", 3),
        ("[1,]", 3),
        ("[,1]", 1),
        ("[1}", 2),
        ("[1 1]", 3),
        ("[]]", 2),
        ("{", 1),
        ("{1:2}", 1),
        ("{\"a\"}", 4),
        ("{\"a\":}", 5),
        ("{\"a\":1,}", 7),
        ("{\"a\":1]", 6),
        ("{\"a\" 1}", 5),
        ("{a:1}", 1),
        ("[1]//", 3),
    ] {
        assert_eq!(validate(text), Err(Error::Syntax(at)), "{text}");
    }
}

#[test]
fn depth_is_counted_in_containers() {
    let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(validate(&nested(32)), Ok(()));
    assert_eq!(validate(&nested(33)), Err(Error::TooDeep(32)));
    assert_eq!(validate_depth("1", 0), Ok(()));
    assert_eq!(validate_depth("[]", 0), Err(Error::TooDeep(0)));
    assert_eq!(validate_depth(&nested(64), usize::MAX), Ok(()));
    assert_eq!(validate_depth(&nested(65), usize::MAX), Err(Error::TooDeep(64)));
    assert_eq!(validate(&"[".repeat(1_000_000)), Err(Error::TooDeep(32)));
    // Siblings do not add up, and each level remembers its kind.
    assert_eq!(validate_depth(r#"[{"a":[]},{"b":[]},[[]]]"#, 3), Ok(()));
    assert_eq!(validate_depth(r#"[{"a":[}]}]"#, 3), Err(Error::Syntax(7)));
}

#[test]
fn bytes_must_be_utf8() {
    assert_eq!(validate_bytes("\"é\"".as_bytes(), 1), Ok("\"é\""));
    assert_eq!(validate_bytes(b"\"\xc3\"", 1), Err(Error::Utf8(1)));
    assert_eq!(validate_bytes(b"\"ab\xf0\x9f\x99", 1), Err(Error::Utf8(3)));
    assert_eq!(validate_bytes(b"\"\xed\xa0\x80\"", 1), Err(Error::Utf8(1)), "an encoded surrogate");
    assert_eq!(validate_bytes(b"[", 0), Err(Error::TooDeep(0)));
}

#[test]
fn elements_are_trimmed_slices() {
    let list = |text| elements(text).map(|elements| elements.collect::<Vec<_>>());
    assert_eq!(list(" [ ] "), Some(vec![]));
    assert_eq!(
        list("\n[ 1 ,\"a,]\\\"\", [2,[3]] , {\"k\":\"}\"},null\t]\n"),
        Some(vec!["1", r#""a,]\"""#, "[2,[3]]", r#"{"k":"}"}"#, "null"])
    );
    assert_eq!(list(r#"["\\",1]"#), Some(vec![r#""\\""#, "1"]));
    assert_eq!(list("{}"), None);
    assert_eq!(list(r#""[""#), None);
    assert_eq!(
        elements("[1]").map(|mut elements| [elements.next(), elements.next(), elements.next()]),
        Some([Some("1"), None, None])
    );
}

#[test]
fn members_have_unescaped_keys() {
    let list = |text| members(text).map(|members| members.collect::<Vec<_>>());
    assert_eq!(list(" { } "), Some(vec![]));
    assert_eq!(
        list(r#"{"a" : 1 , "\u0061\n":{"b":[]}, "":"x:y" }"#),
        Some(vec![("a".into(), "1"), ("a\n".into(), r#"{"b":[]}"#), ("".into(), r#""x:y""#)])
    );
    assert_eq!(list("[]"), None);
    assert_eq!(list("1"), None);
}

#[test]
fn strings_are_unescaped() {
    for (value, expected) in [
        (r#""""#, Some("")),
        (r#"  "plain 한" "#, Some("plain 한")),
        (r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t")),
        (r#""\u0041\u00e9\uD55c""#, Some("Aé한")),
        (r#""\ud83d\ude42!""#, Some("🙂!")),
        (r#""\ud83d""#, Some("\u{fffd}")),
        (r#""\ude42\ud83d""#, Some("\u{fffd}\u{fffd}")),
        (r#""\ude42\ude42""#, Some("\u{fffd}\u{fffd}")),
        (r#""\ud83d\u0041""#, Some("\u{fffd}A")),
        (r#""\ud83d\n""#, Some("\u{fffd}\n")),
        (r#""\ud83d\ud83d\ude42""#, Some("\u{fffd}🙂")),
        (r#""\u0000""#, Some("\0")),
        ("1", None),
        ("null", None),
        ("\"", None),
        ("", None),
    ] {
        assert_eq!(string(value).as_deref(), expected, "{value}");
    }
    assert!(matches!(string(r#""borrowed""#), Some(Cow::Borrowed("borrowed"))));
}

#[test]
fn unsigned_takes_only_whole_numbers_that_javascript_keeps() {
    for (value, expected) in [
        ("0", Some(0)),
        (" 42 ", Some(42)),
        ("9007199254740991", Some(9_007_199_254_740_991)),
        ("9007199254740992", None),
        ("99999999999999999999999999", None),
        ("-1", None),
        ("-0", None),
        ("1.0", None),
        ("1e2", None),
        ("\"1\"", None),
        ("null", None),
        ("", None),
    ] {
        assert_eq!(unsigned(value), expected, "{value}");
    }
}

#[test]
fn written_strings_escape_what_they_must() {
    let mut out = b"[".to_vec();
    write_string("a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}/é🙂", &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "[\"a\\\"b\\\\c\\n\\r\\t\\u0000\\u001f\u{7f}/é🙂\"");
}

#[test]
fn placeholders_must_match_exactly() {
    const P0: &str = r#"{"_placeholder":true,"num":0}"#;
    const P1: &str = r#"{"_placeholder":true,"num":1}"#;
    let cases: &[(String, usize, bool)] = &[
        (format!(r#"["e",{P0}]"#), 1, true),
        (P0.to_owned(), 1, true),
        (r#"["e",{ "_placeholder" : true , "num" : 0 }]"#.to_owned(), 1, true),
        (r#"["e",{"num":0,"_placeholder":true}]"#.to_owned(), 1, true),
        (r#"["e",{"_\u0070laceholder":true,"num":0}]"#.to_owned(), 1, true),
        (format!(r#"["e",{{"a":[{P1},"_placeholder"],"b":{P0}}}]"#), 2, true),
        // A string that is no key is only a string.
        (format!(r#"["_placeholder",{P0},"{{"]"#), 1, true),
        (format!(r#"["e",{P0},{{"num":0,"num":0}},{{"num":0}}]"#), 1, true),
        // None, too few, too many, twice.
        (r#"["e"]"#.to_owned(), 1, false),
        (format!(r#"["e",{P0}]"#), 2, false),
        (format!(r#"["e",{P0},{P1}]"#), 1, false),
        (format!(r#"["e",{P1}]"#), 1, false),
        (format!(r#"["e",{P0},{P0}]"#), 1, false),
        (format!(r#"["e",{P0},{P0}]"#), 2, false),
        // Other things called `_placeholder`.
        (format!(r#"["e",{P0},{{"_placeholder":false}}]"#), 1, false),
        (format!(r#"["e",{P0},{{"_placeholder":true}}]"#), 1, false),
        (format!(r#"["e",{P0},{{"_placeholder":true,"num":"0"}}]"#), 1, false),
        (format!(r#"["e",{P0},{{"_placeholder":true,"num":0,"x":1}}]"#), 1, false),
        (format!(r#"["e",{{"_placeholder":true,"num":{P0}}}]"#), 1, false),
        (format!(r#"["e",{{"_\u0070laceholder":{P0}}}]"#), 1, false),
        (r#"["e",{"_placeholder":true,"_placeholder":true,"num":0}]"#.to_owned(), 1, false),
        (r#"["e",{"_placeholder":true,"num":0,"num":0}]"#.to_owned(), 1, false),
        (r#"["e",{"_placeholder":true,"num":0.0}]"#.to_owned(), 1, false),
        (r#"["e",{"_placeholder":true,"num":-0}]"#.to_owned(), 1, false),
        (r#"["e",{"_placeholder":true,"num":99999999999999999999}]"#.to_owned(), 1, false),
        (r#"["e",{"_placeholder":"true","num":0}]"#.to_owned(), 1, false),
        // Without attachments all of it is data.
        (format!(r#"["e",{P0}]"#), 0, true),
        (r#"["e",{"_placeholder":1}]"#.to_owned(), 0, true),
        // A count that no text can reach takes no memory.
        (format!(r#"["e",{P0}]"#), usize::MAX, false),
    ];
    for (value, attachments, expected) in cases {
        validate(value).unwrap();
        assert_eq!(placeholders_match(value, *attachments), *expected, "{value} with {attachments}");
    }
}
