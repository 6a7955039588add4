//! A channel's home: the one place on a node where its messages get their order.
//!
//! Architecture invariant: local publishes, bus deliveries and backfills of a channel enter only here. What the home posts to a shard (joins' answers and deliveries) goes through one FIFO, so
//! that every subscriber sees the same order, and what a join's answer does not hold comes behind it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;
use xpush_core::message::Message;
use xpush_core::ports::bus::{Event, Inbound, Topic};
use xpush_core::ports::message_log::{Appended, Page, Range, Refused};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, Code, History, Position, Rule};

use super::attendance::Attendance;
use super::inbox::{Delivery, Handle, Happening, HomeRef, Inbox, Publication, Published, Reply, Wanted};
use super::join::Joining;
use super::order::{Filled, Order};
use crate::shard::{Shard, Timer};

/// How long a hole may wait for the bus before the log is read, in ms.
const HOLE_MS: u64 = 50;
/// Messages read at once to fill a hole.
const HOLE_PAGE: usize = 500;
/// Drafts in one append.
const APPEND_BATCH: usize = 1_000;
/// Publications of one channel that may wait for the log; more are refused.
const QUEUE: usize = 10_000;

/// A channel at home in this shard.
pub(crate) struct Home {
    generation: u32,
    pub(super) key: ChannelKey,
    pub(super) rule: Arc<Rule>,
    /// Shards with subscribers, and how many.
    followers: Vec<(u16, u32)>,
    pub(super) order: Order,
    reading_hole: bool,
    /// Publications that are being appended, and those that wait for it.
    appending: VecDeque<Publication>,
    queue: VecDeque<Publication>,
    pub(super) joins: Vec<Joining>,
    /// What was released since the oldest of `joins` began to read.
    pub(super) tail: Vec<Arc<Message>>,
    pub(super) attendance: Attendance,
}

/// The channels at home in a shard.
#[derive(Default)]
pub(crate) struct Homes {
    by_key: HashMap<ChannelKey, u32, foldhash::fast::RandomState>,
    slab: Slab<Home>,
    generation: u32,
}

impl Homes {
    /// The home of a channel, made if there is none.
    pub(super) fn open(&mut self, key: &ChannelKey, rule: &Arc<Rule>) -> HomeRef {
        if let Some(found) = self.find(key) {
            return found;
        }
        self.generation = self.generation.wrapping_add(1);
        let home = Home {
            generation: self.generation,
            key: key.clone(),
            rule: rule.clone(),
            followers: Vec::new(),
            order: Order::default(),
            reading_hole: false,
            appending: VecDeque::new(),
            queue: VecDeque::new(),
            joins: Vec::new(),
            tail: Vec::new(),
            attendance: Attendance::default(),
        };
        let index = u32::try_from(self.slab.insert(home)).unwrap_or(u32::MAX);
        self.by_key.insert(key.clone(), index);
        HomeRef { index, generation: self.generation }
    }

    pub(super) fn find(&self, key: &ChannelKey) -> Option<HomeRef> {
        let index = *self.by_key.get(key)?;
        Some(HomeRef { index, generation: self.slab[index as usize].generation })
    }

    pub(super) fn get(&mut self, home: HomeRef) -> Option<&mut Home> {
        self.slab.get_mut(home.index as usize).filter(|found| found.generation == home.generation)
    }

    /// The channels with history and subscribers.
    fn followed(&self) -> Vec<ChannelKey> {
        let homes = self.slab.iter().map(|(_, home)| home);
        homes.filter(|home| home.order.at().is_some()).map(|home| home.key.clone()).collect()
    }
}

impl Home {
    pub(super) fn keeps_history(&self) -> bool {
        self.rule.history != History::None
    }

    fn is_idle(&self) -> bool {
        self.followers.is_empty()
            && self.joins.is_empty()
            && self.appending.is_empty()
            && self.queue.is_empty()
            && self.attendance.is_idle()
    }

