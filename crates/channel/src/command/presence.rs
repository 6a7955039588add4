//! `presence`: who is in a channel at the moment, and, for those who may see it, in which state and on which devices.

use xpush_core::ports::PortError;
use xpush_core::ports::presence::Roster;
use xpush_core::{Action, Channel, Code, Problem};

use super::place::unasked;
use super::{Outcome, Request};
use crate::fanout::inbox::{Inbox, Reply};
use crate::session::online;
use crate::shard::Shard;

/// Users listed by name; the count tells of all.
pub(crate) const ROSTER: usize = 100;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    let (key, rule) = request.place(Action::Presence)?;
    if !rule.presence {
        return Err(Code::NoPresence.into());
    }
    let (to, mailbox, channel) = (request.handle, shard.mailbox(), key.clone());
    let asked = shard.ask_store(to, request.asked);
    let reply = move |reply| mailbox.post(Inbox::Reply { to, asked, reply });
    let node = sees_statuses(&request).then(|| shard.node.clone());
    let done = Box::new(move |result: Result<Roster, PortError>| {
        let roster = match result {
            Ok(roster) => Box::new(roster),
            Err(error) => return reply(Reply::Failed(error.code().into())),
        };
        let Some(node) = node.filter(|_| !roster.members.is_empty()) else {
            return reply(Reply::Roster(channel, roster, Vec::new()));
        };
        let users = roster.members.iter().map(|member| member.user.clone()).collect();
        let app = channel.app.clone();
        // Who is there is known, even when it is not known how they are.
        let told = move |statuses: Result<_, PortError>| {
            reply(Reply::Roster(channel, roster, statuses.unwrap_or_default()));
        };
        node.online().status(&app, users, Box::new(told));
    });
    shard.node.presence().list(&key, ROSTER, done);
    Ok(Outcome::Later)
}

/// Whether one may see how others are, as far as that can be said without asking.
fn sees_statuses(request: &Request<'_>) -> bool {
    let place = Channel::new(online::CHANNEL).map_err(Problem::from);
    let place = place.and_then(|name| request.identity.channel(name));
    let permission = place.map(|(key, rule)| unasked(&request.identity, &key, &rule));
    permission.is_ok_and(|permission| permission.check(Action::Presence).is_ok())
}
