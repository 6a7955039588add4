//! The settings, how they are read, and what cannot work together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use xpush_channel::config::{Config, Heartbeat, Limits, Network, Origins};
use xpush_channel::{PeerTrust, Tls, Unusable};
use xpush_core::ports::cluster::{Node, Roles};
use xpush_core::{App, NodeId, NodeName, UnixMillis};

use crate::backends;

use super::apps::{self, ConfiguredApp};
use super::section::{Reading, Section};
use super::shared::{Place, Shared};
use super::tree::Table;
use super::uploads::Uploads;
use super::values::{Size, boolean, choice, count, duration, shortened, size, text};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where to listen; at least one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where files are kept.
    pub(crate) data_dir: PathBuf,
    /// Where clients reach this node; `None`: where the asking client reached it.
    pub(crate) advertise_url: Option<Box<str>>,
    pub(crate) allowed_origins: Vec<Box<str>>,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) default_app: Option<App>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: Limits,
    pub(crate) heartbeat: Heartbeat,
    /// Shards; 0: one a core.
    pub(crate) shards: usize,
    /// Bytes that all recent histories together may take.
    pub(crate) history_memory: usize,
    /// Hooks may reach private addresses, and without encryption.
    pub(crate) hooks_private: bool,
    pub(crate) uploads: Uploads,
    pub(crate) log: Log,
    pub(crate) apps: Vec<ConfiguredApp>,
    /// Nobody has configured any: they are the usual ones.
    pub(crate) usual_apps: bool,
    /// This server among others.
    pub(crate) place: Place,
    /// What it shares with them; `None`: it is alone, and everything is inside of it.
    pub(crate) shared: Option<Shared>,
}

/// Where the certificate for TLS and its key are kept.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// A level, or levels by module: `info,xpush_channel=debug`.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
const HOUR: u64 = 3_600_000;

impl Default for Settings {
    /// The defaults, but for apps: those stand in the annotated file.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8000))],
            data_dir: PathBuf::from("./xpush-data"),
            advertise_url: None,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            default_app: None,
            tls: None,
            limits: Limits::default(),
            heartbeat: Heartbeat::default(),
            shards: 0,
            history_memory: backends::HISTORY_MEMORY,
            hooks_private: false,
            uploads: Uploads::default(),
            log: Log { level: "info".to_owned(), format: LogFormat::Text },
            apps: Vec::new(),
            usual_apps: false,
            place: Place::default(),
            shared: None,
        }
    }
}

impl LogFormat {
    /// As it is written in the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl TlsFiles {
    /// Reads the files; the error says which of them cannot be used, and why.
    pub(crate) fn load(&self) -> Result<Tls, Unusable> {
        Tls::load(&self.certificate, &self.key)
    }
}

impl Settings {
    /// Understands a tree. What is wrong goes to `reading`; the settings are good only when that stays empty.
    pub(crate) fn read(tree: &Table, reading: &Reading) -> Self {
        let mut settings = Self::default();
        let mut top = reading.top(tree);
        if let Some(listen) = top.list("listen", listener) {
            settings.listen = listen;
        }
        if let Some(folder) = top.folder("data_dir") {
            settings.data_dir = folder;
        }
        settings.advertise_url = top.read("advertise_url", |value| advertised(&text(value)?));
        settings.allowed_origins = top.list("allowed_origins", origin).unwrap_or_default();
        settings.trusted_proxies = top.list("trusted_proxies", network).unwrap_or_default();
        settings.tls = read_tls(top.section("tls"));
        settings.read_limits(top.section("limits"));
        settings.read_heartbeat(top.section("heartbeat"));
        let mut shards = top.section("shards");
        settings.shards = shards.read("count", count(0..=1_024)).map_or(settings.shards, narrow);
        shards.finish();
        let mut history = top.section("history");
        let memory = history.read("memory", size(1 << 20..=1 << 40));
        settings.history_memory = memory.map_or(settings.history_memory, narrow);
        history.finish();
        let mut hooks = top.section("hooks");
        settings.hooks_private = hooks.read("allow_private", boolean).unwrap_or(false);
        hooks.finish();
        settings.read_log(top.section("log"));
        settings.apps = apps::read(top.section("apps"), reading, settings.on_loopback());
        settings.default_app = read_default_app(&mut top, &settings.apps);
        settings.place = Place::read(top.section("cluster"));
        let sections = ["zookeeper", "redis", "mongodb"].map(|key| top.section(key));
        settings.shared = Shared::read(sections, settings.default_app.is_some());
        let uploads = ["files", "s3"].map(|key| top.section(key));
        settings.uploads = Uploads::read(uploads, settings.shared.is_some());
        if settings.listen.is_empty() {
            top.complain("listen", "must name at least one address");
        }
        top.finish();
        settings
    }

