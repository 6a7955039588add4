//! `read` and `delivered`: how far one is in a channel, on all of one's devices.

use xpush_core::ports::markers::{Advanced, Mark};
use xpush_core::{Action, ChannelKey, Code, Problem, Rule};

use super::fields::bad;
use super::{Outcome, Request};
use crate::dialect::object;
use crate::fanout::inbox::Inbox;
use crate::fanout::receipts::Marked;
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, request: &Request<'_>, mark: Mark) -> Result<Outcome, Problem> {
    let seq = request.fields.number("seq")?.ok_or_else(|| bad("seq", "the newest message's"))?;
    let (channel, rule) = request.place(Action::Subscribe)?;
    has_markers(&rule)?;
    let by = request.handle;
    let asked = shard.ask_store(by, request.asked);
    let user = request.identity.sender().user.clone();
    // By way of the channel's home: it tells the others.
    let mailbox = shard.node.mailbox(shard.node.home_of(&channel)).clone();
    let (key, whose) = (channel.clone(), user.clone());
    let done = Box::new(move |result| {
        mailbox.post(Inbox::Marked(Box::new(Marked { channel, rule, user, by, asked, mark, result })));
    });
    shard.node.ledger().advance(&key, &whose, mark, seq, done);
    Ok(Outcome::Later)
}

/// Only durable channels have markers.
fn has_markers(rule: &Rule) -> Result<(), Problem> {
    if rule.history.is_durable() {
        return Ok(());
    }
    Err(Problem::new(Code::NoHistory, "only channels with durable history have markers"))
}

/// The object of `ok`.
pub(crate) fn answer(channel: &ChannelKey, advanced: &Advanced) -> String {
    let mut out = object::of_channel(&channel.name);
    out.push(b',');
    object::write_marker(advanced.marker, advanced.unread, &mut out);
    out.push(b'}');
    object::text(out)
}
