//! `[cluster]`, `[zookeeper]`, `[redis]`, `[mongodb]`: what several servers share to be one platform.

use std::fmt;
use std::path::PathBuf;

use super::section::Section;
use super::tree::Value;
use super::values::{count, duration, shortened, text};

/// What several servers share. Each server has the same, but perhaps for its name and addresses.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) redis: Redis,
    pub(crate) mongodb: MongoDb,
}

/// This server among the others.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The same after every start; `None`: the machine's name and the first port that it listens on.
    pub(crate) name: Option<Box<str>>,
    /// Where the other servers reach this one, `HOST:PORT`; `None`: the machine's name, or the address that it listens on, and the first port.
    pub(crate) peer: Option<Peer>,
    /// Who signs the other servers' certificates; `None`: whom the machine trusts.
    pub(crate) peer_ca: Option<PathBuf>,
    /// What their certificates are for; `None`: the host by which each is reached.
    pub(crate) peer_name: Option<Box<str>>,
    /// Connections that it is made for.
    pub(crate) capacity: u64,
}

/// An address for other servers.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// `HOST:PORT`.
    pub(crate) authority: Box<str>,
    /// `None`: as this server's own listeners.
    pub(crate) tls: Option<bool>,
}

/// Which servers there are.
#[derive(Debug, Clone)]
pub(crate) struct ZooKeeper {
    /// `HOST[:PORT]`, those of one ensemble.
    pub(crate) servers: Vec<Box<str>>,
    /// Everything is below it.
    pub(crate) path: Box<str>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) password: Option<Hidden>,
    /// TLS, with this authority when the machine's are not the ones to trust.
    pub(crate) tls: bool,
    pub(crate) ca: Option<PathBuf>,
    /// After how many ms without a sign of life a server counts as dead.
    pub(crate) session_timeout_ms: u64,
}

/// What carries messages between servers, and knows who is there.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    /// One server, several nodes of a Cluster, or sentinels. They may hold a password.
    pub(crate) urls: Vec<Hidden>,
    pub(crate) sentinel_master: Option<Box<str>>,
    pub(crate) password: Option<Hidden>,
    pub(crate) prefix: Box<str>,
    /// The key of socket.io's emitters, whose publications are for the default app's channels; `None`: nobody listens to them.
    pub(crate) emitters: Option<Box<str>>,
    pub(crate) ca: Option<PathBuf>,
}

/// What keeps what must last.
#[derive(Debug, Clone)]
pub(crate) struct MongoDb {
    /// It may hold a password.
    pub(crate) url: Hidden,
    pub(crate) password: Option<Hidden>,
    pub(crate) database: Box<str>,
    pub(crate) ca: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(Box<str>);

impl Hidden {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Default for Place {
    fn default() -> Self {
        Self { name: None, peer: None, peer_ca: None, peer_name: None, capacity: 10_000 }
    }
}

impl Place {
    /// Reads `[cluster]`.
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut place = Self::default();
        place.name = section.read("name", |value| name(&text(value)?));
        place.peer = section.read("peer", |value| peer(&text(value)?));
        place.peer_ca = section.path_of_file("peer_ca");
        place.peer_name = section.read("peer_name", |value| host_name(&text(value)?));
        place.capacity = section.read("capacity", count(1..=100_000_000)).unwrap_or(place.capacity);
        section.finish();
        place
    }
}

impl Shared {
    /// Reads `[zookeeper]`, `[redis]` and `[mongodb]`: all of them say where something is, or none.
    pub(super) fn read(
        [mut zookeeper, mut redis, mut mongodb]: [Section<'_>; 3],
        has_default_app: bool,
    ) -> Option<Self> {
        let keys = [(&zookeeper, "servers"), (&redis, "url"), (&mongodb, "url")];
        let missing: Vec<_> = keys.iter().filter(|(section, key)| section.place(key).is_none()).collect();
        if missing.len() < keys.len() && !missing.is_empty() {
            let missing: Vec<_> = missing.iter().map(|(section, key)| section.name(key)).collect();
            let why = format!(
                "makes this server one of several, which share ZooKeeper, Redis and MongoDB: {} must be said, too",
                missing.join(" and ")
            );
            keys.iter().for_each(|(section, key)| section.complain(key, &why));
        }
        if !has_default_app {
            redis.complain(
                "emitters",
                "publish into the default app's channels: say which that is, by `default_app`",
            );
        }
        let shared = (ZooKeeper::read(&mut zookeeper), Redis::read(&mut redis), MongoDb::read(&mut mongodb));
        [zookeeper, redis, mongodb].into_iter().for_each(Section::finish);
        let (Some(zookeeper), Some(redis), Some(mongodb)) = shared else { return None };
        Some(Self { zookeeper, redis, mongodb })
    }
}

impl ZooKeeper {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let servers = section.list("servers", host);
        let path = section.read("path", |value| znode(&text(value)?));
        let user = section.read("user", filled);
        let password = section.file("password_file").map(Hidden::from);
        let session_timeout = section.read("session_timeout", duration(2_000..=60_000));
        let tls = section.read("tls", super::values::boolean);
        let ca = section.path_of_file("ca");
        for (given, needed) in [("user", "password_file"), ("password_file", "user")] {
            if section.place(needed).is_none() {
                section.complain(given, &format!("needs `{}` beside it", section.name(needed)));
            }
        }
        if servers.as_ref().is_some_and(Vec::is_empty) {
            section.complain("servers", "must name at least one");
        }
        Some(Self {
            servers: servers?,
            path: path.unwrap_or_else(|| "/xpush".into()),
            user,
            password,
            tls: tls.unwrap_or(ca.is_some()),
            ca,
            session_timeout_ms: session_timeout.unwrap_or(6_000),
        })
    }
}

impl Redis {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let urls = section.secrets("url");
        let sentinel_master = section.read("sentinel_master", filled);
        let password = section.file("password_file").map(Hidden::from);
        let prefix = section.read("prefix", filled);
        let emitters = section.read("emitters", filled);
        let ca = section.path_of_file("ca");
        let urls: Vec<_> = urls?.into_iter().map(Hidden::from).collect();
        if urls.is_empty() {
            section.complain("url", "must name at least one server");
        }
        let prefix = prefix.unwrap_or_else(|| "xpush".into());
        Some(Self { urls, sentinel_master, password, prefix, emitters, ca })
    }
}

