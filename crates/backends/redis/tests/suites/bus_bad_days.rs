//! The bus on servers that die, stand still, refuse, and fail over.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};

use tokio::runtime::Runtime;
use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Signal, Topic};
use xpush_core::ports::message_log::Draft;
use xpush_core::{Message, Payload};
use xpush_redis::{Options, RedisBus};
use xpush_testkit::sample::{channel, draft, node};
use xpush_testkit::service::redis::{Redis, RedisCluster, RedisSentinel};
use xpush_testkit::service::{PATIENCE, wait_until};
use xpush_testkit::suite::answer;

struct Peer {
    bus: RedisBus,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    all: Mutex<Vec<Inbound>>,
    came: Condvar,
}

impl BusSink for Inbox {
    fn receive(&self, inbound: Inbound) {
        self.all.lock().expect("an inbox").push(inbound);
        self.came.notify_all();
    }
}

impl Inbox {
    /// Waits for what `wanted` finds in what came since `from`; says how much has come until then.
    fn waits(&self, from: usize, what: &str, wanted: impl Fn(&Inbound) -> bool) -> usize {
        let all = self.all.lock().expect("an inbox");
        let missing = |all: &mut Vec<Inbound>| !all[from..].iter().any(&wanted);
        let (all, waited) = self.came.wait_timeout_while(all, PATIENCE, missing).expect("an inbox");
        assert!(!waited.timed_out(), "no {what} in {:?}", &all[from..]);
        all.len()
    }

