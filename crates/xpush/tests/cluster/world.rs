//! Servers as processes, what they stand on, and the clients that use them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::{Handle, Runtime};
use xpush_core::ports::cluster::{Cluster as _, ClusterSink, Node, Standing, View};
use xpush_testkit::checker::{self, Event, Line, Summary};
use xpush_testkit::fleet::{Connection, Fleet, Harbour, Homecoming, Plan, Process};
use xpush_testkit::service::mongo::{Mongo, Product};
use xpush_testkit::service::redis::Redis;
use xpush_testkit::service::zookeeper::ZooKeeper;
use xpush_testkit::service::{PATIENCE, free_port};
use xpush_testkit::suite::cluster::Views;
use xpush_zookeeper::{Options, ZooKeeperCluster};

/// A server that has given no sign of life for so long is dead.
const SESSION: Duration = Duration::from_secs(2);

/// A client that hears nothing for so long goes to another server; heartbeats come every second.
const SILENCE: Duration = Duration::from_secs(5);

/// No limits that a few clients who say much would meet.
const CONFIG: &str = r#"
listen = "ADDRESS"
default_app = "demo"

[cluster]
name = "NAME"

[zookeeper]
servers = [ZOOKEEPER]
session_timeout = "SESSIONms"

[redis]
url = "redis://REDIS"

[mongodb]
url = "MONGODB"

[shards]
count = 2

[heartbeat]
interval = "1s"
timeout = "4s"

[limits]
events_per_second = 0
connections_per_address = 0
"#;

/// The app that all servers have.
const APP: &str = r#"
[apps.demo]
guests = true

[[apps.demo.keys]]
id = "k1"
algorithm = "HS256"
secret = "SECRET"

[[apps.demo.rules]]
channels = "kept:*"
history = "durable"

[[apps.demo.rules]]
channels = "seen:*"
history = "none"
presence = true

[[apps.demo.rules]]
channels = "live:*"
history = "none"
"#;

/// What the app signs its users' tokens with.
const SECRET: &str = "a secret that only this test and its servers know";

/// The app, as a part of a configuration.
pub(crate) fn app() -> String {
    APP.replace("SECRET", SECRET)
}

/// What servers stand on, and the servers, named `push-1`, `push-2` and so on. It stays in a folder of its own when the test fails.
pub(crate) struct World {
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) redis: Redis,
    pub(crate) mongo: Mongo,
    pub(crate) servers: Vec<Server>,
    folder: PathBuf,
    watched: Option<(Arc<ZooKeeperCluster>, Arc<Views>)>,
}

/// One server: its address and its files stay its own through restarts.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    /// Another program than the one that is tested.
    pub(crate) binary: Option<PathBuf>,
    process: Option<Process>,
}

/// Where a server finds ZooKeeper and Redis: itself, or by a proxy.
pub(crate) struct Ways {
    pub(crate) zookeeper: String,
    pub(crate) redis: SocketAddr,
}

impl World {
    /// Services alone.
    pub(crate) fn services(name: &str) -> Self {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mongo = std::thread::spawn(|| Mongo::start(Product::wanted(), &[]));
        let zookeeper = ZooKeeper::start(&[]);
        let redis = Redis::start(&[]);
        let mongo = mongo.join().unwrap();
        Self { zookeeper, redis, mongo, servers: Vec::new(), folder, watched: None }
    }

    /// Services, and so many servers that see each other.
    pub(crate) fn start(name: &str, servers: usize) -> Self {
        let mut world = Self::services(name);
        for _ in 0..servers {
            let ways = world.ways();
            world.add(&ways);
        }
        world.settle();
        world
    }

    /// The same, where MongoDB may be killed: it has on disk what it has acknowledged.
    pub(crate) fn start_durable(name: &str, servers: usize) -> Self {
        let mut world = Self::services(name);
        world.mongo = Mongo::durable(Product::wanted());
        for _ in 0..servers {
            let ways = world.ways();
            world.add(&ways);
        }
        world.settle();
        world
    }

