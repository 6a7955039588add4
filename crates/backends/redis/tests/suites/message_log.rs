//! Recent history keeps the port's contract, on one server and on a Cluster.

use std::sync::Arc;

use crate::rig::Rig;
use xpush_core::ports::message_log::MessageLog;
use xpush_redis::{MAX_MESSAGE, RedisLog};
use xpush_testkit::suite::message_log::LogStore;

fn store(rig: Rig) -> LogStore {
    let handle = |connection| Arc::new(RedisLog::with_clock(connection, rig.clock())) as Arc<dyn MessageLog>;
    LogStore { handles: rig.connections.clone().map(handle), pass: rig.pass, too_large: Some(MAX_MESSAGE) }
}

mod single {
    fn store() -> xpush_testkit::suite::message_log::LogStore {
        super::store(crate::rig::single())
    }
    xpush_testkit::message_log_suite!(store);
}

mod cluster {
    fn store() -> xpush_testkit::suite::message_log::LogStore {
        super::store(crate::rig::cluster())
    }
    xpush_testkit::message_log_suite!(store);
}
