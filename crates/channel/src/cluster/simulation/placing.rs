//! A session server: it plans when it is elected, and says where clients are to go.

use std::sync::{Arc, Mutex};

use xpush_core::ports::cluster::{Cluster, Node, Roles};
use xpush_core::ports::hosts::Hosts;
use xpush_core::{ChannelKey, Clock, NodeId};
use xpush_session::assign::Placement;
use xpush_session::placement::{ByRing, Planning};
use xpush_testkit::{ManualClock, sample};

use super::coordination::{Coordination, Link};

/// It looks at loads so often.
const LOOK_MS: u64 = 2_000;

pub(super) struct Placing {
    pub(super) link: Arc<Link>,
    by_ring: ByRing,
    planning: Planning,
    looked: u64,
}

impl Placing {
    /// A server of this name, which stands for planner.
    pub(super) fn start(name: &str, coordination: &Coordination, hosts: Arc<dyn Hosts>) -> Self {
        let link = coordination.link();
        let by_ring = ByRing::new(hosts);
        let node = Node { roles: Roles { session: true, channel: false }, ..sample::server(name) };
        let id = node.id.clone();
        link.join(node, Arc::new(by_ring.clone()), Box::new(|joined| joined.unwrap()));
        link.campaign(&id);
        Self { link, by_ring, planning: Planning::default(), looked: 0 }
    }

    pub(super) fn turn(&mut self, clock: &ManualClock) {
        let now = clock.monotonic().0;
        if now < self.looked + LOOK_MS {
            return;
        }
        self.looked = now;
        let view = self.by_ring.views().borrow().clone();
        if let Some(ring) = self.planning.look(&view, now) {
            self.link.publish_ring(Arc::new(ring), Box::new(|_| ()));
        }
    }

    /// Where a client of `channel` goes that has not reached `avoided`, as far as this server knows.
    pub(super) fn assign(&self, channel: &ChannelKey, avoided: Option<NodeId>) -> Option<NodeId> {
        let answer = Arc::new(Mutex::new(None));
        let written = answer.clone();
        let done = Box::new(move |assigned| *written.lock().unwrap() = Some(assigned));
        self.by_ring.assign(vec![channel.clone()], avoided.into_iter().collect(), done);
        let assigned = answer.lock().unwrap().take().expect("the registry answers at once").unwrap();
        assigned.into_iter().next().unwrap().map(|assigned| assigned.node)
    }
}
