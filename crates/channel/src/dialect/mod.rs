//! How each wire format says things: frames for pushes and answers, ready for an outbox.
//!
//! An outbox holds WebSocket frames (also for long polling, which takes their payloads out again) or, for SSE, events.

pub(crate) mod legacy;
pub(crate) mod object;

use bytes::Bytes;
use xpush_core::ports::markers::Mark;
use xpush_core::{ChannelKey, Code, Position, Problem, message, names};
use xpush_wire::engine::Version;
use xpush_wire::socket::{self, Kind};
use xpush_wire::ws::{self, Opcode};
use xpush_wire::{engine, json, sse};

use crate::command::Asked;
use crate::fanout::inbox::Happening;
use crate::session::recovery;

/// A connection's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Wire {
    /// Engine.IO 3, Socket.IO packets as text.
    Engine3,
    /// Engine.IO 4, Socket.IO packets as text.
    Engine4,
    /// Engine.IO 3, Socket.IO packets as msgpack.
    Engine3Msgpack,
    /// Engine.IO 4, Socket.IO packets as msgpack.
    Engine4Msgpack,
    /// [`Wire::Engine4`] of a client that may recover: what has a position carries it as a second argument.
    Engine4Offsets,
    /// [`Wire::Engine4Msgpack`] of a client that may recover.
    Engine4MsgpackOffsets,
    /// One JSON object a WebSocket text frame.
    Plain,
    /// Server-sent events.
    Sse,
}

/// The Socket.IO namespaces; on other wires everything is native.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Namespace {
    /// `/`
    Native,
    /// `/channel`: XPUSH 0.1.
    Legacy,
    /// `/` of clients that do not know this protocol: events that are no commands, and messages as plain events.
    Plain,
}

/// What a subscriber's frames look like: one encoding each and fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Format {
    pub(crate) wire: Wire,
    pub(crate) namespace: Namespace,
}

impl Format {
    /// How many formats there are.
    pub(crate) const COUNT: usize = 24;

    /// A dense number.
    pub(crate) const fn index(self) -> usize {
        self.wire as usize * 3 + self.namespace as usize
    }
}

impl Wire {
    /// The Engine.IO version, if any.
    pub(crate) const fn engine(self) -> Option<Version> {
        match self {
            Self::Engine3 | Self::Engine3Msgpack => Some(Version::V3),
            Self::Engine4 | Self::Engine4Msgpack | Self::Engine4Offsets | Self::Engine4MsgpackOffsets => {
                Some(Version::V4)
            }
            Self::Plain | Self::Sse => None,
        }
    }

    /// The same with the msgpack parser.
    pub(crate) const fn with_msgpack(self) -> Self {
        match self {
            Self::Engine3 => Self::Engine3Msgpack,
            Self::Engine4 => Self::Engine4Msgpack,
            other => other,
        }
    }

    /// The same with or without offsets; only Engine.IO 4 has them.
    pub(crate) const fn with_offsets(self, offsets: bool) -> Self {
        match (self, offsets) {
            (Self::Engine4, true) => Self::Engine4Offsets,
            (Self::Engine4Msgpack, true) => Self::Engine4MsgpackOffsets,
            (Self::Engine4Offsets, false) => Self::Engine4,
            (Self::Engine4MsgpackOffsets, false) => Self::Engine4Msgpack,
            (other, _) => other,
        }
    }

    const fn has_offsets(self) -> bool {
        matches!(self, Self::Engine4Offsets | Self::Engine4MsgpackOffsets)
    }

    pub(crate) const fn msgpack(self) -> bool {
        matches!(self, Self::Engine3Msgpack | Self::Engine4Msgpack | Self::Engine4MsgpackOffsets)
    }

    /// Whether binary attachments travel beside the JSON; else they go into it, as base64.
    pub(crate) const fn carries_binary(self) -> bool {
        self.engine().is_some()
    }
}

impl Namespace {
    /// The name on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Native | Self::Plain => "/",
            Self::Legacy => "/channel",
        }
    }

    /// Whether what is in it ends with `other`.
    pub(crate) fn is_within(self, other: Self) -> bool {
        self == other || (self, other) == (Self::Plain, Self::Native)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "/" => Some(Self::Native),
            "/channel" => Some(Self::Legacy),
            _ => None,
        }
    }
}

/// Appends an Engine.IO text packet without Socket.IO content.
pub(crate) fn engine_packet(kind: engine::Kind, data: &str, out: &mut Vec<u8>) {
    ws::write_header(Opcode::Text, 1 + data.len(), out);
    out.push(b'0' + kind as u8);
    out.extend_from_slice(data.as_bytes());
}

