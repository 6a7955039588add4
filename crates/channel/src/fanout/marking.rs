//! What a join's answer tells of markers: how far one is, how much is unread, and how far the others are.

use xpush_core::ports::PortError;
use xpush_core::ports::markers::Marker;
use xpush_core::{ChannelKey, User};

use super::inbox::{HomeRef, Inbox};
use crate::shard::Shard;

/// Users whose markers a subscriber with receipts is told at once: those that moved last.
const RECEIPTS: usize = 100;

/// Markers as they are read for a join, each part by a question of its own.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Questions without answers.
    open: u8,
    /// One's own, if it has one.
    pub(crate) marker: Option<Marker>,
    pub(crate) unread: u64,
    /// The others', if they were asked for.
    pub(crate) receipts: Option<Vec<(User, Marker)>>,
}

/// One of the answers.
pub(crate) enum Marked {
    Own(Marker),
    Unread(u64),
    Receipts(Vec<(User, Marker)>),
}

impl Marks {
    pub(super) fn is_whole(&self) -> bool {
        self.open == 0
    }

    pub(super) fn take(&mut self, marked: Marked) {
        self.open -= 1;
        match marked {
            Marked::Own(marker) => self.marker = Some(marker),
            Marked::Unread(unread) => self.unread = unread,
            Marked::Receipts(receipts) => self.receipts = Some(receipts),
        }
    }
}

impl Shard {
    /// Asks the ledger, for the join of this number. A `user` who has no marker yet gets one at the head: what was said before is no news.
    pub(super) fn read_marks(
        &self,
        home_ref: HomeRef,
        number: u32,
        key: &ChannelKey,
        user: Option<&User>,
        receipts: bool,
    ) -> Marks {
        let ledger = self.node.ledger();
        let mut marks = Marks::default();
        let mut answer = || {
            marks.open += 1;
            let mailbox = self.mailbox();
            move |marked: Result<Marked, PortError>| mailbox.post(Inbox::JoinMarked(home_ref, number, marked))
        };
        if let Some(user) = user {
            let own = answer();
            ledger.begin(key, user, Box::new(move |result| own(result.map(Marked::Own))));
            let unread = answer();
            let one =
                |counts: Vec<(User, u64)>| Marked::Unread(counts.first().map_or(0, |(_, count)| *count));
            ledger.unread(key, vec![user.clone()], Box::new(move |result| unread(result.map(one))));
        }
        if receipts {
            let others = answer();
            let done = Box::new(move |result: Result<_, _>| others(result.map(Marked::Receipts)));
            ledger.of_channel(key, RECEIPTS, done);
        }
        marks
    }
}
