//! Weights follow load.
//!
//! A server's *pressure* is how full it is: connections against its capacity, or the lag of its event loops against [`FULL_LAG_MS`] where that is more. Who is
//! under more pressure than all servers together gets less of what is new, in proportion, and never less than [`FLOOR`] of what its size would give it; all
//! others have their whole weight. So load that rises everywhere at once changes no weight, and moves nothing.
//!
//! The weight is a function of the state and not a sum over time: connections stay for minutes or hours after a weight has changed, and whoever sums errors
//! up meanwhile overshoots. A closed loop of this kind settles by itself, slowly where clients stay for long. What is left of a skew, the bound of
//! [`Assigner`](crate::placement::Assigner) takes care of. Against noise there are smoothing, a dead band with hysteresis, and a limit to the rate of change;
//! who joins, leaves or drains is on the ring, or off it, at once.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use crate::names::NodeName;
use crate::placement::ring::{Epsilon, Ring, RingNode, Weight};

/// Lag of an event loop at which a server counts as full.
pub const FULL_LAG_MS: u32 = 100;
/// What a server keeps of its weight, however full it is.
pub const FLOOR: f64 = 0.1;
/// How much of its weight a server loses for each unit of pressure above the mean.
pub const GAIN: f64 = 1.5;
/// A weight begins to move when it is this far from its target, in parts of the server's whole weight …
pub const DEAD_BAND: f64 = 0.2;
/// … and goes on until it is as near as this.
pub const SETTLED: f64 = 0.05;
/// How far it moves at once, in the same unit.
pub const STRIDE: f64 = 0.1;
/// The time between two movements by load.
pub const INTERVAL_MS: u64 = 10_000;
/// The time constant by which pressure is smoothed.
pub const SMOOTHING_MS: u64 = 20_000;

/// More pressure than this is no more information.
const MOST: f64 = 1.5;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLoad {
    /// Its stable name.
    pub name: NodeName,
    /// What may be asked of it.
    pub standing: Standing,
    /// Live connections.
    pub connections: u64,
    /// How many it is made for.
    pub capacity: NonZeroU64,
    /// How late its event loops are, in the slowest hundredth of the last seconds.
    pub lag_ms: u32,
}

/// What may be asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It takes clients.
    Serving,
    /// It lives, but what it says of itself is old: its weight stays as it is.
    Silent,
    /// It is about to leave, and gets nothing new.
    Draining,
}

/// Makes rings; one node of the cluster has it at a time. Deterministic: the same calls give the same rings.
#[derive(Debug, Clone)]
pub struct Planner {
    term: u64,
    epsilon: Epsilon,
    servers: BTreeMap<NodeName, Track>,
    /// When weights moved by load, or this planner began.
    moved_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Track {
    pressure: f64,
    at_ms: u64,
    /// Whether its weight is on its way to the target.
    moving: bool,
}

// === impl Planner ===

impl Planner {
    /// For a term of office. It watches for [`INTERVAL_MS`] before it moves weights by load.
    pub const fn new(term: u64, epsilon: Epsilon) -> Self {
        Self { term, epsilon, servers: BTreeMap::new(), moved_ms: None }
    }

    /// The ring that replaces `previous`, or none when it is to stay. `loads` are all servers that live, in any order: who is not among them has left. Of
    /// several with one name (a server and its successor) the sum counts. `now_ms` is monotonic.
    ///
    /// Without any server the ring stays: nobody would be left to read it, and it is more likely that the view is wrong.
    pub fn plan(&mut self, previous: &Ring, loads: &[NodeLoad], now_ms: u64) -> Option<Ring> {
        let loads = by_name(previous, loads);
        if loads.is_empty() {
            return None;
        }
        self.watch(&loads, now_ms);
        let scale = scale(previous, &loads);
        let mut weights = Vec::with_capacity(loads.len());
        for load in loads.values() {
            weights.push(member(previous, load, scale));
        }
        let since = *self.moved_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) >= INTERVAL_MS && self.follow_load(&loads, scale, &mut weights) {
            self.moved_ms = Some(now_ms);
        }
        self.ring(previous, loads.keys().zip(weights), scale)
    }

    /// The same, as if all had been waited for that [`Planner::plan`] waits for: weights are at once what load wants them to be. For an operator who says so.
    pub fn settle(&mut self, previous: &Ring, loads: &[NodeLoad], now_ms: u64) -> Option<Ring> {
        let loads = by_name(previous, loads);
        if loads.is_empty() {
            return None;
        }
        self.watch(&loads, now_ms);
        let scale = scale(previous, &loads);
        let mut weights: Vec<Weight> = loads.values().map(|load| member(previous, load, scale)).collect();
        let mean = self.mean_pressure(&loads);
        for (load, weight) in loads.values().zip(&mut weights) {
            if let Some(track) = self.servers.get_mut(&load.name)
                && load.standing == Standing::Serving
            {
                track.moving = false;
                let target = target(load, track.pressure, mean, scale);
                *weight = Weight::of_share(target).unwrap_or(*weight);
            }
        }
        self.moved_ms = Some(now_ms);
        self.ring(previous, loads.keys().zip(weights), scale)
    }

    fn ring<'a>(
        &self,
        previous: &Ring,
        weights: impl Iterator<Item = (&'a NodeName, Weight)>,
        scale: NonZeroU64,
    ) -> Option<Ring> {
        let node = |(name, weight): (&NodeName, Weight)| RingNode { name: name.clone(), weight };
        let nodes: Vec<RingNode> = weights.map(node).collect();
        if nodes == previous.nodes() && scale == previous.scale() && self.epsilon == previous.epsilon() {
            return None;
        }
        // Names are unique and few enough, so it is a ring.
        Ring::new(previous.generation().checked_add(1)?, self.term, self.epsilon, scale, nodes).ok()
    }

