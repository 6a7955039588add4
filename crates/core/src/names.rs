//! Names: what they may hold is checked once, here, when they come in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::environment::UnixMillis;
use crate::error::Code;

/// Crockford's digits, in lower case.
const BASE_32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(|code| serde::de::Error::custom(code.text()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// An app (tenant): 1 to 64 of `a-z A-Z 0-9 - _`.
    App
}
name! {
    /// A channel's name within its app: 1 to 128 bytes; no white space, no control characters, none of `* ? [ ] { } \ " '`. What begins with `@` is a
    /// user's or a device's own channel ([`Channel::personal`]) and may be longer; what begins with `$` is the server's.
    Channel
}
name! {
    /// A user's id within its app: 1 to 128 bytes without control characters.
    User
}
name! {
    /// One of a user's devices, as the client names it: 1 to 64 bytes without control characters.
    Device
}
name! {
    /// A login of a built-in account: what one device keeps signed in. 1 to 64 of `a-z A-Z 0-9 - _`.
    Login
}
name! {
    /// An API key of an app, by which its back end is told apart from its other ones. 1 to 64 of `a-z A-Z 0-9 - _`.
    ApiKeyId
}
name! {
    /// A file's id, made by the server: 26 of `0-9 a-z` without `i l o u` (Crockford's base 32, as a ULID in lower case). It begins with the time, and nobody guesses
    /// the rest.
    FileId
}
name! {
    /// What a user is in an app or in a channel: 1 to 32 of `a-z A-Z 0-9 - _`.
    Role
}
name! {
    /// A client's id for its message: 1 to 64 bytes without control characters.
    ClientId
}
name! {
    /// An event's name: 1 to 64 bytes without control characters. Whether it is reserved depends on the namespace.
    EventName
}
name! {
    /// A node of the cluster; unique among those alive. 1 to 64 of `a-z A-Z 0-9 - _ .`.
    NodeId
}
name! {
    /// A server's stable name, the same after a restart: placement goes by it. 1 to 64 of `a-z A-Z 0-9 - _ .`, without a dot in front, so that it is a
    /// file's or znode's name as it is.
    NodeName
}
name! {
    /// The name of a setting that all nodes share. 1 to 64 of `a-z A-Z 0-9 - _ .`, without a dot in front.
    SettingName
}

impl App {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::UnknownApp, word).map(Self)
    }
}

impl Channel {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        let bad = |c: char| {
            c.is_whitespace()
                || c.is_control()
                || matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '"' | '\'')
        };
        if text.starts_with('@') {
            let (user, device) = personal_parts(text).ok_or(Code::BadChannel)?;
            // The one spelling of each: whatever else would mean the same is no name.
            let spelled = Self::personal(&user, device.as_ref());
            return if spelled.as_str() == text { Ok(spelled) } else { Err(Code::BadChannel) };
        }
        check(text, 128, Code::BadChannel, |text| !text.chars().any(bad)).map(Self)
    }

    /// The channel of a user, `@USER`, or of one of its devices, `@USER/DEVICE`; each percent-encoded (RFC 3986, 2.1) but for its unreserved characters and `:`.
    pub fn personal(user: &User, device: Option<&Device>) -> Self {
        let mut name = String::from("@");
        percent_encode(user.as_str(), &mut name);
        if let Some(device) = device {
            name.push('/');
            percent_encode(device.as_str(), &mut name);
        }
        Self(Arc::from(name))
    }

    /// Whose channel it is, when it is a personal one.
    pub fn owner(&self) -> Option<(User, Option<Device>)> {
        self.0.starts_with('@').then(|| personal_parts(&self.0)).flatten()
    }

    /// Whether only the server itself writes here.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl User {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 128, Code::BadField, printable).map(Self)
    }

    /// 64 well-mixed bits, the same in every process and release: by them servers know which users they have in common.
    pub fn hash64(&self) -> u64 {
        mix(fnv1a(FNV_BASIS, self.0.as_bytes()))
    }
}

