//! Where channels are placed: the cluster's views turned into answers (`ByRing`), and the planner, which makes the rings.

mod planning;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use xpush_core::placement::{Assigner, Assignment, Host, Occupancy, Reason};
use xpush_core::ports::Done;
use xpush_core::ports::cluster::{ClusterSink, Node, View};
use xpush_core::ports::hosts::{self, Hosts};
use xpush_core::{ChannelKey, NodeId, NodeName};

use crate::assign::{Assigned, Placement};
use crate::node;

pub use planning::{MOVE, PLAN, Planning, plan, proposal, wish};

/// Places channels by the newest ring, by what servers carry, and by where channels are already. It goes on with what it knew last when the cluster cannot be
/// reached, and without hosts when their registry cannot.
#[derive(Clone)]
pub struct ByRing {
    state: Arc<Mutex<State>>,
    hosts: Arc<dyn Hosts>,
    views: watch::Sender<Arc<View>>,
}

#[derive(Default)]
struct State {
    view: Arc<View>,
    /// None before the first ring.
    assigner: Option<Assigner>,
}

// === impl ByRing ===

impl ByRing {
    /// Knows nobody before the first view.
    pub fn new(hosts: Arc<dyn Hosts>) -> Self {
        let views = watch::Sender::new(Arc::default());
        Self { state: Arc::default(), hosts, views }
    }

    /// The newest view, and every change.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    /// Where else than at `here` a client of `channel` belongs, now that it is to go: an address, empty when it is the one that the client has. None when nobody
    /// else takes it. Does not wait.
    pub fn elsewhere(&self, channel: &ChannelKey, here: &NodeId) -> Option<Box<str>> {
        let assigned = self.lock().assign(channel, &[], &[])?;
        (assigned.node != *here).then_some(assigned.url)
    }

    /// Which server appends for those who write a channel together: the first on the ring that is there, is not to be drained, and is accepted. Does not wait.
    pub fn host(&self, channel: &ChannelKey, accept: &dyn Fn(&NodeId) -> bool) -> Option<NodeId> {
        self.lock().host(channel, accept)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left counts that the next view corrects.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterSink for ByRing {
    fn view(&self, view: Arc<View>) {
        self.lock().see(view.clone());
        self.views.send_replace(view);
    }
}

impl Placement for ByRing {
    fn assign(&self, channels: Vec<ChannelKey>, avoided: Vec<NodeId>, done: Done<Vec<Option<Assigned>>>) {
        let this = self.clone();
        let asked = channels.clone();
        let found = move |found: Result<Vec<Vec<hosts::Host>>, _>| {
            let hosts = found.unwrap_or_else(|error| {
                tracing::debug!(%error, "hosts are not known: assigned without them");
                Vec::new()
            });
            let mut state = this.lock();
            let none = Vec::new();
            let each = channels.iter().enumerate();
            let assigned =
                each.map(|(at, channel)| state.assign(channel, hosts.get(at).unwrap_or(&none), &avoided));
            done(Ok(assigned.collect()));
        };
        self.hosts.find(asked, Box::new(found));
    }
}

// === impl State ===

impl State {
    fn see(&mut self, view: Arc<View>) {
        if let Some(ring) = &view.ring {
            Assigner::see(&mut self.assigner, ring);
        }
        if let Some(assigner) = &mut self.assigner {
            let table = assigner.table().clone();
            let there: HashMap<&NodeName, &Node> =
                view.channel_nodes().map(|node| (&node.name, node)).collect();
            for (place, on_ring) in table.ring().nodes().iter().enumerate() {
                let node = there.get(&on_ring.name);
                assigner.report(place, node.map(|node| occupancy(node, &view)).unwrap_or_default());
            }
        }
        self.view = view;
    }

    fn host(&self, channel: &ChannelKey, accept: &dyn Fn(&NodeId) -> bool) -> Option<NodeId> {
        let table = self.assigner.as_ref()?.table();
        let mut names = table.walk(channel.hash64()).filter_map(|place| table.ring().nodes().get(place));
        names.find_map(|on_ring| {
            let node = self.view.channel_nodes().find(|node| node.name == on_ring.name)?;
            (!self.view.draining.contains(&node.name) && accept(&node.id)).then(|| node.id.clone())
        })
    }

    fn assign(
        &mut self,
        channel: &ChannelKey,
        hosts: &[hosts::Host],
        avoided: &[NodeId],
    ) -> Option<Assigned> {
        let by_ring = self.by_ring(channel, hosts, avoided);
        // Who cannot reach the only ones that are left may as well try again.
        let by_ring = by_ring.or_else(|| match avoided {
            [] => None,
            _ => self.by_ring(channel, hosts, &[]),
        });
        by_ring.or_else(|| {
            // Servers that no ring knows yet, or all that are on it are being drained: better anywhere than nowhere.
            let node = node::assign(channel, &self.view, avoided)?;
            let reason = match self.view.channel_nodes().nth(1) {
                None => Reason::OnlyOne.as_str(),
                Some(_) => "no_ring",
            };
            Some(Assigned { node: node.id.clone(), url: node.url.clone(), reason: reason.into() })
        })
    }

    fn by_ring(
        &mut self,
        channel: &ChannelKey,
        hosts: &[hosts::Host],
        avoided: &[NodeId],
    ) -> Option<Assigned> {
        let view = &self.view;
        self.assigner.as_mut().and_then(|assigner| {
            let table = assigner.table().clone();
            let place = |id: &NodeId| table.place(&view.node(id)?.name);
            // For this question they are not there.
            let away: Vec<(usize, Occupancy)> = avoided
                .iter()
                .filter_map(place)
                .filter_map(|place| Some((place, assigner.occupancy(place).filter(|known| known.up)?)))
                .collect();
            for (place, known) in &away {
                assigner.report(*place, Occupancy { up: false, ..*known });
            }
            let host = |host: &hosts::Host| {
                Some(Host { server: table.place(&host.name)?, clients: host.connections })
            };
            let hosts: Vec<_> = hosts.iter().filter_map(host).collect();
            let Assignment { server, reason } = assigner.assign(channel.hash64(), &hosts);
            for (place, known) in away {
                assigner.report(place, known);
            }
            let name = &table.ring().nodes().get(server?)?.name;
            let node = view.named(name)?;
            Some(Assigned { node: node.id.clone(), url: node.url.clone(), reason: reason.as_str().into() })
        })
    }
}

fn occupancy(node: &Node, view: &View) -> Occupancy {
    let load = view.loads.get(&node.id).copied().unwrap_or_default();
    Occupancy {
        up: !view.draining.contains(&node.name),
        connections: load.connections,
        capacity: node.capacity,
    }
}
