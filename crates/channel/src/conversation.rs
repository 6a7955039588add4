//! One node, a few people with names, and a store that does what the test says: what is asked, and what everybody hears.

mod backend;
mod online;
mod store;

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use xpush_core::access::{Actions, Apps};
use xpush_core::ports::access::{Access, AccessSink, Changed, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::ports::markers::Markers;
use xpush_core::{
    ChannelKey, Clock, Code, Device, Grant, History, NodeId, Permission, Permissions, Retention, Role, Rule,
    User, Who,
};
use xpush_embedded::{LocalHub, LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog, SoloCluster};
use xpush_testkit::{HostileLedger, ManualClock, MemoryLedger, OpenAccess, SeededEntropy, Trouble};

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

const SHARDS: u16 = 3;

/// Takes a token at its word: `USER`, `USER/DEVICE`; `back` is the app's own server. Whoever was added is a member, and members may everything.
struct NamedAccess {
    open: OpenAccess,
    /// New members' markers begin here.
    ledger: Arc<HostileLedger>,
    members: Mutex<HashMap<ChannelKey, Vec<User>>>,
    sink: Mutex<Option<Arc<dyn AccessSink>>>,
}

/// The node, and those who are connected with it.
struct Stage {
    clock: Arc<ManualClock>,
    ledger: Arc<HostileLedger>,
    shared: Arc<Shared>,
    shards: Vec<Shard>,
    people: Vec<Person>,
}

/// A connection.
struct Person {
    shard: u16,
    sid: Option<Sid>,
    poll: Option<oneshot::Receiver<Answer>>,
    acks: HashMap<u64, Value>,
    heard: Vec<(String, Value)>,
    asked: u64,
}

impl Access for NamedAccess {
    fn apps(&self) -> Arc<Apps> {
        self.open.apps()
    }

    fn admit(&self, credentials: Credentials, done: Decided<Grant>) {
        let token = credentials.token.unwrap_or_default();
        let (user, device) =
            token.split_once('/').map_or((&*token, None), |(user, device)| (user, Some(device)));
        let apps = self.apps();
        let roles = if user == "back" { vec![Role::new("server").unwrap()] } else { Vec::new() };
        done(Ok(Grant {
            app: apps.default.clone().unwrap(),
            sender: xpush_core::Sender { user: User::new(user).unwrap(), name: None },
            device: device.map(|device| Device::new(device).unwrap()),
            guest: false,
            roles,
            capabilities: None,
            issued_at: 1,
            expires_at: None,
            login: None,
            info: None,
        }));
    }

    fn permit(&self, channel: &ChannelKey, who: &Arc<Grant>, _: Option<&str>, done: Decided<Permission>) {
        let members = self.members.lock().unwrap();
        let belongs = members.get(channel).is_some_and(|members| members.contains(&who.sender.user));
        done(Ok(Permission::of(if belongs { Actions::ALL } else { Actions::NONE })));
    }

    fn members(&self, channel: &ChannelKey, _: bool, done: Decided<Arc<[MemberOf]>>) {
        let members = self.members.lock().unwrap();
        let member = |user: &User| MemberOf { user: user.clone(), role: None, muted: false };
        done(Ok(members.get(channel).into_iter().flatten().map(member).collect()));
    }

    fn enrol(
        &self,
        channel: &ChannelKey,
        by: &Arc<Grant>,
        may_invite: bool,
        change: Enrolment,
        done: Decided<()>,
    ) {
        let mut members = self.members.lock().unwrap();
        if !may_invite && members.contains_key(channel) {
            return done(Err(Code::Forbidden.into()));
        }
        let members = members.entry(channel.clone()).or_insert_with(|| vec![by.sender.user.clone()]);
        members.extend(change.add.clone());
        members.retain(|user| !change.remove.contains(user));
        for user in &change.add {
            self.ledger.begin(channel, user, Box::new(|_| ()));
        }
        if let Some(sink) = &*self.sink.lock().unwrap() {
            for user in [by.sender.user.clone()].into_iter().chain(change.add).chain(change.remove) {
                sink.changed(Changed::Permission(channel.clone(), user));
            }
        }
        done(Ok(()));
    }

    fn readmit(&self, _: &Grant, done: Decided<()>) {
        done(Ok(()));
    }

    fn watch(&self, sink: Arc<dyn AccessSink>) {
        *self.sink.lock().unwrap() = Some(sink);
    }
}

fn rules() -> [Rule; 4] {
    let rule = |pattern: &str, history, who| Rule {
        pattern: pattern.into(),
        history,
        presence: false,
        notify: pattern == "team:*",
        search: pattern == "team:*",
        permissions: Permissions::all(who),
    };
    let durable = History::Durable(Retention::ENDLESS);
    let mut presence = rule("$presence", durable, Who::Server);
    presence.permissions.presence = vec![Who::Users];
    [
        rule("log:*", durable, Who::Anyone),
        rule("team:*", durable, Who::Members),
        presence,
        rule("live:*", History::None, Who::Anyone),
    ]
}

impl Stage {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let time: Arc<dyn Clock> = clock.clone();
        let keeper = Arc::new(MemoryLedger::new(1, time.clone()));
        let ledger = Arc::new(HostileLedger::new(1, Trouble::NONE, keeper, time.clone()));
        let id = NodeId::new("node").unwrap();
        let (hub, bus_id) = (LocalHub::new(), id.clone());
        let parts = Parts {
            log: Arc::new(MemoryLog::new(1, 1 << 20, time.clone())),
            ledger: ledger.clone(),
            search: None,
            bus: Box::new(move |sink| Arc::new(hub.attach(bus_id, sink))),
            presence: Arc::new(LocalPresence::new()),
            online: Arc::new(LocalOnline::new(GRACE_MS, time.clone(), Arc::new(MemoryLastSeen::default()))),
            access: Arc::new(NamedAccess {
                open: OpenAccess::demo(rules()),
                ledger: ledger.clone(),
                members: Mutex::default(),
                sink: Mutex::default(),
            }),
            secret: [7; 32],
            cluster: Arc::new(SoloCluster::new()),
            hosting: None,
            views: None,
            clock: time,
            entropy: || Box::new(SeededEntropy::new(1)),
        };
        let config = Config {
            node: id,
            shards: usize::from(SHARDS),
            limits: Limits { events_per_second: 0, ..Limits::default() },
            heartbeat: Heartbeat { interval_ms: 1_000_000_000, timeout_ms: 1_000 },
            origins: Origins::default(),
            trusted_proxies: Vec::new(),
            peers: crate::PeerTrust::nobody(),
        };
        let (shared, inboxes) = Shared::new(config, parts, (0..SHARDS).map(|_| None).collect());
        let shard = |(index, inbox): (u16, Receiver<Inbox>)| {
            let entropy = Box::new(SeededEntropy::new(u64::from(index)));
            Shard::new(index, shared.clone(), inbox, entropy, None)
        };
        let shards = (0..SHARDS).zip(inboxes).map(shard).collect();
        Self { clock, ledger, shared, shards, people: Vec::new() }
    }

    /// Somebody connects and is welcomed.
    fn connect(&mut self, token: &str) -> usize {
        let shard = u16::try_from(self.people.len()).unwrap() % SHARDS;
        let (answer, poll) = oneshot::channel();
        let loopback = "127.0.0.1".parse().unwrap();
        let permit = Arc::new(Addresses::default()).admit(loopback, &self.shared.config.limits).unwrap();
        let by = By::Polling { base64: true, answer };
        let open = Open { wire: Wire::Engine4, query: "".into(), opening: None, permit, by };
        self.shared.mailbox(shard).post(Inbox::Open(Box::new(open)));
        let poll = Some(poll);
        self.people.push(Person {
            shard,
            sid: None,
            poll,
            acks: HashMap::new(),
            heard: Vec::new(),
            asked: 0,
        });
        let person = self.people.len() - 1;
        self.go_on();
        self.post(person, format!("40{}", json!({ "token": token })));
        self.go_on();
        assert_eq!(self.heard(person, "welcome").len(), 1, "{token} is welcomed");
        person
    }

    fn post(&mut self, person: usize, packet: String) {
        let person = &self.people[person];
        let (answer, _) = oneshot::channel();
        let sid = person.sid.expect("it is open");
        let post = Post { sid, body: Bytes::from(packet), binary: false, answer };
        self.shared.mailbox(person.shard).post(Inbox::Post(Box::new(post)));
    }

    /// Sends a command; its answer is at [`Stage::answer`] of what this gives.
    fn ask(&mut self, person: usize, command: &str, object: Value) -> (usize, u64) {
        self.people[person].asked += 1;
        let id = self.people[person].asked;
        self.post(person, format!("42{id}{}", json!([command, object])));
        self.go_on();
        (person, id)
    }

    fn answer(&self, (person, id): (usize, u64)) -> Option<&Value> {
        self.people[person].acks.get(&id)
    }

    /// Asks, and gets `ok` at once.
    fn ok(&mut self, person: usize, command: &str, object: Value) -> Value {
        let asked = self.ask(person, command, object);
        let answer = self.answer(asked).expect("an answer at once");
        answer.get("ok").unwrap_or_else(|| panic!("{command}: {answer}")).clone()
    }

    /// Asks, and gets an error's code.
    fn code(&self, asked: (usize, u64)) -> Option<&str> {
        self.answer(asked)?["error"]["code"].as_str()
    }

    /// The pushes of this name that have come.
    fn heard(&self, person: usize, name: &str) -> Vec<&Value> {
        let heard = self.people[person].heard.iter().filter(|(heard, _)| heard == name);
        heard.map(|(_, object)| object).collect()
    }

    /// Everything that can happen at this moment happens.
    fn go_on(&mut self) {
        for _ in 0..12 {
            self.ledger.run_due(self.clock.monotonic());
            for shard in &mut self.shards {
                shard.now = self.clock.monotonic();
                shard.take_inbox();
                shard.take_timers();
                shard.settle();
            }
            (0..self.people.len()).for_each(|person| self.poll(person));
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.clock.advance(10);
            self.go_on();
        }
    }

    fn poll(&mut self, person: usize) {
        let Some(Ok(Answer::Payload(payload))) =
            self.people[person].poll.as_mut().map(|poll| poll.try_recv())
        else {
            return;
        };
        let person = &mut self.people[person];
        person.poll = None;
        for packet in String::from_utf8(payload.collect().0.to_vec()).unwrap().split('\u{1e}') {
            person.take(packet);
        }
        if let Some(sid) = person.sid {
            let (answer, poll) = oneshot::channel();
            person.poll = Some(poll);
            self.shared.mailbox(person.shard).post(Inbox::Poll(Poll { sid, answer }));
        }
    }

    /// Goes without a word.
    fn vanish(&mut self, person: usize) {
        self.post(person, "1".to_owned());
        self.people[person].sid = None;
        self.go_on();
    }
}

