//! Durable work that is to be done: what hooks are told, and later push notifications and mail.

use std::sync::Arc;

use bytes::Bytes;

use crate::environment::UnixMillis;
use crate::message::{Message, Position};
use crate::names::ChannelKey;
use crate::ports::Done;

/// Items that may wait in one queue; more are refused ([`Failure::Full`](super::Failure::Full)).
pub const MOST_WAITING: u64 = 1_000_000;
/// Items that were given up and are remembered, of each queue.
pub const MOST_DEAD: usize = 1_000;
/// The longest lease and the longest pause before another attempt, in ms.
pub const LONGEST_MS: u64 = 3_600_000;

/// One piece of work. Not `Debug`: its body is somebody's message.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Who is to do it: at most 256 bytes.
    pub queue: Box<str>,
    /// What it comes behind: items of one queue and one key are done one after the other. At most 512 bytes.
    pub key: Box<str>,
    /// What is to be done; at most 16 MB.
    pub body: Bytes,
}

/// An item that waits, as whoever is to do it sees it. Not `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Larger than that of every item that was put before it into its queue; never used again.
    pub id: u64,
    /// What is to be done.
    pub body: Bytes,
    /// How often it has failed.
    pub attempts: u32,
    /// When it was put, ms since 1970.
    pub put_at: UnixMillis,
}

/// The oldest items of one key, which nobody else is given before the lease ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// Their key.
    pub key: Box<str>,
    /// Tells this claim from every other one.
    pub lease: u64,
    /// In the order in which they were put; at least one.
    pub items: Vec<Waiting>,
}

/// What became of a claim: its first `done` items are done, and what is to happen with the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The claim's key.
    pub key: Box<str>,
    /// The claim's lease.
    pub lease: u64,
    /// How many of its items are done, from the first one on.
    pub done: usize,
    /// What is to happen with the first one that is not.
    pub then: Then,
}

/// What is to happen with an item that a claim has not done. Those behind it keep their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It was not tried: it may be claimed at once.
    Release,
    /// It has failed: it may be claimed again after so many ms, and nothing of its key before.
    Retry {
        /// At most [`LONGEST_MS`].
        after_ms: u64,
    },
    /// It will not be tried again. It is remembered without its body; those behind it go on.
    Bury {
        /// Why, for operators.
        why: Box<str>,
    },
}

/// An item that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Which.
    pub id: u64,
    /// Its key.
    pub key: Box<str>,
    /// How often it had failed, the last time included.
    pub attempts: u32,
    /// When it was put, ms since 1970.
    pub put_at: UnixMillis,
    /// When it was given up, ms since 1970.
    pub died_at: UnixMillis,
    /// Why.
    pub why: Box<str>,
}

/// How a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Items that wait, claimed ones included.
    pub waiting: u64,
    /// When the oldest of them was put, ms since 1970.
    pub oldest: Option<UnixMillis>,
}

/// Keeps work until it is done: at least once, and in order by key.
///
/// - **Durable**: what was put, and answered, is done or given up some day, whatever dies meanwhile.
/// - **In order**: of one queue and one key, an item is claimed only when every earlier one is done or given up, or together with it. Items of one `put` keep their order.
/// - **One at a time**: over all handles, a key is in one claim at most. A claim that is not settled within its lease is void: its items are given to the next who asks, and a
///   settlement of it changes nothing. So an item may be done twice, when whoever did it died or was slow; it has the same id then.
/// - **Fair**: keys are claimed in the order in which they could be.
/// - Times are the store's own: no jump of a wall clock makes anything wait longer than [`LONGEST_MS`].
pub trait Outbox: Send + Sync {
    /// Puts items, all of them or none.
    fn put(&self, items: Vec<Item>, done: Done<()>);
    /// Claims at most `keys` keys of a queue, with at most `items` items together, for `lease_ms`.
    fn claim(&self, queue: &str, keys: usize, items: usize, lease_ms: u64, done: Done<Vec<Claim>>);
    /// Settles claims of a queue, each by itself; how many of them still held.
    fn settle(&self, queue: &str, settlements: Vec<Settlement>, done: Done<usize>);
    /// How many items wait.
    fn backlog(&self, queue: &str, done: Done<Backlog>);
    /// What was given up, the last one first; at most `limit`.
    fn dead(&self, queue: &str, limit: usize, done: Done<Vec<Dead>>);
}

/// Says what work a message makes. A log that keeps its outbox in the same store puts that in the same atomic step as the message: neither is there without the other.
pub trait Tap: Send + Sync {
    /// The work that a message makes which has just got its place, by a draft that was no retry. Called within the step: must not block, nor call a port. Called again when the
    /// step is tried again.
    fn work(&self, message: &Message) -> Vec<Item>;
    /// What became of an item of that work: it was put, or its queue could not take it. Called within the step: must not block, nor call a port.
    fn became(&self, channel: &ChannelKey, item: &Item, put: bool);
    /// Whether messages of this channel make any, as far as is known now. Called within the step: must not block, nor call a port.
    fn wants(&self, channel: &ChannelKey) -> bool;
}

/// A log whose outbox is another store: in the same atomic step as each message that its [`Tap`] wants, it notes that this is still to be told of. So whoever puts the message's
/// work into an outbox a moment later may die in between, and another one does it.
pub trait Notes: Send + Sync {
    /// At most `limit` messages that were noted, and not taken by anybody, more than [`TAKEN_MS`] ago, as they read now; of one channel in their order. They are taken by this call:
    /// nobody else is given them for as long.
    fn untold(&self, limit: usize, done: Done<Vec<Arc<Message>>>);
    /// What these messages make to do is in an outbox. When this is lost, they are untold once more.
    fn told(&self, messages: Vec<(ChannelKey, Position)>);
}

/// For so long a message that is to be told of is left to whoever has taken it, in ms.
pub const TAKEN_MS: u64 = 10_000;

impl Item {
    /// Whether an outbox can take it.
    pub fn is_valid(&self) -> bool {
        self.queue.len() <= 256 && self.key.len() <= 512 && self.body.len() <= 16 << 20
    }
}
