//! A channel's home: the one place on a node where its messages get their order.
//!
//! Architecture invariant: local publishes, bus deliveries and backfills of a channel enter only here. What the home posts to a shard (joins' answers and deliveries) goes through one FIFO, so
//! that every subscriber sees the same order, and what a join's answer does not hold comes behind it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use slab::Slab;
use xpush_core::message::Message;
use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Envelope, Event, Inbound, Topic};
use xpush_core::ports::message_log::{Page, Range};
use xpush_core::{App, ChannelKey, History, Position, Rule};

use super::append::Appends;
use super::attendance::Attendance;
use super::forward::Deaf;
use super::inbox::{Delivery, Handle, Happening, HomeRef, Inbox, Wanted};
use super::join::Joining;
use super::notices::Notices;
use super::order::{Filled, Order};
use super::receipts::Receipts;
use crate::cluster::keeping::Knowledge;
use crate::cluster::recount::Channels;
use crate::planted::{Bug, is_planted};
use crate::shard::{Shard, Timer};

/// How long a hole may wait for the bus before the log is read, in ms.
const HOLE_MS: u64 = 50;
/// Messages read at once to fill a hole.
const HOLE_PAGE: usize = 500;

/// A channel at home in this shard.
pub(crate) struct Home {
    generation: u32,
    pub(crate) key: ChannelKey,
    pub(crate) rule: Arc<Rule>,
    /// Shards with subscribers, and how many.
    followers: Vec<(u16, u32)>,
    /// The bus does not say yet that it follows.
    pub(super) asked_bus: Option<AskedBus>,
    pub(super) order: Order,
    reading_hole: bool,
    /// The page that is read may be older than what is looked for.
    read_again: bool,
    pub(super) appends: Appends,
    pub(super) joins: Vec<Joining>,
    /// Messages that are not for the session that published them, until they are released.
    withheld: Vec<(Position, Handle)>,
    /// What was released since the oldest of `joins` began to read.
    pub(super) tail: Vec<Arc<Message>>,
    pub(crate) attendance: Attendance,
    pub(super) receipts: Receipts,
    pub(super) notices: Notices,
}

/// A question to the bus.
#[derive(Clone, Copy)]
pub(super) struct AskedBus {
    pub(super) number: u32,
    /// Nobody waits for the answer any more.
    pub(super) late: bool,
}

/// The channels at home in a shard.
#[derive(Default)]
pub(crate) struct Homes {
    by_key: HashMap<ChannelKey, u32, foldhash::fast::RandomState>,
    slab: Slab<Home>,
    generation: u32,
    /// A log did not know what it had done: something may have its place that no subscriber has heard of.
    pub(crate) unsure: bool,
    /// Publications that wait for their places, in all channels.
    pub(crate) unfinished: u64,
    /// Hosts of channels that are passed over for a while.
    pub(super) deaf: Deaf,
    /// Channels of which it is not known what the store of presence has.
    pub(crate) astray: Channels,
    /// Channels whose number of subscriptions has changed since it was told; nothing is noted where nobody is told.
    changed: Option<HashSet<ChannelKey>>,
}

impl Homes {
    /// Notes from now on which channels have other numbers of subscriptions.
    pub(crate) fn note_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// The home of a channel, made if there is none.
    pub(crate) fn open(&mut self, key: &ChannelKey, rule: &Arc<Rule>) -> HomeRef {
        if let Some(found) = self.find(key) {
            return found;
        }
        self.generation = self.generation.wrapping_add(1);
        let home = Home {
            generation: self.generation,
            key: key.clone(),
            rule: rule.clone(),
            followers: Vec::new(),
            asked_bus: None,
            order: Order::default(),
            reading_hole: false,
            read_again: false,
            appends: Appends::default(),
            joins: Vec::new(),
            withheld: Vec::new(),
            tail: Vec::new(),
            attendance: Attendance::default(),
            receipts: Receipts::default(),
            notices: Notices::default(),
        };
        let index = u32::try_from(self.slab.insert(home)).unwrap_or(u32::MAX);
        self.by_key.insert(key.clone(), index);
        HomeRef { index, generation: self.generation }
    }

