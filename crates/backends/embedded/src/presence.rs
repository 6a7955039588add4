//! Who is where, counted in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use xpush_core::ports::Done;
use xpush_core::ports::lease::Lease;
use xpush_core::ports::presence::{Change, Delta, Member, Outcome, Presence, Roster};
use xpush_core::{ChannelKey, NodeId, User};

use crate::lock;

/// Enough that shards rarely meet.
const STRIPES: usize = 64;

/// Presence of the nodes of one process.
///
/// They share its fate, so entries need no lease: only a node that goes before the process is evicted.
pub struct LocalPresence {
    stripes: Box<[Mutex<Rooms>]>,
    /// Those that have renewed and were not evicted since.
    renewed: Mutex<HashSet<NodeId>>,
}

type Rooms = HashMap<ChannelKey, Room, RandomState>;

/// A channel with somebody in it.
#[derive(Default)]
struct Room {
    users: HashMap<User, Visit, RandomState>,
    /// Users by the number of their first entry.
    order: BTreeMap<u64, User>,
    /// Numbers given so far.
    entries: u64,
    connections: u64,
}

/// A user's stay: from the first connection that enters to the last that leaves.
struct Visit {
    entry: u64,
    name: Option<Arc<str>>,
    /// Connections by node; hardly ever more than one node.
    by_node: Vec<(NodeId, u64)>,
}

impl LocalPresence {
    /// With nobody in it.
    pub fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), renewed: Mutex::default() }
    }

    fn stripe(&self, channel: &ChannelKey) -> &Mutex<Rooms> {
        // The top bits: shards are chosen by the others, and one shard's channels should spread, too.
        &self.stripes[(channel.hash64() >> 58) as usize % STRIPES]
    }

    fn change(&self, node: &NodeId, Change { channel, member, enters }: Change) -> Outcome {
        let mut rooms = lock(self.stripe(&channel));
        if enters {
            let room = rooms.entry(channel).or_default();
            let transition = room.enter(node, member);
            return room.outcome(transition);
        }
        let Some(room) = rooms.get_mut(&channel) else {
            return Outcome { transition: false, users: 0, connections: 0 };
        };
        let transition = room.leave(node, &member.user);
        let outcome = room.outcome(transition);
        if outcome.users == 0 {
            rooms.remove(&channel);
        }
        outcome
    }
}

impl Default for LocalPresence {
    fn default() -> Self {
        Self::new()
    }
}

impl Presence for LocalPresence {
    fn apply(&self, node: &NodeId, changes: Vec<Change>, done: Done<Vec<Outcome>>) {
        let outcomes = changes.into_iter().map(|change| self.change(node, change)).collect();
        done(Ok(outcomes));
    }

    fn list(&self, channel: &ChannelKey, limit: usize, done: Done<Roster>) {
        let roster =
            lock(self.stripe(channel)).get(channel).map(|room| room.roster(limit)).unwrap_or_default();
        done(Ok(roster));
    }

    fn restate(&self, node: &NodeId, channel: &ChannelKey, connections: Vec<Member>, done: Done<Delta>) {
        let mut rooms = lock(self.stripe(channel));
        let room = rooms.entry(channel.clone()).or_default();
        let delta = room.restate(node, connections);
        if delta.users == 0 {
            rooms.remove(channel);
        }
        drop(rooms);
        done(Ok(delta));
    }

    fn renew(&self, node: &NodeId, done: Done<Lease>) {
        let anew = lock(&self.renewed).insert(node.clone());
        done(Ok(if anew { Lease::Anew } else { Lease::Kept }));
    }

    fn lapsed(&self, done: Done<Vec<NodeId>>) {
        done(Ok(Vec::new()));
    }

    fn evict(&self, node: &NodeId, done: Done<Vec<(ChannelKey, Delta)>>) {
        lock(&self.renewed).remove(node);
        let mut gone = Vec::new();
        for stripe in &self.stripes {
            lock(stripe).retain(|channel, room| {
                let left = room.evict(node);
                let users = room.users.len() as u64;
                if !left.is_empty() {
                    gone.push((channel.clone(), Delta { users, joined: Vec::new(), left }));
                }
                users > 0
            });
        }
        done(Ok(gone));
    }
}