    /// The direct ways.
    pub(crate) fn ways(&self) -> Ways {
        Ways { zookeeper: self.zookeeper.hosts(), redis: self.redis.address() }
    }

    /// One server more.
    pub(crate) fn add(&mut self, ways: &Ways) {
        let number = self.servers.len() + 1;
        let mut server = self.furnish(&format!("server-{number}"), &format!("push-{number}"), ways);
        server.launch().unwrap();
        self.servers.push(server);
    }

    /// One server more, with settings that `change` makes of the usual ones; it is to be launched when its folder, which is returned, has all that they name.
    pub(crate) fn add_with(&mut self, ways: &Ways, change: impl FnOnce(String) -> String) -> PathBuf {
        let number = self.servers.len() + 1;
        let server = self.furnish(&format!("server-{number}"), &format!("push-{number}"), ways);
        let (folder, file) = (server.folder.clone(), server.folder.join("xpush.toml"));
        fs::write(&file, change(read(&file))).unwrap();
        self.servers.push(server);
        folder
    }

    /// A server's folder and settings.
    pub(crate) fn furnish(&self, folder: &str, name: &str, ways: &Ways) -> Server {
        let folder = self.folder.join(folder);
        fs::create_dir_all(&folder).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = (CONFIG.to_owned() + &app())
            .replace("ADDRESS", &address.to_string())
            .replace("NAME", name)
            .replace("ZOOKEEPER", &listed(&ways.zookeeper))
            .replace("SESSION", &SESSION.as_millis().to_string())
            .replace("REDIS", &ways.redis.to_string())
            .replace("MONGODB", &self.mongo.uri());
        fs::write(folder.join("xpush.toml"), config).unwrap();
        Server { name: name.to_owned(), address, folder, binary: None, process: None }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// What an observer sees of the cluster.
    pub(crate) fn views(&mut self) -> Arc<Views> {
        self.cluster().1
    }

    /// An observer's handle on the cluster, and what it sees.
    pub(crate) fn cluster(&mut self) -> (Arc<ZooKeeperCluster>, Arc<Views>) {
        let hosts = self.zookeeper.hosts();
        let (cluster, views) = self.watched.get_or_insert_with(|| {
            static RUNTIME: OnceLock<Runtime> = OnceLock::new();
            let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime: &Handle = RUNTIME.get_or_init(|| make().unwrap()).handle();
            let cluster = Arc::new(ZooKeeperCluster::open(Options::new(hosts), runtime).unwrap());
            let views = Views::new();
            cluster.watch(Arc::clone(&views) as Arc<dyn ClusterSink>);
            (cluster, views)
        });
        (Arc::clone(cluster), Arc::clone(views))
    }

    /// Waits until the servers that run are those of the cluster and of its ring.
    pub(crate) fn settle(&mut self) {
        let running = self.servers.iter().filter(|server| server.process.is_some());
        let names: Vec<_> = running.map(|server| server.name.clone()).collect();
        self.views().until(&format!("{names:?} on the ring"), |view| {
            view.standing == Standing::Live && members(view) == names && on_ring(view) == names
        });
    }

    /// Lets clients begin, at all servers.
    pub(crate) fn embark(&self, plan: &Plan) -> Fleet {
        let harbour = Harbour::default();
        harbour.open_all(&self.addresses());
        Fleet::embark(plan.clone(), harbour)
    }

    /// Ends the run and judges it; what is needed to look into a failure stays in the folder.
    pub(crate) fn judge(self, fleet: Fleet) -> Summary {
        let address = self.servers.iter().find(|server| server.process.is_some()).unwrap().address;
        let home = fleet.come_home(address, true);
        let Homecoming { lines, contents, settled } =
            home.unwrap_or_else(|error| panic!("{error}; logs are kept in {}", self.folder.display()));
        match checker::check(&lines, &contents) {
            Ok(summary) => {
                assert!(settled, "somebody was not there at the end: {}", self.folder.display());
                assert!(summary.acked > 0 && summary.delivered > 0);
                report(&lines, &summary);
                self.gone();
                summary
            }
            Err(violation) => {
                let file = fs::File::create(self.folder.join("clients.jsonl")).unwrap();
                checker::write(&lines, io::BufWriter::new(file)).unwrap();
                let file = self.folder.join("contents.json");
                fs::write(file, serde_json::to_vec(&contents).unwrap()).unwrap();
                panic!("{violation}log and store are kept in {}", self.folder.display());
            }
        }
    }

    /// Nothing of it is needed any more.
    pub(crate) fn gone(self) {
        let folder = self.folder.clone();
        drop(self);
        fs::remove_dir_all(folder).unwrap();
    }
}

impl Server {
    fn command(&self) -> Command {
        let tested = || std::env::var_os("XPUSH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_xpush").into());
        let binary = self.binary.clone().map_or_else(tested, PathBuf::into_os_string);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(binary);
        // They are for the test: to the server they would be settings.
        for variable in ["XPUSH_BIN", "XPUSH_CRASHES", "XPUSH_CROWD", "SECANTUSDB_BIN", "XPUSH_FERRETDB"] {
            command.env_remove(variable);
        }
        command
            .current_dir(&self.folder)
            .args(["serve", "--config", "xpush.toml", "--data-dir", "data"])
            .stderr(log);
        command
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn launch(&mut self) -> io::Result<()> {
        self.process = Some(Process::start(&mut self.command())?);
        Ok(())
    }

