//! Two nodes of four shards each, over a bus that reorders, delays, drops and cries wolf; clients that come, go, resume on the other node and publish.
//!
//! Nothing here is real but the code under test: time is turned by hand, shards are turned in an order that the seed decides, clients speak long polling. At the end everybody
//! must have seen one order, without holes, without doubles.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;
use xpush_core::ports::bus::BusSink;
use xpush_core::ports::cluster::{self, Cluster, ClusterSink};
use xpush_core::{Clock, Entropy, History, NodeId, Permissions, Retention, Rule, Who};
use xpush_embedded::{LocalPresence, MemoryLog, SoloCluster};
use xpush_testkit::{HostileHub, Hostility, ManualClock, MemoryLedger, OpenAccess, SeededEntropy};

use crate::config::{Config, Heartbeat, Limits, Origins};
use crate::dialect::Wire;
use crate::fanout::inbox::Inbox;
use crate::front::address::Addresses;
use crate::node::{Parts, Shared};
use crate::session::sid::Sid;
use crate::shard::Shard;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open};

const SHARDS: u16 = 4;
const CHANNELS: [&str; 3] = ["chat:a", "chat:b", "chat:c"];

/// A node whose shards are turned by the simulation.
struct SimulatedNode {
    shared: Arc<Shared>,
    shards: Vec<Shard>,
}

/// What one subscription of a client has seen.
#[derive(Debug, Clone)]
struct Seen {
    epoch: String,
    /// The position that the subscription began behind.
    since: u64,
    seqs: Vec<u64>,
}

