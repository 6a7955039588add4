//! How ZooKeeper is reached.

use std::fmt;
use std::time::Duration;

use zookeeper_client::{Acls, Connector, CreateMode, CreateOptions, TlsOptions};

/// How ZooKeeper is reached, and where in it the cluster is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers, as `host:port,host:port`; without a port 2181. Name all of them: one is chosen at random, and another one when it is gone.
    pub hosts: String,
    /// The znode under which everything is kept; it is made when it is not there. `/` or a path such as `/xpush/production`.
    pub root: String,
    /// Whom ZooKeeper knows us as (scheme `digest`). With it nobody else can read or change what is made here; without it everybody can who reaches ZooKeeper.
    pub credentials: Option<Credentials>,
    /// With it every connection is encrypted.
    pub tls: Option<Tls>,
    /// How long a node may be silent until it is counted out: 2 to 60 s. ZooKeeper bounds it, too: from 2 to 20 of its ticks (`tickTime`, 2 s by default).
    pub session_timeout: Duration,
}

/// A user of the scheme `digest`.
#[derive(Clone)]
pub struct Credentials {
    /// Without a colon.
    pub user: String,
    /// The password.
    pub password: String,
}

/// What a connection is encrypted with.
#[derive(Clone)]
pub struct Tls {
    /// The certificates that ZooKeeper's may be signed by, as PEM.
    pub ca: String,
    /// Our own certificate and its key, as PEM, when ZooKeeper asks for one.
    pub identity: Option<(String, String)>,
}

/// Why options cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOptions(Box<str>);

// === impl Options ===

impl Options {
    /// The servers `hosts`, the root `/xpush`, a session of 6 s, open and unencrypted.
    pub fn new(hosts: impl Into<String>) -> Self {
        Self {
            hosts: hosts.into(),
            root: "/xpush".to_owned(),
            credentials: None,
            tls: None,
            session_timeout: Duration::from_secs(6),
        }
    }

    /// Finds out what can never work, before anything is tried.
    pub fn check(&self) -> Result<(), BadOptions> {
        let bad = |what: String| Err(BadOptions(what.into()));
        for host in self.hosts.split(',') {
            let port = match host.rsplit_once(':') {
                Some((name, port)) if !name.is_empty() => port.parse::<u16>().is_ok_and(|port| port != 0),
                Some(_) => false,
                None => !host.is_empty(),
            };
            if !port || host.contains(['/', ' ', '@']) {
                return bad(format!("{host:?} is no ZooKeeper server: host:port,host:port is expected"));
            }
        }
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let segment = |text: &str| {
            !text.is_empty() && text.chars().all(good) && !matches!(text, "." | ".." | "zookeeper")
        };
        if self.root != "/" && !self.root.strip_prefix('/').is_some_and(|path| path.split('/').all(segment)) {
            return bad(format!("{:?} is no root: a path such as /xpush is expected", self.root));
        }
        if !(Duration::from_secs(2)..=Duration::from_secs(60)).contains(&self.session_timeout) {
            return bad(format!("a session of {:?}: 2 to 60 seconds are possible", self.session_timeout));
        }
        if let Some(Credentials { user, password }) = &self.credentials
            && (user.is_empty() || user.contains(':') || password.is_empty())
        {
            return bad("a user without a colon, and a password, are expected".to_owned());
        }
        self.tls_options().map(drop)
    }

    /// What connects by these options.
    pub(crate) fn connector(&self) -> Result<Connector, BadOptions> {
        // Each server once: the client would wait longer each time, and a session may be waiting for us.
        let connector = zookeeper_client::Client::connector().with_fail_eagerly();
        let mut connector = connector.with_session_timeout(self.session_timeout);
        if let Some(Credentials { user, password }) = &self.credentials {
            connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
        }
        if let Some(options) = self.tls_options()? {
            connector = connector.with_tls(options);
        }
        Ok(connector)
    }

    fn tls_options(&self) -> Result<Option<TlsOptions>, BadOptions> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let unusable = |error: zookeeper_client::Error| BadOptions(format!("TLS: {error}").into());
        let mut options = TlsOptions::new().with_pem_ca(&tls.ca).map_err(unusable)?;
        if let Some((certificate, key)) = &tls.identity {
            options = options.with_pem_identity(certificate, key).map_err(unusable)?;
        }
        Ok(Some(options))
    }

    /// How a znode is made.
    pub(crate) fn create(&self, mode: CreateMode) -> CreateOptions<'static> {
        mode.with_acls(if self.credentials.is_some() { Acls::creator_all() } else { Acls::anyone_all() })
    }
}

// === impl Credentials, Tls ===

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

// === impl BadOptions ===

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadOptions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_refused() {
        let sound = Options::new("a:2181,b,[::1]:2181");
        assert_eq!(sound.check(), Ok(()));
        assert_eq!(Options { root: "/".into(), ..sound.clone() }.check(), Ok(()));
        assert_eq!(Options { root: "/a/b-c_d.e".into(), ..sound.clone() }.check(), Ok(()));
        for hosts in ["", "a,", ",a", "a:0", "a:65536", "a:x", ":2181", "a/b", "a b", "http://a"] {
            assert!(Options::new(hosts).check().is_err(), "{hosts:?}");
        }
        for root in ["", "a", "/a/", "//", "/a//b", "/..", "/a/../b", "/.", "/zookeeper", "/a\n", "/방"] {
            assert!(Options { root: root.into(), ..sound.clone() }.check().is_err(), "{root:?}");
        }
        for seconds in [0, 1, 61] {
            let session_timeout = Duration::from_secs(seconds);
            assert!(Options { session_timeout, ..sound.clone() }.check().is_err(), "{seconds}");
        }
        for (user, password) in [("", "b"), ("a:b", "c"), ("a", "")] {
            let credentials = Some(Credentials { user: user.into(), password: password.into() });
            assert!(Options { credentials, ..sound.clone() }.check().is_err(), "{user} {password}");
        }
        let tls = Some(Tls { ca: "no certificate".into(), identity: None });
        assert!(Options { tls, ..sound }.check().is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = Options::new("a");
        options.credentials = Some(Credentials { user: "ann".into(), password: "sesame".into() });
        options.tls = Some(Tls { ca: String::new(), identity: Some((String::new(), "sesame".into())) });
        let shown = format!("{options:?}");
        assert!(shown.contains("ann") && !shown.contains("sesame"), "{shown}");
    }
}
