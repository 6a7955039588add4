//! Nodes that can be killed, a store of presence that can be lost, and people who write down what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;
use xpush_core::access::Apps;
use xpush_core::ports::PortError;
use xpush_core::ports::access::{Access, AccessSink, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::ports::cluster::{ClusterSink, Standing, View};
use xpush_core::ports::hosts::{Host, Hosts};
use xpush_core::ports::message_log::{MessageLog, Range};
use xpush_core::ports::presence::Presence;
use xpush_core::{
    ChannelKey, Clock, Grant, History, Monotonic, NodeId, Permission, Permissions, Retention, Rule, Sender,
    User, Who,
};
use xpush_embedded::{LocalHosts, LocalOnline, MemoryLastSeen, MemoryLog, SoloCluster};
use xpush_testkit::{HostileHub, Hostility, ManualClock, MemoryLedger, OpenAccess, SeededEntropy, sample};

use crate::cluster::hosting::Hosting;
use crate::cluster::presences::Presences;
use crate::config::{Config, Heartbeat, Limits, Origins};
use crate::dialect::Wire;
use crate::fanout::inbox::Inbox;
use crate::front::address::Addresses;
use crate::node::{Parts, Shared};
use crate::session::online::GRACE_MS;
use crate::session::sid::Sid;
use crate::shard::Shard;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open};

const SHARDS: u16 = 2;
const NODES: usize = 3;
const STEP_MS: u64 = 100;

pub(super) struct World {
    pub(super) hub: HostileHub,
    pub(super) presence: Arc<Presences>,
    clock: Arc<ManualClock>,
    log: Arc<MemoryLog>,
    ledger: Arc<MemoryLedger>,
    online: Arc<LocalOnline>,
    pub(super) hosts: Arc<LocalHosts>,
    nodes: Vec<Option<Node>>,
    standing: Standing,
    /// Starts of nodes so far: each has an id of its own.
    starts: usize,
    people: Vec<Person>,
    acked: BTreeMap<u64, String>,
    published: u64,
    random: SeededEntropy,
}

struct Node {
    shared: Arc<Shared>,
    shards: Vec<Shard>,
}

/// Somebody who follows the channel, or did.
struct Person {
    user: Option<String>,
    /// Its name, if it is no guest.
    token: Option<&'static str>,
    /// Where, while there.
    at: Option<Place>,
    acks: u64,
    /// The newest position, and what stood where.
    seen: Option<(String, u64)>,
    heard: BTreeMap<u64, String>,
    /// Who is there, as one was told; `None` while that is unknown.
    present: Option<BTreeSet<String>>,
    told_left: BTreeSet<String>,
    /// Sent and not answered.
    asked: BTreeMap<u64, String>,
}

struct Place {
    node: usize,
    shard: u16,
    sid: Option<Sid>,
    poll: Option<oneshot::Receiver<Answer>>,
    subscribed: bool,
    since: Monotonic,
}

// === access ===

/// Guests as everywhere; a token is a user's name.
struct Named(OpenAccess);

impl Access for Named {
    fn apps(&self) -> Arc<Apps> {
        self.0.apps()
    }

    fn admit(&self, credentials: Credentials, done: Decided<Grant>) {
        let user = User::new(&credentials.token.unwrap_or_default()).unwrap();
        done(Ok(Grant {
            app: sample::app("demo"),
            sender: Sender { user, name: None },
            device: None,
            guest: false,
            roles: Vec::new(),
            capabilities: None,
            issued_at: 1,
            expires_at: None,
            login: None,
            info: None,
        }));
    }

    fn readmit(&self, _: &Grant, done: Decided<()>) {
        done(Ok(()));
    }

    fn permit(&self, channel: &ChannelKey, who: &Arc<Grant>, token: Option<&str>, done: Decided<Permission>) {
        self.0.permit(channel, who, token, done);
    }

    fn members(&self, channel: &ChannelKey, fresh: bool, done: Decided<Arc<[MemberOf]>>) {
        self.0.members(channel, fresh, done);
    }

