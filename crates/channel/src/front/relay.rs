//! Requests of sessions that live on another node: a balancer that sends each request where it likes is served all the same.
//!
//! A polling request is asked once more of the node that its sid names, and answered with what that answers; an upgrade probe becomes a tunnel of raw bytes. What
//! goes along says for whom it is (`x-xpush-relay: ADDRESS;MAC`), signed with the cluster's secret, so that nobody else can say it. The signature holds for this
//! method, path and query only, and those have the session's own secret in them: a replay gives no more than the sid does, so no clock is needed.
//!
//! Architecture invariant: a request with that header, whoever made it, is never relayed again. So there are no loops.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, Uri, header};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tower::ServiceExt;
use xpush_core::Code;

use super::address::Permit;
use super::route::{self, Asking};
use super::tls::PeerTrust;
use super::{Verdict, handshake};
use crate::cluster::peers::Peer;
use crate::node::Shared;
use crate::session::sid::Sid;

const RELAYED: HeaderName = HeaderName::from_static("x-xpush-relay");
/// Requests and tunnels under way at once: each holds a socket here, and one on the other node.
const UNDER_WAY: usize = 16_384;
/// To a node of the same cluster.
const CONNECT: Duration = Duration::from_secs(2);
/// For an answer beyond what the request itself may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Idle connections to one node, and for how long they are kept.
const IDLE: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Between two tunnels that end because this node does, in ms.
const PACE_MS: u64 = 2;
/// What is left of a tunnel when one of its sides has ended.
const LINGER: Duration = Duration::from_secs(5);

/// Asks other nodes.
pub(crate) struct Relay {
    key: hmac::Key,
    connector: HttpsConnector<HttpConnector>,
    client: Client<HttpsConnector<HttpConnector>, Body>,
    under_way: Arc<Semaphore>,
    /// Every tunnel has a clone.
    tunnels: Arc<()>,
    numbered: AtomicU64,
    /// Once this node drains: for how many ms tunnels may still last.
    ending: watch::Sender<Option<u64>>,
}

/// Whether another node has sent a request on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// It comes from a client, or from a proxy.
    Client,
    /// It comes from a node, for the client of this address.
    Node(IpAddr),
    /// Somebody says so, and it is not true.
    Pretender,
}

/// A probing WebSocket, and the way to its session.
pub(super) struct Tunnel {
    shared: Arc<Shared>,
    node: u32,
    peer: TokioIo<Upgraded>,
    /// The client's `101`.
    response: Bytes,
    number: u64,
    _counted: Arc<()>,
    _permit: Permit,
    _place: OwnedSemaphorePermit,
}

impl Relay {
    /// `secret` is the cluster's, and `trust` is whom to believe that it is of the cluster.
    pub(crate) fn new(secret: &[u8], trust: &PeerTrust) -> Self {
        // A key of its own: nothing that is signed for another purpose is good here.
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"relay between nodes");
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = trust.connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE)
            .build(connector.clone());
        let key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Self {
            key,
            connector,
            client,
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            tunnels: Arc::default(),
            numbered: AtomicU64::new(0),
            ending: watch::Sender::new(None),
        }
    }

    /// This node drains: its tunnels end one after the other within so many ms. Their clients are other nodes', and connect to those anew.
    pub(crate) fn end_tunnels(&self, within_ms: u64) {
        self.ending.send_replace(Some(within_ms));
    }

    /// WebSockets that are carried to other nodes.
    pub(crate) fn tunnels(&self) -> usize {
        Arc::strong_count(&self.tunnels) - 1
    }

    fn count_tunnel(&self) -> (u64, Arc<()>) {
        (self.numbered.fetch_add(1, Ordering::Relaxed), self.tunnels.clone())
    }

    /// Waits for the turn of the tunnel of this number to end.
    async fn ends(&self, number: u64) {
        let mut ending = self.ending.subscribe();
        let within = ending.wait_for(Option::is_some).await.map_or(0, |within| within.unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(number * PACE_MS % within.max(1))).await;
    }

    /// Who sends a request of Engine.IO.
    pub(super) fn sender<B>(&self, request: &Request<B>) -> Sender {
        let mut values = request.headers().get_all(RELAYED).into_iter();
        let Some(value) = values.next() else { return Sender::Client };
        let proved = || {
            let (address, mac) = value.to_str().ok()?.split_once(';')?;
            let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
            let expected = self.sign(request.method(), request.uri(), address);
            constant_time::verify_slices_are_equal(expected.as_ref(), &mac).ok()?;
            address.parse().ok()
        };
        match proved() {
            Some(address) if values.next().is_none() => Sender::Node(address),
            _ => Sender::Pretender,
        }
    }

    fn sign(&self, method: &Method, uri: &Uri, address: &str) -> hmac::Tag {
        // None of these has a line break in it.
        let query = uri.query().unwrap_or("");
        hmac::sign(&self.key, format!("{method}\n{}\n{query}\n{address}", uri.path()).as_bytes())
    }

    /// What the other node is told: no more of the client's headers than it needs.
    fn request(&self, asking: &Asking, target: Uri, named: &[HeaderName]) -> http::request::Builder {
        let (method, uri) = (asking.request.method(), asking.request.uri());
        let address = asking.peer.to_string();
        let mac = URL_SAFE_NO_PAD.encode(self.sign(method, uri, &address).as_ref());
        let mut builder =
            Request::builder().method(method).uri(target).header(RELAYED, format!("{address};{mac}"));
        for name in named {
            if let Some(value) = asking.request.headers().get(name) {
                builder = builder.header(name, value);
            }
        }
        builder
    }
}

