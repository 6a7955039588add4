//! The channel role: carries the live connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use xpush_channel::{Node, Tls};
use xpush_core::NodeName;
use xpush_core::ports::cluster::{Standing, View};

use crate::health::Readiness;

/// Within which the clients of a server that is to be emptied are told.
const EMPTYING: Duration = Duration::from_secs(30);

/// How often it is looked after new certificates.
const CERTIFICATES: Duration = Duration::from_secs(2);

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
        if let Some(tls) = tls {
            tokio::spawn(tls.clone().follow_files(CERTIFICATES));
        }
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

/// Empties the node while an operator wants the server of this `name` drained (`xpush drain`), and says so by its readiness; and has clients go where their
/// channels are when an operator wants that (`xpush rebalance`).
pub(crate) async fn follow_wishes(
    node: Arc<Node>,
    name: NodeName,
    mut views: watch::Receiver<Arc<View>>,
    readiness: Readiness,
) {
    let (mut emptied, mut asked) = (false, None);
    loop {
        let view = views.borrow_and_update().clone();
        if view.standing == Standing::Live {
            let wish = xpush_session::placement::wish(&view, xpush_session::placement::MOVE);
            if asked.replace(wish).is_some_and(|before| before != wish) {
                tracing::info!("rebalancing: clients are asked to go where their channels are");
                node.rebalance(EMPTYING);
            }
        }
        let wanted = match view.standing {
            Standing::Live => view.draining.contains(&name),
            // What is not known does not change.
            Standing::Frozen | Standing::Expired => emptied,
        };
        if wanted != emptied {
            emptied = wanted;
            if wanted {
                tracing::info!("to be drained: clients are told where to go on");
                readiness.draining();
            } else {
                tracing::info!("takes clients again");
                readiness.ready();
            }
            node.empty(wanted, EMPTYING);
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}
