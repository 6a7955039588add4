//! JSON that everybody reads alike: no name twice in one object, at any depth, and not too deep.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use xpush_core::{Code, Problem};

/// How deep it may be nested.
const DEPTH: usize = 32;

/// Reads a whole JSON text.
pub(crate) fn value(text: &[u8]) -> Result<Value, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Within(DEPTH).deserialize(&mut deserializer);
    // What serde says of an error may repeat a value, which may be a secret.
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|_| {
        Problem::new(Code::BadJson, "no JSON, a name twice in one object, or nested deeper than 32 levels")
    })
}

/// Reads a whole JSON text that is an object.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, Problem> {
    match value(text)? {
        Value::Object(object) => Ok(object),
        _ => Err(Problem::new(Code::BadRequest, "the body must be a JSON object")),
    }
}

/// A value that may be nested so deep.
struct Within(usize);

impl<'de> DeserializeSeed<'de> for Within {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.0.checked_sub(1).ok_or_else(|| A::Error::custom("too deep"))?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Within(depth))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.0.checked_sub(1).ok_or_else(|| A::Error::custom("too deep"))?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Within(depth))?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn names_come_once_and_depth_is_bounded() {
        for bad in ["{\"a\":1,\"a\":1}", "{\"r\":[{\"x\":1,\"\\u0078\":2}]}", "", "{", "{}x", "[1,]", "nul"] {
            assert!(value(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(value(&b"[".repeat(1 << 20)).is_err(), "no recursion without end");
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value(nested(DEPTH).as_bytes()).is_ok() && value(nested(DEPTH + 1).as_bytes()).is_err());
        assert!(object(b"[]").is_err() && object(b"{\"a\":null}").is_ok());
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_reads(text in "[\\[\\]{}\",:0-9a-c\\\\ .-]{0,40}") {
            if let Ok(read) = value(text.as_bytes()) {
                prop_assert_eq!(read, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
