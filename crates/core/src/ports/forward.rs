//! What servers say to each other when several write one durable channel: its host appends for those who lose the race for places.
//!
//! Both travel on node topics of the [bus](super::bus), where they may be lost or come twice. Whoever gives drafts away keeps them, sends them again under the
//! same number until it has heard of them, and may append them itself at any time: the log knows a draft by its sender and client id.

use crate::codec::{Reader, Writer};
use crate::environment::UnixMillis;
use crate::error::Code;
use crate::message::{Epoch, Message, RecordError};
use crate::names::ChannelKey;
use crate::ports::message_log::{Draft, Refused};

/// Drafts for a channel's host to append, in order, up to the first that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Where to.
    pub channel: ChannelKey,
    /// Of this origin and channel, another one for other drafts.
    pub number: u32,
    /// Which.
    pub drafts: Vec<Draft>,
}

/// A host's word on a [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Where.
    pub channel: ChannelKey,
    /// The forward's.
    pub number: u32,
    /// What becomes of it.
    pub word: Word,
}

/// What becomes of a forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It has come, and waits for its places.
    Waits,
    /// It is not done here; nothing of it has taken effect by this.
    Declined,
    /// What became of each draft, in order.
    Done(Epoch, Vec<Fate>),
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has its place.
    Placed {
        /// In the epoch of the answer.
        seq: u64,
        /// When the message that is there was taken, ms since 1970.
        at: UnixMillis,
        /// It had its place before.
        retry: bool,
    },
    /// It takes none.
    Refused(Refused),
    /// It failed, or one before it did.
    Failed(Code),
}

impl Forward {
    pub(super) fn encode(&self, out: &mut Writer) {
        write_channel(&self.channel, out);
        out.varint(u64::from(self.number));
        out.varint(self.drafts.len() as u64);
        for draft in &self.drafts {
            out.byte(u8::from(draft.moderates));
            out.bytes(&draft.clone().message(self.channel.clone(), None).encode());
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        let (channel, number) = (super::bus::channel(input)?, number(input)?);
        let mut drafts = Vec::new();
        for _ in 0..input.varint()? {
            let moderates = flag(input)?;
            let Message { kind, id, event, payload, from, at, channel: of, position: None, revision: None } =
                Message::decode(&input.bytes()?)?
            else {
                return Err(RecordError::Corrupt);
            };
            if of != channel {
                return Err(RecordError::Corrupt);
            }
            drafts.push(Draft { kind, moderates, id, event, payload, from, at });
        }
        Ok(Self { channel, number, drafts })
    }
}

impl Forwarded {
    pub(super) fn encode(&self, out: &mut Writer) {
        write_channel(&self.channel, out);
        out.varint(u64::from(self.number));
        match &self.word {
            Word::Waits => out.byte(0),
            Word::Declined => out.byte(1),
            Word::Done(epoch, fates) => {
                out.byte(2);
                out.varint(epoch.0);
                out.varint(fates.len() as u64);
                fates.iter().for_each(|fate| fate.encode(out));
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        let (channel, number) = (super::bus::channel(input)?, number(input)?);
        let word = match input.byte()? {
            0 => Word::Waits,
            1 => Word::Declined,
            2 => {
                let epoch = Epoch(input.varint()?);
                let mut fates = Vec::new();
                for _ in 0..input.varint()? {
                    fates.push(Fate::decode(input)?);
                }
                Word::Done(epoch, fates)
            }
            _ => return Err(RecordError::Corrupt),
        };
        Ok(Self { channel, number, word })
    }
}

impl Fate {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Placed { seq, at, retry } => {
                out.byte(u8::from(*retry));
                out.varint(*seq);
                out.varint(*at);
            }
            Self::Refused(Refused::NoSuchMessage) => out.byte(2),
            Self::Refused(Refused::NotYours) => out.byte(3),
            Self::Failed(code) => {
                out.byte(4);
                out.text(code.as_str());
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(match input.byte()? {
            retry @ (0 | 1) => Self::Placed { seq: input.varint()?, at: input.varint()?, retry: retry == 1 },
            2 => Self::Refused(Refused::NoSuchMessage),
            3 => Self::Refused(Refused::NotYours),
            4 => {
                let name = input.text()?;
                let code = Code::ALL.iter().find(|code| code.as_str() == name);
                // Of another release: that it failed is all that can be said.
                Self::Failed(code.copied().unwrap_or(Code::OutcomeUnknown))
            }
            _ => return Err(RecordError::Corrupt),
        })
    }
}

fn write_channel(channel: &ChannelKey, out: &mut Writer) {
    out.text(channel.app.as_str());
    out.text(channel.name.as_str());
}

fn number(input: &mut Reader<'_>) -> Result<u32, RecordError> {
    u32::try_from(input.varint()?).map_err(|_| RecordError::Corrupt)
}

fn flag(input: &mut Reader<'_>) -> Result<bool, RecordError> {
    match input.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RecordError::Corrupt),
    }
}
