//! Which backends stand behind the ports: the only file that names them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::runtime::Handle;
use tokio::sync::watch;
use xpush_channel::{GRACE_MS, Hosting, MakeBus, Node, Parts};
use xpush_core::ports::access::Access as _;
use xpush_core::ports::blobs::Blobs;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Settings as ClusterSettings, View};
use xpush_core::ports::directory::{Change, Directory, Expected, Key, Record};
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::files::Files;
use xpush_core::ports::hosts::Hosts;
use xpush_core::ports::markers::Ledger;
use xpush_core::ports::message_log::MessageLog;
use xpush_core::ports::online::{Online, Stays};
use xpush_core::ports::outbox::{Notes, Outbox};
use xpush_core::ports::presence::Presence;
use xpush_core::ports::search::Search;
use xpush_core::ports::transfer::Origin;
use xpush_core::ports::{Failure, PortError, wait};
use xpush_core::{App, Clock, Code, Entropy, NodeId, NodeName};
use xpush_disk::DiskBlobs;
use xpush_embedded::{
    DEFAULT_BOUND, LocalHosts, LocalHub, LocalOnline, LocalPresence, MemoryLog, OsEntropy, SoloCluster,
    SystemClock,
};
use xpush_hooks::Webhooks;
use xpush_mongodb::{MongoDirectory, MongoFiles, MongoLastSeen};
use xpush_redis::emitter::{Emission, EmissionRefused, EmitterCounters, Emitters, Listening};
use xpush_redis::{
    BusCounters, Connection, RedisBus, RedisHosts, RedisLog, RedisOnline, RedisPresence,
    Secret as RedisSecret,
};
use xpush_s3::S3Blobs;
use xpush_session::access::{self, Configured, DirectoryAccess};
use xpush_session::administration::{self, Administration};
use xpush_session::{erasure, files};
use xpush_sqlite::{IndexedErasure, SearchIndex, SqliteDirectory, SqliteFiles, SqliteLastSeen, SqliteOutbox};
use xpush_zookeeper::ZooKeeperCluster;

use crate::config::{self, Settings, Shared};
use crate::port::ask;
use crate::{authorities, watermark};

pub(crate) use xpush_mongodb::Import;
pub(crate) use xpush_sqlite::{
    CopyError, Export, Fault, KnownFiles, Progress, Store, backup, begin_epoch, compact, restore,
};

/// Bytes that recent histories may take together, when nobody says otherwise.
pub(crate) const HISTORY_MEMORY: usize = DEFAULT_BOUND;

/// Under which name the directory keeps what signs the ids of event streams, and what nodes say to each other.
const RESUME: &str = "resume";

/// How long a start waits for each of the services that it needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server stands on.
pub(crate) struct Backends {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) access: DirectoryAccess,
    stores: Stores,
    /// Contents of files; `None`: there is no store that all servers have.
    blobs: Option<Arc<dyn Blobs>>,
    /// What finds messages.
    search: Arc<SearchIndex>,
    secret: [u8; 32],
    traffic: Traffic,
}

/// What goes over Redis, counted.
#[derive(Clone, Default)]
pub(crate) struct Traffic {
    bus: Arc<OnceLock<Weak<RedisBus>>>,
    emitters: Arc<OnceLock<Weak<Emitters>>>,
}

/// What differs between a server that is alone and one of several.
struct Stores {
    directory: Arc<dyn Directory>,
    ledger: Arc<dyn Ledger>,
    recent: Arc<dyn MessageLog>,
    presence: Arc<dyn Presence>,
    online: Arc<dyn Online>,
    hosts: Arc<dyn Hosts>,
    cluster: Arc<dyn Cluster>,
    /// What is known of files.
    files: Arc<dyn Files>,
    /// The ledger, as far as users are erased from it.
    lasting: Arc<dyn Erasure>,
    /// What else users are erased from.
    fleeting: Vec<Arc<dyn Erasure>>,
    /// What the bus runs over; inside of this process without it.
    redis: Option<Connection>,
    /// The ledger that puts what hooks are told of a message into the same file in the same step.
    tapped: Option<Arc<xpush_sqlite::Ledger>>,
    /// The ledger that servers share: it notes what is still to be told of, and this server's index follows it; otherwise both are of `tapped`.
    shared: Option<Arc<xpush_mongodb::Ledger>>,
    /// To be closed at the end.
    file: Option<Arc<Store>>,
    /// The database, and where it is noted how far it has come.
    database: Option<(Arc<xpush_mongodb::Store>, Arc<dyn ClusterSettings>)>,
}

