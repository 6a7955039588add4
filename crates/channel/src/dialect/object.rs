//! The JSON objects of pushes and answers (docs/protocol.md). Data go in as the bytes that came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xpush_core::message::{Message, Sender};
use xpush_core::ports::bus::{Moved, Signal};
use xpush_core::ports::markers::{Conversation, Marker};
use xpush_core::ports::message_log::Page;
use xpush_core::ports::online::Status;
use xpush_core::ports::presence::{Delta, Member, Roster};
use xpush_core::{Channel, ChannelKey, Kind, Payload, Position, Problem, Revision, User};
use xpush_wire::json::write_string;

use crate::command::status::write_presence;

/// One happening's objects, each made when the first format asks for it.
#[derive(Default)]
pub(crate) struct Objects {
    /// With placeholders, for wires that carry attachments; and the only one when there are none.
    object: Option<String>,
    /// With the attachments as base64.
    inlined: Option<String>,
}

impl Objects {
    pub(crate) fn message(&mut self, message: &Message, binary: bool) -> &str {
        self.pick(message, binary, write_message)
    }

    pub(crate) fn signal(&mut self, signal: &Signal, binary: bool) -> &str {
        self.pick(&signal.message, binary, |_, inline, out| write_signal(signal, inline, out))
    }

    pub(crate) fn presence(&mut self, channel: &ChannelKey, delta: &Delta) -> &str {
        self.object.get_or_insert_with(|| presence(channel, delta))
    }

    pub(crate) fn roster(&mut self, channel: &ChannelKey, listed: &Roster) -> &str {
        self.object.get_or_insert_with(|| roster(channel, listed, &[]))
    }

