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

pub use connection::{Connection, history};
pub use journal::{Harbour, Journal};
pub use process::Process;
pub use store::contents;

use std::io;
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
        }
    }

    /// Lets the clients work while `launch` starts one server after the other on the same data, each killed by SIGKILL.
    pub fn run(&self, durable: bool, mut launch: impl FnMut() -> io::Result<Process>) -> io::Result<Voyage> {
        let mut entropy = SeededEntropy::new(self.seed);
        let (journal, harbour) = (Arc::new(Journal::default()), Arc::new(Harbour::default()));
        let mut server = launch()?;
        harbour.open(server.addresses());
        let (publishers, subscribers) = self.embark(&journal, &harbour);
        for _ in 0..self.kills {
            let more = self.acks.start + entropy.below(self.acks.end - self.acks.start);
            journal.wait_for_acks(more)?;
            journal.note("", Event::Killed);
            server.kill()?;
            server = launch()?;
            harbour.open(server.addresses());
        }
        journal.wait_for_acks(self.acks.start)?;
        journal.stop();
        for publisher in publishers {
            joined(publisher)?;
        }
        self.wait_for_all(&journal, &self.contents(&server, durable)?);
        // When all is quiet, one more message in each channel: nothing comes behind it that would show that it is missing.
        Publisher::with_last_words(self.clone(), journal.clone(), harbour.clone()).run()?;
        let contents = self.contents(&server, durable)?;
        let settled = self.wait_for_all(&journal, &contents);
        let lines = journal.close();
        harbour.close();
        for subscriber in subscribers {
            joined(subscriber)?;
        }
        Ok(Voyage { lines, contents, settled, server })
    }

    /// Whether every subscriber gets all of it in time.
    fn wait_for_all(&self, journal: &Journal, contents: &Contents) -> bool {
        let heads = contents.iter().map(|(name, history)| (name.clone(), history.head)).collect();
        journal.wait_until_all_have(&heads, self.subscribers, QUIET)
    }

    fn embark(&self, journal: &Arc<Journal>, harbour: &Arc<Harbour>) -> (Vec<Crew>, Vec<Crew>) {
        let subscriber = |number| {
            let subscriber = Subscriber::new(number, self.clone(), journal.clone(), harbour.clone());
            thread::spawn(move || subscriber.run())
        };
        let publisher = |number| {
            let publisher = Publisher::new(number, self.clone(), journal.clone(), harbour.clone());
            thread::spawn(move || publisher.run())
        };
        let subscribers = (0..self.subscribers).map(subscriber).collect();
        ((0..self.publishers).map(publisher).collect(), subscribers)
    }

    /// The channels' histories, page by page, as a client reads them.
    pub fn contents(&self, server: &Process, durable: bool) -> io::Result<Contents> {
        let mut reader = Connection::open(server.addresses()[0], "the reader of histories")?;
        self.channels.iter().map(|name| Ok((name.clone(), history(&mut reader, name, durable)?))).collect()
    }
}

type Crew = JoinHandle<io::Result<()>>;

fn joined(crew: Crew) -> io::Result<()> {
    crew.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
