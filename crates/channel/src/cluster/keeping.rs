//! Once a second, in one shard for the whole node: says that it lives and what it carries, and clears away what nodes leave behind that have gone.

use std::sync::Arc;

use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Envelope, Event, Inbound, Topic};
use xpush_core::ports::cluster::{Load, View};
use xpush_core::ports::lease::{Lease, RENEW_MS};
use xpush_core::ports::presence::Delta;
use xpush_core::{ChannelKey, Monotonic, NodeId};

use super::departures::{Departures, Left};
use crate::fanout::inbox::Inbox;
use crate::planted::{Bug, is_planted};
use crate::session::online::{GRACE_MS, TELLER};
use crate::shard::{Shard, Timer};

/// Between two looks, in ms.
const TICK_MS: u64 = 1_000;
/// Between two looks for nodes whose leases are over although nobody saw them go, in ms.
const LAPSED_MS: u64 = 15_000;
/// How long a store may take to renew a lease before it counts as out of reach, in ms.
const PATIENCE_MS: u64 = 5_000;

/// What the shard keeps that sees to it.
pub(crate) struct Keeper {
    departures: Departures,
    presence: Tenure,
    online: Tenure,
    hosts: Tenure,
    looked: Monotonic,
    bus_up: bool,
    /// Until then the store of presence, which has forgotten something, is being told it again by every node.
    learning_until: Monotonic,
    told: Knowledge,
}

/// One store's lease.
struct Tenure {
    asked: Option<Monotonic>,
    renewed: Monotonic,
    /// The last answer was one.
    held: bool,
    /// The store may have forgotten something since it was asked last.
    doubted: bool,
    /// What it is being asked was asked before the doubt came up.
    overtaken: bool,
}

/// What shards are told of presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knowledge {
    /// Who is in channels is what the store says, and its changes come.
    pub(crate) known: bool,
    /// The store answers.
    pub(crate) held: bool,
}

/// Whose lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Presence,
    Online,
    Hosts,
}

/// What came of an eviction.
pub(crate) enum Evicted {
    Online(NodeId, Result<(), PortError>),
    Presence(NodeId, Result<Vec<(ChannelKey, Delta)>, PortError>),
}

impl Keeper {
    pub(crate) fn new(now: Monotonic) -> Self {
        let tenure =
            || Tenure { asked: None, renewed: Monotonic(0), held: true, doubted: false, overtaken: false };
        Self {
            departures: Departures::default(),
            presence: tenure(),
            online: tenure(),
            hosts: tenure(),
            looked: now,
            bus_up: true,
            learning_until: Monotonic(0),
            told: Knowledge { known: true, held: true },
        }
    }

    /// What ends the bus may empty the store of presence: what that says when the bus is up again shows it.
    pub(crate) fn bus_is(&mut self, up: bool) {
        if up != self.bus_up {
            self.bus_up = up;
            self.presence.doubted = true;
            self.presence.overtaken = self.presence.asked.is_some();
        }
    }

    fn tenure(&mut self, store: Store) -> &mut Tenure {
        match store {
            Store::Presence => &mut self.presence,
            Store::Online => &mut self.online,
            Store::Hosts => &mut self.hosts,
        }
    }

    fn knowledge(&self, now: Monotonic) -> Knowledge {
        let held = self.presence.held;
        let sure = self.bus_up && held && !self.presence.doubted;
        Knowledge { known: sure && now >= self.learning_until, held }
    }
}

impl Tenure {
    /// Whether it is to be renewed now. Who has not answered in time is out of reach, and asked again.
    fn is_due(&mut self, now: Monotonic) -> bool {
        match self.asked {
            Some(asked) if now.since(asked) < PATIENCE_MS => return false,
            Some(_) => self.held = false,
            None if self.doubted => {}
            None if self.renewed != Monotonic(0) && now.since(self.renewed) < RENEW_MS => return false,
            None => {}
        }
        self.asked = Some(now);
        true
    }
}

impl Shard {
    pub(crate) fn tick(&mut self) {
        self.counters.lag.set(std::mem::take(&mut self.lag_ms));
        self.report_hosting();
        if self.bus_is_down() {
            self.compare_heads();
        }
        if self.index() == TELLER {
            self.keep();
        }
        self.recount_astray();
        self.arm(TICK_MS, Timer::Tick);
    }

    /// A view of the cluster has come.
    pub(crate) fn sees(&mut self, view: &View) {
        let now = self.now;
        self.keeper.departures.see(view, now);
    }

    fn keep(&mut self) {
        self.report_load();
        for store in [Store::Presence, Store::Online, Store::Hosts] {
            self.renew_lease(store);
        }
        self.tell_known();
        let (own, now) = (self.node.id().clone(), self.now);
        for (node, left) in self.keeper.departures.due(&own, GRACE_MS, now) {
            self.evict(node, left);
        }
        if now.since(self.keeper.looked) >= LAPSED_MS {
            self.keeper.looked = now;
            let (presence, online) = (self.mailbox(), self.mailbox());
            let lapsed = |result| Inbox::Lapsed(result);
            self.node.presence().lapsed(Box::new(move |result| presence.post(lapsed(result))));
            self.node.online().lapsed(Box::new(move |result| online.post(lapsed(result))));
        }
    }

