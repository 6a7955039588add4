//! Which server a client should connect to for a channel, and why.
//!
//! A ring alone spreads channels, not clients: one channel may have half of them. So there is a bound (consistent hashing with bounded loads: Mirrokni,
//! Thorup, Zadimoghaddam, 2016): no server is given more than (1 + ε) of its fair share, which is its part of all weights times all connections.
//!
//! 1. An active channel stays where it is: its clients are best served together.
//! 2. When all of its hosts are past the bound, or it has none, its clients go to the next server on the ring, from its owner on, that is not.

use std::sync::Arc;

use crate::placement::ring::{Ring, Weight};
use crate::placement::table::Table;

/// Below this part of its capacity no server is past its share: where there is hardly anybody, a handful is no skew.
const IDLE: u64 = 10;

/// A server that has clients of the channel, as far as is known: registries of hosts are best-effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its place in [`Ring::nodes`](crate::placement::Ring::nodes).
    pub server: usize,
    /// How many of the channel's clients are there.
    pub clients: u64,
}

/// What is known of a server at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Whether it lives and takes clients.
    pub up: bool,
    /// Live connections.
    pub connections: u64,
    /// How many it is made for.
    pub capacity: u64,
}

/// Where a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The server's place in [`Ring::nodes`](crate::placement::Ring::nodes); none when nobody is left.
    pub server: Option<usize>,
    /// Why.
    pub reason: Reason,
}

/// Why a client goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The channel lives there.
    Host,
    /// The channel is new, and the server owns it.
    RingOwner,
    /// The channel is new, and its owner is past its share: it is the next one on the ring.
    BoundedNext,
    /// All hosts of the channel are past their share: it is the next one on the ring.
    Spilled,
    /// There is no choice.
    OnlyOne,
    /// Every server is full or past its share: this one is the least full.
    LeastFull,
    /// No server takes clients.
    NobodyLeft,
}

/// Assigns clients by a table and what servers carry. It counts what it has assigned until a server's next report, so that a burst between two reports does
/// not all go to one place.
#[derive(Debug, Clone)]
pub struct Assigner {
    table: Arc<Table>,
    servers: Vec<Server>,
    /// Connections of all servers.
    connections: u128,
    /// Weights of those who take clients.
    weights: u64,
    /// How many take clients.
    eligible: usize,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    weight: u64,
    now: Occupancy,
}

// === impl Reason ===

impl Reason {
    /// As answers, logs and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::RingOwner => "ring_owner",
            Self::BoundedNext => "bounded_next",
            Self::Spilled => "spilled",
            Self::OnlyOne => "only_one",
            Self::LeastFull => "least_full",
            Self::NobodyLeft => "nobody_left",
        }
    }
}

// === impl Assigner ===

impl Assigner {
    /// Nobody is up before the first report.
    pub fn new(table: Arc<Table>) -> Self {
        let server =
            |weight: Weight| Server { weight: u64::from(weight.points()), now: Occupancy::default() };
        let servers = table.ring().nodes().iter().map(|node| server(node.weight)).collect();
        Self { table, servers, connections: 0, weights: 0, eligible: 0 }
    }

    /// Goes by this ring from now on, if it did by another; what is known of the servers stays. The first one makes an assigner.
    pub fn see(assigner: &mut Option<Self>, ring: &Ring) {
        match assigner {
            Some(assigner) if assigner.table.ring() == ring => {}
            Some(assigner) => assigner.follow(Arc::new(assigner.table.changed(ring.clone()))),
            none => *none = Some(Self::new(Arc::new(Table::new(ring.clone())))),
        }
    }

    /// By another ring from now on; what is known of the servers stays.
    pub fn follow(&mut self, table: Arc<Table>) {
        let mut next = Self::new(table);
        for (server, node) in self.servers.iter().zip(self.table.ring().nodes()) {
            if let Some(place) = next.table.place(&node.name) {
                next.report(place, server.now);
            }
        }
        *self = next;
    }

    /// The table that it goes by.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What the server at this place carries replaces what was known of it.
    pub fn report(&mut self, server: usize, now: Occupancy) {
        let Some(at) = self.servers.get_mut(server) else { return };
        let before = std::mem::replace(&mut at.now, now);
        let weight = at.weight;
        self.connections = self.connections - u128::from(before.connections) + u128::from(now.connections);
        if before.up && weight > 0 {
            self.weights -= weight;
            self.eligible -= 1;
        }
        if now.up && weight > 0 {
            self.weights += weight;
            self.eligible += 1;
        }
    }

    /// What is known of a server, with what was assigned since.
    pub fn occupancy(&self, server: usize) -> Option<Occupancy> {
        self.servers.get(server).map(|server| server.now)
    }

