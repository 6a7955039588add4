//! What one store gives to another one, of another kind, when an installation moves: everything with its ids, places and ages, so that nobody who comes
//! back notices. Backends that can give or take it offer that beside their ports.

use crate::names::{ClientId, EventName, User};
use crate::ports::markers::Marker;
use crate::{ChannelKey, Kind, Payload, Sender, UnixMillis};

/// What is true of a ledger as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// What the epochs of its channels are made from.
    pub epoch: u64,
    /// Where its clock, by which ages go, has been; ms.
    pub clock: u64,
}

/// A channel, without its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelCopy {
    /// Which.
    pub key: ChannelKey,
    /// How often it has begun anew.
    pub incarnation: u64,
    /// The newest slot; 0: none.
    pub head: u64,
    /// When it was placed, by the wall clock.
    pub active: UnixMillis,
    /// The newest slot that is a message; 0: none.
    pub newest: u64,
    /// What is older than so many ms may not be read.
    pub age_ms: u64,
    /// The smallest slot that may be read, age apart; head at most, when there is one.
    pub first: u64,
    /// Slots before have no body any more; `first` at most.
    pub blanked: u64,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotCopy {
    /// Its place. One channel's slots come ascending and without a hole.
    pub seq: u64,
    /// Message, edit or deletion.
    pub kind: Kind,
    /// When it was placed, by the ledger's clock.
    pub placed: u64,
    /// Messages that count as unread, before it.
    pub counted: u64,
    /// Bytes as retention counts them, before it.
    pub bytes: u64,
    /// Its own.
    pub own_bytes: u64,
    /// Whose; [`NOBODY`](crate::ports::erasure::NOBODY) when it was erased: then its id is nobody's either.
    pub from: Sender,
    /// The sender's id for it.
    pub id: ClientId,
    /// When, as its sender's server said.
    pub at: UnixMillis,
    /// Of a message: the newest edit, or the deletion, and when that was; itself when it was erased without one.
    pub revised: Option<(u64, UnixMillis)>,
    /// It was deleted.
    pub deleted: bool,
    /// `None`: blanked by retention.
    pub event: Option<EventName>,
    /// `None`: taken out, because of retention, a deletion, or an edit that has it now.
    pub payload: Option<Payload>,
}

/// A user's marker in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerCopy {
    /// Whose.
    pub user: User,
    /// Where it stands.
    pub marker: Marker,
    /// When it moved, among the channel's others: larger is later.
    pub moved: u64,
    /// When it was made, by the wall clock.
    pub made: UnixMillis,
}
