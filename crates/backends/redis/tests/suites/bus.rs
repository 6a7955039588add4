//! The bus on healthy servers.

use std::sync::Arc;

use tokio::runtime::Runtime;
use xpush_core::NodeId;
use xpush_core::ports::bus::{Bus, BusSink};
use xpush_redis::{Options, RedisBus};
use xpush_testkit::service::PATIENCE;
use xpush_testkit::service::redis::{Redis, RedisCluster};
use xpush_testkit::suite::bus::BusStore;

/// Each with its servers and its runtime, which live as long as it is used.
fn store<S: 'static>(servers: S, urls: &[String]) -> BusStore {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime: Runtime = runtime.expect("a runtime");
    let options = Options::new(urls, None).expect("good options");
    let attach = move |node: NodeId, sink: Arc<dyn BusSink>| -> Arc<dyn Bus> {
        let _servers = &servers;
        let bus = RedisBus::attach(options.clone(), node, sink, runtime.handle()).expect("good options");
        runtime.block_on(bus.ready(PATIENCE)).expect("a bus");
        Arc::new(bus)
    };
    BusStore { attach: Box::new(attach) }
}

mod single {
    fn fixture() -> super::BusStore {
        let server = super::Redis::start(&[]);
        let urls = [server.url()];
        super::store(server, &urls)
    }

    xpush_testkit::bus_suite!(fixture);
}

mod cluster {
    fn fixture() -> super::BusStore {
        let cluster = super::RedisCluster::start(3, 0);
        let urls = cluster.urls();
        super::store(cluster, &urls)
    }

    xpush_testkit::bus_suite!(fixture);
}
