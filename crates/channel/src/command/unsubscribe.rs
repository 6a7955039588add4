//! `unsubscribe`: to follow a channel no more. What was delivered before still arrives.

use xpush_core::Problem;
use xpush_wire::json;

use super::{Outcome, Request};
use crate::dialect::object;
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    let key = request.somewhere()?.key.clone();
    let topic = shard.topics.find(&key);
    if let Some(session) = shard.sessions.get(request.handle)
        && let Some(index) = session
            .subscriptions
            .iter()
            .position(|one| Some(one.topic) == topic && one.namespace == request.asked.namespace)
    {
        let subscription = session.subscriptions.remove(index);
        shard.end_subscription(request.handle, subscription);
    }
    shard.end_plain(request.handle, &key);
    let mut body = br#"{"channel":"#.to_vec();
    json::write_string(key.name.as_str(), &mut body);
    body.push(b'}');
    Ok(Outcome::Now(object::text(body)))
}
