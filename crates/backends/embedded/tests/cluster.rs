//! The cluster keeps the port's contract.

use std::sync::Arc;

use xpush_core::ports::cluster::Cluster;
use xpush_embedded::SoloCluster;
use xpush_testkit::suite::cluster::ClusterStore;

fn store() -> ClusterStore {
    let cluster: Arc<dyn Cluster> = Arc::new(SoloCluster::new());
    ClusterStore { handles: [Arc::clone(&cluster), cluster] }
}

xpush_testkit::cluster_suite!(store);
