//! `signal`: typing, cursors, ticks: to everybody who follows a channel now, and never stored.

use std::sync::Arc;

use xpush_core::message::Message;
use xpush_core::{ClientId, Kind, Problem};
use xpush_wire::json;

use super::{Outcome, Request, publish};
use crate::dialect::object;
use crate::fanout::inbox::Inbox;
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, mut request: Request<'_>) -> Result<Outcome, Problem> {
    let (key, rule) = request.identity.channel(request.fields.channel()?)?;
    let event = publish::event(&request)?;
    let payload = publish::payload(&mut request)?;
    request.identity.may_publish(&rule)?;
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
    shard.post(home, Inbox::Signal { message: Arc::new(message), exclude });
    Ok(Outcome::Now(object::text(body)))
}
