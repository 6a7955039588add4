//! The cluster keeps the port's contract.

use std::sync::Arc;

use xpush_embedded::SoloCluster;
use xpush_testkit::suite::cluster::ClusterStore;

fn store() -> ClusterStore {
    let cluster = SoloCluster::new();
    let [a, b] = [Arc::new(cluster.handle()), Arc::new(cluster.handle())];
    ClusterStore {
        handles: [a.clone(), b.clone()],
        settings: [a, b],
        another: Box::new(move || Arc::new(cluster.handle())),
    }
}

xpush_testkit::cluster_suite!(store);
