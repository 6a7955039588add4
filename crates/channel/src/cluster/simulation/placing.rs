//! A session server: it plans when it is elected, and says where clients are to go.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use xpush_core::placement::{Assigner, Epsilon, NodeLoad, Occupancy, Planner, Ring, Standing};
use xpush_core::ports::cluster::{self, Cluster, ClusterSink, Node, Roles, View};
use xpush_core::{ChannelKey, Clock, NodeId, NodeName};
use xpush_testkit::{ManualClock, sample};

use super::coordination::{Coordination, Link};

/// It looks at loads so often.
const LOOK_MS: u64 = 2_000;

pub(super) struct Placing {
    pub(super) link: Arc<Link>,
    seen: Arc<Seen>,
    planner: Option<(u64, Planner)>,
    assigner: Option<Assigner>,
    looked: u64,
}

/// The newest view.
#[derive(Default)]
struct Seen(Mutex<Arc<View>>);

impl ClusterSink for Seen {
    fn view(&self, view: Arc<View>) {
        *self.0.lock().unwrap() = view;
    }
}

impl Placing {
    /// A server of this name, which stands for planner.
    pub(super) fn start(name: &str, coordination: &Coordination) -> Self {
        let link = coordination.link();
        let seen = Arc::new(Seen::default());
        let node = Node { roles: Roles { session: true, channel: false }, ..sample::server(name) };
        let id = node.id.clone();
        link.join(node, seen.clone(), Box::new(|joined| joined.unwrap()));
        link.campaign(&id);
        Self { link, seen, planner: None, assigner: None, looked: 0 }
    }

    fn view(&self) -> Arc<View> {
        self.seen.0.lock().unwrap().clone()
    }

    /// As `plan` of the session server does it.
    pub(super) fn turn(&mut self, clock: &ManualClock) {
        let (view, now) = (self.view(), clock.monotonic().0);
        let Some(term) = view.planner.filter(|_| view.standing == cluster::Standing::Live) else {
            self.planner = None;
            return;
        };
        if now < self.looked + LOOK_MS {
            return;
        }
        self.looked = now;
        if self.planner.as_ref().is_none_or(|(elected, _)| *elected != term) {
            self.planner = Some((term, Planner::new(term, Epsilon::default())));
        }
        let Some((_, planner)) = &mut self.planner else { return };
        let nobody = Ring::nobody();
        let loads: Vec<NodeLoad> = view.channel_nodes().map(|node| load(node, &view)).collect();
        if let Some(ring) = planner.plan(view.ring.as_deref().unwrap_or(&nobody), &loads, now) {
            self.link.publish_ring(Arc::new(ring), Box::new(|_| ()));
        }
    }

    /// Where a client of `channel` goes, as far as this server knows.
    pub(super) fn assign(&mut self, channel: &ChannelKey) -> Option<NodeId> {
        let view = self.view();
        let ring = view.ring.as_ref()?;
        Assigner::see(&mut self.assigner, ring);
        let assigner = self.assigner.as_mut()?;
        let table = assigner.table().clone();
        let there: HashMap<&NodeName, &Node> = view.channel_nodes().map(|node| (&node.name, node)).collect();
        for (place, on_ring) in table.ring().nodes().iter().enumerate() {
            let up = there.contains_key(&on_ring.name) && !view.draining.contains(&on_ring.name);
            assigner.report(place, Occupancy { up, connections: 0, capacity: 10_000 });
        }
        let server = assigner.assign(channel.hash64(), &[]).server?;
        let name = &table.ring().nodes().get(server)?.name;
        Some(there.get(name)?.id.clone())
    }
}

fn load(node: &Node, view: &View) -> NodeLoad {
    let said = view.loads.get(&node.id).copied();
    let standing = if said.is_some() { Standing::Serving } else { Standing::Silent };
    NodeLoad {
        name: node.name.clone(),
        standing: if view.draining.contains(&node.name) { Standing::Draining } else { standing },
        connections: said.unwrap_or_default().connections,
        capacity: NonZeroU64::new(node.capacity).unwrap_or(NonZeroU64::MIN),
        lag_ms: 0,
    }
}
