//! `refresh`: a new token in place of the one that expires.

use xpush_core::Problem;
use xpush_core::ports::access::Credentials;

use super::fields::bad;
use super::{Outcome, Request};
use crate::fanout::inbox::{Inbox, Reply};
use crate::shard::Shard;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    let token = request.fields.text("token")?.ok_or_else(|| bad("token", "a connection token"))?;
    let (to, asked, mailbox) = (request.handle, request.asked, shard.mailbox());
    let address = shard.sessions.get(to).map(|session| session.permit.address());
    let grant = &request.identity.grant;
    let credentials = Credentials {
        app: Some(grant.app.as_str().to_owned()),
        token: Some(token.into_owned()),
        device: grant.device.as_ref().map(|device| device.as_str().to_owned()),
        address,
        ..Credentials::default()
    };
    let done = Box::new(move |result: Result<_, Problem>| {
        let reply = result.map_or_else(Reply::Failed, |grant| Reply::Renewed(Box::new(grant)));
        mailbox.post(Inbox::Reply { to, asked, reply });
    });
    shard.node.access().admit(credentials, done);
    Ok(Outcome::Later)
}
