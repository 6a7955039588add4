//! Who is online keeps the port's contract, on one server and on a Cluster.

use std::sync::Arc;

use crate::rig::Rig;
use xpush_core::ports::online::{LastSeen, Online};
use xpush_embedded::MemoryLastSeen;
use xpush_redis::RedisOnline;
use xpush_testkit::suite::online::OnlineStore;

const GRACE_MS: u64 = 5_000;

fn store(rig: Rig) -> OnlineStore {
    let last_seen: Arc<dyn LastSeen> = Arc::new(MemoryLastSeen::default());
    let handle = |connection| {
        let online = RedisOnline::with_clock(connection, GRACE_MS, rig.clock(), Arc::clone(&last_seen));
        Arc::new(online) as Arc<dyn Online>
    };
    OnlineStore { handles: rig.connections.clone().map(handle), pass: rig.pass, grace_ms: GRACE_MS }
}

mod single {
    fn store() -> xpush_testkit::suite::online::OnlineStore {
        super::store(crate::rig::single())
    }
    xpush_testkit::online_suite!(store);
}

mod cluster {
    fn store() -> xpush_testkit::suite::online::OnlineStore {
        super::store(crate::rig::cluster())
    }
    xpush_testkit::online_suite!(store);
}
