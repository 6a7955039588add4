//! The Engine.IO sid: it names node, shard and slot, so that a request that lands elsewhere can be relayed, and proves itself by 96 random bits.
//!
//! It is the session's credential and is never shown to other clients; those see a [`PublicId`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::fanout::inbox::Handle;

/// Random bytes that only the session's client knows.
pub(crate) type Secret = [u8; 12];

/// A session's address and credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sid {
    /// A digest of the node's id: after a restart, or on another node, a sid is unknown rather than another's.
    pub(crate) node: u32,
    pub(crate) handle: Handle,
    pub(crate) secret: Secret,
}

impl Sid {
    /// 35 characters of base64url.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = [0; 26];
        bytes[..4].copy_from_slice(&self.node.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.handle.shard.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.handle.slot.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.handle.generation.to_be_bytes());
        bytes[14..].copy_from_slice(&self.secret);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0; 26];
        if text.len() != 35 || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != bytes.len() {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let shard = u16::from_be_bytes([bytes[4], bytes[5]]);
        let mut secret = [0; 12];
        secret.copy_from_slice(&bytes[14..]);
        Some(Self { node: word(0), handle: Handle { shard, slot: word(6), generation: word(10) }, secret })
    }
}

impl fmt::Debug for Sid {
    /// Without the secret: this may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sid").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// 64 bits as 11 characters of base64url: what names guests and messages must be short, for it goes out with each of them.
pub(crate) fn spell(word: u64) -> String {
    URL_SAFE_NO_PAD.encode(word.to_be_bytes())
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(crate) fn same(a: &Secret, b: &Secret) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// What others may know a socket by: says where it is, and gives no rights over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicId(pub(crate) Handle);

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}{:08x}{:08x}", self.0.shard, self.0.slot, self.0.generation)
    }
}

impl PublicId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = |range| text.get(range).and_then(|part| u32::from_str_radix(part, 16).ok());
        if text.len() != 20 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let shard = u16::try_from(hex(0..4)?).ok()?;
        Some(Self(Handle { shard, slot: hex(4..12)?, generation: hex(12..20)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: Handle = Handle { shard: 3, slot: 70_000, generation: 9 };

    #[test]
    fn sids_are_read_as_written_and_nothing_else_is() {
        let sid = Sid { node: 0xdead_beef, handle: HANDLE, secret: [7; 12] };
        let text = sid.encode();
        assert_eq!(Sid::decode(&text), Some(sid));
        for bad in ["", "abc", &text[1..], &format!("{text}A"), &"!".repeat(35)] {
            assert_eq!(Sid::decode(bad), None, "{bad}");
        }
        assert!(!format!("{sid:?}").contains("7, 7"));
    }

    #[test]
    fn public_ids() {
        assert_eq!(PublicId::parse(&PublicId(HANDLE).to_string()), Some(PublicId(HANDLE)));
        assert_eq!(PublicId::parse("+003000111700000000"), None);
    }
}
