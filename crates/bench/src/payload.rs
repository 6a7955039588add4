//! What each message carries so that its arrival can be judged: who sent it, its number, and when.

use memchr::memmem;
use std::time::Instant;

/// The stamp's text: `xp1:PPPP:SSSSSSSS:TTTTTTTTTTTT:` in hexadecimal.
const MARK: &[u8] = b"\"xp1:";
const PUBLISHER: std::ops::Range<usize> = 4..8;
const SEQ: std::ops::Range<usize> = 9..17;
const SENT: std::ops::Range<usize> = 18..30;
/// The shortest payload that holds a stamp.
pub(crate) const MIN_LEN: usize = 31;

/// What fills payloads: words as people write them, which a search index takes in as such.
const PROSE: &[u8] = b"the ferry leaves the harbour at half past seven and anybody who wants a seat near a window had better come early \
    because most cabins were sold months ago to walkers bound for northern islands where spring is late but light lasts until midnight ";

/// One message's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The publisher's number, dense from 0.
    pub(crate) publisher: u32,
    /// Counts this publisher's messages from 0.
    pub(crate) seq: u32,
    /// Nanoseconds since the load generator's start.
    pub(crate) sent_ns: u64,
}

/// The time that stamps tell.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

/// Writes and reads payloads of one length.
pub(crate) struct Payload {
    text: Vec<u8>,
    mark: memmem::Finder<'static>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub(crate) fn now_ns(self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Payload {
    /// Payloads of `len` bytes, at least [`MIN_LEN`].
    pub(crate) fn new(len: usize) -> Self {
        let mut text = b"xp1:0000:00000000:000000000000:".to_vec();
        text.extend(PROSE.iter().cycle().take(len.saturating_sub(MIN_LEN)));
        Self { text, mark: memmem::Finder::new(MARK) }
    }

    /// The payload that carries `stamp`; needs no JSON escape.
    pub(crate) fn write(&mut self, stamp: Stamp) -> &str {
        put_hex(&mut self.text[PUBLISHER], u64::from(stamp.publisher));
        put_hex(&mut self.text[SEQ], u64::from(stamp.seq));
        put_hex(&mut self.text[SENT], stamp.sent_ns);
        std::str::from_utf8(&self.text).expect("only ASCII was written")
    }

    /// Finds the payload in a packet and reads its stamp; every other byte must be as it was sent.
    pub(crate) fn read(&self, packet: &str) -> Option<Stamp> {
        let packet = packet.as_bytes();
        let start = self.mark.find(packet)? + 1;
        let found = packet.get(start..start + self.text.len())?;
        let whole = packet.get(start + self.text.len()) == Some(&b'"')
            && found[MIN_LEN..] == self.text[MIN_LEN..]
            && [PUBLISHER.end, SEQ.end, SENT.end].iter().all(|&colon| found[colon] == b':');
        if !whole {
            return None;
        }
        Some(Stamp {
            publisher: u32::try_from(take_hex(&found[PUBLISHER])?).ok()?,
            seq: u32::try_from(take_hex(&found[SEQ])?).ok()?,
            sent_ns: take_hex(&found[SENT])?,
        })
    }
}

fn put_hex(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
    debug_assert_eq!(value, 0, "the field is too narrow");
}

fn take_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 999, seq: 0xfedc_ba98, sent_ns: 0x1234_5678_9abc };

    fn packet(payload: &mut Payload) -> String {
        format!("42[\"message\",\"{}\"]", payload.write(STAMP))
    }

    #[test]
    fn a_stamp_survives_the_journey() {
        for len in [MIN_LEN, 128, 4096] {
            let mut payload = Payload::new(len);
            let packet = packet(&mut payload);
            assert_eq!(packet.len(), len + 16);
            assert_eq!(payload.read(&packet), Some(STAMP));
        }
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let mut payload = Payload::new(64);
        let intact = packet(&mut payload);
        let start = intact.find("xp1").expect("the mark");
        for at in start..start + 65 {
            let mut damaged = intact.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).expect("still ASCII");
            assert_ne!(payload.read(&damaged), Some(STAMP), "byte {at}");
        }
        assert_eq!(payload.read(&intact[..intact.len() - 2]), None, "cut off");
    }
}
