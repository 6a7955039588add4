//! What requests and answers hold (JSON Schema 2020-12).

use serde_json::{Map, Value, json};
use xpush_core::Code;
use xpush_core::ports::directory::Scope;

/// A field: its name, what it holds, whether it must be there.
pub(crate) type Field = (&'static str, Value, bool);

/// A schema of [`named`].
pub(crate) fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object with at least these fields.
pub(crate) fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema, _)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = fields.iter().filter(|(.., needed)| *needed).map(|(name, ..)| *name).collect();
    let mut object = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

/// The same in a request: what need not be there may be `null`.
pub(crate) fn request(fields: &[Field]) -> Value {
    let or_null = |(name, schema, needed): &Field| {
        let schema = if *needed || schema == &json!({}) { schema.clone() } else { nullable(schema.clone()) };
        (*name, schema, *needed)
    };
    object(&fields.iter().map(or_null).collect::<Vec<_>>())
}

pub(crate) fn nullable(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

pub(crate) fn array(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(crate) fn text(shortest: usize, longest: usize) -> Value {
    json!({"type": "string", "minLength": shortest, "maxLength": longest})
}

pub(crate) fn flag() -> Value {
    json!({"type": "boolean"})
}

/// A whole number from `least` on.
pub(crate) fn number(least: u64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": MAX_SAFE_INTEGER})
}

/// A whole number between two.
pub(crate) fn between(least: u64, most: u64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

/// Ms since 1970.
pub(crate) fn moment() -> Value {
    about(number(0), "Ms since 1970.")
}

/// With a sentence about it.
pub(crate) fn about(schema: Value, about: &str) -> Value {
    if schema.get("$ref").is_some() {
        return json!({"allOf": [schema], "description": about});
    }
    let mut schema = schema;
    schema["description"] = about.into();
    schema
}

/// What a segment of a path holds.
pub(crate) fn segment(name: &str) -> Value {
    match name {
        "channel" => of("Channel"),
        "user" | "other" => of("User"),
        "device" | "id" => of("Device"),
        "file" => of("FileId"),
        "key" => of("ApiKeyId"),
        "seq" => number(1),
        "app" => of("App"),
        "revision" => number(0),
        _ => text(1, 64),
    }
}

const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// No control characters; what a name's bytes are bounded by, its characters are, too.
const PRINTABLE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";

/// As [`PRINTABLE`], without white space around it.
const NAME: &str = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f]([^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f])?$";

/// What personal channels' names hold beyond that is percent-encoded, and has one spelling, which no pattern tells.
const CHANNEL: &str = "^([^@\\s\\u0000-\\u001f\\u007f-\\u009f*?\\[\\]{}\\\\\"'][^\\s\\u0000-\\u001f\\u007f-\\u009f*?\\[\\]{}\\\\\"']*\
    |@[A-Za-z0-9._~:-]+(/[A-Za-z0-9._~:-]+)?)$";

/// A name of at most so many characters of one byte each; longer ones count by their bytes.
fn name(longest: usize, pattern: &str, about: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": pattern, "description": about})
}

/// Text without control characters.
pub(crate) fn printable(longest: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": PRINTABLE})
}

/// What is referred to by name.
pub(crate) fn named() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let scopes: Vec<&str> = Scope::EACH.iter().map(|scope| scope.as_str()).collect();
    let word = "^[A-Za-z0-9_-]+$";
    let position: [Field; 2] = [("epoch", text(1, 32), false), ("seq", number(1), false)];
    let published: Vec<Field> = [("channel", of("ChannelName"), true), ("id", of("MessageId"), true)]
        .into_iter()
        .chain(position.clone())
        .chain([
            ("target", about(number(1), "Of an edit or a deletion: the message's place."), false),
            ("at", moment(), true),
        ])
        .collect();
    let revision = object(&[("seq", number(1), true), ("at", moment(), true)]);
    let message: Vec<Field> = [("channel", of("ChannelName"), true)]
        .into_iter()
        .chain(position)
        .chain([
            ("target", about(number(1), "Of an edit or a deletion: the message's place."), false),
            ("id", of("MessageId"), true),
            ("event", text(1, 64), false),
            ("data", json!({}), false),
            ("attachments", array(json!({"type": "string", "contentEncoding": "base64"})), false),
            ("from", of("Sender"), true),
            ("at", moment(), true),
            ("silent", flag(), false),
            ("edited", revision.clone(), false),
            ("deleted", revision, false),
        ])
        .collect();
    let mut schemas = json!({
        "Error": object(&[("error", object(&[
            ("code", json!({"type": "string", "enum": codes}), true),
            ("message", json!({"type": "string", "description": "For people."}), true),
            ("retry", json!({"type": "string", "enum": ["no", "now", "later", "reconnect"]}), true),
        ]), true)]),
        "App": name(64, word, "An app's name."),
        "Channel": name(128, CHANNEL, "A channel's name: 1 to 128 bytes, without white space, control characters and any of `* ? [ ] { } \\ \" '`. What begins with `@` \
            is a user's own, `@USER` or `@USER/DEVICE`, each percent-encoded; with `$`, XPUSH's."),
        "ChannelName": {"type": "string", "description": "A channel's name."},
        "User": name(128, PRINTABLE, "A user's id: 1 to 128 bytes without control characters."),
        "Device": name(64, PRINTABLE, "A device's id: 1 to 64 bytes without control characters."),
        "MessageId": name(64, PRINTABLE, "A message's id, by which its retry is known: 1 to 64 bytes."),
        "Event": name(64, PRINTABLE, "An event's name: 1 to 64 bytes, none of the reserved names. `message` without it."),
        "Role": name(32, word, "What a user is, in the app or in a channel."),
        "ApiKeyId": name(64, word, "An API key's id."),
        "Scope": {"type": "string", "enum": scopes},
        "Name": name(64, NAME, "A name that others are shown: without control characters, and without white space around it."),
        "SenderToBe": request(&[("user", of("User"), true), ("name", of("Name"), false)]),
        "Sender": object(&[("user", of("User"), true), ("name", json!({"type": "string"}), false)]),
        "Published": object(&published),
        "Message": object(&message),
    });
    for (name, schema) in [
        ("FileId", crate::files::id_schema()),
        ("File", crate::files::file_schema()),
        ("State", json!({"type": "string", "enum": ["online", "away", "offline"]})),
        ("DeviceState", object(&[("device", of("Device"), true), ("state", of("State"), true)])),
        ("Tokens", tokens()),
        ("Profile", profile()),
        ("OwnDevice", device(true)),
        ("UserDevice", device(false)),
        ("UserRecord", user()),
        ("ApiKey", api_key()),
        ("AdminApp", admin_app()),
    ] {
        schemas[name] = schema;
    }
    schemas
}

fn admin_app() -> Value {
    object(&[
        ("app", of("App"), true),
        ("from", json!({"type": "string", "enum": ["live", "file"]}), true),
        ("in_file", flag(), true),
        ("revision", number(0), true),
        ("changed", json!({"type": "object"}), false),
        ("settings", json!({"type": "object"}), true),
    ])
}

fn tokens() -> Value {
    object(&[
        ("app", of("App"), true),
        ("user", of("User"), true),
        ("name", nullable(json!({"type": "string"})), false),
        ("access_token", json!({"type": "string"}), true),
        ("expires_at", moment(), true),
        ("refresh_token", json!({"type": "string"}), true),
    ])
}

fn profile() -> Value {
    object(&[
        ("app", of("App"), true),
        ("user", of("User"), true),
        ("name", nullable(json!({"type": "string"})), true),
        ("roles", array(of("Role")), true),
        ("device", nullable(of("Device")), true),
        ("password", about(flag(), "Whether there is one."), true),
        ("created_at", nullable(moment()), true),
    ])
}

fn device(own: bool) -> Value {
    let mut fields: Vec<Field> = vec![
        ("id", of("Device"), true),
        ("name", nullable(json!({"type": "string"})), true),
        ("platform", nullable(json!({"type": "string"})), true),
        ("push", about(flag(), "Whether it has said where to push to."), true),
        ("created_at", moment(), true),
        ("seen_at", moment(), true),
    ];
    if own {
        fields.push(("current", about(flag(), "Whether the token is this device's."), true));
    }
    object(&fields)
}

fn user() -> Value {
    object(&[
        ("user", of("User"), true),
        ("name", nullable(json!({"type": "string"})), true),
        ("roles", array(of("Role")), true),
        ("info", nullable(json!({"type": "object"})), true),
        ("disabled", flag(), true),
        ("password", about(flag(), "Whether there is one."), true),
        ("tokens_valid_from", about(moment(), "Tokens issued before are void."), true),
        ("created_at", nullable(moment()), true),
    ])
}

fn api_key() -> Value {
    object(&[
        ("id", of("ApiKeyId"), true),
        ("name", nullable(json!({"type": "string"})), true),
        ("scopes", array(of("Scope")), true),
        ("created_at", moment(), true),
        ("rotated_at", nullable(moment()), true),
        ("expires_at", nullable(moment()), true),
        ("revoked_at", nullable(moment()), true),
        ("used_at", about(nullable(moment()), "To the hour."), true),
    ])
}
