//! A body whose values are kept as the bytes that came in.

use std::borrow::Cow;
use std::fmt;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use xpush_core::message::Sender;
use xpush_core::{ClientId, Code, Device, Problem, Role, User};

use super::request::{PATIENCE, read, wrong};

/// Members that an object may have: more than anything here needs.
const MOST: usize = 32;

/// A body, whole. Not `Debug`: it may hold what nobody else is to see.
pub(crate) struct Body(Bytes);

/// The members of an object, each as its JSON text. `null` is as good as absent. Not `Debug`.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Body {
    /// Reads at most `largest` bytes of JSON; without any, it is an empty object.
    pub(crate) async fn read(request: Request, largest: usize) -> Result<Self, Problem> {
        let mut kinds = request.headers().get_all(header::CONTENT_TYPE).into_iter();
        let is_json = match (kinds.next(), kinds.next()) {
            (None, _) => true,
            (Some(kind), None) => kind.to_str().is_ok_and(says_json),
            (Some(_), Some(_)) => false,
        };
        let body = read(request.into_body(), PATIENCE, largest).await?;
        if !is_json && !body.is_empty() {
            return Err(Code::BadContentType.into());
        }
        Ok(Self(if body.is_empty() { Bytes::from_static(b"{}") } else { body }))
    }

    /// As it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The members of the object that it is.
    pub(crate) fn members(&self) -> Result<Members<'_>, Problem> {
        let text = std::str::from_utf8(&self.0).map_err(|_| Code::BadJson)?;
        Members::of(text)
    }
}

impl<'a> Members<'a> {
    /// Of an object's text.
    pub(crate) fn of(text: &'a str) -> Result<Self, Problem> {
        struct Any<'a>(Option<Members<'a>>);
        impl<'de> serde::Deserialize<'de> for Any<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Reading).map(Self)
            }
        }
        // What serde says of an error may repeat a value, which may be a secret.
        let Any(members) = serde_json::from_str(text).map_err(|_| Problem::from(Code::BadJson))?;
        let members = members.ok_or_else(|| Problem::new(Code::BadRequest, "this must be a JSON object"))?;
        if members.0.len() > MOST {
            return Err(Problem::new(Code::BadRequest, format!("an object has at most {MOST} members")));
        }
        for (index, (name, _)) in members.0.iter().enumerate() {
            // Who reads the first of two and who reads the last would not have read the same.
            if members.0[..index].iter().any(|(other, _)| other == name) {
                return Err(Problem::new(Code::BadJson, "a name comes twice in one object"));
            }
        }
        Ok(members)
    }

    /// A member's JSON text, if it is given.
    pub(crate) fn get(&self, field: &str) -> Option<&'a str> {
        self.raw(field).filter(|text| *text != "null")
    }

    /// A member's JSON text, `null` included.
    pub(crate) fn raw(&self, field: &str) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value.get())
    }

    /// Whether a member is there, if only as `null`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.raw(field).is_some()
    }

    /// `data`, which must be there, as it came.
    pub(crate) fn data(&self) -> Result<Bytes, Problem> {
        let data = self.raw("data").ok_or_else(|| wrong("data", "is missing"))?;
        // A copy: a slice would keep the whole request in memory for as long as its message.
        Ok(Bytes::copy_from_slice(data.as_bytes()))
    }

    /// A text, if it is given.
    pub(crate) fn text(&self, field: &str) -> Result<Option<Cow<'a, str>>, Problem> {
        let Some(text) = self.get(field) else { return Ok(None) };
        let text: Text<'a> = serde_json::from_str(text).map_err(|_| wrong(field, "must be text"))?;
        Ok(Some(text.0))
    }

    /// A text that must be given.
    pub(crate) fn needed(&self, field: &str) -> Result<Cow<'a, str>, Problem> {
        self.text(field)?.ok_or_else(|| wrong(field, "is missing"))
    }

    /// True or false, if it is given.
    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>, Problem> {
        match self.get(field) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(wrong(field, "must be true or false")),
        }
    }

    /// A whole number from 0 to 2^53 − 1, if it is given.
    pub(crate) fn number(&self, field: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(field) else { return Ok(None) };
        // A fraction of nothing makes it no other number.
        let digits = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|digit| digit == b'0'));
        let digits = digits.map_or(text, |(digits, _)| digits);
        whole(digits).ok_or_else(|| wrong(field, "must be a whole number")).map(Some)
    }

    /// An object, if it is given.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Self>, Problem> {
        let Some(text) = self.get(field) else { return Ok(None) };
        if !text.starts_with('{') {
            return Err(wrong(field, "must be an object"));
        }
        Self::of(text).map(Some)
    }

    /// The elements of an array, each as its JSON text, if it is given; at most `most`.
    pub(crate) fn elements(&self, field: &str, most: usize) -> Result<Option<Vec<&'a str>>, Problem> {
        let Some(text) = self.get(field) else { return Ok(None) };
        let elements: Vec<&'a RawValue> =
            serde_json::from_str(text).map_err(|_| wrong(field, "must be an array"))?;
        if elements.len() > most {
            return Err(wrong(field, &format!("has at most {most} elements")));
        }
        Ok(Some(elements.into_iter().map(RawValue::get).collect()))
    }

    /// An array of texts, each read by the check of its kind.
    pub(crate) fn texts<T>(
        &self,
        field: &str,
        most: usize,
        new: impl Fn(&str) -> Result<T, Code>,
    ) -> Result<Option<Vec<T>>, Problem> {
        let Some(elements) = self.elements(field, most)? else { return Ok(None) };
        let read = |element: &str| {
            let text: Text<'_> =
                serde_json::from_str(element).map_err(|_| wrong(field, "must hold texts"))?;
            new(&text.0).map_err(|code| Problem::new(code, format!("{field}: {}", code.text())))
        };
        elements.into_iter().map(read).collect::<Result<_, Problem>>().map(Some)
    }

    /// A user's id, if it is given.
    pub(crate) fn user(&self, field: &str) -> Result<Option<User>, Problem> {
        self.named(field, User::new, "must have 1 to 128 bytes, without control characters")
    }

    /// A device's id, if it is given.
    pub(crate) fn device(&self, field: &str) -> Result<Option<Device>, Problem> {
        self.named(field, Device::new, "must have 1 to 64 bytes, without control characters")
    }

    /// A role, if it is given.
    pub(crate) fn role(&self, field: &str) -> Result<Option<Role>, Problem> {
        self.named(field, Role::new, "must have 1 to 32 of a-z A-Z 0-9 - _")
    }

    /// A message's id, if it is given.
    pub(crate) fn message_id(&self, field: &str) -> Result<Option<ClientId>, Problem> {
        self.named(field, ClientId::new, "must have 1 to 64 bytes, without control characters")
    }

    /// A name that others are shown, if it is given.
    pub(crate) fn name(&self, field: &str) -> Result<Option<Box<str>>, Problem> {
        let Some(name) = self.text(field)? else { return Ok(None) };
        super::request::display_name(field, &name).map(Some)
    }

    /// Who is to be told as the sender, if it is given: `{user, name?}`.
    pub(crate) fn sender(&self) -> Result<Option<Sender>, Problem> {
        let Some(from) = self.object("from")? else { return Ok(None) };
        let user = from.user("user")?.ok_or_else(|| wrong("from", "user is missing"))?;
        Ok(Some(Sender { user, name: from.name("name")?.map(|name| (&*name).into()) }))
    }

    fn named<T>(
        &self,
        field: &str,
        new: impl Fn(&str) -> Result<T, Code>,
        must: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        new(&text).map(Some).map_err(|_| wrong(field, must))
    }
}