    /// Whether only this machine can reach the server.
    pub(crate) fn on_loopback(&self) -> bool {
        self.listen.iter().all(|address| address.ip().to_canonical().is_loopback())
    }

    /// What the cluster is told of this server, which starts now and listens on `port`.
    pub(crate) fn member(
        &self,
        id: NodeId,
        roles: Roles,
        installation: u64,
        port: u16,
        now: UnixMillis,
    ) -> Node {
        let (machine, place) = (machine(), &self.place);
        let name = match &place.name {
            Some(name) => NodeName::new(name),
            None => NodeName::new(&format!("{machine}-{port}")),
        };
        let first = self.listen.first().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        let peer = match (&place.peer, first) {
            (Some(peer), _) => peer.authority.clone(),
            (None, Some(ip)) => SocketAddr::new(ip, port).to_string().into(),
            (None, None) => format!("{machine}:{port}").into(),
        };
        let peer_tls = place.peer.as_ref().and_then(|peer| peer.tls).unwrap_or(self.tls.is_some());
        Node {
            id,
            // The machine's name was cut to what a name may hold.
            name: name.expect("a good name"),
            installation,
            url: self.advertise_url.clone().unwrap_or_default(),
            // A server that is alone is reached by nobody.
            peer: self.shared.is_some().then_some(peer),
            peer_tls,
            capacity: place.capacity,
            version: env!("CARGO_PKG_VERSION").into(),
            roles,
            since: now,
            configuration: BTreeMap::new(),
        }
    }

    /// What all servers must have in common, by parts, as bytes that are the same when it is. There are secrets in it.
    pub(crate) fn in_common(&self) -> Vec<(&'static str, Vec<u8>)> {
        let apps: Vec<_> = self.apps.iter().map(|app| (app.name.as_str(), &app.record)).collect();
        vec![
            // An app's record can be written: it is, into the directory.
            ("apps", serde_json::to_vec(&apps).unwrap_or_default()),
            ("default_app", format!("{:?}", self.default_app).into_bytes()),
            ("allowed_origins", format!("{:?}", self.allowed_origins).into_bytes()),
            ("limits", format!("{:?}", self.limits).into_bytes()),
            ("heartbeat", format!("{:?}", self.heartbeat).into_bytes()),
        ]
    }

    /// Whom to believe that it is one of the other servers; the error says which file cannot be used.
    pub(crate) fn peer_trust(&self) -> Result<PeerTrust, Unusable> {
        match &self.shared {
            Some(_) => PeerTrust::load(self.place.peer_ca.as_deref(), self.place.peer_name.as_deref()),
            None => Ok(PeerTrust::nobody()),
        }
    }

    /// What a channel server is told.
    pub(crate) fn channel(&self, node: NodeId, peers: PeerTrust) -> Config {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let on_loopback = self.on_loopback();
        Config {
            node,
            shards: if self.shards == 0 { cores() } else { self.shards },
            limits: self.limits.clone(),
            heartbeat: self.heartbeat,
            origins: Origins { allowed: self.allowed_origins.clone(), loopback: on_loopback },
            trusted_proxies: self.trusted_proxies.clone(),
            peers,
        }
    }

    fn read_limits(&mut self, mut section: Section<'_>) {
        let limits = &mut self.limits;
        let set = |limit: &mut usize, value: Option<u64>| *limit = value.map_or(*limit, narrow);
        set(&mut limits.payload, section.read("payload", size(1_024..=1 << 30)));
        set(&mut limits.outbox, section.read("outbox", size(4_096..=1 << 34)));
        set(&mut limits.headers, section.read("headers", size(8_192..=1 << 20)));
        set(&mut limits.connections, section.read("connections", count(0..=100_000_000)));
        set(
            &mut limits.connections_per_address,
            section.read("connections_per_address", count(0..=100_000_000)),
        );
        set(
            &mut limits.channels_per_connection,
            section.read("channels_per_connection", count(1..=1_000_000)),
        );
        set(&mut limits.attachments, section.read("attachments", count(0..=1_000)));
        let outbox_age = section.read("outbox_age", duration(100..=HOUR));
        limits.outbox_age_ms = outbox_age.unwrap_or(limits.outbox_age_ms);
        let handshake = section.read("handshake_timeout", duration(100..=HOUR));
        limits.handshake_ms = handshake.unwrap_or(limits.handshake_ms);
        let events = section.read("events_per_second", count(0..=1_000_000));
        limits.events_per_second =
            events.map_or(limits.events_per_second, |rate| u32::try_from(rate).unwrap_or(u32::MAX));
        if limits.outbox < limits.payload.saturating_mul(4) {
            let said = if section.place("outbox").is_some() { "outbox" } else { "payload" };
            section.complain(
                said,
                &format!(
                    "cannot work: an outbox ({}) must hold at least 4 payloads ({}), or one burst of the largest messages cuts every reader off",
                    Size(limits.outbox as u64),
                    Size(limits.payload as u64)
                ),
            );
        }
        section.finish();
    }