/// Sends a request on to the node where its session lives.
pub(super) async fn request(shared: &Arc<Shared>, asking: Asking, sid: Sid) -> Result<Verdict, Code> {
    let peer = shared.peers.peer(sid.node).ok_or(Code::UnknownSession)?;
    let place = shared.relay.under_way.clone().try_acquire_owned();
    let place = place.map_err(|_| Code::TooManyConnections)?;
    shared.metrics.relayed();
    let gone = gone(shared, sid.node);
    if handshake::is_upgrade(&asking.request) {
        let tunnel = tunnel(shared, &asking, sid.node, &peer, place);
        return tokio::select! {
            tunnel = tunnel => tunnel.map(|tunnel| Verdict::Tunnel(Box::new(tunnel))),
            () = gone => Err(Code::UnknownSession),
        };
    }
    tokio::select! {
        response = ask(shared, asking, &peer) => response.map(Verdict::Respond),
        () = gone => Err(Code::UnknownSession),
    }
}

/// Ends when a node is no longer among the living: what it was asked will not be answered.
async fn gone(shared: &Arc<Shared>, node: u32) {
    let mut changes = shared.peers.changes();
    while shared.peers.peer(node).is_some() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Whoever drops this closes the connection: so the session learns that its poll was given up.
async fn ask(shared: &Arc<Shared>, asking: Asking, peer: &Peer) -> Result<Response<Body>, Code> {
    let limits = &shared.config.limits;
    let target = target(peer, asking.request.uri()).ok_or(Code::UnknownSession)?;
    let builder = shared.relay.request(&asking, target, &[header::CONTENT_TYPE]);
    // A poll hangs until the next heartbeat; a body has its own time.
    let hangs = match *asking.request.method() {
        Method::GET => shared.config.heartbeat.interval_ms + shared.config.heartbeat.timeout_ms,
        _ => limits.handshake_ms,
    };
    let body = match *asking.request.method() {
        Method::POST if asking.request.body().size_hint().lower() > limits.payload as u64 => {
            return Err(Code::TooLarge);
        }
        Method::POST => Body::new(Limited::new(asking.request.into_body(), limits.payload)),
        _ => Body::empty(),
    };
    let request = builder.body(body).map_err(|_| Code::BadRequest)?;
    let answered = timeout(Duration::from_millis(hangs) + PATIENCE, shared.relay.client.request(request));
    match answered.await {
        Ok(Ok(answer)) => Ok(passed_on(answer)),
        Ok(Err(error)) if is_too_large(&error) => Err(Code::TooLarge),
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, %peer, "a node does not answer for its session");
            Err(Code::UnknownSession)
        }
        Err(_) => Err(Code::UnknownSession),
    }
}

/// The node's answer, with what of its headers is the client's affair. What CORS needs is added here.
fn passed_on(answer: Response<Incoming>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = head.status;
    for name in [header::CONTENT_TYPE, header::CACHE_CONTROL] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

async fn tunnel(
    shared: &Arc<Shared>,
    asking: &Asking,
    node: u32,
    to: &Peer,
    place: OwnedSemaphorePermit,
) -> Result<Tunnel, Code> {
    let response = handshake::response(&asking.request).map_err(|problem| problem.code)?;
    let permit = route::permit(shared, asking.peer)?;
    let opened = timeout(CONNECT + PATIENCE, open_tunnel(shared, asking, to)).await;
    match opened {
        Ok(Ok(peer)) => {
            let (number, _counted) = shared.relay.count_tunnel();
            let (shared, _permit, _place) = (shared.clone(), permit, place);
            Ok(Tunnel { shared, node, peer, response, number, _counted, _permit, _place })
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, %to, "a node does not take a probe of its session");
            Err(Code::UnknownSession)
        }
        Err(_) => Err(Code::UnknownSession),
    }
}

