//! The session role: tells clients which channel server to use.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Node, Standing, View};

/// Keeps the newest view.
struct Newest(RwLock<Arc<View>>);

impl ClusterSink for Newest {
    fn view(&self, view: Arc<View>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

/// Makes `node` a member, and answers clients by what the cluster tells it.
pub(crate) fn start(node: Node, cluster: &dyn Cluster) -> Router {
    let nobody = View { standing: Standing::Frozen, nodes: Vec::new() };
    let newest = Arc::new(Newest(RwLock::new(Arc::new(nobody))));
    let id = node.id.clone();
    cluster.join(node, newest.clone());
    xpush_session::router(
        id,
        Arc::new(move || newest.0.read().unwrap_or_else(PoisonError::into_inner).clone()),
    )
}