    fn read_heartbeat(&mut self, mut section: Section<'_>) {
        let heartbeat = &mut self.heartbeat;
        let interval = section.read("interval", duration(100..=HOUR));
        heartbeat.interval_ms = interval.unwrap_or(heartbeat.interval_ms);
        let timeout = section.read("timeout", duration(100..=HOUR));
        heartbeat.timeout_ms = timeout.unwrap_or(heartbeat.timeout_ms);
        section.finish();
    }

    fn read_log(&mut self, mut section: Section<'_>) {
        if let Some(level) = section.read("level", |value| levels(&text(value)?)) {
            self.log.level = level;
        }
        let format = section.read(
            "format",
            choice(&[LogFormat::Text, LogFormat::Json].map(|format| (format.as_str(), format))),
        );
        self.log.format = format.unwrap_or(self.log.format);
        section.finish();
    }
}

/// What this machine is called, as far as a server's name may hold it.
fn machine() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().filter(good).skip_while(|c| *c == '.').take(48).collect();
    if name.is_empty() { "xpush".to_owned() } else { name }
}

/// Both files or none.
fn read_tls(mut section: Section<'_>) -> Option<TlsFiles> {
    let certificate = section.path_of_file("certificate");
    let key = section.path_of_file("key");
    for (given, missing) in [("certificate", "key"), ("key", "certificate")] {
        if section.place(missing).is_none() {
            section.complain(given, &format!("needs `tls.{missing}` beside it"));
        }
    }
    section.finish();
    Some(TlsFiles { certificate: certificate?, key: key? })
}

/// The app named, or the only one there is.
fn read_default_app(top: &mut Section<'_>, apps: &[ConfiguredApp]) -> Option<App> {
    let named = top.read("default_app", |value| {
        let name = text(value)?;
        match apps.iter().find(|app| app.name.as_str() == name) {
            Some(app) => Ok(app.name.clone()),
            None => Err(format!("names \"{}\", but there is no [apps.{0}]", shortened(&name))),
        }
    });
    match apps {
        [only] => named.or_else(|| Some(only.name.clone())),
        _ => named,
    }
}

fn listener(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let text = shortened(text);
        let hint = match text.strip_prefix(':').or_else(|| text.strip_prefix("localhost:")) {
            Some(port) if text.starts_with(':') => {
                format!("; every address of this machine is \"0.0.0.0:{port}\"")
            }
            Some(port) => format!("; write \"127.0.0.1:{port}\""),
            None => String::new(),
        };
        format!("must be ADDRESS:PORT such as \"127.0.0.1:8000\" or \"[::1]:8000\", not \"{text}\"{hint}")
    })
}

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text.trim()).ok_or_else(|| {
        format!("must be an address or a range such as \"10.0.0.0/8\", not \"{}\"", shortened(text))
    })
}

/// An origin in the form in which browsers send it: `scheme://host[:port]`, in lower case, without the scheme's own port (RFC 6454, section 6.2).
pub(super) fn origin(text: &str) -> Result<Box<str>, String> {
    if text == "*" {
        return Ok("*".into());
    }
    let shown = shortened(text);
    if text == "null" {
        return Err("cannot be \"null\": every sandboxed page of every site has that origin".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let wrong = || format!("must be an origin such as \"https://www.example.com\", not \"{shown}\"");
    let (scheme, rest) = lower.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !path.is_empty() {
        let bare = shortened(&format!("{scheme}://{authority}"));
        return Err(format!("has \"{shown}\", but an origin has no path: write \"{bare}\""));
    }
    if authority.contains('*') {
        return Err(format!(
            "has \"{shown}\", but an origin is matched whole: name each one, or \"*\" for all"
        ));
    }
    let good_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !good_scheme || !xpush_session::is_authority(authority) {
        return Err(wrong());
    }
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    Ok(format!("{scheme}://{authority}").into())
}

/// `https://host[:port]`, with which clients' own addresses begin.
fn advertised(text: &str) -> Result<Box<str>, String> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let authority = bare.strip_prefix("http://").or_else(|| bare.strip_prefix("https://"));
    if authority.is_some_and(xpush_session::is_authority) {
        Ok(bare.into())
    } else {
        Err(format!("must be a URL such as \"https://push.example.com\", not \"{}\"", shortened(text)))
    }
}

/// A level, or levels by module. The filter itself would take a misspelt level for a module's name.
fn levels(text: &str) -> Result<String, String> {
    let good = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        LEVELS.contains(&level.trim())
    };
    if text.split(',').all(good) {
        return Ok(text.to_owned());
    }
    let levels = LEVELS.join(", ");
    Err(format!(
        "must be one of {levels}, or levels by module such as \"info,xpush_channel=debug\", not \"{}\"",
        shortened(text)
    ))
}

/// A number that a range has bounded already.
fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
