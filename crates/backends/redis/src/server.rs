//! Making connections, and judging who answers.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates,
    TlsMode, Value,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::options::{Address, Deployment, Options};

/// The oldest version that has what we use.
const OLDEST: (u32, u32) = (6, 2);
/// Commands that may wait for the connection's writer.
const WRITER: usize = 1024;
/// After so long without an answer of one sentinel the next one is asked, too.
const MOMENT: Duration = Duration::from_millis(250);
/// How often sentinels are asked whether the master still is the master.
const PACE: Duration = Duration::from_secs(1);

/// Why there is no connection, in words for whoever runs it; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectError(pub(crate) Box<str>);

/// A live connection.
#[derive(Clone)]
pub(crate) enum Link {
    Server(ServerLink),
    Cluster(ClusterConnection),
}

#[derive(Clone)]
pub(crate) struct ServerLink {
    pub(crate) connection: MultiplexedConnection,
    address: Address,
}

/// Whose door it is: sentinels have credentials of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Server,
    Sentinel,
}

/// Grows from 50 ms to 2 s.
#[derive(Default)]
pub(crate) struct Backoff {
    attempts: u32,
    told: Option<ConnectError>,
}

impl Backoff {
    /// How long to wait; by chance up to half of it less, so that nodes do not come in step.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = (50_u64 << self.attempts.min(6)).min(2_000);
        self.attempts += 1;
        let chance = u64::from(getrandom::u32().unwrap_or_default());
        Duration::from_millis(whole - whole * chance / (2 << 32))
    }

    /// Says in the log why there is no connection: once, not at every attempt.
    pub(crate) fn tell(&mut self, what: &str, error: &ConnectError) {
        if self.told.as_ref() != Some(error) {
            tracing::warn!(%error, what, "cannot connect; trying on");
            self.told = Some(error.clone());
        }
    }
}

impl ConnectError {
    pub(crate) fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn silent() -> Self {
        Self::new("no answer in time")
    }

