//! The two ways to say "subscribe" and "publish" over Socket.IO 5 on Engine.IO 4, as text.
//!
//! Sources: `docs/protocol.md`; the Engine.IO protocol v4 and Socket.IO protocol v5 documents.

use serde_json::Value;

/// Whom the load generator talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// XPUSH's own commands: `subscribe {channel}`, `publish {channel, event, data}`.
    Xpush,
    /// A Socket.IO server with the events `join ROOM` and `publish {room, data}`, which emits
    /// `message DATA` to the room, sender included; both acked. As `benches/peers/` and the limit server.
    Socketio,
}

/// What a server can say, as far as the load generator listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// Engine.IO handshake.
    Open,
    Ping,
    /// CONNECT was accepted.
    Connected,
    /// An event named `message`: the whole packet.
    Message(&'a str),
    /// The ack's number and its arguments.
    Ack(u32, &'a str),
    /// The server refuses, or says why it is about to hang up.
    Refusal(&'a str),
    /// Pushes that do not concern the load.
    Other,
}

impl Dialect {
    pub(crate) fn subscribe(self, ack: u32, channel: &str) -> String {
        match self {
            Self::Xpush => format!(r#"42{ack}["subscribe",{{"channel":"{channel}"}}]"#),
            Self::Socketio => format!(r#"42{ack}["join","{channel}"]"#),
        }
    }

    pub(crate) fn publish(self, ack: u32, channel: &str, data: &str) -> String {
        match self {
            Self::Xpush => {
                format!(r#"42{ack}["publish",{{"channel":"{channel}","event":"message","data":"{data}"}}]"#)
            }
            Self::Socketio => format!(r#"42{ack}["publish",{{"room":"{channel}","data":"{data}"}}]"#),
        }
    }

    /// Whether the arguments of an ack say that the command was done.
    pub(crate) fn accepted(self, arguments: &str) -> bool {
        match self {
            Self::Xpush => arguments.starts_with(r#"[{"ok":"#),
            Self::Socketio => arguments.starts_with('['),
        }
    }

    /// Reads a message packet as a client library would: by a real JSON parser, field by field.
    pub(crate) fn is_well_formed(self, packet: &str, channel: &str) -> bool {
        let Some(Ok(event)) = packet.strip_prefix("42").map(serde_json::from_str::<Value>) else {
            return false;
        };
        if event[0] != "message" || event.as_array().is_none_or(|arguments| arguments.len() != 2) {
            return false;
        }
        let body = &event[1];
        match self {
            Self::Socketio => body.is_string(),
            Self::Xpush => {
                body["channel"] == channel
                    && body["event"] == "message"
                    && body["data"].is_string()
                    && body["id"].is_string()
                    && body["from"]["user"].is_string()
                    && body["at"].is_u64()
            }
        }
    }
}

impl<'a> Packet<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        if text.starts_with(r#"42["message","#) {
            return Self::Message(text);
        }
        if let Some(ack) = text.strip_prefix("43") {
            let digits = ack.find(|c: char| !c.is_ascii_digit()).unwrap_or(ack.len());
            let (number, arguments) = ack.split_at(digits);
            return number.parse().map_or(Self::Refusal(text), |number| Self::Ack(number, arguments));
        }
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        match text {
            "2" => Self::Ping,
            _ if starts(&["0{"]) => Self::Open,
            _ if starts(&["40"]) => Self::Connected,
            // Disconnect, CONNECT_ERROR, close, and the pushes that announce trouble.
            _ if starts(&["41", "44", "1", r#"42["closing""#, r#"42["rejected""#, r#"42["moved""#]) => {
                Self::Refusal(text)
            }
            _ => Self::Other,
        }
    }
}

/// The credentials of a Socket.IO CONNECT: none; guests are welcome.
pub(crate) const CONNECT: &str = "40";
/// Answers an Engine.IO ping.
pub(crate) const PONG: &str = "3";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packets_are_told_apart() {
        for (text, packet) in [
            (r#"0{"sid":"x","upgrades":[]}"#, Packet::Open),
            ("2", Packet::Ping),
            (r#"40{"sid":"y"}"#, Packet::Connected),
            (r#"4312[{"ok":{}}]"#, Packet::Ack(12, r#"[{"ok":{}}]"#)),
            ("43", Packet::Refusal("43")),
            (r#"42["message","a"]"#, Packet::Message(r#"42["message","a"]"#)),
            (r#"42["welcome",{}]"#, Packet::Other),
            (r#"44{"message":"no"}"#, Packet::Refusal(r#"44{"message":"no"}"#)),
            (r#"42["closing",{}]"#, Packet::Refusal(r#"42["closing",{}]"#)),
        ] {
            assert_eq!(Packet::parse(text), packet, "{text}");
        }
    }

    #[test]
    fn a_message_s_shape_is_checked() {
        let body = json!({"channel": "live:a", "id": "m1", "event": "message", "data": "x", "from": {"user": "g1"}, "at": 1});
        let good = format!("42{}", json!(["message", body]));
        assert!(Dialect::Xpush.is_well_formed(&good, "live:a"));
        assert!(!Dialect::Xpush.is_well_formed(&good, "live:b"), "another channel");
        assert!(!Dialect::Xpush.is_well_formed(&good.replace("\"at\":1", "\"at\":null"), "live:a"));
        assert!(!Dialect::Xpush.is_well_formed(&good[..good.len() - 1], "live:a"), "cut off");
        assert!(Dialect::Socketio.is_well_formed(r#"42["message","x"]"#, "r"));
        assert!(!Dialect::Socketio.is_well_formed(r#"42["message","x","y"]"#, "r"));
    }

    #[test]
    fn only_an_ok_is_an_ok() {
        assert!(Dialect::Xpush.accepted(r#"[{"ok":{"channel":"a"}}]"#));
        assert!(!Dialect::Xpush.accepted(r#"[{"error":{"code":"forbidden"}}]"#));
    }
}