    /// Whether messages are known that cannot be released before the log is read.
    fn is_incomplete(&self) -> bool {
        self.order.at().is_some() && (self.order.has_hole() || self.is_behind_joins())
    }

    /// One subscription more on `shard`; whether it is the first of all.
    pub(super) fn follow(&mut self, shard: u16) -> bool {
        let first = self.followers.is_empty();
        match self.followers.iter_mut().find(|(index, _)| *index == shard) {
            Some((_, count)) => *count += 1,
            None => self.followers.push((shard, 1)),
        }
        first
    }

    /// One subscription fewer on `shard`; whether it was the last of all.
    pub(super) fn unfollow(&mut self, shard: u16) -> bool {
        if let Some(place) = self.followers.iter().position(|(index, _)| *index == shard) {
            self.followers[place].1 -= 1;
            if self.followers[place].1 == 0 {
                self.followers.swap_remove(place);
            }
        }
        self.followers.is_empty()
    }
}

// === publishing ===

impl Shard {
    /// A local publish: into the log if the channel keeps one, then to everybody.
    pub(crate) fn home_publish(&mut self, publication: Publication) {
        if publication.rule.history == History::None {
            let message = Arc::new(message_of(&publication));
            self.published(&publication, None, message.at);
            self.node
                .bus()
                .publish(&Topic::Channel(publication.channel.clone()), Event::Message(message.clone()));
            self.home_happens(Happening::Message(message), (!publication.echo).then_some(publication.from));
            return;
        }
        let home_ref = self.homes.open(&publication.channel, &publication.rule);
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.queue.len() >= QUEUE {
            return self.reply(&publication, Reply::Failed(Code::Overloaded.into()));
        }
        home.queue.push_back(publication);
        self.append(home_ref);
    }

    /// A local signal.
    pub(crate) fn home_signal(&mut self, message: Arc<Message>, exclude: Option<Handle>) {
        self.node.bus().publish(&Topic::Channel(message.channel.clone()), Event::Signal(message.clone()));
        self.home_happens(Happening::Signal(message), exclude);
    }

    /// One append at a time keeps the order; what comes meanwhile goes with the next one.
    fn append(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(retention) = home.rule.history.retention() else { return };
        if !home.appending.is_empty() || home.queue.is_empty() {
            return;
        }
        let batch = home.queue.len().min(APPEND_BATCH);
        home.appending = home.queue.drain(..batch).collect();
        let drafts = home.appending.iter().map(|publication| publication.draft.clone()).collect();
        let (key, mailbox) = (home.key.clone(), self.mailbox());
        let done = Box::new(move |result| mailbox.post(Inbox::Appended(home_ref, result)));
        self.node.log().append(&key, retention, drafts, done);
    }

    pub(crate) fn home_appended(&mut self, home_ref: HomeRef, result: Result<Appended, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let mut batch = std::mem::take(&mut home.appending);
        let (taken, failure) = match result {
            Ok(appended) => (appended.taken, appended.failure),
            Err(error) => (Vec::new(), Some(error)),
        };
        for taken in taken {
            let Some(publication) = batch.pop_front() else { break };
            let message = match taken {
                Ok(placed) => placed.message,
                Err(refused) => {
                    let code = match refused {
                        Refused::NoSuchMessage => Code::UnknownMessage,
                        Refused::NotYours => Code::Forbidden,
                    };
                    self.reply(&publication, Reply::Failed(code.into()));
                    continue;
                }
            };
            self.published(&publication, message.position, message.at);
            // A retry is published again too: its first append may have died before it reached the bus.
            self.node
                .bus()
                .publish(&Topic::Channel(message.channel.clone()), Event::Message(message.clone()));
            self.home_offer(home_ref, message, (!publication.echo).then_some(publication.from));
        }
        if let Some(error) = failure {
            self.append_failed(home_ref, batch, &error);
        }
        self.append(home_ref);
        self.retire(home_ref);
    }