/// A whole number from 0 to 2^53 − 1, without sign, fraction or exponent.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| digits && *number < 1 << 53)
}

/// Text that is borrowed when nothing in it is escaped.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Takes an object's members, and nothing else.
struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Option<Members<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Text(name)) = map.next_key()? {
            if members.len() > MOST {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.push((name, map.next_value()?));
            }
        }
        Ok(Some(Members(members)))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// `application/json`, or something that is written as JSON (RFC 6839, 3.1).
pub(crate) fn says_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn code(text: &str) -> Code {
        match Members::of(text) {
            Ok(_) => panic!("taken: {text}"),
            Err(problem) => problem.code,
        }
    }

    #[test]
    fn values_are_the_bytes_that_came() {
        let members =
            Members::of("{\"a\\u0062\": 1e2 ,\"data\":  {\"x\" :\t[1, 2.50]}, \"n\":null}").unwrap();
        assert_eq!((members.raw("ab"), members.raw("data")), (Some("1e2"), Some("{\"x\" :\t[1, 2.50]}")));
        assert_eq!((members.get("n"), members.raw("n"), members.raw("m")), (None, Some("null"), None));
    }

    #[test]
    fn what_is_no_object_or_says_something_twice_is_refused() {
        for text in ["[]", "1", "-1", "1.5", "true", "null", "\"a\"", "[1,[2]]"] {
            assert_eq!(code(text), Code::BadRequest, "{text}");
        }
        for text in ["", "{", "{\"a\":1,}", "{\"a\":1,\"a\":1}", "{\"a\":1,\"\\u0061\":2}", "{}x", "nul"] {
            assert_eq!(code(text), Code::BadJson, "{text}");
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("\"{n}\":0")).collect();
        assert_eq!(code(&format!("{{{}}}", many.join(","))), Code::BadRequest);
        assert!(code(&"[".repeat(1 << 20)) == Code::BadJson, "no recursion without end");
    }

    #[test]
    fn fields_have_their_types() {
        let members = Members::of(
            r#"{"t":"a\nb","n":7,"f":true,"o":{"user":"ann"},"l":["a","b"],"from":{"user":"a","name":"A"}}"#,
        )
        .unwrap();
        assert_eq!(members.text("t").unwrap().unwrap(), "a\nb");
        assert_eq!((members.number("n"), members.flag("f")), (Ok(Some(7)), Ok(Some(true))));
        assert_eq!(members.texts("l", 2, User::new).unwrap().unwrap().len(), 2);
        assert_eq!(members.sender().unwrap().unwrap().name.as_deref(), Some("A"));
        for field in ["t", "n", "f", "o", "l"] {
            let wrong = [
                field != "t" && members.text(field).is_err(),
                field != "n" && members.number(field).is_err(),
                field != "f" && members.flag(field).is_err(),
                field != "o" && members.object(field).is_err(),
                field != "l" && members.elements(field, 9).is_err(),
            ];
            assert_eq!(wrong.iter().filter(|wrong| **wrong).count(), 4, "{field}");
        }
        assert!(members.elements("l", 1).is_err());
    }

    #[test]
    fn numbers_are_whole_and_safe() {
        for good in ["0", "1", "9007199254740991"] {
            assert!(whole(good).is_some(), "{good}");
        }
        for bad in ["", "-1", "+1", "01", "1.0", "1e2", "9007199254740992", "99999999999999999999", " 1"] {
            assert!(whole(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_refused(text in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,60}") {
            if let Ok(members) = Members::of(&text) {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                let object = value.as_object().unwrap();
                prop_assert_eq!(object.len(), members.0.len());
                for (name, value) in object {
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(members.raw(name).unwrap()).unwrap(), value);
                }
            }
        }
    }
}
