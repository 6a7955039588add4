//! Which nodes there are, who plans for them, and by which ring channels are placed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::names::{NodeId, NodeName, SettingName};
use crate::placement::Ring;
use crate::ports::Done;

/// A server as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id, new at every start: the generation of the server of this name.
    pub id: NodeId,
    /// Its name, the same at every start: placement goes by it, and one node at a time has it.
    pub name: NodeName,
    /// What the server keeps in its data folder, and no other server has: a start with the same one takes the name over at once from a start that ended
    /// without [`Cluster::leave`]. 0: it keeps nothing, and has to wait until the cluster notices that the other one is gone.
    pub installation: u64,
    /// Where clients reach it; empty: where they reach whoever tells them.
    pub url: Box<str>,
    /// Where other nodes reach it, as `host:port`.
    pub peer: Option<Box<str>>,
    /// Whether other nodes speak TLS with it.
    pub peer_tls: bool,
    /// How many connections it is made for.
    pub capacity: u64,
    /// Its release.
    pub version: Box<str>,
    /// What it does.
    pub roles: Roles,
    /// When it started, in ms since 1970.
    pub since: u64,
    /// Digests of the parts of its configuration that servers have in common, by the parts' names. Keyed: they tell nothing of what is in there.
    pub configuration: BTreeMap<Box<str>, u64>,
}

/// A part of the configuration that is not the same on all servers of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which.
    pub part: Box<str>,
    /// The servers' names: those who agree with each other, most of them first.
    pub camps: Vec<Vec<NodeName>>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] of", self.part)?;
        for (number, camp) in self.camps.iter().enumerate() {
            let names: Vec<_> = camp.iter().map(NodeName::as_str).collect();
            let before = if number > 0 { ", not as of" } else { "" };
            write!(f, "{before} {}", names.join(" and "))?;
        }
        Ok(())
    }
}

impl Node {
    /// Whether others can take it in: no text is beyond 2,048 bytes or holds control characters, and the peer is a host and a port.
    pub fn check(&self) -> Result<(), &'static str> {
        let sound = |text: &str| text.len() <= 2_048 && !text.chars().any(char::is_control);
        let authority = |peer: &str| {
            let (host, port) = peer.rsplit_once(':')?;
            let good = |c: char| !c.is_whitespace() && !matches!(c, '/' | '@' | '?' | '#');
            let port = port.parse::<u16>().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            (!host.is_empty() && host.chars().all(good) && port != 0).then_some(())
        };
        let parts = &self.configuration;
        if parts.len() > 64 || !parts.keys().all(|part| sound(part)) {
            return Err("a configuration of too many parts, or one without a good name");
        }
        if !sound(&self.url) || !sound(&self.version) {
            return Err("a text that is too long, or has control characters");
        }
        match self.peer.as_deref() {
            Some(peer) if !sound(peer) || authority(peer).is_none() => Err("a peer that is no host:port"),
            _ => Ok(()),
        }
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// It tells clients where to go, and keeps apps, users and devices.
    pub session: bool,
    /// It carries connections: channels are placed on it.
    pub channel: bool,
}

/// What a node carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Live connections.
    pub connections: u64,
    /// Channels with subscribers.
    pub channels: u64,
    /// By how many ms its event loops are late.
    pub lag_ms: u64,
}

/// How far a view can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is what the cluster agrees on.
    Live,
    /// The cluster cannot be reached: go on with the last view.
    #[default]
    Frozen,
    /// The others have counted this node out. It is on its way back in by itself, unless another node has its name by now: then it waits until that one
    /// is gone.
    Expired,
}

