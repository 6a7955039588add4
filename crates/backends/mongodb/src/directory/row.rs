//! How keys and records are written.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document};
use serde::de::DeserializeOwned;
use xpush_core::Code;
use xpush_core::ports::directory::{Key, Listing, Record, Spelling, kind};
use xpush_core::ports::{Failure, PortError};

/// How bodies are written now: secrets as their bytes, everything else as JSON.
pub(super) const FORM: i32 = 1;

/// Between the parts of a key's text.
const BETWEEN: char = '\u{1}';

/// Before a character that a part may not hold as it is.
const ESCAPE: char = '\u{2}';

/// A range of texts, all of one listing.
pub(super) struct Span {
    /// The field that has them.
    pub(super) field: &'static str,
    kind: u8,
    prefix: String,
}

/// What a key is known by. Such texts have the order of the keys' parts, by their bytes.
pub(super) fn id_of(key: &Key) -> String {
    let Spelling { kind, app, first, second } = key.spelling();
    text(&[&kind.to_string(), app, &first, second])
}

/// The same, behind its owner.
pub(super) fn owned_id(key: &Key, owner: &str) -> String {
    let Spelling { kind, app, first, second } = key.spelling();
    text(&[&kind.to_string(), app, owner, &first, second])
}

impl Span {
    pub(super) fn of(listing: &Listing) -> Self {
        let span = |field, kind: u8, parts: &[&str]| {
            let mut prefix = text(&[&[&*kind.to_string()], parts].concat());
            prefix.push(BETWEEN);
            Self { field, kind, prefix }
        };
        match listing {
            Listing::Apps => span("_id", kind::APP, &[""]),
            Listing::Users(app) => span("_id", kind::USER, &[app.as_str()]),
            Listing::Devices(app, user) => span("_id", kind::DEVICE, &[app.as_str(), user.as_str()]),
            Listing::Logins(app, user) => span("_id", kind::LOGIN, &[app.as_str(), user.as_str()]),
            Listing::Members(channel) => {
                span("_id", kind::MEMBER, &[channel.app.as_str(), channel.name.as_str()])
            }
            Listing::Memberships(app, user) => span("o", kind::MEMBER, &[app.as_str(), user.as_str()]),
            Listing::Blocks(app, user) => span("_id", kind::BLOCK, &[app.as_str(), user.as_str()]),
            Listing::BlockedBy(app, user) => span("o", kind::BLOCK, &[app.as_str(), user.as_str()]),
            Listing::ApiKeys(app) => span("_id", kind::API_KEY, &[app.as_str()]),
            Listing::Identities(app, user) => span("o", kind::IDENTITY, &[app.as_str(), user.as_str()]),
            Listing::Versions(app) => span("_id", kind::VERSION, &[app.as_str()]),
            Listing::Audit => span("_id", kind::AUDIT, &[""]),
            Listing::AuditOf(app) => span("o", kind::AUDIT, &["", app.as_str()]),
            Listing::Deletions => span("_id", kind::DELETION, &[""]),
        }
    }

    /// Where it begins, and before what it ends.
    pub(super) fn bounds(&self) -> (String, String) {
        let mut end = self.prefix.clone();
        end.pop();
        end.push(ESCAPE);
        (self.prefix.clone(), end)
    }

    /// The text of a key of this listing, or of one that was; `None` when it is of another kind.
    pub(super) fn text(&self, key: &Key) -> Option<String> {
        let Spelling { kind, first, second, .. } = key.spelling();
        if kind != self.kind {
            return None;
        }
        if self.field == "_id" {
            return Some(id_of(key));
        }
        // The owner is the listing's, whoever has it now.
        Some(format!("{}{}", self.prefix, text(&[&first, second])))
    }
}

/// Parts as one text that has their order and nobody else's.
pub(crate) fn text(parts: &[&str]) -> String {
    let mut text = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            text.push(BETWEEN);
        }
        for character in part.chars() {
            if character <= ESCAPE {
                text.push(ESCAPE);
                text.push(char::from(b'0' + u8::try_from(u32::from(character)).unwrap_or(0)));
            } else {
                text.push(character);
            }
        }
    }
    text
}

/// Reads a key's text.
pub(super) fn key(text: &str) -> Result<Key, PortError> {
    parts(text).and_then(|parts| checked(&parts).ok()).ok_or_else(|| unreadable("a key"))
}