/// Asks for the WebSocket; the raw stream behind the node's `101`.
async fn open_tunnel(
    shared: &Arc<Shared>,
    asking: &Asking,
    to: &Peer,
) -> Result<TokioIo<Upgraded>, super::Failure> {
    let target = target(to, asking.request.uri()).ok_or("a request without a path")?;
    let stream = shared.relay.connector.clone().oneshot(target).await?;
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection.with_upgrades());
    let named =
        [header::UPGRADE, header::CONNECTION, header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION];
    let path = asking.request.uri().path_and_query().ok_or("a request without a path")?;
    let builder = shared.relay.request(asking, path.as_str().parse()?, &named);
    let request = builder.header(header::HOST, &*to.authority).body(Body::empty())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("it answers {}", answer.status()).into());
    }
    Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
}

impl Tunnel {
    /// Carries bytes both ways until one side ends, or the node is gone.
    pub(super) async fn run(self, client: impl AsyncRead + AsyncWrite, early: Bytes) -> io::Result<()> {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_node, mut to_node) = tokio::io::split(self.peer);
        to_client.write_all(&self.response).await?;
        to_node.write_all(&early).await?;
        let up = async {
            tokio::io::copy(&mut from_client, &mut to_node).await?;
            to_node.shutdown().await
        };
        let down = async {
            tokio::io::copy(&mut from_node, &mut to_client).await?;
            to_client.shutdown().await
        };
        let mut up = std::pin::pin!(up);
        let mut down = std::pin::pin!(down);
        // The other direction has a moment for what is under way.
        tokio::select! {
            ended = &mut up => ended.and(timeout(LINGER, down).await.unwrap_or(Ok(()))),
            ended = &mut down => ended.and(timeout(LINGER, up).await.unwrap_or(Ok(()))),
            () = gone(&self.shared, self.node) => Ok(()),
            () = self.shared.relay.ends(self.number) => Ok(()),
        }
    }
}

/// The same path and query at another node.
fn target(peer: &Peer, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query()?.clone();
    Uri::builder().scheme(peer.scheme()).authority(&*peer.authority).path_and_query(path).build().ok()
}

/// Whether sending failed because the client's body has more bytes than it may.
fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<LengthLimitError>())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TARGET: &str = "/socket.io/?EIO=4&transport=polling&sid=abc";

    fn asking(target: &str) -> Request<()> {
        Request::builder().uri(target).body(()).unwrap()
    }

    fn signed(relay: &Relay, address: &str) -> Request<()> {
        let mut request = asking(TARGET);
        let mac = relay.sign(request.method(), request.uri(), address);
        let value = format!("{address};{}", URL_SAFE_NO_PAD.encode(mac.as_ref()));
        request.headers_mut().insert(RELAYED, HeaderValue::from_str(&value).unwrap());
        request
    }

    #[test]
    fn only_nodes_with_the_secret_say_whose_a_request_is() {
        let (relay, stranger) =
            (Relay::new(&[1; 32], &PeerTrust::nobody()), Relay::new(&[2; 32], &PeerTrust::nobody()));
        assert_eq!(relay.sender(&asking(TARGET)), Sender::Client);
        let request = signed(&relay, "203.0.113.9");
        assert_eq!(relay.sender(&request), Sender::Node("203.0.113.9".parse().unwrap()));
        assert_eq!(stranger.sender(&request), Sender::Pretender);
        // For one method, one path, one query.
        let mut other = asking("/socket.io/?EIO=4&transport=polling&sid=abd");
        *other.headers_mut() = request.headers().clone();
        assert_eq!(relay.sender(&other), Sender::Pretender);
        let mut other = signed(&relay, "203.0.113.9");
        *other.method_mut() = Method::POST;
        assert_eq!(relay.sender(&other), Sender::Pretender);
        // Said twice is not said.
        let mut other = signed(&relay, "203.0.113.9");
        let value = other.headers()[RELAYED].clone();
        other.headers_mut().append(RELAYED, value);
        assert_eq!(relay.sender(&other), Sender::Pretender);
        // What no address is.
        assert_eq!(relay.sender(&signed(&relay, "example.com")), Sender::Pretender);
    }

    proptest! {
        #[test]
        fn nobody_guesses_what_nodes_say(value in "[ -~]{0,80}") {
            let mut request = asking(TARGET);
            request.headers_mut().insert(RELAYED, HeaderValue::from_str(&value).unwrap());
            prop_assert_eq!(Relay::new(&[1; 32], &PeerTrust::nobody()).sender(&request), Sender::Pretender);
        }
    }
}
