//! Work that is to be done, kept in memory: as long as the process lives.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use xpush_core::ports::outbox::{
    Backlog, Claim, Dead, Item, LONGEST_MS, MOST_DEAD, MOST_WAITING, Outbox, Settlement, Then, Waiting,
};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{Clock, Monotonic};

use crate::lock;

/// [`Outbox`] of one process. What waits goes with it.
pub struct MemoryOutbox {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The ids and leases that were given last.
    ids: u64,
    leases: u64,
    queues: HashMap<Box<str>, Queue, RandomState>,
}

#[derive(Default)]
struct Queue {
    keys: HashMap<Box<str>, Lane, RandomState>,
    waiting: u64,
    dead: VecDeque<Dead>,
}

/// The items of one key.
struct Lane {
    items: VecDeque<Waiting>,
    /// When they can be claimed; while they are claimed, when that ends.
    due: Monotonic,
    /// What was there first is claimed first, among those that are due at the same time.
    number: u64,
    /// The claim that holds; 0 without any.
    lease: u64,
}

impl MemoryOutbox {
    /// With nothing to do.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }
}

impl Outbox for MemoryOutbox {
    fn put(&self, items: Vec<Item>, done: Done<()>) {
        let (now, put_at) = (self.clock.monotonic(), self.clock.wall());
        let put = lock(&self.state).put(items, now, put_at);
        done(put);
    }

    fn claim(&self, queue: &str, keys: usize, items: usize, lease_ms: u64, done: Done<Vec<Claim>>) {
        let now = self.clock.monotonic();
        let claims = lock(&self.state).claim(queue, keys, items, now, now.after(lease_ms.min(LONGEST_MS)));
        done(Ok(claims));
    }

    fn settle(&self, queue: &str, settlements: Vec<Settlement>, done: Done<usize>) {
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        let mut state = lock(&self.state);
        let held = state.queues.get_mut(queue).map_or(0, |queue| {
            settlements.into_iter().filter(|settlement| queue.settle(settlement, now, wall)).count()
        });
        drop(state);
        done(Ok(held));
    }

    fn backlog(&self, queue: &str, done: Done<Backlog>) {
        let backlog = lock(&self.state).queues.get(queue).map_or(Backlog::default(), |queue| Backlog {
            waiting: queue.waiting,
            oldest: queue
                .keys
                .values()
                .filter_map(|lane| lane.items.front())
                .min_by_key(|item| item.id)
                .map(|item| item.put_at),
        });
        done(Ok(backlog));
    }

    fn dead(&self, queue: &str, limit: usize, done: Done<Vec<Dead>>) {
        let state = lock(&self.state);
        let dead =
            state.queues.get(queue).map(|queue| queue.dead.iter().rev().take(limit).cloned().collect());
        drop(state);
        done(Ok(dead.unwrap_or_default()));
    }
}

impl State {
    fn put(&mut self, items: Vec<Item>, now: Monotonic, put_at: u64) -> Result<(), PortError> {
        if !items.iter().all(Item::is_valid) {
            return Err(PortError::new(Failure::Invalid, "an item that is too long"));
        }
        for item in &items {
            let more = items.iter().filter(|other| other.queue == item.queue).count() as u64;
            let waiting = self.queues.get(&item.queue).map_or(0, |queue| queue.waiting);
            if waiting + more > MOST_WAITING {
                return Err(PortError::new(Failure::Full, "too much waits in the queue"));
            }
        }
        for Item { queue, key, body } in items {
            self.ids += 1;
            let id = self.ids;
            let queue = self.queues.entry(queue).or_default();
            queue.waiting += 1;
            let lane = queue.keys.entry(key).or_insert_with(|| Lane {
                items: VecDeque::new(),
                due: now,
                number: id,
                lease: 0,
            });
            lane.items.push_back(Waiting { id, body, attempts: 0, put_at });
        }
        Ok(())
    }

    fn claim(
        &mut self,
        queue: &str,
        keys: usize,
        items: usize,
        now: Monotonic,
        until: Monotonic,
    ) -> Vec<Claim> {
        let Some(queue) = self.queues.get_mut(queue) else { return Vec::new() };
        let mut due: Vec<_> = queue.keys.iter_mut().filter(|(_, lane)| lane.due <= now).collect();
        due.sort_by_key(|(_, lane)| (lane.due, lane.number));
        let mut left = items;
        let mut claims = Vec::new();
        for (key, lane) in due.into_iter().take(keys) {
            if left == 0 {
                break;
            }
            let taken: Vec<_> = lane.items.iter().take(left).cloned().collect();
            left -= taken.len();
            self.leases += 1;
            (lane.lease, lane.due) = (self.leases, until);
            claims.push(Claim { key: key.clone(), lease: self.leases, items: taken });
        }
        claims
    }
}

impl Queue {
    /// Whether the claim still held.
    fn settle(&mut self, settlement: &Settlement, now: Monotonic, wall: u64) -> bool {
        let Some(lane) = self.keys.get_mut(&settlement.key) else { return false };
        if lane.lease != settlement.lease || lane.due <= now {
            return false;
        }
        let done = settlement.done.min(lane.items.len());
        lane.items.drain(..done);
        self.waiting -= done as u64;
        (lane.lease, lane.due) = (0, now);
        match &settlement.then {
            Then::Release => {}
            Then::Retry { after_ms } => {
                if let Some(item) = lane.items.front_mut() {
                    item.attempts += 1;
                    lane.due = now.after((*after_ms).min(LONGEST_MS));
                }
            }
            Then::Bury { why } => {
                if let Some(Waiting { id, attempts, put_at, .. }) = lane.items.pop_front() {
                    self.waiting -= 1;
                    let (key, why) = (settlement.key.clone(), why.clone());
                    self.dead.push_back(Dead { id, key, attempts: attempts + 1, put_at, died_at: wall, why });
                    if self.dead.len() > MOST_DEAD {
                        self.dead.pop_front();
                    }
                }
            }
        }
        match lane.items.front() {
            Some(first) => lane.number = first.id,
            None => drop(self.keys.remove(&settlement.key)),
        }
        true
    }
}
