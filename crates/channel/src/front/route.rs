//! Which request goes where.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tower::ServiceExt;
use xpush_core::{Channel, Code, Problem};
use xpush_wire::query;

use super::{TakeOver, Verdict, address, engineio, handshake, origin};
use crate::dialect::{Wire, object};
use crate::fanout::inbox::Inbox;
use crate::front::address::Permit;
use crate::node::Shared;
use crate::session::Stream;
use crate::session::identity::{Claims, Identity};
use crate::transport::io::Io;
use crate::transport::{By, Open};

/// Channels of one event stream.
const STREAM_CHANNELS: usize = 16;

/// A request that a channel server may answer, with what was found out about it.
pub(super) struct Asking {
    pub(super) request: Request<Incoming>,
    pub(super) peer: IpAddr,
    /// The origin to be allowed by CORS.
    pub(super) origin: Option<HeaderValue>,
}

pub(super) async fn route(
    shared: &Arc<Shared>,
    peer: IpAddr,
    request: Request<Incoming>,
    rest: Router,
) -> Verdict {
    let path = request.uri().path();
    let engine = path == "/socket.io/" || path == "/socket.io";
    if !engine && path != "/ws" && path != "/sse" {
        return Verdict::Respond(others(request, rest).await);
    }
    let client = address::client(peer, request.headers(), &shared.config.trusted_proxies);
    if client.untrusted_proxy {
        advise_proxy(shared, peer);
    }
    let origin = match origin::judge(&shared.config.origins, request.headers()) {
        Ok(origin) => origin,
        Err(code) => {
            advise_origin(shared, request.headers());
            if !engine {
                return refuse(shared, &code.into(), None);
            }
            shared.metrics.refused(code);
            return Verdict::Respond(engineio::refusal(code, None));
        }
    };
    let asking = Asking { request, peer: client.address, origin };
    if engine {
        engineio::request(shared, asking).await
    } else if asking.request.uri().path() == "/ws" {
        plain(shared, asking).unwrap_or_else(|problem| refuse(shared, &problem, None))
    } else {
        let origin = asking.origin.clone();
        events(shared, asking).unwrap_or_else(|problem| refuse(shared, &problem, origin.as_ref()))
    }
}

fn advise_proxy(shared: &Shared, peer: IpAddr) {
    let line = format!("trusted_proxies = [\"{peer}\"]");
    if shared.advice.is_new(&line) {
        tracing::warn!(%peer, "X-Forwarded-For came from a peer that is not trusted; if it is your proxy, add to the configuration: {line}");
    }
}

fn advise_origin(shared: &Shared, headers: &HeaderMap) {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or("?");
    let line = format!("allowed_origins = [{origin:?}]");
    if shared.advice.is_new(&line) {
        tracing::warn!(
            origin,
            "a page of this origin may not connect; if it is yours, add to the configuration: {line}"
        );
    }
}

/// A place for a new connection.
pub(super) fn permit(shared: &Shared, peer: IpAddr) -> Result<Permit, Code> {
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Code::Draining);
    }
    shared.addresses.admit(peer, &shared.config.limits)
}

/// Hands a raw stream to a shard as a new client.
pub(super) fn take_over(
    shared: &Arc<Shared>,
    wire: Wire,
    query: &str,
    permit: Permit,
    by: impl FnOnce(Io, bytes::Bytes) -> By + Send + 'static,
) -> TakeOver {
    let (shared, query) = (shared.clone(), Box::from(query));
    Box::new(move |stream, early| {
        let open = Open { wire, query, permit, by: by(stream, early) };
        shared.mailbox(shared.next_shard()).post(Inbox::Open(Box::new(open)));
    })
}

/// The pages and the REST API.
async fn others(request: Request<Incoming>, rest: Router) -> Response<Body> {
    match rest.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// `/ws`
fn plain(shared: &Arc<Shared>, asking: Asking) -> Result<Verdict, Problem> {
    let response = handshake::response(&asking.request)?;
    let permit = permit(shared, asking.peer)?;
    let query = asking.request.uri().query().unwrap_or("");
    let by = move |stream, early| By::WebSocket { stream, early, response };
    Ok(Verdict::TakeOver(take_over(shared, Wire::Plain, query, permit, by)))
}

/// `/sse`
fn events(shared: &Arc<Shared>, asking: Asking) -> Result<Verdict, Problem> {
    let request = &asking.request;
    if request.method() != Method::GET {
        return Err(Code::BadRequest.into());
    }
    let query = request.uri().query().unwrap_or("");
    let mut claims = Claims::default();
    claims.read_query(query);
    let identity = Identity::admit(&shared.access().apps(), &claims, &mut OsRandom)?;
    let names = query::pairs(query).filter(|(name, _)| name == "channel").take(STREAM_CHANNELS + 1);
    let names = names.map(|(_, value)| Channel::new(&value)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(Problem::new(Code::BadField, "channel: at least one, as ?channel=NAME"));
    }
    if names.len() > STREAM_CHANNELS {
        return Err(Code::TooManyChannels.into());
    }
    for name in &names {
        identity.channel(name.clone())?;
    }
    let last = match request.headers().get("last-event-id") {
        Some(id) => Some(id.to_str().map_err(|_| Code::BadField)?.to_owned()),
        None => query::single(query, "last_event_id").map_err(|_| Code::BadRequest)?.map(Into::into),
    };
    let positions = match last.filter(|id| !id.is_empty()) {
        Some(id) => Stream::parse_id(&id, names.len())
            .map_err(|code| Problem::new(code, "Last-Event-ID: not one of this stream's"))?,
        None => vec![None; names.len()],
    };
    let permit = permit(shared, asking.peer)?;
    let response = handshake::stream_head(asking.origin.as_ref());
    let channels = names.into_iter().zip(positions).collect();
    let identity = Arc::new(identity);
    let by = move |stream, _| By::Events { stream, response, identity, channels };
    Ok(Verdict::TakeOver(take_over(shared, Wire::Sse, query, permit, by)))
}

/// An error as HTTP tells it: on `/ws` and `/sse`.
fn refuse(shared: &Shared, problem: &Problem, origin: Option<&HeaderValue>) -> Verdict {
    shared.metrics.refused(problem.code);
    let body = format!("{{\"error\":{}}}", object::error(problem));
    let mut response =
        json(StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::BAD_REQUEST), body);
    origin::allow(origin, response.headers_mut());
    Verdict::Respond(response)
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
