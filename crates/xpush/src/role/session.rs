//! The session role: tells clients which channel server to use.

use std::sync::Arc;

use axum::Router;
use xpush_channel::Node;
use xpush_core::NodeId;
use xpush_core::ports::cluster::{Standing, View};

/// Answers by what the cluster told the node beside it.
pub(crate) fn start(id: NodeId, node: Arc<Node>) -> Router {
    let nobody = Arc::new(View { standing: Standing::Frozen, nodes: Vec::new() });
    xpush_session::router(id, Arc::new(move || node.view().unwrap_or_else(|| nobody.clone())))
}