    fn enrol(&self, channel: &ChannelKey, by: &Arc<Grant>, may: bool, change: Enrolment, done: Decided<()>) {
        self.0.enrol(channel, by, may, change, done);
    }

    fn watch(&self, _: Arc<dyn AccessSink>) {}
}

// === nodes ===

fn rule(pattern: &str) -> Rule {
    Rule {
        pattern: pattern.into(),
        history: History::Recent(Retention { count: 100_000, bytes: 100_000_000, age_ms: 1_000_000_000 }),
        presence: true,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    }
}

fn config(node: NodeId) -> Config {
    Config {
        node,
        shards: usize::from(SHARDS),
        limits: Limits { events_per_second: 0, handshake_ms: 1_000_000_000, ..Limits::default() },
        heartbeat: Heartbeat { interval_ms: 1_000_000_000, timeout_ms: 1_000 },
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
        peers: crate::PeerTrust::nobody(),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::default());
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let last_seen = Arc::new(MemoryLastSeen::default());
        let mut world = Self {
            hub: HostileHub::new(seed, Hostility::NONE, shared_clock.clone()),
            presence: Arc::new(Presences::new(clock.clone())),
            log: Arc::new(MemoryLog::new(seed, 1 << 30, shared_clock.clone())),
            ledger: Arc::new(MemoryLedger::new(seed, shared_clock.clone())),
            hosts: Arc::new(LocalHosts::new(shared_clock.clone())),
            online: Arc::new(LocalOnline::new(GRACE_MS, shared_clock, last_seen)),
            clock,
            nodes: (0..NODES).map(|_| None).collect(),
            standing: Standing::Live,
            starts: 0,
            people: Vec::new(),
            acked: BTreeMap::new(),
            published: 0,
            random: SeededEntropy::new(seed),
        };
        world.revive();
        world
    }

    /// Starts whatever node is dead, anew.
    pub(super) fn revive(&mut self) {
        for place in 0..NODES {
            if self.nodes[place].is_some() {
                continue;
            }
            self.starts += 1;
            let id = NodeId::new(&format!("n{place}-{}", self.starts)).unwrap();
            let (hub, bus_id) = (self.hub.clone(), id.clone());
            let parts = Parts {
                log: self.log.clone(),
                ledger: self.ledger.clone(),
                search: None,
                bus: Box::new(move |sink| hub.attach(bus_id, sink)),
                presence: self.presence.clone(),
                online: self.online.clone(),
                access: Arc::new(Named(OpenAccess::demo([rule("chat:*"), rule("$presence")]))),
                secret: [7; 32],
                cluster: Arc::new(SoloCluster::new()),
                views: None,
                hosting: Some(Hosting {
                    name: sample::name(&format!("n{place}")),
                    registry: self.hosts.clone(),
                }),
                clock: self.clock.clone(),
                entropy: || Box::new(SeededEntropy::new(7)),
            };
            let (shared, inboxes) = Shared::new(config(id), parts, (0..SHARDS).map(|_| None).collect());
            let seed = self.starts as u64 * 100;
            let shards = (0..SHARDS).zip(inboxes).map(|(index, inbox)| {
                let entropy = Box::new(SeededEntropy::new(seed + u64::from(index)));
                Shard::new(index, shared.clone(), inbox, entropy, None)
            });
            let shards = shards.collect();
            self.nodes[place] = Some(Node { shared, shards });
        }
        self.show(self.standing);
    }

    /// A node ends without a word; those who were connected with it know that they are not any more.
    pub(super) fn kill(&mut self, node: usize) {
        // The bus and the shared part hold each other.
        if let Some(node) = self.nodes[node].take() {
            self.hub.detach(node.shared.id());
        }
        for person in &mut self.people {
            if person.at.as_ref().is_some_and(|at| at.node == node) {
                person.at = None;
                person.asked.clear();
            }
        }
        self.show(self.standing);
    }

    pub(super) fn living(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    pub(super) fn a_living_node(&self, random: &mut SeededEntropy) -> usize {
        let living: Vec<usize> = (0..NODES).filter(|node| self.nodes[*node].is_some()).collect();
        living[usize::try_from(random.below(living.len() as u64)).unwrap()]
    }

    /// What the cluster tells from now on: who lives, when it can be reached; else, that it cannot.
    pub(super) fn show(&mut self, standing: Standing) {
        self.standing = standing;
        let nodes = self.nodes.iter().flatten().map(|node| sample::server(node.shared.id().as_str()));
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let view = Arc::new(View { standing, nodes: nodes.into(), ..View::default() });
        for node in self.nodes.iter().flatten() {
            node.shared.view(view.clone());
        }
    }
}