impl User {
    /// Whether XPUSH itself gives such ids, so that whoever had one could pass for somebody else: those of guests (`g-` and 11 of `A-Z a-z 0-9 - _`), of XPUSH 0.1
    /// clients (`0.1:…`), and the server's own (`$…`). No account and no token is for one.
    pub fn is_reserved(&self) -> bool {
        let of_guest = self.0.strip_prefix("g-").is_some_and(|rest| rest.len() == 11 && word(rest));
        of_guest || self.0.starts_with("0.1:") || self.0.starts_with('$')
    }
}

impl Device {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadField, printable).map(Self)
    }
}

impl Login {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadField, word).map(Self)
    }
}

impl ApiKeyId {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadField, word).map(Self)
    }
}

impl FileId {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        let good = |text: &str| text.len() == 26 && text.bytes().all(|byte| BASE_32.contains(&byte));
        check(text, 26, Code::NotFound, good).map(Self)
    }

    /// One made at `at`, ms since 1970, of 16 random bytes.
    pub fn made_of(at: UnixMillis, chance: [u8; 16]) -> Self {
        let number = u128::from(at) << 80 | (u128::from_be_bytes(chance) >> 48);
        let digit = |place: u32| char::from(BASE_32[(number >> (5 * place)) as usize & 31]);
        Self((0..26).rev().map(digit).collect::<String>().into())
    }
}

impl Role {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 32, Code::BadField, word).map(Self)
    }
}

impl ClientId {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadField, printable).map(Self)
    }
}

impl EventName {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadEvent, printable).map(Self)
    }
}

impl NodeId {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadField, dotted).map(Self)
    }
}

impl SettingName {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        NodeName::new(text).map(|name| Self(name.0))
    }
}

impl NodeName {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 64, Code::BadField, |text| dotted(text) && !text.starts_with('.')).map(Self)
    }

    /// 64 well-mixed bits, the same in every process and release: its points on the ring come from them.
    pub fn hash64(&self) -> u64 {
        mix(fnv1a(FNV_BASIS, self.0.as_bytes()))
    }
}

/// A channel of an app. Its hash is made once and is the same in every process and on every node: shards are chosen by it.
#[derive(Debug, Clone)]
pub struct ChannelKey {
    /// The app.
    pub app: App,
    /// The name within it.
    pub name: Channel,
    hash: u64,
}

impl ChannelKey {
    /// The channel `name` of `app`.
    pub fn new(app: App, name: Channel) -> Self {
        // A separator that neither name can hold keeps `a` + `bc` and `ab` + `c` apart.
        let mut hash = fnv1a(FNV_BASIS, app.as_str().as_bytes());
        hash = fnv1a(hash, &[0]);
        hash = fnv1a(hash, name.as_str().as_bytes());
        Self { app, name, hash: mix(hash) }
    }

    /// 64 well-mixed bits.
    pub const fn hash64(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for ChannelKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name && self.app == other.app
    }
}

impl Eq for ChannelKey {}

impl Hash for ChannelKey {
    /// By name and not by `hash64`, which is no secret: clients choose names, and must not choose a table's buckets.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.app.hash(state);
        self.name.hash(state);
    }
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

/// Whether a client may not publish an event of this name on `/`: names of pushes, and Socket.IO's own.
pub fn reserved_event(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        // pushes (`message` is the default event and travels inside the push of that name)
        "welcome",
        "signal",
        "presence",
        "gap",
        "rejected",
        "closing",
        "moved",
        "edit",
        "delete",
        "read",
        "delivered",
        "notification",
        "status",
        "unsubscribed",
        "subscribed",
        "token_expiring",
        // XPUSH 0.1
        "_event",
    ];
    RESERVED.contains(&name) || reserved_by_socket_io(name)
}

/// Names that Socket.IO keeps for itself; a client that is sent one misbehaves.
pub fn reserved_by_socket_io(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        "connect",
        "connect_error",
        "connect_timeout",
        "connecting",
        "connection",
        "disconnect",
        "disconnecting",
        "error",
        "newListener",
        "removeListener",
        "ping",
        "pong",
        "reconnect",
        "reconnecting",
        "reconnect_attempt",
        "reconnect_error",
        "reconnect_failed",
    ];
    RESERVED.contains(&name)
}

fn check(text: &str, max: usize, code: Code, good: impl Fn(&str) -> bool) -> Result<Arc<str>, Code> {
    if text.is_empty() || text.len() > max || !good(text) { Err(code) } else { Ok(Arc::from(text)) }
}

