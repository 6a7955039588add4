//! The registry of hosts keeps the port's contract, on one server and on a Cluster.

use std::sync::Arc;

use crate::rig::Rig;
use xpush_core::ports::hosts::Hosts;
use xpush_redis::RedisHosts;
use xpush_testkit::suite::hosts::HostsStore;

fn store(rig: Rig) -> HostsStore {
    let handle = |connection| Arc::new(RedisHosts::with_clock(connection, rig.clock())) as Arc<dyn Hosts>;
    HostsStore { handles: rig.connections.clone().map(handle), pass: rig.pass }
}

mod single {
    fn store() -> xpush_testkit::suite::hosts::HostsStore {
        super::store(crate::rig::single())
    }
    xpush_testkit::hosts_suite!(store);
}

mod cluster {
    fn store() -> xpush_testkit::suite::hosts::HostsStore {
        super::store(crate::rig::cluster())
    }
    xpush_testkit::hosts_suite!(store);
}