impl Person {
    fn take(&mut self, packet: &str) {
        if let Some(open) = packet.strip_prefix('0') {
            let open: Value = serde_json::from_str(open).unwrap();
            self.sid = Sid::decode(open["sid"].as_str().unwrap());
        } else if let Some((kind, rest)) = packet.split_once("/channel,") {
            // XPUSH 0.1's namespace: what comes there is told as it is.
            self.heard.push((kind.to_owned(), Value::String(rest.to_owned())));
        } else if let Some(ack) = packet.strip_prefix("43") {
            let (id, body) = ack.split_at(ack.find('[').unwrap());
            let body: Value = serde_json::from_str(body).unwrap();
            let again = self.acks.insert(id.parse().unwrap(), body[0].clone());
            assert!(again.is_none(), "{packet} is a second answer");
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            self.heard.push((event[0].as_str().unwrap().to_owned(), event[1].clone()));
        } else if packet == "1" {
            self.sid = None;
            self.heard.push(("closed".to_owned(), Value::Null));
        }
    }
}

#[test]
fn an_old_client_is_connected_when_it_follows_its_channel() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ledger.hold();
    stage.post(ann, format!("40/channel,{}", json!({"A": "demo", "C": "log:a", "U": "ann"})));
    stage.go_on();
    assert!(stage.heard(ann, "40").is_empty(), "what happens now it would not be told");
    stage.ledger.let_go();
    stage.go_on();
    assert_eq!(stage.heard(ann, "40").len(), 1);
    stage.post(bob, format!("40/channel,{}", json!({"A": "demo", "C": "log:a", "U": "bob"})));
    stage.go_on();
    let came = |push: &&Value| push.as_str().unwrap().contains(r#""U":"bob""#);
    assert_eq!(stage.heard(ann, "42").into_iter().filter(came).count(), 1);
    stage.ledger.hold();
    stage.post(bob, "41/channel,".to_owned());
    stage.post(bob, format!("40/channel,{}", json!({"A": "demo", "C": "log:b", "U": "bob"})));
    stage.pass(3_000);
    assert_eq!(stage.heard(bob, "44").len(), 1, "the store does not answer");
}

