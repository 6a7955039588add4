//! Which backends stand behind the ports: the only file that names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xpush_channel::{GRACE_MS, Parts};
use xpush_core::ports::directory::{Change, Directory, Expected, Key, Record};
use xpush_core::ports::markers::Markers;
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{Clock, Entropy, NodeId};
use xpush_embedded::{
    DEFAULT_BOUND, LocalHub, LocalOnline, LocalPresence, MemoryLog, OsEntropy, SoloCluster, SystemClock,
};
use xpush_session::access::{self, Configured, DirectoryAccess};
use xpush_sqlite::{Ledger, Options, SqliteDirectory, SqliteLastSeen};

use crate::config::Settings;

pub(crate) use xpush_sqlite::{CopyError, Progress, Store, backup, restore};

/// Bytes that recent histories may take together, when nobody says otherwise.
pub(crate) const HISTORY_MEMORY: usize = DEFAULT_BOUND;

/// Under which name the directory keeps what signs the ids of event streams.
const RESUME: &str = "resume";

/// What a node stands on that needs nothing beside it.
pub(crate) struct Embedded {
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) access: DirectoryAccess,
    secret: [u8; 32],
}

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

impl Embedded {
    /// Opens the store of the data folder, and reads what there is.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, String> {
        let store = open_store(&settings.data_dir)?;
        let clock = clock();
        let unreadable = |error: PortError| format!("cannot read {}: {error}", store.path().display());
        let ledger = Arc::new(Ledger::new(store.clone(), clock.clone()).map_err(unreadable)?);
        let directory = directory(store.clone());
        let secret = secret(&*directory, RESUME).map_err(unreadable)?;
        let apps = settings.apps.iter().map(|app| (app.name.clone(), app.record.clone()));
        let parts = access::Parts {
            directory,
            markers: Some(ledger.clone()),
            clock: clock.clone(),
            entropy: Box::new(OsEntropy::new()),
            runtime: tokio::runtime::Handle::current(),
            configured: Configured { apps: apps.collect(), default_app: settings.default_app.clone() },
        };
        let access = DirectoryAccess::start(parts).await.map_err(|problem| problem.to_string())?;
        Ok(Self { store, ledger, clock, access, secret })
    }

    /// How far users are in channels.
    pub(crate) fn markers(&self) -> Arc<dyn Markers> {
        self.ledger.clone()
    }

    /// What a channel server is given.
    pub(crate) fn parts(&self, node: NodeId, settings: &Settings) -> Parts {
        let clock = self.clock.clone();
        // Another store at every start: what the memory held before is gone, and clients must be told so.
        let memory = OsEntropy::new().word();
        let last_seen = Arc::new(SqliteLastSeen::new(self.store.clone()));
        Parts {
            log: Arc::new(MemoryLog::new(memory, settings.history_memory, clock.clone())),
            ledger: self.ledger.clone(),
            bus: Box::new(move |sink| Arc::new(LocalHub::new().attach(node, sink))),
            presence: Arc::new(LocalPresence::new()),
            online: Arc::new(LocalOnline::new(GRACE_MS, clock.clone(), last_seen)),
            access: Arc::new(self.access.clone()),
            secret: self.secret,
            cluster: Arc::new(SoloCluster::new()),
            hosting: None,
            clock,
            entropy: || Box::new(OsEntropy::new()),
        }
    }

    /// Commits what waits, and closes the store.
    pub(crate) fn close(&self) {
        self.store.close();
    }
}

/// A secret of this installation, made when it is first asked for.
fn secret(directory: &dyn Directory, name: &str) -> Result<[u8; 32], PortError> {
    let key = Key::Secret(name.into());
    let mut fresh = [0; 32];
    OsEntropy::new().fill(&mut fresh);
    let to = Some(Record::Secret(fresh.into()));
    let change = Change { key: key.clone(), expected: Expected::Absent, to };
    match wait(|done| directory.apply(change, done)) {
        Ok(_) => return Ok(fresh),
        Err(error) if error.kind != Failure::Conflict => return Err(error),
        // There is one.
        Err(_) => {}
    }
    match wait(|done| directory.get(&key, done))?.map(|entry| entry.record) {
        Some(Record::Secret(secret)) => <[u8; 32]>::try_from(&secret[..])
            .map_err(|_| PortError::new(Failure::Invalid, "a secret of another length")),
        _ => Err(PortError::new(Failure::NotApplied, "a secret has gone")),
    }
}

/// Waits for a port's answer: before the server serves, there is nothing else to do.
fn wait<T: Send + 'static>(ask: impl FnOnce(Done<T>)) -> Result<T, PortError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    ask(Box::new(move |result| drop(sender.send(result))));
    receiver.recv().unwrap_or_else(|_| Err(PortError::new(Failure::NotApplied, "no answer")))
}
