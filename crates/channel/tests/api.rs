//! Connections of apps' back ends, over real sockets: what a shard answers by itself, what it has answered, what goes back to hyper, and that nothing of it is seen from
//! outside.

#![allow(clippy::unwrap_used)]

mod alone;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use xpush_channel::Node;
use xpush_channel::config::Limits;
use xpush_core::ports::backend::{Intake, Publication, PublishRequest};
use xpush_core::{
    App, Channel, ChannelKey, EventName, History, Kind, Permissions, Retention, Rule, Sender, User, Who,
};
use xpush_testkit::{OpenAccess, sample};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    node: Arc<Node>,
    address: SocketAddr,
    /// Requests that the API has answered.
    asked: Arc<AtomicUsize>,
    _runtime: Runtime,
}

/// Reads `{"channel": …, "data": …}` of who shows the key `xk_good`.
struct Plain;

impl Intake for Plain {
    fn publication(&self, request: PublishRequest<'_>) -> Option<Publication> {
        let body: Value = serde_json::from_slice(request.body).ok()?;
        let known = request.authorization == Some("Bearer xk_good");
        let channel = Channel::new(body["channel"].as_str().filter(|_| known)?).ok()?;
        Some(Publication {
            channel: ChannelKey::new(App::new("demo").unwrap(), channel),
            kind: Kind::Message,
            event: EventName::new("message").unwrap(),
            data: body["data"].to_string().into(),
            id: None,
            from: Sender { user: User::new("server").unwrap(), name: None },
        })
    }
}