    fn report_load(&self) {
        let node = &self.node;
        let load = Load { connections: node.connections(), channels: node.hosted(), lag_ms: node.lag_ms() };
        node.cluster().report(node.id(), load);
    }

    fn renew_lease(&mut self, store: Store) {
        let now = self.now;
        if (store == Store::Hosts && self.node.hosting().is_none()) || !self.keeper.tenure(store).is_due(now)
        {
            return;
        }
        let mailbox = self.mailbox();
        let done = Box::new(move |result| mailbox.post(Inbox::Leased(store, result)));
        match store {
            Store::Presence => self.node.presence().renew(self.node.id(), done),
            Store::Online => self.node.online().renew(self.node.id(), done),
            Store::Hosts => {
                if let Some(hosting) = self.node.hosting() {
                    hosting.registry.renew(&hosting.name, done);
                }
            }
        }
    }

    /// A lease was renewed, or was not. Who has forgotten us is told everything again.
    pub(crate) fn leased(&mut self, store: Store, result: Result<Lease, PortError>) {
        let now = self.now;
        let tenure = self.keeper.tenure(store);
        let first = tenure.renewed == Monotonic(0);
        tenure.asked = None;
        tenure.renewed = now;
        let overtaken = std::mem::take(&mut tenure.overtaken);
        let again = match result {
            Ok(lease) => lease == Lease::Anew,
            Err(error) => {
                if std::mem::replace(&mut tenure.held, false) {
                    tracing::warn!(%error, ?store, "a lease cannot be renewed; what hangs by it is unknown");
                }
                return;
            }
        };
        let back = !std::mem::replace(&mut tenure.held, true);
        tenure.doubted &= overtaken;
        if back {
            tracing::info!(?store, "a lease is renewed again");
        }
        if store == Store::Presence && (back || (again && !first)) {
            // Others learn of it at their next renewals; until all have said again who is here, what the store has is a part.
            self.keeper.learning_until = now.after(2 * RENEW_MS + TICK_MS);
        }
        self.tell_known();
        match store {
            Store::Presence if again && !is_planted(Bug::NotRestated) => {
                self.node.post_all(|| Inbox::Restate)
            }
            Store::Online if again || self.telling.astray => self.call_roll(),
            Store::Hosts if again => self.node.post_all(|| Inbox::Rehost),
            _ => {}
        }
    }

    /// Tells all shards when it has changed whether presence is known.
    fn tell_known(&mut self) {
        let knowledge = self.keeper.knowledge(self.now);
        if knowledge != std::mem::replace(&mut self.keeper.told, knowledge) {
            self.node.post_all(|| Inbox::Knowledge(knowledge));
        }
    }

    pub(crate) fn lapsed(&mut self, result: Result<Vec<NodeId>, PortError>) {
        let now = self.now;
        match result {
            Ok(nodes) => self.keeper.departures.lapsed(nodes, now),
            Err(error) => tracing::debug!(%error, "cannot look for nodes whose leases are over"),
        }
    }

    fn evict(&mut self, node: NodeId, left: Left) {
        tracing::info!(%node, ?left, "clearing away what a node has left behind");
        let (mailbox, gone) = (self.mailbox(), node.clone());
        match left {
            Left::Online => {
                let done =
                    Box::new(move |result| mailbox.post(Inbox::Evicted(Evicted::Online(gone, result))));
                self.node.online().evict(&node, done);
            }
            Left::Presence if is_planted(Bug::GhostsStay) => {}
            Left::Presence => {
                let done =
                    Box::new(move |result| mailbox.post(Inbox::Evicted(Evicted::Presence(gone, result))));
                self.node.presence().evict(&node, done);
            }
        }
    }

    pub(crate) fn evicted(&mut self, evicted: Evicted) {
        let now = self.now;
        match evicted {
            // Who does not come back is offline when the store's grace time is over.
            Evicted::Online(_, Ok(())) => self.watch_grace(),
            Evicted::Presence(_, Ok(gone)) => {
                for (channel, delta) in gone {
                    self.tell_departed(channel, delta);
                }
            }
            Evicted::Online(node, Err(error)) => {
                tracing::warn!(%error, %node, "cannot clear away a node's connections");
                self.keeper.departures.failed(node, Left::Online, now);
            }
            Evicted::Presence(node, Err(error)) => {
                tracing::warn!(%error, %node, "cannot clear away a node's presence");
                self.keeper.departures.failed(node, Left::Presence, now);
            }
        }
    }

    /// To the subscribers of all nodes; here by the way of what comes from other nodes, through the channel's home.
    fn tell_departed(&mut self, channel: ChannelKey, delta: Delta) {
        let event = Event::Presence(channel.clone(), Arc::new(delta));
        self.node.bus().publish(&Topic::Channel(channel.clone()), event.clone());
        let envelope = Envelope { origin: self.node.id().clone(), event };
        self.post(self.node.home_of(&channel), Inbox::Bus(Inbound::Envelope(envelope)));
    }
}
