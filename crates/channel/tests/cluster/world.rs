//! Nodes that share what stands behind their ports, and a client of long polling that has no code in common with them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tungstenite::WebSocket;
use xpush_channel::config::{Config, Heartbeat, Limits, Origins};
use xpush_channel::{GRACE_MS, Node, Parts};
use xpush_core::ports::cluster::{self, Cluster, ClusterSink, View};
use xpush_core::{Clock, History, NodeId, Permissions, Retention, Rule, Who};
use xpush_embedded::{
    LocalHub, LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, OsEntropy, SoloCluster, SystemClock,
};
use xpush_testkit::{MemoryLedger, OpenAccess, sample};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) runtime: Runtime,
    handles: Vec<Arc<SoloCluster>>,
}

/// A client of Engine.IO 4, each of whose requests goes to the next node.
pub(crate) struct Polling {
    pub(crate) sid: String,
    addresses: Vec<SocketAddr>,
    next: usize,
    acks: u64,
    /// What has come and nobody has asked for yet.
    packets: Vec<String>,
}

impl World {
    pub(crate) fn new(nodes: usize) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let log = Arc::new(MemoryLog::new(1, 1 << 26, clock.clone()));
        let ledger = Arc::new(MemoryLedger::new(1, clock.clone()));
        let presence = Arc::new(LocalPresence::new());
        let online = Arc::new(LocalOnline::new(GRACE_MS, clock.clone(), Arc::new(MemoryLastSeen::default())));
        let cluster = SoloCluster::new();
        let (hub, access) = (LocalHub::new(), Arc::new(OpenAccess::demo([rule()])));
        let mut world = Self { nodes: Vec::new(), addresses: Vec::new(), runtime, handles: Vec::new() };
        for number in 0..nodes {
            let listener = world.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            let id = NodeId::new(&format!("n{number}")).unwrap();
            let (hub, bus_id) = (hub.clone(), id.clone());
            let handle = Arc::new(cluster.handle());
            world.handles.push(handle.clone());
            let parts = Parts {
                log: log.clone(),
                ledger: ledger.clone(),
                search: None,
                bus: Box::new(move |sink| Arc::new(hub.attach(bus_id, sink))),
                presence: presence.clone(),
                online: online.clone(),
                access: access.clone(),
                secret: [7; 32],
                cluster: handle.clone(),
                hosting: None,
                views: None,
                clock: clock.clone(),
                entropy: || Box::new(OsEntropy::new()),
            };
            let url = format!("http://{address}");
            let peer = Some(address.to_string().into());
            let member = cluster::Node { url: url.into(), peer, ..sample::server(id.as_str()) };
            let node = Node::start(config(id), parts, member, Box::new(|joined| joined.unwrap())).unwrap();
            world.runtime.spawn(node.clone().serve(listener, None, Router::new()));
            world.nodes.push(node);
            world.addresses.push(address);
        }
        world
    }

    /// Where clients reach a node.
    pub(crate) fn url(&self, node: usize) -> String {
        format!("http://{}", self.addresses[node])
    }

    /// The others see a node no more; it knows nothing of that.
    pub(crate) fn vanish(&self, node: usize) {
        self.handles[node].leave(&sample::node(&format!("n{node}")), Box::new(|left| left.unwrap()));
    }

    /// A server that all see and that answers nobody; it is gone with what is returned.
    pub(crate) fn mute(&self, name: &str) -> SoloCluster {
        let mute = self.handles[0].handle();
        mute.join(sample::server(name), Arc::new(Nobody), Box::new(|joined| joined.unwrap()));
        mute
    }

    pub(crate) fn websocket(&self, node: usize, path: &str) -> WebSocket<TcpStream> {
        let stream = connect(self.addresses[node]);
        let url = format!("ws://{}{path}", self.addresses[node]);
        tungstenite::client(url, stream).unwrap().0
    }

    pub(crate) fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
}

/// Looks at no view.
struct Nobody;

impl ClusterSink for Nobody {
    fn view(&self, _: Arc<View>) {}
}

fn rule() -> Rule {
    let roomy = Retention { count: 1_000, bytes: 10_000_000, age_ms: 1_000_000_000 };
    Rule {
        pattern: "chat:*".into(),
        history: History::Recent(roomy),
        presence: true,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    }
}