fn parts(text: &str) -> Option<Vec<String>> {
    let part = |part: &str| {
        let mut plain = String::with_capacity(part.len());
        let mut characters = part.chars();
        while let Some(character) = characters.next() {
            plain.push(match character {
                ESCAPE => match characters.next()? {
                    '0' => '\0',
                    '1' => BETWEEN,
                    '2' => ESCAPE,
                    _ => return None,
                },
                plain => plain,
            });
        }
        Some(plain)
    };
    text.split(BETWEEN).map(part).collect()
}

fn checked(parts: &[String]) -> Result<Key, Code> {
    let [kind, app, first, second] = parts else { return Err(Code::Internal) };
    Key::read(Spelling { kind: kind.parse().unwrap_or(0), app, first: first.as_str().into(), second })
}

/// The fields of a record.
pub(super) fn body(record: &Record) -> Result<Binary, PortError> {
    let json = match record {
        Record::App(app) => serde_json::to_vec(app),
        Record::User(user) => serde_json::to_vec(user),
        Record::Device(device) => serde_json::to_vec(device),
        Record::Login(login) => serde_json::to_vec(login),
        Record::Member(member) => serde_json::to_vec(member),
        Record::Block(since) => serde_json::to_vec(since),
        Record::ApiKey(key) => serde_json::to_vec(key),
        Record::Identity(user) => serde_json::to_vec(user),
        Record::Secret(secret) => Ok(secret.to_vec()),
        Record::Version(version) => serde_json::to_vec(version),
        Record::Audit(audit) => serde_json::to_vec(audit),
        Record::Deletion(deletion) => serde_json::to_vec(deletion),
    };
    let bytes = json.map_err(|error| PortError::new(Failure::Invalid, format!("{:?}", error.classify())))?;
    Ok(Binary { subtype: BinarySubtype::Generic, bytes })
}

/// The record of a document.
pub(super) fn record(key: &Key, document: &Document) -> Result<Record, PortError> {
    if document.get_i32("form").ok() != Some(FORM) {
        let detail = "an entry was written by a later release of XPUSH, or cannot be read";
        return Err(PortError::new(Failure::NotApplied, detail));
    }
    let Some(Bson::Binary(Binary { bytes, .. })) = document.get("body") else {
        return Err(unreadable("a record"));
    };
    Ok(match key {
        Key::App(_) => Record::App(json(bytes)?),
        Key::User(..) => Record::User(json(bytes)?),
        Key::Device(..) => Record::Device(json(bytes)?),
        Key::Login(..) => Record::Login(json(bytes)?),
        Key::Member(..) => Record::Member(json(bytes)?),
        Key::Block(..) => Record::Block(json(bytes)?),
        Key::ApiKey(..) => Record::ApiKey(json(bytes)?),
        Key::Identity(..) => Record::Identity(json(bytes)?),
        Key::Secret(_) => Record::Secret(bytes.as_slice().into()),
        Key::Version(..) => Record::Version(json(bytes)?),
        Key::Audit(_) => Record::Audit(json(bytes)?),
        Key::Deletion(_) => Record::Deletion(json(bytes)?),
    })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, PortError> {
    // serde's own words may quote the body, which may hold secrets.
    serde_json::from_slice(body).map_err(|_| unreadable("a record"))
}

pub(super) fn unreadable(what: &str) -> PortError {
    PortError::new(Failure::NotApplied, format!("the store has {what} that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_parts() -> impl Strategy<Value = Vec<String>> {
        // Few characters, most of them special, so that they meet.
        proptest::collection::vec("[\u{0}\u{1}\u{2}\u{3}0a\u{e9}🔑]{0,4}", 3)
    }

    proptest! {
        #[test]
        fn texts_have_the_order_of_the_parts(one in any_parts(), other in any_parts()) {
            let of = |parts: &[String]| text(&parts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(of(&one).cmp(&of(&other)), one.cmp(&other));
            prop_assert_eq!(parts(&of(&one)), Some(one));
        }

        #[test]
        fn any_text_is_a_key_or_refused(text in "[\u{1}\u{2}0-9a-z]{0,24}") {
            let _ = key(&text);
        }
    }
}
