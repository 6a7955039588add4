//! `status`: what one is doing, and how others are seen. The rule of `$presence` says who may see others.

use xpush_core::ports::PortError;
use xpush_core::ports::online::{State, Status};
use xpush_core::{Action, Device, Problem};
use xpush_wire::json;

use super::fields::bad;
use super::{Outcome, Request, members};
use crate::dialect::object;
use crate::fanout::inbox::{Inbox, Reply};
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, request: &Request<'_>) -> Result<Outcome, Problem> {
    let users = members::users(&request.fields, "users")?;
    let state = match request.fields.text("state")?.as_deref() {
        None => None,
        Some("online") => Some(State::Online),
        Some("away") => Some(State::Away),
        Some(_) => return Err(bad("state", "online or away")),
    };
    let grant = request.identity.grant.clone();
    if users.iter().any(|user| *user != grant.sender.user) {
        request.place(Action::Presence)?;
    }
    if let Some(state) = state {
        shard.shows(request.handle, &grant, state);
    }
    if users.is_empty() {
        return Ok(Outcome::Now(answer(&[])));
    }
    let (to, mailbox) = (request.handle, shard.mailbox());
    let asked = shard.ask_store(to, request.asked);
    let done = Box::new(move |result: Result<Vec<Status>, PortError>| {
        let reply = match result {
            Ok(statuses) => Reply::Body(answer(&statuses)),
            Err(error) => Reply::Failed(error.code().into()),
        };
        mailbox.post(Inbox::Reply { to, asked, reply });
    });
    shard.node.online().status(&grant.app, users, done);
    Ok(Outcome::Later)
}

/// The word on the wire.
pub(crate) const fn name(state: State) -> &'static str {
    match state {
        State::Offline => "offline",
        State::Away => "away",
        State::Online => "online",
    }
}

pub(crate) fn answer(statuses: &[Status]) -> String {
    let mut out = br#"{"users":["#.to_vec();
    for (index, status) in statuses.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#"{"user":"# } else { br#",{"user":"# });
        json::write_string(status.user.as_str(), &mut out);
        out.extend_from_slice(format!(r#","state":"{}""#, name(status.state)).as_bytes());
        if let Some(at) = status.last_seen {
            out.extend_from_slice(format!(r#","last_seen":{at}"#).as_bytes());
        }
        write_devices(&status.devices, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    object::text(out)
}

/// `,"devices":[…]`, when there are any.
fn write_devices(devices: &[(Device, State)], out: &mut Vec<u8>) {
    for (index, (device, state)) in devices.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#","devices":[{"device":"# } else { br#",{"device":"# });
        json::write_string(device.as_str(), out);
        out.extend_from_slice(format!(r#","state":"{}"}}"#, name(*state)).as_bytes());
    }
    if !devices.is_empty() {
        out.push(b']');
    }
}

/// `,"state":…` and the devices of one who is there.
pub(crate) fn write_presence(status: &Status, out: &mut Vec<u8>) {
    if status.state != State::Offline {
        out.extend_from_slice(format!(r#","state":"{}""#, name(status.state)).as_bytes());
        write_devices(&status.devices, out);
    }
}
