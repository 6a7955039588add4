//! `publish`: a message to everybody who follows a channel.

use bytes::Bytes;
use xpush_core::message::Payload;
use xpush_core::ports::message_log::Draft;
use xpush_core::{Action, Channel, ClientId, Code, Device, EventName, Kind, Problem, User};
use xpush_wire::json;

use super::fields::{Fields, bad};
use super::{Outcome, Request};
use crate::dialect::{self, Namespace, object};
use crate::fanout::inbox::{Publication, Published, Publisher};
use crate::session::identity::Identity;
use crate::session::sid;
use crate::shard::Shard;

/// The event of a message that names none.
const DEFAULT_EVENT: &str = "message";

pub(crate) fn run(shard: &mut Shard, mut request: Request<'_>) -> Result<Outcome, Problem> {
    let (key, rule) = request.place(Action::Publish)?;
    clients_write(&key.name)?;
    let event = event(&request)?;
    if request.fields.raw("data").is_none() {
        return Err(bad("data", "any JSON value"));
    }
    let payload = payload(&mut request)?;
    let id = client_id(shard, &request)?;
    let kind = if request.fields.flag("silent", false)? { Kind::Silent } else { Kind::Message };
    let echo = request.fields.flag("echo", true)?;
    let from = request.identity.sender().clone();
    let at = shard.node.clock().wall();
    let draft = Draft { kind, moderates: false, id, event, payload, from, at };
    let (by, arrived) = (Publisher::Session(request.handle, request.asked), shard.now);
    let publication = Publication { channel: key, rule, draft, by, echo, params: None, arrived };
    shard.publish(&request.identity.grant, publication);
    Ok(Outcome::Later)
}

/// `channel`, or the own channel of `user`, or of its `device`.
pub(super) fn destination(fields: &Fields<'_>) -> Result<Channel, Problem> {
    let (user, device) = (fields.text("user")?, fields.text("device")?);
    let channel = match user {
        None if device.is_some() => return Err(bad("device", "together with user")),
        None => fields.channel()?,
        Some(_) if fields.get("channel").is_some() => return Err(bad("user", "not together with channel")),
        Some(user) => {
            let user = User::new(&user).map_err(|_| bad("user", "a string of 1 to 128 bytes"))?;
            let device = device.map(|device| Device::new(&device)).transpose();
            let device = device.map_err(|_| bad("device", "a string of 1 to 64 bytes"))?;
            Channel::personal(&user, device.as_ref())
        }
    };
    Ok(channel)
}

/// In the server's own channels nobody else writes, whatever their rule says.
pub(crate) fn clients_write(channel: &Channel) -> Result<(), Problem> {
    if channel.is_system() {
        return Err(Problem::new(Code::Forbidden, "only the server itself writes here"));
    }
    Ok(())
}

/// The object of `ok`.
pub(crate) fn answer(published: &Published) -> String {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(br#"{"channel":"#);
    json::write_string(published.channel.name.as_str(), &mut out);
    out.extend_from_slice(br#","id":"#);
    json::write_string(published.id.as_str(), &mut out);
    if let Some(position) = published.position {
        object::write_position(position, &mut out);
    }
    if let Some(target) = published.target {
        out.extend_from_slice(format!(r#","target":{target}"#).as_bytes());
    }
    out.extend_from_slice(format!(r#","at":{}}}"#, published.at).as_bytes());
    object::text(out)
}

/// The client's id for its message, or one that the server makes.
pub(super) fn client_id(shard: &mut Shard, request: &Request<'_>) -> Result<ClientId, Problem> {
    Ok(message_id(request)?.unwrap_or_else(|| fresh_id(shard)))
}

/// An id for a message whose client gave it none.
pub(crate) fn fresh_id(shard: &mut Shard) -> ClientId {
    // 60 bits: enough for one sender's messages of a day in one channel.
    let id = &sid::spell(shard.entropy.word())[..10];
    ClientId::new(id).unwrap_or_else(|_| unreachable!("base64url makes a valid id"))
}

/// The event's name: the default, or one that is not reserved.
pub(super) fn event(request: &Request<'_>) -> Result<EventName, Problem> {
    let name = request.fields.text("event")?.unwrap_or(DEFAULT_EVENT.into());
    if dialect::reserved(Namespace::Native, &name) {
        return Err(Problem::new(Code::BadEvent, format!("the event's name {name:?} is reserved")));
    }
    EventName::new(&name).map_err(Problem::from)
}

/// `data`, in the bytes that came, and all attachments: each must have its placeholder in there.
pub(super) fn payload(request: &mut Request<'_>) -> Result<Payload, Problem> {
    let data = request.fields.get("data").unwrap_or("null");
    let attachments = std::mem::take(&mut request.attachments);
    check_size(&request.identity, data, &attachments)?;
    if !json::placeholders_match(data, attachments.len()) {
        return Err(bad("data", "binary parts belong into data, and nowhere else"));
    }
    Ok(Payload { json: Bytes::copy_from_slice(data.as_bytes()), attachments })
}

/// Whether data are within what the app allows.
pub(super) fn check_size(identity: &Identity, data: &str, attachments: &[Bytes]) -> Result<(), Problem> {
    let size = data.len() + attachments.iter().map(Bytes::len).sum::<usize>();
    match identity.app.limits.payload {
        Some(most) if size > most => Err(Code::TooLarge.into()),
        _ => Ok(()),
    }
}

/// On `/ws`, `id` is the command's number: the message's id is `message_id` there, and may be so everywhere.
fn message_id(request: &Request<'_>) -> Result<Option<ClientId>, Problem> {
    let id = match request.fields.text("message_id")? {
        Some(id) => Some(id),
        None if request.fields.get("id").is_some_and(|id| id.starts_with('"')) => {
            request.fields.text("id")?
        }
        None if request.attends_id() => return Err(bad("id", "a string of 1 to 64 characters")),
        None => None,
    };
    id.map(|id| ClientId::new(&id).map_err(|_| bad("id", "a string of 1 to 64 characters"))).transpose()
}

impl Request<'_> {
    /// Whether an `id` that is no string is a mistake: on `/ws` it is the command's number.
    fn attends_id(&self) -> bool {
        let number = self.fields.get("id").and_then(json::unsigned);
        self.fields.get("id").is_some() && number != self.asked.ack
    }
}