/// An id that no other start has.
pub(crate) fn node_id() -> NodeId {
    NodeId::new(&format!("{:016x}", OsEntropy::new().word())).expect("hexadecimal digits are a good id")
}

/// A number that no other installation has.
pub(crate) fn chance() -> u64 {
    OsEntropy::new().word()
}

/// This machine's time.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Where a data folder has its store.
pub(crate) fn store_file(data_dir: &Path) -> PathBuf {
    data_dir.join("xpush.db")
}

/// Where a data folder has what messages are found by.
fn index_file(data_dir: &Path) -> PathBuf {
    data_dir.join("search.db")
}

fn open_index(
    file: &Path,
    ledger: Arc<xpush_sqlite::Ledger>,
    rules: Option<xpush_sqlite::Rules>,
) -> Result<SearchIndex, String> {
    SearchIndex::open(file, ledger, rules).map_err(|error| unopened(file, &error))
}

fn unopened(file: &Path, error: &xpush_sqlite::OpenError) -> String {
    format!("cannot open {}: {error}", file.display())
}

/// Opens the store of a data folder; others may have it open, too.
pub(crate) fn open_store(data_dir: &Path) -> Result<Arc<Store>, String> {
    let file = store_file(data_dir);
    let options = xpush_sqlite::Options::default();
    Store::open(&file, options).map_err(|error| format!("cannot open {}: {error}", file.display()))
}

/// What commands for operators work on, beside servers that may be running: who and what there is, and what users are erased from.
pub(crate) fn kept(settings: &Settings) -> Result<erasure::Parts, String> {
    let clock = clock();
    let fleeting = Vec::new();
    if let Some(shared) = &settings.shared {
        let store = xpush_mongodb::Store::open(database(&shared.mongodb));
        let store = store.map_err(|error| format!("cannot use MongoDB: {error}"))?;
        let lasting = Arc::new(xpush_mongodb::Ledger::new(store.clone(), clock.clone()));
        return Ok(erasure::Parts {
            directory: Arc::new(MongoDirectory::new(store)),
            lasting,
            fleeting,
            clock,
        });
    }
    let store = open_store(&settings.data_dir)?;
    let ledger =
        xpush_sqlite::Ledger::new(store.clone(), clock.clone()).map_err(|error| error.to_string())?;
    let directory = Arc::new(SqliteDirectory::new(store));
    let (ledger, file) = (Arc::new(ledger), index_file(&settings.data_dir));
    let lasting: Arc<dyn Erasure> = if file.exists() {
        let index = open_index(&file, ledger.clone(), None)?;
        Arc::new(IndexedErasure { ledger, index })
    } else {
        ledger
    };
    Ok(erasure::Parts { directory, lasting, fleeting, clock })
}

/// The database that servers share, to be filled with what a store of this origin holds.
pub(crate) fn import(shared: &Shared, origin: Origin) -> Result<Import, String> {
    Import::begin(database(&shared.mongodb), origin).map_err(|error| format!("cannot use MongoDB: {error}"))
}

/// Gives the database that servers share another epoch.
pub(crate) fn begin_shared_epoch(shared: &Shared) -> Result<(), String> {
    let begun = xpush_mongodb::Store::begin_epoch(database(&shared.mongodb));
    begun.map(drop).map_err(|error| format!("cannot use MongoDB: {error}"))
}

/// What users are erased from, their files included. To be called within a runtime.
pub(crate) fn erased(settings: &Settings, kept: erasure::Parts) -> Result<erasure::Parts, String> {
    let Some(files::Stores { blobs, files: index }) = files_of(settings)? else { return Ok(kept) };
    Ok(erasure::Parts { lasting: files::erasing(kept.lasting, blobs, index, Handle::current()), ..kept })
}