    /// Up to how many connections a server is given clients.
    pub fn bound(&self, server: usize) -> u64 {
        let Some(Server { weight, now }) = self.servers.get(server).filter(|_| self.weights > 0) else {
            return 0;
        };
        let epsilon = u128::from(self.table.ring().epsilon().thousandths());
        // Of all connections and the one that is to come, rounded up: somebody always has room.
        let all = (self.connections + 1) * (1_000 + epsilon) * u128::from(*weight);
        let fair = u64::try_from(all.div_ceil(u128::from(self.weights) * 1_000)).unwrap_or(u64::MAX);
        fair.max(now.capacity / IDLE).min(now.capacity)
    }

    /// Where one more client of the channel with this [`hash64`](crate::ChannelKey::hash64) goes; it counts as being there from now on.
    pub fn assign(&mut self, channel: u64, hosts: &[Host]) -> Assignment {
        let assignment = self.choose(channel, hosts);
        if let Some(server) = assignment.server {
            self.servers[server].now.connections += 1;
            self.connections += 1;
        }
        assignment
    }

    /// Where one client of several channels goes, when one connection is to carry them all: to the server with room that has most of the channels already,
    /// and after that most of their clients; when none has any, as for the first channel alone.
    pub fn assign_together(&mut self, channels: &[(u64, &[Host])]) -> Assignment {
        let mut carried = vec![(0_usize, 0_u64); self.servers.len()];
        for host in channels.iter().flat_map(|(_, hosts)| hosts.iter()) {
            if self.is_eligible(host.server) && self.has_room(host.server) {
                let (channels, clients) = &mut carried[host.server];
                *channels += 1;
                *clients = clients.saturating_add(host.clients);
            }
        }
        let Some((first, hosts)) = channels.first() else { return self.assign(0, &[]) };
        let most = carried.iter().max().copied().filter(|(channels, _)| *channels > 0);
        let best = most.and_then(|most| self.table.walk(*first).find(|server| carried[*server] == most));
        match best {
            Some(server) => self.assign(*first, &[Host { server, clients: 1 }]),
            None => self.assign(*first, hosts),
        }
    }

    fn choose(&self, channel: u64, hosts: &[Host]) -> Assignment {
        let to = |server, reason| Assignment { server: Some(server), reason };
        let active = || hosts.iter().filter(|host| self.is_eligible(host.server));
        if self.eligible == 0 {
            return Assignment { server: None, reason: Reason::NobodyLeft };
        }
        let mut walk = self.table.walk(channel).filter(|server| self.is_eligible(*server)).peekable();
        if self.eligible == 1
            && let Some(only) = walk.peek()
        {
            return to(*only, Reason::OnlyOne);
        }
        // Where most of its clients are; among equals, the first on the ring. Together is better than near to the owner.
        let with_room = active().filter(|host| self.has_room(host.server));
        if let Some(most) = with_room.clone().map(|host| host.clients).max() {
            let mut best = with_room.filter(|host| host.clients == most).map(|host| host.server);
            let (first, others) = (best.next(), best.collect::<Vec<_>>());
            let host = if others.is_empty() {
                first
            } else {
                self.table.walk(channel).find(|server| Some(*server) == first || others.contains(server))
            };
            if let Some(host) = host {
                return to(host, Reason::Host);
            }
        }
        let owner = walk.peek().copied();
        match walk.find(|server| self.has_room(*server)) {
            Some(server) if active().next().is_some() => to(server, Reason::Spilled),
            Some(server) if Some(server) == owner => to(server, Reason::RingOwner),
            Some(server) => to(server, Reason::BoundedNext),
            None => self.least_full(channel),
        }
    }

    fn least_full(&self, channel: u64) -> Assignment {
        // Compared as fractions, without division: a / b < c / d.
        let fuller = |a: &Occupancy, b: &Occupancy| {
            let (left, right) = (
                u128::from(a.connections) * u128::from(b.capacity.max(1)),
                u128::from(b.connections) * u128::from(a.capacity.max(1)),
            );
            left.cmp(&right)
        };
        let eligible = self.table.walk(channel).filter(|server| self.is_eligible(*server));
        let server = eligible.min_by(|a, b| fuller(&self.servers[*a].now, &self.servers[*b].now));
        Assignment { server, reason: if server.is_some() { Reason::LeastFull } else { Reason::NobodyLeft } }
    }

    fn is_eligible(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|server| server.now.up && server.weight > 0)
    }

    fn has_room(&self, server: usize) -> bool {
        self.servers[server].now.connections < self.bound(server)
    }
}

#[cfg(test)]
mod tests;
