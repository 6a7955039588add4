use super::*;
use proptest::prelude::*;
use rmpv::Value;
use serde_json::json;

/// What an emitter writes.
fn emit(data: Value, options: Value) -> Bytes {
    let packet =
        Value::Map(vec![("type".into(), 2.into()), ("data".into(), data), ("nsp".into(), "/".into())]);
    pack(&Value::Array(vec!["emitter".into(), packet, options]))
}

fn to(rooms: &[&str]) -> Value {
    let rooms = rooms.iter().map(|room| Value::from(*room)).collect();
    Value::Map(vec![
        ("rooms".into(), Value::Array(rooms)),
        ("flags".into(), Value::Map(vec![])),
        ("except".into(), Value::Array(vec![])),
    ])
}

fn pack(value: &Value) -> Bytes {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out.into()
}

fn words(event: &str, data: Value) -> Value {
    Value::Array(vec![event.into(), data])
}

fn ear() -> Ear {
    let listening = Listening { key: "socket.io".into(), app: App::new("demo").unwrap(), max_bytes: 10_000 };
    Ear { listening, take: Arc::new(|_| Ok(())), counters: Arc::default(), told: None }
}

fn read(message: &Bytes) -> Result<Vec<Emission>, EmissionRefused> {
    ear().read(message)
}

