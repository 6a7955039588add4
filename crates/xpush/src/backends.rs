//! Which backends stand behind the ports: the only file that names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xpush_channel::{GRACE_MS, Parts};
use xpush_core::ports::directory::Directory;
use xpush_core::ports::markers::Markers;
use xpush_core::{Clock, Entropy, NodeId};
use xpush_embedded::{
    DEFAULT_BOUND, LocalHub, LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, OsEntropy, SoloCluster,
    SystemClock,
};
use xpush_sqlite::{Ledger, Options, SqliteDirectory};

use crate::config::Settings;
use crate::role::access;

pub(crate) use xpush_sqlite::{CopyError, Progress, Store, backup, restore};

/// Bytes that recent histories may take together, when nobody says otherwise.
pub(crate) const HISTORY_MEMORY: usize = DEFAULT_BOUND;

/// An id that no other start has.
pub(crate) fn node_id() -> NodeId {
    NodeId::new(&format!("{:016x}", OsEntropy::new().word())).expect("hexadecimal digits are a good id")
}

/// This machine's time.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Where a data folder has its store.
pub(crate) fn store_file(data_dir: &Path) -> PathBuf {
    data_dir.join("xpush.db")
}

/// Opens the store of a data folder; others may have it open, too.
pub(crate) fn open_store(data_dir: &Path) -> Result<Arc<Store>, String> {
    let file = store_file(data_dir);
    Store::open(&file, Options::default()).map_err(|error| format!("cannot open {}: {error}", file.display()))
}

/// Who and what there is.
pub(crate) fn directory(store: Arc<Store>) -> Arc<dyn Directory> {
    Arc::new(SqliteDirectory::new(store))
}

/// How far users are in channels.
pub(crate) fn markers(store: Arc<Store>) -> Result<Arc<dyn Markers>, String> {
    let ledger = Ledger::new(store, clock()).map_err(|error| error.to_string())?;
    Ok(Arc::new(ledger))
}

/// A node that needs nothing beside it.
pub(crate) fn embedded(node: NodeId, settings: &Settings) -> Result<Parts, String> {
    let ledger = Ledger::new(open_store(&settings.data_dir)?, clock());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Another store at every start: what the memory held before is gone, and clients must be told so.
    let store = OsEntropy::new().word();
    Ok(Parts {
        log: Arc::new(MemoryLog::new(store, settings.history_memory, clock.clone())),
        ledger: Arc::new(ledger.map_err(|error| error.to_string())?),
        bus: Box::new(move |sink| Arc::new(LocalHub::new().attach(node, sink))),
        presence: Arc::new(LocalPresence::new()),
        online: Arc::new(LocalOnline::new(GRACE_MS, clock.clone(), Arc::new(MemoryLastSeen::default()))),
        access: Arc::new(access::Open::new(settings.apps())),
        cluster: Arc::new(SoloCluster::new()),
        clock,
        entropy: || Box::new(OsEntropy::new()),
    })
}
