//! `signal`: typing, cursors, ticks: to everybody who follows a channel now, and never stored.

use std::sync::Arc;

use xpush_core::message::Message;
use xpush_core::ports::bus::Signal;
use xpush_core::{Action, ClientId, Kind, Problem};
use xpush_wire::json;

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
    if ttl_ms.is_some_and(|ttl_ms| ttl_ms > LONGEST) {
        return Err(bad("ttl", "0 to 60000"));
    }
    let mut body = br#"{"channel":"#.to_vec();
    json::write_string(key.name.as_str(), &mut body);
    body.push(b'}');
    let home = shard.node.home_of(&key);
    let message = Message {
        kind: Kind::Message,
        revision: None,
        channel: key,
        position: None,
        // Nobody retries a signal, so none is told apart from another.
        id: ClientId::new("-").map_err(Problem::from)?,
        event,
        payload,
        from: request.identity.sender().clone(),
        at: shard.node.clock().wall(),
    };
    let echo = request.fields.flag("echo", false)?;
    let exclude = (!echo).then_some(request.handle);
    shard.post(home, Inbox::Signal { signal: Arc::new(Signal { message, ttl_ms }), exclude });
    Ok(Outcome::Now(object::text(body)))
}
