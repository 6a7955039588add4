//! Which servers carry a channel now, for whoever sends clients to them.

use crate::names::{ChannelKey, NodeName};
use crate::ports::Done;
use crate::ports::lease::Lease;

/// How many connections of a channel a server carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The server.
    pub name: NodeName,
    /// Its connections in the channel, at least 1.
    pub connections: u64,
}

/// A best-effort registry: clients of an active channel are sent where it is already, so that it lives on few servers. Whoever acts on a wrong answer has sent a
/// client to another server than would have been best, nothing worse.
///
/// - A report says how it is, not what changed: it may be made again. Reports of one caller are applied in the order in which they were made.
/// - What a server reported lasts as long as its lease (`renew`), and is found no longer than that. A store that has lost it says so by [`Lease::Anew`].
/// - Names are stable: a server that starts evicts its own name first.
pub trait Hosts: Send + Sync {
    /// Says how many connections `name` has in each of these channels; with 0 it is no host of it any more.
    fn report(&self, name: &NodeName, connections: Vec<(ChannelKey, u64)>, done: Done<()>);
    /// The hosts of each channel, in the order asked for; those of one channel ascending by name.
    fn find(&self, channels: Vec<ChannelKey>, done: Done<Vec<Vec<Host>>>);
    /// Says that `name` lives, every [`RENEW_MS`](super::lease::RENEW_MS) or so; whether its reports do.
    fn renew(&self, name: &NodeName, done: Done<Lease>);
    /// Forgets all that `name` reported.
    fn evict(&self, name: &NodeName, done: Done<()>);
}
