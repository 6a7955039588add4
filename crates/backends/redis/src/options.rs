//! Where Redis is, and how to get in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// How to reach Redis. [`Options::new`] gives good values for everything that the URLs do not say.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub deployment: Deployment,
    /// Of an ACL user; without one, the password is the default user's.
    pub username: Option<Box<str>>,
    /// What servers are shown.
    pub password: Option<Secret>,
    /// What sentinels are shown, when they want a password of their own.
    pub sentinel_password: Option<Secret>,
    /// TLS to servers and sentinels.
    pub tls: Option<Tls>,
    /// The database of a single server; a Cluster has only 0. It does not part what the bus carries: the prefix does.
    pub database: u32,
    /// What all keys and topics begin with. Installations that share a Redis have different ones.
    pub prefix: Box<str>,
    /// How long connecting may take, handshakes included.
    pub connect_timeout: Duration,
    /// How long a command may take before it counts as of unknown outcome; a server that is silent for so long is given up.
    pub command_timeout: Duration,
    /// Bytes that may wait or be under way, for commands and for the bus each.
    pub queue_bytes: usize,
}

/// What stands behind the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployment {
    /// One server.
    Single(Address),
    /// A Cluster, found through any of these.
    Cluster(Vec<Address>),
    /// The server that these sentinels name as the master.
    Sentinel {
        /// Who is named first is asked first.
        sentinels: Vec<Address>,
        /// The name of the master's group.
        master: Box<str>,
    },
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: Box<str>,
    /// TCP.
    pub port: u16,
}

/// TLS, always verified.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The certificate authorities to trust, as PEM; without it, those that the machine trusts.
    pub ca: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// Why options cannot be used; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOptions(pub Box<str>);

impl Options {
    /// From URLs `redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`: one is a single server and several are nodes of a Cluster, unless `sentinel_master`
    /// is given: then they are sentinels, user and password are those of the servers. All must say the same but for host and port.
    pub fn new<S: AsRef<str>>(urls: &[S], sentinel_master: Option<&str>) -> Result<Self, BadOptions> {
        let mut all = Vec::new();
        for url in urls {
            all.push(Parsed::read(url.as_ref())?);
        }
        let Some(first) = all.first().cloned() else { return Err(BadOptions::new("no URL is given")) };
        if all.iter().any(|one| !one.agrees(&first)) {
            return Err(BadOptions::new("all URLs must have the same scheme, user, password and database"));
        }
        let mut addresses: Vec<Address> = all.into_iter().map(|one| one.address).collect();
        let deployment = match (sentinel_master, addresses.len()) {
            (Some(""), _) => return Err(BadOptions::new("the master's name is empty")),
            (Some(master), _) => Deployment::Sentinel { sentinels: addresses, master: master.into() },
            (None, 1) => Deployment::Single(addresses.remove(0)),
            (None, _) => Deployment::Cluster(addresses),
        };
        if matches!(deployment, Deployment::Cluster(_)) && first.database != 0 {
            return Err(BadOptions::new("a Cluster has no database but 0"));
        }
        Ok(Self {
            deployment,
            username: first.username,
            password: first.password,
            sentinel_password: None,
            tls: first.tls.then(Tls::default),
            database: first.database,
            prefix: "xpush".into(),
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(2),
            queue_bytes: 16 << 20,
        })
    }

    /// Whether these can be used.
    pub fn check(&self) -> Result<(), BadOptions> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(fine) {
            return Err(BadOptions::new("the prefix must be 1 to 64 of a-z A-Z 0-9 - _ . : /"));
        }
        match &self.deployment {
            Deployment::Cluster(nodes) if nodes.is_empty() => Err(BadOptions::new("no URL is given")),
            Deployment::Sentinel { sentinels, .. } if sentinels.is_empty() => {
                Err(BadOptions::new("no URL is given"))
            }
            Deployment::Cluster(_) if self.database != 0 => {
                Err(BadOptions::new("a Cluster has no database but 0"))
            }
            _ => Ok(()),
        }
    }
}

impl Address {
    /// A host and a port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Secret {
    /// Hides `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl BadOptions {
    fn new(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadOptions {}

#[derive(Clone)]
struct Parsed {
    address: Address,
    tls: bool,
    username: Option<Box<str>>,
    password: Option<Secret>,
    database: u32,
}

impl Parsed {
    fn read(url: &str) -> Result<Self, BadOptions> {
        // The parser's own words never hold the URL, which holds the password.
        let bad = |reason: &str| BadOptions(format!("not a URL of Redis: {reason}").into());
        let info: ConnectionInfo =
            url.into_connection_info().map_err(|error| bad(error.detail().unwrap_or(error.category())))?;
        let (address, tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (Address::new(host, *port), false),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(bad("certificates are always verified; give their authority as a file"));
            }
            ConnectionAddr::TcpTls { host, port, .. } => (Address::new(host, *port), true),
            _ => return Err(bad("it must begin with redis:// or rediss://")),
        };
        let settings = info.redis_settings();
        Ok(Self {
            address,
            tls,
            username: settings.username().map(Into::into),
            password: settings.password().map(Secret::new),
            database: u32::try_from(settings.db()).map_err(|_| bad("the database is a number from 0"))?,
        })
    }

    fn agrees(&self, other: &Self) -> bool {
        self.tls == other.tls
            && self.username == other.username
            && self.password == other.password
            && self.database == other.database
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_url_is_a_server_several_are_a_cluster() {
        let one = Options::new(&["redis://cache.local:7000/3"], None).unwrap();
        assert_eq!(one.deployment, Deployment::Single(Address::new("cache.local", 7000)));
        assert_eq!((one.database, one.tls.is_none(), one.password), (3, true, None));
        let several = Options::new(&["rediss://ann:pw@a", "rediss://ann:pw@[::1]:6380"], None).unwrap();
        let nodes = vec![Address::new("a", 6379), Address::new("::1", 6380)];
        assert_eq!(several.deployment, Deployment::Cluster(nodes));
        assert_eq!(several.username.as_deref(), Some("ann"));
        assert!(several.tls.is_some() && several.check().is_ok());
        let watched = Options::new(&["redis://s:26379"], Some("main")).unwrap();
        assert!(matches!(watched.deployment, Deployment::Sentinel { .. }));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_no_password_shown() {
        let refused = |urls: &[&str]| Options::new(urls, None).unwrap_err().to_string();
        for urls in [
            &[][..],
            &["http://:hunter2@a"],
            &["redis://:hunter2@a:port"],
            &["rediss://:hunter2@a/#insecure"],
            &["redis://:hunter2@a/one"],
            &["redis+unix:///:hunter2@tmp/redis"],
            &["redis://:hunter2@a", "redis://:hunter3@b"],
            &["redis://:hunter2@a/1", "redis://:hunter2@b/1"],
        ] {
            let text = refused(urls);
            assert!(!text.contains("hunter"), "{text}");
        }
        let options = Options::new(&["redis://:hunter2@a"], None).unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(Options { prefix: "a{b".into(), ..options }.check().is_err());
    }
}