#[test]
fn rooms_are_channels() {
    let message = emit(words("news", Value::Map(vec![("a".into(), 1.into())])), to(&["chat:a", "chat:b"]));
    let emissions = read(&message).unwrap();
    let names: Vec<_> = emissions.iter().map(|emission| emission.channel.name.as_str()).collect();
    assert_eq!(names, ["chat:a", "chat:b"]);
    assert_eq!(emissions[0].event.as_str(), "news");
    assert_eq!(emissions[0].payload.json, r#"{"a":1}"#);
    let bare = emit(Value::Array(vec!["tick".into()]), to(&["chat:a"]));
    assert_eq!(read(&bare).unwrap()[0].payload.json, "null");
}

#[test]
fn bytes_become_attachments() {
    let data = Value::Array(vec![Value::Binary(vec![1, 2]), "x".into(), Value::Binary(vec![])]);
    let payload = read(&emit(words("news", data), to(&["chat:a"]))).unwrap().remove(0).payload;
    assert_eq!(payload.json, r#"[{"_placeholder":true,"num":0},"x",{"_placeholder":true,"num":1}]"#);
    assert_eq!(payload.attachments, [&[1_u8, 2][..], &[]]);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let why = |data, options| read(&emit(data, options)).unwrap_err();
    let news = || words("news", Value::Nil);
    assert_eq!(why(news(), to(&[])), EmissionRefused::Room);
    assert_eq!(why(news(), to(&["no room"])), EmissionRefused::Room);
    assert_eq!(why(news(), to(&["$presence"])), EmissionRefused::Room);
    assert_eq!(why(news(), to(&["a"; 101])), EmissionRefused::Room);
    assert_eq!(why(words("disconnect", Value::Nil), to(&["a"])), EmissionRefused::Event);
    assert_eq!(why(words("", Value::Nil), to(&["a"])), EmissionRefused::Event);
    assert_eq!(why(Value::Array(vec![1.into()]), to(&["a"])), EmissionRefused::Event);
    let several = Value::Array(vec!["news".into(), 1.into(), 2.into()]);
    assert_eq!(why(several, to(&["a"])), EmissionRefused::Data);
    let date = Value::Ext(-1, vec![0; 8]);
    assert_eq!(why(words("news", date), to(&["a"])), EmissionRefused::Data);
    let forged = Value::Map(vec![("_placeholder".into(), true.into()), ("num".into(), 0.into())]);
    assert_eq!(why(words("news", forged), to(&["a"])), EmissionRefused::Data);
    let mut deep = Value::Nil;
    (0..40).for_each(|_| deep = Value::Array(vec![deep.clone()]));
    assert_eq!(why(words("news", deep), to(&["a"])), EmissionRefused::Data);
    assert_eq!(why(words("news", "x".repeat(10_000).into()), to(&["a"])), EmissionRefused::Size);
    let with = |name: &str, value| {
        Value::Map(vec![("rooms".into(), to(&["a"])["rooms"].clone()), (name.into(), value)])
    };
    let volatile = Value::Map(vec![("volatile".into(), true.into())]);
    assert_eq!(why(news(), with("flags", volatile)), EmissionRefused::Flags);
    assert_eq!(why(news(), with("except", Value::Array(vec!["b".into()]))), EmissionRefused::Flags);
    assert_eq!(why(news(), with("unheard", Value::Nil)), EmissionRefused::Flags);
    let compress = Value::Map(vec![("compress".into(), true.into())]);
    assert!(read(&emit(news(), with("flags", compress))).is_ok());
}

#[test]
fn a_count_that_lies_costs_nothing() {
    for bytes in [
        &b"\x93\xa1u\xdd\xff\xff\xff\xff"[..],
        b"\x93\xa1u\x81\xa4data\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ] {
        assert!(read(&Bytes::from_static(bytes)).is_err());
    }
}

#[test]
fn requests_and_refusals_are_counted() {
    let mut ear = ear();
    ear.hear(&Bytes::from_static(b"socket.io-request#/#"), &Bytes::from_static(b"{}"));
    ear.hear(&Bytes::from_static(b"socket.io#/#"), &Bytes::from_static(b"\xc1"));
    ear.hear(&Bytes::from_static(b"socket.io#/#a#"), &emit(words("news", 1.into()), to(&["a"])));
    ear.take = Arc::new(|_| Err(EmissionRefused::Channel));
    ear.hear(&Bytes::from_static(b"socket.io#/#a#"), &emit(words("news", 1.into()), to(&["a"])));
    assert_eq!(ear.counters.taken.load(Ordering::Relaxed), 1);
    assert_eq!(ear.counters.refused.load(Ordering::Relaxed), 3);
}

fn data() -> impl Strategy<Value = (Value, serde_json::Value)> {
    let leaf = prop_oneof![
        Just((Value::Nil, json!(null))),
        any::<bool>().prop_map(|yes| (yes.into(), json!(yes))),
        any::<i64>().prop_map(|number| (number.into(), json!(number))),
        any::<u64>().prop_map(|number| (number.into(), json!(number))),
        any::<i32>()
            .prop_map(|number| f64::from(number) / 4.0)
            .prop_map(|number| (number.into(), json!(number))),
        any::<String>().prop_map(|text| (text.as_str().into(), json!(text))),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6).prop_map(|all| {
            let (packed, plain): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            (Value::Array(packed), serde_json::Value::Array(plain))
        });
        let map = prop::collection::btree_map("[a-z\"\\\\\n]{0,8}", inner, 0..6).prop_map(|all| {
            let packed = all.iter().map(|(name, (value, _))| (name.as_str().into(), value.clone())).collect();
            let plain = all.into_iter().map(|(name, (_, value))| (name, value)).collect();
            (Value::Map(packed), serde_json::Value::Object(plain))
        });
        prop_oneof![list, map]
    })
}

proptest! {
    #[test]
    fn data_are_what_they_were((packed, plain) in data()) {
        let emissions = read(&emit(words("news", packed), to(&["chat:a"]))).unwrap();
        let came: serde_json::Value = serde_json::from_slice(&emissions[0].payload.json).unwrap();
        prop_assert_eq!(came, plain);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes.into());
    }

    #[test]
    fn damaged_emissions_too((packed, _) in data(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = emit(words("news", packed), to(&["chat:a"])).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(emissions) = read(&bytes.into()) {
            for emission in emissions {
                let read: Result<serde_json::Value, _> = serde_json::from_slice(&emission.payload.json);
                prop_assert!(read.is_ok());
            }
        }
    }
}
