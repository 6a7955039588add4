//! A store of presence that fails and forgets as a test will have it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::presence::{Change, Delta, Member, Outcome, Presence, Roster};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{ChannelKey, Clock, Monotonic, NodeId};
use xpush_embedded::LocalPresence;
use xpush_testkit::ManualClock;

/// One in memory whose leases end, which those of one process never do.
pub(crate) struct Presences {
    store: RwLock<LocalPresence>,
    fails: AtomicBool,
    clock: Arc<ManualClock>,
    /// When each node renewed its lease.
    renewed: Mutex<BTreeMap<NodeId, Monotonic>>,
}

impl Presences {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            store: RwLock::new(LocalPresence::new()),
            fails: AtomicBool::new(false),
            clock,
            renewed: Mutex::default(),
        }
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    pub(crate) fn forget(&self) {
        *self.store.write().unwrap() = LocalPresence::new();
    }

    fn ask<T>(&self, done: Done<T>, ask: impl FnOnce(&LocalPresence, Done<T>)) {
        if self.fails.load(Ordering::Relaxed) {
            return done(Err(PortError::new(Failure::NotApplied, "it fails")));
        }
        ask(&self.store.read().unwrap(), done);
    }
}

impl Presence for Presences {
    fn apply(&self, node: &NodeId, changes: Vec<Change>, done: Done<Vec<Outcome>>) {
        self.ask(done, |store, done| store.apply(node, changes, done));
    }

    fn restate(&self, node: &NodeId, channel: &ChannelKey, connections: Vec<Member>, done: Done<Delta>) {
        self.ask(done, |store, done| store.restate(node, channel, connections, done));
    }

    fn list(&self, channel: &ChannelKey, limit: usize, done: Done<Roster>) {
        self.ask(done, |store, done| store.list(channel, limit, done));
    }

    fn renew(&self, node: &NodeId, done: Done<Lease>) {
        let now = self.clock.monotonic();
        self.ask(done, |store, done| {
            self.renewed.lock().unwrap().insert(node.clone(), now);
            store.renew(node, done);
        });
    }

    fn lapsed(&self, done: Done<Vec<NodeId>>) {
        let now = self.clock.monotonic();
        self.ask(done, |_, done| {
            let renewed = self.renewed.lock().unwrap();
            let over = renewed.iter().filter(|(_, renewed)| now.since(**renewed) > LEASE_MS);
            done(Ok(over.map(|(node, _)| node.clone()).collect()));
        });
    }

    fn evict(&self, node: &NodeId, done: Done<Vec<(ChannelKey, Delta)>>) {
        self.ask(done, |store, done| {
            self.renewed.lock().unwrap().remove(node);
            store.evict(node, done);
        });
    }
}
