//! Real Redis servers: one, a Cluster, or a master with its replica and a sentinel.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::daemon::Daemon;

use super::{PATIENCE, free_port, wait_until};

/// A running `redis-server`; killed at the end. Its port stays its own through restarts.
pub struct Redis {
    daemon: Option<Daemon>,
    folder: TempDir,
    port: u16,
    sentinel: bool,
}

/// Masters that share the slots, each followed by its replicas.
pub struct RedisCluster {
    /// Masters first, then the first master's replicas, the second's, and so on.
    pub nodes: Vec<Redis>,
}

/// A master named `main`, its replica, and a sentinel that calls the master dead after a second.
pub struct RedisSentinel {
    /// The sentinel.
    pub sentinel: Redis,
    /// The master, as long as nothing happens to it.
    pub master: Redis,
    /// Its replica.
    pub replica: Redis,
}

/// What Redis answers (RESP 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status, a number or a string.
    Text(String),
    /// An error.
    Error(String),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<Reply>),
}

impl Redis {
    /// Starts a server that writes nothing to disk. Each of `settings` is a line of its configuration.
    pub fn start(settings: &[&str]) -> Self {
        Self::on_a_free_port(settings, false)
    }

    fn on_a_free_port(settings: &[&str], sentinel: bool) -> Self {
        // Somebody else may take the port in between.
        for _ in 0..10 {
            let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
            let mut server = Self { daemon: None, folder, port, sentinel };
            server.configure(settings);
            if server.launch().is_ok() {
                return server;
            }
        }
        panic!("redis-server does not start; install it: apt-get install redis-server");
    }

    fn configure(&self, settings: &[&str]) {
        let mut text = format!("port {}\nbind 127.0.0.1\ndir {}\n", self.port, self.folder.path().display());
        if !self.sentinel {
            text.push_str("save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n");
        }
        for setting in settings {
            let _ = writeln!(text, "{setting}");
        }
        std::fs::write(self.file(), text).expect("a configuration");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("redis.conf")
    }

    fn launch(&mut self) -> io::Result<()> {
        let mut command = Command::new("redis-server");
        command.arg(self.file()).stdout(Stdio::piped()).stderr(Stdio::null());
        if self.sentinel {
            command.arg("--sentinel");
        }
        let mut daemon = Daemon::start(&mut command)?;
        let mut log = BufReader::new(daemon.stdout()?);
        let ready = if self.sentinel { "Sentinel ID is" } else { "Ready to accept connections" };
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server ended"));
            }
        }
        // A full pipe would hold the server up.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Starts it again on its port, with what it keeps on disk, which is nothing by default.
    pub fn restart(&mut self) {
        self.kill();
        wait_until("the port is free again", || self.launch().is_ok());
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay, and nobody answers.
    pub fn freeze(&self) {
        self.daemon().freeze().expect("a signal");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon().thaw().expect("a signal");
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a running server")
    }

    /// Sends one command by a connection of its own.
    pub fn command(&self, words: &[&str]) -> Reply {
        self.try_command(words).expect("redis answers")
    }

    fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&encode(words))?;
        read_reply(&mut BufReader::new(stream))
    }

    /// What `INFO` says of `field`.
    pub fn info(&self, field: &str) -> Option<String> {
        let Ok(Reply::Text(text)) = self.try_command(&["INFO"]) else { return None };
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.map(|value| value.trim().to_owned())
    }
}

