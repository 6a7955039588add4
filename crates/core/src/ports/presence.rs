//! Who is in which channel, over all nodes.

use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::message::RecordError;
use crate::names::{ChannelKey, NodeId, User};
use crate::ports::Done;

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
/// - Changes given in one call are applied in order, and calls of one caller are applied in the order in which they were made; every outcome is decided
///   atomically with its change, so that over all nodes exactly one caller sees each transition.
/// - Entries belong to the node that made them and live as long as its lease (`renew`); [`Presence::evict`] removes a dead node's and returns who is gone by it.
/// - Leaving without having entered changes nothing and is no transition.
pub trait Presence: Send + Sync {
    /// Applies `changes`; one outcome each.
    fn apply(&self, node: &NodeId, changes: Vec<Change>, done: Done<Vec<Outcome>>);
    /// Who is in a channel: at most `limit` of them by name.
    fn list(&self, channel: &ChannelKey, limit: usize, done: Done<Roster>);
    /// Says that `node` lives.
    fn renew(&self, node: &NodeId);
    /// Removes everything that `node` entered; the users who are gone by it, by channel.
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
