//! A channel server over TLS, asked by real rustls clients: every transport, in both directions, with readers that lag and clients that hurry.

#![allow(clippy::unwrap_used)]

mod alone;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use xpush_channel::config::Limits;
use xpush_channel::{Node, Tls};
use xpush_core::{History, Permissions, Rule, Who};
use xpush_testkit::{OpenAccess, sample};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a lagging client's kernel keeps for it: far less than it is sent.
const SMALL: usize = 8 * 1024;

type Stream = StreamOwned<ClientConnection, TcpStream>;

struct Server {
    node: Arc<Node>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    _runtime: Runtime,
}

/// A client of `/ws` that has no code in common with the server.
struct Client {
    stream: BufReader<Stream>,
}

impl Server {
    fn start(name: &str) -> Self {
        Self::with(name, Limits { events_per_second: 0, outbox: 64_000_000, ..Limits::default() })
    }

    fn with(name: &str, limits: Limits) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = Tls::load(&certificate, &key).unwrap();

        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let limits = Limits { outbox_age_ms: 60_000, ..limits };
        let node = Node::start(
            alone::config("node", limits),
            alone::parts("node", access()),
            sample::server("tls"),
            Box::new(|_| {}),
        )
        .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(node.clone().serve(listener, Some(tls), Router::new()));
        Self { node, address, certificate: made.cert.der().clone(), _runtime: runtime }
    }

    /// A TLS connection, whose kernel keeps `receive` bytes for it.
    fn connect(&self, version: &'static SupportedProtocolVersion, receive: usize) -> Stream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(receive).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(session, socket)
    }

    /// A guest on `/ws`.
    fn guest(&self, version: &'static SupportedProtocolVersion, receive: usize) -> Client {
        let mut client = Client::open(self.connect(version, receive), "/ws");
        client.send(&json!({"id": 0, "cmd": "connect"}));
        assert_eq!(client.receive()["ok"]["app"], "demo");
        client
    }

    fn follower(&self, version: &'static SupportedProtocolVersion, receive: usize) -> Client {
        let mut client = self.guest(version, receive);
        client.send(&json!({"id": 1, "cmd": "subscribe", "channel": "chat:a"}));
        assert_eq!(client.receive()["ok"]["channel"], "chat:a");
        client
    }

    /// What another thread is about to do.
    fn wait_until(&self, holds: impl Fn(&Node) -> bool) {
        let begun = Instant::now();
        while !holds(&self.node) {
            assert!(begun.elapsed() < PATIENCE, "{}", self.node.metrics());
            std::thread::yield_now();
        }
    }
}

impl Client {
    fn open(stream: Stream, target: &str) -> Self {
        let mut client = Self { stream: BufReader::new(stream) };
        client.write(handshake(target).as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
        self.stream.get_mut().flush().unwrap();
    }

    /// A response's head.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).unwrap() > 0, "{head}");
        }
        head
    }

    fn send(&mut self, command: &Value) {
        self.write(&frame(1, command.to_string().as_bytes()));
    }

    /// The next data frame as JSON.
    fn receive(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The next data frame; pings need no answer for as long as a test takes.
    fn text(&mut self) -> String {
        loop {
            let (opcode, payload) = self.frame();
            match opcode {
                1 => return String::from_utf8(payload).unwrap(),
                9 => {}
                other => panic!("a frame of kind {other}"),
            }
        }
    }

    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0] & 0xf0, 0x80, "whole and without extensions");
        let len = match head[1] {
            126 => self.number::<2>(),
            127 => self.number::<8>(),
            len => len.into(),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    fn number<const N: usize>(&mut self) -> usize {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Nothing more comes, and the server has said so: without `close_notify` this would be an error.
    fn end(&mut self) {
        assert_eq!(self.stream.read(&mut [0; 16]).unwrap(), 0);
    }
}

fn handshake(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame (RFC 6455, 5.2), masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn publish(id: u64, text: &str) -> Value {
    json!({"id": id, "cmd": "publish", "channel": "chat:a", "data": text})
}

fn access() -> OpenAccess {
    let rule = Rule {
        pattern: "chat:*".into(),
        history: History::None,
        presence: false,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    };
    OpenAccess::demo([rule])
}

#[test]
fn a_reader_that_lags_gets_everything_once_and_in_order() {
    const MESSAGES: u64 = 2_000;
    let server = Server::start("lags");
    for version in [&version::TLS13, &version::TLS12] {
        let mut reader = server.follower(version, SMALL);
        let mut writer = server.guest(version, 1 << 20);
        let filler = "x".repeat(2_000);
        // Nothing is read before all was taken: the reader's 4 MB are in the server, most of them not even encrypted.
        for number in 1..=MESSAGES {
            writer.send(&publish(number, &format!("{number} {filler}")));
        }
        for number in 1..=MESSAGES {
            let answer = writer.receive();
            assert!(answer["id"] == number && answer["ok"].is_object(), "{answer}");
        }
        for number in 1..=MESSAGES {
            let message = reader.receive();
            let text = message["data"].as_str().unwrap();
            assert_eq!(text, format!("{number} {filler}"));
        }
    }
}

#[test]
fn what_comes_with_the_handshake_is_not_left_lying() {
    let server = Server::start("hurries");
    // More than hyper reads ahead, in one segment: what it leaves is in rustls, and the kernel has nothing more to tell.
    for len in [10, 9_000, 12_000] {
        let mut stream = server.connect(&version::TLS13, 1 << 20);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        let mut all = handshake("/ws").into_bytes();
        all.extend(frame(1, publish(7, &"x".repeat(len)).to_string().as_bytes()));
        let mut client = Client { stream: BufReader::new(stream) };
        client.write(&all);
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.receive()["push"], "welcome");
        let answer = client.receive();
        assert!(answer["id"] == 7 && answer["ok"].is_object(), "{len}: {answer}");
    }
}

#[test]
fn a_large_frame_arrives() {
    let server = Server::start("large");
    let (mut reader, mut writer) =
        (server.follower(&version::TLS13, SMALL), server.guest(&version::TLS12, 1 << 20));
    let text = "0123456789".repeat(90_000);
    writer.send(&publish(1, &text));
    assert!(writer.receive()["ok"].is_object());
    assert_eq!(reader.receive()["data"], text);
}

#[test]
fn the_end_is_said() {
    let server = Server::start("end");
    let mut client = server.guest(&version::TLS13, 1 << 20);
    server.wait_until(|node| node.connections() == 1);
    client.write(&frame(8, &1_000_u16.to_be_bytes()));
    assert_eq!(client.frame(), (8, 1_000_u16.to_be_bytes().to_vec()));
    client.end();

    // A client's `close_notify` ends its session, right behind a command that is still obeyed, although its socket stays open.
    let mut follower = server.follower(&version::TLS13, 1 << 20);
    let mut leaver = server.guest(&version::TLS13, 1 << 20);
    let stream = leaver.stream.get_mut();
    stream.conn.writer().write_all(&frame(1, publish(1, "bye").to_string().as_bytes())).unwrap();
    stream.conn.send_close_notify();
    stream.conn.write_tls(&mut stream.sock).unwrap();
    assert_eq!(follower.receive()["data"], "bye");
    server.wait_until(|node| node.connections() == 1);

    // One that just goes ends its session too.
    drop(follower);
    server.wait_until(|node| node.connections() == 0);
}

#[test]
fn event_streams() {
    let server = Server::start("sse");
    let mut reader = Client { stream: BufReader::new(server.connect(&version::TLS13, SMALL)) };
    reader.write(b"GET /sse?app=demo&channel=chat:a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = reader.head();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
    let until = |reader: &mut Client, word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(reader.stream.read_line(&mut line).unwrap() > 0);
        }
    };
    until(&mut reader, "welcome");
    until(&mut reader, "\"rate\":0");
    let mut writer = server.guest(&version::TLS13, 1 << 20);
    writer.send(&publish(1, "to the stream"));
    until(&mut reader, "to the stream");
    assert_eq!(server.node.connections(), 2);
}

