//! Which backends stand behind the ports: the only file that names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xpush_channel::{GRACE_MS, Parts};
use xpush_core::ports::access::Access as _;
use xpush_core::ports::directory::{Change, Directory, Expected, Key, Record};
use xpush_core::ports::online::Stays;
use xpush_core::ports::outbox::Outbox;
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{Clock, Entropy, NodeId};
use xpush_embedded::{
    DEFAULT_BOUND, LocalHub, LocalOnline, LocalPresence, MemoryLog, OsEntropy, SoloCluster, SystemClock,
};
use xpush_hooks::Webhooks;
use xpush_session::access::{self, Configured, DirectoryAccess};
use xpush_session::erasure;
use xpush_sqlite::{Ledger, Options, SqliteDirectory, SqliteLastSeen, SqliteOutbox};

use crate::config::Settings;

pub(crate) use xpush_sqlite::{CopyError, Progress, Store, backup, compact, restore};

/// Bytes that recent histories may take together, when nobody says otherwise.
pub(crate) const HISTORY_MEMORY: usize = DEFAULT_BOUND;

/// Under which name the directory keeps what signs the ids of event streams.
const RESUME: &str = "resume";

/// What a node stands on that needs nothing beside it.
pub(crate) struct Embedded {
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    recent: Arc<MemoryLog>,
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

/// What is still to be told to apps' back ends, and what was given up.
pub(crate) fn outbox(store: Arc<Store>) -> Result<Arc<dyn Outbox>, PortError> {
    Ok(Arc::new(SqliteOutbox::new(store, clock())?))
}

/// What users are erased from, beside a server that may be running.
pub(crate) fn erasure(store: Arc<Store>) -> Result<erasure::Parts, String> {
    let clock = clock();
    let ledger = Ledger::new(store.clone(), clock.clone()).map_err(|error| error.to_string())?;
    Ok(erasure::Parts { directory: directory(store), lasting: Arc::new(ledger), fleeting: Vec::new(), clock })
}

impl Embedded {
    /// Opens the store of the data folder, and reads what there is.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, String> {
        let store = open_store(&settings.data_dir)?;
        let clock = clock();
        let unreadable = |error: PortError| format!("cannot read {}: {error}", store.path().display());
        let ledger = Arc::new(Ledger::new(store.clone(), clock.clone()).map_err(unreadable)?);
        // Another store at every start: what the memory held before is gone, and clients must be told so.
        let recent = MemoryLog::new(OsEntropy::new().word(), settings.history_memory, clock.clone());
        let recent = Arc::new(recent);
        let directory = directory(store.clone());
        let secret = secret(&*directory, RESUME).map_err(unreadable)?;
        let apps = settings.apps.iter().map(|app| (app.name.clone(), app.record.clone()));
        let parts = access::Parts {
            directory,
            ledger: Some(ledger.clone()),
            recent: Some(recent.clone()),
            clock: clock.clone(),
            entropy: Box::new(OsEntropy::new()),
            runtime: tokio::runtime::Handle::current(),
            configured: Configured { apps: apps.collect(), default_app: settings.default_app.clone() },
        };
        let access = DirectoryAccess::start(parts).await.map_err(|problem| problem.to_string())?;
        Ok(Self { store, ledger, recent, clock, access, secret })
    }

    /// What users are erased from.
    pub(crate) fn erasure(&self) -> erasure::Parts {
        erasure::Parts {
            directory: self.access.directory(),
            lasting: self.ledger.clone(),
            fleeting: vec![self.recent.clone()],
            clock: self.clock.clone(),
        }
    }

    /// What tells and asks apps' back ends; it goes on at once with what is still to be told.
    pub(crate) fn webhooks(&self, node: NodeId, settings: &Settings) -> Result<Webhooks, String> {
        let outbox = SqliteOutbox::new(self.store.clone(), self.clock.clone());
        let outbox =
            outbox.map_err(|error| format!("cannot read {}: {error}", self.store.path().display()))?;
        let access = self.access.clone();
        let webhooks = Webhooks::start(xpush_hooks::Parts {
            apps: Arc::new(move || access.apps()),
            outbox: Arc::new(outbox),
            tapped: true,
            clock: self.clock.clone(),
            entropy: Box::new(OsEntropy::new()),
            runtime: tokio::runtime::Handle::current(),
            node,
            allow_private: settings.hooks_private,
        });
        self.ledger.tap(Arc::new(webhooks.clone()));
        Ok(webhooks)
    }

    /// What a channel server is given.
    pub(crate) fn parts(&self, node: NodeId) -> Parts {
        let clock = self.clock.clone();
        let last_seen = Arc::new(SqliteLastSeen::new(self.store.clone()));
        let left_over = wait(|done| last_seen.left_over(done)).unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known who was online when the server stopped");
            Vec::new()
        });
        Parts {
            log: self.recent.clone(),
            ledger: self.ledger.clone(),
            bus: Box::new(move |sink| Arc::new(LocalHub::new().attach(node, sink))),
            presence: Arc::new(LocalPresence::new()),
            online: Arc::new(LocalOnline::continuing(GRACE_MS, clock.clone(), last_seen, left_over)),
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
