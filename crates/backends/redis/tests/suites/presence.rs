//! Presence keeps the port's contract, on one server and on a Cluster.

use std::sync::Arc;

use crate::rig::Rig;
use xpush_core::ports::presence::Presence;
use xpush_redis::RedisPresence;
use xpush_testkit::suite::presence::PresenceStore;

fn store(rig: Rig) -> PresenceStore {
    let handle =
        |connection| Arc::new(RedisPresence::with_clock(connection, rig.clock())) as Arc<dyn Presence>;
    PresenceStore { handles: rig.connections.clone().map(handle), pass: rig.pass }
}

mod single {
    fn store() -> xpush_testkit::suite::presence::PresenceStore {
        super::store(crate::rig::single())
    }
    xpush_testkit::presence_suite!(store);
}

mod cluster {
    fn store() -> xpush_testkit::suite::presence::PresenceStore {
        super::store(crate::rig::cluster())
    }
    xpush_testkit::presence_suite!(store);
}
