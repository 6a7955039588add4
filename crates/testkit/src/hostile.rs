//! A bus that keeps what it must and spoils what it may, and more: late, swapped, lost, by a seed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Topic};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{Clock, Monotonic, NodeId};

use crate::environment::SeededEntropy;

/// How badly a bus behaves.
#[derive(Debug, Clone, Copy)]
pub struct Hostility {
    /// The probability that an event is lost on its way to a node; nodes lose independently.
    pub drop: f64,
    /// The longest delay, ms; each event's is chosen evenly from 0 to this.
    pub max_delay_ms: u64,
    /// Whether an event may overtake earlier ones of the same origin and topic. The contract forbids it: who endures this endures any bus.
    pub reorder: bool,
    /// The probability, at each event for a node, that the node is told of a gap, whether anything was lost or not: of the event's topic or, one time in eight, of all.
    pub gap_probability: f64,
    /// The longest time until a topic is really followed, ms.
    pub follow_delay_ms: u64,
}

/// Where the nodes of a simulation meet; a clone is the same place. The same seed, the same calls: the same behaviour.
///
/// Nothing arrives by itself: an event waits until [`HostileHub::deliver_due`] or [`HostileHub::step`] gives it to its sink, by the thread that calls. On the
/// way it is encoded and decoded, as on a bus that leaves the process. A sink may publish, follow and unfollow from within `receive`.
#[derive(Clone)]
pub struct HostileHub(Arc<Mutex<State>>);

struct HostileBus {
    hub: HostileHub,
    place: usize,
}

struct State {
    clock: Arc<dyn Clock>,
    entropy: SeededEntropy,
    hostility: Hostility,
    /// By the order in which they were attached; `None` after detaching.
    nodes: Vec<Option<Node>>,
    /// By moment; those of one moment in the order of their numbers.
    waiting: BTreeMap<(Monotonic, u64), Arrival>,
    /// Arrivals numbered so far.
    numbered: u64,
    /// It carries nothing.
    down: bool,
}

struct Node {
    id: NodeId,
    sink: Arc<dyn BusSink>,
    follows: HashSet<Topic>,
    /// The moment before which nothing may arrive here when events keep their order.
    latest: Monotonic,
}

struct Arrival {
    place: usize,
    what: What,
}

enum What {
    Envelope(Bytes),
    Gap(Option<Topic>),
    /// From here on the node receives the topic.
    Follow(Topic, Done<()>),
}

impl Hostility {
    /// Everything arrives at once and in order.
    pub const NONE: Self =
        Self { drop: 0.0, max_delay_ms: 0, reorder: false, gap_probability: 0.0, follow_delay_ms: 0 };
}

impl HostileHub {
    /// Without nodes. Delays are counted on `clock`.
    pub fn new(seed: u64, hostility: Hostility, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            entropy: SeededEntropy::new(seed),
            hostility,
            nodes: Vec::new(),
            waiting: BTreeMap::new(),
            numbered: 0,
            down: false,
        })))
    }

    /// Connects a node, until the bus is dropped; `sink` is told [`Inbound::Up`] before this returns, or [`Inbound::Down`] while that is so.
    pub fn attach(&self, node: NodeId, sink: Arc<dyn BusSink>) -> Arc<dyn Bus> {
        let down = self.state().down;
        sink.receive(if down { Inbound::Down } else { Inbound::Up });
        let mut state = self.state();
        state.nodes.push(Some(Node { id: node, sink, follows: HashSet::new(), latest: Monotonic(0) }));
        Arc::new(HostileBus { hub: self.clone(), place: state.nodes.len() - 1 })
    }

    /// Changes the behaviour for what is published from now on.
    pub fn set_hostility(&self, hostility: Hostility) {
        self.state().hostility = hostility;
    }

    /// Ends the bus, or lets it work again; every node is told, also that what is published meanwhile is lost.
    pub fn set_up(&self, up: bool) {
        let mut state = self.state();
        if state.down != up {
            return;
        }
        state.down = !up;
        let sinks: Vec<_> = state.nodes.iter().flatten().map(|node| Arc::clone(&node.sink)).collect();
        drop(state);
        for sink in sinks {
            sink.receive(if up { Inbound::Up } else { Inbound::Down });
            if up {
                sink.receive(Inbound::Gap(None));
            }
        }
    }

    /// Takes a node out that has ended without a word.
    pub fn detach(&self, node: &NodeId) {
        let mut state = self.state();
        let place =
            state.nodes.iter_mut().find(|found| found.as_ref().is_some_and(|found| found.id == *node));
        let gone = place.and_then(Option::take);
        // Its sink may hold the last handle of something that calls the bus as it goes.
        drop(state);
        drop(gone);
    }

    /// Delivers all that is due at `now`, and what is published meanwhile and due as well; says how many arrivals there were.
    pub fn deliver_due(&self, now: Monotonic) -> usize {
        std::iter::from_fn(|| self.deliver_one(now).then_some(())).count()
    }

    /// Delivers what is due first, though it may not be due yet; false when nothing waits.
    pub fn step(&self) -> bool {
        self.deliver_one(Monotonic(u64::MAX))
    }

    /// When the next arrival is due.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.state().waiting.first_key_value().map(|((due, _), _)| *due)
    }

    fn deliver_one(&self, now: Monotonic) -> bool {
        let mut state = self.state();
        let Some(entry) = state.waiting.first_entry().filter(|entry| entry.key().0 <= now) else {
            return false;
        };
        let Arrival { place, what } = entry.remove();
        if let (What::Follow(topic, _), Some(node)) = (&what, &mut state.nodes[place]) {
            node.follows.insert(topic.clone());
        }
        let sink = state.nodes[place].as_ref().map(|node| Arc::clone(&node.sink));
        // The sink may call the bus.
        drop(state);
        if let Some(sink) = sink {
            match what {
                What::Envelope(bytes) => {
                    let envelope = Envelope::decode(&bytes).expect("an envelope is read as it was written");
                    sink.receive(Inbound::Envelope(envelope));
                }
                What::Gap(topic) => sink.receive(Inbound::Gap(topic)),
                What::Follow(_, done) => done(Ok(())),
            }
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the hub's lock")
    }
}

