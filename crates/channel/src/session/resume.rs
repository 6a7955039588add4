//! The ids of an event stream: who it is, and how far it came in each of its channels. Whoever shows one goes on as the same user without a token, for a day beyond the
//! token's end. A guest has nothing that could end: it goes on as long as the app welcomes it.
//!
//! The credential is made once a stream and signed. The positions behind it are not: anybody who may follow a channel may say where to begin.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use xpush_core::access::{Actions, Capabilities};
use xpush_core::{
    App, Channel, ChannelKey, Code, Device, Epoch, Grant, Login, Position, Problem, Role, Sender, UnixMillis,
    User,
};

/// For how long a stream resumes without a token, beyond its token's end, in ms.
const DAY: u64 = 86_400_000;
/// The first byte: another form has another.
const FORM: u8 = 1;
/// Bytes of HMAC-SHA256 that are shown (RFC 2104, 5).
const MAC: usize = 16;
const GUEST: u8 = 1;
const RESTRICTED: u8 = 2;

/// Signs credentials, and knows its own again.
pub(crate) struct Seal(hmac::Key);

/// The channels of an event stream, in the order of its query, and how far each was sent.
pub(crate) struct Stream {
    pub(crate) channels: Vec<(ChannelKey, Option<Position>)>,
    /// What its ids begin with.
    pub(crate) credential: Box<str>,
}

/// What an id that is good comes to.
pub(crate) struct Resumed {
    /// Ends when the id does; a guest's does not.
    pub(crate) grant: Grant,
    pub(crate) positions: Vec<Option<Position>>,
}

impl Seal {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The credential of a stream of `channels`. `resumed`: the grant came by one already, and ends when that ends.
    pub(crate) fn credential(&self, grant: &Grant, channels: &[Channel], resumed: bool) -> Box<str> {
        let until = match grant.expires_at {
            Some(expires_at) if resumed => expires_at,
            Some(expires_at) => expires_at.saturating_add(DAY),
            None => UnixMillis::MAX,
        };
        let mut out = vec![FORM];
        let restricted = grant.capabilities.is_some();
        out.push(if grant.guest { GUEST } else { 0 } | if restricted { RESTRICTED } else { 0 });
        out.extend_from_slice(&until.to_be_bytes());
        out.extend_from_slice(&grant.issued_at.to_be_bytes());
        out.extend_from_slice(&digest(channels));
        let roles: Vec<_> = grant.roles.iter().map(Role::as_str).collect();
        put(&mut out, grant.app.as_str());
        put(&mut out, grant.sender.user.as_str());
        put(&mut out, grant.sender.name.as_deref().unwrap_or_default());
        put(&mut out, grant.device.as_ref().map(Device::as_str).unwrap_or_default());
        put(&mut out, grant.login.as_ref().map(Login::as_str).unwrap_or_default());
        put(&mut out, &roles.join(","));
        if let Some(capabilities) = &grant.capabilities {
            out.extend(channels.iter().map(|channel| bits(capabilities.of(channel))));
        }
        let mac = hmac::sign(&self.0, &out);
        out.extend_from_slice(&mac.as_ref()[..MAC]);
        URL_SAFE_NO_PAD.encode(out).into()
    }

    /// Reads an id that was made for a stream of `channels`.
    pub(crate) fn read(&self, id: &str, channels: &[Channel], now: UnixMillis) -> Result<Resumed, Problem> {
        let foreign = || Problem::new(Code::BadField, "Last-Event-ID: not one of this stream's");
        let (credential, positions) = id.split_once('~').ok_or_else(foreign)?;
        let bytes = URL_SAFE_NO_PAD.decode(credential).map_err(|_| foreign())?;
        let (body, mac) = bytes.split_last_chunk::<MAC>().ok_or_else(foreign)?;
        let expected = hmac::sign(&self.0, body);
        constant_time::verify_slices_are_equal(&expected.as_ref()[..MAC], mac).map_err(|_| foreign())?;
        let positions = positions_of(positions, channels.len()).ok_or_else(foreign)?;
        let (until, grant) = read_body(body, channels).ok_or_else(foreign)?;
        if until <= now {
            return Err(Code::TokenExpired.into());
        }
        Ok(Resumed { grant, positions })
    }
}

impl Stream {
    /// Notes how far a channel was sent; the id that tells it of all channels.
    pub(crate) fn advance(&mut self, channel: &ChannelKey, position: Option<Position>) -> String {
        if let Some((_, at)) = self.channels.iter_mut().find(|(key, _)| key == channel) {
            *at = position.or(*at);
        }
        self.id()
    }

