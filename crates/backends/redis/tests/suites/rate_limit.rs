//! Shared limits keep the port's contract, on one server and on a Cluster.

use std::sync::Arc;

use crate::rig::Rig;
use xpush_core::ports::rate_limit::RateLimit;
use xpush_redis::RedisLimits;
use xpush_testkit::suite::rate_limit::LimitStore;

fn store(rig: Rig) -> LimitStore {
    let handle =
        |connection| Arc::new(RedisLimits::with_clock(connection, rig.clock())) as Arc<dyn RateLimit>;
    LimitStore { handles: rig.connections.clone().map(handle), pass: rig.pass }
}

mod single {
    fn store() -> xpush_testkit::suite::rate_limit::LimitStore {
        super::store(crate::rig::single())
    }
    xpush_testkit::rate_limit_suite!(store);
}

mod cluster {
    fn store() -> xpush_testkit::suite::rate_limit::LimitStore {
        super::store(crate::rig::cluster())
    }
    xpush_testkit::rate_limit_suite!(store);
}
