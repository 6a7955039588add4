//! `presence`: who is in a channel at the moment.

use xpush_core::{Action, Code, Problem};

use super::{Outcome, Request};
use crate::fanout::inbox::{Inbox, Reply};
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
    let done = Box::new(move |result: Result<_, xpush_core::ports::PortError>| {
        let reply = match result {
            Ok(roster) => Reply::Roster(channel, Box::new(roster)),
            Err(error) => Reply::Failed(error.code().into()),
        };
        mailbox.post(Inbox::Reply { to, asked, reply });
    });
    shard.node.presence().list(&key, ROSTER, done);
    Ok(Outcome::Later)
}
