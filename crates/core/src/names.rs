//! Names: what they may hold is checked once, here, when they come in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::Code;

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
    /// A channel's name within its app: 1 to 128 bytes; no white space, no control characters, none of `* ? [ ] { } \ " '`.
    Channel
}
name! {
    /// A user's id within its app: 1 to 128 bytes without control characters.
    User
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

impl App {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, Code> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        check(text, 64, Code::UnknownApp, |text| text.bytes().all(good)).map(Self)
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
        check(text, 128, Code::BadChannel, |text| !text.chars().any(bad)).map(Self)
    }
}

impl User {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, Code> {
        check(text, 128, Code::BadField, printable).map(Self)
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
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        check(text, 64, Code::BadField, |text| text.bytes().all(good)).map(Self)
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
        let mut hash = fnv1a(0xcbf2_9ce4_8422_2325, app.as_str().as_bytes());
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
        "read",
        "notification",
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

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

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