// === people ===

impl World {
    /// Somebody new, by this node; who it is.
    pub(super) fn come(&mut self, node: usize) -> usize {
        self.come_as(node, None)
    }

    /// One with a name, who is counted as online.
    pub(super) fn come_as(&mut self, node: usize, token: Option<&'static str>) -> usize {
        self.people.push(Person {
            user: None,
            token,
            at: None,
            acks: 0,
            seen: None,
            heard: BTreeMap::new(),
            present: None,
            told_left: BTreeSet::new(),
            asked: BTreeMap::new(),
        });
        let person = self.people.len() - 1;
        self.come_back(person, node);
        person
    }

    /// The same person by another connection, unless it has one.
    pub(super) fn come_back(&mut self, person: usize, node: usize) {
        if self.people[person].at.is_some() {
            return;
        }
        let Some(to) = &self.nodes[node] else { return };
        let shard = u16::try_from(self.random.below(u64::from(SHARDS))).unwrap();
        let (answer, answered) = oneshot::channel();
        let loopback = "127.0.0.1".parse().unwrap();
        let permit = Arc::new(Addresses::default()).admit(loopback, &to.shared.config.limits).unwrap();
        let by = By::Polling { base64: true, answer };
        let open = Open { wire: Wire::Engine4, query: "".into(), opening: None, permit, by };
        to.shared.mailbox(shard).post(Inbox::Open(Box::new(open)));
        self.people[person].present = None;
        self.people[person].at = Some(Place {
            node,
            shard,
            sid: None,
            poll: Some(answered),
            subscribed: false,
            since: self.clock.monotonic(),
        });
    }

    /// Closes its connection as one should.
    pub(super) fn go(&mut self, person: usize) {
        if self.people[person].at.as_ref().is_some_and(|at| at.subscribed) {
            self.post(person, "1".into());
            self.people[person].at = None;
            self.people[person].asked.clear();
        }
    }