struct Client(BufReader<TcpStream>);

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Server {
    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = Node::start(
            alone::config("api", limits),
            alone::parts("api", access()),
            sample::server("api"),
            Box::new(|_| {}),
        )
        .unwrap();
        node.read_by(Arc::new(Plain));
        let asked = Arc::new(AtomicUsize::new(0));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(node.clone().serve(listener, None, api(&asked)));
        Self { node, address, asked, _runtime: runtime }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Client {
    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.get_mut().write_all(bytes).unwrap();
        self
    }

    fn answer(&mut self) -> Answer {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let before = head.len();
            assert!(self.0.read_line(&mut head).unwrap() > 0, "closed after {head:?}");
            let line = head[before..].trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    fn seq(&mut self) -> u64 {
        let answer = self.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str::<Value>(&answer.body).unwrap()["seq"].as_u64().unwrap()
    }

    fn ended(&mut self) -> bool {
        self.0.read(&mut [0]).unwrap() == 0
    }
}

fn api(asked: &Arc<AtomicUsize>) -> Router {
    let counted = {
        let asked = asked.clone();
        move || asked.fetch_add(1, Ordering::Relaxed)
    };
    let (one, other, third) = (counted.clone(), counted.clone(), counted);
    Router::new()
        .route(
            "/api/v1/messages",
            post(async move |headers: HeaderMap, body: Bytes| {
                one();
                let host = headers.get("host").map_or("none", |host| host.to_str().unwrap());
                (StatusCode::UNAUTHORIZED, [("x-host", host.to_owned())], format!("{} bytes", body.len()))
            }),
        )
        .route(
            "/api/v1/stats",
            get(async move || {
                other();
                "stats"
            }),
        )
        .route(
            "/api/v1/files",
            any(async move |body: Bytes| {
                third();
                format!("file of {}", body.len())
            }),
        )
        .route("/other", get(async || "other"))
}

fn access() -> OpenAccess {
    let retention = Retention { count: 1_000, bytes: 1_000_000, age_ms: 1_000_000_000 };
    let rule = |pattern: &str, history| Rule {
        pattern: pattern.into(),
        history,
        presence: false,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    };
    OpenAccess::demo([rule("chat:*", History::Recent(retention)), rule("live:*", History::None)])
}

fn request(line: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "{line} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn publish(channel: &str, data: &str) -> Vec<u8> {
    request("POST /api/v1/messages", "xk_good", &json!({"channel": channel, "data": data}).to_string())
}

#[test]
fn publications_are_answered_without_the_api() {
    let server = Server::start();
    let mut client = server.client();
    for seq in 1..=20 {
        assert_eq!(client.send(&publish("chat:a", "x")).seq(), seq);
    }
    let answer = client.send(&publish("live:a", "x")).answer();
    for header in [
        "HTTP/1.1 200 OK\r\n",
        "content-type: application/json\r\n",
        "cache-control: no-store\r\n",
        "x-content-type-options: nosniff\r\n",
        " GMT\r\n",
    ] {
        assert!(answer.head.contains(header), "{answer:?}");
    }
    let nowhere = client.send(&publish("nowhere", "x")).answer();
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.body.starts_with(r#"{"error":{"code":"not_found""#), "{nowhere:?}");
    assert_eq!(server.asked(), 0);
    assert!(server.node.metrics().contains("xpush_published_total 21\n"), "{}", server.node.metrics());
}

#[test]
fn answers_keep_the_order_of_requests() {
    let server = Server::start();
    let mut client = server.client();
    // More than may be unanswered, over two shards, with and without history, refused ones among them, one for the API in the middle, all in one piece.
    let mut all = Vec::new();
    for number in 0..500 {
        all.extend(publish("chat:a", &number.to_string()));
        all.extend(publish("nowhere", "x"));
        all.extend(publish("live:b", "x"));
        if number == 250 {
            all.extend(request("GET /api/v1/stats", "xk_good", ""));
        }
    }
    let writer = client.0.get_ref().try_clone().unwrap();
    let wrote = std::thread::spawn(move || {
        let mut writer = writer;
        writer.write_all(&all).unwrap();
    });
    for number in 0..500 {
        assert_eq!(client.seq(), number + 1);
        assert_eq!(client.answer().status, 404);
        assert!(client.answer().body.starts_with(r#"{"channel":"live:b""#));
        if number == 250 {
            assert_eq!(client.answer().body, "stats");
        }
    }
    wrote.join().unwrap();
    assert_eq!(server.asked(), 1);
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let server = Server::start();
    let mut client = server.client();
    client.0.get_ref().set_nodelay(true).unwrap();
    let two = [publish("chat:a", &"x".repeat(100)), publish("chat:a", &"y".repeat(200_000))].concat();
    // Enough at first to be seen as a back end's.
    let (first, rest) = two.split_at(120);
    client.send(first);
    for piece in rest[..400].chunks(1).chain(rest[400..].chunks(30_000)) {
        client.send(piece);
    }
    assert_eq!((client.seq(), client.seq()), (1, 2));
    assert_eq!(server.asked(), 0);
}

#[test]
fn what_is_not_said_at_once_the_api_says() {
    let server = Server::start();
    let mut client = server.client();
    let unknown = request("POST /api/v1/messages", "xk_unknown", "{}");
    let refused = client.send(&unknown).answer();
    assert_eq!((refused.status, &*refused.body), (401, "2 bytes"));
    assert!(refused.head.contains("x-host: here\r\n"), "{refused:?}");
    assert_eq!(client.send(&publish("chat:a", "x")).seq(), 1);
    assert_eq!(client.send(&request("GET /api/v1/stats", "xk_good", "")).answer().body, "stats");
    assert_eq!(client.send(&publish("chat:a", "x")).seq(), 2);
    assert_eq!(client.send(&request("GET /api/v1/nothing", "xk_good", "")).answer().status, 404);
    assert_eq!(server.asked(), 2);
}

#[test]
fn the_rest_goes_back_to_hyper() {
    let server = Server::start();
    let mut client = server.client();
    // All at once: what was published is answered first.
    let mut all = publish("chat:a", "x");
    all.extend(request("GET /other", "xk_good", ""));
    all.extend(publish("chat:a", "x"));
    client.send(&all);
    assert_eq!(client.seq(), 1);
    assert_eq!(client.answer().body, "other");
    assert_eq!(client.answer().status, 401, "by the API, as hyper reads it");

    let mut client = server.client();
    let chunked = b"POST /api/v1/messages HTTP/1.1\r\nAuthorization: Bearer xk_good\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(client.send(chunked).answer().body, "3 bytes");
    assert_eq!(client.send(&request("PUT /api/v1/files", "xk_good", "1234")).answer().body, "file of 4");

    let mut client = server.client();
    client.send(&publish("chat:a", "x"));
    assert_eq!(client.seq(), 2);
    assert_eq!(client.send(b"NONSENSE\r\n\r\n").answer().status, 400);
    assert!(client.ended());

    let mut client = server.client();
    assert_eq!(client.send(&publish("chat:a", "x")).seq(), 3);
    let upgrade = "GET /ws HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(client.send(upgrade.as_bytes()).answer().status, 101);
}

#[test]
fn who_is_silent_is_let_go() {
    let server = Server::with(Limits { handshake_ms: 200, ..Limits::default() });
    let mut idle = server.client();
    assert_eq!(idle.send(&publish("chat:a", "x")).seq(), 1);
    assert!(idle.ended());
    let mut half = server.client();
    assert_eq!(half.send(&publish("chat:a", "x")).seq(), 2);
    half.send(&publish("chat:a", "x")[..100]);
    assert!(half.ended(), "as hyper ends it");
    let mut mute = server.client();
    assert!(mute.ended());
}

#[test]
fn what_is_under_way_is_stored_when_the_connection_ends() {
    let server = Server::start();
    let mut hasty = server.client();
    hasty.send(&publish("chat:a", "x"));
    drop(hasty);
    let mut client = server.client();
    let mut seq = 0;
    while seq < 2 {
        seq = client.send(&publish("chat:a", "x")).seq();
    }
}
