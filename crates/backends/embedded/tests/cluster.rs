//! The cluster keeps the port's contract.

use std::sync::Arc;

use xpush_embedded::SoloCluster;
use xpush_testkit::suite::cluster::ClusterStore;

fn store() -> ClusterStore {
    let cluster = SoloCluster::new();
    let handles = [Arc::new(cluster.handle()) as _, Arc::new(cluster.handle()) as _];
    ClusterStore { handles, another: Box::new(move || Arc::new(cluster.handle())) }
}

xpush_testkit::cluster_suite!(store);
