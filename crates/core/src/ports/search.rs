//! Full-text search: a capability of ledgers.

use std::sync::Arc;

use crate::message::Message;
use crate::names::{App, Channel};
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
