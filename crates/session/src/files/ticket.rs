//! Tickets: what an `<img>`, which can show no token, has in its URL instead. One is good for all files of one channel, for a few minutes.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xpush_core::{App, Channel, UnixMillis};

/// For how long a ticket is good, in ms: also for one who is no member any more meanwhile.
pub(crate) const GOOD_FOR: UnixMillis = 600_000;

/// Bytes of a ticket: names are short.
const LONGEST: usize = 4_096;

/// What a ticket opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) app: App,
    pub(crate) channel: Channel,
    pub(crate) expires_at: UnixMillis,
}

impl Ticket {
    /// As text, which nobody makes without the key: the ticket and its HMAC.
    pub(crate) fn seal(&self, key: &hmac::Key) -> String {
        // No name has a line's end in it.
        let text = format!("{}\n{}\n{}", self.app, self.expires_at, self.channel);
        let tag = hmac::sign(key, text.as_bytes());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(tag))
    }

    /// What was sealed, whether it is still good or not.
    pub(crate) fn open(sealed: &str, key: &hmac::Key) -> Option<Self> {
        let (text, tag) = sealed.split_once('.').filter(|_| sealed.len() <= LONGEST)?;
        let (text, tag) = (URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        hmac::verify(key, &text, &tag).ok()?;
        let mut lines = std::str::from_utf8(&text).ok()?.splitn(3, '\n');
        let (app, expires_at, channel) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Self {
            app: App::new(app).ok()?,
            channel: Channel::new(channel).ok()?,
            expires_at: expires_at.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_opens() {
        let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        let ticket = Ticket {
            app: App::new("demo").unwrap(),
            channel: Channel::new("room:ä").unwrap(),
            expires_at: 1_700_000_000_000,
        };
        let sealed = ticket.seal(&key(1));
        assert_eq!(Ticket::open(&sealed, &key(1)), Some(ticket));
        assert_eq!(Ticket::open(&sealed, &key(2)), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of each half has bits that mean nothing, and must be zero.
            assert_eq!(Ticket::open(&changed, &key(1)), None, "{at}");
        }
        for bad in ["", ".", "a", "a.b", &"A".repeat(9_999)] {
            assert_eq!(Ticket::open(bad, &key(1)), None);
        }
    }
}
