//! The HTTP front: accepts, lets hyper read requests, and takes the raw stream over for WebSocket and SSE.
//!
//! A taken-over connection costs nothing here any more: hyper never answers such a request, its buffers are dropped, and the stream goes to a shard, which writes the answer itself.

pub(crate) mod address;
pub(crate) mod advice;
mod engineio;
mod handshake;
mod origin;
mod route;

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
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use xpush_core::Code;

use crate::node::{Node, Shared};

/// The kernel's send buffer of a connection: what a slow reader holds here is not seen by the outbox's bounds.
const SEND_BUFFER: usize = 128 * 1024;
/// After `accept` fails for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a request comes to.
enum Verdict {
    Respond(http::Response<Body>),
    /// The raw stream goes to a shard.
    TakeOver(TakeOver),
}

/// What is to be done with a raw stream and the bytes that came behind the request.
type TakeOver = Box<dyn FnOnce(std::net::TcpStream, Bytes) + Send>;

impl Node {
    /// Serves a listener until it is dropped, also while the node drains: then new sessions are refused, and those that poll get their last packets.
    /// Requests that are not for a channel server go to `rest`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, rest: Router) -> io::Result<()> {
        // Every connection inherits these.
        let socket = socket2::SockRef::from(&listener);
        socket.set_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (shared, rest) = (self.shared.clone(), rest.clone());
                    tokio::spawn(async move {
                        if let Err(error) = connection(shared, stream, peer, rest).await {
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

/// One TCP connection, as long as it speaks HTTP.
async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    rest: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limits = &shared.config.limits;
    let taken: Arc<Mutex<Option<TakeOver>>> = Arc::default();
    let service = service_fn(|request| {
        let (shared, rest, taken) = (shared.clone(), rest.clone(), taken.clone());
        async move {
            match route::route(&shared, peer.ip(), request, rest).await {
                Verdict::Respond(response) => Ok::<_, std::convert::Infallible>(response),
                Verdict::TakeOver(take_over) => {
                    if let Ok(mut taken) = taken.lock() {
                        *taken = Some(take_over);
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
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
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
        }
        return Err(error.into());
    }
    let take_over = taken.lock().ok().and_then(|mut taken| taken.take());
    if let Some(take_over) = take_over {
        let parts = connection.into_parts();
        let stream = parts.io.into_inner().into_std()?;
        take_over(stream, parts.read_buf);
    }
    Ok(())
}
