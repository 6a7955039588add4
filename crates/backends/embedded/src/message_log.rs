//! Recent history, in memory.

mod erasure;
mod history;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{ChannelKey, Clock, Epoch, Position, Retention};

use crate::lock;
use erasure::Begun;
use history::{History, weight_of_draft};

/// Bytes that a log takes when nothing else is said: 256 MB.
pub const DEFAULT_BOUND: usize = 256 << 20;

/// Enough that shards rarely meet.
const STRIPES: usize = 64;

/// No channel takes more than this part of the bound, whatever its retention says.
const SHARES: usize = 4;

/// Evicted channels that a stripe remembers one by one: 64 × 1,024 × some 40 bytes in all.
const REMEMBERED: usize = 1024;

/// A [`MessageLog`] for `recent` history: what its bounds keep, as long as the process lives.
///
/// The fence on client ids holds for exactly the messages that can be read. Age is counted from the append, by the monotonic clock, and applied when the
/// channel is written or read.
///
/// When all channels together weigh more than `bound`, those written least recently are evicted whole. An evicted channel begins anew with an epoch that it
/// never had, so that nobody who knew it takes the new seqs for the old ones.
pub struct MemoryLog {
    store: u64,
    bound: usize,
    clock: Arc<dyn Clock>,
    stripes: Box<[Mutex<Stripe>]>,
    /// Bytes, by [`History::weight`].
    used: AtomicUsize,
    /// Appends so far.
    writes: AtomicU64,
    /// Incarnations given so far; never given twice, so an epoch is not either.
    incarnations: AtomicU64,
    /// Held while channels are evicted, so that two appends do not evict for the same want of room. Taken before any stripe's lock, and never while one is
    /// held; of the stripes, no two are held together.
    evicting: Mutex<()>,
    /// Never held together with another lock.
    erasures: Mutex<Vec<Begun>>,
}

#[derive(Default)]
struct Stripe {
    histories: HashMap<ChannelKey, History, RandomState>,
    /// The channels by their latest write.
    by_write: BTreeMap<u64, ChannelKey>,
    /// The next incarnations of evicted channels, by the channel's hash: two channels of one hash get a new epoch without need, which is safe.
    evicted: HashMap<u64, u64, RandomState>,
    /// The next incarnation of all other channels: 0 until `evicted` was full once.
    incarnation: u64,
}