    pub(crate) fn moved(&mut self, moved: &Moved) -> &str {
        self.object.get_or_insert_with(|| {
            let mut out = of_channel(&moved.channel.name);
            out.extend_from_slice(br#","user":"#);
            write_string(moved.user.as_str(), &mut out);
            out.extend_from_slice(format!(r#","seq":{}}}"#, moved.seq).as_bytes());
            text(out)
        })
    }

    fn pick(
        &mut self,
        message: &Message,
        binary: bool,
        write: impl FnOnce(&Message, bool, &mut Vec<u8>),
    ) -> &str {
        let inline = !binary && !message.payload.attachments.is_empty();
        let object = if inline { &mut self.inlined } else { &mut self.object };
        object.get_or_insert_with(|| {
            let mut out = Vec::with_capacity(message.payload.json.len() + 256);
            write(message, inline, &mut out);
            text(out)
        })
    }
}

/// The object of `history`'s answer.
pub(crate) fn history(channel: &ChannelKey, page: &Page) -> String {
    let mut out = Vec::with_capacity(256 * (page.messages.len() + 1));
    out.extend_from_slice(br#"{"channel":"#);
    write_string(channel.name.as_str(), &mut out);
    let bounds =
        format!(r#","epoch":"{}","first":{},"head":{},"messages":["#, page.epoch, page.first, page.head);
    out.extend_from_slice(bounds.as_bytes());
    for (index, message) in page.messages.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_message(message, true, &mut out);
    }
    out.extend_from_slice(b"]}");
    text(out)
}

/// A message's object, with its attachments inside.
pub(crate) fn message(message: &Message) -> String {
    let mut out = Vec::with_capacity(message.payload.json.len() + 256);
    write_message(message, true, &mut out);
    text(out)
}

/// The object of `notification`: `message` is one.
pub(crate) fn notification(channel: &Channel, unread: u64, message: &str) -> String {
    let mut out = of_channel(channel);
    out.extend_from_slice(format!(r#","unread":{unread},"message":{message}}}"#).as_bytes());
    text(out)
}

/// `"receipts":[{"user":…,"read":…,"delivered":…}…]`
pub(crate) fn write_receipts(receipts: &[(User, Marker)], out: &mut Vec<u8>) {
    out.extend_from_slice(br#""receipts":["#);
    for (index, (user, Marker { delivered, read })) in receipts.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#"{"user":"# } else { br#",{"user":"# });
        write_string(user.as_str(), out);
        out.extend_from_slice(format!(r#","read":{read},"delivered":{delivered}}}"#).as_bytes());
    }
    out.push(b']');
}

/// The object of `presence`'s answer. `statuses`: none, or one for each who is listed.
pub(crate) fn roster(channel: &ChannelKey, roster: &Roster, statuses: &[Status]) -> String {
    let mut out = Vec::with_capacity(64 + 48 * roster.members.len());
    out.extend_from_slice(br#"{"channel":"#);
    write_string(channel.name.as_str(), &mut out);
    out.push(b',');
    write_roster(roster, statuses, &mut out);
    out.push(b'}');
    text(out)
}

/// The object of `presence` while nobody knows who is there.
pub(crate) fn unknown(channel: &ChannelKey) -> String {
    let mut out = of_channel(&channel.name);
    out.extend_from_slice(br#","unknown":true}"#);
    text(out)
}

/// `"count":…,"users":[…]`, and `"more":true` when the list is not whole.
pub(crate) fn write_roster(roster: &Roster, statuses: &[Status], out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#""count":{},"users":"#, roster.users).as_bytes());
    write_members(&roster.members, statuses, out);
    if (roster.members.len() as u64) < roster.users {
        out.extend_from_slice(br#","more":true"#);
    }
}

/// The object of an error.
pub(crate) fn error(problem: &Problem) -> String {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(format!(r#"{{"code":"{}","message":"#, problem.code).as_bytes());
    write_string(problem.message(), &mut out);
    out.extend_from_slice(format!(r#","retry":"{}"}}"#, problem.code.retry().as_str()).as_bytes());
    text(out)
}

/// The object of `gap`.
pub(crate) fn gap(channel: &ChannelKey, position: Position) -> String {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(br#"{"channel":"#);
    write_string(channel.name.as_str(), &mut out);
    write_position(position, &mut out);
    out.push(b'}');
    text(out)
}

/// `{"channel":"…"`: how most objects begin.
pub(crate) fn of_channel(channel: &Channel) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(br#"{"channel":"#);
    write_string(channel.as_str(), &mut out);
    out
}

/// `"read":…,"delivered":…,"unread":…`
pub(crate) fn write_marker(marker: Marker, unread: u64, out: &mut Vec<u8>) {
    let Marker { delivered, read } = marker;
    let text = format!(r#""read":{read},"delivered":{delivered},"unread":{unread}"#);
    out.extend_from_slice(text.as_bytes());
}

/// One of the answer's to `channels`.
pub(crate) fn write_conversation(conversation: &Conversation, out: &mut Vec<u8>) {
    out.append(&mut of_channel(&conversation.channel));
    write_position(Position { epoch: conversation.epoch, seq: conversation.head }, out);
    out.push(b',');
    write_marker(conversation.marker, conversation.unread, out);
    if let Some(last) = &conversation.last {
        out.extend_from_slice(br#","last":"#);
        write_message(last, true, out);
    }
    out.extend_from_slice(format!(r#","active_at":{}}}"#, conversation.active_at).as_bytes());
}

/// `,"epoch":"…","seq":…`
pub(crate) fn write_position(position: Position, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#","epoch":"{}","seq":{}"#, position.epoch, position.seq).as_bytes());
}

/// JSON that this crate wrote is UTF-8: everything in it came in as `str`.
pub(crate) fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

/// A message, or what changes one.
fn write_message(message: &Message, inline: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"channel":"#);
    write_string(message.channel.name.as_str(), out);
    if let Some(position) = message.position {
        write_position(position, out);
    }
    if let Some(target) = message.kind.target() {
        out.extend_from_slice(format!(r#","target":{target}"#).as_bytes());
    }
    out.extend_from_slice(br#","id":"#);
    write_string(message.id.as_str(), out);
    if message.kind.is_message() {
        out.extend_from_slice(br#","event":"#);
        write_string(message.event.as_str(), out);
    }
    if !matches!(message.kind, Kind::Delete { .. }) {
        write_data(&message.payload, inline, out);
    }
    write_origin(message, out);
    if message.kind == Kind::Silent {
        out.extend_from_slice(br#","silent":true"#);
    }
    if let Some(Revision { seq, at, deleted }) = message.revision {
        let what = if deleted { "deleted" } else { "edited" };
        out.extend_from_slice(format!(r#","{what}":{{"seq":{seq},"at":{at}}}"#).as_bytes());
    }
    out.push(b'}');
}

/// A signal has neither position nor id.
fn write_signal(signal: &Signal, inline: bool, out: &mut Vec<u8>) {
    let message = &signal.message;
    out.extend_from_slice(br#"{"channel":"#);
    write_string(message.channel.name.as_str(), out);
    out.extend_from_slice(br#","event":"#);
    write_string(message.event.as_str(), out);
    write_data(&message.payload, inline, out);
    write_origin(message, out);
    if let Some(ttl_ms) = signal.ttl_ms {
        out.extend_from_slice(format!(r#","ttl":{ttl_ms}"#).as_bytes());
    }
    out.push(b'}');
}

fn write_data(payload: &Payload, inline: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(&payload.json);
    if inline && !payload.attachments.is_empty() {
        out.extend_from_slice(br#","attachments":["#);
        for (index, attachment) in payload.attachments.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(STANDARD.encode(attachment).as_bytes());
            out.push(b'"');
        }
        out.push(b']');
    }
}

/// Who, and when.
fn write_origin(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","from":"#);
    write_sender(&message.from, out);
    out.extend_from_slice(format!(r#","at":{}"#, message.at).as_bytes());
}

fn write_sender(sender: &Sender, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"user":"#);
    write_string(sender.user.as_str(), out);
    if let Some(name) = &sender.name {
        out.extend_from_slice(br#","name":"#);
        write_string(name, out);
    }
    out.push(b'}');
}

fn presence(channel: &ChannelKey, delta: &Delta) -> String {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(br#"{"channel":"#);
    write_string(channel.name.as_str(), &mut out);
    out.extend_from_slice(format!(r#","count":{}"#, delta.users).as_bytes());
    if !delta.joined.is_empty() {
        out.extend_from_slice(br#","joined":"#);
        write_members(&delta.joined, &[], &mut out);
    }
    if !delta.left.is_empty() {
        out.extend_from_slice(br#","left":["#);
        for (index, user) in delta.left.iter().enumerate() {
            out.extend_from_slice(if index == 0 { br#"{"user":"# } else { br#",{"user":"# });
            write_string(user.as_str(), &mut out);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.push(b'}');
    text(out)
}

fn write_members(members: &[Member], statuses: &[Status], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_sender(&Sender { user: member.user.clone(), name: member.name.clone() }, out);
        if let Some(status) = statuses.get(index) {
            // Among the other fields.
            out.pop();
            write_presence(status, out);
            out.push(b'}');
        }
    }
    out.push(b']');
}