    /// The first of `rest` has failed. What the same connection sent after it fails too, so that nothing of it is stored out of order; the others are tried again.
    fn append_failed(&mut self, home_ref: HomeRef, mut rest: VecDeque<Publication>, error: &PortError) {
        tracing::warn!(%error, "append failed");
        let Some(home) = self.homes.get(home_ref) else { return };
        rest.append(&mut home.queue);
        // When the log does not answer at all, trying on would only hold everybody up.
        let everybody = matches!(error.kind, Failure::Overloaded | Failure::NotApplied | Failure::Unknown);
        let culprit = rest.front().map(|publication| publication.from);
        let (failed, kept): (VecDeque<_>, VecDeque<_>) =
            rest.into_iter().partition(|publication| everybody || Some(publication.from) == culprit);
        home.queue = kept;
        for publication in failed {
            self.reply(&publication, Reply::Failed(error.code().into()));
        }
    }

    fn published(&mut self, publication: &Publication, position: Option<Position>, at: u64) {
        let published = Published {
            channel: publication.channel.clone(),
            id: publication.draft.id.clone(),
            position,
            at,
            params: publication.params.clone(),
        };
        self.reply(publication, Reply::Published(Box::new(published)));
    }

    fn reply(&mut self, publication: &Publication, reply: Reply) {
        let Publication { from, asked, .. } = publication;
        self.post(from.shard, Inbox::Reply { to: *from, asked: *asked, reply });
    }
}

// === order ===

impl Shard {
    /// A message that has its place: released when its turn comes.
    fn home_offer(&mut self, home_ref: HomeRef, message: Arc<Message>, exclude: Option<Handle>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let mut released = Vec::new();
        let own = message.position;
        home.order.offer(message, &mut released);
        self.release(home_ref, released, own.zip(exclude));
        self.watch_hole(home_ref);
    }

    /// Sends what the order has released to the shards that have subscribers. `except`: the message at that place is not for that session.
    pub(super) fn release(
        &mut self,
        home_ref: HomeRef,
        released: Vec<Arc<Message>>,
        except: Option<(Position, Handle)>,
    ) {
        for message in released {
            let Some(home) = self.homes.get(home_ref) else { return };
            if !home.joins.is_empty() {
                home.tail.push(message.clone());
            }
            let exclude =
                except.filter(|(place, _)| message.position == Some(*place)).map(|(_, handle)| handle);
            self.home_happens(Happening::Message(message), exclude);
        }
    }

    /// Posts to every shard that has subscribers of the channel.
    pub(super) fn home_happens(&mut self, happening: Happening, exclude: Option<Handle>) {
        let Some(home_ref) = self.homes.find(happening.channel()) else { return };
        let Some(home) = self.homes.get(home_ref) else { return };
        let shards: smallvec::SmallVec<[u16; 8]> = home.followers.iter().map(|(shard, _)| *shard).collect();
        for shard in shards {
            self.post(shard, Inbox::Deliver(Delivery { happening: happening.clone(), exclude }));
        }
    }

    /// A hole waits a little for the bus, then the log is asked.
    fn watch_hole(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.is_incomplete() && !home.reading_hole {
            home.reading_hole = true;
            self.arm(HOLE_MS, Timer::Hole(home_ref));
        }
    }

    /// The hole has waited long enough.
    pub(crate) fn home_hole_is_old(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.reading_hole = false;
        if home.is_incomplete() {
            self.catch_up(home_ref);
        }
    }

    /// Reads the log behind the release point: something may have been lost that no hole shows.
    pub(super) fn catch_up(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(at) = home.order.at() else { return };
        if !home.reading_hole {
            home.reading_hole = true;
            self.read_page(home_ref, Wanted::Hole, Range::After(at.seq), HOLE_PAGE);
        }
    }