impl MemoryLog {
    /// An empty log that takes `bound` bytes. `store` is its first epoch: random, so that no two starts have the same.
    pub fn new(store: u64, bound: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            bound,
            clock,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            used: AtomicUsize::new(0),
            writes: AtomicU64::new(0),
            incarnations: AtomicU64::new(0),
            evicting: Mutex::default(),
            erasures: Mutex::default(),
        }
    }

    /// Bytes that all channels together take, about.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn stripe(&self, channel: &ChannelKey) -> &Mutex<Stripe> {
        // The top bits: shards are chosen by the others, and one shard's channels should spread, too.
        &self.stripes[(channel.hash64() >> 58) as usize % STRIPES]
    }

    fn place(&self, channel: &ChannelKey, retention: Retention, mut drafts: Vec<Draft>) -> Appended {
        let share = self.bound / SHARES;
        let failing = drafts.iter().position(|draft| weight_of_draft(draft) > share);
        let failure =
            failing.map(|_| PortError::new(Failure::Full, "larger than a channel's share of the memory"));
        drafts.truncate(failing.unwrap_or(drafts.len()));
        if drafts.is_empty() {
            return Appended { taken: Vec::new(), failure };
        }

        let now = self.clock.monotonic();
        let mut stripe = lock(self.stripe(channel));
        let history = self.begin_write(&mut stripe, channel);
        let before = history.weight();
        // Twice: what was too old until now stays so.
        history.expire(now);
        history.keep(retention, share);
        history.expire(now);
        let taken = drafts.into_iter().map(|draft| history.place(channel, draft, now)).collect();
        history.trim();
        self.weighed(before, history.weight());
        Appended { taken, failure }
    }

    /// The channel's history, empty if it had none, and from now on the one written last.
    fn begin_write<'a>(&self, stripe: &'a mut Stripe, channel: &ChannelKey) -> &'a mut History {
        let epoch = self.next_epoch(stripe, channel);
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let Stripe { histories, by_write, evicted, .. } = stripe;
        let history = histories.entry(channel.clone()).or_insert_with(|| {
            evicted.remove(&channel.hash64());
            let history = History::new(epoch, write);
            self.weighed(0, history.weight());
            history
        });
        let key = by_write.remove(&history.written).unwrap_or_else(|| channel.clone());
        by_write.insert(write, key);
        history.written = write;
        history
    }

    /// What a read finds: the history, without what is too old by now.
    fn look<T>(
        &self,
        channel: &ChannelKey,
        found: impl FnOnce(&History) -> T,
        none: impl FnOnce(Epoch) -> T,
    ) -> T {
        let now = self.clock.monotonic();
        let mut stripe = lock(self.stripe(channel));
        let Some(history) = stripe.histories.get_mut(channel) else {
            return none(self.next_epoch(&stripe, channel));
        };
        let before = history.weight();
        history.expire(now);
        self.weighed(before, history.weight());
        found(history)
    }

    /// The epoch that a channel without history would get.
    fn next_epoch(&self, stripe: &Stripe, channel: &ChannelKey) -> Epoch {
        let incarnation = stripe.evicted.get(&channel.hash64()).copied().unwrap_or(stripe.incarnation);
        // An odd factor: no two incarnations have the same epoch.
        Epoch(self.store.wrapping_add(incarnation.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn weighed(&self, before: usize, after: usize) {
        if after >= before {
            self.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Evicts the channels written least recently until the rest fits, but never `spared`: its messages were placed just now.
    fn make_room(&self, spared: &ChannelKey) {
        if self.used() <= self.bound {
            return;
        }
        let _one_at_a_time = lock(&self.evicting);
        while self.used() > self.bound {
            let oldest =
                |stripe: &Mutex<Stripe>| lock(stripe).by_write.first_key_value().map(|(write, _)| *write);
            let by_age = self.stripes.iter().filter_map(|stripe| Some((oldest(stripe)?, stripe)));
            let Some((_, stripe)) = by_age.min_by_key(|(write, _)| *write) else { return };
            // Freed after the lock: it may be thousands of messages.
            let evicted = self.evict_oldest(&mut lock(stripe), spared);
            if evicted.is_none() {
                return;
            }
        }
    }

    fn evict_oldest(&self, stripe: &mut Stripe, spared: &ChannelKey) -> Option<History> {
        let oldest = stripe.by_write.first_entry().filter(|oldest| oldest.get() != spared)?;
        let channel = oldest.remove();
        let history = stripe.histories.remove(&channel)?;
        self.forget(stripe, &channel, &history);
        Some(history)
    }

    /// The channel has gone with its history: should it come again, it begins anew.
    fn forget(&self, stripe: &mut Stripe, channel: &ChannelKey, history: &History) {
        self.weighed(history.weight(), 0);
        let incarnation = || self.incarnations.fetch_add(1, Ordering::Relaxed) + 1;
        stripe.evicted.insert(channel.hash64(), incarnation());
        if stripe.evicted.len() > REMEMBERED {
            stripe.evicted.clear();
            stripe.incarnation = incarnation();
        }
    }
}

impl MessageLog for MemoryLog {
    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>, done: Done<Appended>) {
        let appended = self.place(channel, retention, drafts);
        self.make_room(channel);
        done(Ok(appended));
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let empty = |epoch| Page { epoch, first: 1, head: 0, messages: Vec::new() };
        let page = self.look(channel, |history| history.page(range, limit), empty);
        done(Ok(page));
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        let none = |epoch| Position { epoch, seq: 0 };
        let heads = channels.iter().map(|channel| self.look(channel, History::position, none)).collect();
        done(Ok(heads));
    }
}