    pub(crate) fn find(&self, key: &ChannelKey) -> Option<HomeRef> {
        let index = *self.by_key.get(key)?;
        Some(HomeRef { index, generation: self.slab[index as usize].generation })
    }

    /// The channels of an app, or all.
    pub(crate) fn of(&self, app: Option<&App>) -> Vec<ChannelKey> {
        let keys = self.slab.iter().map(|(_, home)| &home.key);
        keys.filter(|key| app.is_none_or(|app| key.app == *app)).cloned().collect()
    }

    pub(crate) fn get(&mut self, home: HomeRef) -> Option<&mut Home> {
        self.slab.get_mut(home.index as usize).filter(|found| found.generation == home.generation)
    }

    /// The channels with subscribers and presence.
    pub(crate) fn with_presence(&self) -> Vec<ChannelKey> {
        let homes = self.slab.iter().map(|(_, home)| home);
        let shown = homes.filter(|home| home.rule.presence && !home.followers.is_empty());
        shown.map(|home| home.key.clone()).collect()
    }

    /// How many channels have subscribers.
    pub(crate) fn hosted(&self) -> u64 {
        self.slab.len() as u64
    }

    /// A channel has another number of subscriptions.
    pub(crate) fn changed(&mut self, channel: &ChannelKey) {
        if let Some(changed) = &mut self.changed
            && !changed.contains(channel)
        {
            changed.insert(channel.clone());
        }
    }

    /// What was to be told of these channels is to be told again.
    pub(crate) fn changed_again(&mut self, channels: Vec<ChannelKey>) {
        if let Some(changed) = &mut self.changed {
            changed.extend(channels);
        }
    }

    /// At most so many channels that have changed, with their numbers of subscriptions.
    pub(crate) fn take_changed(&mut self, most: usize) -> Vec<(ChannelKey, u64)> {
        let Some(changed) = &mut self.changed else { return Vec::new() };
        let keys: Vec<ChannelKey> = changed.iter().take(most).cloned().collect();
        for key in &keys {
            changed.remove(key);
        }
        keys.into_iter().map(|key| (self.subscriptions(&key), key)).map(|(count, key)| (key, count)).collect()
    }

    fn subscriptions(&self, channel: &ChannelKey) -> u64 {
        let home = self.by_key.get(channel).and_then(|index| self.slab.get(*index as usize));
        home.map_or(0, |home| home.followers.iter().map(|(_, count)| u64::from(*count)).sum())
    }

    /// The channels with history and subscribers: those that are durable, or the others.
    fn followed(&self, durable: bool) -> Vec<(ChannelKey, Position)> {
        let homes = self.slab.iter().map(|(_, home)| home);
        let kept = homes.filter(|home| home.rule.history.is_durable() == durable);
        kept.filter_map(|home| Some((home.key.clone(), home.order.at()?))).collect()
    }
}

impl Home {
    pub(super) fn keeps_history(&self) -> bool {
        self.rule.history != History::None
    }

    fn is_idle(&self) -> bool {
        self.followers.is_empty()
            && self.joins.is_empty()
            && self.appends.is_idle()
            && self.attendance.is_idle()
            && self.receipts.is_idle()
            && self.notices.is_idle()
    }

    /// Whether messages are known that cannot be released before the log is read.
    fn is_incomplete(&self) -> bool {
        self.order.at().is_some() && (self.order.has_hole() || self.is_behind_joins())
    }

    /// The session that does not get a message which is released now: it may have come by the bus, or from the log, before its publisher's answer.
    fn excluded(&mut self, message: &Message) -> Option<Handle> {
        let position = message.position?;
        let known = self.withheld.iter().find(|(place, _)| *place == position).map(|(_, handle)| *handle);
        self.withheld.retain(|(place, _)| place.epoch == position.epoch && place.seq > position.seq);
        known.or_else(|| self.appends.excluded(message))
    }

