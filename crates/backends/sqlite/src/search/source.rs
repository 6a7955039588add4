//! What is followed: the ledger of the file beside, or one that servers share.

use std::sync::Arc;

use xpush_core::ports::PortError;
use xpush_core::{ChannelKey, Message};

use crate::log::Ledger;
use crate::log::indexing::{Due, Standing, Stretch};

/// A ledger. Its channels have numbers, and its slots have keys that begin with them.
pub(super) trait Source: Send + Sync {
    /// `due` hears of what is written from now on; false: it never will, so that channels have to be compared again and again.
    fn tell(&self, due: Arc<Due>) -> Result<bool, PortError>;
    /// At most `limit` channels behind `after`; those that are neither known nor wanted may be left out.
    fn compare(&self, after: After, limit: usize, wanted: Wanted<'_>) -> Result<Compared, PortError>;
    /// Channels that were written since it was asked last, of a ledger that does not tell; and whether there are more at once.
    fn moved(&self, wanted: Wanted<'_>) -> Result<(Compared, bool), PortError>;
    /// At most `limit` slots of a channel behind `after`; `None` when there is no such channel (any more).
    fn stretch(&self, id: i64, after: u64, limit: u64) -> Result<Option<Stretch>, PortError>;
    /// The numbers of channels, as far as they have one.
    fn ids(&self, keys: Vec<ChannelKey>) -> Result<Vec<i64>, PortError>;
    /// The messages in these slots, as they read now; those that may be read no more are left out.
    fn messages(&self, slots: Vec<i64>) -> Result<Vec<(i64, Arc<Message>)>, PortError>;
    /// At most `limit` slots that are to be taken out.
    fn removals(&self, limit: usize) -> Result<Vec<i64>, PortError>;
    /// They are taken out.
    fn removed(&self, slots: Vec<i64>) -> Result<(), PortError>;
}

/// Whether a channel is to be indexed.
pub(super) type Wanted<'a> = &'a dyn Fn(&ChannelKey) -> bool;

/// Where a comparison goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum After {
    Start,
    Number(i64),
    Place(Box<[u8]>),
}

/// Channels as they stand.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) channels: Vec<Standing>,
    /// Numbers of channels that are no more.
    pub(super) gone: Vec<i64>,
    /// `None`: these were the last ones.
    pub(super) next: Option<After>,
}

impl Source for Ledger {
    fn tell(&self, due: Arc<Due>) -> Result<bool, PortError> {
        self.index_by(due).map(|()| true)
    }

    fn compare(&self, after: After, limit: usize, _: Wanted<'_>) -> Result<Compared, PortError> {
        let after = if let After::Number(id) = after { id } else { 0 };
        let channels = self.standings(after, limit)?;
        let next = channels.last().filter(|_| channels.len() == limit).map(|last| After::Number(last.id));
        Ok(Compared { channels, gone: Vec::new(), next })
    }

    fn moved(&self, _: Wanted<'_>) -> Result<(Compared, bool), PortError> {
        Ok((Compared::default(), false))
    }

    fn stretch(&self, id: i64, after: u64, limit: u64) -> Result<Option<Stretch>, PortError> {
        Self::stretch(self, id, after, limit)
    }

    fn ids(&self, keys: Vec<ChannelKey>) -> Result<Vec<i64>, PortError> {
        Self::ids(self, keys)
    }

    fn messages(&self, slots: Vec<i64>) -> Result<Vec<(i64, Arc<Message>)>, PortError> {
        Self::messages(self, slots)
    }

    fn removals(&self, limit: usize) -> Result<Vec<i64>, PortError> {
        Self::removals(self, limit)
    }

    fn removed(&self, slots: Vec<i64>) -> Result<(), PortError> {
        Self::removed(self, slots)
    }
}