#[test]
fn polling_and_its_upgrade() {
    let server = Server::start("polling");
    let mut poller = Client { stream: BufReader::new(server.connect(&version::TLS13, 1 << 20)) };
    let target = "/socket.io/?EIO=4&transport=polling";
    poller.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let open = body(&mut poller);
    let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    let sid = open["sid"].as_str().unwrap();
    let post = format!(
        "POST {target}&sid={sid} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n40"
    );
    poller.write(post.as_bytes());
    assert_eq!(body(&mut poller), "ok");
    poller.write(format!("GET {target}&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert!(body(&mut poller).starts_with("40{"));

    let target = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let mut socket = Client::open(server.connect(&version::TLS13, 1 << 20), &target);
    socket.write(&frame(1, b"2probe"));
    assert_eq!(socket.text(), "3probe");
    // The change-over, and an event behind it in the same record.
    let event = json!(["publish", {"channel": "chat:a", "data": "hello"}]);
    let mut both = frame(1, b"5");
    both.extend(frame(1, format!("421{event}").as_bytes()));
    socket.write(&both);
    let acknowledged = socket.text();
    assert!(acknowledged.starts_with("431["), "{acknowledged}");
    assert_eq!(server.node.connections(), 1);
}

#[test]
fn a_handshake_has_its_time() {
    let server = Server::with("silent", Limits { handshake_ms: 100, ..Limits::default() });
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
    let counted = "xpush_refused_total{reason=\"handshake_timeout\"} 1";
    server.wait_until(|node| node.metrics().contains(counted));
}

#[test]
fn whoever_speaks_no_tls_is_not_answered() {
    let server = Server::start("plain");
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    match plain.read_to_end(&mut answer) {
        Ok(_) => assert!(!answer.starts_with(b"HTTP/"), "{answer:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (make(), make());
    let certificate = write("certificate.pem", &one.cert.pem());
    let key = write("key.pem", &one.signing_key.serialize_pem());
    let wrong = write("wrong.pem", &other.signing_key.serialize_pem());
    let empty = write("empty.pem", "");
    let missing = folder.join("missing.pem");
    assert!(Tls::load(&certificate, &key).is_ok());
    for (certificate, key, named, why) in [
        (&missing, &key, &missing, "No such file"),
        (&certificate, &missing, &missing, "No such file"),
        (&empty, &key, &empty, "it has no certificate in PEM form"),
        (&key, &key, &key, "it has no certificate in PEM form"),
        (&certificate, &certificate, &certificate, "it has no private key"),
        (&certificate, &wrong, &wrong, "not the key of"),
    ] {
        let said = Tls::load(certificate, key).unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot use {}: {why}", named.display())), "{said}");
    }
}

/// A response's body, whose length its head tells.
fn body(client: &mut Client) -> String {
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; len.parse().unwrap()];
    client.stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}
