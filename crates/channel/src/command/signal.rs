//! `signal`: typing, cursors, ticks: to everybody who follows a channel now, and never stored.

use std::sync::Arc;

use xpush_core::message::Message;
use xpush_core::ports::bus::Signal;
use xpush_core::{
    Action, Channel, ChannelKey, ClientId, EventName, Kind, Payload, Problem, Sender, UnixMillis,
};

use super::fields::bad;
use super::{Outcome, Request, publish};
use crate::dialect::object;
use crate::fanout::inbox::Inbox;
use crate::shard::Shard;

/// What a signal tells may hold so long, in ms.
const LONGEST: u64 = 60_000;

pub(crate) fn run(shard: &mut Shard, mut request: Request<'_>) -> Result<Outcome, Problem> {
    let (key, _) = request.place(Action::Publish)?;
    let event = publish::event(&request)?;
    let payload = publish::payload(&mut request)?;
    publish::clients_write(&key.name)?;
    let ttl_ms = request.fields.number("ttl")?;
    check_ttl(ttl_ms)?;
    let body = answer(&key.name);
    let home = shard.node.home_of(&key);
    let (from, at) = (request.identity.sender().clone(), shard.node.clock().wall());
    let message = message(key, event, payload, from, at)?;
    let echo = request.fields.flag("echo", false)?;
    let exclude = (!echo).then_some(request.handle);
    shard.post(home, Inbox::Signal { signal: Arc::new(Signal { message, ttl_ms }), exclude });
    Ok(Outcome::Now(body))
}

/// How long what a signal tells may hold.
pub(crate) fn check_ttl(ttl_ms: Option<u64>) -> Result<(), Problem> {
    if ttl_ms.is_some_and(|ttl_ms| ttl_ms > LONGEST) {
        return Err(bad("ttl", "0 to 60000"));
    }
    Ok(())
}

/// What a signal carries: a message without position and id.
pub(crate) fn message(
    channel: ChannelKey,
    event: EventName,
    payload: Payload,
    from: Sender,
    at: UnixMillis,
) -> Result<Message, Problem> {
    // Nobody retries a signal, so none is told apart from another.
    let id = ClientId::new("-").map_err(Problem::from)?;
    Ok(Message { kind: Kind::Message, revision: None, channel, position: None, id, event, payload, from, at })
}

/// The object of `ok`.
pub(crate) fn answer(channel: &Channel) -> String {
    let mut body = object::of_channel(channel);
    body.push(b'}');
    object::text(body)
}
