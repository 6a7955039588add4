//! A Redis and a Cluster that the tests of one process share; each test has a prefix, and so a store, of its own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::runtime::Runtime;
use xpush_core::Clock;
use xpush_redis::{Connection, Options};
use xpush_testkit::ManualClock;
use xpush_testkit::service::PATIENCE;
use xpush_testkit::service::redis::{Redis, RedisCluster};

/// Two connections to one store.
pub(crate) struct Rig {
    pub(crate) connections: [Connection; 2],
    pub(crate) clock: Arc<ManualClock>,
    /// Lets time pass, and keeps the servers for as long as it is kept itself.
    pub(crate) pass: Box<dyn Fn(u64)>,
}

/// On one server.
pub(crate) fn single() -> Rig {
    static SHARED: Mutex<Weak<Redis>> = Mutex::new(Weak::new());
    let server = shared(&SHARED, || Redis::start(&[]));
    rig(&[server.url()], server)
}

/// On a Cluster of three masters.
pub(crate) fn cluster() -> Rig {
    static SHARED: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
    let cluster = shared(&SHARED, || RedisCluster::start(3, 0));
    rig(&cluster.urls(), cluster)
}

/// On servers of the test's own.
pub(crate) fn rig<S: 'static>(urls: &[String], servers: S) -> Rig {
    static STORES: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test-{}", STORES.fetch_add(1, Ordering::SeqCst));
    let connections = [0, 1].map(|_| {
        let mut options = Options::new(urls, None).expect("options");
        options.prefix = prefix.clone().into();
        let connection = Connection::open(options, runtime().handle());
        runtime().block_on(connection.ready(PATIENCE)).expect("a connection");
        connection
    });
    let clock = Arc::new(ManualClock::new());
    let hand = Arc::clone(&clock);
    let pass = Box::new(move |ms| {
        let _kept = &servers;
        hand.advance(ms);
    });
    Rig { connections, clock, pass }
}

impl Rig {
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// The one that others use now, or a new one: it ends with its last user.
fn shared<S>(slot: &Mutex<Weak<S>>, start: impl FnOnce() -> S) -> Arc<S> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let server = Arc::new(start());
        *slot = Arc::downgrade(&server);
        server
    })
}
