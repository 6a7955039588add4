//! Real clients on `/ws` who write everything down while their server is killed under them: what the [`checker`](crate::checker) judges.
//!
//! Publishers retry what was not acked, with the same ids, on the next connection; subscribers resume by `since`. Nothing waits for time to
//! pass: clients wait for what the server says, and for the next server; the test waits for what the clients have heard.

mod connection;
mod journal;
mod process;
mod publisher;
mod store;
mod subscriber;

pub use connection::{Connection, Said, digest_of, history, kept, place};
pub use journal::{Harbour, Journal};
pub use process::Process;
pub use store::contents;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::checker::{Contents, Event, Line};
use crate::environment::SeededEntropy;
use publisher::Publisher;
use subscriber::Subscriber;

/// How long anything may take before the run is given up: far beyond what it needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long everybody has at the end to receive what is still under way. Less than the time after which nodes compare their heads, so that
/// what only that brings counts as missing.
const QUIET: Duration = Duration::from_secs(3);

/// Who sails, and what they do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides what is published where, and who drops a connection when.
    pub seed: u64,
    /// The channels; everybody uses all of them.
    pub channels: Vec<Arc<str>>,
    /// Clients that publish.
    pub publishers: usize,
    /// Clients that subscribe.
    pub subscribers: usize,
    /// Publications of one client that are under way at a time.
    pub window: usize,
    /// All publish at the first node, so that the others hear by the bus alone.
    pub one_node: bool,
    /// Whether messages are edited and deleted, too.
    pub revises: bool,
    /// The chance that a subscriber drops its connection after a message.
    pub drops: f64,
    /// How often the server is killed.
    pub kills: usize,
    /// Acks between two kills.
    pub acks: Range<u64>,
    /// A client gives a connection up on which nothing has come for so long.
    pub silence: Duration,
    /// How long everybody has at the end to receive what is still under way.
    pub quiet: Duration,
}

/// Clients at sea.
pub struct Fleet {
    plan: Plan,
    journal: Arc<Journal>,
    harbour: Arc<Harbour>,
    publishers: Vec<Crew>,
    subscribers: Vec<Crew>,
}

/// What clients have seen, and what there was to see.
pub struct Homecoming {
    /// Everything that the clients have written down.
    pub lines: Vec<Line>,
    /// The channels as the server tells them by `history`.
    pub contents: Contents,
    /// Every subscriber was there at the end, and had everything.
    pub settled: bool,
}

/// What came of a run.
pub struct Voyage {
    /// Everything that the clients have written down.
    pub lines: Vec<Line>,
    /// The channels as the last server tells them by `history`.
    pub contents: Contents,
    /// Every subscriber was there at the end, and had everything.
    pub settled: bool,
    /// The last server, alive.
    pub server: Process,
}

impl Plan {
    /// A small run.
    pub fn new(seed: u64, channels: &[&str]) -> Self {
        Self {
            seed,
            channels: channels.iter().map(|name| Arc::from(*name)).collect(),
            publishers: 4,
            subscribers: 3,
            window: 16,
            one_node: false,
            revises: true,
            drops: 0.002,
            kills: 0,
            acks: 200..800,
            silence: PATIENCE,
            quiet: QUIET,
        }
    }

    /// Lets the clients work while `launch` starts one server after the other on the same data, each killed by SIGKILL.
    pub fn run(&self, durable: bool, mut launch: impl FnMut() -> io::Result<Process>) -> io::Result<Voyage> {
        let mut entropy = SeededEntropy::new(self.seed);
        let harbour = Harbour::default();
        let mut server = launch()?;
        harbour.open(server.addresses());
        let fleet = Fleet::embark(self.clone(), harbour);
        let (journal, harbour) = (&fleet.journal, &fleet.harbour);
        for _ in 0..self.kills {
            let more = self.acks.start + entropy.below(self.acks.end - self.acks.start);
            journal.wait_for_acks(more)?;
            journal.note("", Event::Killed);
            server.kill()?;
            server = launch()?;
            harbour.open(server.addresses());
        }
        journal.wait_for_acks(self.acks.start)?;
        let Homecoming { lines, contents, settled } = fleet.come_home(server.addresses()[0], durable)?;
        Ok(Voyage { lines, contents, settled, server })
    }
}

impl Fleet {
    /// Lets everybody begin at the servers of `harbour`.
    pub fn embark(plan: Plan, harbour: Harbour) -> Self {
        let (journal, harbour) = (Arc::new(Journal::default()), Arc::new(harbour));
        let subscriber = |number| {
            let subscriber = Subscriber::new(number, plan.clone(), journal.clone(), harbour.clone());
            thread::spawn(move || subscriber.run())
        };
        let publisher = |number| {
            let publisher = Publisher::new(number, plan.clone(), journal.clone(), harbour.clone());
            thread::spawn(move || publisher.run())
        };
        let subscribers = (0..plan.subscribers).map(subscriber).collect();
        let publishers = (0..plan.publishers).map(publisher).collect();
        Self { plan, journal, harbour, publishers, subscribers }
    }

    /// What the clients write down.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Lets publishers finish what they have begun, and waits until subscribers have all that the server at `address` has; the last of it is noted.
    pub fn come_home(self, address: SocketAddr, durable: bool) -> io::Result<Homecoming> {
        let Self { plan, journal, harbour, publishers, subscribers } = self;
        journal.stop();
        for publisher in publishers {
            joined(publisher)?;
        }
        let wait_for_all = |contents: &Contents| {
            let heads = contents.iter().map(|(name, history)| (name.clone(), history.head)).collect();
            journal.wait_until_all_have(&heads, plan.subscribers, plan.quiet)
        };
        wait_for_all(&plan.contents(address, durable)?);
        // When all is quiet, one more message in each channel: nothing comes behind it that would show that it is missing.
        Publisher::with_last_words(plan.clone(), journal.clone(), harbour.clone()).run()?;
        let contents = plan.contents(address, durable)?;
        let settled = wait_for_all(&contents);
        let lines = journal.close();
        harbour.close();
        for subscriber in subscribers {
            joined(subscriber)?;
        }
        Ok(Homecoming { lines, contents, settled })
    }
}

impl Plan {
    /// The channels' histories, page by page, as a client reads them from the server at `address`.
    pub fn contents(&self, address: SocketAddr, durable: bool) -> io::Result<Contents> {
        let mut reader = Connection::open(address, "the reader of histories")?;
        self.channels.iter().map(|name| Ok((name.clone(), history(&mut reader, name, durable)?))).collect()
    }
}

/// How long a client waits that has failed so often in a row: longer each time, up to about a second, and not two clients alike.
fn back_off(failures: u32, entropy: &mut SeededEntropy) -> Duration {
    let most = 25 << failures.min(5);
    Duration::from_millis(most / 2 + entropy.below(most / 2))
}

type Crew = JoinHandle<io::Result<()>>;

fn joined(crew: Crew) -> io::Result<()> {
    crew.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