/// Where an installation's files are, if it can keep any. To be called within a runtime.
pub(crate) fn files_of(settings: &Settings) -> Result<Option<files::Stores>, String> {
    let Some(blobs) = blobs(settings, &Handle::current())? else { return Ok(None) };
    let files: Arc<dyn Files> = match &settings.shared {
        None => Arc::new(SqliteFiles::new(open_store(&settings.data_dir)?)),
        Some(shared) => {
            let store = xpush_mongodb::Store::open(database(&shared.mongodb));
            Arc::new(MongoFiles::new(store.map_err(|error| format!("cannot use MongoDB: {error}"))?))
        }
    };
    Ok(Some(files::Stores { blobs, files }))
}

/// Where files' contents are kept, if they can be.
pub(crate) fn blobs(settings: &Settings, runtime: &Handle) -> Result<Option<Arc<dyn Blobs>>, String> {
    if let Some(s3) = s3(settings, runtime)? {
        return Ok(Some(Arc::new(s3)));
    }
    if settings.shared.is_some() && !settings.uploads.folder_is_shared {
        return Ok(None);
    }
    let folder = settings.uploads.folder_in(&settings.data_dir);
    let disk = content_folder(&folder, settings.uploads.keep_free, runtime)?;
    Ok(Some(Arc::new(disk)))
}

/// Contents in a folder, which is made.
pub(crate) fn content_folder(folder: &Path, keep_free: u64, runtime: &Handle) -> Result<DiskBlobs, String> {
    DiskBlobs::open(folder, keep_free, runtime.clone())
        .map_err(|error| format!("cannot keep files in {}: {error}", folder.display()))
}

/// The bucket, if one is named.
pub(crate) fn s3(settings: &Settings, runtime: &Handle) -> Result<Option<S3Blobs>, String> {
    let Some(s3) = &settings.uploads.s3 else { return Ok(None) };
    let options = xpush_s3::Options {
        endpoint: s3.endpoint.to_string(),
        bucket: s3.bucket.to_string(),
        region: s3.region.to_string(),
        access_key: s3.access_key.to_string(),
        secret_key: s3.secret_key.reveal().to_owned(),
        prefix: s3.prefix.to_string(),
        in_path: s3.in_path,
    };
    S3Blobs::open(&options, runtime.clone()).map(Some).map_err(|why| format!("[s3] cannot be used: {why}"))
}

/// What this server has still to tell to apps' back ends, and what was given up.
pub(crate) fn outbox(settings: &Settings) -> Result<Arc<dyn Outbox>, String> {
    outbox_in(open_store(&settings.data_dir)?)
}

fn outbox_in(store: Arc<Store>) -> Result<Arc<dyn Outbox>, String> {
    Ok(Arc::new(SqliteOutbox::new(store, clock()).map_err(|error| error.to_string())?))
}

/// A way to the servers' cluster that is no member of it; its work is done on `runtime`.
pub(crate) fn cluster(at: &config::ZooKeeper, runtime: &Handle) -> Result<Arc<dyn Cluster>, String> {
    zookeeper(at, runtime).map(|cluster| cluster as Arc<dyn Cluster>)
}

/// The same, and what its members share besides.
pub(crate) fn zookeeper(
    zookeeper: &config::ZooKeeper,
    runtime: &Handle,
) -> Result<Arc<impl Cluster + ClusterSettings + use<>>, String> {
    let mut options = xpush_zookeeper::Options::new(zookeeper.servers.join(","));
    options.root = zookeeper.path.to_string();
    options.session_timeout = Duration::from_millis(zookeeper.session_timeout_ms);
    options.credentials = zookeeper.user.as_ref().zip(zookeeper.password.as_ref()).map(|(user, password)| {
        xpush_zookeeper::Credentials { user: user.to_string(), password: password.reveal().to_owned() }
    });
    if zookeeper.tls {
        options.tls =
            Some(xpush_zookeeper::Tls { ca: authorities::read(zookeeper.ca.as_deref())?, identity: None });
    }
    let cluster = ZooKeeperCluster::open(options, runtime);
    Ok(Arc::new(cluster.map_err(|bad| format!("[zookeeper] cannot be used: {bad}"))?))
}

