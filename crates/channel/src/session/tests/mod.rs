//! Sessions before an ACCESS that answers when the test lets it: who is admitted, what is held, what ends.

mod admission;
mod following;
mod hooks;
mod late;
mod permissions;
mod polling;
mod recovery;
mod returning;
mod revocation;
mod upgrade;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;
use xpush_core::{Clock, History, NodeId, Permissions, Retention, Rule, Who};
use xpush_embedded::{LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, SoloCluster};
use xpush_testkit::{
    HostileHub, HostileLedger, Hostility, ManualClock, MemoryLedger, SeededEntropy, Trouble,
};

use self::late::LateAccess;
use crate::GRACE_MS;
use crate::config::{Config, Heartbeat, Limits, Origins};
use crate::dialect::Wire;
use crate::fanout::inbox::Inbox;
use crate::front::address::Addresses;
use crate::node::{Parts, Shared};
use crate::session::gate::Opening;
use crate::session::sid::Sid;
use crate::shard::Shard;
use crate::transport::io::Io;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open};

const SHARDS: u16 = 2;

/// One node whose shards are turned by the test.
struct World {
    access: Arc<LateAccess>,
    clock: Arc<ManualClock>,
    hub: HostileHub,
    ledger: Arc<HostileLedger>,
    shared: Arc<Shared>,
    shards: Vec<Shard>,
    next: u16,
}

/// A polling client of Engine.IO 4.
struct Client {
    shard: u16,
    sid: Sid,
    poll: Option<oneshot::Receiver<Answer>>,
    /// Packets that have come and were not asked for yet.
    packets: Vec<String>,
}

const KEPT: Retention = Retention { count: 1_000, bytes: 1_000_000, age_ms: 1_000_000_000 };

fn rule(pattern: &str, who: Who) -> Rule {
    Rule {
        pattern: pattern.into(),
        history: History::Recent(KEPT),
        presence: true,
        notify: false,
        search: false,
        permissions: Permissions::all(who),
    }
}

fn rules() -> Vec<Rule> {
    vec![
        rule("open:*", Who::Anyone),
        rule("members:*", Who::Members),
        rule("token:*", Who::Token),
        Rule { history: History::Durable(KEPT), ..rule("kept:*", Who::Anyone) },
        Rule { history: History::None, ..rule("brief:*", Who::Anyone) },
        Rule { history: History::None, ..rule("members-brief:*", Who::Members) },
    ]
}

fn entropy() -> Box<dyn xpush_core::Entropy> {
    Box::new(SeededEntropy::new(3))
}

impl World {
    fn new() -> Self {
        Self::with(Limits { events_per_second: 0, ..Limits::default() })
    }

    fn with(limits: Limits) -> Self {
        Self::over(Hostility::NONE, limits)
    }

    fn over(hostility: Hostility, limits: Limits) -> Self {
        let clock = Arc::new(ManualClock::default());
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let access = Arc::new(LateAccess::new(rules()));
        let hub = HostileHub::new(1, hostility, shared_clock.clone());
        let id = NodeId::new("a").unwrap();
        let config = Config {
            node: id.clone(),
            shards: usize::from(SHARDS),
            limits,
            heartbeat: Heartbeat { interval_ms: 1_000_000_000, timeout_ms: 1_000 },
            origins: Origins::default(),
            trusted_proxies: Vec::new(),
            peers: crate::PeerTrust::nobody(),
        };
        let log = Arc::new(MemoryLog::new(1, 1 << 30, shared_clock.clone()));
        let kept = Arc::new(MemoryLedger::new(1, shared_clock.clone()));
        let ledger = Arc::new(HostileLedger::new(1, Trouble::NONE, kept, shared_clock.clone()));
        let parts = Parts {
            ledger: ledger.clone(),
            search: None,
            log,
            bus: {
                let hub = hub.clone();
                Box::new(move |sink| hub.attach(id, sink))
            },
            presence: Arc::new(LocalPresence::new()),
            online: Arc::new(LocalOnline::new(
                GRACE_MS,
                shared_clock.clone(),
                Arc::new(MemoryLastSeen::default()),
            )),
            access: access.clone(),
            secret: [7; 32],
            cluster: Arc::new(SoloCluster::new()),
            hosting: None,
            views: None,
            clock: shared_clock,
            entropy,
        };
        let (shared, inboxes) = Shared::new(config, parts, (0..SHARDS).map(|_| None).collect());
        let make = |(index, inbox): (u16, Receiver<Inbox>)| {
            let entropy = Box::new(SeededEntropy::new(u64::from(index)));
            Shard::new(index, shared.clone(), inbox, entropy, None)
        };
        let shards = (0..SHARDS).zip(inboxes).map(make).collect();
        Self { access, clock, hub, ledger, shared, shards, next: 0 }
    }

