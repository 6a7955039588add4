//! A channel's subscribers of one shard, and what they are about to be sent.
//!
//! Deliveries wait until the shard has handled everything that is at hand; then each format's frames of a channel are laid out once, one behind the other, and
//! every subscriber's outbox gets the same bytes: one reference for a whole burst.

use std::collections::HashMap;

use bytes::Bytes;
use slab::Slab;
use xpush_core::ChannelKey;

use crate::dialect::object::Objects;
use crate::dialect::{self, Format, Wire};
use crate::fanout::inbox::{Delivery, Happening};
use crate::session::Sessions;

/// A session in a topic's list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscriber {
    pub(crate) slot: u32,
    pub(crate) format: Format,
    pub(crate) wants_presence: bool,
    pub(crate) wants_receipts: bool,
}

/// A channel as this shard sees it.
pub(crate) struct Topic {
    pub(crate) key: ChannelKey,
    subscribers: Vec<Subscriber>,
    pending: Vec<Delivery>,
    /// Subscriptions, joining ones included, that keep this topic alive.
    users: usize,
}

/// The channels of a shard.
#[derive(Default)]
pub(crate) struct Topics {
    by_key: HashMap<ChannelKey, u32, foldhash::fast::RandomState>,
    slab: Slab<Topic>,
    queued: Vec<u32>,
}

/// A burst in one format: all frames in one piece, and where each delivery's end.
struct Burst {
    frames: Bytes,
    ends: Vec<usize>,
}

impl Topics {
    /// The topic of a channel, made if there is none, with one more user.
    pub(crate) fn enter(&mut self, key: &ChannelKey) -> u32 {
        let index = match self.by_key.get(key) {
            Some(index) => *index,
            None => {
                let topic =
                    Topic { key: key.clone(), subscribers: Vec::new(), pending: Vec::new(), users: 0 };
                let index = small(self.slab.insert(topic));
                self.by_key.insert(key.clone(), index);
                index
            }
        };
        self.slab[index as usize].users += 1;
        index
    }

    /// One user fewer; the topic goes with the last.
    pub(crate) fn leave(&mut self, index: u32) {
        let topic = &mut self.slab[index as usize];
        topic.users -= 1;
        if topic.users == 0 {
            let topic = self.slab.remove(index as usize);
            self.by_key.remove(&topic.key);
            self.queued.retain(|queued| *queued != index);
        }
    }

    /// The channels that match, with how many sessions follow each here.
    pub(crate) fn count<'a>(
        &'a self,
        matches: impl Fn(&ChannelKey) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a ChannelKey, usize)> + 'a {
        let topics = self.slab.iter().map(|(_, topic)| (&topic.key, topic.subscribers.len()));
        topics.filter(move |(key, _)| matches(key))
    }

    pub(crate) fn get(&self, index: u32) -> &Topic {
        &self.slab[index as usize]
    }

    pub(crate) fn find(&self, key: &ChannelKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// How many channels have subscribers here.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Queues a delivery for the channel's subscribers, if there are any here.
    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        let Some(index) = self.find(delivery.happening.channel()) else { return };
        let topic = &mut self.slab[index as usize];
        if topic.pending.is_empty() {
            self.queued.push(index);
        }
        topic.pending.push(delivery);
    }

    /// Adds a subscriber, who gets what is delivered from now on; its place in the list. What is queued goes to the others first.
    pub(crate) fn subscribe(&mut self, index: u32, subscriber: Subscriber, sessions: &mut Sessions) -> u32 {
        self.slab[index as usize].fan_out(sessions);
        let subscribers = &mut self.slab[index as usize].subscribers;
        subscribers.push(subscriber);
        small(subscribers.len() - 1)
    }

    /// Takes the subscriber at `place` out, after what is queued has gone to it. The last one moves into its place: who that is, to be told so.
    pub(crate) fn unsubscribe(
        &mut self,
        index: u32,
        place: u32,
        sessions: &mut Sessions,
    ) -> Option<Subscriber> {
        let topic = &mut self.slab[index as usize];
        topic.fan_out(sessions);
        topic.subscribers.swap_remove(place as usize);
        topic.subscribers.get(place as usize).copied()
    }

    /// Puts everything that is queued into outboxes. How many deliveries that made.
    pub(crate) fn fan_out(&mut self, sessions: &mut Sessions) -> u64 {
        let mut deliveries = 0;
        for index in self.queued.drain(..) {
            if let Some(topic) = self.slab.get_mut(index as usize) {
                deliveries += topic.fan_out(sessions);
            }
        }
        deliveries
    }
}

impl Topic {
    fn fan_out(&mut self, sessions: &mut Sessions) -> u64 {
        if self.pending.is_empty() {
            return 0;
        }
        let mut objects: Vec<Objects> = self.pending.iter().map(|_| Objects::default()).collect();
        let mut bursts: [Option<Burst>; Format::COUNT] = Default::default();
        let for_everybody = self.pending.iter().all(Delivery::is_for_everybody);
        let mut deliveries = 0;
        for subscriber in &self.subscribers {
            let burst = bursts[subscriber.format.index()]
                .get_or_insert_with(|| Burst::encode(subscriber.format, &self.pending, &mut objects));
            if for_everybody && subscriber.format.wire != Wire::Sse {
                sessions.send(subscriber.slot, burst.frames.clone());
                deliveries += self.pending.len() as u64;
                continue;
            }
            for (number, delivery) in self.pending.iter().enumerate() {
                let frames = burst.one(number);
                if frames.is_empty() || !delivery.is_for(subscriber, sessions) {
                    continue;
                }
                sessions.send_event(subscriber.slot, &delivery.happening, frames);
                deliveries += 1;
            }
        }
        self.pending.clear();
        deliveries
    }
}

impl Burst {
    fn encode(format: Format, pending: &[Delivery], objects: &mut [Objects]) -> Self {
        let mut frames = Vec::new();
        let mut ends = Vec::with_capacity(pending.len());
        for (delivery, objects) in pending.iter().zip(objects) {
            dialect::happening(format, &delivery.happening, objects, &mut frames);
            ends.push(frames.len());
        }
        Self { frames: Bytes::from(frames), ends }
    }

    /// The frames of one delivery; none when it is not for this format.
    fn one(&self, number: usize) -> Bytes {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.frames.slice(start..self.ends[number])
    }
}

impl Delivery {
    fn is_for_everybody(&self) -> bool {
        self.exclude.is_none()
            && !self.happening.is_of_presence()
            && !matches!(self.happening, Happening::Marker(_))
    }

    fn is_for(&self, subscriber: &Subscriber, sessions: &Sessions) -> bool {
        let excluded = self.exclude.is_some_and(|handle| sessions.handle(subscriber.slot) == Some(handle));
        let wanted = match self.happening {
            Happening::Marker(_) => subscriber.wants_receipts,
            ref other => subscriber.wants_presence || !other.is_of_presence(),
        };
        wanted && !excluded
    }
}

/// Indices of a shard's tables: they hold far fewer than 2^32 entries, for each entry is larger than a byte.
fn small(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