#[test]
fn edits_and_deletions_reach_everybody_and_only_their_authors_make_them() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ok(ann, "publish", json!({"channel": "log:a", "data": "helo"}));
    let edit = json!({"channel": "log:a", "seq": 1, "data": "hello", "id": "e"});
    let edited = stage.ok(ann, "edit", edit.clone());
    assert_eq!((&edited["seq"], &edited["target"], &edited["id"]), (&json!(2), &json!(1), &json!("e")));
    assert_eq!(stage.ok(ann, "edit", edit)["seq"], 2, "a retry has its place already");
    let (push, by) = (stage.heard(bob, "edit")[0].clone(), json!({"user": "ann"}));
    assert_eq!((&push["target"], &push["data"], &push["from"]), (&json!(1), &json!("hello"), &by));
    let foreign = stage.ask(bob, "edit", json!({"channel": "log:a", "seq": 1, "data": "!"}));
    assert_eq!(stage.code(foreign), Some("forbidden"));
    stage.ok(ann, "delete", json!({"channel": "log:a", "seq": 1}));
    assert_eq!(stage.heard(bob, "delete")[0]["target"], 1);
    assert!(stage.heard(bob, "delete")[0].get("data").is_none());
    let history = stage.ok(bob, "history", json!({"channel": "log:a"}));
    assert_eq!(history["messages"][0]["data"], Value::Null);
    assert_eq!(history["messages"][0]["deleted"]["seq"], 3);
    assert_eq!(history["messages"][1]["target"], 1, "a change is told by its target");
    let late = stage.ask(ann, "edit", json!({"channel": "log:a", "seq": 1, "data": "?"}));
    assert_eq!(stage.code(late), Some("unknown_message"));
}

