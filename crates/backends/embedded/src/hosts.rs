//! Who hosts what, in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use xpush_core::ports::Done;
use xpush_core::ports::hosts::{Host, Hosts};
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::{ChannelKey, Clock, Monotonic, NodeName};

use crate::lock;

/// [`Hosts`] of one process: of a cluster of one, or of several nodes in a test.
pub struct LocalHosts {
    clock: Arc<dyn Clock>,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    channels: HashMap<ChannelKey, BTreeMap<NodeName, u64>, RandomState>,
    /// When each server renewed, or reported, last.
    alive: HashMap<NodeName, Alive, RandomState>,
}

#[derive(Default)]
struct Alive {
    at: Monotonic,
    renewed: bool,
}

impl LocalHosts {
    /// With no host in it. Leases go by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, registry: Mutex::default() }
    }
}

impl Hosts for LocalHosts {
    fn report(&self, name: &NodeName, connections: Vec<(ChannelKey, u64)>, done: Done<()>) {
        let mut registry = lock(&self.registry);
        registry
            .alive
            .entry(name.clone())
            .or_insert_with(|| Alive { at: self.clock.monotonic(), renewed: false });
        for (channel, connections) in connections {
            if connections > 0 {
                registry.channels.entry(channel).or_default().insert(name.clone(), connections);
                continue;
            }
            if let Some(hosts) = registry.channels.get_mut(&channel) {
                hosts.remove(name);
                if hosts.is_empty() {
                    registry.channels.remove(&channel);
                }
            }
        }
        drop(registry);
        done(Ok(()));
    }

    fn find(&self, channels: Vec<ChannelKey>, done: Done<Vec<Vec<Host>>>) {
        let now = self.clock.monotonic();
        let registry = lock(&self.registry);
        let lives =
            |name: &NodeName| registry.alive.get(name).is_some_and(|alive| now.since(alive.at) < LEASE_MS);
        let of = |channel| {
            let hosts = registry.channels.get(channel).into_iter().flatten();
            let hosts = hosts.filter(|(name, _)| lives(name));
            hosts.map(|(name, connections)| Host { name: name.clone(), connections: *connections }).collect()
        };
        let found = channels.iter().map(of).collect();
        drop(registry);
        done(Ok(found));
    }

    fn renew(&self, name: &NodeName, done: Done<Lease>) {
        let now = self.clock.monotonic();
        let mut registry = lock(&self.registry);
        let alive = registry.alive.entry(name.clone()).or_default();
        let kept = alive.renewed && now.since(alive.at) < LEASE_MS;
        *alive = Alive { at: now, renewed: true };
        drop(registry);
        done(Ok(if kept { Lease::Kept } else { Lease::Anew }));
    }

    fn evict(&self, name: &NodeName, done: Done<()>) {
        let mut registry = lock(&self.registry);
        registry.alive.remove(name);
        registry.channels.retain(|_, hosts| {
            hosts.remove(name);
            !hosts.is_empty()
        });
        drop(registry);
        done(Ok(()));
    }
}
