//! The servers of a simulation, and what happens to them.

use std::num::NonZeroU64;

use xpush_core::NodeName;
use xpush_core::placement::{Epsilon, Ring, RingNode, Weight};

/// A server and its weight, `0.0..=1.0`.
pub(super) type Weighted = (NodeName, f64);

/// Servers with their weights; a whole one has so many points.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    pub(super) servers: Vec<Weighted>,
    points: u16,
}

/// What happens to a ring.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Join(NodeName, f64),
    Leave(NodeName),
    Weight(NodeName, f64),
}

impl Fleet {
    /// So many whole servers.
    pub(super) fn of(count: u32, points: u16) -> Self {
        let width = count.to_string().len();
        // Such a name is good; what is not a name would be no server.
        let name = |number| NodeName::new(&format!("node-{number:0width$}")).ok();
        Self { servers: (1..=count).filter_map(name).map(|name| (name, 1.0)).collect(), points }
    }

    /// These servers.
    pub(super) fn weighted(servers: &[Weighted], points: u16) -> Result<Self, String> {
        let fleet = Self { servers: servers.to_vec(), points };
        fleet.ring().map(|_| fleet)
    }

    /// The same servers, with so many points.
    pub(super) fn with_points(&self, points: u16) -> Self {
        Self { servers: self.servers.clone(), points }
    }

    /// As a ring.
    pub(super) fn ring(&self) -> Result<Ring, String> {
        let whole = f64::from(self.points) / f64::from(Weight::FULL.points());
        let node = |(name, weight): &Weighted| {
            Weight::of_share(weight * whole).map(|weight| RingNode { name: name.clone(), weight })
        };
        self.servers
            .iter()
            .map(node)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|nodes| Ring::new(1, 1, Epsilon::default(), NonZeroU64::MIN, nodes))
            .map_err(|why| why.to_string())
    }

    /// The fleet after a change.
    pub(super) fn after(&self, change: &Change) -> Result<Self, String> {
        let mut next = self.clone();
        let at = next.servers.iter().position(|(name, _)| name == change.name());
        match (change, at) {
            (Change::Join(name, weight), None) => next.servers.push((name.clone(), *weight)),
            (Change::Leave(_), Some(at)) => drop(next.servers.remove(at)),
            (Change::Weight(_, weight), Some(at)) => next.servers[at].1 = *weight,
            (Change::Join(name, _), Some(_)) => return Err(format!("{name} is on the ring already")),
            (_, None) => return Err(format!("{} is not on the ring", change.name())),
        }
        Ok(next)
    }
}

impl Change {
    /// Whom it is about.
    pub(super) fn name(&self) -> &NodeName {
        match self {
            Self::Join(name, _) | Self::Leave(name) | Self::Weight(name, _) => name,
        }
    }

    /// In words.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Join(name, weight) if *weight >= 1.0 => format!("{name} joins"),
            Self::Join(name, weight) => format!("{name} joins with {weight}"),
            Self::Leave(name) => format!("{name} leaves"),
            Self::Weight(name, weight) => format!("{name} to {weight}"),
        }
    }
}

/// `NAME=WEIGHT`
pub(super) fn weighted(text: &str) -> Result<Weighted, String> {
    let (name, weight) = text.split_once('=').ok_or("write NAME=WEIGHT, as in a=0.5")?;
    Ok((named(name)?, share(weight)?))
}

/// `join=NAME`, `join=NAME:WEIGHT`, `leave=NAME`, `weight=NAME:WEIGHT`
pub(super) fn change(text: &str) -> Result<Change, String> {
    let (what, whom) = text.split_once('=').ok_or("write join=NAME, leave=NAME or weight=NAME:WEIGHT")?;
    match (what, whom.split_once(':')) {
        ("join", None) => Ok(Change::Join(named(whom)?, 1.0)),
        ("join", Some((name, weight))) => Ok(Change::Join(named(name)?, share(weight)?)),
        ("leave", None) => Ok(Change::Leave(named(whom)?)),
        ("weight", Some((name, weight))) => Ok(Change::Weight(named(name)?, share(weight)?)),
        _ => Err("write join=NAME, join=NAME:WEIGHT, leave=NAME or weight=NAME:WEIGHT".to_owned()),
    }
}

fn named(text: &str) -> Result<NodeName, String> {
    NodeName::new(text.trim()).map_err(|_| {
        format!("`{text}` is no server's name: 1 to 64 letters, digits, `-`, `_` or `.`, no `.` in front")
    })
}

fn share(text: &str) -> Result<f64, String> {
    let weight = text.trim().parse().ok().filter(|weight| Weight::of_share(*weight).is_ok());
    weight.ok_or_else(|| format!("`{text}` is no weight: from 0 (drains) to 1 (whole)"))
}
