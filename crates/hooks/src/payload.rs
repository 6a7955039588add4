//! What back ends are shown: the bodies of requests. docs/hooks.md tells the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xpush_core::ports::hooks::{Called, Event, Publishing};
use xpush_core::ports::online::State;
use xpush_core::{ChannelKey, Grant, Kind, Message, UnixMillis};

use crate::hook::Hook;

/// A JSON object that is being written.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self("{".to_owned())
    }

    /// `value` is JSON.
    pub(crate) fn raw(mut self, name: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
        self.0.push_str(value);
        self
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, &quoted(value))
    }

    pub(crate) fn number(self, name: &str, value: u64) -> Self {
        self.raw(name, &value.to_string())
    }

    pub(crate) fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    /// Who somebody is.
    fn who(self, grant: &Grant) -> Self {
        let object = self
            .text("user", grant.sender.user.as_str())
            .raw("guest", if grant.guest { "true" } else { "false" });
        let object = object.optional("name", grant.sender.name.as_deref());
        object.optional("device", grant.device.as_ref().map(|device| device.as_str()))
    }
}

fn quoted(text: &str) -> String {
    // A string has no way to fail.
    serde_json::to_string(text).unwrap_or_default()
}

/// A request that tells of events, each an object; `node` is who tells.
pub(crate) fn events<'a>(hook: &Hook, node: &str, events: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let head =
        Object::new().text("app", hook.app.as_str()).text("hook", &hook.record.name).text("node", node);
    let mut body = head.0.into_bytes();
    body.extend_from_slice(b",\"events\":[");
    for (number, event) in events.enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(b"]}");
    body
}

/// A request that asks; `question` is an object.
pub(crate) fn asking(hook: &Hook, node: &str, question: &str) -> Vec<u8> {
    let object =
        Object::new().text("app", hook.app.as_str()).text("hook", &hook.record.name).text("node", node);
    object.raw("ask", question).end().into_bytes()
}

/// The beginning of every event and every question.
pub(crate) fn begun(id: &str, kind: &str, at: UnixMillis) -> Object {
    Object::new().text("id", id).text("type", kind).number("at", at)
}

/// An event as its object.
pub(crate) fn event(id: &str, kind: &str, at: UnixMillis, event: &Event) -> String {
    let object = begun(id, kind, at);
    match event {
        Event::Connected { grant, connection } | Event::Disconnected { grant, connection } => {
            object.text("connection", connection).who(grant).end()
        }
        Event::Occupied(channel) | Event::Vacated(channel) => {
            object.text("channel", channel.name.as_str()).end()
        }
        Event::Message { message: sent, .. } => {
            object.text("channel", sent.channel.name.as_str()).raw("message", &message(sent)).end()
        }
        Event::Status { user, state, .. } => {
            let state = match state {
                State::Offline => "offline",
                State::Away => "away",
                State::Online => "online",
            };
            object.text("user", user.as_str()).text("state", state).end()
        }
    }
}

/// The work of a message, from its log.
pub(crate) fn of_message(id: &str, at: UnixMillis, sent: &Message) -> String {
    let object = begun(id, "message", at).text("channel", sent.channel.name.as_str());
    object.raw("message", &message(sent)).end()
}

/// As clients get it, and what kind it is.
fn message(message: &Message) -> String {
    let (kind, target) = match message.kind {
        Kind::Message | Kind::Silent => ("message", None),
        Kind::Edit { target } => ("edit", Some(target)),
        Kind::Delete { target } => ("delete", Some(target)),
    };
    let mut object = Object::new().text("kind", kind);
    if let Some(position) = message.position {
        object = object.text("epoch", &position.epoch.to_string()).number("seq", position.seq);
    }
    if let Some(target) = target {
        object = object.number("target", target);
    }
    object = object.text("id", message.id.as_str());
    if target.is_none() {
        object = object.text("event", message.event.as_str());
    }
    if !matches!(message.kind, Kind::Delete { .. }) {
        object = object.raw("data", std::str::from_utf8(&message.payload.json).unwrap_or("null"));
    }
    if !message.payload.attachments.is_empty() {
        let encoded =
            message.payload.attachments.iter().map(|bytes| format!("\"{}\"", STANDARD.encode(bytes)));
        object = object.raw("attachments", &format!("[{}]", encoded.collect::<Vec<_>>().join(",")));
    }
    if message.kind == Kind::Silent {
        object = object.raw("silent", "true");
    }
    let from =
        Object::new().text("user", message.from.user.as_str()).optional("name", message.from.name.as_deref());
    object.raw("from", &from.end()).number("at", message.at).end()
}

/// Whether somebody may connect.
pub(crate) fn connect(id: &str, at: UnixMillis, grant: &Grant, address: Option<std::net::IpAddr>) -> String {
    let roles: Vec<_> = grant.roles.iter().map(|role| quoted(role.as_str())).collect();
    let object = begun(id, "connect", at).who(grant).raw("roles", &format!("[{}]", roles.join(",")));
    let object = match &grant.info {
        Some(info) => object.raw("info", info),
        None => object,
    };
    object.optional("address", address.map(|address| address.to_string()).as_deref()).end()
}

/// What somebody may do in a channel; `permissions` is what it may without the hook.
pub(crate) fn subscribe(
    id: &str,
    at: UnixMillis,
    grant: &Grant,
    channel: &ChannelKey,
    permissions: &str,
) -> String {
    let object = begun(id, "subscribe", at).text("channel", channel.name.as_str()).who(grant);
    object.raw("permissions", permissions).end()
}

/// Whether a message may be published.
pub(crate) fn publish(id: &str, at: UnixMillis, asked: &Publishing) -> String {
    let Publishing { channel, grant, event, data, attachments, edits } = asked;
    let object = begun(id, "publish", at).text("channel", channel.name.as_str()).who(grant);
    let object = match edits {
        Some(seq) => object.number("edits", *seq),
        None => object.text("event", event.as_str()),
    };
    let object = object.raw("data", std::str::from_utf8(data).unwrap_or("null"));
    if *attachments > 0 { object.number("attachments", *attachments as u64).end() } else { object.end() }
}

/// A call.
pub(crate) fn call(id: &str, at: UnixMillis, called: &Called) -> String {
    let object = begun(id, "call", at).text("connection", &called.connection).who(&called.grant);
    object.text("name", &called.name).raw("data", std::str::from_utf8(&called.data).unwrap_or("null")).end()
}