    /// Starts it although it is expected to end by itself.
    pub(crate) fn fail(&self) -> Output {
        self.command().output().unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Lets it drain and end, as at an upgrade.
    pub(crate) fn end(&mut self) {
        let ended = self.process.take().unwrap().end().unwrap();
        assert!(ended.success(), "{} ended as {ended}", self.name);
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill().unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.process.as_ref().unwrap().freeze().unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.process.as_ref().unwrap().thaw().unwrap();
    }

    /// A client of its own.
    pub(crate) fn connect(&self, secret: &str) -> Connection {
        Connection::open_for(self.address, &format!("the secret of {secret}"), PATIENCE).unwrap()
    }

    /// A client of its own that says more of itself.
    pub(crate) fn connect_with(&self, secret: &str, more: Value) -> Connection {
        Connection::open_with(self.address, &format!("the secret of {secret}"), PATIENCE, more).unwrap()
    }

    /// A client that brings a token of its app.
    pub(crate) fn connect_as(&self, user: &str) -> io::Result<Connection> {
        Connection::open_as(self.address, json!({"token": Self::token(user, &[])}), PATIENCE)
    }

    /// A token of the app.
    #[allow(clippy::disallowed_methods, reason = "real servers go by the real time of day")]
    fn token(user: &str, roles: &[&str]) -> String {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
        let header = jsonwebtoken::Header { kid: Some("k1".into()), ..Default::default() };
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let claims = json!({"sub": user, "roles": roles, "exp": expires, "iat": expires - 600});
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }

    /// Status and body of an answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.get_with(path, "")
    }

    /// What the API answers the app's own back end.
    pub(crate) fn ask(&self, path: &str) -> Value {
        let authorization = format!("Authorization: Bearer {}\r\n", Self::token("backend", &["server"]));
        let (status, body) = self.get_with(&format!("/api/v1{path}"), &authorization);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"))
    }

