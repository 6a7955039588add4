//! A few nodes of four shards each, over a bus that reorders, delays, drops and cries wolf, and a ledger that is slow, fails, forgets what it did, and has one place for
//! whoever is first; clients that come, go, resume on another node, publish, change what they have said, and read.
//!
//! Nothing here is real but the code under test: time is turned by hand, shards are turned in an order that the seed decides, clients speak long polling. At the end everybody
//! must have seen one order, without holes, without doubles, show the same texts, and count the same as unread.

mod client;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;
use xpush_core::ports::bus::BusSink;
use xpush_core::ports::cluster::{Cluster, ClusterSink};
use xpush_core::ports::message_log::Range;
use xpush_core::{Channel, ChannelKey, Clock, Entropy, History, NodeId, Permissions, Retention, Rule, Who};
use xpush_embedded::{LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, SoloCluster};
use xpush_testkit::{
    HostileHub, HostileLedger, Hostility, ManualClock, MemoryLedger, OpenAccess, SeededEntropy, Trouble,
    sample,
};

use self::client::{Client, Memory, Seen, Shown, What, Wish};
use crate::config::{Config, Heartbeat, Limits, Origins};
use crate::dialect::Wire;
use crate::fanout::forward::HostOf;
use crate::fanout::inbox::Inbox;
use crate::front::address::Addresses;
use crate::metrics::{ShardCounters, Tally};
use crate::node::{Parts, Shared};
use crate::session::online::GRACE_MS;
use crate::session::sid::Sid;
use crate::shard::Shard;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open};

const SHARDS: u16 = 4;
/// `log:*` are durable.
const CHANNELS: [&str; 5] = ["chat:a", "chat:b", "chat:c", "log:a", "log:b"];

/// A node whose shards are turned by the simulation.
struct SimulatedNode {
    shared: Arc<Shared>,
    shards: Vec<Shard>,
    /// How far its view of the ring is turned: nodes may see different ones.
    turned: Arc<AtomicUsize>,
}