    /// Whether joins have to wait until the bus follows.
    pub(super) fn awaits_bus(&self) -> bool {
        self.asked_bus.is_some_and(|asked| !asked.late)
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

// === order ===

impl Shard {
    /// A message that has its place: released when its turn comes.
    pub(super) fn home_offer(&mut self, home_ref: HomeRef, message: Arc<Message>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let mut released = Vec::new();
        home.order.offer(message, &mut released);
        self.release(home_ref, released);
        self.watch_hole(home_ref);
    }

    /// A message that may have to wait for its turn is not for this session.
    pub(super) fn home_withhold(&mut self, home_ref: HomeRef, message: &Message, from: Option<Handle>) {
        let (Some(position), Some(from)) = (message.position, from) else { return };
        let Some(home) = self.homes.get(home_ref) else { return };
        let waits = match home.order.at() {
            Some(at) => at.epoch == position.epoch && at.seq < position.seq,
            None => !home.joins.is_empty(),
        };
        if waits {
            home.withheld.push((position, from));
        }
    }

    /// Sends what the order has released to the shards that have subscribers.
    pub(super) fn release(&mut self, home_ref: HomeRef, released: Vec<Arc<Message>>) {
        for message in released {
            let Some(home) = self.homes.get(home_ref) else { return };
            if !home.joins.is_empty() {
                home.tail.push(message.clone());
            }
            let exclude = home.excluded(&message);
            self.home_happens(Happening::Message(message), exclude);
        }
    }

    /// Posts to every shard that has subscribers of the channel.
    pub(crate) fn home_happens(&mut self, happening: Happening, exclude: Option<Handle>) {
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
        if std::mem::take(&mut home.read_again) || home.is_incomplete() {
            self.catch_up(home_ref);
        }
    }

    /// Reads the log behind the release point once more where it is being read already: what may have been lost may be newer than that page.
    pub(super) fn look_behind(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.read_again = home.reading_hole;
        self.catch_up(home_ref);
    }

    /// Reads the log behind the release point: something may have been lost that no hole shows.
    pub(super) fn catch_up(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(at) = home.order.at() else { return };
        if !home.reading_hole {
            home.reading_hole = true;
            self.read_page(home_ref, Wanted::Hole(at.seq), Range::After(at.seq), HOLE_PAGE);
        }
    }

    pub(super) fn read_page(&mut self, home_ref: HomeRef, wanted: Wanted, range: Range, limit: usize) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let (key, rule, mailbox) = (home.key.clone(), home.rule.clone(), self.mailbox());
        let done = Box::new(move |result| mailbox.post(Inbox::PageRead(home_ref, wanted, result)));
        self.node.log(&rule.history).read(&key, range, limit, done);
    }

    pub(crate) fn home_page(&mut self, home_ref: HomeRef, wanted: Wanted, result: Result<Page, PortError>) {
        match wanted {
            Wanted::Join(number) => self.join_page(home_ref, number, result),
            Wanted::Hole(after) => self.hole_page(home_ref, after, result),
            Wanted::Notice => self.notice_page(home_ref, result),
        }
        self.retire(home_ref);
    }

    fn hole_page(&mut self, home_ref: HomeRef, after: u64, result: Result<Page, PortError>) {
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
        if let Filled::Lost(position) = home.order.fill(after, page, &mut released) {
            self.home_happens(Happening::Gap(key, position), None);
        }
        self.release(home_ref, released);
        let Some(home) = self.homes.get(home_ref) else { return };
        let again = std::mem::take(&mut home.read_again);
        match home.order.at() {
            Some(at) if again || at.seq < head => self.catch_up(home_ref),
            _ => self.watch_hole(home_ref),
        }
        self.advance_joins(home_ref);
    }

    /// Ends a home that nobody needs.
    pub(crate) fn retire(&mut self, home_ref: HomeRef) {
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
            Inbound::Envelope(Envelope { origin, event: Event::Forward(forward) }) => {
                self.home_forward(&origin, &forward);
            }
            Inbound::Envelope(Envelope { origin, event: Event::Forwarded(forwarded) }) => {
                self.home_forwarded(&origin, &forwarded);
            }
            Inbound::Envelope(envelope) => {
                let home = envelope.event.channel().and_then(|channel| self.homes.find(channel));
                let Some(home_ref) = home else { return };
                match envelope.event {
                    Event::Message(message) if message.position.is_some() => {
                        self.home_offer(home_ref, message)
                    }
                    Event::Message(message) => self.home_happens(Happening::Message(message), None),
                    Event::Signal(message) => self.home_happens(Happening::Signal(message), None),
                    Event::Presence(key, delta) => {
                        if let Some(home) = self.homes.get(home_ref) {
                            home.attendance.tells();
                        }
                        self.tell_presence(key, delta);
                    }
                    Event::Marker(moved) => self.home_happens(Happening::Marker(moved), None),
                    // Not for a channel, and not posted to its home; or done with.
                    Event::OwnMarker(_)
                    | Event::Notify(_)
                    | Event::Enlist(_)
                    | Event::Forward(_)
                    | Event::Forwarded(_)
                    | Event::Inquiry(_)
                    | Event::Report(_) => {}
                }
            }
            Inbound::Gap(Some(Topic::Channel(key))) => {
                if let Some(home_ref) = self.homes.find(&key) {
                    self.look_behind(home_ref);
                    let shown = self.homes.get(home_ref).is_some_and(|home| home.rule.presence);
                    if shown {
                        self.relist(&key);
                    }
                }
            }
            // Forwards are sent again while they are not answered.
            Inbound::Gap(Some(Topic::Node(_))) => {}
            // What was lost meanwhile is told as a gap.
            Inbound::Up => self.bus_is(true),
            Inbound::Gap(_) => {
                if is_planted(Bug::NothingReadAfterReconnect) {
                    return;
                }
                self.homes.with_presence().iter().for_each(|key| self.relist(key));
                let mut followed = self.homes.followed(false);
                followed.append(&mut self.homes.followed(true));
                for (key, _) in followed {
                    if let Some(home_ref) = self.homes.find(&key) {
                        self.look_behind(home_ref);
                    }
                }
            }
            Inbound::Down => {
                tracing::warn!("the bus is down; local subscribers are still served");
                self.bus_is(false);
                // Before a gap can be told: a store that is lost with the bus may come back with nothing.
                self.presence_is(Knowledge { known: false, ..self.presence });
            }
        }
    }

