//! `/sse`: who asks, and for what, is found out before the stream begins; what is refused is refused by HTTP status.

use std::sync::Arc;

use http::Method;
use tokio::sync::oneshot;
use xpush_core::access::{Actions, Decision};
use xpush_core::ports::access::Decided;
use xpush_core::ports::hooks::Ask;
use xpush_core::{Action, App, Channel, Code, Grant, Permission, Position, Problem};
use xpush_wire::query;

use super::route::{self, Asking};
use super::{Verdict, handshake};
use crate::command::place::{Place, decide};
use crate::dialect::Wire;
use crate::node::Shared;
use crate::session::admission::may_come_from;
use crate::session::identity::{Claims, Identity};
use crate::session::resume::Resumed;
use crate::transport::By;

/// Channels of one event stream.
const STREAM_CHANNELS: usize = 16;

pub(super) async fn events(shared: &Arc<Shared>, asking: Asking) -> Result<Verdict, Problem> {
    let request = &asking.request;
    if request.method() != Method::GET {
        return Err(Code::BadRequest.into());
    }
    let (query, opening) = asking.first_words();
    let names = query::pairs(&query).filter(|(name, _)| name == "channel").take(STREAM_CHANNELS + 1);
    let names = names.map(|(_, value)| Channel::new(&value)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(Problem::new(Code::BadField, "channel: at least one, as ?channel=NAME"));
    }
    if names.len() > STREAM_CHANNELS {
        return Err(Code::TooManyChannels.into());
    }
    let last = match request.headers().get("last-event-id") {
        Some(id) => Some(id.to_str().map_err(|_| Code::BadField)?.to_owned()),
        None => query::single(&query, "last_event_id").map_err(|_| Code::BadRequest)?.map(Into::into),
    };
    // A place is taken first: whoever has none need not be found out about.
    let permit = route::permit(shared, asking.peer)?;
    let mut claims = Claims::default();
    claims.read_query(&query);
    let (token, origin) = opening.map_or((None, None), |opening| (opening.token, opening.origin));
    claims.token = token.map(Into::into);
    let now = shared.clock().wall();
    let last = last.filter(|id| !id.is_empty());
    let resumes = last.is_some();
    let (identity, positions) = match last {
        Some(id) => {
            let Resumed { grant, positions } = shared.seal.read(&id, &names, now)?;
            (resumed(shared, &claims, grant).await?, positions)
        }
        None => (identity(shared, claims, &asking).await?, vec![None; names.len()]),
    };
    may_come_from(origin.as_deref(), &identity.app)?;
    let credential = shared.seal.credential(&identity.grant, &names, resumes);
    let mut channels: Vec<(Place, Option<Position>)> = Vec::new();
    for (name, position) in names.into_iter().zip(positions) {
        channels.push((place(shared, &identity, name).await?, position));
    }
    let response = handshake::stream_head(asking.origin.as_ref());
    let identity = Arc::new(identity);
    let by = move |stream, _| By::Events { stream, response, identity, channels, credential };
    Ok(Verdict::TakeOver(route::take_over(shared, Wire::Sse, (query, None), permit, by)))
}

async fn identity(shared: &Shared, claims: Claims, asking: &Asking) -> Result<Identity, Problem> {
    let apps = shared.access().apps();
    let asked = |app: &App| shared.hooks().asks(app, Ask::Connect, None);
    if claims.token.is_none() && !apps.find(claims.app.as_deref()).is_ok_and(|app| asked(&app.app)) {
        let identity = Identity::guest(&apps, &claims, &mut OsRandom)?;
        if claims.guest.is_some() {
            answer(|done| shared.access().readmit(&identity.grant, done)).await?;
        }
        return Ok(identity);
    }
    let credentials = claims.credentials(asking.peer);
    let grant = answer(|done| shared.access().admit(credentials, done)).await?;
    Identity::of(&apps, grant)
}

/// Who came by the id of an earlier stream: nothing of it may have been revoked since.
async fn resumed(shared: &Shared, claims: &Claims, grant: Grant) -> Result<Identity, Problem> {
    let apps = shared.access().apps();
    if apps.find(claims.app.as_deref()).is_ok_and(|app| app.app != grant.app) {
        return Err(Problem::new(Code::Forbidden, "Last-Event-ID: of another app"));
    }
    let identity = Identity::of(&apps, grant)?;
    if identity.grant.guest && !identity.app.guests {
        return Err(Code::Unauthenticated.into());
    }
    answer(|done| shared.access().readmit(&identity.grant, done)).await?;
    Ok(identity)
}

/// A channel, if its events may be followed.
async fn place(shared: &Shared, identity: &Identity, name: Channel) -> Result<Place, Problem> {
    let (key, rule) = identity.channel(name)?;
    let (permission, asked) = match decide(shared.hooks(), &identity.grant, &key, &rule) {
        Decision::Known(permission) => (permission, false),
        Decision::Ask(allowed) => {
            let found = answer(|done| shared.access().permit(&key, &identity.grant, None, done)).await;
            (union(found?, allowed), true)
        }
    };
    permission.check(Action::Subscribe)?;
    Ok(Place { key, rule, permission, asked })
}

fn union(permission: Permission, allowed: Actions) -> Permission {
    Permission { actions: permission.actions.and(allowed), ..permission }
}

/// What a port answers.
async fn answer<T: Send + 'static>(ask: impl FnOnce(Decided<T>)) -> Result<T, Problem> {
    let (sender, receiver) = oneshot::channel();
    ask(Box::new(move |result| {
        // Whoever has gone does not hear it.
        let _ = sender.send(result);
    }));
    receiver.await.unwrap_or_else(|_| Err(Code::Unavailable.into()))
}

/// The operating system's randomness: the front has no shard's source at hand.
struct OsRandom;

impl xpush_core::Entropy for OsRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            tracing::error!(%error, "no randomness");
            std::process::abort();
        }
    }
}
