//! `history`: a page of what was said.

use xpush_core::ports::message_log::Range;
use xpush_core::{Action, Code, History, Problem};

use super::fields::bad;
use super::{Outcome, Request};
use crate::fanout::inbox::{Inbox, Reply};
use crate::shard::Shard;

const DEFAULT_PAGE: u64 = 50;
const LARGEST_PAGE: u64 = 100;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    let fields = &request.fields;
    let (key, rule) = request.place(Action::History)?;
    let range = match (fields.number("before")?, fields.number("after")?) {
        (Some(_), Some(_)) => return Err(bad("before", "not together with after")),
        (Some(before), None) => Range::Before(before),
        (None, Some(after)) => Range::After(after),
        (None, None) => Range::Newest,
    };
    let limit = fields.number("limit")?.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(bad("limit", "1 to 100"));
    }
    if rule.history == History::None {
        return Err(Code::NoHistory.into());
    }
    let (to, mailbox, channel) = (request.handle, shard.mailbox(), key.clone());
    let asked = shard.ask_store(to, request.asked);
    let done = Box::new(move |result: Result<_, xpush_core::ports::PortError>| {
        let reply = match result {
            Ok(page) => Reply::History(channel, Box::new(page)),
            Err(error) => Reply::Failed(error.code().into()),
        };
        mailbox.post(Inbox::Reply { to, asked, reply });
    });
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    shard.node.log(&rule.history).read(&key, range, limit, done);
    Ok(Outcome::Later)
}
