//! The channel role: carries the live connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use xpush_channel::{Node, Tls};

/// A channel server and its listeners.
pub(crate) struct Channel {
    node: Arc<Node>,
    accepting: JoinSet<io::Result<()>>,
}

impl Channel {
    /// Serves live connections on `listeners`, and every other request by `others`; all over TLS when there is a certificate.
    pub(crate) fn start(
        node: Arc<Node>,
        listeners: Vec<TcpListener>,
        tls: Option<&Tls>,
        others: &Router,
    ) -> Self {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(node.clone().serve(listener, tls.cloned(), others.clone()));
        }
        Self { node, accepting }
    }

    /// Tells the clients to go elsewhere, and waits until they have gone; `within` at most. New clients are refused meanwhile, but connections are accepted
    /// to the end: a client that polls needs one to hear of it.
    pub(crate) async fn drain(mut self, within: Duration) {
        self.node.drain(within).await;
        self.accepting.shutdown().await;
    }
}
