//! Which nodes there are.

use std::sync::Arc;

use crate::names::NodeId;

/// A channel server as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id, new at every start.
    pub id: NodeId,
    /// Where clients reach it.
    pub url: Box<str>,
}

/// What a node carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Live connections.
    pub connections: u64,
    /// Channels with subscribers.
    pub channels: u64,
}

/// How far a view can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is what the cluster agrees on.
    Live,
    /// The cluster cannot be reached: go on with the last view.
    Frozen,
    /// The others have counted this node out: it must join again.
    Expired,
}

/// The nodes, as known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How far it can be trusted.
    pub standing: Standing,
    /// The nodes, this one included while it is a member, ascending by id.
    pub nodes: Vec<Node>,
}

/// Where views come. Called from the cluster's own threads; must not block.
pub trait ClusterSink: Send + Sync {
    /// The newest view replaces those before it.
    fn view(&self, view: Arc<View>);
}

/// Membership.
///
/// - `join` makes `node` visible to the others and gives views to `sink`, the first one before `join` returns when the cluster can be reached; a node that ends without `leave` vanishes from the others' views by itself.
/// - Views come in the order in which they arose.
/// - `report` is a hint: the newest value counts, and any may be lost.
pub trait Cluster: Send + Sync {
    /// Becomes a member.
    fn join(&self, node: Node, sink: Arc<dyn ClusterSink>);
    /// Says what `node` carries.
    fn report(&self, node: &NodeId, load: Load);
    /// Ceases to be a member.
    fn leave(&self, node: &NodeId);
}
