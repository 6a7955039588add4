//! A node that needs no other one, with everything in memory.

use std::sync::Arc;

use xpush_channel::config::{Config, Heartbeat, Limits, Origins};
use xpush_channel::{GRACE_MS, Parts, PeerTrust};
use xpush_core::{Clock, NodeId};
use xpush_embedded::{
    LocalHub, LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, OsEntropy, SoloCluster, SystemClock,
};
use xpush_testkit::{MemoryLedger, OpenAccess};

/// Two shards, and no rule about who may connect.
pub(crate) fn config(node: &str, limits: Limits) -> Config {
    Config {
        node: NodeId::new(node).unwrap(),
        shards: 2,
        limits,
        heartbeat: Heartbeat::default(),
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
        peers: PeerTrust::nobody(),
    }
}

/// A store and a bus of its own, and these rules.
pub(crate) fn parts(node: &str, access: OpenAccess) -> Parts {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let node = NodeId::new(node).unwrap();
    Parts {
        log: Arc::new(MemoryLog::new(1, 1 << 24, clock.clone())),
        ledger: Arc::new(MemoryLedger::new(1, clock.clone())),
        search: None,
        bus: Box::new(|sink| Arc::new(LocalHub::new().attach(node, sink))),
        presence: Arc::new(LocalPresence::new()),
        online: Arc::new(LocalOnline::new(GRACE_MS, clock.clone(), Arc::new(MemoryLastSeen::default()))),
        access: Arc::new(access),
        secret: [7; 32],
        cluster: Arc::new(SoloCluster::new()),
        hosting: None,
        views: None,
        clock,
        entropy: || Box::new(OsEntropy::new()),
    }
}