/// The registry of which server carries what; its work is done on `runtime`.
pub(crate) fn hosts(shared: &Shared, runtime: &Handle) -> Result<Arc<dyn Hosts>, String> {
    Ok(Arc::new(RedisHosts::new(Connection::open(redis(&shared.redis)?, runtime))))
}

impl Stores {
    /// Everything inside of this process and its data folder.
    fn embedded(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let store = open_store(&settings.data_dir)?;
        let unreadable = |error: PortError| format!("cannot read {}: {error}", store.path().display());
        let ledger = xpush_sqlite::Ledger::new(store.clone(), clock.clone()).map_err(unreadable)?;
        let ledger = Arc::new(ledger);
        // Another store at every start: what the memory held before is gone, and clients must be told so.
        let recent = Arc::new(MemoryLog::new(chance(), settings.history_memory, clock.clone()));
        let last_seen = Arc::new(SqliteLastSeen::new(store.clone()));
        let left_over = wait(|done| last_seen.left_over(done)).unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known who was online when the server stopped");
            Vec::new()
        });
        Ok(Self {
            directory: Arc::new(SqliteDirectory::new(store.clone())),
            files: Arc::new(SqliteFiles::new(store.clone())),
            ledger: ledger.clone(),
            recent: recent.clone(),
            presence: Arc::new(LocalPresence::new()),
            online: Arc::new(LocalOnline::continuing(GRACE_MS, clock.clone(), last_seen, left_over)),
            hosts: Arc::new(LocalHosts::new(clock.clone())),
            cluster: Arc::new(SoloCluster::new()),
            lasting: ledger.clone(),
            fleeting: vec![recent],
            redis: None,
            tapped: Some(ledger),
            shared: None,
            file: Some(store),
            database: None,
        })
    }

    /// What several servers share.
    async fn shared(shared: &Shared, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let runtime = Handle::current();
        let cluster = zookeeper(&shared.zookeeper, &runtime)?;
        let settings: Arc<dyn ClusterSettings> = cluster.clone();
        let options = redis(&shared.redis)?;
        let connection = Connection::open(options, &runtime);
        let database = mongodb(&shared.mongodb).await?;
        // Before anything is written. What was noted is read first: the store has come as far by then, or has gone back.
        let view = watermark::live_view(&*cluster, PATIENCE).await;
        let now = ask(|done| database.origin_now(done)).await;
        let now = now.map_err(|error| format!("cannot use MongoDB: {error}"))?;
        if view.is_some_and(|view| watermark::has_gone_back(&view, now)) || database.has_gone_back() {
            return Err(watermark::ADVICE.to_owned());
        }
        connection.ready(PATIENCE).await.map_err(|error| format!("cannot use Redis: {error}"))?;
        let ledger = Arc::new(xpush_mongodb::Ledger::new(database.clone(), clock.clone()));
        let last_seen = Arc::new(MongoLastSeen::new(database.clone()));
        let recent = Arc::new(RedisLog::new(connection.clone()));
        Ok(Self {
            directory: Arc::new(MongoDirectory::new(database.clone())),
            files: Arc::new(MongoFiles::new(database.clone())),
            ledger: ledger.clone(),
            recent: recent.clone(),
            presence: Arc::new(RedisPresence::new(connection.clone())),
            online: Arc::new(RedisOnline::new(connection.clone(), GRACE_MS, clock.clone(), last_seen)),
            hosts: Arc::new(RedisHosts::new(connection.clone())),
            cluster,
            lasting: ledger.clone(),
            fleeting: vec![recent],
            redis: Some(connection),
            tapped: None,
            shared: Some(ledger),
            file: None,
            database: Some((database, settings)),
        })
    }
}

impl Stores {
    /// What finds messages: an index of this server's own, whoever else writes the ledger.
    fn index(&self, file: &Path, rules: xpush_sqlite::Rules) -> Result<SearchIndex, String> {
        let index = match (&self.shared, &self.tapped) {
            (Some(shared), _) => SearchIndex::open_shared(file, shared.clone(), rules),
            (None, Some(own)) => return open_index(file, own.clone(), Some(rules)),
            (None, None) => return Err("there is no ledger to be searched".to_owned()),
        };
        index.map_err(|error| unopened(file, &error))
    }
}