    fn get_with(&self, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = self.address;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Where its session role would send the clients of a channel.
    pub(crate) fn assign(&self, channel: &str) -> Value {
        let (_, body) = self.get(&format!("/api/v1/assign?channel={channel}"));
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        body["ok"]["channels"][0].clone()
    }

    /// One of its figures.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, figures) = self.get("/metrics");
        let figure = figures.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        figure.unwrap_or_else(|| panic!("no {name} in {figures}"))
    }
}

/// Eight who write into ten channels, and four who follow them all.
pub(crate) fn plan(seed: u64) -> Plan {
    let channels: Vec<_> = (0..10).map(|number| format!("kept:{number}")).collect();
    let channels: Vec<_> = channels.iter().map(String::as_str).collect();
    Plan {
        publishers: 8,
        subscribers: 4,
        window: 2,
        silence: SILENCE,
        quiet: PATIENCE,
        ..Plan::new(seed, &channels)
    }
}

/// Notes what is done to the servers.
pub(crate) fn fault(fleet: &Fleet, what: &str) {
    fleet.journal().note("", Event::Fault { what: what.into() });
}

/// The members' names, in order.
pub(crate) fn members(view: &View) -> Vec<String> {
    let mut names: Vec<_> = view.nodes.iter().map(|node: &Node| node.name.to_string()).collect();
    names.sort();
    names
}

/// The names on the ring, in order.
pub(crate) fn on_ring(view: &View) -> Vec<String> {
    let ring = view.ring.iter().flat_map(|ring| ring.nodes());
    let mut names: Vec<_> = ring.map(|node| node.name.to_string()).collect();
    names.sort();
    names
}

/// The hosts of a list with commas, as TOML has them.
fn listed(hosts: &str) -> String {
    hosts.split(',').map(|host| format!("\"{host}\", ")).collect()
}

/// How long something took.
pub(crate) fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = act();
    println!("{what}: {:.2} s", began.elapsed().as_secs_f64());
    done
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// What was judged; and for every publisher that a fault cut off, when something of it was acked again. Figures of a busy machine: they are
/// shown, not judged.
fn report(lines: &[Line], summary: &Summary) {
    let mut waits = Vec::new();
    let faults = lines.iter().enumerate();
    let is_fault = |line: &Line| matches!(line.event, Event::Killed | Event::Fault { .. });
    for (at, fault) in faults.filter(|(_, line)| is_fault(line)) {
        let rest = &lines[at + 1..];
        let until = rest.iter().position(is_fault).unwrap_or(rest.len());
        let mut cut: Vec<&Arc<str>> = Vec::new();
        for line in &rest[..until] {
            match &line.event {
                Event::Disconnected | Event::Refused { .. } | Event::Unknown { .. }
                    if line.client.starts_with("pub") && !cut.contains(&&line.client) =>
                {
                    cut.push(&line.client);
                }
                Event::Acked { .. } if cut.contains(&&line.client) => {
                    cut.retain(|client| **client != line.client);
                    waits.push((line.at - fault.at) / 1_000);
                }
                _ => {}
            }
        }
    }
    waits.sort_unstable();
    let mut refusals = BTreeMap::<&str, usize>::new();
    for line in lines {
        if let Event::Refused { code, .. } = &line.event {
            *refusals.entry(code).or_default() += 1;
        }
    }
    let share = |percent: usize| waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1)));
    println!("{summary}; refused: {refusals:?}");
    println!(
        "{} publishers were cut off; ms from the fault to the next ack: p50 {:?}, p99 {:?}",
        waits.len(),
        share(50),
        share(99)
    );
    latencies(lines);
}

/// How long publishers waited for their acks, from the first attempt on: in the time between two faults, by when it was sent.
fn latencies(lines: &[Line]) {
    let is_fault = |line: &Line| matches!(line.event, Event::Killed | Event::Fault { .. } | Event::Finished);
    let acked: HashMap<&str, u64> = lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Acked { id, .. } => Some((&**id, line.at)),
            _ => None,
        })
        .collect();
    let mut sent = HashSet::new();
    for part in lines.split_inclusive(is_fault) {
        let mut waits: Vec<u64> = part
            .iter()
            .filter_map(|line| match &line.event {
                Event::Sent { id, .. } if sent.insert(id.clone()) => {
                    Some((acked.get(&**id)? - line.at) / 1_000)
                }
                _ => None,
            })
            .collect();
        waits.sort_unstable();
        let (Some(first), Some(last), Some(worst)) = (part.first(), part.last(), waits.last()) else {
            continue;
        };
        let seconds = (last.at - first.at) as f64 / 1e6;
        let at = |percent: usize| waits[waits.len() * percent / 100];
        println!(
            "{:.1} s: {:.0} acked publications a second; ms to the ack: p50 {}, p99 {}, worst {worst}",
            seconds,
            waits.len() as f64 / seconds.max(0.001),
            at(50),
            at(99)
        );
    }
}