fn word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn dotted(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn personal_parts(name: &str) -> Option<(User, Option<Device>)> {
    let (user, device) = match name.strip_prefix('@')?.split_once('/') {
        Some((user, device)) => (user, Some(device)),
        None => (name.strip_prefix('@')?, None),
    };
    let device = match device {
        Some(device) => Some(Device::new(&percent_decode(device)?).ok()?),
        None => None,
    };
    Some((User::new(&percent_decode(user)?).ok()?, device))
}

fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for half in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(half)]));
            }
        }
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(high)? << 4 | digit(low)?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Where FNV-1a begins.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: stable across processes and releases, which `std`'s hashers are not.
fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// The finalizer of MurmurHash3: FNV's high bits are poor for short names.
const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str, name: &str) -> ChannelKey {
        ChannelKey::new(App::new(app).unwrap(), Channel::new(name).unwrap())
    }

    #[test]
    fn names_that_could_collide_or_glob_are_refused() {
        for bad in
            ["", "a b", "a*", "a?", "[a]", "{a}", "a\"", "a'", "a\\", "a\n", "a\u{85}", &"x".repeat(129)]
        {
            assert_eq!(Channel::new(bad), Err(Code::BadChannel), "{bad:?}");
        }
        for good in ["a", "chat:lobby", "방/1", "a:b:c", "a.b-c_d@e", &"x".repeat(128)] {
            assert!(Channel::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_user_has_one_channel_and_each_device_one() {
        for (user, device, name) in [
            ("ann", None, "@ann"),
            ("ann", Some("phone"), "@ann/phone"),
            ("a/b", None, "@a%2Fb"),
            ("a b*", Some("방"), "@a%20b%2A/%EB%B0%A9"),
            ("0.1:x", None, "@0.1:x"),
        ] {
            let (user, device) =
                (User::new(user).unwrap(), device.map(|device| Device::new(device).unwrap()));
            let channel = Channel::personal(&user, device.as_ref());
            assert_eq!(channel.as_str(), name);
            assert_eq!(Channel::new(name), Ok(channel.clone()));
            assert_eq!(channel.owner(), Some((user, device)));
        }
        for bad in ["@", "@/x", "@a/", "@a/b/c", "@a%2fb", "@%61", "@a%", "@a%4", "@a%zz", "@%FF", "@a b"] {
            assert_eq!(Channel::new(bad), Err(Code::BadChannel), "{bad:?}");
        }
        assert_eq!(Channel::new("ann").unwrap().owner(), None);
    }

    #[test]
    fn a_servers_name_is_a_path_of_its_own() {
        for bad in ["", ".", "..", ".a", "a/b", "a b", "a:1", "a^b", "é", "a\0", &"x".repeat(65)] {
            assert_eq!(NodeName::new(bad), Err(Code::BadField), "{bad:?}");
        }
        for good in ["a", "channel-1", "10.0.0.1", "a..b", "A_b", "-", &"x".repeat(64)] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_that_xpush_gives_are_nobody_elses() {
        for (id, reserved) in [
            ("g-AAAAAAAAAAE", true),
            ("g-3D1ax1d_7-I", true),
            ("g-AAAAAAAAAA", false),
            ("g-AAAAAAAAAAé", false),
            ("gg-AAAAAAAAAAE", false),
            ("0.1:ann", true),
            ("0.1", false),
            ("$", true),
            ("$erased", true),
            ("ann$", false),
        ] {
            assert_eq!(User::new(id).unwrap().is_reserved(), reserved, "{id}");
        }
    }

    #[test]
    fn keys_of_different_apps_never_meet() {
        assert_ne!(key("a", "b:c"), key("ab", ":c"));
        assert_ne!(key("a", "b:c").hash64(), key("ab", ":c").hash64());
        assert_eq!(key("a", "b"), key("a", "b"));
    }

    #[test]
    fn the_hash_is_part_of_the_protocol_between_nodes() {
        // Changing it would move every channel's home in a rolling upgrade.
        assert_eq!(key("demo", "chat:lobby").hash64(), 2_162_040_377_743_890_307);
    }
}