impl Room {
    /// Whether it is the user's first connection.
    fn enter(&mut self, node: &NodeId, Member { user, name }: Member) -> bool {
        self.connections += 1;
        if let Some(visit) = self.users.get_mut(&user) {
            visit.name = name;
            match visit.by_node.iter_mut().find(|(of, _)| of == node) {
                Some((_, connections)) => *connections += 1,
                None => visit.by_node.push((node.clone(), 1)),
            }
            return false;
        }
        let entry = self.entries;
        self.entries += 1;
        self.order.insert(entry, user.clone());
        self.users.insert(user, Visit { entry, name, by_node: vec![(node.clone(), 1)] });
        true
    }

    /// Whether it was the user's last connection.
    fn leave(&mut self, node: &NodeId, user: &User) -> bool {
        let Some(visit) = self.users.get_mut(user) else { return false };
        let Some(at) = visit.by_node.iter().position(|(of, _)| of == node) else { return false };
        self.connections -= 1;
        visit.by_node[at].1 -= 1;
        if visit.by_node[at].1 == 0 {
            visit.by_node.swap_remove(at);
        }
        if !visit.by_node.is_empty() {
            return false;
        }
        self.order.remove(&visit.entry);
        self.users.remove(user);
        true
    }

    /// What was entered stays where it is named again, so that nobody goes and comes back by it.
    fn restate(&mut self, node: &NodeId, connections: Vec<Member>) -> Delta {
        let mut before: Vec<(User, u64)> = Vec::new();
        for (user, visit) in &self.users {
            if let Some((_, count)) = visit.by_node.iter().find(|(of, _)| of == node) {
                before.push((user.clone(), *count));
            }
        }
        let mut delta = Delta::default();
        for member in connections {
            if self.enter(node, member.clone()) {
                delta.joined.push(member);
            }
        }
        for (user, count) in before {
            for _ in 0..count {
                if self.leave(node, &user) {
                    delta.left.push(user.clone());
                }
            }
        }
        delta.users = self.users.len() as u64;
        delta
    }

    /// The users who are gone with `node`, in the order of their entry.
    fn evict(&mut self, node: &NodeId) -> Vec<User> {
        let Self { users, order, connections, .. } = self;
        let mut left = Vec::new();
        order.retain(|_, user| {
            let Some(visit) = users.get_mut(user) else { return false };
            visit.by_node.retain(|(of, count)| {
                let stays = of != node;
                *connections -= if stays { 0 } else { *count };
                stays
            });
            let stays = !visit.by_node.is_empty();
            if !stays {
                users.remove(user);
                left.push(user.clone());
            }
            stays
        });
        left
    }

    fn outcome(&self, transition: bool) -> Outcome {
        Outcome { transition, users: self.users.len() as u64, connections: self.connections }
    }

    fn roster(&self, limit: usize) -> Roster {
        let member = |user: &User| {
            let visit = self.users.get(user)?;
            Some(Member { user: user.clone(), name: visit.name.clone() })
        };
        Roster {
            users: self.users.len() as u64,
            members: self.order.values().take(limit).filter_map(member).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use xpush_testkit::sample::{channel, enters, leaves, node};

    use super::*;

    #[test]
    fn an_empty_channel_takes_no_memory() {
        let presence = LocalPresence::new();
        let rooms = || presence.stripes.iter().map(|stripe| lock(stripe).len()).sum::<usize>();
        let apply = |change| presence.apply(&node("n1"), vec![change], Box::new(|_| ()));
        let (a, b) = (channel("chat:a"), channel("chat:b"));
        apply(leaves(&a, "ann"));
        presence.list(&b, 10, Box::new(|_| ()));
        assert_eq!(rooms(), 0);
        apply(enters(&a, "ann"));
        apply(enters(&b, "bob"));
        assert_eq!(rooms(), 2);
        apply(leaves(&a, "ann"));
        assert_eq!(rooms(), 1);
        presence.evict(&node("n1"), Box::new(|_| ()));
        assert_eq!(rooms(), 0);
    }
}