/// The cluster, as known here. Without anything it is what is known before the cluster has been reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// How far it can be trusted.
    pub standing: Standing,
    /// The nodes, the member that it is given to included while it is one, ascending by id.
    pub nodes: Arc<[Node]>,
    /// What they said they carry, of those who did. May lag by some seconds, and small changes may be left out.
    pub loads: Arc<BTreeMap<NodeId, Load>>,
    /// The newest ring that could be read.
    pub ring: Option<Arc<Ring>>,
    /// The servers that an operator wants drained, whether they are there or not.
    pub draining: Arc<BTreeSet<NodeName>>,
    /// What all nodes share besides ([`Settings`]).
    pub settings: Arc<BTreeMap<SettingName, Setting>>,
    /// The term of the member that it is given to, while it is the elected planner and the view is live.
    pub planner: Option<u64>,
    /// How many records this handle has refused so far because they were no good: somebody has to look into it. What was known before stays.
    pub refused: u64,
}

/// A small record that all nodes share, as it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// 1 when it was set first, and one more each time.
    pub generation: u64,
    /// What was set, for whoever knows what it means: who reads it has to check it.
    pub value: Bytes,
}

impl View {
    /// The node of this id.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.id.cmp(id)).ok()?;
        self.nodes.get(at)
    }

    /// The node that has this name now.
    pub fn named(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// In what the servers are configured differently. Those of another release are not compared: what they say of the same file may differ.
    pub fn drift(&self) -> Vec<Drift> {
        let mut parts: BTreeMap<(&str, &str), BTreeMap<u64, Vec<NodeName>>> = BTreeMap::new();
        for node in self.nodes.iter() {
            for (part, digest) in &node.configuration {
                let camps = parts.entry((&node.version, part)).or_default();
                camps.entry(*digest).or_default().push(node.name.clone());
            }
        }
        let differ = parts.into_iter().filter(|(_, camps)| camps.len() > 1);
        let drift = |((_, part), camps): ((&str, &str), BTreeMap<u64, Vec<NodeName>>)| {
            let mut camps: Vec<_> = camps.into_values().collect();
            camps.iter_mut().for_each(|camp| camp.sort());
            camps.sort_by_key(|camp| (std::cmp::Reverse(camp.len()), camp.first().cloned()));
            Drift { part: part.into(), camps }
        };
        differ.map(drift).collect()
    }

    /// The nodes on which channels are placed, ascending by id.
    pub fn channel_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.roles.channel)
    }
}

/// Where views come. Called from the cluster's own threads; must not block, nor call the cluster.
pub trait ClusterSink: Send + Sync {
    /// The newest view replaces those before it.
    fn view(&self, view: Arc<View>);
}

/// Membership, election, and the ring.
///
/// - Views come to each sink in the order in which they arose; several changes may come as one.
/// - When the cluster cannot be reached, every sink gets the last view again, as [`Standing::Frozen`]: nobody leaves, no ring changes, and nothing that the
///   node has is given up. Back within reach the view is live again, with all that has changed meanwhile.
/// - A node that ends without `leave`, or that hangs, vanishes from the others' views by itself, within 7 s as the cluster is set up by default. One that was
///   counted out although it lives (it was out of reach for too long, or was removed) is told by [`Standing::Expired`], and joins again by itself, as the same
///   node.
/// - What the cluster keeps and is no good (garbage, another release's newer records, numbers that are none) is refused: the old is kept, an error is logged,
///   and [`View::refused`] counts.
pub trait Cluster: Send + Sync {
    /// Becomes a member, visible to the others, and gives views to `sink`.
    ///
    /// The sink gets a view at once, frozen if the cluster is out of reach. `done` is called after a view with the member in it, and that may take as long as the
    /// cluster is out of reach; `leave` ends the waiting. It fails with `Conflict` when a node with this name lives that is not of the same installation, and
    /// with `NotApplied` when `leave` comes first, with `Invalid` when [`Node::check`] does; then the sink gets no more views. A node of the same installation is replaced: it is told `Expired`, and
    /// does not come back for as long as the newer one lives. Joining again with the same id replaces what the others see, and the sink.
    fn join(&self, node: Node, sink: Arc<dyn ClusterSink>, done: Done<()>);

    /// Gives views to `sink` without being a member, for as long as the handle lives; the first one at once, frozen if the cluster is out of reach.
    fn watch(&self, sink: Arc<dyn ClusterSink>);

