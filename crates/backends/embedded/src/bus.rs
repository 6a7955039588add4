//! Between the nodes of one process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::fast::RandomState;
use xpush_core::NodeId;
use xpush_core::ports::Done;
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Topic};

/// Where the nodes of one process meet; a clone is the same place.
#[derive(Clone, Default)]
pub struct LocalHub(Arc<Hub>);

/// One node's bus. The node is detached when this is dropped.
///
/// Events are delivered by the publisher's thread before `publish` returns, hence in the order in which they were published. A sink may follow and
/// unfollow from within `receive`, but not publish: what it published would overtake the event that it was still being given.
pub struct LocalBus {
    hub: Arc<Hub>,
    node: NodeId,
    this: Follower,
}

#[derive(Default)]
struct Hub {
    /// How many buses there are: a node alone has nobody to look up.
    buses: AtomicUsize,
    /// Numbers given to buses so far.
    numbers: AtomicU64,
    followers: RwLock<Followers>,
}

/// Lists are replaced, not changed: a publisher takes one and lets the lock go before it delivers.
type Followers = HashMap<Topic, Arc<[Follower]>, RandomState>;

#[derive(Clone)]
struct Follower {
    bus: u64,
    sink: Arc<dyn BusSink>,
}

impl LocalHub {
    /// Without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects a node; `sink` is told [`Inbound::Up`] before this returns.
    pub fn attach(&self, node: NodeId, sink: Arc<dyn BusSink>) -> LocalBus {
        let hub = Arc::clone(&self.0);
        let bus = hub.numbers.fetch_add(1, Ordering::Relaxed);
        hub.buses.fetch_add(1, Ordering::Relaxed);
        sink.receive(Inbound::Up);
        LocalBus { hub, node, this: Follower { bus, sink } }
    }
}

impl Bus for LocalBus {
    fn publish(&self, topic: &Topic, event: Event) {
        // Relaxed: whoever knows that another node follows knows it from that node, and with it that the node was attached.
        if self.hub.buses.load(Ordering::Relaxed) < 2 {
            return;
        }
        let Some(followers) = self.hub.read().get(topic).cloned() else { return };
        for follower in followers.iter().filter(|follower| follower.bus != self.this.bus) {
            let envelope = Envelope { origin: self.node.clone(), event: event.clone() };
            follower.sink.receive(Inbound::Envelope(envelope));
        }
    }

    fn follow(&self, topic: Topic, done: Done<()>) {
        match self.hub.write().entry(topic) {
            Entry::Vacant(entry) => {
                entry.insert(Arc::from([self.this.clone()]));
            }
            Entry::Occupied(mut entry) => {
                if entry.get().iter().all(|follower| follower.bus != self.this.bus) {
                    let others = entry.get().iter().cloned();
                    let all = others.chain([self.this.clone()]).collect();
                    entry.insert(all);
                }
            }
        }
        done(Ok(()));
    }

    fn unfollow(&self, topic: &Topic) {
        let mut topics = self.hub.write();
        if let Some(followers) = topics.get_mut(topic)
            && !without(followers, self.this.bus)
        {
            topics.remove(topic);
        }
    }
}

impl Drop for LocalBus {
    fn drop(&mut self) {
        self.hub.write().retain(|_, followers| without(followers, self.this.bus));
        self.hub.buses.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    fn read(&self) -> RwLockReadGuard<'_, Followers> {
        self.followers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Followers> {
        self.followers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes `bus` out of a list; false when nobody is left in it.
fn without(followers: &mut Arc<[Follower]>, bus: u64) -> bool {
    if followers.iter().any(|follower| follower.bus == bus) {
        *followers = followers.iter().filter(|follower| follower.bus != bus).cloned().collect();
    }
    !followers.is_empty()
}