    fn len(&self) -> usize {
        self.all.lock().expect("an inbox").len()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn attach(runtime: &Runtime, options: Options, id: &str) -> Peer {
    let inbox = Arc::new(Inbox::default());
    let bus = RedisBus::attach(options, node(id), inbox.clone(), runtime.handle()).expect("good options");
    Peer { bus, inbox }
}

fn peers(runtime: &Runtime, options: &Options) -> [Peer; 2] {
    ["a", "b"].map(|id| {
        let peer = attach(runtime, options.clone(), id);
        runtime.block_on(peer.bus.ready(PATIENCE)).expect("a bus");
        peer
    })
}

fn options(urls: &[String]) -> Options {
    Options::new(urls, None).expect("good options")
}

fn topic(name: &str) -> Topic {
    Topic::Channel(channel(name))
}

fn follow(peer: &Peer, topic: &Topic) -> Result<(), PortError> {
    answer(|done| peer.bus.follow(topic.clone(), done))
}

/// A signal of about so many bytes.
fn signal(id: &str, bytes: usize) -> Event {
    let Draft { id, event, from, at, kind, .. } = draft("ann", id);
    let payload = Payload { json: format!("\"{}\"", "x".repeat(bytes)).into(), attachments: Vec::new() };
    let (channel, position, revision) = (channel("chat:a"), None, None);
    let message = Message { kind, channel, position, id, event, payload, from, at, revision };
    Event::Signal(Arc::new(Signal { message, ttl_ms: None }))
}

fn is_signal(id: &str) -> impl Fn(&Inbound) -> bool {
    move |inbound| matches!(inbound, Inbound::Envelope(Envelope { event: Event::Signal(signal), .. }) if signal.message.id.as_str() == id)
}

/// Publishes until it arrives.
fn hears(publisher: &Peer, follower: &Peer, topic: &Topic, id: &str) {
    let from = follower.inbox.len();
    wait_until("the bus carries again", || {
        publisher.bus.publish(topic, signal(id, 1));
        follower.inbox.all.lock().expect("an inbox")[from..].iter().any(is_signal(id))
    });
}

fn is_gap_of(topic: &Topic) -> impl Fn(&Inbound) -> bool {
    move |inbound| *inbound == Inbound::Gap(None) || *inbound == Inbound::Gap(Some(topic.clone()))
}

#[test]
fn a_server_that_dies_is_found_again_and_everything_is_followed_anew() {
    let (runtime, mut server) = (runtime(), Redis::start(&[]));
    let [a, b] = peers(&runtime, &options(&[server.url()]));
    let topics: Vec<Topic> = (0..1_200).map(|number| topic(&format!("chat:{number}"))).collect();
    topics.iter().for_each(|topic| b.bus.follow(topic.clone(), Box::new(|_| ())));
    hears(&a, &b, &topics[1_199], "before");
    server.kill();
    for peer in [&a, &b] {
        peer.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
    }
    // Nobody waits for it, and what is published is lost: the gap of everything covers it.
    assert!(follow(&b, &topic("chat:later")).is_err());
    a.bus.publish(&topics[7], signal("lost", 1));
    let from = b.inbox.len();
    server.restart();
    b.inbox.waits(from, "gap", |inbound| *inbound == Inbound::Gap(None));
    let at =
        |wanted: Inbound| b.inbox.all.lock().unwrap()[from..].iter().position(|inbound| *inbound == wanted);
    assert!(at(Inbound::Up).is_some() && at(Inbound::Up) < at(Inbound::Gap(None)));
    for topic in [&topics[0], &topics[600], &topics[1_199], &topic("chat:later")] {
        hears(&a, &b, topic, "after");
    }
    assert!(!b.inbox.all.lock().unwrap().iter().any(is_signal("lost")));
}

#[test]
fn a_server_that_stands_still_costs_nothing_but_what_it_does_not_carry() {
    let (runtime, server) = (runtime(), Redis::start(&[]));
    let options = Options { queue_bytes: 100_000, ..options(&[server.url()]) };
    let [a, b] = peers(&runtime, &options);
    let chat = topic("chat:a");
    follow(&b, &chat).unwrap();
    hears(&a, &b, &chat, "before");
    server.freeze();
    let began = std::time::Instant::now();
    // More than the queue, the window and the sockets' buffers hold.
    (0..20_000).for_each(|_| a.bus.publish(&chat, signal("flood", 1_000)));
    assert!(began.elapsed() < PATIENCE, "publishing never waits");
    assert!(a.bus.counters().lost.load(Ordering::Relaxed) > 10_000);
    assert!(follow(&b, &topic("chat:later")).is_err());
    a.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
    let from = b.inbox.len();
    server.thaw();
    b.inbox.waits(from, "gap", is_gap_of(&chat));
    hears(&a, &b, &chat, "after");
}

#[test]
fn more_than_the_queue_holds_is_a_gap_on_a_healthy_server() {
    let (runtime, server) = (runtime(), Redis::start(&[]));
    let options = Options { queue_bytes: 20_000, ..options(&[server.url()]) };
    let [a, b] = peers(&runtime, &options);
    let chat = topic("chat:a");
    follow(&b, &chat).unwrap();
    (0..2_000).for_each(|_| a.bus.publish(&chat, signal("flood", 10_000)));
    assert!(a.bus.counters().lost.load(Ordering::Relaxed) > 0);
    b.inbox.waits(0, "gap of the topic", |inbound| *inbound == Inbound::Gap(Some(chat.clone())));
    hears(&a, &b, &chat, "after");
    assert!(!b.inbox.all.lock().unwrap().contains(&Inbound::Down));
}

#[test]
fn whom_redis_cuts_off_for_being_slow_has_a_gap() {
    let (runtime, server) = (runtime(), Redis::start(&["client-output-buffer-limit pubsub 1mb 1mb 1"]));
    let [a, b] = peers(&runtime, &options(&[server.url()]));
    let chat = topic("chat:a");
    // One that never reads: as long as nobody else does, its thread stands still.
    let gate = Arc::new(Gate::default());
    let slow_runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sink = Arc::new(Slow { gate: gate.clone(), inbox: Inbox::default() });
    let slow = RedisBus::attach(options(&[server.url()]), node("slow"), sink.clone(), slow_runtime.handle())
        .unwrap();
    runtime.block_on(slow.ready(PATIENCE)).unwrap();
    answer(|done| slow.follow(chat.clone(), done)).unwrap();
    follow(&b, &chat).unwrap();
    hears(&a, &b, &chat, "before");
    wait_until("redis cuts it off", || {
        (0..100).for_each(|_| a.bus.publish(&chat, signal("flood", 20_000)));
        server.info("client_output_buffer_limit_disconnections").is_some_and(|count| count != "0")
            || clients_cut_off(&server)
    });
    gate.open();
    sink.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
    sink.inbox.waits(0, "gap", |inbound| *inbound == Inbound::Gap(None));
    hears(&a, &b, &chat, "after");
}

/// Redis 7.0 does not count them: there is one connection fewer.
fn clients_cut_off(server: &Redis) -> bool {
    let clients = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    clients.text().lines().filter(|line| line.contains("name=xpush-bus")).count() < 3
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().expect("a gate") = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().expect("a gate");
        drop(self.opened.wait_while(open, |open| !*open).expect("a gate"));
    }
}

struct Slow {
    gate: Arc<Gate>,
    inbox: Inbox,
}

impl BusSink for Slow {
    fn receive(&self, inbound: Inbound) {
        if matches!(inbound, Inbound::Envelope(_)) {
            self.gate.pass();
        } else {
            self.inbox.receive(inbound);
        }
    }
}

#[test]
fn a_full_server_carries_on() {
    let (runtime, server) = (runtime(), Redis::start(&["maxmemory 1", "maxmemory-policy noeviction"]));
    let [a, b] = peers(&runtime, &options(&[server.url()]));
    follow(&b, &topic("chat:a")).unwrap();
    hears(&a, &b, &topic("chat:a"), "full");
}

#[test]
fn who_may_not_is_told_why() {
    let runtime = runtime();
    let server = Redis::start(&[
        "requirepass hunter2",
        "user bob on >pw resetchannels &other:* ~* +@all",
        "user eve on >pw allchannels ~* +@connection",
    ]);
    let why = |user: &str| {
        let url = format!("redis://{user}{}", server.address());
        let peer = attach(&runtime, options(&[url]), "a");
        peer.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
        assert!(follow(&peer, &topic("chat:a")).is_err());
        let error = runtime.block_on(peer.bus.ready(std::time::Duration::ZERO)).unwrap_err().to_string();
        assert!(!error.contains("hunter"), "{error}");
        error
    };
    assert!(why("").contains("wants a password"));
    assert!(why(":hunter3@").contains("refuses this user and password"));
    assert!(why("bob:pw@").contains("does not permit"));
    assert!(why("eve:pw@").contains("does not permit"));
}

#[test]
fn an_old_server_is_refused() {
    let (runtime, listener) = (runtime(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let old = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 1_000];
        let _ = stream.read(&mut asked).unwrap();
        stream.write_all(b"%2\r\n+version\r\n+6.0.16\r\n+mode\r\n+standalone\r\n").unwrap();
        let _ = stream.read(&mut asked);
    });
    let peer = attach(&runtime, options(&[url]), "a");
    peer.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
    old.join().unwrap();
    let error = follow(&peer, &topic("chat:a")).unwrap_err();
    assert!(error.detail.contains("6.2 or newer") || error.detail.contains("down"), "{error}");
}