struct World {
    random: SeededEntropy,
    clock: Arc<ManualClock>,
    hub: HostileHub,
    ledger: Arc<HostileLedger>,
    nodes: Vec<SimulatedNode>,
    clients: Vec<Client>,
    /// By channel and seq, who said what first: it must be the same for everybody.
    history: BTreeMap<(&'static str, u64), String>,
    /// By channel: what was acknowledged, as (text, seq), and whether it was sent once.
    acked: Vec<(&'static str, String, u64, bool)>,
}

fn entropy() -> Box<dyn Entropy> {
    Box::new(SeededEntropy::new(7))
}

fn access() -> OpenAccess {
    let roomy = Retention { count: 100_000, bytes: 100_000_000, age_ms: 1_000_000_000 };
    let rule = |pattern: &str, history| Rule {
        pattern: pattern.into(),
        history,
        presence: true,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    };
    OpenAccess::demo([
        rule("chat:*", History::Recent(roomy)),
        rule("log:*", History::Durable(Retention::ENDLESS)),
    ])
}

fn config(node: &str) -> Config {
    Config {
        node: NodeId::new(node).unwrap(),
        shards: usize::from(SHARDS),
        limits: Limits { events_per_second: 0, handshake_ms: 1_000_000_000, ..Limits::default() },
        heartbeat: Heartbeat { interval_ms: 1_000_000_000, timeout_ms: 1_000 },
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
        peers: crate::PeerTrust::nobody(),
    }
}

impl SimulatedNode {
    fn start(name: &str, parts: Parts, cluster: &SoloCluster) -> Self {
        let (shared, inboxes) = Shared::new(config(name), parts, (0..SHARDS).map(|_| None).collect());
        let sink: Arc<dyn ClusterSink> = shared.clone();
        cluster.join(sample::server(name), sink, Box::new(|joined| joined.unwrap()));
        let make = |(index, inbox): (u16, Receiver<Inbox>)| {
            let seed = u64::from(index) + 100 * u64::from(name.as_bytes()[0]);
            Shard::new(index, shared.clone(), inbox, Box::new(SeededEntropy::new(seed)), None)
        };
        let shards = (0..SHARDS).zip(inboxes).map(make).collect();
        Self { shared, shards, turned: Arc::default() }
    }

    /// Sees a ring of these nodes.
    fn see_ring(&self, nodes: Vec<NodeId>) {
        let turned = self.turned.clone();
        let host: HostOf = Arc::new(move |channel, accept| {
            let first = usize::try_from(channel.hash64() % 1_000).unwrap() + turned.load(Ordering::Relaxed);
            let mut ring = nodes.iter().cycle().skip(first % nodes.len()).take(nodes.len());
            ring.find(|node| accept(node)).cloned()
        });
        self.shared.host_by(host);
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

impl World {
    fn new(seed: u64, hostility: Hostility, nodes: usize) -> Self {
        let clock = Arc::new(ManualClock::default());
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let hub = HostileHub::new(seed, hostility, shared_clock.clone());
        let log = Arc::new(MemoryLog::new(seed, 1 << 30, shared_clock.clone()));
        let keeper = Arc::new(MemoryLedger::new(seed, shared_clock.clone()));
        let ledger = Arc::new(HostileLedger::new(seed, Trouble::NONE, keeper, shared_clock.clone()));
        let presence = Arc::new(LocalPresence::new());
        let last_seen = Arc::new(MemoryLastSeen::default());
        let online = Arc::new(LocalOnline::new(GRACE_MS, shared_clock.clone(), last_seen));
        let cluster = Arc::new(SoloCluster::new());
        let access = Arc::new(access());
        let node = |name: &str| {
            let (hub, id) = (hub.clone(), NodeId::new(name).unwrap());
            let parts = Parts {
                log: log.clone(),
                ledger: ledger.clone(),
                search: None,
                bus: Box::new(move |sink: Arc<dyn BusSink>| hub.attach(id, sink)),
                presence: presence.clone(),
                online: online.clone(),
                access: access.clone(),
                secret: [7; 32],
                cluster: cluster.clone(),
                hosting: None,
                views: None,
                clock: shared_clock.clone(),
                entropy,
            };
            SimulatedNode::start(name, parts, &cluster)
        };
        let names = &["a", "b", "c"][..nodes];
        let nodes: Vec<_> = names.iter().map(|name| node(name)).collect();
        let ids: Vec<_> = nodes.iter().map(|node| node.shared.id().clone()).collect();
        nodes.iter().for_each(|node| node.see_ring(ids.clone()));
        Self {
            random: SeededEntropy::new(seed ^ 0xabcd),
            clock,
            hub,
            ledger,
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
        let (node, shard) = (self.below(self.nodes.len()), self.below(usize::from(SHARDS)));
        let (answer, answered) = oneshot::channel();
        let shared = self.nodes[node].shared.clone();
        let loopback = "127.0.0.1".parse().unwrap();
        let permit = Arc::new(Addresses::default()).admit(loopback, &shared.config.limits).unwrap();
        let by = By::Polling { base64: true, answer };
        let open = Open { wire: Wire::Engine4, query: "".into(), opening: None, permit, by };
        let shard = u16::try_from(shard).unwrap();
        shared.mailbox(shard).post(Inbox::Open(Box::new(open)));
        let memory = std::mem::take(&mut self.clients[client].memory);
        self.clients[client] = Client { poll: Some(answered), ..Client::new(node, shard, memory) };
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
        let seen = self.clients[client].memory.seen.get(channel);
        let from = seen.map(Seen::last);
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
            format!(
                r#"42{ack}["subscribe",{{"channel":"{channel}","presence":{presence},"receipts":true{since}}}]"#
            ),
        );
    }

    fn publish(&mut self, client: usize, channel: &'static str) {
        if self.clients[client].sid.is_none() {
            return;
        }
        let own = self.clients[client].memory.own.iter().filter(|(of, _)| *of == channel);
        let own: Vec<u64> = own.map(|(_, seq)| *seq).collect();
        let what = match self.below(10) {
            0 | 1 if !own.is_empty() => What::Edit(own[self.below(own.len())]),
            2 if !own.is_empty() => What::Delete(own[self.below(own.len())]),
            kind => What::Publish { silent: kind == 3 },
        };
        let memory = &mut self.clients[client].memory;
        memory.count += 1;
        let count = memory.count;
        self.send(client, Wish { channel, count, what, again: false });
    }

    fn send(&mut self, client: usize, wish: Wish) {
        let ack = self.clients[client].next_ack();
        let Wish { channel, count, what, .. } = wish;
        let command = match what {
            What::Publish { silent } => {
                format!(r#""publish",{{"silent":{silent},"data":"{client}/{count}""#)
            }
            What::Edit(target) => format!(r#""edit",{{"seq":{target},"data":"{client}/{count}""#),
            What::Delete(target) => format!(r#""delete",{{"seq":{target}"#),
        };
        self.clients[client].wishes.insert(ack, wish);
        self.post(client, format!(r#"42{ack}[{command},"channel":"{channel}","id":"{count}"}}]"#));
    }

    /// Whatever is not known to have taken effect is sent again, with the same id.
    fn retry(&mut self, client: usize) {
        for wish in std::mem::take(&mut self.clients[client].unsure) {
            self.send(client, Wish { again: true, ..wish });
        }
    }

    fn read(&mut self, client: usize, channel: &'static str) {
        let Some(last) = self.clients[client].memory.seen.get(channel).map(Seen::last) else { return };
        if self.clients[client].sid.is_none() || !channel.starts_with("log:") {
            return;
        }
        let seq = self.random.below(last + 1);
        let ack = self.clients[client].next_ack();
        self.clients[client].reads.insert(ack, (channel, seq));
        self.post(client, format!(r#"42{ack}["read",{{"channel":"{channel}","seq":{seq}}}]"#));
    }

    /// Takes what a poll has brought, and polls again.
    fn poll(&mut self, client: usize) {
        let answered = match &mut self.clients[client].poll {
            Some(poll) => poll.try_recv(),
            None => return,
        };
        let body = match answered {
            Ok(Answer::Payload(payload)) => payload.collect().0,
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
            // The same guest on every connection.
            self.post(client, format!(r#"40{{"guest":"the secret of client {client}"}}"#));
        } else if let Some(ack) = packet.strip_prefix("43") {
            let (id, body) = ack.split_at(ack.find('[').unwrap());
            let body: Value = serde_json::from_str(body).unwrap();
            self.take_ack(client, id.parse().unwrap(), &body[0]);
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            self.take_push(client, event[0].as_str().unwrap(), &event[1]);
        } else {
            assert!(packet.starts_with("40") || packet == "6", "{packet}");
        }
    }

    fn take_ack(&mut self, client: usize, id: u64, body: &Value) {
        let ok = body.get("ok");
        let code = body["error"]["code"].as_str().unwrap_or("");
        let passing = ["unavailable", "outcome_unknown"].contains(&code);
        assert!(ok.is_some() || passing || code == "unknown_message", "{body}");
        if let Some(wish) = self.clients[client].wishes.remove(&id) {
            return self.take_answer(client, wish, ok, passing);
        }
        if let Some((channel, seq)) = self.clients[client].reads.remove(&id) {
            let Some(ok) = ok else { return };
            let number = |name: &str| ok[name].as_u64().unwrap();
            assert!(number("read") >= seq && number("delivered") >= number("read"), "{ok}");
            self.clients[client].memory.read.insert(channel, (number("read"), number("unread")));
            return;
        }
        let (channel, from) = self.clients[client].asked.remove(&id).expect("an answer to a question");
        let Some(ok) = ok else {
            self.clients[client].live.remove(channel);
            return;
        };
        self.clients[client].live.insert(channel);
        let (epoch, seq) = (ok["epoch"].as_str().unwrap().to_owned(), ok["seq"].as_u64().unwrap());
        let Some(from) = from else {
            let seen = Seen { epoch, since: seq, seqs: Vec::new() };
            self.clients[client].memory.seen.insert(channel, seen);
            return;
        };
        assert_eq!(ok["recovered"], true, "{ok}");
        assert_eq!(ok["missed"].as_u64(), Some(seq - from), "{ok}");
        // Who followed already has perhaps seen some of it: it comes again, from there on.
        let seen = self.clients[client].memory.seen.get_mut(channel).expect("it was seen before");
        seen.seqs.retain(|seen| *seen <= from);
    }

    fn take_answer(&mut self, client: usize, wish: Wish, ok: Option<&Value>, passing: bool) {
        let Some(ok) = ok else {
            if passing {
                self.clients[client].unsure.push(wish);
            } else {
                assert!(!matches!(wish.what, What::Publish { .. }), "a message needs no other");
            }
            return;
        };
        let seq = ok["seq"].as_u64().unwrap();
        let memory = &mut self.clients[client].memory;
        match wish.what {
            What::Publish { .. } => {
                memory.own.push((wish.channel, seq));
                self.acked.push((wish.channel, format!("{client}/{}", wish.count), seq, !wish.again));
            }
            What::Edit(target) | What::Delete(target) => {
                assert_eq!(ok["target"].as_u64(), Some(target), "{ok}")
            }
        }
    }

    fn take_push(&mut self, client: usize, name: &str, push: &Value) {
        if ["welcome", "presence"].contains(&name) {
            return;
        }
        let channel = CHANNELS.into_iter().find(|name| push["channel"] == **name).unwrap();
        let seq = push["seq"].as_u64().unwrap();
        match name {
            "message" => {
                if push.get("edited").or(push.get("deleted")).is_none() {
                    let text = push["data"].as_str().unwrap();
                    let known = self.history.entry((channel, seq)).or_insert_with(|| text.to_owned());
                    assert_eq!(known, text, "two messages at one place");
                }
                self.clients[client].take_message(channel, push);
            }
            "edit" | "delete" => self.clients[client].take_change(channel, push, name == "delete"),
            "read" | "delivered" => {
                let user = push["user"].as_str().unwrap().to_owned();
                let known = self.clients[client].memory.receipts.entry((channel, user)).or_default();
                *known = seq.max(*known);
            }
            other => panic!("{other}: {push}"),
        }
    }

    // === time ===

    fn run_a_little(&mut self) {
        for _ in 0..self.below(6 * self.nodes.len()) {
            let (node, shard) = (self.below(self.nodes.len()), self.below(usize::from(SHARDS)));
            self.nodes[node].turn(shard);
        }
        let ms = self.random.below(20);
        self.clock.advance(ms);
        self.hub.deliver_due(self.clock.monotonic());
        self.ledger.run_due(self.clock.monotonic());
        for client in 0..self.clients.len() {
            if self.below(3) > 0 {
                self.poll(client);
            }
            if self.below(20) == 0 {
                self.retry(client);
            }
        }
    }

    fn settle(&mut self) {
        self.hub.set_hostility(Hostility::NONE);
        self.ledger.set_trouble(Trouble::NONE);
        // Past every delay, every hole's patience, and two comparisons of heads.
        for _ in 0..400 {
            for node in &mut self.nodes {
                (0..usize::from(SHARDS)).for_each(|shard| node.turn(shard));
            }
            self.clock.advance(40);
            self.hub.deliver_due(self.clock.monotonic());
            self.ledger.run_due(self.clock.monotonic());
            (0..self.clients.len()).for_each(|client| self.poll(client));
            (0..self.clients.len()).for_each(|client| self.retry(client));
        }
    }

    /// Whoever follows a channel has its end, though nobody has asked and the bus may have lost it without a hole to show.
    fn check_live(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            for channel in &client.live {
                let last = client.memory.seen[channel].last();
                assert_eq!(last, self.head(channel), "client {index} follows {channel} and lacks its end");
            }
        }
    }

    /// Of all shards.
    fn count(&self, field: fn(&ShardCounters) -> &Tally) -> u64 {
        let shards = self.nodes.iter().flat_map(|node| &node.shards);
        shards.map(|shard| field(&shard.counters).get()).sum()
    }

    /// Client 0 has seen everything.
    fn head(&self, channel: &'static str) -> u64 {
        self.clients[0].memory.seen[channel].last()
    }

    fn check(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            let Client { asked, wishes, unsure, reads, .. } = client;
            let waits = format!("{asked:?}, {wishes:?}, {unsure:?}, {reads:?}");
            assert!(client.is_idle(), "client {index} waits for answers: {waits}");
            for (channel, seen) in &client.memory.seen {
                assert_eq!(seen.last(), self.head(channel), "client {index} lacks the end of {channel}");
            }
            for (channel, shown) in &client.memory.shown {
                for (seq, shown) in shown {
                    let all = &self.clients[0].memory.shown[channel];
                    assert_eq!(Some(shown), all.get(seq), "client {index} shows {channel} {seq} otherwise");
                }
            }
        }
        let mut texts = HashSet::new();
        for ((channel, seq), text) in &self.history {
            assert!(texts.insert((channel, text)), "{text} is in {channel} twice, at {seq} as well");
        }
        self.check_acked();
        self.check_markers();
        self.check_folded();
    }

    /// Whoever reads the history now reads what those show who saw it happen.
    fn check_folded(&self) {
        let shared = &self.nodes[0].shared;
        for channel in CHANNELS {
            let name = Channel::new(channel).unwrap();
            let app = shared.access().apps().default.clone().unwrap();
            let rule = shared.access().apps().by_name[&app].rules.find(&name).cloned().unwrap();
            let (sender, receiver) = std::sync::mpsc::channel();
            let done = Box::new(move |page| sender.send(page).unwrap());
            let key = ChannelKey::new(app, name);
            shared.log(&rule.history).read(&key, Range::After(0), usize::MAX, done);
            self.ledger.run_due(self.clock.monotonic());
            let page = receiver.recv().unwrap().unwrap();
            let messages = page.messages.iter().filter(|message| message.kind.is_message());
            let read: BTreeMap<u64, Shown> =
                messages.map(|message| (message.seq(), Shown::of(message))).collect();
            assert_eq!(read, self.clients[0].memory.shown[channel], "{channel} reads otherwise");
        }
    }

    /// What was acknowledged is where it was said to be, and each sender's messages are in the order in which they were sent, once.
    fn check_acked(&self) {
        let mut order: HashMap<(&str, &str), (u64, u64)> = HashMap::new();
        let mut acked = self.acked.clone();
        acked.sort_by_key(|(channel, _, seq, _)| (*channel, *seq));
        for (channel, text, seq, once) in &acked {
            let known = self.history.get(&(channel, *seq));
            assert!(known.is_none_or(|known| known == text), "{text} is not at its place, {channel} {seq}");
            assert!(self.clients[0].memory.shown[channel].contains_key(seq), "{channel} {seq} is lost");
            let (sender, count) = text.split_once('/').unwrap();
            let count = count.parse().unwrap();
            if *once && let Some((before, at)) = order.insert((channel, sender), (count, *seq)) {
                assert!(before < count, "{text} at {seq} was sent after {before} at {at}");
            }
        }
    }

    /// Everybody has asked last of all.
    fn check_markers(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            for (channel, (read, unread)) in &client.memory.read {
                let newest_own =
                    client.memory.own.iter().filter(|(of, _)| of == channel).map(|(_, seq)| *seq).max();
                assert!(newest_own <= Some(*read), "client {index} has not read its own in {channel}");
                assert_eq!(
                    self.clients[0].unread(channel, *read),
                    *unread,
                    "client {index} in {channel} behind {read}"
                );
            }
            for ((channel, _), seq) in &client.memory.receipts {
                assert!(*seq <= self.head(channel), "client {index} was told too much");
            }
        }
    }
}

fn simulate(seed: u64, hostility: Hostility, trouble: Trouble) {
    sail(seed, hostility, trouble, 2);
}

fn sail(seed: u64, hostility: Hostility, trouble: Trouble, nodes: usize) -> World {
    let mut world = World::new(seed, hostility, nodes);
    for index in 0..6 {
        world.clients.push(Client::new(0, 0, Memory::default()));
        world.connect(index);
    }
    world.settle();
    // One who sees everything, so that the end knows what there was.
    for channel in CHANNELS {
        world.subscribe(0, channel);
    }
    world.settle();
    world.hub.set_hostility(hostility);
    world.ledger.set_trouble(trouble);
    for _ in 0..400 {
        let client = world.below(world.clients.len());
        let channel = CHANNELS[world.below(CHANNELS.len())];
        match world.below(12) {
            0 if client > 0 && world.clients[client].is_idle() => {
                // Gone without a word, and back somewhere else.
                world.connect(client);
            }
            1 | 2 if client > 0 && world.clients[client].asked.is_empty() => world.subscribe(client, channel),
            3 => world.read(client, channel),
            _ if trouble.contends => {
                // Everybody writes the same channels; now and then one node sees another ring.
                if world.below(40) == 0 {
                    let node = world.below(nodes);
                    world.nodes[node].turned.fetch_add(1, Ordering::Relaxed);
                }
                world.publish(client, channel);
                (0..world.clients.len()).for_each(|client| world.publish(client, CHANNELS[3 + client % 2]));
            }
            _ => world.publish(client, channel),
        }
        world.run_a_little();
    }
    world.settle();
    world.check_live();
    // Everybody resumes what was followed before, and so reaches the end.
    for client in 0..world.clients.len() {
        let channels: Vec<_> = world.clients[client].memory.seen.keys().copied().collect();
        channels.into_iter().for_each(|channel| world.subscribe(client, channel));
    }
    world.settle();
    for client in 0..world.clients.len() {
        CHANNELS.into_iter().for_each(|channel| world.read(client, channel));
    }
    world.settle();
    world.check();
    assert!(world.acked.len() > 100, "the simulation did something");
    world
}

/// A store for which several nodes compete.
const CONTENDED: Trouble = Trouble { max_delay_ms: 60, fails: 0.0, forgets: 0.0, contends: true };

#[test]
fn several_nodes_write_one_channel() {
    let hostile =
        Hostility { drop: 0.3, max_delay_ms: 120, reorder: true, gap_probability: 0.05, follow_delay_ms: 40 };
    let (mut forwarded, mut unanswered) = (0, 0);
    for seed in 0..6 {
        for hostility in [Hostility::NONE, hostile, Hostility { drop: 1.0, ..Hostility::NONE }] {
            println!("seed {seed}, {hostility:?}");
            let world = sail(seed, hostility, CONTENDED, 3);
            forwarded += world.count(|counters| &counters.guests);
            unanswered += world.count(|counters| &counters.unanswered);
        }
    }
    assert!(forwarded > 1_000 && unanswered > 50, "{forwarded} were forwarded, {unanswered} unanswered");
}

#[test]
fn several_nodes_write_one_channel_of_a_store_in_trouble() {
    let hostile =
        Hostility { drop: 0.2, max_delay_ms: 300, reorder: true, gap_probability: 0.05, follow_delay_ms: 40 };
    for seed in 0..6 {
        let trouble = Trouble { contends: true, max_delay_ms: 300, ..TROUBLE };
        sail(seed, hostile, trouble, 3);
        sail(seed, Hostility::NONE, Trouble { max_delay_ms: 3_000, ..trouble }, 3);
    }
}

/// A store in trouble: slower than publishers wait, failing, forgetting.
const TROUBLE: Trouble = Trouble { max_delay_ms: 400, fails: 0.1, forgets: 0.1, contends: false };

#[test]
fn one_order_and_no_hole_over_a_hostile_bus() {
    let hostility =
        Hostility { drop: 0.2, max_delay_ms: 120, reorder: true, gap_probability: 0.05, follow_delay_ms: 40 };
    for seed in 0..40 {
        simulate(seed, hostility, Trouble { max_delay_ms: 30, ..Trouble::NONE });
    }
}

#[test]
fn one_order_and_no_hole_when_the_bus_loses_everything() {
    let hostility =
        Hostility { drop: 1.0, max_delay_ms: 0, reorder: false, gap_probability: 0.0, follow_delay_ms: 0 };
    for seed in 0..10 {
        simulate(seed, hostility, Trouble { max_delay_ms: 30, ..Trouble::NONE });
    }
}

#[test]
fn one_order_and_no_hole_over_a_good_bus() {
    for seed in 0..10 {
        simulate(seed, Hostility::NONE, Trouble::NONE);
    }
}

#[test]
fn one_order_and_no_hole_over_a_store_in_trouble() {
    for seed in 0..20 {
        simulate(seed, Hostility::NONE, TROUBLE);
    }
}

#[test]
fn one_order_and_no_hole_over_a_hostile_bus_and_a_store_that_hangs() {
    let hostility =
        Hostility { drop: 0.2, max_delay_ms: 120, reorder: true, gap_probability: 0.05, follow_delay_ms: 40 };
    for seed in 0..20 {
        simulate(seed, hostility, Trouble { max_delay_ms: 4_000, ..TROUBLE });
    }
}
