//! JSON, msgpack and Socket.IO packets made from a model, read back and compared with it.
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use xpush_wire::engine::Version;
use xpush_wire::socket::{Kind, Packet};
use xpush_wire::{json, msgpack, socket};

/// A value, and how it is written; the numbers as JSON text.
#[derive(Debug, Clone)]
enum Model {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Binary(Vec<u8>),
    Array(Vec<Model>),
    Object(Vec<(String, Model)>),
}

/// Writes a [`Model`] as JSON, with white space and escapes as `choices` say.
struct Writer {
    choices: std::iter::Cycle<std::vec::IntoIter<u8>>,
    text: String,
    attachments: Vec<Bytes>,
}

impl Model {
    fn depth(&self) -> usize {
        match self {
            Self::Array(elements) => 1 + elements.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Self::Binary(_) => 1,
            _ => 0,
        }
    }

    fn to_rmpv(&self) -> rmpv::Value {
        match self {
            Self::Null => rmpv::Value::Nil,
            Self::Bool(value) => (*value).into(),
            Self::Number(text) => match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => text.parse::<f64>().unwrap().into(),
            },
            Self::Text(text) => text.as_str().into(),
            Self::Binary(data) => data.as_slice().into(),
            Self::Array(elements) => rmpv::Value::Array(elements.iter().map(Self::to_rmpv).collect()),
            Self::Object(members) => rmpv::Value::Map(
                members.iter().map(|(key, value)| (key.as_str().into(), value.to_rmpv())).collect(),
            ),
        }
    }
}

impl Writer {
    fn write(choices: Vec<u8>, model: &Model) -> (String, Vec<Bytes>) {
        let mut writer =
            Self { choices: choices.into_iter().cycle(), text: String::new(), attachments: Vec::new() };
        writer.space();
        writer.value(model);
        writer.space();
        (writer.text, writer.attachments)
    }

    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().unwrap_or(0) % of
    }

    fn space(&mut self) {
        for _ in 0..self.choose(3) {
            let space = [' ', '\t', '\n', '\r'][usize::from(self.choose(4))];
            self.text.push(space);
        }
    }

    /// Between a token and the next.
    fn mark(&mut self, mark: &str) {
        self.space();
        self.text.push_str(mark);
        self.space();
    }

    fn value(&mut self, model: &Model) {
        match model {
            Model::Null => self.text.push_str("null"),
            Model::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Model::Number(text) => self.text.push_str(text),
            Model::Text(text) => self.string(text),
            Model::Binary(data) => {
                let num = Model::Number(self.attachments.len().to_string());
                self.attachments.push(data.clone().into());
                let mut members =
                    vec![("_placeholder".to_owned(), Model::Bool(true)), ("num".to_owned(), num)];
                if self.choose(2) == 0 {
                    members.reverse();
                }
                self.value(&Model::Object(members));
            }
            Model::Array(elements) => {
                self.mark("[");
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        self.mark(",");
                    }
                    self.value(element);
                }
                self.mark("]");
            }
            Model::Object(members) => {
                self.mark("{");
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        self.mark(",");
                    }
                    self.string(key);
                    self.mark(":");
                    self.value(value);
                }
                self.mark("}");
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for char in text.chars() {
            let must_escape = char < ' ' || char == '"' || char == '\\';
            if must_escape || self.choose(8) == 0 {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    self.text.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                self.text.push(char);
            }
        }
        self.text.push('"');
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
        (-300..300_i32).prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z\"\\\\/\u{0}-\u{20}]{0,40}", "_?[a-z]{1,12}"]
        .prop_filter("is for placeholders", |text| text != "_placeholder")
}

fn model(with_binary: bool) -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        Just(Model::Null),
        any::<bool>().prop_map(Model::Bool),
        number().prop_map(Model::Number),
        text().prop_map(Model::Text),
        vec(any::<u8>(), 0..20).prop_map(move |data| if with_binary {
            Model::Binary(data)
        } else {
            Model::Null
        }),
    ];
    leaf.prop_recursive(6, 60, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Model::Array),
            vec((text(), inner), 0..18).prop_map(Model::Object),
        ]
    })
}