/// How Redis is reached.
fn redis(redis: &config::Redis) -> Result<xpush_redis::Options, String> {
    let urls: Vec<&str> = redis.urls.iter().map(config::Hidden::reveal).collect();
    let unusable = |bad: xpush_redis::BadOptions| format!("[redis] cannot be used: {bad}");
    let mut options = xpush_redis::Options::new(&urls, redis.sentinel_master.as_deref()).map_err(unusable)?;
    options.prefix.clone_from(&redis.prefix);
    if let Some(password) = &redis.password {
        options.password = Some(RedisSecret::new(password.reveal()));
    }
    if let Some(ca) = &redis.ca {
        options.tls = Some(xpush_redis::Tls { ca: Some(ca.clone()) });
    }
    options.check().map_err(unusable)?;
    Ok(options)
}

/// How MongoDB is reached.
fn database(mongodb: &config::MongoDb) -> xpush_mongodb::Options {
    let mut options = xpush_mongodb::Options::new(mongodb.url.reveal(), &*mongodb.database);
    options.ca_file.clone_from(&mongodb.ca);
    options.password = mongodb.password.as_ref().map(|password| password.reveal().to_owned());
    options
}

/// Opens the database; one that is not there yet has a while to come.
async fn mongodb(mongodb: &config::MongoDb) -> Result<Arc<xpush_mongodb::Store>, String> {
    let options = database(mongodb);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let options = options.clone();
        let opened = tokio::task::spawn_blocking(move || xpush_mongodb::Store::open(options)).await;
        match opened.map_err(|error| format!("cannot start: {error}"))? {
            Ok(store) => return Ok(store),
            Err(xpush_mongodb::OpenError::Server(error)) if tokio::time::Instant::now() < deadline => {
                tracing::warn!(%error, "waiting for MongoDB");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(format!("cannot use MongoDB: {error}")),
        }
    }
}

