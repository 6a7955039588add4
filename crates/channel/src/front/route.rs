//! Which request goes where.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tower::ServiceExt;
use xpush_core::{Code, Problem};
use xpush_wire::query;

use super::origin::Page;
use super::relay::Sender;
use super::{TakeOver, Verdict, address, engineio, events, handshake, origin};
use crate::dialect::{Wire, object};
use crate::fanout::inbox::Inbox;
use crate::front::address::Permit;
use crate::node::Shared;
use crate::session::gate::Opening;
use crate::transport::io::Io;
use crate::transport::{By, Open};

/// A request that a channel server may answer, with what was found out about it.
pub(super) struct Asking {
    pub(super) request: Request<Incoming>,
    pub(super) peer: IpAddr,
    /// The origin to be allowed by CORS.
    pub(super) origin: Option<HeaderValue>,
    /// Not every app welcomes that.
    pub(super) by_app: bool,
    /// Another node has sent it here, or somebody says so.
    pub(super) relayed: bool,
}

impl Asking {
    /// What a new session keeps of the request: the query without the token, and beside it what is shown once.
    pub(super) fn first_words(&self) -> (Box<str>, Option<Opening>) {
        let bearer =
            (self.request.uri().path() != "/socket.io/").then(|| bearer(self.request.headers())).flatten();
        let (query, token) = without_token(self.request.uri().query().unwrap_or(""));
        let origin = self.origin.as_ref().filter(|_| self.by_app).and_then(|origin| origin.to_str().ok());
        let opening = Opening { token: bearer.or(token), origin: origin.map(Into::into) };
        (query, Some(opening).filter(|opening| !opening.is_empty()))
    }
}

pub(super) async fn route(
    shared: &Arc<Shared>,
    peer: IpAddr,
    request: Request<Incoming>,
    rest: Router,
) -> Verdict {
    let path = request.uri().path();
    let engine = path == "/socket.io/" || path == "/socket.io";
    let ours = engine || path == "/ws" || path == "/sse";
    let client = client(shared, peer, request.headers());
    if !ours {
        return Verdict::Respond(others(request, client, rest).await);
    }
    let sender = if engine { shared.relay.sender(&request) } else { Sender::Client };
    if let Sender::Node(address) = sender {
        // The node that has sent it here has judged the page, and tells it what CORS needs.
        let asking = Asking { request, peer: address, origin: None, by_app: false, relayed: true };
        return engineio::request(shared, asking).await;
    }
    let page = origin::judge(&shared.config.origins, &shared.access().apps(), request.headers());
    let Page { origin, by_app } = match page {
        Ok(page) => page,
        Err(code) => {
            advise_origin(shared, request.headers());
            if !engine {
                return refuse(shared, &code.into(), None);
            }
            shared.metrics.refused(code);
            return Verdict::Respond(engineio::refusal(code, None));
        }
    };
    let relayed = sender != Sender::Client;
    let asking = Asking { request, peer: client, origin, by_app, relayed };
    if engine {
        engineio::request(shared, asking).await
    } else if asking.request.uri().path() == "/ws" {
        plain(shared, asking).unwrap_or_else(|problem| refuse(shared, &problem, None))
    } else {
        let origin = asking.origin.clone();
        events::events(shared, asking)
            .await
            .unwrap_or_else(|problem| refuse(shared, &problem, origin.as_ref()))
    }
}

/// Which address a request comes from.
pub(super) fn client(shared: &Shared, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let client = address::client(peer, headers, &shared.config.trusted_proxies);
    if client.untrusted_proxy {
        advise_proxy(shared, peer);
    }
    client.address
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
    (query, opening): (Box<str>, Option<Opening>),
    permit: Permit,
    by: impl FnOnce(Io, Bytes) -> By + Send + 'static,
) -> TakeOver {
    let shared = shared.clone();
    Box::new(move |stream, early| {
        let open = Open { wire, query, opening, permit, by: by(stream, early) };
        shared.mailbox(shared.next_shard()).post(Inbox::Open(Box::new(open)));
    })
}

/// The pages and the REST API, which find the client's address among the request's extensions.
pub(super) async fn others<B>(mut request: Request<B>, client: IpAddr, rest: Router) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    request.extensions_mut().insert(client);
    match rest.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// `/ws`
fn plain(shared: &Arc<Shared>, asking: Asking) -> Result<Verdict, Problem> {
    let response = handshake::response(&asking.request)?;
    let permit = permit(shared, asking.peer)?;
    let by = move |stream, early| By::WebSocket { stream, early, response };
    Ok(Verdict::TakeOver(take_over(shared, Wire::Plain, asking.first_words(), permit, by)))
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// A query without its `token`, and that.
fn without_token(query: &str) -> (Box<str>, Option<Box<str>>) {
    let mut token = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match query::pairs(pair).next() {
            Some((name, value)) if name == "token" => token = Some(value.into()),
            _ => rest.push(pair),
        }
    }
    (rest.join("&").into(), token)
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
