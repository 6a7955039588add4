//! XPUSH 0.1's namespace `/channel`, as the clients of 2013 to 2017 expect it.

use bytes::Bytes;
use xpush_core::message::Message;
use xpush_core::{Code, Problem};
use xpush_wire::json::{self, write_string};
use xpush_wire::socket::Kind;

use super::{Namespace, Wire, object, socket_packet};
use crate::fanout::inbox::Happening;

/// Who comes and goes. It travels as a signal that no client can send.
pub(crate) const EVENT: &str = "_event";

/// Messages as `NM` with `DT`, and `_event`; these clients know nothing else.
pub(crate) fn happening(wire: Wire, happening: &Happening, out: &mut Vec<u8>) {
    match happening {
        Happening::Message(sent) if sent.kind.is_message() => message(wire, sent, out),
        Happening::Signal(signal) if signal.message.event.as_str() == EVENT => {
            event(wire, EVENT, std::str::from_utf8(&signal.message.payload.json).unwrap_or("null"), &[], out);
        }
        Happening::Message(_)
        | Happening::Signal(_)
        | Happening::Presence(..)
        | Happening::Roster(..)
        | Happening::Unknown(_)
        | Happening::Marker(_)
        | Happening::Gap(..) => {}
    }
}

/// Event `NM` with `DT`, and in it, when it is an object, the channel `C` and the time `TS`.
pub(crate) fn message(wire: Wire, message: &Message, out: &mut Vec<u8>) {
    let data = std::str::from_utf8(&message.payload.json).unwrap_or("null").trim();
    let mut object = Vec::with_capacity(data.len() + 64);
    match data.strip_suffix('}').filter(|data| data.starts_with('{')) {
        Some(members) => {
            let members = members.trim_end();
            object.extend_from_slice(members.as_bytes());
            object.extend_from_slice(if members.len() == 1 { br#""C":"# } else { br#","C":"# });
            write_string(message.channel.name.as_str(), &mut object);
            object.extend_from_slice(format!(",\"TS\":{}}}", message.at).as_bytes());
        }
        None => object.extend_from_slice(data.as_bytes()),
    }
    event(wire, message.event.as_str(), &object::text(object), &message.payload.attachments, out);
}

/// An ack's object for what went wrong.
pub(crate) fn failure(problem: &Problem) -> String {
    let status = if problem.code == Code::BadField { "ERR-PARAM" } else { "ERR-INTERNAL" };
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(br#"{"status":""#);
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(br#"","message":{"status":"error","message":"","detail":"#);
    write_string(problem.message(), &mut out);
    out.extend_from_slice(b"}}");
    object::text(out)
}

/// An ack's object for success: it repeats the parameters.
pub(crate) fn success(params: Option<&Bytes>) -> String {
    match params.and_then(|params| std::str::from_utf8(params).ok()) {
        Some(params) if json::members(params).is_some() => format!(r#"{{"status":"ok","params":{params}}}"#),
        _ => r#"{"status":"ok"}"#.to_owned(),
    }
}

fn event(wire: Wire, name: &str, data: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
    let mut packet = Vec::with_capacity(name.len() + data.len() + 8);
    packet.push(b'[');
    write_string(name, &mut packet);
    packet.push(b',');
    packet.extend_from_slice(data.as_bytes());
    packet.push(b']');
    socket_packet(
        wire,
        Kind::Event,
        Namespace::Legacy.as_str(),
        None,
        &object::text(packet),
        attachments,
        out,
    );
}