    /// The last message of a burst may be lost with no hole to show it: heads are compared.
    pub(crate) fn compare_heads(&mut self) {
        if is_planted(Bug::HeadsNotCompared) {
            return;
        }
        for durable in [false, true] {
            let asked = self.homes.followed(durable);
            if asked.is_empty() {
                continue;
            }
            let keys = asked.iter().map(|(key, _)| key.clone()).collect();
            let mailbox = self.mailbox();
            let done = Box::new(move |result| mailbox.post(Inbox::Heads(asked, result)));
            if durable { self.node.ledger().heads(keys, done) } else { self.node.recent().heads(keys, done) }
        }
    }

    pub(crate) fn home_heads(
        &mut self,
        asked: Vec<(ChannelKey, Position)>,
        result: Result<Vec<Position>, PortError>,
    ) {
        let heads = match result {
            Ok(heads) => heads,
            Err(error) => {
                self.homes.unsure = true;
                return tracing::warn!(%error, "cannot compare heads");
            }
        };
        for ((key, before), head) in asked.iter().zip(heads) {
            let Some(home_ref) = self.homes.find(key) else { continue };
            let Some(home) = self.homes.get(home_ref) else { continue };
            let at = home.order.at();
            // Where it was when the log was asked: meanwhile it may have gone on.
            if home.rule.history.is_durable() && is_ahead(*before, head) {
                self.node.metrics.ahead("this server", key, self.node.clock().wall());
            }
            if at.is_some_and(|at| at.epoch != head.epoch || at.seq < head.seq) {
                self.look_behind(home_ref);
            }
        }
    }
}

/// Whether a position is one that a log with this head cannot have given.
pub(super) const fn is_ahead(at: Position, head: Position) -> bool {
    at.epoch.0 == head.epoch.0 && at.seq > head.seq
}