impl Bus for HostileBus {
    fn publish(&self, topic: &Topic, event: Event) {
        let mut state = self.hub.state();
        if state.down {
            return;
        }
        let Some(origin) = state.nodes[self.place].as_ref().map(|node| node.id.clone()) else { return };
        let envelope = Envelope { origin, event };
        let bytes = envelope.encode();
        assert_eq!(Envelope::decode(&bytes).as_ref(), Ok(&envelope), "an envelope is read as it was written");
        let followers = |(place, node): (usize, &Option<Node>)| {
            (place != self.place && node.as_ref()?.follows.contains(topic)).then_some(place)
        };
        let followers: Vec<usize> = state.nodes.iter().enumerate().filter_map(followers).collect();
        for place in followers {
            state.send(place, topic, &bytes);
        }
    }

    fn follow(&self, topic: Topic, done: Done<()>) {
        let mut state = self.hub.state();
        if state.hostility.follow_delay_ms > 0 {
            return state.follow_later(self.place, topic, done);
        }
        if let Some(node) = &mut state.nodes[self.place] {
            node.follows.insert(topic);
        }
        drop(state);
        done(Ok(()));
    }

    fn unfollow(&self, topic: &Topic) {
        let mut state = self.hub.state();
        if let Some(node) = &mut state.nodes[self.place] {
            node.follows.remove(topic);
        }
        let dones = state.unfollow(self.place, topic);
        drop(state);
        for done in dones {
            done(Err(PortError::new(Failure::NotApplied, "unfollowed meanwhile")));
        }
    }
}

impl Drop for HostileBus {
    fn drop(&mut self) {
        // Dropped after the lock: the sink may hold the last handle of another node.
        let node = self.hub.state().nodes[self.place].take();
        drop(node);
    }
}

impl State {
    fn follow_later(&mut self, place: usize, topic: Topic, done: Done<()>) {
        let delay = self.entropy.below(self.hostility.follow_delay_ms + 1);
        self.numbered += 1;
        let due = (self.clock.monotonic().after(delay), self.numbered);
        self.waiting.insert(due, Arrival { place, what: What::Follow(topic, done) });
    }

    /// Takes back what would follow `topic` later.
    fn unfollow(&mut self, place: usize, topic: &Topic) -> Vec<Done<()>> {
        let follows = |arrival: &Arrival| match &arrival.what {
            What::Follow(followed, _) => arrival.place == place && followed == topic,
            What::Envelope(_) | What::Gap(_) => false,
        };
        let (gone, kept) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, arrival)| follows(arrival));
        self.waiting = kept;
        let gone: BTreeMap<(Monotonic, u64), Arrival> = gone;
        let dones = gone.into_values().filter_map(|arrival| match arrival.what {
            What::Follow(_, done) => Some(done),
            What::Envelope(_) | What::Gap(_) => None,
        });
        dones.collect()
    }

    fn send(&mut self, place: usize, topic: &Topic, bytes: &Bytes) {
        if !self.entropy.chance(self.hostility.drop) {
            self.wait(place, What::Envelope(bytes.clone()));
        }
        if self.entropy.chance(self.hostility.gap_probability) {
            let of_all = self.entropy.chance(0.125);
            self.wait(place, What::Gap((!of_all).then(|| topic.clone())));
        }
    }

    fn wait(&mut self, place: usize, what: What) {
        let delay = self.entropy.below(self.hostility.max_delay_ms.saturating_add(1));
        let mut due = self.clock.monotonic().after(delay);
        if let Some(node) = &mut self.nodes[place]
            && !self.hostility.reorder
        {
            node.latest = node.latest.max(due);
            due = node.latest;
        }
        self.numbered += 1;
        self.waiting.insert((due, self.numbered), Arrival { place, what });
    }
}

#[cfg(test)]
mod tests;
