//! `channels`: the conversations that one is in.

use xpush_core::ports::PortError;
use xpush_core::ports::markers::{After, Conversation};
use xpush_core::{Channel, Problem};

use super::fields::bad;
use super::{Outcome, Request};
use crate::dialect::object;
use crate::fanout::inbox::{Inbox, Reply};
use crate::shard::Shard;

const DEFAULT_PAGE: u64 = 50;
const LARGEST_PAGE: u64 = 100;

pub(crate) fn run(shard: &mut Shard, request: &Request<'_>) -> Result<Outcome, Problem> {
    let limit = request.fields.number("limit")?.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(bad("limit", "1 to 100"));
    }
    let after = request.fields.text("after")?.map(|after| parse(&after)).transpose()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (to, mailbox) = (request.handle, shard.mailbox());
    let asked = shard.ask_store(to, request.asked);
    let done = Box::new(move |result: Result<Vec<Conversation>, PortError>| {
        let reply = match result {
            Ok(conversations) => Reply::Body(answer(&conversations, limit)),
            Err(error) => Reply::Failed(error.code().into()),
        };
        mailbox.post(Inbox::Reply { to, asked, reply });
    });
    let grant = &request.identity.grant;
    // One more than asked for shows whether there are more.
    shard.node.ledger().conversations(&grant.app, &grant.sender.user, after, limit + 1, done);
    Ok(Outcome::Later)
}

/// Where a page ended: `ACTIVE_AT:CHANNEL`.
pub(crate) fn parse(after: &str) -> Result<After, Problem> {
    let wanted = || bad("after", "what the last page gave");
    let (at, channel) = after.split_once(':').ok_or_else(wanted)?;
    Ok((at.parse().map_err(|_| wanted())?, Channel::new(channel).map_err(|_| wanted())?))
}

pub(crate) fn answer(conversations: &[Conversation], limit: usize) -> String {
    let page = &conversations[..conversations.len().min(limit)];
    let mut out = Vec::with_capacity(64 + 512 * page.len());
    out.extend_from_slice(br#"{"channels":["#);
    for (index, conversation) in page.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        object::write_conversation(conversation, &mut out);
    }
    out.push(b']');
    if let Some(last) = page.last().filter(|_| conversations.len() > limit) {
        out.extend_from_slice(br#","after":"#);
        xpush_wire::json::write_string(&format!("{}:{}", last.active_at, last.channel), &mut out);
    }
    out.push(b'}');
    object::text(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        assert_eq!(parse("12:chat:a"), Ok((12, Channel::new("chat:a").unwrap())));
        for bad in ["", "12", "x:chat", "12:", "-1:chat", "12:a b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
