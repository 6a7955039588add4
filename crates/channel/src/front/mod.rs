//! The HTTP front: accepts, lets hyper read requests, and takes the raw stream over for WebSocket and SSE.
//!
//! A taken-over connection costs nothing here any more: hyper never answers such a request, its buffers are dropped, and the stream goes to a shard, which writes the answer itself.

pub(crate) mod address;
pub(crate) mod advice;
pub(crate) mod api;
mod early;
mod engineio;
mod events;
mod handshake;
pub(crate) mod origin;
mod paced;
pub(crate) mod relay;
mod route;
pub(crate) mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use xpush_core::Code;

use crate::front::api::Api;
use crate::front::early::Early;
use crate::front::paced::Paced;
use crate::front::relay::Tunnel;
use crate::front::tls::Tls;
use crate::node::{Node, Shared};
use crate::transport::api::is_for_shards;
use crate::transport::io::Io;

/// The kernel's send buffer of a connection: what a slow reader holds here is not seen by the outbox's bounds.
const SEND_BUFFER: usize = 128 * 1024;
/// After `accept` fails for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes by which it is seen whose a connection is: those of a usual request's head.
const EARLY: usize = 1_024;

/// What a request comes to.
enum Verdict {
    Respond(http::Response<Body>),
    /// The raw stream goes to a shard.
    TakeOver(TakeOver),
    /// The raw stream goes to another node.
    Tunnel(Box<Tunnel>),
}

/// What is to be done with a raw stream and the bytes that came behind the request.
type TakeOver = Box<dyn FnOnce(Io, Bytes) + Send>;

/// Why a connection ended early: only the log is told.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Node {
    /// Serves a listener until it is dropped, also while the node drains: then new sessions are refused, and those that poll get their last packets.
    /// With `tls`, nothing else is spoken. Requests that are not for a channel server go to `rest`.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Tls>,
        rest: Router,
    ) -> io::Result<()> {
        // Every connection inherits these.
        let socket = socket2::SockRef::from(&listener);
        socket.set_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        let api = Arc::new(Api::new(self.shared.clone(), rest.clone()));
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (shared, tls, rest, api) =
                        (self.shared.clone(), tls.clone(), rest.clone(), api.clone());
                    tokio::spawn(async move {
                        let served = match tls {
                            Some(tls) => secure(shared, stream, tls, peer, rest).await,
                            None => plain(shared, stream, peer, rest, api).await,
                        };
                        if let Err(error) = served {
                            tracing::debug!(%error, "connection failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One TCP connection: an app's back end's is a shard's, the others are hyper's as long as they speak HTTP.
async fn plain(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    peer: SocketAddr,
    rest: Router,
    api: Arc<Api>,
) -> Result<(), Failure> {
    let mut early = Vec::with_capacity(EARLY);
    let within = Duration::from_millis(shared.config.limits.handshake_ms);
    let Ok(read) = tokio::time::timeout(within, stream.read_buf(&mut early)).await else { return Ok(()) };
    if read? == 0 {
        return Ok(());
    }
    if shared.intake().is_some() && is_for_shards(&early) {
        api.hand_over(stream, peer, early)?;
        return Ok(());
    }
    speak_http(shared, Early::new(stream, early), false, peer, rest, Early::into_io).await
}

/// One TCP connection that speaks TLS.
async fn secure(
    shared: Arc<Shared>,
    stream: TcpStream,
    tls: Tls,
    peer: SocketAddr,
    rest: Router,
) -> Result<(), Failure> {
    let within = Duration::from_millis(shared.config.limits.handshake_ms);
    let Ok(stream) = tokio::time::timeout(within, tls.accept(stream)).await else {
        shared.metrics.refused(Code::HandshakeTimeout);
        return Ok(());
    };
    let into_io = |stream: TlsStream<TcpStream>| {
        let (stream, session) = stream.into_inner();
        Ok((Io::tls(stream.into_std()?, session), Bytes::new()))
    };
    speak_http(shared, stream?, true, peer, rest, into_io).await
}

/// Lets hyper answer what comes by `stream`, until it ends or is taken over. `into_io` tells what is to be read before it, too.
async fn speak_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: Arc<Shared>,
    stream: S,
    secure: bool,
    peer: SocketAddr,
    rest: Router,
    into_io: impl FnOnce(S) -> io::Result<(Io, Bytes)>,
) -> Result<(), Failure> {
    let limits = &shared.config.limits;
    let taken: Arc<Mutex<Option<Verdict>>> = Arc::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        if secure {
            // As a proxy would say it: answers that name this server name it as it was reached.
            request
                .headers_mut()
                .entry("x-forwarded-proto")
                .or_insert(const { HeaderValue::from_static("https") });
        }
        let (shared, rest, taken) = (shared.clone(), rest.clone(), taken.clone());
        async move {
            match route::route(&shared, peer.ip(), request, rest).await {
                Verdict::Respond(response) => Ok::<_, std::convert::Infallible>(response),
                stream => {
                    if let Ok(mut taken) = taken.lock() {
                        *taken = Some(stream);
                    }
                    // The connection's task sees it and drops this future.
                    std::future::pending().await
                }
            }
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.handshake_ms))
        .max_buf_size(limits.headers.max(8_192))
        .max_headers(64);
    let mut connection = http.serve_connection(TokioIo::new(Paced::new(stream)), service);
    let is_taken = || taken.lock().is_ok_and(|taken| taken.is_some());
    let finished = std::future::poll_fn(|context| match pin!(&mut connection).poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if is_taken() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    });
    if let Err(error) = finished.await {
        // hyper has answered these itself.
        if error.is_parse_too_large() {
            shared.metrics.refused(Code::TooLarge);
        } else if error.is_parse() {
            shared.metrics.refused(Code::BadRequest);
        } else if paced::is_behind(&error) {
            shared.metrics.refused(Code::SlowConsumer);
        }
        return Err(error.into());
    }
    let verdict = taken.lock().ok().and_then(|mut taken| taken.take());
    match verdict {
        Some(Verdict::TakeOver(take_over)) => {
            let parts = connection.into_parts();
            let (io, rest) = into_io(parts.io.into_inner().into_inner())?;
            let early = if rest.is_empty() { parts.read_buf } else { [parts.read_buf, rest].concat().into() };
            take_over(io, early);
        }
        Some(Verdict::Tunnel(tunnel)) => {
            let parts = connection.into_parts();
            tunnel.run(parts.io.into_inner().into_inner(), parts.read_buf).await?;
        }
        Some(Verdict::Respond(_)) | None => {}
    }
    Ok(())
}
