//! The cluster keeps the port's contract, on a real ZooKeeper.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Runtime;
use xpush_core::ports::cluster::Cluster;
use xpush_testkit::service::zookeeper::ZooKeeper;
use xpush_testkit::suite::cluster::ClusterStore;
use xpush_zookeeper::{Options, ZooKeeperCluster};

fn store() -> ClusterStore {
    // One server for all tests, below which each has a root of its own. It ends with the process.
    static SERVER: OnceLock<(ZooKeeper, Runtime)> = OnceLock::new();
    static ROOTS: AtomicUsize = AtomicUsize::new(0);
    let (server, runtime) = SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        (ZooKeeper::start(&[]), runtime.expect("a runtime"))
    });
    let mut options = Options::new(server.hosts());
    options.root = format!("/tests/{}", ROOTS.fetch_add(1, Ordering::Relaxed));
    let open =
        move || Arc::new(ZooKeeperCluster::open(options.clone(), runtime.handle()).expect("good options"));
    let [a, b] = [open(), open()];
    ClusterStore {
        handles: [a.clone(), b.clone()],
        settings: [a, b],
        another: Box::new(move || open() as Arc<dyn Cluster>),
    }
}

xpush_testkit::cluster_suite!(store);
