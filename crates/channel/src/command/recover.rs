//! To follow a channel again that a broken connection followed. The server does it for a client that recovers ([`crate::session::recovery`]), by the same way as
//! `subscribe`: the permission is found out anew.

use xpush_core::Problem;

use super::{Outcome, Request, subscribe};
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    if let Some(session) = shard.sessions.get(request.handle) {
        // What ACCESS was asked for is answered, and nothing else runs yet.
        session.await_return(true);
    }
    subscribe::run(shard, request)
}
