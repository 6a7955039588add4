//! What a run wrote down, line by line, and what the store held at its end.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One line of a run's log. The lines are in the order in which things happened to the clients: a message is noted before it is
/// sent, an answer when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds since the run began.
    pub at: u64,
    /// Whom it happened to; empty: to the server.
    pub client: Arc<str>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The client's connection is over, and its subscriptions with it.
    Disconnected,
    /// The server was killed. Clients tell for themselves when they notice.
    Killed,
    /// Something else was done to the servers, or to what they stand on.
    Fault {
        /// What.
        what: Arc<str>,
    },
    /// A publication, an edit or a deletion leaves; again, with the same id, when it is retried. Ids are unique in a run.
    Sent {
        /// Where to.
        channel: Arc<str>,
        /// The client's id for it.
        id: Arc<str>,
        /// What it is.
        #[serde(flatten)]
        slot: Slot,
    },
    /// It has its place.
    Acked {
        /// Where.
        channel: Arc<str>,
        /// Which.
        id: Arc<str>,
        /// The place.
        place: Place,
    },
    /// It was refused, and has had no effect.
    Refused {
        /// Where.
        channel: Arc<str>,
        /// Which.
        id: Arc<str>,
        /// The error's code.
        code: Arc<str>,
    },
    /// Nobody knows what became of it.
    Unknown {
        /// Where.
        channel: Arc<str>,
        /// Which.
        id: Arc<str>,
        /// The server said so itself; else the connection ended before it said anything.
        told: bool,
    },
    /// A subscription begins, or begins anew.
    Subscribed {
        /// To what.
        channel: Arc<str>,
        /// What the client had.
        since: Option<Place>,
        /// Whether the server says that nothing is missing behind it.
        recovered: Option<bool>,
        /// How many messages the server says will follow.
        missed: u64,
        /// The newest place.
        place: Place,
    },
    /// A slot reached a subscriber.
    Delivered {
        /// Of which channel.
        channel: Arc<str>,
        /// The content.
        #[serde(flatten)]
        kept: Kept,
        /// In which history.
        epoch: Arc<str>,
    },
    /// The server says that messages up to here cannot be had any more.
    Gap {
        /// Of which channel.
        channel: Arc<str>,
        /// The last one that is gone.
        place: Place,
    },
    /// The run is over, and whoever is still subscribed has had the time to receive everything.
    Finished,
}

/// A position in a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// In which history.
    pub epoch: Arc<str>,
    /// 1, 2, 3 …
    pub seq: u64,
}

/// What takes a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Slot {
    /// A message.
    Message {
        /// The [`digest`] of its data.
        digest: u64,
    },
    /// New data for the message at `target`.
    Edit {
        /// Its seq.
        target: u64,
        /// The [`digest`] of the new data.
        digest: u64,
    },
    /// The message at `target` is withdrawn.
    Delete {
        /// Its seq.
        target: u64,
    },
}

/// A slot as somebody read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its place.
    pub seq: u64,
    /// The publisher's id.
    pub id: Arc<str>,
    /// What it is; of a revised message, with the newest data.
    #[serde(flatten)]
    pub slot: Slot,
    /// The slot whose data it shows, when that is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
}

/// What later slots have made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The newest edit's slot, or the deletion's.
    pub by: u64,
    /// It was withdrawn.
    pub deleted: bool,
}

/// What the store held in the end, by channel.
pub type Contents = BTreeMap<Arc<str>, History>;

/// A channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Whether it was promised to outlive everything.
    pub durable: bool,
    /// Which history.
    pub epoch: Arc<str>,
    /// The smallest seq that is kept, `head + 1` when none is.
    pub first: u64,
    /// The newest seq.
    pub head: u64,
    /// Everything that is kept, as it was read.
    pub slots: Vec<Kept>,
}

/// Tells data apart (FNV-1a, 64 bits), the same in every release.
pub fn digest(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes a log, a line of JSON each.
pub fn write(lines: &[Line], mut to: impl Write) -> io::Result<()> {
    for line in lines {
        serde_json::to_writer(&mut to, line)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// Reads what [`write`] has written.
pub fn read(from: impl BufRead) -> io::Result<Vec<Line>> {
    from.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

impl Event {
    /// The channel that it is about.
    pub fn channel(&self) -> Option<&Arc<str>> {
        match self {
            Self::Sent { channel, .. }
            | Self::Acked { channel, .. }
            | Self::Refused { channel, .. }
            | Self::Unknown { channel, .. }
            | Self::Subscribed { channel, .. }
            | Self::Delivered { channel, .. }
            | Self::Gap { channel, .. } => Some(channel),
            Self::Disconnected | Self::Killed | Self::Fault { .. } | Self::Finished => None,
        }
    }

    /// The message that it is about.
    pub fn id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Sent { id, .. }
            | Self::Acked { id, .. }
            | Self::Refused { id, .. }
            | Self::Unknown { id, .. } => Some(id),
            Self::Delivered { kept, .. } => Some(&kept.id),
            _ => None,
        }
    }

    /// The place that it is about.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Acked { place, .. } | Self::Subscribed { place, .. } | Self::Gap { place, .. } => {
                Some(place.seq)
            }
            Self::Delivered { kept, .. } => Some(kept.seq),
            _ => None,
        }
    }
}

impl Slot {
    /// The slot that it changes.
    pub const fn target(self) -> Option<u64> {
        match self {
            Self::Message { .. } => None,
            Self::Edit { target, .. } | Self::Delete { target } => Some(target),
        }
    }

    /// The digest of the data that it gives its message; a deletion leaves `null`.
    pub fn data(self) -> u64 {
        match self {
            Self::Message { digest } | Self::Edit { digest, .. } => digest,
            Self::Delete { .. } => digest(b"null"),
        }
    }
}