    /// Takes in what servers say of themselves.
    fn watch(&mut self, loads: &BTreeMap<NodeName, NodeLoad>, now_ms: u64) {
        self.servers.retain(|name, _| loads.contains_key(name));
        for load in loads.values().filter(|load| load.standing != Standing::Silent) {
            let pressure = pressure(load);
            let fresh = Track { pressure, at_ms: now_ms, moving: false };
            let track = self.servers.entry(load.name.clone()).or_insert(fresh);
            let passed = now_ms.saturating_sub(track.at_ms);
            track.pressure +=
                (pressure - track.pressure) * ratio(passed, passed.saturating_add(SMOOTHING_MS));
            track.at_ms = now_ms;
        }
    }

    /// Moves weights of serving servers towards their targets; whether any did.
    fn follow_load(
        &mut self,
        loads: &BTreeMap<NodeName, NodeLoad>,
        scale: NonZeroU64,
        weights: &mut [Weight],
    ) -> bool {
        let mean = self.mean_pressure(loads);
        let mut moved = false;
        for (load, weight) in loads.values().zip(weights) {
            let Some(track) = self.servers.get_mut(&load.name).filter(|_| load.standing == Standing::Serving)
            else {
                continue;
            };
            let whole = ratio(load.capacity.get(), scale.get()).min(1.0);
            let target = target(load, track.pressure, mean, scale);
            let distance = target - weight.share();
            let band = if track.moving { SETTLED } else { DEAD_BAND };
            track.moving = distance.abs() > band * whole;
            // A weight may be off by rounding, but is never stuck below what is whole.
            if track.moving {
                let stride = distance.clamp(-STRIDE * whole, STRIDE * whole);
                let next = Weight::of_share((weight.share() + stride).clamp(0.0, 1.0)).unwrap_or(*weight);
                moved |= next != *weight;
                *weight = next;
            }
        }
        moved
    }

    /// Of all servers that serve, by capacity: as if they were one.
    fn mean_pressure(&self, loads: &BTreeMap<NodeName, NodeLoad>) -> f64 {
        let (mut sum, mut capacity) = (0.0, 0.0);
        for load in loads.values().filter(|load| load.standing == Standing::Serving) {
            if let Some(track) = self.servers.get(&load.name) {
                let size = ratio(load.capacity.get(), 1);
                sum += track.pressure * size;
                capacity += size;
            }
        }
        if capacity > 0.0 { sum / capacity } else { 0.0 }
    }
}

/// One entry for each name, as many as a ring may have: those who are on it first.
fn by_name(previous: &Ring, loads: &[NodeLoad]) -> BTreeMap<NodeName, NodeLoad> {
    let mut servers: BTreeMap<NodeName, NodeLoad> = BTreeMap::new();
    for load in loads {
        let Some(server) = servers.get_mut(&load.name) else {
            servers.insert(load.name.clone(), load.clone());
            continue;
        };
        server.standing = server.standing.min(load.standing);
        server.connections = server.connections.saturating_add(load.connections);
        server.capacity = server.capacity.max(load.capacity);
        server.lag_ms = server.lag_ms.max(load.lag_ms);
    }
    while servers.len() > Ring::MAX_NODES {
        let newcomer = servers.keys().rev().find(|name| previous.weight(name).is_none()).cloned();
        let Some(newcomer) = newcomer else { break };
        servers.remove(&newcomer);
    }
    servers
}

/// What full weight stands for: as before while it fits, because another scale moves all weights. It grows with the largest server, and shrinks when that is
/// not even half of it.
fn scale(previous: &Ring, loads: &BTreeMap<NodeName, NodeLoad>) -> NonZeroU64 {
    let largest = loads.values().map(|load| load.capacity).max().unwrap_or(NonZeroU64::MIN);
    let before = previous.scale();
    let fits = largest <= before && largest.get() > before.get() / 2;
    if fits && previous.generation() > 0 { before } else { largest }
}

/// A server's weight without regard to its load: what it was, or all of it when it has just come.
fn member(previous: &Ring, load: &NodeLoad, scale: NonZeroU64) -> Weight {
    let whole = Weight::of_share(ratio(load.capacity.get(), scale.get()).min(1.0)).unwrap_or(Weight::FULL);
    match (load.standing, previous.weight(&load.name)) {
        (Standing::Draining, _) => Weight::NONE,
        (_, Some(weight)) if weight > Weight::NONE => {
            if previous.scale() == scale {
                return weight.min(whole);
            }
            let rescaled = weight.share() * ratio(previous.scale().get(), scale.get());
            Weight::of_share(rescaled.min(1.0)).map_or(whole, |weight| weight.min(whole))
        }
        _ => whole,
    }
}

/// The share of full weight that a server's load wants it to have.
fn target(load: &NodeLoad, pressure: f64, mean: f64, scale: NonZeroU64) -> f64 {
    let whole = ratio(load.capacity.get(), scale.get()).min(1.0);
    whole * (1.0 - GAIN * (pressure - mean)).clamp(FLOOR, 1.0)
}

/// How full a server is: 1 is full.
fn pressure(load: &NodeLoad) -> f64 {
    let connections = ratio(load.connections, load.capacity.get());
    let lag = f64::from(load.lag_ms) / f64::from(FULL_LAG_MS);
    connections.max(lag).min(MOST)
}

#[expect(clippy::cast_precision_loss, reason = "weights have 12 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests;