/// A client that polls.
struct Client {
    node: usize,
    shard: u16,
    sid: Option<Sid>,
    poll: Option<oneshot::Receiver<Answer>>,
    acks: u64,
    /// The channel that a pending `subscribe` is for, and from where.
    asked: HashMap<u64, (&'static str, Option<u64>)>,
    /// The message that a pending `publish` is for.
    published: HashMap<u64, (&'static str, u64)>,
    seen: HashMap<&'static str, Seen>,
    /// What this connection follows.
    live: HashSet<&'static str>,
    count: u64,
}

struct World {
    random: SeededEntropy,
    clock: Arc<ManualClock>,
    hub: HostileHub,
    nodes: Vec<SimulatedNode>,
    clients: Vec<Client>,
    /// By channel and seq, who said what: it must be the same for everybody.
    history: BTreeMap<(&'static str, u64), String>,
    /// By channel: what was acknowledged, as (text, seq).
    acked: Vec<(&'static str, String, u64)>,
}

fn entropy() -> Box<dyn Entropy> {
    Box::new(SeededEntropy::new(7))
}

fn access() -> OpenAccess {
    let rule = Rule {
        pattern: "chat:*".into(),
        history: History::Recent(Retention { count: 100_000, bytes: 100_000_000, age_ms: 1_000_000_000 }),
        presence: true,
        notify: false,
        permissions: Permissions::all(Who::Anyone),
    };
    OpenAccess::demo([rule])
}

fn config(node: &str) -> Config {
    Config {
        node: NodeId::new(node).unwrap(),
        shards: usize::from(SHARDS),
        limits: Limits { events_per_second: 0, handshake_ms: 1_000_000_000, ..Limits::default() },
        heartbeat: Heartbeat { interval_ms: 1_000_000_000, timeout_ms: 1_000 },
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
    }
}

impl SimulatedNode {
    fn start(name: &str, parts: Parts, cluster: &SoloCluster) -> Self {
        let (shared, inboxes) = Shared::new(config(name), parts, (0..SHARDS).map(|_| None).collect());
        let sink: Arc<dyn ClusterSink> = shared.clone();
        cluster.join(cluster::Node { id: shared.id().clone(), url: "".into() }, sink);
        let make = |(index, inbox): (u16, Receiver<Inbox>)| {
            let seed = u64::from(index) + 100 * u64::from(name.as_bytes()[0]);
            Shard::new(index, shared.clone(), inbox, Box::new(SeededEntropy::new(seed)), None)
        };
        let shards = (0..SHARDS).zip(inboxes).map(make).collect();
        Self { shared, shards }
    }

    /// One turn of one shard.
    fn turn(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        shard.now = self.shared.clock().monotonic();
        shard.take_inbox();
        shard.take_timers();
        shard.settle();
    }
}

impl Client {
    fn new(node: usize, shard: u16) -> Self {
        Self {
            node,
            shard,
            sid: None,
            poll: None,
            acks: 0,
            asked: HashMap::new(),
            published: HashMap::new(),
            seen: HashMap::new(),
            live: HashSet::new(),
            count: 0,
        }
    }

    fn next_ack(&mut self) -> u64 {
        self.acks += 1;
        self.acks
    }
}

impl World {
    fn new(seed: u64, hostility: Hostility) -> Self {
        let clock = Arc::new(ManualClock::default());
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let hub = HostileHub::new(seed, hostility, shared_clock.clone());
        let log = Arc::new(MemoryLog::new(seed, 1 << 30, shared_clock.clone()));
        let ledger = Arc::new(MemoryLedger::new(seed, shared_clock.clone()));
        let presence = Arc::new(LocalPresence::new());
        let cluster = Arc::new(SoloCluster::new());
        let access = Arc::new(access());
        let node = |name: &str| {
            let (hub, id) = (hub.clone(), NodeId::new(name).unwrap());
            let parts = Parts {
                log: log.clone(),
                ledger: ledger.clone(),
                bus: Box::new(move |sink: Arc<dyn BusSink>| hub.attach(id, sink)),
                presence: presence.clone(),
                access: access.clone(),
                cluster: cluster.clone(),
                clock: shared_clock.clone(),
                entropy,
            };
            SimulatedNode::start(name, parts, &cluster)
        };
        let nodes = vec![node("a"), node("b")];
        Self {
            random: SeededEntropy::new(seed ^ 0xabcd),
            clock,
            hub,
            nodes,
            clients: Vec::new(),
            history: BTreeMap::new(),
            acked: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    // === what clients do ===

    fn connect(&mut self, client: usize) {
        let (node, shard) = (self.below(2), self.below(usize::from(SHARDS)));
        let (answer, answered) = oneshot::channel();
        let shared = self.nodes[node].shared.clone();
        let loopback = "127.0.0.1".parse().unwrap();
        let permit = Arc::new(Addresses::default()).admit(loopback, &shared.config.limits).unwrap();
        let by = By::Polling { base64: true, answer };
        let open = Open { wire: Wire::Engine4, query: "".into(), permit, by };
        let shard = u16::try_from(shard).unwrap();
        shared.mailbox(shard).post(Inbox::Open(Box::new(open)));
        let (seen, count) = (self.clients[client].seen.clone(), self.clients[client].count);
        self.clients[client] = Client { poll: Some(answered), seen, count, ..Client::new(node, shard) };
    }

    fn post(&mut self, client: usize, packet: String) {
        let client = &mut self.clients[client];
        let Some(sid) = client.sid else { return };
        let (answer, _) = oneshot::channel();
        let post = Post { sid, body: Bytes::from(packet), binary: false, answer };
        self.nodes[client.node].shared.mailbox(client.shard).post(Inbox::Post(Box::new(post)));
    }

    fn subscribe(&mut self, client: usize, channel: &'static str) {
        if self.clients[client].sid.is_none() {
            return;
        }
        let ack = self.clients[client].next_ack();
        let seen = self.clients[client].seen.get(channel);
        let from = seen.map(|seen| seen.seqs.last().copied().unwrap_or(seen.since));
        let since = match seen.zip(from) {
            Some((seen, seq)) => {
                format!(r#","since":{{"epoch":"{}","seq":{seq}}}"#, seen.epoch)
            }
            None => String::new(),
        };
        self.clients[client].asked.insert(ack, (channel, from));
        let presence = self.below(2) == 0;
        self.post(
            client,
            format!(r#"42{ack}["subscribe",{{"channel":"{channel}","presence":{presence}{since}}}]"#),
        );
    }

    fn publish(&mut self, client: usize, channel: &'static str) {
        if self.clients[client].sid.is_none() {
            return;
        }
        let ack = self.clients[client].next_ack();
        self.clients[client].count += 1;
        let count = self.clients[client].count;
        self.clients[client].published.insert(ack, (channel, count));
        self.post(
            client,
            format!(r#"42{ack}["publish",{{"channel":"{channel}","data":"{client}/{count}"}}]"#),
        );
    }

    /// Takes what a poll has brought, and polls again.
    fn poll(&mut self, client: usize) {
        let answered = match &mut self.clients[client].poll {
            Some(poll) => poll.try_recv(),
            None => return,
        };
        let body = match answered {
            Ok(Answer::Payload(body, _)) => body,
            Ok(other) => panic!("a poll was answered {other:?}"),
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => panic!("a poll was dropped"),
        };
        let body = String::from_utf8(body.to_vec()).unwrap();
        for packet in body.split('\u{1e}') {
            self.take(client, packet);
        }
        let client = &mut self.clients[client];
        if let Some(sid) = client.sid {
            let (answer, answered) = oneshot::channel();
            client.poll = Some(answered);
            self.nodes[client.node].shared.mailbox(client.shard).post(Inbox::Poll(Poll { sid, answer }));
        }
    }

    fn take(&mut self, client: usize, packet: &str) {
        if let Some(open) = packet.strip_prefix('0') {
            let open: Value = serde_json::from_str(open).unwrap();
            self.clients[client].sid = Sid::decode(open["sid"].as_str().unwrap());
            self.post(client, "40".to_owned());
        } else if let Some(ack) = packet.strip_prefix("43") {
            let (id, body) = ack.split_at(ack.find('[').unwrap());
            let body: Value = serde_json::from_str(body).unwrap();
            self.take_ack(client, id.parse().unwrap(), &body[0]);
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            match event[0].as_str().unwrap() {
                "message" => self.take_message(client, &event[1]),
                "welcome" | "presence" => {}
                other => panic!("{other}: {}", event[1]),
            }
        } else {
            assert!(packet.starts_with("40") || packet == "6", "{packet}");
        }
    }

    fn take_ack(&mut self, client: usize, id: u64, body: &Value) {
        let ok = body.get("ok").unwrap_or_else(|| panic!("{body}"));
        if let Some((channel, count)) = self.clients[client].published.remove(&id) {
            self.acked.push((channel, format!("{client}/{count}"), ok["seq"].as_u64().unwrap()));
            return;
        }
        let (channel, from) = self.clients[client].asked.remove(&id).expect("an answer to a question");
        self.clients[client].live.insert(channel);
        let (epoch, seq) = (ok["epoch"].as_str().unwrap().to_owned(), ok["seq"].as_u64().unwrap());
        let Some(from) = from else {
            self.clients[client].seen.insert(channel, Seen { epoch, since: seq, seqs: Vec::new() });
            return;
        };
        assert_eq!(ok["recovered"], true, "{ok}");
        assert_eq!(ok["missed"].as_u64(), Some(seq - from), "{ok}");
        // Who followed already has perhaps seen some of it: it comes again, from there on.
        let seen = self.clients[client].seen.get_mut(channel).expect("it was seen before");
        seen.seqs.retain(|seen| *seen <= from);
    }

    fn take_message(&mut self, client: usize, message: &Value) {
        let channel = CHANNELS.into_iter().find(|name| message["channel"] == **name).unwrap();
        let (seq, text) = (message["seq"].as_u64().unwrap(), message["data"].as_str().unwrap().to_owned());
        let known = self.history.entry((channel, seq)).or_insert_with(|| text.clone());
        assert_eq!(*known, text, "two messages at one place");
        let seen = self.clients[client]
            .seen
            .get_mut(channel)
            .expect("a message comes behind its subscription's answer");
        let last = seen.seqs.last().copied().unwrap_or(seen.since);
        assert_eq!(seq, last + 1, "client {client} of {channel}: a hole, a double or a swap");
        seen.seqs.push(seq);
    }

    // === time ===

    fn run_a_little(&mut self) {
        for _ in 0..self.below(12) {
            let (node, shard) = (self.below(2), self.below(usize::from(SHARDS)));
            self.nodes[node].turn(shard);
        }
        let ms = self.random.below(20);
        self.clock.advance(ms);
        self.hub.deliver_due(self.clock.monotonic());
        for client in 0..self.clients.len() {
            if self.below(3) > 0 {
                self.poll(client);
            }
        }
    }

    fn settle(&mut self) {
        self.hub.set_hostility(Hostility::NONE);
        // Past every delay, every hole's patience, and two comparisons of heads.
        for _ in 0..400 {
            for node in &mut self.nodes {
                (0..usize::from(SHARDS)).for_each(|shard| node.turn(shard));
            }
            self.clock.advance(40);
            self.hub.deliver_due(self.clock.monotonic());
            (0..self.clients.len()).for_each(|client| self.poll(client));
        }
    }

    /// Whoever follows a channel has its end, though nobody has asked and the bus may have lost it without a hole to show.
    fn check_live(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            for channel in &client.live {
                let seen = &client.seen[channel];
                let last = seen.seqs.last().copied().unwrap_or(seen.since);
                assert_eq!(last, self.head(channel), "client {index} follows {channel} and lacks its end");
            }
        }
    }

    fn head(&self, channel: &'static str) -> u64 {
        self.history.range((channel, 0)..=(channel, u64::MAX)).next_back().map_or(0, |((_, seq), _)| *seq)
    }

    fn check(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            assert!(
                client.asked.is_empty() && client.published.is_empty(),
                "client {index} waits for answers"
            );
            for (channel, seen) in &client.seen {
                let last = seen.seqs.last().copied().unwrap_or(seen.since);
                assert_eq!(last, self.head(channel), "client {index} lacks the end of {channel}");
            }
        }
        let mut order: HashMap<(&str, &str), (u64, u64)> = HashMap::new();
        let mut acked = self.acked.clone();
        acked.sort_by_key(|(channel, _, seq)| (*channel, *seq));
        for (channel, text, seq) in &acked {
            assert_eq!(
                self.history.get(&(channel, *seq)),
                Some(text),
                "an acknowledged message is not at its place"
            );
            let (sender, count) = text.split_once('/').unwrap();
            let count = count.parse().unwrap();
            if let Some((before, at)) = order.insert((channel, sender), (count, *seq)) {
                assert!(before < count, "{text} at {seq} was sent after {before} at {at}");
            }
        }
    }
}

fn simulate(seed: u64, hostility: Hostility) {
    let mut world = World::new(seed, hostility);
    for index in 0..6 {
        world.clients.push(Client::new(0, 0));
        world.connect(index);
    }
    world.settle();
    // One who sees everything, so that the end knows what there was.
    for channel in CHANNELS {
        world.subscribe(0, channel);
    }
    world.settle();
    world.hub.set_hostility(hostility);
    for _ in 0..300 {
        let client = world.below(world.clients.len());
        let channel = CHANNELS[world.below(CHANNELS.len())];
        match world.below(10) {
            0 if client > 0
                && world.clients[client].published.is_empty()
                && world.clients[client].asked.is_empty() =>
            {
                // Gone without a word, and back somewhere else.
                world.connect(client);
            }
            1 | 2 if world.clients[client].asked.is_empty() => world.subscribe(client, channel),
            _ => world.publish(client, channel),
        }
        world.run_a_little();
    }
    world.settle();
    world.check_live();
    // Everybody resumes what was followed before, and so reaches the end.
    for client in 0..world.clients.len() {
        let channels: Vec<_> = world.clients[client].seen.keys().copied().collect();
        channels.into_iter().for_each(|channel| world.subscribe(client, channel));
    }
    world.settle();
    world.check();
    assert!(world.acked.len() > 100, "the simulation did something");
}

#[test]
fn one_order_and_no_hole_over_a_hostile_bus() {
    let hostility = Hostility { drop: 0.2, max_delay_ms: 120, reorder: true, gap_probability: 0.05 };
    for seed in 0..40 {
        simulate(seed, hostility);
    }
}

#[test]
fn one_order_and_no_hole_when_the_bus_loses_everything() {
    let hostility = Hostility { drop: 1.0, max_delay_ms: 0, reorder: false, gap_probability: 0.0 };
    for seed in 0..10 {
        simulate(seed, hostility);
    }
}

#[test]
fn one_order_and_no_hole_over_a_good_bus() {
    for seed in 0..10 {
        simulate(seed, Hostility::NONE);
    }
}