#[test]
fn a_failover_by_sentinel_is_followed() {
    let (runtime, mut watched) = (runtime(), RedisSentinel::start());
    let urls = [watched.sentinel.url()];
    let options = Options::new(&urls, Some(RedisSentinel::MASTER)).unwrap();
    let [a, b] = peers(&runtime, &options);
    let chat = topic("chat:a");
    follow(&b, &chat).unwrap();
    hears(&a, &b, &chat, "before");
    watched.master.kill();
    b.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
    watched.wait_for_failover();
    b.inbox.waits(0, "gap", |inbound| *inbound == Inbound::Gap(None));
    hears(&a, &b, &chat, "after");
}

#[test]
fn a_cluster_that_loses_a_master_is_up_again_with_its_replica() {
    let (runtime, mut cluster) = (runtime(), RedisCluster::start(3, 1));
    let [a, b] = peers(&runtime, &options(&cluster.urls()));
    let topics: Vec<Topic> = (0..30).map(|number| topic(&format!("chat:{number}"))).collect();
    for topic in &topics {
        follow(&b, topic).unwrap();
        hears(&a, &b, topic, "before");
    }
    cluster.nodes[0].kill();
    b.inbox.waits(0, "down", |inbound| *inbound == Inbound::Down);
    let from = b.inbox.len();
    b.inbox.waits(from, "gap", |inbound| *inbound == Inbound::Gap(None));
    topics.iter().for_each(|topic| hears(&a, &b, topic, "after"));
}

#[test]
fn a_channel_whose_slot_moves_is_followed_to_its_new_server() {
    let (runtime, cluster) = (runtime(), RedisCluster::start(3, 0));
    let [a, b] = peers(&runtime, &options(&cluster.urls()));
    let chat = topic("chat:a");
    follow(&b, &chat).unwrap();
    hears(&a, &b, &chat, "before");
    let slot = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", "xpush:bus:c:demo:chat:a"]);
    let ids: Vec<String> =
        cluster.nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"]).text().to_owned()).collect();
    let subscribers = |node: &Redis| {
        let answer = node.command(&["PUBSUB", "SHARDNUMSUB", "xpush:bus:c:demo:chat:a"]);
        matches!(answer, xpush_testkit::service::redis::Reply::Array(parts) if parts.last().is_some_and(|count| count.text() == "1"))
    };
    let from = cluster.nodes.iter().position(subscribers).expect("it is followed somewhere");
    let to = (from + 1) % 3;
    // The new owner first, so that the slot is never without one.
    for index in [to, from, 3 - from - to] {
        cluster.nodes[index].command(&["CLUSTER", "SETSLOT", slot.text(), "NODE", &ids[to]]);
    }
    b.inbox.waits(0, "gap", |inbound| *inbound == Inbound::Gap(Some(chat.clone())));
    hears(&a, &b, &chat, "after");
    assert!(subscribers(&cluster.nodes[to]));
}
