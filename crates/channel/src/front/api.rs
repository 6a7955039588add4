//! What shards leave to the front of connections that ask the HTTP API ([`transport::api`](crate::transport::api)).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::early::Early;
use super::{route, speak_http};
use crate::fanout::inbox::Inbox;
use crate::node::Shared;
use crate::transport::api::{self, Opened};

/// The API, as a listener serves it.
pub(crate) struct Api {
    shared: Arc<Shared>,
    rest: Router,
    runtime: Handle,
}

impl Api {
    /// To be called on the runtime that serves the front.
    pub(super) fn new(shared: Arc<Shared>, rest: Router) -> Self {
        Self { shared, rest, runtime: Handle::current() }
    }

    /// Gives a connection that begins with `early` to a shard.
    pub(super) fn hand_over(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        early: Vec<u8>,
    ) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let stream = mio::net::TcpStream::from_std(stream.into_std()?);
        let opened = Opened { stream, peer, early, api: self };
        shared.mailbox(shared.next_shard()).post(Inbox::OpenApi(Box::new(opened)));
        Ok(())
    }

    /// Answers one request that has come from `peer`: the bytes of the answer, or nothing when it broke off.
    pub(crate) fn ask(
        self: Arc<Self>,
        request: Request<Body>,
        peer: IpAddr,
        done: impl FnOnce(Option<Vec<u8>>) + Send + 'static,
    ) {
        self.runtime.clone().spawn(async move {
            let client = route::client(&self.shared, peer, request.headers());
            let (head, body) = route::others(request, client, self.rest.clone()).await.into_parts();
            let body = body.collect().await.ok();
            done(body.map(|body| api::whole(&head, &body.to_bytes(), self.shared.clock().wall())));
        });
    }

    /// Goes on with a connection of which `early` was read and not answered.
    pub(crate) fn go_on(self: Arc<Self>, stream: std::net::TcpStream, peer: SocketAddr, early: Vec<u8>) {
        self.runtime.clone().spawn(async move {
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => Early::new(stream, early),
                Err(error) => return tracing::warn!(%error, "cannot go on with a connection"),
            };
            let done =
                speak_http(self.shared.clone(), stream, false, peer, self.rest.clone(), Early::into_io);
            if let Err(error) = done.await {
                tracing::debug!(%error, "connection failed");
            }
        });
    }
}