    /// Lets everything happen that can happen now.
    fn turn(&mut self) {
        for _ in 0..8 {
            self.ledger.run_due(self.shared.clock().monotonic());
            for shard in &mut self.shards {
                shard.now = self.shared.clock().monotonic();
                shard.take_inbox();
                shard.take_timers();
                shard.settle();
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        self.clock.advance(ms);
        self.turn();
    }

    /// A client that has done no more than to open its connection.
    fn open(&mut self, query: &str, opening: Option<Opening>) -> Client {
        let (answer, answered) = oneshot::channel();
        self.come(Wire::Engine4, query, opening, By::Polling { base64: true, answer });
        let mut client = Client {
            shard: self.next,
            sid: Sid::decode(&"A".repeat(35)).unwrap(),
            poll: Some(answered),
            packets: Vec::new(),
        };
        client.take();
        let open: Value = serde_json::from_str(&client.packets.remove(0)[1..]).unwrap();
        client.sid = Sid::decode(open["sid"].as_str().unwrap()).unwrap();
        client
    }

    /// A connection, in the next shard.
    fn come(&mut self, wire: Wire, query: &str, opening: Option<Opening>, by: By) {
        self.next = (self.next + 1) % SHARDS;
        let address = "127.0.0.1".parse().unwrap();
        let permit = Arc::new(Addresses::default()).admit(address, &self.shared.config.limits).unwrap();
        let open = Open { wire, query: query.into(), opening, permit, by };
        self.shared.mailbox(self.next).post(Inbox::Open(Box::new(open)));
        self.turn();
    }

    /// A client that sends CONNECT with a token (or as a guest), and does not wait.
    fn connect(&mut self, token: Option<&str>) -> Client {
        let mut client = self.open("", None);
        let auth = token.map(|token| format!(r#"{{"token":"{token}"}}"#)).unwrap_or_default();
        self.send(&mut client, &format!("40{auth}"));
        client
    }

    /// A client that was admitted by the token `USER/…`.
    fn user(&mut self, token: &str) -> Client {
        let mut client = self.connect(Some(token));
        self.access.answer_all();
        let packets = self.receive(&mut client);
        assert!(packets.iter().any(|packet| packet.contains("welcome")), "{packets:?}");
        client
    }

    fn send(&mut self, client: &mut Client, packet: &str) {
        let (answer, _) = oneshot::channel();
        let body = Bytes::copy_from_slice(packet.as_bytes());
        let post = Post { sid: client.sid, body, binary: false, answer };
        self.shared.mailbox(client.shard).post(Inbox::Post(Box::new(post)));
        self.turn();
    }

    /// One more poll, whatever became of the last one.
    fn poll(&mut self, client: &Client) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.shared.mailbox(client.shard).post(Inbox::Poll(Poll { sid: client.sid, answer }));
        self.turn();
        answered
    }

    /// Everything that has come since, packet by packet.
    fn receive(&mut self, client: &mut Client) -> Vec<String> {
        for _ in 0..20 {
            if client.poll.is_none() {
                client.poll = Some(self.poll(client));
            }
            self.turn();
            client.take();
        }
        std::mem::take(&mut client.packets)
    }

    /// A command's answer, which is the only packet that comes.
    fn ask(&mut self, client: &mut Client, command: &str) -> Value {
        self.send(client, &format!("427{command}"));
        let packets = self.receive(client);
        let [answer] = &packets[..] else { panic!("{command}: {packets:?}") };
        acked(answer)
    }

    fn sessions(&self) -> usize {
        self.shards.iter().map(|shard| shard.sessions.len()).sum()
    }
}

impl Client {
    fn take(&mut self) {
        let Some(poll) = &mut self.poll else { return };
        match poll.try_recv() {
            Ok(Answer::Payload(payload)) => {
                let body = String::from_utf8(payload.collect().0.to_vec()).unwrap();
                self.packets.extend(body.split('\u{1e}').map(str::to_owned));
                self.poll = None;
            }
            Ok(_) | Err(oneshot::error::TryRecvError::Closed) => self.poll = None,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
    }
}

/// A stream as the front hands it over, and the client's end of it.
fn streams() -> (Io, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (Io::plain(stream), client)
}

/// A client's frame (RFC 6455, 5.2), masked with zeros.
fn frame(first: u8, payload: &str) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    assert!(len < 126);
    [&[first, 0x80 | len, 0, 0, 0, 0], payload.as_bytes()].concat()
}

/// What stands in an acknowledgement.
fn acked(packet: &str) -> Value {
    let at = packet.find('[').filter(|_| packet.starts_with("43")).unwrap_or_else(|| panic!("{packet}"));
    let mut body: Value = serde_json::from_str(&packet[at..]).unwrap();
    body[0].take()
}

/// The object of the one push of this name.
fn pushed(packets: &[String], name: &str) -> Value {
    let head = format!("42[\"{name}\",");
    let found: Vec<_> = packets.iter().filter(|packet| packet.starts_with(&head)).collect();
    let [push] = found[..] else { panic!("{name}: {packets:?}") };
    let mut push: Value = serde_json::from_str(&push[2..]).unwrap();
    push[1].take()
}