#[test]
fn a_users_own_channel_is_written_by_others_and_read_by_the_user() {
    let mut stage = Stage::new();
    let (ann, back) = (stage.connect("ann/phone"), stage.connect("back"));
    let none = stage.ask(back, "publish", json!({"user": "ann", "data": 1}));
    assert_eq!(stage.code(none), Some("forbidden"), "no rule covers it");
    for bad in [json!({"user": "ann", "channel": "log:a"}), json!({"device": "phone"}), json!({"user": ""})] {
        let mut object = bad;
        object["data"] = json!(1);
        let refused = stage.ask(ann, "publish", object);
        assert_eq!(stage.code(refused), Some("bad_field"));
    }
    let system = stage.ask(back, "publish", json!({"channel": "$presence", "data": 1}));
    assert_eq!(stage.code(system), Some("forbidden"), "nobody but the server itself writes there");
}

#[test]
fn a_marker_moves_forward_for_all_devices_and_is_told_ten_times_a_second_at_most() {
    let mut stage = Stage::new();
    let (ann, phone, bob) = (stage.connect("ann"), stage.connect("ann/phone"), stage.connect("bob"));
    let fresh = stage.ok(ann, "subscribe", json!({"channel": "log:a"}));
    assert_eq!((&fresh["read"], &fresh["unread"]), (&json!(0), &json!(0)));
    let receipts = stage.ok(bob, "subscribe", json!({"channel": "log:a", "receipts": true}));
    assert_eq!(receipts["receipts"].as_array().unwrap().len(), 2, "{receipts}");
    for count in 0..100 {
        stage.ok(bob, "publish", json!({"channel": "log:a", "data": count, "silent": count < 10}));
    }
    for seq in 1..=100 {
        let read = stage.ok(ann, "read", json!({"channel": "log:a", "seq": seq}));
        assert_eq!((&read["read"], &read["unread"]), (&json!(seq), &json!((100 - seq).min(90))));
        stage.pass(10);
    }
    stage.pass(200);
    let told = stage.heard(bob, "read");
    assert!((9..=12).contains(&told.len()), "{} pushes", told.len());
    assert_eq!((&told.last().unwrap()["seq"], &told.last().unwrap()["user"]), (&json!(100), &json!("ann")));
    assert_eq!(stage.heard(phone, "read").len(), stage.heard(bob, "read").len(), "the user's other device");
    assert!(stage.heard(ann, "read").is_empty(), "the one that has read has its answers");
    let back = stage.ok(phone, "delivered", json!({"channel": "log:a", "seq": 5}));
    assert_eq!((&back["read"], &back["delivered"]), (&json!(100), &json!(100)));
    stage.pass(200);
    assert!(stage.heard(bob, "delivered").is_empty(), "what does not move is not told");
}

#[test]
fn conversations_are_listed_page_by_page() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    for index in 0..5 {
        stage.ok(ann, "subscribe", json!({"channel": format!("log:{index}")}));
        stage.pass(10);
        stage.ok(bob, "publish", json!({"channel": format!("log:{index}"), "data": index}));
    }
    let mut listed = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = stage.ok(ann, "channels", json!({"limit": 2, "after": after}));
        for channel in page["channels"].as_array().unwrap() {
            assert_eq!((&channel["unread"], &channel["seq"]), (&json!(1), &json!(1)), "{channel}");
            listed.push(channel["last"]["data"].as_u64().unwrap());
        }
        after = page["after"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(listed, [4, 3, 2, 1, 0]);
}