    /// The credential, `~`, and `EPOCH.SEQ` for each channel, `-` for one without a position, joined by commas.
    fn id(&self) -> String {
        let part = |(_, at): &(ChannelKey, Option<Position>)| match at {
            Some(at) => format!("{}.{}", at.epoch, at.seq),
            None => "-".to_owned(),
        };
        let positions = self.channels.iter().map(part).collect::<Vec<_>>().join(",");
        format!("{}~{positions}", self.credential)
    }
}

fn positions_of(text: &str, count: usize) -> Option<Vec<Option<Position>>> {
    let position = |part: &str| match part {
        "-" => Some(None),
        part => {
            let (epoch, seq) = part.split_once('.')?;
            Some(Some(Position { epoch: Epoch::parse(epoch)?, seq: seq.parse().ok()? }))
        }
    };
    let positions = text.split(',').map(position).collect::<Option<Vec<_>>>()?;
    (positions.len() == count).then_some(positions)
}

fn read_body(body: &[u8], channels: &[Channel]) -> Option<(UnixMillis, Grant)> {
    let ([FORM, flags], rest) = body.split_first_chunk()? else { return None };
    let (until, rest) = rest.split_first_chunk()?;
    let (issued_at, rest) = rest.split_first_chunk()?;
    let (of_channels, mut rest) = rest.split_first_chunk()?;
    if *of_channels != digest(channels) {
        return None;
    }
    let mut text = || take(&mut rest);
    let (app, user, name, device, login, roles) = (text()?, text()?, text()?, text()?, text()?, text()?);
    let roles = roles.split(',').filter(|role| !role.is_empty()).map(|role| Role::new(role).ok());
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let restricted = flags & RESTRICTED != 0;
    if rest.len() != if restricted { channels.len() } else { 0 } {
        return None;
    }
    let entries = channels.iter().zip(rest).map(|(channel, bits)| (channel.as_str().into(), actions(*bits)));
    let until = u64::from_be_bytes(*until);
    let guest = flags & GUEST != 0;
    let grant = Grant {
        app: App::new(app).ok()?,
        sender: Sender { user: User::new(user).ok()?, name: given(name).map(Into::into) },
        device: given(device).and_then(|device| Device::new(&device).ok()),
        guest,
        roles: roles.collect::<Option<_>>()?,
        capabilities: restricted.then(|| Capabilities::new(entries)),
        issued_at: u64::from_be_bytes(*issued_at),
        expires_at: (!guest).then_some(until),
        login: given(login).and_then(|login| Login::new(&login).ok()),
        info: None,
    };
    Some((until, grant))
}

/// 64 bits that tell one list of channels from another.
fn digest(channels: &[Channel]) -> [u8; 8] {
    let mut digest = Sha256::new();
    for channel in channels {
        digest.update(channel.as_str());
        // No name holds it.
        digest.update([0]);
    }
    digest.finalize().first_chunk().copied().unwrap_or_default()
}

/// A text behind its length: one byte, or two from 128 on.
fn put(out: &mut Vec<u8>, text: &str) {
    // Names have at most 256 bytes.
    let length = u16::try_from(text.len()).unwrap_or(0);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => out.extend_from_slice(&(length | 0x8000).to_be_bytes()),
    }
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (first, after) = rest.split_first()?;
    let (length, after) = if *first < 0x80 {
        (usize::from(*first), after)
    } else {
        let (second, after) = after.split_first()?;
        (usize::from(u16::from_be_bytes([*first & 0x7f, *second])), after)
    };
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

fn bits(actions: Actions) -> u8 {
    (0..).zip(Actions::EACH).fold(
        0,
        |bits, (place, action)| {
            if actions.contains(action) { bits | 1 << place } else { bits }
        },
    )
}

