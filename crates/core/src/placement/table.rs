//! The ring, made for look-ups.
//!
//! Each server has a fixed sequence of points on the circle of 64-bit numbers, and its weight says how many of them count, from the first one on. A channel
//! has two places on the circle, and belongs to the server of the point that comes soonest after one of them. So a change of one server's weight adds or
//! removes points of this server only, and no channel ever moves between two servers that did not change.
//!
//! Two places, because gaps between random points differ much, and a server's share is the sum of the gaps before its points. The better of two places (Appleton,
//! O'Reilly, 2015: multi-probe consistent hashing) takes two thirds of the variance away.

use crate::names::NodeName;
use crate::placement::ring::{Ring, RingNode, Weight};

/// SplitMix64's step (the golden ratio): its inputs never repeat.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Point `number` of the server whose name has this hash: the outputs of SplitMix64 (Steele, Lea, Flood, 2014) from there. Fixed for ever: another function
/// would move almost every channel.
pub const fn point(name_hash: u64, number: u16) -> u64 {
    let mut point = name_hash.wrapping_add(STEP.wrapping_mul(number as u64 + 1));
    point = (point ^ (point >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    point = (point ^ (point >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    point ^ (point >> 31)
}

/// A ring and its points, sorted. Servers are named by their place in [`Ring::nodes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    ring: Ring,
    /// Ascending; equal ones by server, so that every node has the same order.
    points: Vec<u64>,
    /// Whose point it is.
    owners: Vec<u16>,
    /// Where the points of each bucket begin, and behind the last one their number. As points are spread evenly, a bucket has about one.
    buckets: Vec<u32>,
    /// Which bucket a point is in: `point >> shift`.
    shift: u32,
    /// How many servers have points.
    weighty: usize,
}

/// Servers in the order in which a channel goes to them, each once.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    table: &'a Table,
    at: usize,
    points_left: usize,
    servers_left: usize,
    seen: [u64; Ring::MAX_NODES.div_ceil(64)],
}

// === impl Table ===

impl Table {
    /// Lays the points of a ring out. Linear in their number.
    pub fn new(ring: Ring) -> Self {
        let total: usize = ring.nodes().iter().map(|node| usize::from(node.weight.points())).sum();
        let shift = shift(total);
        let mut starts = vec![0_u32; buckets(shift) + 1];
        for (_, point) in all(ring.nodes()) {
            starts[bucket(point, shift) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let (mut points, mut owners) = (vec![0; total], vec![0; total]);
        let mut next = starts.clone();
        for (owner, point) in all(ring.nodes()) {
            // Insertion into the bucket's part, which is as good as empty.
            let bucket = bucket(point, shift);
            let (start, mut at) = (starts[bucket] as usize, next[bucket] as usize);
            next[bucket] += 1;
            while at > start && (points[at - 1], owners[at - 1]) > (point, owner) {
                points[at] = points[at - 1];
                owners[at] = owners[at - 1];
                at -= 1;
            }
            points[at] = point;
            owners[at] = owner;
        }
        Self { weighty: weighty(&ring), ring, points, owners, buckets: starts, shift }
    }

    /// The table of another ring. What both have in common is neither hashed nor sorted again: the result is what [`new`](Self::new) would make, sooner when
    /// little has changed.
    pub fn changed(&self, ring: Ring) -> Self {
        let (renumbered, mut gone, mut come) = (renumber(&self.ring, &ring), Vec::new(), Vec::new());
        for (before, old) in self.ring.nodes().iter().enumerate() {
            let Some(after) = renumbered[before] else { continue };
            let (hash, new) = (old.name.hash64(), ring.nodes()[usize::from(after)].weight.points());
            gone.extend((new..old.weight.points()).map(|number| (point(hash, number), after)));
        }
        for (node, owner) in ring.nodes().iter().zip(0_u16..) {
            let had = self.ring.weight(&node.name).map_or(0, |weight| weight.points());
            let hash = node.name.hash64();
            come.extend((had..node.weight.points()).map(|number| (point(hash, number), owner)));
        }
        gone.sort_unstable();
        come.sort_unstable();
        let (mut gone, mut come) = (gone.into_iter().peekable(), come.into_iter().peekable());
        let most = self.points.len() + come.len();
        let (mut points, mut owners) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut put = |(point, owner): (u64, u16)| {
            points.push(point);
            owners.push(owner);
        };
        for (point, before) in self.points.iter().zip(&self.owners) {
            let Some(after) = renumbered[usize::from(*before)] else { continue };
            if gone.next_if_eq(&(*point, after)).is_some() {
                continue;
            }
            while let Some(new) = come.next_if(|new| *new < (*point, after)) {
                put(new);
            }
            put((*point, after));
        }
        come.for_each(put);
        let shift = shift(points.len());
        Self { weighty: weighty(&ring), ring, buckets: starts(&points, shift), points, owners, shift }
    }

    /// What it was made of.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The place of a server in [`Ring::nodes`].
    pub fn place(&self, name: &NodeName) -> Option<usize> {
        self.ring.nodes().binary_search_by(|node| node.name.cmp(name)).ok()
    }

    /// Whose the channel with this [`hash64`](crate::ChannelKey::hash64) is. Nobody's, when no server has weight.
    pub fn owner(&self, hash: u64) -> Option<usize> {
        self.owners.get(self.nearest(hash)).map(|owner| usize::from(*owner))
    }

    /// Whose it would be with one place only, as on a classic ring: to compare with.
    pub fn classic_owner(&self, hash: u64) -> Option<usize> {
        self.owners.get(self.first_at(hash)).map(|owner| usize::from(*owner))
    }

    /// The owner, and then the servers of the points that follow: those without weight are not among them.
    pub fn walk(&self, hash: u64) -> Walk<'_> {
        let (at, points_left) = (self.nearest(hash), self.points.len());
        Walk { table: self, at, points_left, servers_left: self.weighty, seen: Default::default() }
    }

    /// The point to which a channel belongs.
    fn nearest(&self, hash: u64) -> usize {
        let places = [hash, point(hash, 0)];
        let [first, second] = places.map(|place| self.first_at(place));
        let distance = |at: usize, place| self.points.get(at).map(|point: &u64| point.wrapping_sub(place));
        if distance(second, places[1]) < distance(first, places[0]) { second } else { first }
    }

    /// The first point at or after `hash`, around the circle.
    fn first_at(&self, hash: u64) -> usize {
        let mut at = self.buckets[bucket(hash, self.shift)] as usize;
        while self.points.get(at).is_some_and(|point| *point < hash) {
            at += 1;
        }
        if at < self.points.len() { at } else { 0 }
    }
}

// === impl Walk ===

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.servers_left > 0 && self.points_left > 0 {
            let owner = usize::from(self.table.owners[self.at]);
            self.at = if self.at + 1 < self.table.owners.len() { self.at + 1 } else { 0 };
            self.points_left -= 1;
            let (word, bit) = (owner / 64, 1 << (owner % 64));
            if self.seen[word] & bit == 0 {
                self.seen[word] |= bit;
                self.servers_left -= 1;
                return Some(owner);
            }
        }
        None
    }
}

/// Every point that counts, and whose it is.
fn all(nodes: &[RingNode]) -> impl Iterator<Item = (u16, u64)> {
    nodes.iter().zip(0_u16..).flat_map(|(node, owner)| {
        let hash = node.name.hash64();
        (0..node.weight.points()).map(move |number| (owner, point(hash, number)))
    })
}

fn weighty(ring: &Ring) -> usize {
    ring.nodes().iter().filter(|node| node.weight > Weight::NONE).count()
}

/// Where each server of `old` is in `new`, if it still is.
fn renumber(old: &Ring, new: &Ring) -> Vec<Option<u16>> {
    let place = |node: &RingNode| new.nodes().binary_search_by(|other| other.name.cmp(&node.name)).ok();
    old.nodes().iter().map(|node| place(node).and_then(|place| u16::try_from(place).ok())).collect()
}

/// As many buckets as points, to the next power of two; at least two, as a shift by 64 is none.
fn shift(points: usize) -> u32 {
    64 - points.next_power_of_two().trailing_zeros().max(1)
}

const fn buckets(shift: u32) -> usize {
    1 << (64 - shift)
}

#[expect(clippy::cast_possible_truncation, reason = "4,000,000 points have 2^22 buckets")]
const fn bucket(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize
}

/// Where each bucket of sorted points begins.
fn starts(points: &[u64], shift: u32) -> Vec<u32> {
    let mut starts = vec![0_u32; buckets(shift) + 1];
    for point in points {
        starts[bucket(*point, shift) + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    starts
}

#[cfg(test)]
mod tests;
