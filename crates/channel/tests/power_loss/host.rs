//! The server that the tests kill: nodes on one store, in a process of its own, whose unsynced writes go with it.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use xpush_channel::config::Limits;
use xpush_channel::{Node, Parts};
use xpush_core::{Clock, History, NodeId, Permissions, Retention, Rule, Who};
use xpush_embedded::{LocalHub, LocalOnline, MemoryLastSeen, SystemClock};
use xpush_sqlite::{Options, Store, Synchronous};
use xpush_testkit::{OpenAccess, sample};

use crate::alone;
use crate::seeded::{Bug, Handle, SeededBus, SeededLedger};

/// What the host is told by its environment.
pub(crate) const FOLDER: &str = "XPUSH_HOST_FOLDER";
/// The [`Bug`]'s word.
pub(crate) const BUG: &str = "XPUSH_HOST_BUG";
/// How often an append is answered "unknown" although it was done, in percent.
pub(crate) const FORGETS: &str = "XPUSH_HOST_FORGETS";

/// More than one, so that a bus is needed.
const NODES: [&str; 2] = ["a", "b"];

/// Opens the store as a server does, but over the file system that loses what was not synced.
pub(crate) fn open(folder: &Path, synchronous: Synchronous) -> Arc<xpush_sqlite::Ledger> {
    let vfs = Some(xpush_volatile::register().unwrap().into());
    let options = Options { vfs, synchronous, recent_fences: 50, ..Options::default() };
    let store = Store::open(folder.join("xpush.db"), options).unwrap();
    Arc::new(xpush_sqlite::Ledger::new(store, Arc::new(SystemClock::new())).unwrap())
}

/// Serves until it is killed.
#[expect(clippy::print_stdout, reason = "tells the test where it listens")]
pub(crate) fn run(folder: &Path, bug: Bug, forgets: u64) {
    let synchronous = if bug == Bug::Unsynced { Synchronous::Off } else { Synchronous::Full };
    let ledger = SeededLedger::new(open(folder, synchronous), bug, forgets);
    let hub = LocalHub::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut urls = String::new();
    for name in NODES {
        let node = Node::start(
            alone::config(name, Limits { events_per_second: 0, ..Limits::default() }),
            parts(name, ledger.clone(), &hub),
            sample::server(name),
            Box::new(|_| {}),
        )
        .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        urls += &format!(" ws://{}", listener.local_addr().unwrap());
        runtime.spawn(node.serve(listener, None, Router::new()));
    }
    println!("{urls}");
    runtime.block_on(std::future::pending())
}

fn parts(node: &str, ledger: Arc<SeededLedger>, hub: &LocalHub) -> Parts {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let rule = Rule {
        pattern: "kept:*".into(),
        history: History::Durable(Retention::ENDLESS),
        presence: false,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    };
    let (hub, id) = (hub.clone(), NodeId::new(node).unwrap());
    let bus_ledger = ledger.clone();
    // Each believes to be alone, so that nobody compares heads: what the bus does not bring does not come.
    Parts {
        ledger: Arc::new(Handle(ledger)),
        bus: Box::new(move |sink| Arc::new(SeededBus::new(Arc::new(hub.attach(id, sink)), bus_ledger))),
        online: Arc::new(LocalOnline::new(15_000, clock, Arc::new(MemoryLastSeen::default()))),
        ..alone::parts(node, OpenAccess::demo([rule]))
    }
}
