//! Who is in which channel, over all nodes.

use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::message::RecordError;
use crate::names::{ChannelKey, NodeId, User};
use crate::ports::Done;
use crate::ports::lease::Lease;

/// Someone present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: User,
    /// The display name that the user's latest connection gave.
    pub name: Option<Arc<str>>,
}

/// One connection of a user that comes into a channel or leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The channel.
    pub channel: ChannelKey,
    /// The user.
    pub member: Member,
    /// Comes, or leaves.
    pub enters: bool,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The user's first connection came in, or the last one left, over all nodes.
    pub transition: bool,
    /// Users in the channel afterwards.
    pub users: u64,
    /// Connections in the channel afterwards.
    pub connections: u64,
}

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    /// Users in all.
    pub users: u64,
    /// At most as many as were asked for; in the order of their first entry on this store.
    pub members: Vec<Member>,
}

/// Users who came into a channel and who left it, as subscribers are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// Users in the channel afterwards.
    pub users: u64,
    /// Who came.
    pub joined: Vec<Member>,
    /// Who left.
    pub left: Vec<User>,
}

/// Counts connections by user and tells first and last.
///
/// - In each channel, the changes of one call are applied in order, and the calls of one caller in the order in which they were made; every outcome is decided
///   atomically with its change, so that over all nodes exactly one caller sees each transition.
/// - Entries belong to the node that made them and live as long as its lease, which begins with the first entry or renewal; [`Presence::evict`] removes a dead
///   node's and returns who is gone by it.
/// - Leaving without having entered changes nothing and is no transition.
/// - **A store that fails** says nothing about who is there: presence is then *unknown, never empty*, and whoever asked keeps what it knew. A call that ended
///   with [`Failure::Unknown`](super::Failure::Unknown) must not be made again, since it would count twice: [`Presence::restate`] says how it is, however
///   often it is called.
/// - **A store that forgets** (it was restarted empty, or failed over to a copy that lags behind) says so by [`Lease::Anew`] at the next renewal: the node then
///   restates each of its channels, again and again until that succeeds, and lists anew those whose members it has told to others. What is answered between
///   the loss and that may be wrong.
pub trait Presence: Send + Sync {
    /// Applies `changes`; one outcome each.
    fn apply(&self, node: &NodeId, changes: Vec<Change>, done: Done<Vec<Outcome>>);
    /// Says which connections `node` has in a channel, one element each, instead of all that it had entered there before; who came and who left by it.
    fn restate(&self, node: &NodeId, channel: &ChannelKey, connections: Vec<Member>, done: Done<Delta>);
    /// Who is in a channel: at most `limit` of them by name.
    fn list(&self, channel: &ChannelKey, limit: usize, done: Done<Roster>);
    /// Says that `node` lives, every [`RENEW_MS`](super::lease::RENEW_MS) or so; whether its entries do.
    fn renew(&self, node: &NodeId, done: Done<Lease>);
    /// Nodes whose lease is over and whose entries nobody has evicted.
    fn lapsed(&self, done: Done<Vec<NodeId>>);
    /// Removes everything that `node` entered; the users who are gone by it, by channel. After a failure some may be gone untold, and the node is among those that
    /// have lapsed until all is removed.
    fn evict(&self, node: &NodeId, done: Done<Vec<(ChannelKey, Delta)>>);
}

impl Delta {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.varint(self.users);
        out.varint(self.joined.len() as u64);
        for member in &self.joined {
            out.text(member.user.as_str());
            out.option(member.name.as_deref(), Writer::text);
        }
        out.varint(self.left.len() as u64);
        for user in &self.left {
            out.text(user.as_str());
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        let user = |text| User::new(text).map_err(|_| RecordError::Corrupt);
        let mut delta = Self { users: input.varint()?, ..Self::default() };
        for _ in 0..input.varint()? {
            let user = user(input.text()?)?;
            let name = input.option(|input| Ok(Arc::from(input.text()?)))?;
            delta.joined.push(Member { user, name });
        }
        for _ in 0..input.varint()? {
            delta.left.push(user(input.text()?)?);
        }
        Ok(delta)
    }
}