impl RedisCluster {
    /// `masters` of them (three at least), with `replicas` each, and all slots served.
    pub fn start(masters: usize, replicas: usize) -> Self {
        let settings = || {
            let bus = format!("cluster-port {}", free_port());
            Redis::start(&["cluster-enabled yes", "cluster-node-timeout 1500", &bus])
        };
        let nodes: Vec<Redis> = (0..masters * (1 + replicas)).map(|_| settings()).collect();
        let cluster = Self { nodes };
        for (index, node) in cluster.nodes[..masters].iter().enumerate() {
            let first = 16_384 * index / masters;
            let last = 16_384 * (index + 1) / masters - 1;
            let answer = node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            assert_eq!(answer, Reply::Text("OK".into()));
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        let first = &cluster.nodes[0];
        for node in &cluster.nodes[1..] {
            let Reply::Array(bus) = node.command(&["CONFIG", "GET", "cluster-port"]) else {
                panic!("no port")
            };
            let Some(Reply::Text(bus)) = bus.last() else { panic!("no port") };
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus]);
        }
        let all = cluster.nodes.len().to_string();
        for node in &cluster.nodes {
            wait_until("nodes know each other", || {
                cluster_info(node, "cluster_known_nodes").is_some_and(|known| known == all)
            });
        }
        for (index, replica) in cluster.nodes[masters..].iter().enumerate() {
            let Reply::Text(id) = cluster.nodes[index / replicas.max(1)].command(&["CLUSTER", "MYID"]) else {
                panic!("no id")
            };
            wait_until("a replica follows", || {
                replica.command(&["CLUSTER", "REPLICATE", &id]) == Reply::Text("OK".into())
            });
            wait_until("a replica is linked", || {
                replica.info("master_link_status").is_some_and(|status| status == "up")
            });
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until every living node has seen that the master `index`, which was killed, is no master any more.
    pub fn wait_until_dead(&self, index: usize) {
        let port = format!("127.0.0.1:{}@", self.nodes[index].port);
        let is_replaced = |node: &Redis| {
            let Ok(Reply::Text(text)) = node.try_command(&["CLUSTER", "NODES"]) else { return false };
            // A master that was replaced has no slots any more: its line ends with its state.
            text.lines()
                .any(|line| line.contains(&port) && line.contains("fail") && line.ends_with("connected"))
        };
        for node in self.nodes.iter().filter(|node| node.daemon.is_some()) {
            wait_until("another master took the slots", || is_replaced(node));
        }
    }

    /// Waits until every living node sees all slots served.
    pub fn wait_until_whole(&self) {
        for node in self.nodes.iter().filter(|node| node.daemon.is_some()) {
            wait_until("the cluster is whole", || {
                cluster_info(node, "cluster_state").is_some_and(|state| state == "ok")
            });
        }
    }

    /// Where its nodes listen, as URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }
}

fn cluster_info(node: &Redis, field: &str) -> Option<String> {
    let Ok(Reply::Text(text)) = node.try_command(&["CLUSTER", "INFO"]) else { return None };
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

impl RedisSentinel {
    /// The name of the master.
    pub const MASTER: &str = "main";

    /// Starts all three, and waits until the sentinel knows the replica.
    pub fn start() -> Self {
        let master = Redis::start(&[]);
        let replica = Redis::start(&[&format!("replicaof 127.0.0.1 {}", master.port)]);
        wait_until("the replica is linked", || {
            replica.info("master_link_status").is_some_and(|status| status == "up")
        });
        let name = Self::MASTER;
        let sentinel = Redis::on_a_free_port(
            &[
                &format!("sentinel monitor {name} 127.0.0.1 {} 1", master.port),
                &format!("sentinel down-after-milliseconds {name} 1000"),
                &format!("sentinel failover-timeout {name} 5000"),
            ],
            true,
        );
        wait_until("the sentinel knows the replica", || {
            sentinel
                .info("master0")
                .is_some_and(|line| line.contains("status=ok,") && line.contains("slaves=1"))
        });
        Self { sentinel, master, replica }
    }

    /// Waits until the replica has everything that the master has by now (`WAIT` speaks of its own connection's writes only).
    pub fn wait_for_replica(&self) {
        let whole = self.master.info("master_repl_offset").and_then(|offset| offset.parse::<u64>().ok());
        let whole = whole.expect("the master's offset");
        wait_until("the replica has everything", || {
            let has = self.replica.info("slave_repl_offset").and_then(|offset| offset.parse::<u64>().ok());
            has.is_some_and(|has| has >= whole)
        });
    }

    /// Waits until the sentinel names the replica as the master.
    pub fn wait_for_failover(&self) {
        let port = Reply::Text(self.replica.port.to_string());
        wait_until("the replica is the master", || {
            let asked = self.sentinel.command(&["SENTINEL", "get-master-addr-by-name", Self::MASTER]);
            matches!(asked, Reply::Array(parts) if parts.last() == Some(&port))
                && self.replica.info("role").is_some_and(|role| role == "master")
        });
    }
}

impl Reply {
    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Error(text) => text,
            Self::Nil | Self::Array(_) => "",
        }
    }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    out
}

fn read_reply(input: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
    let count = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "+" | ":" => Reply::Text(rest.into()),
        "-" => Reply::Error(rest.into()),
        "$" | "*" if rest.starts_with('-') => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; usize::try_from(count()?).map_err(io::Error::other)? + 2];
            input.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            let replies: io::Result<_> = (0..count()?).map(|_| read_reply(input)).collect();
            Reply::Array(replies?)
        }
        _ => return Err(io::Error::other(format!("not a reply: {line}"))),
    })
}