#[test]
fn members_hear_of_what_they_do_not_follow_once_a_second() {
    let mut stage = Stage::new();
    let people = ["ann", "bob", "cid", "dan"].map(|name| stage.connect(name));
    let [ann, bob, cid, dan] = people;
    let outside = stage.ask(bob, "publish", json!({"channel": "team:x", "data": 0}));
    assert_eq!(stage.code(outside), Some("forbidden"));
    let members = stage.ok(ann, "members", json!({"channel": "team:x", "add": ["bob", "cid"]}));
    assert_eq!(members["members"].as_array().unwrap().len(), 3);
    stage.ok(cid, "subscribe", json!({"channel": "team:x"}));
    for count in 1..=20 {
        stage.ok(ann, "publish", json!({"channel": "team:x", "data": count}));
        stage.pass(50);
    }
    stage.pass(1_000);
    let heard: Vec<_> = stage.heard(bob, "notification").into_iter().cloned().collect();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!((&heard[0]["unread"], &heard[0]["message"]["data"]), (&json!(1), &json!(1)));
    assert_eq!((&heard[1]["unread"], &heard[1]["message"]["data"]), (&json!(20), &json!(20)));
    for (person, why) in [(ann, "the sender"), (cid, "who follows"), (dan, "no member")] {
        assert!(stage.heard(person, "notification").is_empty(), "{why}");
    }
    stage.ok(ann, "publish", json!({"channel": "team:x", "data": 21, "silent": true}));
    stage.ok(ann, "edit", json!({"channel": "team:x", "seq": 1, "data": 22}));
    stage.pass(3_000);
    assert_eq!(stage.heard(bob, "notification").len(), 2, "silent messages and edits are no news");
    stage.ok(ann, "members", json!({"channel": "team:x", "remove": ["bob"]}));
    stage.ok(ann, "publish", json!({"channel": "team:x", "data": 23}));
    assert_eq!(stage.heard(bob, "notification").len(), 2, "a member no more");
}

#[test]
fn a_notification_that_waits_shows_what_stands_when_it_is_told() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(ann, "members", json!({"channel": "team:x", "add": ["bob"]}));
    let say = |stage: &mut Stage, data: &str| {
        let said = stage.ok(ann, "publish", json!({"channel": "team:x", "data": data}));
        said["seq"].as_u64().unwrap()
    };
    let told = |stage: &Stage| {
        let heard = stage.heard(bob, "notification");
        heard.iter().map(|one| one["message"]["data"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    say(&mut stage, "one");
    let seq = say(&mut stage, "helo");
    let edited = stage.ok(ann, "edit", json!({"channel": "team:x", "seq": seq, "data": "hello"}));
    stage.pass(3_000);
    assert_eq!(told(&stage), ["one", "hello"]);
    assert_eq!(stage.heard(bob, "notification")[1]["message"]["edited"]["seq"], edited["seq"]);
    // What was told before it still stands.
    say(&mut stage, "two");
    say(&mut stage, "three");
    let seq = say(&mut stage, "slip");
    stage.ok(ann, "delete", json!({"channel": "team:x", "seq": seq}));
    stage.pass(3_000);
    assert_eq!(told(&stage)[2..], ["two", "three"]);
    say(&mut stage, "four");
    let seq = say(&mut stage, "slip");
    stage.ok(ann, "delete", json!({"channel": "team:x", "seq": seq}));
    stage.pass(3_000);
    assert_eq!(told(&stage)[4..], ["four"]);
    say(&mut stage, "five");
    assert_eq!(told(&stage)[5..], ["five"]);
}

#[test]
fn a_signal_says_how_long_it_holds() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "live:a"}));
    stage.ok(ann, "signal", json!({"channel": "live:a", "event": "typing", "ttl": 5000}));
    stage.ok(ann, "signal", json!({"channel": "live:a", "event": "typing"}));
    assert_eq!(stage.heard(bob, "signal")[0]["ttl"], 5000);
    assert!(stage.heard(bob, "signal")[1].get("ttl").is_none());
    let long = stage.ask(ann, "signal", json!({"channel": "live:a", "ttl": 60_001}));
    assert_eq!(stage.code(long), Some("bad_field"));
}