    pub(super) fn read_page(&mut self, home_ref: HomeRef, wanted: Wanted, range: Range, limit: usize) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let (key, mailbox) = (home.key.clone(), self.mailbox());
        let done = Box::new(move |result| mailbox.post(Inbox::PageRead(home_ref, wanted, result)));
        self.node.log().read(&key, range, limit, done);
    }

    pub(crate) fn home_page(&mut self, home_ref: HomeRef, wanted: Wanted, result: Result<Page, PortError>) {
        match wanted {
            Wanted::Join(number) => self.join_page(home_ref, number, result),
            Wanted::Hole => self.hole_page(home_ref, result),
        }
        self.retire(home_ref);
    }

    fn hole_page(&mut self, home_ref: HomeRef, result: Result<Page, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.reading_hole = false;
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "cannot read the log to fill a hole");
                return self.watch_hole(home_ref);
            }
        };
        let head = page.head;
        let key = home.key.clone();
        let mut released = Vec::new();
        if let Filled::Lost(position) = home.order.fill(page, &mut released) {
            self.home_happens(Happening::Gap(key, position), None);
        }
        self.release(home_ref, released, None);
        let Some(home) = self.homes.get(home_ref) else { return };
        match home.order.at() {
            Some(at) if at.seq < head => self.catch_up(home_ref),
            _ => self.watch_hole(home_ref),
        }
        self.advance_joins(home_ref);
    }

    /// Ends a home that nobody needs.
    pub(super) fn retire(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.is_idle() {
            let key = home.key.clone();
            self.homes.by_key.remove(&key);
            self.homes.slab.remove(home_ref.index as usize);
        }
    }
}

// === the bus ===

impl Shard {
    pub(crate) fn home_bus(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Envelope(envelope) => {
                let Some(home_ref) = self.homes.find(envelope.event.channel()) else { return };
                match envelope.event {
                    Event::Message(message) if message.position.is_some() => {
                        self.home_offer(home_ref, message, None)
                    }
                    Event::Message(message) => self.home_happens(Happening::Message(message), None),
                    Event::Signal(message) => self.home_happens(Happening::Signal(message), None),
                    Event::Presence(key, delta) => self.home_happens(Happening::Presence(key, delta), None),
                }
            }
            Inbound::Gap(Some(Topic::Channel(key))) => {
                if let Some(home_ref) = self.homes.find(&key) {
                    self.catch_up(home_ref);
                }
            }
            Inbound::Gap(_) | Inbound::Up => {
                for key in self.homes.followed() {
                    if let Some(home_ref) = self.homes.find(&key) {
                        self.catch_up(home_ref);
                    }
                }
            }
            Inbound::Down => tracing::warn!("the bus is down; local subscribers are still served"),
        }
    }

    /// The last message of a burst may be lost with no hole to show it: heads are compared.
    pub(crate) fn compare_heads(&mut self) {
        let keys = self.homes.followed();
        if keys.is_empty() {
            return;
        }
        let mailbox = self.mailbox();
        let asked = keys.clone();
        self.node.log().heads(keys, Box::new(move |result| mailbox.post(Inbox::Heads(asked, result))));
    }

    pub(crate) fn home_heads(&mut self, keys: Vec<ChannelKey>, result: Result<Vec<Position>, PortError>) {
        let heads = match result {
            Ok(heads) => heads,
            Err(error) => return tracing::warn!(%error, "cannot compare heads"),
        };
        for (key, head) in keys.iter().zip(heads) {
            let Some(home_ref) = self.homes.find(key) else { continue };
            let at = self.homes.get(home_ref).and_then(|home| home.order.at());
            if at.is_some_and(|at| at.epoch != head.epoch || at.seq < head.seq) {
                self.catch_up(home_ref);
            }
        }
    }
}

/// The message of a channel without history.
fn message_of(publication: &Publication) -> Message {
    let draft = &publication.draft;
    Message {
        kind: draft.kind,
        revision: None,
        channel: publication.channel.clone(),
        position: None,
        id: draft.id.clone(),
        event: draft.event.clone(),
        payload: draft.payload.clone(),
        from: draft.from.clone(),
        at: draft.at,
    }
}
