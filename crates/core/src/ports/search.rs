//! Full-text search, and what an index follows that is kept apart from the ledger: capabilities of ledgers.

use std::sync::Arc;

use crate::message::{Epoch, Message};
use crate::names::{App, Channel, ChannelKey};
use crate::ports::Done;
use crate::search::Query;

/// Where is looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places {
    /// In every channel of the app that is searched.
    All,
    /// In these.
    These(Vec<Channel>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// In which app.
    pub app: App,
    /// Where. Whoever asks has made sure that these may be read.
    pub places: Places,
    /// What.
    pub query: Query,
    /// Only behind what a page before gave as [`Found::before`].
    pub before: Option<u64>,
    /// Hits, at most.
    pub limit: usize,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// As it reads now.
    pub message: Arc<Message>,
    /// Pieces of its text, of which every second one is what was found.
    pub excerpt: Vec<String>,
}

/// A page of hits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The newest first.
    pub hits: Vec<Hit>,
    /// There may be more behind this; a page may have few hits, or none, and go on nevertheless.
    pub before: Option<u64>,
}

/// Finds messages in durable channels whose rule has [`search`](crate::Rule::search).
///
/// - **What**: messages and silent ones whose data, as they read now, hold what the query asks for ([`crate::search`]); their author is who has published them. The first
///   [`LONGEST`](crate::search::text::LONGEST) bytes of a message's strings are looked through.
/// - **Order**: by when they were published (`at`), the newest first.
/// - **Behind the write path**: an append does not wait for it, so what was said a moment ago may not be found yet; it will be, after a crash, too. What was withdrawn, erased, or left by
///   retention is never a hit from then on, and soon nothing of it is kept beside the log either. The same holds of channels that are searched no more.
/// - **Bounded**: an answer takes about a second at most, whatever is asked for: it may end early, with [`Found::before`].
pub trait Search: Send + Sync {
    /// Looks.
    fn search(&self, wanted: Wanted, done: Done<Found>);
}

/// A channel as an index compares it with what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub channel: ChannelKey,
    /// What the ledger calls it in this life, whatever its name says.
    pub mark: Box<[u8]>,
    /// Another one than before: the channel has begun anew, and what was indexed of it is nobody's any more.
    pub epoch: Epoch,
    /// The newest slot, or one that was the newest a moment ago.
    pub head: u64,
    /// What lies before is kept no more; soon, where that has changed just now.
    pub first: u64,
}

/// A part of a ledger's channels, in an order of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standings {
    /// Not all of the part need be there: who has no messages is left out.
    pub channels: Vec<Standing>,
    /// Behind what the next part begins; `None`: this was the last one.
    pub next: Option<Box<[u8]>>,
}

/// A part of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// As it stands.
    pub standing: Standing,
    /// The last slot of this part.
    pub to: u64,
    /// The messages that its slots are about, as they read now; `None`: not any more.
    pub messages: Vec<(u64, Option<Arc<Message>>)>,
}

/// Channels that were written lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// As they stand, each once.
    pub channels: Vec<Standing>,
    /// To be asked for next, by the ledger's time in ms.
    pub until: u64,
    /// There may be more at once.
    pub more: bool,
}

/// Slots of which something was erased.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Erased {
    /// Each with its channel's mark; 0: all of the channel.
    pub slots: Vec<(Box<[u8]>, u64)>,
    /// To be asked for next, by the ledger's time in ms: that time itself, when there is no more.
    pub until: u64,
    /// There may be more at once.
    pub more: bool,
}

/// A ledger as an index sees it that is kept elsewhere: it tells nobody of changes, and is looked through.
///
/// - **Nothing is missed**: a slot that has its place is within the head of some later [`standings`](Self::standings), and in a [`stretch`](Self::stretch) that is asked for
///   behind that.
/// - **Soon**: as a rule, [`moved`](Self::moved) tells of it within a moment, however many channels there are; nobody may rely on that alone.
/// - **Erased**: each slot whose message was taken out for a user, and each channel that was emptied, is told for [`ERASED_FOR`] ms at least, perhaps several times and some time before. No
///   name is told with it.
pub trait Followed: Send + Sync {
    /// What tells this ledger from every other, and from itself before a restore.
    fn identity(&self) -> u64;
    /// Some of the channels, behind where a part before ended; from the first on without that.
    fn standings(&self, after: Option<Box<[u8]>>, limit: usize, done: Done<Standings>);
    /// Channels that were written at `since` or later, those first that were not written for longest.
    fn moved(&self, since: u64, done: Done<Moved>);
    /// At most `limit` slots of a channel behind `after`.
    fn stretch(&self, channel: &ChannelKey, after: u64, limit: u64, done: Done<Stretch>);
    /// Messages by their slots, as they read now; what is none, or may be read no more, is left out.
    fn messages(&self, channel: &ChannelKey, seqs: Vec<u64>, done: Done<Vec<(u64, Arc<Message>)>>);
    /// What was erased at `since` or later, the earliest first.
    fn erased(&self, since: u64, done: Done<Erased>);
}

/// For how long it is told what was erased, ms: an index that was not asked for longer is made anew.
pub const ERASED_FOR: u64 = 7 * 24 * 3_600_000;
