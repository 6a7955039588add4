//! Membership among the nodes of one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use xpush_core::NodeId;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Load, Node, Standing, View};

use crate::lock;

/// The nodes that joined, always live: they end with the process, so nobody vanishes without `leave`.
///
/// Views are given under the lock that orders them: a sink must not join or leave from within `view`.
#[derive(Default)]
pub struct SoloCluster {
    members: Mutex<BTreeMap<NodeId, Member>>,
}

struct Member {
    node: Node,
    sink: Arc<dyn ClusterSink>,
}

impl SoloCluster {
    /// Without members.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Cluster for SoloCluster {
    fn join(&self, node: Node, sink: Arc<dyn ClusterSink>) {
        let mut members = lock(&self.members);
        members.insert(node.id.clone(), Member { node, sink });
        announce(&members);
    }

    // Nobody else could use it: the process's own metrics tell the same.
    fn report(&self, _: &NodeId, _: Load) {}

    fn leave(&self, node: &NodeId) {
        let mut members = lock(&self.members);
        if members.remove(node).is_some() {
            announce(&members);
        }
    }
}

fn announce(members: &BTreeMap<NodeId, Member>) {
    let nodes = members.values().map(|member| member.node.clone()).collect();
    let view = Arc::new(View { standing: Standing::Live, nodes });
    for member in members.values() {
        member.sink.view(Arc::clone(&view));
    }
}