    pub(super) fn publish(&mut self, person: usize) {
        if self.people[person].at.as_ref().is_none_or(|at| !at.subscribed) {
            return;
        }
        self.published += 1;
        let text = format!("m{}", self.published);
        let ack = self.ack(person);
        self.people[person].asked.insert(ack, text.clone());
        self.post(
            person,
            format!(r#"42{ack}["publish",{{"channel":"chat:a","data":"{text}","id":"{text}"}}]"#),
        );
    }

    pub(super) fn people(&self) -> usize {
        self.people.len()
    }

    pub(super) fn user(&self, person: usize) -> String {
        self.people[person].user.clone().unwrap()
    }

    fn ack(&mut self, person: usize) -> u64 {
        self.people[person].acks += 1;
        self.people[person].acks
    }

    fn post(&mut self, person: usize, packet: String) {
        let Some(at) = &self.people[person].at else { return };
        let (Some(sid), Some(node)) = (at.sid, &self.nodes[at.node]) else { return };
        let (answer, _) = oneshot::channel();
        let post = Post { sid, body: Bytes::from(packet), binary: false, answer };
        node.shared.mailbox(at.shard).post(Inbox::Post(Box::new(post)));
    }

    fn poll(&mut self, person: usize) {
        let Some(poll) = self.people[person].at.as_mut().and_then(|at| at.poll.as_mut()) else { return };
        let body = match poll.try_recv() {
            Ok(Answer::Payload(payload)) => String::from_utf8(payload.collect().0.to_vec()).unwrap(),
            Ok(other) => panic!("a poll was answered {other:?}"),
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => panic!("a poll was dropped"),
        };
        for packet in body.split('\u{1e}') {
            self.take(person, packet);
        }
        let Some(at) = &mut self.people[person].at else { return };
        let (Some(sid), Some(node)) = (at.sid, &self.nodes[at.node]) else { return };
        let (answer, answered) = oneshot::channel();
        at.poll = Some(answered);
        node.shared.mailbox(at.shard).post(Inbox::Poll(Poll { sid, answer }));
    }

    fn take(&mut self, person: usize, packet: &str) {
        if let Some(open) = packet.strip_prefix('0') {
            let open: Value = serde_json::from_str(open).unwrap();
            if let Some(at) = &mut self.people[person].at {
                at.sid = Sid::decode(open["sid"].as_str().unwrap());
            }
            let auth = match self.people[person].token {
                Some(token) => format!(r#"{{"token":"{token}"}}"#),
                None => format!(r#"{{"guest":"the secret of person {person}"}}"#),
            };
            self.post(person, format!("40{auth}"));
        } else if packet.starts_with("40") {
            let ack = self.ack(person);
            let since = match &self.people[person].seen {
                Some((epoch, seq)) => format!(r#","since":{{"epoch":"{epoch}","seq":{seq}}}"#),
                None => String::new(),
            };
            let command = format!(r#"42{ack}["subscribe",{{"channel":"chat:a","presence":true{since}}}]"#);
            self.post(person, command);
        } else if let Some(ack) = packet.strip_prefix("43") {
            let (id, body) = ack.split_at(ack.find('[').unwrap());
            let body: Value = serde_json::from_str(body).unwrap();
            self.answered(person, id.parse().unwrap(), &body[0]);
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            self.pushed(person, event[0].as_str().unwrap(), &event[1]);
        }
    }

    fn answered(&mut self, person: usize, id: u64, body: &Value) {
        let ok = body.get("ok").unwrap_or_else(|| panic!("{body}"));
        if let Some(text) = self.people[person].asked.remove(&id) {
            self.acked.insert(ok["seq"].as_u64().unwrap(), text);
            return;
        }
        let person = &mut self.people[person];
        assert!(person.seen.is_none() || ok["recovered"] == true, "{ok}");
        if person.seen.is_none() {
            person.seen = Some((ok["epoch"].as_str().unwrap().into(), ok["seq"].as_u64().unwrap()));
        }
        person.present = ok.get("presence").map(users);
        if let Some(at) = &mut person.at {
            at.subscribed = true;
        }
    }

    fn pushed(&mut self, person: usize, name: &str, push: &Value) {
        let told = &mut self.people[person];
        match name {
            "welcome" => told.user = Some(push["user"].as_str().unwrap().into()),
            "message" => {
                let seq = push["seq"].as_u64().unwrap();
                let seen = told.seen.as_mut().unwrap();
                assert_eq!(seq, seen.1 + 1, "a hole, a double or a swap");
                seen.1 = seq;
                told.heard.insert(seq, push["data"].as_str().unwrap().into());
            }
            "presence" if push["unknown"] == true => told.present = None,
            "presence" if push.get("users").is_some() => told.present = Some(users(push)),
            "presence" => {
                let names = |field: &str| users(&serde_json::json!({"users": push[field]}));
                let left = names("left");
                if let Some(present) = &mut told.present {
                    present.retain(|user| !left.contains(user));
                    present.extend(names("joined"));
                }
                told.told_left.extend(left.iter().cloned());
                self.judge_left(&left);
            }
            other => panic!("{other}: {push}"),
        }
    }

    /// Nobody who is there, and has been for a while, has left.
    fn judge_left(&self, left: &BTreeSet<String>) {
        let there = |person: &&Person| person.at.as_ref().is_some_and(|at| at.subscribed);
        for person in self.people.iter().filter(there) {
            let user = person.user.as_ref().unwrap();
            // Who came back a moment ago may be told of what it did before.
            let since = person.at.as_ref().map_or(0, |at| self.clock.monotonic().since(at.since));
            assert!(!left.contains(user) || since < 1_000, "{user} has not left");
        }
    }
}

fn users(list: &Value) -> BTreeSet<String> {
    let all = list["users"].as_array().into_iter().flatten();
    all.map(|user| user["user"].as_str().unwrap().to_owned()).collect()
}

// === time, and what must hold ===

impl World {
    pub(super) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(STEP_MS) {
            self.clock.advance(STEP_MS);
            for _ in 0..6 {
                for shard in self.nodes.iter_mut().flatten().flat_map(|node| &mut node.shards) {
                    shard.now = shard.node.clock().monotonic();
                    shard.take_inbox();
                    shard.take_timers();
                    shard.settle();
                }
                self.hub.deliver_due(self.clock.monotonic());
                (0..self.people.len()).for_each(|person| self.poll(person));
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.run_ms(6_000);
    }

    /// Everybody who is there.
    fn there(&self) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(|person| person.at.as_ref().is_some_and(|at| at.subscribed))
    }

    pub(super) fn told_left(&self) -> BTreeSet<String> {
        self.there().flat_map(|person| person.told_left.iter().cloned()).collect()
    }

    /// What stands in `$presence`: who became what, in order.
    pub(super) fn chronicle(&self) -> Vec<(String, String)> {
        let (sender, page) = std::sync::mpsc::channel();
        let key = sample::channel("$presence");
        self.log.read(
            &key,
            Range::After(0),
            1_000,
            Box::new(move |page| sender.send(page.unwrap()).unwrap()),
        );
        let messages = page.recv().unwrap().messages;
        let entry = |json: &Bytes| -> Value { serde_json::from_slice(json).unwrap() };
        let entries = messages.iter().map(|message| entry(&message.payload.json));
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
        entries.map(|entry| (text(&entry, "user"), text(&entry, "state"))).collect()
    }

    /// Which servers carry the channel, with how many connections, as the registry has it.
    pub(super) fn carried(&self) -> Vec<(String, u64)> {
        let (sender, found) = std::sync::mpsc::channel();
        let done =
            Box::new(move |found: Result<Vec<Vec<Host>>, PortError>| sender.send(found.unwrap()).unwrap());
        self.hosts.find(vec![sample::channel("chat:a")], done);
        let hosts = found.recv().unwrap().remove(0);
        hosts.into_iter().map(|host| (host.name.to_string(), host.connections)).collect()
    }

    pub(super) fn all_unknown(&self) -> bool {
        self.there().all(|person| person.present.is_none())
    }

    pub(super) fn known_to(&self, person: usize) -> Option<&BTreeSet<String>> {
        self.people[person].present.as_ref()
    }

    pub(super) fn knows(&self, person: usize, other: usize) -> bool {
        let user = self.user(other);
        self.known_to(person).is_some_and(|present| present.contains(&user))
    }

    pub(super) fn all_have_everything(&self) -> bool {
        let head = self.acked.last_key_value().map_or(0, |(seq, _)| *seq);
        self.there().all(|person| person.seen.as_ref().is_some_and(|seen| seen.1 >= head))
    }

    /// In the end everybody knows who is there, and has what was acknowledged.
    pub(super) fn check(&self) {
        let there: BTreeSet<String> = self.there().map(|person| person.user.clone().unwrap()).collect();
        let (sender, listed) = std::sync::mpsc::channel();
        let key = sample::channel("chat:a");
        self.presence.list(&key, 1_000, Box::new(move |roster| sender.send(roster.unwrap()).unwrap()));
        let kept = listed.recv().unwrap().members;
        let kept: BTreeSet<String> = kept.into_iter().map(|member| member.user.to_string()).collect();
        assert_eq!(kept, there, "the store has who is there");
        for person in self.there() {
            assert_eq!(person.present.as_ref(), Some(&there), "{:?} is told who is there", person.user);
        }
        assert!(self.all_have_everything());
        for person in &self.people {
            for (seq, text) in &person.heard {
                assert!(self.acked.get(seq).is_none_or(|acked| acked == text), "one order");
            }
        }
        for (seq, text) in &self.acked {
            for person in self.there() {
                assert!(person.heard.get(seq).is_none_or(|heard| heard == text), "{text} at {seq}");
            }
        }
    }
}