impl Backends {
    /// Opens what the settings name, and reads what there is.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, String> {
        let clock = clock();
        let stores = match &settings.shared {
            None => Stores::embedded(settings, &clock)?,
            Some(shared) => Stores::shared(shared, &clock).await?,
        };
        let unreadable = |error: PortError| format!("cannot read what is kept: {error}");
        let secret = secret(&*stores.directory, RESUME).map_err(unreadable)?;
        let apps = settings.apps.iter().map(|app| (app.name.clone(), app.record.clone()));
        let parts = access::Parts {
            directory: stores.directory.clone(),
            ledger: Some(stores.ledger.clone()),
            recent: Some(stores.recent.clone()),
            clock: clock.clone(),
            entropy: Box::new(OsEntropy::new()),
            runtime: Handle::current(),
            configured: Configured { apps: apps.collect(), default_app: settings.default_app.clone() },
        };
        let access = DirectoryAccess::start(parts).await.map_err(|problem| problem.to_string())?;
        let blobs = blobs(settings, &Handle::current())?;
        let traffic = Traffic::default();
        let rules: xpush_sqlite::Rules = {
            let access = access.clone();
            Arc::new(move || access.apps())
        };
        let search = stores.index(&index_file(&settings.data_dir), rules)?;
        Ok(Self { clock, access, stores, search: Arc::new(search), blobs, secret, traffic })
    }

    /// Which servers there are.
    pub(crate) fn cluster(&self) -> Arc<dyn Cluster> {
        self.stores.cluster.clone()
    }

    /// Digests of what all servers have in common in their files, for the others to compare with theirs. Keyed by a secret of the installation: nobody else learns
    /// anything from them.
    pub(crate) fn digests(&self, settings: &Settings) -> BTreeMap<Box<str>, u64> {
        settings.in_common().into_iter().map(|(part, text)| (part.into(), self.digest(&text))).collect()
    }

    fn digest(&self, text: &[u8]) -> u64 {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let tag = hmac::sign(&key, &[b"configuration ", text].concat());
        tag.as_ref().iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
    }

    /// Notes how far the shared store has come, for as long as the process lives.
    pub(crate) fn watch_store(&self, views: watch::Receiver<Arc<View>>) {
        if let Some((database, settings)) = self.stores.database.clone() {
            tokio::spawn(watermark::keep(settings, views, move |done| database.origin_now(done)));
        }
    }

    /// Which of them carry a channel.
    pub(crate) fn hosts(&self) -> Arc<dyn Hosts> {
        self.stores.hosts.clone()
    }

    /// Where files are, if they can be kept.
    pub(crate) fn file_stores(&self) -> Option<files::Stores> {
        Some(files::Stores { blobs: self.blobs.clone()?, files: self.stores.files.clone() })
    }

    /// What changes apps, keys and users; what it changes this server hears of at once.
    pub(crate) fn administration(&self, settings: &Settings) -> Administration {
        Administration::new(administration::Parts {
            directory: self.access.directory(),
            language: Arc::new(config::Spoken),
            configured: settings.apps.iter().map(|app| (app.name.clone(), app.record.clone())).collect(),
            clock: self.clock.clone(),
        })
    }

    /// What users are erased from.
    pub(crate) fn erasure(&self) -> erasure::Parts {
        let log = self.stores.lasting.clone();
        let lasting = match self.file_stores() {
            Some(files::Stores { blobs, files: index }) => {
                files::erasing(log, blobs, index, Handle::current())
            }
            None => log,
        };
        erasure::Parts {
            directory: self.stores.directory.clone(),
            lasting,
            fleeting: self.stores.fleeting.clone(),
            clock: self.clock.clone(),
        }
    }

    /// What tells and asks apps' back ends; it goes on at once with what is still to be told. What waits is in this server's data folder.
    pub(crate) fn webhooks(&self, node: NodeId, settings: &Settings) -> Result<Webhooks, String> {
        let access = self.access.clone();
        let store = open_store(&settings.data_dir)?;
        // Of servers that share a store, each takes those who are erased out of its own folder.
        let erasures = match &self.stores.shared {
            None => None,
            Some(_) => {
                let own = xpush_sqlite::Ledger::new(store.clone(), self.clock.clone());
                let own = Arc::new(own.map_err(|error| error.to_string())?);
                Some(xpush_hooks::Erasures { shared: self.stores.lasting.clone(), own })
            }
        };
        let webhooks = Webhooks::start(xpush_hooks::Parts {
            apps: Arc::new(move || access.apps()),
            outbox: outbox_in(store)?,
            tapped: self.stores.tapped.is_some(),
            notes: self.stores.shared.clone().map(|ledger| ledger as Arc<dyn Notes>),
            erasures,
            clock: self.clock.clone(),
            entropy: Box::new(OsEntropy::new()),
            runtime: Handle::current(),
            node,
            allow_private: settings.hooks_private,
        });
        let tap = || Arc::new(webhooks.clone());
        self.stores.tapped.iter().for_each(|ledger| ledger.tap(tap()));
        self.stores.shared.iter().for_each(|ledger| ledger.tap(tap()));
        Ok(webhooks)
    }

    /// What a channel server is given; `name` is the server's, when channels are placed on it, and `views` hears of the cluster.
    pub(crate) fn parts(&self, node: NodeId, name: Option<NodeName>, views: Arc<dyn ClusterSink>) -> Parts {
        let bus = self
            .bus(node)
            .unwrap_or_else(|node| Box::new(move |sink| Arc::new(LocalHub::new().attach(node, sink))));
        let registry = self.stores.hosts.clone();
        Parts {
            log: self.stores.recent.clone(),
            ledger: self.stores.ledger.clone(),
            search: Some(self.search.clone() as Arc<dyn Search>),
            bus,
            presence: self.stores.presence.clone(),
            online: self.stores.online.clone(),
            access: Arc::new(self.access.clone()),
            secret: self.secret,
            cluster: self.stores.cluster.clone(),
            hosting: name.map(|name| Hosting { name, registry }),
            views: Some(views),
            clock: self.clock.clone(),
            entropy: || Box::new(OsEntropy::new()),
        }
    }

    /// The way from this node to the others; the node itself when there are none.
    pub(crate) fn bus(&self, node: NodeId) -> Result<MakeBus, NodeId> {
        let Some(connection) = &self.stores.redis else { return Err(node) };
        let (options, runtime) = (connection.options().clone(), Handle::current());
        let counted = self.traffic.bus.clone();
        Ok(Box::new(move |sink| {
            let bus = RedisBus::attach(options, node, sink, &runtime);
            let bus = Arc::new(bus.expect("the options were checked"));
            // A process has one.
            let _ = counted.set(Arc::downgrade(&bus));
            bus
        }))
    }

    /// Begins to listen to emitters of this `key`, for as long as what is returned lives; without Redis there are none.
    pub(crate) fn emitters(
        &self,
        key: &str,
        app: App,
        max_bytes: usize,
        node: Arc<Node>,
    ) -> Option<Arc<Emitters>> {
        let options = self.stores.redis.as_ref()?.options().clone();
        let take = move |Emission { channel, event, payload }| {
            node.emit(channel, event, payload).map_err(|problem| match problem.code {
                Code::BadEvent => EmissionRefused::Event,
                Code::BadJson | Code::TooLarge => EmissionRefused::Data,
                _ => EmissionRefused::Channel,
            })
        };
        let listening = Listening { key: key.into(), app, max_bytes };
        let emitters = Emitters::listen(options, listening, Arc::new(take), &Handle::current());
        let emitters = Arc::new(emitters.expect("the options were checked"));
        // A process listens to one key.
        let _ = self.traffic.emitters.set(Arc::downgrade(&emitters));
        Some(emitters)
    }

    /// What counts the bus and emitters, as far as there are any.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// The file of a server that is alone.
    pub(crate) fn file(&self) -> Option<Arc<Store>> {
        self.stores.file.clone()
    }

    /// Durable histories.
    pub(crate) fn ledger(&self) -> Arc<dyn Ledger> {
        self.stores.ledger.clone()
    }

    /// Recent histories.
    pub(crate) fn recent(&self) -> Arc<dyn MessageLog> {
        self.stores.recent.clone()
    }

    /// Who is in which channel.
    pub(crate) fn presence(&self) -> Arc<dyn Presence> {
        self.stores.presence.clone()
    }

    /// What of the services' own settings endangers what is kept there: whether it is serious, and a sentence.
    pub(crate) async fn findings(&self) -> Vec<(bool, String)> {
        let Some(connection) = &self.stores.redis else { return Vec::new() };
        match xpush_redis::check(connection).await {
            Ok(findings) => {
                findings.into_iter().map(|one| (one.serious, format!("Redis: {}", one.text))).collect()
            }
            Err(error) => vec![(true, format!("Redis does not answer: {}", error.detail))],
        }
    }

    /// The time that a service goes by which all servers share, ms since 1970; this machine's own where there is none.
    pub(crate) async fn shared_time(&self) -> Result<u64, PortError> {
        let Some(connection) = &self.stores.redis else { return Ok(self.clock.wall()) };
        let (seconds, micros): (u64, u64) = connection.query(&xpush_redis::redis::cmd("TIME")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }

    /// Commits what waits, and closes the store.
    pub(crate) fn close(&self) {
        self.search.close();
        if let Some(file) = &self.stores.file {
            file.close();
        }
    }
}

impl Traffic {
    /// Names, what they count, and how many.
    pub(crate) fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counters = Vec::new();
        if let Some(bus) = self.bus.get().and_then(Weak::upgrade) {
            let BusCounters { published, lost, received, unreadable, connections } = bus.counters();
            counters.extend([
                ("bus_published", "Events given to the bus", count(published)),
                ("bus_lost", "Events that the bus may have lost", count(lost)),
                ("bus_received", "Events of other servers that came by the bus", count(received)),
                ("bus_unreadable", "Events on the bus that cannot be read", count(unreadable)),
                ("bus_connections", "Times that the bus was connected", count(connections)),
            ]);
        }
        if let Some(emitters) = self.emitters.get().and_then(Weak::upgrade) {
            let EmitterCounters { taken, refused } = emitters.counters();
            counters.extend([
                ("emissions_taken", "Emitters' publications taken", count(taken)),
                ("emissions_refused", "Emitters' publications refused", count(refused)),
            ]);
        }
        counters
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
