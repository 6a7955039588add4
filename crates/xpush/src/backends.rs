//! Which backends stand behind the ports: the only file that names them.

use std::sync::Arc;

use xpush_channel::{GRACE_MS, Parts};
use xpush_core::{Clock, Entropy, NodeId};
use xpush_embedded::{
    DEFAULT_BOUND, LocalHub, LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, OsEntropy, SoloCluster,
    SystemClock,
};

use crate::config::Settings;
use crate::role::{access, ledger};

/// Bytes that recent histories may take together, when nobody says otherwise.
pub(crate) const HISTORY_MEMORY: usize = DEFAULT_BOUND;

/// An id that no other start has.
pub(crate) fn node_id() -> NodeId {
    NodeId::new(&format!("{:016x}", OsEntropy::new().word())).expect("hexadecimal digits are a good id")
}

/// A node that needs nothing beside it.
pub(crate) fn embedded(node: NodeId, settings: &Settings) -> Parts {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Another store at every start: what the memory held before is gone, and clients must be told so.
    let store = OsEntropy::new().word();
    Parts {
        log: Arc::new(MemoryLog::new(store, settings.history_memory, clock.clone())),
        ledger: Arc::new(ledger::None),
        bus: Box::new(move |sink| Arc::new(LocalHub::new().attach(node, sink))),
        presence: Arc::new(LocalPresence::new()),
        online: Arc::new(LocalOnline::new(GRACE_MS, clock.clone(), Arc::new(MemoryLastSeen::default()))),
        access: Arc::new(access::Open::new(settings.apps())),
        cluster: Arc::new(SoloCluster::new()),
        clock,
        entropy: || Box::new(OsEntropy::new()),
    }
}