/// Appends a Socket.IO packet. `data` is JSON or empty.
pub(crate) fn socket_packet(
    wire: Wire,
    kind: Kind,
    namespace: &str,
    id: Option<u64>,
    data: &str,
    attachments: &[Bytes],
    out: &mut Vec<u8>,
) {
    if wire.msgpack() {
        let mut packet = Vec::with_capacity(data.len() + 64);
        socket::write_msgpack(kind, namespace, id, data, attachments, &mut packet);
        return binary_message(wire, &packet, out);
    }
    let kind = match kind {
        Kind::Event if !attachments.is_empty() => Kind::BinaryEvent,
        Kind::Ack if !attachments.is_empty() => Kind::BinaryAck,
        kind => kind,
    };
    let mut head = Vec::with_capacity(32);
    head.push(b'0' + engine::Kind::Message as u8);
    socket::write_head(kind, attachments.len(), namespace, id, &mut head);
    ws::write_header(Opcode::Text, head.len() + data.len(), out);
    out.extend_from_slice(&head);
    out.extend_from_slice(data.as_bytes());
    for attachment in attachments {
        binary_message(wire, attachment, out);
    }
}

/// Appends a push: `object` is a JSON object. `attachments` are given only on a wire that carries them.
pub(crate) fn push(format: Format, name: &str, object: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
    push_at(format, name, object, None, attachments, out);
}