    fn at(address: &Address, error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        let text = match (error.kind(), code) {
            (ErrorKind::RESP3NotSupported, _) => format!("{address} is older than Redis 6.2"),
            (_, "NOAUTH") => format!("{address} wants a password, and none is given"),
            (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS") => {
                format!("{address} refuses this user and password: {error}")
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                format!("{address} does not permit this user what is needed: {error}")
            }
            _ => format!("{address}: {error}"),
        };
        Self::new(text)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectError {}

impl Link {
    /// Connects to what the options name, and sees that it is what we need.
    pub(crate) async fn connect(options: &Options) -> Result<Self, ConnectError> {
        options.check().map_err(|error| ConnectError::new(error.0))?;
        let connecting = async {
            match &options.deployment {
                Deployment::Single(address) => Self::server(options, address).await,
                Deployment::Cluster(nodes) => Self::cluster(options, nodes).await,
                Deployment::Sentinel { .. } => {
                    let master = master(options).await?;
                    Self::server(options, &master).await
                }
            }
        };
        // Several servers may have to be asked, each within `connect_timeout`.
        timeout(options.connect_timeout * 4, connecting).await.unwrap_or_else(|_| Err(ConnectError::silent()))
    }

    async fn server(options: &Options, address: &Address) -> Result<Self, ConnectError> {
        let mut connection = open(options, address, Who::Server).await?;
        let greeting = Greeting::ask(&mut connection, address).await?;
        greeting.check(address)?;
        if greeting.mode == "cluster" {
            let text = format!("{address} is a node of a Cluster: name two of its nodes or more");
            return Err(ConnectError::new(text));
        }
        if greeting.role != "master" {
            return Err(ConnectError::new(format!("{address} is a {}, not the master", greeting.role)));
        }
        Ok(Self::Server(ServerLink { connection, address: address.clone() }))
    }

    async fn cluster(options: &Options, nodes: &[Address]) -> Result<Self, ConnectError> {
        let mut trouble = ConnectError::silent();
        for address in nodes {
            let asked = async {
                let mut connection = open(options, address, Who::Server).await?;
                let greeting = Greeting::ask(&mut connection, address).await?;
                greeting.check(address)?;
                if greeting.mode == "cluster" {
                    return Ok(());
                }
                Err(ConnectError::new(format!("{address} is no node of a Cluster")))
            };
            match asked.await {
                Ok(()) => return Self::cluster_by(options, nodes).await,
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    async fn cluster_by(options: &Options, nodes: &[Address]) -> Result<Self, ConnectError> {
        let wrong = |error: RedisError| ConnectError::new(error.to_string());
        let infos = nodes.iter().map(|node| info(options, node, Who::Server));
        let mut builder = ClusterClientBuilder::new(infos.collect::<Result<Vec<_>, _>>().map_err(wrong)?)
            .connection_timeout(options.connect_timeout)
            .response_timeout(options.command_timeout)
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(tcp(options))
            .retries(3);
        if options.tls.is_some() {
            builder = builder.tls(TlsMode::Secure).certs(certificates(options)?);
        }
        let client = builder.build().map_err(wrong)?;
        let link = Self::Cluster(client.get_async_connection().await.map_err(wrong)?);
        link.check(options).await?;
        Ok(link)
    }

    /// Whether it still is what it was.
    pub(crate) async fn check(&self, options: &Options) -> Result<(), ConnectError> {
        let asking = async {
            match self {
                Self::Server(link) => link.check().await,
                Self::Cluster(cluster) => check_cluster(cluster.clone()).await,
            }
        };
        timeout(options.command_timeout, asking).await.unwrap_or_else(|_| Err(ConnectError::silent()))
    }

    /// Waits for the end of being the master.
    pub(crate) async fn demoted(&self, options: &Options) -> ConnectError {
        match self {
            Self::Server(link) => demoted(options, &link.address).await,
            Self::Cluster(_) => std::future::pending().await,
        }
    }
}

impl ServerLink {
    async fn check(&self) -> Result<(), ConnectError> {
        let mut connection = self.connection.clone();
        let role = Greeting::ask(&mut connection, &self.address).await?.role;
        if role == "master" {
            return Ok(());
        }
        Err(ConnectError::new(format!("{} is a {role} now", self.address)))
    }
}

async fn check_cluster(mut cluster: ClusterConnection) -> Result<(), ConnectError> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("INFO");
    let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    let answer = cluster.route_command(command, anybody).await;
    let text = answer.and_then(|value| Ok(String::from_redis_value(value)?));
    match text {
        Ok(text) if text.contains("cluster_state:ok") => Ok(()),
        Ok(_) => Err(ConnectError::new("the Cluster does not have all its slots")),
        Err(error) => Err(ConnectError::new(format!("the Cluster: {error}"))),
    }
}

/// Whether the server is no master any more.
pub(crate) fn is_demotion(error: &RedisError) -> bool {
    use ServerErrorKind::{MasterDown, ReadOnly};
    matches!(error.kind(), ErrorKind::Server(ReadOnly | MasterDown))
}

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) mode: String,
    pub(crate) role: String,
}

impl Greeting {
    async fn ask(connection: &mut MultiplexedConnection, address: &Address) -> Result<Self, ConnectError> {
        let hello: Result<HashMap<String, Value>, _> = redis::cmd("HELLO").query_async(connection).await;
        let mut hello = hello.map_err(|error| ConnectError::at(address, &error))?;
        let mut text = |name: &str| {
            hello.remove(name).and_then(|value| String::from_redis_value(value).ok()).unwrap_or_default()
        };
        Ok(Self { version: text("version"), mode: text("mode"), role: text("role") })
    }

    /// Whether channels may be sharded.
    pub(crate) fn shards_channels(&self) -> bool {
        self.mode == "cluster" && self.version() >= (7, 0)
    }

    /// Refuses what is too old for us.
    pub(crate) fn check(&self, address: &Address) -> Result<(), ConnectError> {
        if self.version() >= OLDEST {
            return Ok(());
        }
        let version = &self.version;
        Err(ConnectError::new(format!("{address} has Redis {version}, and 6.2 or newer is needed")))
    }

    fn version(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// Asks the sentinels who the master is. Each is asked a moment after the one before, so that who is dead holds nobody up and who lives and is named first is believed.
pub(crate) async fn master(options: &Options) -> Result<Address, ConnectError> {
    let Deployment::Sentinel { sentinels, master } = &options.deployment else {
        return Err(ConnectError::new("there are no sentinels"));
    };
    let mut asked = JoinSet::new();
    for (turn, sentinel) in (0..).zip(sentinels) {
        let (options, sentinel, master) = (options.clone(), sentinel.clone(), master.clone());
        asked.spawn(async move {
            sleep(MOMENT * turn).await;
            let silent = || Err(ConnectError::new(format!("the sentinel {sentinel} does not answer")));
            let asking = ask_sentinel(&options, &sentinel, &master);
            timeout(options.connect_timeout, asking).await.unwrap_or_else(|_| silent())
        });
    }
    let mut trouble = ConnectError::silent();
    while let Some(Ok(answer)) = asked.join_next().await {
        match answer {
            Ok(master) => return Ok(master),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

async fn ask_sentinel(options: &Options, sentinel: &Address, master: &str) -> Result<Address, ConnectError> {
    let mut connection = open(options, sentinel, Who::Sentinel).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(master);
    let answer: Result<Option<(String, u16)>, _> = command.query_async(&mut connection).await;
    let named = answer.map_err(|error| ConnectError::at(sentinel, &error))?;
    let unknown = || ConnectError::new(format!("the sentinel {sentinel} knows no master {master:?}"));
    named.map(|(host, port)| Address::new(&host, port)).ok_or_else(unknown)
}

/// Waits for the end of being the master. What no sentinel can say now they are asked again.
pub(crate) async fn demoted(options: &Options, address: &Address) -> ConnectError {
    let Deployment::Sentinel { .. } = options.deployment else { return std::future::pending().await };
    loop {
        sleep(PACE).await;
        if let Ok(master) = master(options).await
            && master != *address
        {
            return ConnectError::new(format!("{master} is the master now, not {address}"));
        }
    }
}

async fn open(options: &Options, address: &Address, who: Who) -> Result<MultiplexedConnection, ConnectError> {
    let wrong = |error: RedisError| ConnectError::at(address, &error);
    let info = info(options, address, who).map_err(wrong)?;
    let client = match options.tls {
        Some(_) => Client::build_with_tls(info, certificates(options)?),
        None => Client::open(info),
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.command_timeout))
        .set_pipeline_buffer_size(WRITER);
    let client = client.map_err(wrong)?;
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(wrong)
}

fn info(options: &Options, address: &Address, who: Who) -> Result<ConnectionInfo, RedisError> {
    let (host, port) = (address.host.to_string(), address.port);
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let (username, password) = match who {
        Who::Server => (options.username.as_deref(), options.password.as_ref()),
        Who::Sentinel => (None, options.sentinel_password.as_ref()),
    };
    if let Some(password) = password {
        settings = settings.set_password(password.reveal());
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
    }
    if who == Who::Server {
        settings = settings.set_db(i64::from(options.database));
    }
    let address = match options.tls {
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host, port),
    };
    let info = address.into_connection_info()?.set_tcp_settings(tcp(options));
    Ok(info.set_redis_settings(settings))
}

fn tcp(options: &Options) -> TcpSettings {
    let settings = TcpSettings::default();
    // What was given up is not to arrive later.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(options.command_timeout);
    settings
}

fn certificates(options: &Options) -> Result<TlsCertificates, ConnectError> {
    // The driver takes the process's default, and there may be none yet.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = options.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| ConnectError::new(format!("{}: {error}", path.display())))
    };
    Ok(TlsCertificates { client_tls: None, root_cert: ca.map(read).transpose()? })
}