    /// Says what a member of this handle carries; of any other node it says nothing. A hint: the newest value counts, and any may be lost. May be called as
    /// often as one likes; what others see changes about once a second.
    fn report(&self, node: &NodeId, load: Load);

    /// Ceases to be a member, and no longer stands for planner. `done` is called when the others can see it, or when the cluster cannot be told: then it
    /// counts the node out by itself. Of a node that is no member of this handle it does nothing. The sink gets no more views, but for one under way.
    fn leave(&self, node: &NodeId, done: Done<()>);

    /// Counts out a node that is known to be dead, for those who saw it die: sooner than the cluster would by itself. Removing who is not there succeeds.
    fn remove(&self, node: &NodeId, done: Done<()>);

    /// A member of this handle stands for planner from now on until it leaves, across expiry too. One member is elected at a time. It is told by
    /// [`View::planner`]; its term is higher than that of each planner before.
    fn campaign(&self, node: &NodeId);

    /// Puts `ring` in the place of the ring of the generation before; the first ring has generation 1.
    ///
    /// Fails with `Fenced` unless a member of this handle is the elected planner of [`Ring::term`], with `Conflict` when the published ring is of another
    /// generation, with `NotApplied` when the cluster is out of reach. Atomic in all of the cluster: of one generation there is one ring, and once a
    /// planner has been elected, those of older terms publish nothing any more. Publishing the very ring that is published succeeds, so after `Unknown` one
    /// may try again.
    fn publish_ring(&self, ring: Arc<Ring>, done: Done<()>);

    /// Notes durably whether an operator wants the server of this name drained. Setting again what is set succeeds; nobody needs to be a member for it.
    fn set_draining(&self, name: &NodeName, wanted: bool, done: Done<()>);
}

/// Small records that all nodes share and are told of when they change, such as limits that are changed while servers run: a capability of clusters.
/// [`View::settings`] has them; they are durable.
pub trait Settings: Send + Sync {
    /// Puts `value` in the place of that of the generation `expected` (0: it was never set), and answers the new generation.
    ///
    /// Fails with `Conflict` when the setting is of another generation, unless it has come there by this very value; with `Invalid` when the value has more
    /// than [`MAX_SETTING`] bytes; with `NotApplied` when the cluster is out of reach. A setting is never unset: what means nothing is an empty value.
    fn set(&self, name: &SettingName, expected: u64, value: Bytes, done: Done<u64>);
}

/// The most bytes of a setting.
pub const MAX_SETTING: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, version: &str, parts: &[(&str, u64)]) -> Node {
        Node {
            id: NodeId::new(name).unwrap(),
            name: NodeName::new(name).unwrap(),
            installation: 0,
            url: "".into(),
            peer: None,
            peer_tls: false,
            capacity: 1,
            version: version.into(),
            roles: Roles::default(),
            since: 0,
            configuration: parts.iter().map(|(part, digest)| ((*part).into(), *digest)).collect(),
        }
    }

    #[test]
    fn who_is_configured_differently_is_named() {
        let nodes = [
            node("a", "1", &[("apps", 1), ("limits", 1)]),
            node("b", "1", &[("apps", 2), ("limits", 1)]),
            node("c", "1", &[("apps", 1), ("limits", 1)]),
            // Of a release that says less, and of one that may say it otherwise.
            node("d", "0", &[]),
            node("e", "2", &[("apps", 3), ("limits", 3)]),
        ];
        let drift = View { nodes: nodes.into(), ..View::default() }.drift();
        let said: Vec<_> = drift.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["[apps] of a and c, not as of b"]);
    }

    #[test]
    fn what_a_node_says_has_bounds() {
        let good = node("a", "1", &[("apps", 1)]);
        assert_eq!(good.check(), Ok(()));
        assert!(Node { configuration: [("a\n".into(), 1)].into(), ..good.clone() }.check().is_err());
        let many = (0..65).map(|number: u64| (number.to_string().into(), 1)).collect();
        assert!(Node { configuration: many, ..good }.check().is_err());
    }
}
