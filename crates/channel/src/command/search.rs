//! `search`: messages that hold some words, in one channel or in all of one's own.

use xpush_core::ports::backend::{SearchBy, Searching};
use xpush_core::{Action, Problem};

use super::fields::bad;
use super::{Outcome, Request};
use crate::fanout::inbox::{Inbox, Reply};
use crate::search;
use crate::shard::Shard;

const DEFAULT_PAGE: u64 = 20;
const LARGEST_PAGE: u64 = 100;

pub(crate) fn run(shard: &mut Shard, request: &Request<'_>) -> Result<Outcome, Problem> {
    let fields = &request.fields;
    let by = match &request.place {
        Some(_) => SearchBy::Permitted(request.place(Action::History)?.0),
        None => SearchBy::User(request.identity.grant.clone()),
    };
    let limit = fields.number("limit")?.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(bad("limit", "1 to 100"));
    }
    let before = fields.text("before")?.map(|before| before.parse()).transpose();
    let asked = Searching {
        query: fields.text("query")?.ok_or_else(|| bad("query", "what to look for"))?.into(),
        channel: None,
        before: before.map_err(|_| bad("before", "what the last page gave"))?,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let (to, mailbox) = (request.handle, shard.mailbox());
    let waits = shard.ask_store(to, request.asked);
    let done = Box::new(move |result: Result<String, Problem>| {
        let reply = result.map_or_else(Reply::Failed, Reply::Body);
        mailbox.post(Inbox::Reply { to, asked: waits, reply });
    });
    search::search(&shard.node, by, &asked, done);
    Ok(Outcome::Later)
}
