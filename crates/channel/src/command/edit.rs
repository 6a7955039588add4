//! `edit`: new data for a message.

use xpush_core::ports::message_log::Draft;
use xpush_core::{Action, Code, EventName, History, Kind, Payload, Problem};

use super::fields::bad;
use super::{Outcome, Request, publish};
use crate::fanout::inbox::{Publication, Publisher};
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, mut request: Request<'_>) -> Result<Outcome, Problem> {
    let target = target(&request)?;
    if request.fields.raw("data").is_none() {
        return Err(bad("data", "any JSON value"));
    }
    let payload = publish::payload(&mut request)?;
    change(shard, &request, Kind::Edit { target }, "edit", payload)
}

/// The seq of the message that is to be changed.
pub(super) fn target(request: &Request<'_>) -> Result<u64, Problem> {
    request.fields.number("seq")?.ok_or_else(|| bad("seq", "the message's"))
}

/// An edit or a deletion takes a place like any publication; whose message it is, and whether it is still there, the log finds out.
pub(super) fn change(
    shard: &mut Shard,
    request: &Request<'_>,
    kind: Kind,
    event: &str,
    payload: Payload,
) -> Result<Outcome, Problem> {
    let moderates = request.may(Action::Moderate);
    let (key, rule) = request.place(if moderates { Action::Moderate } else { Action::Publish })?;
    publish::clients_write(&key.name)?;
    if rule.history == History::None {
        return Err(Code::NoHistory.into());
    }
    let id = publish::client_id(shard, request)?;
    let draft = Draft {
        kind,
        moderates,
        id,
        event: EventName::new(event).map_err(Problem::from)?,
        payload,
        from: request.identity.sender().clone(),
        at: shard.node.clock().wall(),
    };
    let (by, arrived) = (Publisher::Session(request.handle, request.asked), shard.now);
    let publication = Publication { channel: key, rule, draft, by, echo: true, params: None, arrived };
    shard.publish(&request.identity.grant, publication);
    Ok(Outcome::Later)
}