/// Slices `value` down to its scalars. `attachment` is the number of the next one.
fn assert_same(value: &str, model: &Model, same_number: fn(&str, &str), attachment: &mut usize) {
    match model {
        Model::Null => assert_eq!(value, "null"),
        Model::Bool(expected) => assert_eq!(value, expected.to_string()),
        Model::Number(expected) => same_number(value, expected),
        Model::Text(expected) => {
            return assert_eq!(json::string(value).as_deref(), Some(expected.as_str()));
        }
        Model::Binary(_) => {
            assert_eq!(value, format!(r#"{{"_placeholder":true,"num":{attachment}}}"#));
            *attachment += 1;
        }
        Model::Array(expected) => {
            let elements: Vec<_> = json::elements(value).unwrap().collect();
            assert_eq!(elements.len(), expected.len());
            for (element, expected) in elements.iter().zip(expected) {
                assert_same(element, expected, same_number, attachment);
            }
            assert!(json::members(value).is_none());
        }
        Model::Object(expected) => {
            let members: Vec<_> = json::members(value).unwrap().collect();
            assert_eq!(members.len(), expected.len());
            for ((key, value), (expected_key, expected)) in members.iter().zip(expected) {
                assert_eq!(key, expected_key);
                assert_same(value, expected, same_number, attachment);
            }
            assert!(json::elements(value).is_none());
        }
    }
    assert_eq!(json::string(value), None);
}

/// In JSON numbers stay as they are written.
fn same_text(value: &str, expected: &str) {
    assert_eq!(value, expected);
    let whole = expected.parse().ok().filter(|number| *number < 1_u64 << 53);
    assert_eq!(json::unsigned(value), whole);
}

/// Through msgpack they stay what they mean: a 64-bit integer, or else a float. JSON has no infinity.
fn same_meaning(value: &str, expected: &str) {
    match (expected.parse::<u64>(), expected.parse::<i64>(), expected.parse::<f64>().unwrap()) {
        (Ok(expected), _, _) => assert_eq!(value, expected.to_string()),
        (_, Ok(expected), _) => assert_eq!(value, expected.to_string()),
        (_, _, expected) if expected.is_infinite() => assert_eq!(value, "null"),
        (_, _, expected) => assert_eq!(value.parse(), Ok(expected)),
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_written_validates_and_slices(model in model(false), choices in vec(any::<u8>(), 1..64)) {
        let (text, _) = Writer::write(choices, &model);
        assert!(is_json(&text));
        let depth = model.depth();
        assert_eq!(json::validate_depth(&text, depth), Ok(()));
        if depth > 0 {
            assert!(matches!(json::validate_depth(&text, depth - 1), Err(json::Error::TooDeep(_))));
        }
        assert_same(text.trim_matches([' ', '\t', '\n', '\r']), &model, same_text, &mut 0);
    }

    #[test]
    fn a_damaged_text_is_judged_as_by_serde_json(
        model in model(true),
        choices in vec(any::<u8>(), 1..64),
        damage in vec((any::<prop::sample::Index>(), any::<bool>(), "[\u{0}-\u{7f}é]"), 1..4),
    ) {
        let mut text: Vec<char> = Writer::write(choices, &model).0.chars().collect();
        for (at, replace, by) in damage {
            let at = at.index(text.len() + 1);
            text.splice(at..(at + usize::from(replace)).min(text.len()), by.chars());
        }
        let text = String::from_iter(text);
        assert_eq!(json::validate_depth(&text, 64).is_ok(), is_json(&text));
    }

    #[test]
    fn strings_are_written_as_json(text in text()) {
        let mut written = Vec::new();
        json::write_string(&text, &mut written);
        assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
    }

    #[test]
    fn json_becomes_the_msgpack_that_rmpv_reads(model in model(true), choices in vec(any::<u8>(), 1..64)) {
        let (text, attachments) = Writer::write(choices, &model);
        assert!(json::placeholders_match(&text, attachments.len()));
        let mut written = Vec::new();
        msgpack::from_json(&text, &attachments, &mut written);
        let mut rest = &written[..];
        assert_eq!(rmpv::decode::read_value(&mut rest).unwrap(), model.to_rmpv());
        assert_eq!(rest, b"");
    }

    #[test]
    fn the_msgpack_that_rmpv_writes_becomes_json(model in model(true)) {
        let mut written = Vec::new();
        rmpv::encode::write_value(&mut written, &model.to_rmpv()).unwrap();
        let mut rest = &written[..];
        let (mut text, mut attachments) = (Vec::new(), Vec::new());
        let result = msgpack::to_json(&mut rest, model.depth(), usize::MAX, &mut text, &mut attachments);
        assert_eq!((result, rest), (Ok(()), &b""[..]));
        let text = String::from_utf8(text).unwrap();
        assert!(is_json(&text));
        assert!(json::placeholders_match(&text, attachments.len()));
        assert_same(&text, &model, same_meaning, &mut 0);
        if model.depth() > 0 {
            assert_eq!(msgpack::skip(&mut &written[..], model.depth() - 1), Err(msgpack::Error::TooDeep));
        }
    }

    #[test]
    fn packets_are_read_as_they_were_written(
        arguments in vec(model(true), 0..4),
        name in text(),
        is_event in any::<bool>(),
        namespace in "/([a-z/-]{0,20}|é한)",
        id in prop::option::of(0..10_u64.pow(15)),
        choices in vec(any::<u8>(), 1..64),
    ) {
        let mut arguments = arguments;
        if is_event {
            arguments.insert(0, Model::Text(name));
        }
        let (data, attachments) = Writer::write(choices, &Model::Array(arguments));
        let kind = match (is_event, attachments.is_empty()) {
            (true, true) => Kind::Event,
            (true, false) => Kind::BinaryEvent,
            (false, true) => Kind::Ack,
            (false, false) => Kind::BinaryAck,
        };
        let mut text = Vec::new();
        socket::write_head(kind, attachments.len(), &namespace, id, &mut text);
        text.extend_from_slice(data.as_bytes());
        let text = String::from_utf8(text).unwrap();
        let data = data.trim_matches([' ', '\t', '\n', '\r']);
        let packet = Packet { kind, attachments: attachments.len(), namespace: &namespace, query: "", id, data };
        for version in [Version::V3, Version::V4] {
            assert_eq!(socket::read(version, &text, attachments.len()), Ok(packet));
            if !attachments.is_empty() {
                let refused = socket::read(version, &text, attachments.len() - 1);
                assert_eq!(refused, Err(socket::Error::TooManyAttachments));
            }
        }
    }
}

/// Nothing is measured: with quadratic cost this test would not end.
#[test]
fn hostile_texts_cost_linear_time() {
    const MANY: usize = 100_000;
    let repeated = |text: &str| text.repeat(MANY);
    let cases = [
        format!("[{}1]", repeated("1,")),
        format!("[{}1]", repeated(r#"{"_placeholder":true,"num":"x"},"#)),
        format!("[{}1]", repeated(r#"{"_placeholder":true},"#)),
        format!("[{}1]", repeated(r#""{\"","#)),
        format!("{{{}\"\":1}}", repeated(r#""":[],"#)),
        format!("{}1{}", r#"{"a":["#.repeat(16), "]}".repeat(16)),
        format!("[\"{}\"]", repeated("\\\\")),
        format!("[\"{}\"]", repeated("\\ud800")),
        format!("[{}]", repeated(" ")),
        repeated("1"),
    ];
    for text in &cases {
        json::validate(text).unwrap();
        let elements = json::elements(text).into_iter().flatten();
        let members = json::members(text).into_iter().flatten().map(|(_, value)| value);
        elements.chain(members).for_each(|value| drop(json::string(value)));
        // With a count that makes it look at everything.
        assert!(!json::placeholders_match(text, 1));
        msgpack::from_json(text, &[Bytes::new()], &mut Vec::new());
    }
    let open = [repeated("["), repeated("{"), repeated("{\"a\":"), repeated("\""), repeated("{\"\\")];
    for text in &open {
        assert!(json::validate(text).is_err());
        let _ = json::placeholders_match(text, 1);
        msgpack::from_json(text, &[Bytes::new()], &mut Vec::new());
    }
    for digit in ["1", "51-", "2/", "2"] {
        assert!(socket::read(Version::V3, &repeated(digit), 10).is_err());
    }
}
