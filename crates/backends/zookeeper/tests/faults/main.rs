//! What members and observers are told when ZooKeeper, or the way to it, fails.

mod ensemble;
mod session;
mod tls;
mod trouble;

use std::sync::{Arc, OnceLock};

use tokio::runtime::{Handle, Runtime};
use xpush_core::ports::cluster::{Cluster, ClusterSink};
use xpush_testkit::service::proxy::Proxy;
use xpush_testkit::suite::cluster::Views;
use xpush_zookeeper::{Options, ZooKeeperCluster};

/// What all handles work on.
fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    RUNTIME.get_or_init(|| make().expect("a runtime")).handle()
}

fn open(options: &Options) -> ZooKeeperCluster {
    ZooKeeperCluster::open(options.clone(), runtime()).expect("good options")
}

/// A handle whose way to ZooKeeper the test can stall and cut.
fn open_by(proxy: &Proxy, options: &Options) -> ZooKeeperCluster {
    open(&Options { hosts: proxy.address().to_string(), ..options.clone() })
}

fn watch(cluster: &dyn Cluster) -> Arc<Views> {
    let views = Views::new();
    cluster.watch(Arc::clone(&views) as Arc<dyn ClusterSink>);
    views
}