/// [`push`] with an offset behind the object; only wires that have offsets are given one.
fn push_at(
    format: Format,
    name: &str,
    object: &str,
    offset: Option<&str>,
    attachments: &[Bytes],
    out: &mut Vec<u8>,
) {
    match format.wire {
        Wire::Plain => {
            let head_len = r#"{"push":"","#.len() + name.len();
            let empty = object == "{}";
            ws::write_header(Opcode::Text, head_len + object.len() - 1 - usize::from(empty), out);
            out.extend_from_slice(br#"{"push":""#);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(if empty { br#"""# } else { br#"","# });
            out.extend_from_slice(&object.as_bytes()[1..]);
        }
        Wire::Sse => sse::write_event(None, name, object, out),
        wire => {
            let mut data = Vec::with_capacity(
                object.len() + name.len() + 8 + offset.map_or(0, |offset| offset.len() + 3),
            );
            data.push(b'[');
            json::write_string(name, &mut data);
            data.push(b',');
            data.extend_from_slice(object.as_bytes());
            if let Some(offset) = offset {
                data.push(b',');
                json::write_string(offset, &mut data);
            }
            data.push(b']');
            let data = String::from_utf8(data).unwrap_or_default();
            socket_packet(wire, Kind::Event, format.namespace.as_str(), None, &data, attachments, out);
        }
    }
}

/// Appends what subscribers of this format are told; nothing when it is not for them.
pub(crate) fn happening(
    format: Format,
    happening: &Happening,
    objects: &mut object::Objects,
    out: &mut Vec<u8>,
) {
    if format.namespace == Namespace::Legacy {
        return legacy::happening(format.wire, happening, out);
    }
    if format.namespace == Namespace::Plain {
        return plain_happening(format, happening, out);
    }
    let binary = format.wire.carries_binary();
    let offset = |channel: &ChannelKey, position: Option<Position>| {
        position.filter(|_| format.wire.has_offsets()).map(|at| recovery::spell_offset(&channel.name, at))
    };
    match happening {
        Happening::Message(message) => {
            let attachments: &[Bytes] = if binary { &message.payload.attachments } else { &[] };
            let name = match message.kind {
                message::Kind::Message | message::Kind::Silent => "message",
                message::Kind::Edit { .. } => "edit",
                message::Kind::Delete { .. } => "delete",
            };
            let offset = offset(&message.channel, message.position);
            push_at(format, name, objects.message(message, binary), offset.as_deref(), attachments, out);
        }
        Happening::Signal(signal) if signal.message.event.as_str() != legacy::EVENT => {
            let attachments: &[Bytes] = if binary { &signal.message.payload.attachments } else { &[] };
            push(format, "signal", objects.signal(signal, binary), attachments, out);
        }
        Happening::Signal(_) => {}
        Happening::Presence(channel, delta) => {
            push(format, "presence", objects.presence(channel, delta), &[], out)
        }
        Happening::Roster(channel, roster) => {
            push(format, "presence", objects.roster(channel, roster), &[], out)
        }
        Happening::Unknown(channel) => push(format, "presence", &object::unknown(channel), &[], out),
        Happening::Marker(moved) => {
            let name = match moved.mark {
                Mark::Read => "read",
                Mark::Delivered => "delivered",
            };
            push(format, name, objects.moved(moved), &[], out);
        }
        Happening::Gap(channel, position) => {
            let offset = offset(channel, Some(*position));
            push_at(format, "gap", &object::gap(channel, *position), offset.as_deref(), &[], out);
        }
    }
}

/// A message as the event that it was published as, with its data and nothing else. These clients know nothing of the rest.
fn plain_happening(format: Format, happening: &Happening, out: &mut Vec<u8>) {
    let Happening::Message(message) = happening else { return };
    if message.kind.is_message() && format.wire.carries_binary() {
        let data = std::str::from_utf8(&message.payload.json).unwrap_or("null");
        push(format, message.event.as_str(), data, &message.payload.attachments, out);
    }
}

/// Appends a command's answer: `body` is the JSON object of `ok`.
pub(crate) fn answer(wire: Wire, asked: Asked, body: &str, out: &mut Vec<u8>) {
    let Some(id) = asked.ack else { return };
    match (wire, asked.namespace) {
        (Wire::Sse, _) => {}
        (Wire::Plain, _) => {
            plain_answer(id, "ok", body, out);
        }
        (wire, Namespace::Native) => {
            let data = format!("[{{\"ok\":{body}}}]");
            socket_packet(wire, Kind::Ack, "/", Some(id), &data, &[], out);
        }
        (wire, namespace @ (Namespace::Legacy | Namespace::Plain)) => {
            let data = format!("[{body}]");
            socket_packet(wire, Kind::Ack, namespace.as_str(), Some(id), &data, &[], out);
        }
    }
}

/// Appends a command's failure: to its ack, or as the push `rejected` when it has none.
pub(crate) fn failure(wire: Wire, asked: Asked, name: &str, problem: &Problem, out: &mut Vec<u8>) {
    let error = object::error(problem);
    match (wire, asked.ack, asked.namespace) {
        (Wire::Plain, Some(id), _) => plain_answer(id, "error", &error, out),
        (wire, Some(id), Namespace::Native | Namespace::Plain) => {
            let data = format!("[{{\"error\":{error}}}]");
            socket_packet(wire, Kind::Ack, "/", Some(id), &data, &[], out);
        }
        (wire, Some(id), Namespace::Legacy) => {
            let data = format!("[{}]", legacy::failure(problem));
            socket_packet(wire, Kind::Ack, "/channel", Some(id), &data, &[], out);
        }
        (_, None, Namespace::Legacy) => {}
        (wire, None, Namespace::Native | Namespace::Plain) => {
            let mut cmd = Vec::with_capacity(name.len() + 2);
            json::write_string(name, &mut cmd);
            let rejected = format!("{{\"cmd\":{},\"error\":{error}}}", object::text(cmd));
            push(Format { wire, namespace: Namespace::Native }, "rejected", &rejected, &[], out);
        }
    }
}

/// Appends a WebSocket close frame that names an error (`/ws`), or tells that the server goes.
pub(crate) fn close_frame(wire: Wire, code: Code, out: &mut Vec<u8>) {
    let number = match (wire, code) {
        (_, Code::TooLarge) => 1009,
        (_, Code::Draining) => 1012,
        (Wire::Plain, code) => 4_000 + code.number(),
        (_, Code::BadPacket | Code::BadRequest | Code::BadJson) => 1002,
        _ => 1008,
    };
    ws::write_close(number, code.as_str(), out);
}

fn plain_answer(id: u64, member: &str, body: &str, out: &mut Vec<u8>) {
    let text = format!("{{\"id\":{id},\"{member}\":{body}}}");
    ws::write_frame(Opcode::Text, text.as_bytes(), out);
}

fn binary_message(wire: Wire, data: &[u8], out: &mut Vec<u8>) {
    let typed = wire.engine() == Some(Version::V3);
    ws::write_header(Opcode::Binary, data.len() + usize::from(typed), out);
    if typed {
        out.push(engine::Kind::Message as u8);
    }
    out.extend_from_slice(data);
}

/// Whether a client may not publish an event of this name from `namespace`.
pub(crate) fn reserved(namespace: Namespace, event: &str) -> bool {
    match namespace {
        Namespace::Native | Namespace::Plain => names::reserved_event(event),
        Namespace::Legacy => event == legacy::EVENT || names::reserved_by_socket_io(event),
    }
}