fn config(node: NodeId) -> Config {
    Config {
        node,
        shards: 2,
        limits: Limits { events_per_second: 0, ..Limits::default() },
        heartbeat: Heartbeat::default(),
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
        peers: xpush_channel::PeerTrust::nobody(),
    }
}

impl Polling {
    /// A guest whose session lives on `node`.
    pub(crate) fn open(world: &World, node: usize) -> Self {
        Self::open_with(world, node, "")
    }

    /// One that says of itself what stands in `auth`.
    pub(crate) fn open_with(world: &World, node: usize, auth: &str) -> Self {
        let (status, body) = get(world.addresses[node], "/socket.io/?EIO=4&transport=polling");
        assert_eq!(status, 200, "{body}");
        let open: Value = serde_json::from_str(&body[1..]).unwrap();
        let sid = open["sid"].as_str().unwrap().to_owned();
        let addresses = world.addresses.clone();
        let mut client = Self { sid, addresses, next: node + 1, acks: 0, packets: Vec::new() };
        client.send(&format!("40{auth}"));
        client.push("welcome");
        client
    }

    fn path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
    }

    fn next(&mut self) -> SocketAddr {
        // Not always by turns, or each node would see polls only, or posts only.
        self.next += 1 + usize::from(self.acks.is_multiple_of(2));
        self.addresses[self.next % self.addresses.len()]
    }

    pub(crate) fn send(&mut self, packet: &str) {
        let address = self.next();
        let answer = request(address, "POST", &self.path(), "content-type: text/plain\r\n", packet);
        assert_eq!(answer, (200, "ok".into()));
    }

    pub(crate) fn poll(&mut self) {
        let address = self.next();
        let (status, body) = get(address, &self.path());
        assert_eq!(status, 200, "{body}");
        for packet in body.split('\u{1e}') {
            match packet {
                "2" => self.send("3"),
                packet => self.packets.push(packet.to_owned()),
            }
        }
    }

    /// Sends a command; what its `ok` holds.
    pub(crate) fn call(&mut self, command: &str, fields: &Value) -> Value {
        self.acks += 1;
        let head = format!("43{}[", self.acks);
        self.send(&format!("42{}[\"{command}\",{fields}]", self.acks));
        loop {
            if let Some(at) = self.packets.iter().position(|packet| packet.starts_with(&head)) {
                let packet = self.packets.remove(at);
                let mut answer: Value = serde_json::from_str(&packet[head.len() - 1..]).unwrap();
                assert!(answer[0].get("ok").is_some(), "{command}: {answer}");
                return answer[0]["ok"].take();
            }
            self.poll();
        }
    }

    /// The next push of this name.
    pub(crate) fn push(&mut self, name: &str) -> Value {
        let head = format!("42[\"{name}\",");
        loop {
            if let Some(at) = self.packets.iter().position(|packet| packet.starts_with(&head)) {
                let mut push: Value = serde_json::from_str(&self.packets.remove(at)[2..]).unwrap();
                return push[1].take();
            }
            self.poll();
        }
    }

    /// The pushes of this name that have come.
    pub(crate) fn pushes(&self, name: &str) -> Vec<&String> {
        self.packets.iter().filter(|packet| packet.starts_with(&format!("42[\"{name}\""))).collect()
    }
}

/// What a node has counted under this name.
pub(crate) fn counter(node: &Node, name: &str) -> u64 {
    let metrics = node.metrics();
    let line =
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
    line.trim().parse().unwrap()
}

pub(crate) fn posted(world: &World, node: usize, sid: &str, body: &str) -> (u16, String) {
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    request(world.addresses[node], "POST", &path, "content-type: text/plain\r\n", body)
}

pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, "GET", path, "", "")
}

/// A poll that hangs for a moment, and whose client then goes.
pub(crate) fn give_up(address: SocketAddr, path: &str) {
    let mut stream = connect(address);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "it hangs");
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "nothing is said to it");
}

/// One request on a connection of its own; the answer's status and body.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = connect(address);
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Who is refused early may find the way closed.
    let _ = stream.write_all(body.as_bytes());
    // A reset behind an early answer loses nothing that was read.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { unchunked(body) } else { body.to_owned() })
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, chunk)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &chunk[..length];
        rest = chunk[length..].trim_start_matches("\r\n");
    }
    body
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