impl MongoDb {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.secret("url");
        let password = section.file("password_file").map(Hidden::from);
        let database = section.read("database", filled);
        let ca = section.path_of_file("ca");
        let database = database.unwrap_or_else(|| "xpush".into());
        Some(Self { url: url?.into(), password, database, ca })
    }
}

fn filled(value: &Value) -> Result<Box<str>, String> {
    match text(value)?.trim() {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.into()),
    }
}

/// What a server may be called.
fn name(text: &str) -> Result<Box<str>, String> {
    match xpush_core::NodeName::new(text) {
        Ok(name) => Ok(name.as_str().into()),
        Err(_) => Err(format!(
            "must be 1 to 64 of a-z A-Z 0-9 - _ . and not begin with a dot, not \"{}\"",
            shortened(text)
        )),
    }
}

fn peer(text: &str) -> Result<Peer, String> {
    let (authority, tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(authority), _) => (authority, Some(false)),
        (_, Some(authority)) => (authority, Some(true)),
        (None, None) => (text, None),
    };
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if xpush_session::is_authority(authority) && port.is_some_and(|port| port > 0) {
        Ok(Peer { authority: authority.into(), tls })
    } else {
        let text = shortened(text);
        Err(format!(
            "must be HOST:PORT such as \"10.0.0.5:8000\", perhaps behind http:// or https://, not \"{text}\""
        ))
    }
}

/// What a certificate can be for.
fn host_name(text: &str) -> Result<Box<str>, String> {
    let named = !text.contains(':') && xpush_session::is_authority(text);
    if named || text.parse::<std::net::IpAddr>().is_ok() {
        Ok(text.into())
    } else {
        Err(format!("must be a host's name such as \"push.example.com\", not \"{}\"", shortened(text)))
    }
}

fn host(text: &str) -> Result<Box<str>, String> {
    if xpush_session::is_authority(text) {
        Ok(text.into())
    } else {
        Err(format!("must be HOST:PORT such as \"zk1.example.com:2181\", not \"{}\"", shortened(text)))
    }
}

/// An absolute path of ZooKeeper, without empty and relative parts.
fn znode(text: &str) -> Result<Box<str>, String> {
    let good = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    match text.strip_prefix('/') {
        Some(rest) if rest.len() <= 256 && rest.split('/').all(good) && rest != "zookeeper" => {
            Ok(text.into())
        }
        _ => Err(format!("must be a path such as \"/xpush\", not \"{}\"", shortened(text))),
    }
}