fn actions(bits: u8) -> Actions {
    (0..).zip(Actions::EACH).fold(Actions::NONE, |actions, (place, action)| {
        if bits & 1 << place == 0 { actions } else { actions.with(action) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_core::Action;

    const NOW: UnixMillis = 1_767_225_600_000;

    fn names(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|name| Channel::new(name).unwrap()).collect()
    }

    fn grant() -> Grant {
        Grant {
            app: App::new("demo").unwrap(),
            sender: Sender { user: User::new("ann").unwrap(), name: Some("Ann ☃".into()) },
            device: Some(Device::new("phone").unwrap()),
            guest: false,
            roles: vec![Role::new("support").unwrap(), Role::new("night").unwrap()],
            capabilities: None,
            issued_at: NOW - 5_000,
            expires_at: Some(NOW + 60_000),
            login: Some(Login::new("l-1").unwrap()),
            info: None,
        }
    }

    fn id(seal: &Seal, grant: &Grant, channels: &[Channel], resumed: bool) -> String {
        let keys = channels.iter().map(|name| (ChannelKey::new(grant.app.clone(), name.clone()), None));
        let credential = seal.credential(grant, channels, resumed);
        let mut stream = Stream { channels: keys.collect(), credential };
        let key = ChannelKey::new(grant.app.clone(), channels[0].clone());
        stream.advance(&key, Some(Position { epoch: Epoch(7), seq: 42 }))
    }

    fn code(result: Result<Resumed, Problem>) -> Option<Code> {
        result.err().map(|problem| problem.code)
    }

    #[test]
    fn an_id_tells_who_it_is_and_where() {
        let (seal, channels) = (Seal::new(b"secret"), names(&["a", "b"]));
        let id = id(&seal, &grant(), &channels, false);
        let resumed = seal.read(&id, &channels, NOW).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(resumed.grant, Grant { expires_at: Some(NOW + 60_000 + DAY), ..grant() });
        assert_eq!(resumed.positions, [Some(Position { epoch: Epoch(7), seq: 42 }), None]);
        assert!(!id.contains([' ', '\n', '&', '#', '%']), "{id}");
    }

    #[test]
    fn what_was_altered_or_is_anothers_is_refused() {
        let (seal, channels) = (Seal::new(b"secret"), names(&["a", "b"]));
        let good = id(&seal, &grant(), &channels, false);
        let end = good.find('~').unwrap();
        for at in 0..end {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            // The last character's unused bits make it no base64 at all.
            assert_eq!(code(seal.read(&bad, &channels, NOW)), Some(Code::BadField), "{at}");
        }
        let other = Seal::new(b"another");
        assert_eq!(code(other.read(&good, &channels, NOW)), Some(Code::BadField));
        for others in [&["b", "a"][..], &["a"], &["a", "b", "c"], &["ab", ""][..1]] {
            assert_eq!(code(seal.read(&good, &names(others), NOW)), Some(Code::BadField), "{others:?}");
        }
        for bad in ["", "~", "1.2,-", &good[..end], &format!("{}~-", &good[..end])] {
            assert_eq!(code(seal.read(bad, &channels, NOW)), Some(Code::BadField), "{bad}");
        }
    }

    #[test]
    fn a_day_after_its_token_an_id_ends_and_resuming_makes_it_no_longer() {
        let (seal, channels) = (Seal::new(b"secret"), names(&["a"]));
        let end = NOW + 60_000 + DAY;
        let first = id(&seal, &grant(), &channels, false);
        let resumed = seal.read(&first, &channels, end - 1).map(|resumed| resumed.grant).unwrap();
        assert_eq!(code(seal.read(&first, &channels, end)), Some(Code::TokenExpired));
        let second = id(&seal, &resumed, &channels, true);
        assert!(seal.read(&second, &channels, end - 1).is_ok());
        assert_eq!(code(seal.read(&second, &channels, end)), Some(Code::TokenExpired));
        let guest = Grant { guest: true, expires_at: None, ..grant() };
        let of_guest = id(&seal, &guest, &channels, false);
        for later in [0, DAY, 1_000 * DAY] {
            // It streams for days on end, and has had no other id.
            assert_eq!(seal.read(&of_guest, &channels, NOW + later).unwrap().grant, guest);
        }
    }

    #[test]
    fn a_tokens_restrictions_come_along() {
        let (seal, channels) = (Seal::new(b"secret"), names(&["room:1", "room:2"]));
        let read = Actions::NONE.with(Action::Subscribe);
        let capabilities =
            Capabilities::new([("room:*".into(), read), ("room:2".into(), read.with(Action::History))]);
        let restricted = Grant { capabilities: Some(capabilities), ..grant() };
        let id = id(&seal, &restricted, &channels, false);
        let again = seal.read(&id, &channels, NOW).unwrap().grant.capabilities.unwrap();
        assert_eq!(again.of(&channels[0]), read);
        assert_eq!(again.of(&channels[1]), read.with(Action::History));
        assert_eq!(again.of(&Channel::new("room:3").unwrap()), Actions::NONE);
    }
}
