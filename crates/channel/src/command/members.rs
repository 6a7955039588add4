//! `members`: who belongs to a channel, and who shall.

use std::borrow::Cow;
use std::sync::Arc;

use xpush_core::ports::access::{Enrolment, MemberOf};
use xpush_core::{Action, ChannelKey, Code, Problem, Role, User};
use xpush_wire::json;

use super::fields::{Fields, bad};
use super::{Asked, Outcome, Request};
use crate::dialect::object;
use crate::fanout::inbox::{Handle, Inbox, Reply};
use crate::shard::Shard;

/// Members that an answer lists.
const LISTED: usize = 1_000;
/// Users that one command may name.
const CHANGED: usize = 100;

/// ACCESS has changed a channel's members.
pub(crate) struct Enrolled {
    to: Handle,
    asked: Asked,
    channel: ChannelKey,
    result: Result<(), Problem>,
}

pub(crate) fn run(shard: &mut Shard, request: &Request<'_>) -> Result<Outcome, Problem> {
    let change = Enrolment {
        add: users(&request.fields, "add")?,
        remove: users(&request.fields, "remove")?,
        role: role(&request.fields)?,
    };
    let changes = !change.add.is_empty() || !change.remove.is_empty();
    if !changes {
        request.place(Action::Subscribe)?;
    }
    let place = request.somewhere()?;
    let (channel, rule) = (place.key.clone(), place.rule.clone());
    if !rule.has_members() {
        return Err(Problem::new(Code::BadRequest, "this channel's rule names no members"));
    }
    let (to, asked) = (request.handle, request.asked);
    if !changes {
        list(shard, to, asked, channel);
        return Ok(Outcome::Later);
    }
    let (mailbox, key) = (shard.mailbox(), channel.clone());
    let done = Box::new(move |result| {
        mailbox.post(Inbox::Enrolled(Box::new(Enrolled { to, asked, channel, result })));
    });
    let may_invite = request.may(Action::Invite);
    shard.node.access().enrol(&key, &request.identity.grant, may_invite, change, done);
    Ok(Outcome::Later)
}

/// The change is made: the list as it is now.
pub(crate) fn enrolled(shard: &mut Shard, enrolled: Enrolled) {
    let Enrolled { to, asked, channel, result } = enrolled;
    match result {
        Ok(()) => list(shard, to, asked, channel),
        Err(problem) => shard.fail(to, asked, &problem),
    }
}

fn list(shard: &Shard, to: Handle, asked: Asked, channel: ChannelKey) {
    let (mailbox, key) = (shard.mailbox(), channel.clone());
    let done = Box::new(move |result: Result<Arc<[MemberOf]>, Problem>| {
        let reply = match result {
            Ok(members) => Reply::Body(answer(&channel, &members)),
            Err(problem) => Reply::Failed(problem),
        };
        mailbox.post(Inbox::Reply { to, asked, reply });
    });
    shard.node.access().members(&key, false, done);
}

fn answer(channel: &ChannelKey, members: &[MemberOf]) -> String {
    let mut out = object::of_channel(&channel.name);
    out.extend_from_slice(br#","members":["#);
    for (index, member) in members.iter().take(LISTED).enumerate() {
        out.extend_from_slice(if index == 0 { br#"{"user":"# } else { br#",{"user":"# });
        json::write_string(member.user.as_str(), &mut out);
        if let Some(role) = &member.role {
            out.extend_from_slice(br#","role":"#);
            json::write_string(role.as_str(), &mut out);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    object::text(out)
}

/// A list of users.
pub(super) fn users(fields: &Fields<'_>, name: &str) -> Result<Vec<User>, Problem> {
    let wanted = || bad(name, "a list of at most 100 users");
    let Some(list) = fields.get(name) else { return Ok(Vec::new()) };
    let items = json::elements(list).ok_or_else(wanted)?;
    let user = |item: &str| {
        let id: Cow<'_, str> = json::string(item).ok_or_else(wanted)?;
        User::new(&id).map_err(|_| wanted())
    };
    let users = items.take(CHANGED + 1).map(user).collect::<Result<Vec<_>, _>>()?;
    if users.len() > CHANGED { Err(wanted()) } else { Ok(users) }
}

fn role(fields: &Fields<'_>) -> Result<Option<Role>, Problem> {
    let role = fields.text("role")?.map(|role| Role::new(&role)).transpose();
    role.map_err(|_| bad("role", "1 to 32 of a-z A-Z 0-9 - _"))
}
