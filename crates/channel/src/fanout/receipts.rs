//! How far users have read a channel, as its home tells it: to those who follow it with receipts, and to the user's own other connections.

use std::collections::HashMap;
use std::sync::Arc;

use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Event, Moved, Topic};
use xpush_core::ports::markers::{Advanced, Mark};
use xpush_core::{ChannelKey, Rule, User};

use super::inbox::{Handle, Happening, HomeRef, Inbox, Reply};
use crate::command::{Asked, read};
use crate::shard::{Shard, Timer};

/// Between two pushes about a channel's markers, in ms: a marker that moves a hundred times a second makes ten pushes.
const COALESCE_MS: u64 = 100;

/// The ledger has answered a `read` or a `delivered`.
pub(crate) struct Marked {
    pub(crate) channel: ChannelKey,
    pub(crate) rule: Arc<Rule>,
    pub(crate) user: User,
    pub(crate) by: Handle,
    pub(crate) asked: Asked,
    pub(crate) mark: Mark,
    pub(crate) result: Result<Advanced, PortError>,
}

/// A home's markers that moved and have not been told.
#[derive(Default)]
pub(crate) struct Receipts {
    moves: HashMap<User, Move, foldhash::fast::RandomState>,
    /// Some were told a moment ago: the next push waits for the timer.
    waiting: bool,
}

#[derive(Clone, Copy)]
struct Move {
    delivered: Option<u64>,
    read: Option<u64>,
    /// The connection that knows it already: it has the answer.
    by: Handle,
}

impl Receipts {
    pub(super) fn is_idle(&self) -> bool {
        self.moves.is_empty() && !self.waiting
    }

    fn note(&mut self, user: User, mark: Mark, advanced: &Advanced, by: Handle) {
        let moved = self.moves.entry(user).or_insert(Move { delivered: None, read: None, by });
        moved.by = by;
        match mark {
            Mark::Delivered => moved.delivered = Some(advanced.marker.delivered),
            Mark::Read => moved.read = Some(advanced.marker.read),
        }
    }
}

impl Move {
    /// What is to be told: who has read something has been delivered it, which needs no word.
    fn marks(self) -> impl Iterator<Item = (Mark, u64)> {
        let delivered = self.delivered.filter(|delivered| self.read.is_none_or(|read| read < *delivered));
        let read = self.read.map(|seq| (Mark::Read, seq));
        read.into_iter().chain(delivered.map(|seq| (Mark::Delivered, seq)))
    }
}

impl Shard {
    /// The ledger has moved a marker, or not: the answer, and the news.
    pub(crate) fn home_marked(&mut self, marked: Marked) {
        let Marked { channel, rule, user, by, asked, mark, result } = marked;
        let reply = match &result {
            Ok(advanced) => Reply::Body(read::answer(&channel, advanced)),
            Err(error) => Reply::Failed(error.code().into()),
        };
        self.post(by.shard, Inbox::Reply { to: by, asked, reply });
        if let Ok(advanced) = result
            && advanced.moved
        {
            let home_ref = self.homes.open(&channel, &rule);
            if let Some(home) = self.homes.get(home_ref) {
                home.receipts.note(user, mark, &advanced, by);
            }
            self.tell_receipts(home_ref);
        }
    }

    /// Pushes what is new, at once or when the timer says so.
    fn tell_receipts(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.receipts.waiting || home.receipts.moves.is_empty() {
            return;
        }
        home.receipts.waiting = true;
        let (key, moves) = (home.key.clone(), std::mem::take(&mut home.receipts.moves));
        self.arm(COALESCE_MS, Timer::Receipts(home_ref));
        for (user, moved) in moves {
            for (mark, seq) in moved.marks() {
                let moved_to = Arc::new(Moved { channel: key.clone(), user: user.clone(), mark, seq });
                let bus = self.node.bus();
                bus.publish(&Topic::Channel(key.clone()), Event::Marker(moved_to.clone()));
                bus.publish(&Topic::User(key.app.clone(), user.clone()), Event::OwnMarker(moved_to.clone()));
                self.home_happens(Happening::Marker(moved_to.clone()), Some(moved.by));
                self.node.post_all(|| Inbox::OwnMarker { moved: moved_to.clone(), except: Some(moved.by) });
            }
        }
    }

    pub(crate) fn receipts_timer(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.receipts.waiting = false;
        self.tell_receipts(home_ref);
        self.retire(home_ref);
    }

    /// A user's marker moved: its connections here are told, but for those that hear of it by their subscriptions.
    pub(crate) fn own_marker(&mut self, moved: &Arc<Moved>, except: Option<Handle>) {
        let topic = self.topics.find(&moved.channel);
        for handle in self.sessions_of(&moved.channel.app, &moved.user) {
            let Some(session) = self.sessions.get(handle) else { continue };
            let told = |one: &crate::session::Subscription| Some(one.topic) == topic && one.wants_receipts;
            if Some(handle) != except && !session.subscriptions.iter().any(told) {
                self.push_to(handle, &Happening::Marker(moved.clone()));
            }
        }
    }
}
