//! A whole cluster by seed: session servers that plan and assign, channel servers that carry, what they coordinate by, a bus and a store; clients who ask where to go,
//! go there, lose their server and go on elsewhere. Servers are killed and started anew, stand still and go on, are cut off from each other or from what they
//! coordinate by, and have clocks that are hours apart and run at different speeds.
//!
//! Real are the sessions, commands, homes and joins of a channel server, the planner, rings and assignment; simulated are time, the network, and what stands behind the
//! ports. The [`checker`](xpush_testkit::checker) judges what clients wrote down, as it does after runs of real processes.

mod client;
mod coordination;
mod placing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;
use xpush_core::ports::bus::BusSink;
use xpush_core::ports::cluster::{Cluster, Node, Roles};
use xpush_core::{Clock, Entropy, History, Monotonic, NodeId, Permissions, Retention, Rule, UnixMillis, Who};
use xpush_embedded::{LocalHosts, LocalOnline, LocalPresence, MemoryLastSeen, MemoryLog};
use xpush_testkit::checker::{self, Event, Line, Summary};
use xpush_testkit::{
    HostileHub, HostileLedger, Hostility, ManualClock, MemoryLedger, OpenAccess, SeededEntropy, Trouble,
    fleet, sample,
};

use self::client::Client;
use self::coordination::{Coordination, Link};
use self::placing::Placing;
use crate::cluster::hosting::Hosting;
use crate::config::{Config, Heartbeat, Limits, Origins};
use crate::dialect::Wire;
use crate::fanout::inbox::Inbox;
use crate::front::address::Addresses;
use crate::node::{Parts, Shared};
use crate::session::online::GRACE_MS;
use crate::shard::Shard;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open};

const SHARDS: u16 = 2;
const SESSION_SERVERS: usize = 2;
const CHANNEL_SERVERS: usize = 3;
const CHANNELS: [&str; 3] = ["log:a", "log:b", "log:c"];
const CLIENTS: usize = 9;
const STEP_MS: u64 = 50;
/// A client gives up on a server from which nothing has come for so long.
const SILENCE_MS: u64 = 5_000;
/// Heartbeats, so that silence means something.
const HEARTBEAT: Heartbeat = Heartbeat { interval_ms: 2_000, timeout_ms: 2_000 };

/// A server's own idea of time: a day that is hours off, and a speed of its own.
struct Skewed {
    truth: Arc<ManualClock>,
    wall_off: AtomicI64,
    /// In thousandths.
    speed: u64,
}

impl Clock for Skewed {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.truth.monotonic().0 * self.speed / 1_000)
    }

    fn wall(&self) -> UnixMillis {
        self.truth.wall().saturating_add_signed(self.wall_off.load(Ordering::Relaxed))
    }
}

/// A channel server.
struct Server {
    id: NodeId,
    shared: Arc<Shared>,
    shards: Vec<Shard>,
    link: Arc<Link>,
    clock: Arc<Skewed>,
    /// It stands still (SIGSTOP).
    stopped: bool,
}

struct World {
    random: SeededEntropy,
    clock: Arc<ManualClock>,
    hub: HostileHub,
    ledger: Arc<HostileLedger>,
    kept: Arc<MemoryLedger>,
    log: Arc<MemoryLog>,
    presence: Arc<LocalPresence>,
    online: Arc<LocalOnline>,
    hosts: Arc<LocalHosts>,
    coordination: Coordination,
    placing: Vec<Placing>,
    servers: Vec<Option<Server>>,
    starts: usize,
    clients: Vec<Client>,
    lines: Vec<Line>,
}

fn config(node: NodeId) -> Config {
    Config {
        node,
        shards: usize::from(SHARDS),
        limits: Limits { events_per_second: 0, ..Limits::default() },
        heartbeat: HEARTBEAT,
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
        peers: crate::PeerTrust::nobody(),
    }
}

fn rule(pattern: &str) -> Rule {
    Rule {
        pattern: pattern.into(),
        history: History::Durable(Retention::ENDLESS),
        presence: false,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::default());
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let kept = Arc::new(MemoryLedger::new(seed, shared_clock.clone()));
        let ledger = HostileLedger::new(seed, Trouble::NONE, kept.clone(), shared_clock.clone());
        let coordination = Coordination::new(seed, clock.clone());
        let placing =
            (0..SESSION_SERVERS).map(|number| Placing::start(&format!("session-{number}"), &coordination));
        let mut world = Self {
            random: SeededEntropy::new(seed ^ 0xc1a5_7e12),
            hub: HostileHub::new(seed, Hostility::NONE, shared_clock.clone()),
            log: Arc::new(MemoryLog::new(seed, 1 << 30, shared_clock.clone())),
            presence: Arc::new(LocalPresence::new()),
            online: Arc::new(LocalOnline::new(
                GRACE_MS,
                shared_clock.clone(),
                Arc::new(MemoryLastSeen::default()),
            )),
            hosts: Arc::new(LocalHosts::new(shared_clock)),
            placing: placing.collect(),
            coordination,
            ledger: Arc::new(ledger),
            kept,
            clock,
            servers: (0..CHANNEL_SERVERS).map(|_| None).collect(),
            starts: 0,
            clients: (0..CLIENTS)
                .map(|number| Client::new(number, CHANNELS[number % CHANNELS.len()]))
                .collect(),
            lines: Vec::new(),
        };
        world.start_all();
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    // === servers ===

    fn start_all(&mut self) {
        (0..CHANNEL_SERVERS).for_each(|place| self.start(place));
    }

    /// Starts the server of this place anew, unless it runs.
    fn start(&mut self, place: usize) {
        if self.servers[place].is_some() {
            return;
        }
        self.starts += 1;
        let id = sample::node(&format!("channel-{place}-{}", self.starts));
        let (link, name) = (self.coordination.link(), sample::name(&format!("channel-{place}")));
        let hours = i64::try_from(self.below(49)).unwrap() - 24;
        let clock = Arc::new(Skewed {
            truth: self.clock.clone(),
            wall_off: AtomicI64::new(hours * 3_600_000),
            speed: 990 + self.random.below(21),
        });
        let (hub, bus_id) = (self.hub.clone(), id.clone());
        let parts = Parts {
            log: self.log.clone(),
            ledger: self.ledger.clone(),
            search: None,
            bus: Box::new(move |sink: Arc<dyn BusSink>| hub.attach(bus_id, sink)),
            presence: self.presence.clone(),
            online: self.online.clone(),
            access: Arc::new(OpenAccess::demo([rule("log:*")])),
            secret: [7; 32],
            cluster: link.clone(),
            hosting: Some(Hosting { name: name.clone(), registry: self.hosts.clone() }),
            views: None,
            clock: clock.clone(),
            entropy: || Box::new(SeededEntropy::new(7)) as Box<dyn Entropy>,
        };
        let (shared, inboxes) = Shared::new(config(id.clone()), parts, (0..SHARDS).map(|_| None).collect());
        let node = Node {
            id: id.clone(),
            name,
            roles: Roles { session: false, channel: true },
            ..sample::server("channel")
        };
        link.join(node, shared.clone(), Box::new(|joined| joined.unwrap()));
        let seed = self.starts as u64 * 100;
        let shards = (0..SHARDS).zip(inboxes).map(|(index, inbox)| {
            let entropy = Box::new(SeededEntropy::new(seed + u64::from(index)));
            Shard::new(index, shared.clone(), inbox, entropy, None)
        });
        let shards = shards.collect();
        self.servers[place] = Some(Server { id, shared, shards, link, clock, stopped: false });
    }

    /// Ends it without a word. Its clients know at once: the system closes their sockets.
    fn kill(&mut self, place: usize) {
        let Some(server) = self.servers[place].take() else { return };
        server.link.end();
        self.hub.detach(&server.id);
        self.note("", Event::Killed);
        for client in 0..self.clients.len() {
            if self.clients[client].at.as_ref().is_some_and(|at| at.node == server.id) {
                self.lose(client);
            }
        }
    }

    fn fault(&mut self, what: String) {
        self.note("", Event::Fault { what: what.into() });
    }

    fn note(&mut self, client: &str, event: Event) {
        self.lines.push(Line { at: self.clock.monotonic().0 * 1_000, client: client.into(), event });
    }

    fn named(&self, id: &NodeId) -> Option<&Server> {
        self.servers.iter().flatten().find(|server| server.id == *id)
    }

    // === clients ===

    /// Asks a session server, and connects to the server that it names; to any other where that has let one down a moment ago.
    fn connect(&mut self, client: usize) {
        let place = self.below(SESSION_SERVERS);
        let assigned = self.placing[place].assign(&sample::channel(&self.clients[client].channel));
        let unreached = self.clients[client].unreached.clone();
        let Some(to) = assigned.filter(|to| Some(to) != unreached.as_ref()).or_else(|| self.anybody()) else {
            return self.rest(client);
        };
        let Some(server) = self.named(&to) else {
            // Refused: nobody listens there any more.
            self.clients[client].unreached = Some(to);
            return self.rest(client);
        };
        let shared = server.shared.clone();
        let shard = u16::try_from(self.below(usize::from(SHARDS))).unwrap();
        let (answer, answered) = oneshot::channel();
        let loopback = "127.0.0.1".parse().unwrap();
        let permit = Arc::new(Addresses::default()).admit(loopback, &shared.config.limits).unwrap();
        let by = By::Polling { base64: true, answer };
        let open = Open { wire: Wire::Engine4, query: "".into(), opening: None, permit, by };
        shared.mailbox(shard).post(Inbox::Open(Box::new(open)));
        self.clients[client].connects(to, shard, answered, self.clock.monotonic());
    }

    /// Some server that is there, as a balancer would choose.
    fn anybody(&mut self) -> Option<NodeId> {
        let place = self.below(CHANNEL_SERVERS);
        self.servers[place].as_ref().map(|server| server.id.clone())
    }

    fn rest(&mut self, client: usize) {
        let now = self.clock.monotonic();
        self.clients[client].rests_until = now.after(200 + self.random.below(800));
    }

    fn lose(&mut self, client: usize) {
        let until = self.clock.monotonic().after(self.random.below(1_000));
        self.clients[client].loses(until);
        self.take_notes(client);
    }

    fn take_notes(&mut self, client: usize) {
        let name = self.clients[client].name.clone();
        for event in self.clients[client].notes() {
            self.note(&name, event);
        }
    }

    fn turn_client(&mut self, client: usize) {
        let now = self.clock.monotonic();
        let Some(at) = &self.clients[client].at else {
            if self.clients[client].rests_until <= now {
                self.connect(client);
            }
            return;
        };
        if now.since(at.heard) > SILENCE_MS {
            return self.lose(client);
        }
        self.poll(client);
        for packet in self.clients[client].says(now) {
            self.post(client, packet);
        }
        self.take_notes(client);
    }

    fn poll(&mut self, client: usize) {
        let Some(poll) = self.clients[client].at.as_mut().and_then(|at| at.poll.as_mut()) else { return };
        let body = match poll.try_recv() {
            Ok(Answer::Payload(body, _)) => String::from_utf8(body.to_vec()).unwrap(),
            // The session is no more: it did not answer heartbeats while its server stood still.
            Ok(_) | Err(oneshot::error::TryRecvError::Closed) => return self.lose(client),
            Err(oneshot::error::TryRecvError::Empty) => return,
        };
        let now = self.clock.monotonic();
        for packet in body.split('\u{1e}') {
            match self.clients[client].takes(packet, now) {
                Ok(Some(answer)) => self.post(client, answer),
                Ok(None) => {}
                Err(()) => return self.lose(client),
            }
        }
        let Some(at) = &self.clients[client].at else { return };
        let (Some(sid), Some(server)) = (at.sid, self.named(&at.node)) else { return };
        let (answer, answered) = oneshot::channel();
        server.shared.mailbox(at.shard).post(Inbox::Poll(Poll { sid, answer }));
        if let Some(at) = &mut self.clients[client].at {
            at.poll = Some(answered);
        }
    }

    fn post(&self, client: usize, packet: String) {
        let Some(at) = &self.clients[client].at else { return };
        let (Some(sid), Some(server)) = (at.sid, self.named(&at.node)) else { return };
        let (answer, _) = oneshot::channel();
        let post = Post { sid, body: Bytes::from(packet), binary: false, answer };
        server.shared.mailbox(at.shard).post(Inbox::Post(Box::new(post)));
    }

    // === time ===

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(STEP_MS) {
            self.clock.advance(STEP_MS);
            self.coordination.turn();
            for placing in &mut self.placing {
                placing.turn(&self.clock);
            }
            for _ in 0..3 {
                for server in self.servers.iter_mut().flatten().filter(|server| !server.stopped) {
                    for shard in &mut server.shards {
                        shard.now = server.clock.monotonic();
                        shard.take_inbox();
                        shard.take_timers();
                        shard.settle();
                    }
                }
                self.hub.deliver_due(self.clock.monotonic());
                self.ledger.run_due(self.clock.monotonic());
            }
            (0..self.clients.len()).for_each(|client| self.turn_client(client));
        }
    }

    /// Something goes wrong, or comes right again.
    fn happens(&mut self) {
        let place = self.below(CHANNEL_SERVERS);
        let session = self.below(SESSION_SERVERS);
        let lucky = self.random.chance(0.5);
        match self.below(16) {
            0 | 1 => self.kill(place),
            2..=4 => self.start(place),
            5 | 6 => self.stop(place, true),
            7 | 8 => self.stop(place, false),
            9 => self.cut_off(place, !lucky),
            10 => self.placing[session].link.cut(lucky),
            11 => {
                self.fault(format!("the bus is {}", if lucky { "up" } else { "down" }));
                self.hub.set_up(lucky);
            }
            12 => {
                self.fault(format!("the bus is {}", if lucky { "good" } else { "bad" }));
                self.hub.set_hostility(if lucky { Hostility::NONE } else { BAD_BUS });
            }
            13 => {
                self.fault(format!("the store is {}", if lucky { "good" } else { "bad" }));
                self.ledger.set_trouble(if lucky { Trouble::NONE } else { BAD_STORE });
            }
            14 => self.jump(place),
            _ => {
                self.fault("coordination is out of reach".to_owned());
                for link in self.links() {
                    link.cut(true);
                }
            }
        }
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let servers = self.servers.iter().flatten().map(|server| server.link.clone());
        servers.chain(self.placing.iter().map(|placing| placing.link.clone())).collect()
    }

    fn stop(&mut self, place: usize, stopped: bool) {
        let Some(server) = &mut self.servers[place] else { return };
        server.stopped = stopped;
        server.link.stop(stopped);
        let what = format!("{} {}", server.id, if stopped { "stands still" } else { "goes on" });
        self.fault(what);
    }

    /// From what they coordinate by; the bus is another way.
    fn cut_off(&mut self, place: usize, cut: bool) {
        let Some(server) = &self.servers[place] else { return };
        server.link.cut(cut);
        let what = format!("{} is {}", server.id, if cut { "cut off" } else { "back" });
        self.fault(what);
    }

    /// Somebody sets its time of day.
    fn jump(&mut self, place: usize) {
        let hours = i64::try_from(self.below(49)).unwrap() - 24;
        if let Some(server) = &self.servers[place] {
            server.clock.wall_off.store(hours * 3_600_000, Ordering::Relaxed);
        }
    }

    /// Everything comes right.
    fn heal(&mut self) {
        for place in 0..CHANNEL_SERVERS {
            self.start(place);
            self.stop(place, false);
        }
        for link in self.links() {
            link.cut(false);
        }
        self.hub.set_up(true);
        self.hub.set_hostility(Hostility::NONE);
        self.ledger.set_trouble(Trouble::NONE);
    }

    /// All agree on who is there, and on where each channel is.
    fn check_placement(&mut self) {
        let (there, ring) = self.coordination.truth();
        let names = (0..CHANNEL_SERVERS).map(|place| sample::name(&format!("channel-{place}")));
        assert_eq!(there, names.collect::<BTreeSet<_>>(), "all are members again");
        let ring = ring.expect("a ring");
        let on_ring: BTreeSet<_> = ring.nodes().iter().map(|node| node.name.clone()).collect();
        assert_eq!(on_ring, there, "the ring has those who are there");
        for channel in CHANNELS {
            let key = sample::channel(channel);
            let assigned: BTreeSet<_> = self.placing.iter_mut().map(|placing| placing.assign(&key)).collect();
            assert_eq!(assigned.len(), 1, "{channel}: session servers disagree: {assigned:?}");
            let to = assigned.into_iter().flatten().next().expect("a server");
            assert!(self.named(&to).is_some(), "{to} lives");
        }
    }

    fn judge(&mut self) -> Summary {
        self.note("", Event::Finished);
        let channels: Vec<Arc<str>> = CHANNELS.into_iter().map(Arc::from).collect();
        let contents = fleet::contents(&*self.kept, "demo", &channels);
        checker::check(&self.lines, &contents).unwrap_or_else(|violation| panic!("{violation}"))
    }
}

const BAD_BUS: Hostility =
    Hostility { drop: 0.2, max_delay_ms: 150, reorder: true, gap_probability: 0.05, follow_delay_ms: 60 };
const BAD_STORE: Trouble = Trouble { max_delay_ms: 600, fails: 0.05, forgets: 0.05, contends: false };

/// One cluster, from its first start until everything has come right again.
fn sail(seed: u64) -> Summary {
    let mut world = World::new(seed);
    world.run_ms(8_000);
    for _ in 0..30 {
        world.happens();
        let ms = world.random.below(5_000);
        world.run_ms(ms);
    }
    world.heal();
    // Last words over a bus that loses much, so that some have nothing but the log to hear them by.
    world.hub.set_hostility(BAD_BUS);
    world.run_ms(12_000);
    for client in &mut world.clients {
        client.talks = false;
    }
    world.run_ms(2_000);
    world.hub.set_hostility(Hostility::NONE);
    world.run_ms(18_000);
    for client in &world.clients {
        assert!(client.is_settled(), "seed {seed}: {} waits for {}", client.name, client.waits_for());
    }
    world.check_placement();
    world.judge()
}

fn sail_all(seeds: std::ops::Range<u64>) {
    let mut all = Summary::default();
    for seed in seeds {
        println!("seed {seed}");
        let Summary { acked, kills, recovered, .. } = sail(seed);
        assert!(acked > 100, "seed {seed} has shown nothing");
        (all.acked, all.kills, all.recovered) =
            (all.acked + acked, all.kills + kills, all.recovered + recovered);
    }
    println!("{} acked, {} kills, {} recovered", all.acked, all.kills, all.recovered);
    assert!(all.kills > 0 && all.recovered > 0);
}

#[test]
fn whatever_happens_to_a_cluster_nothing_acknowledged_is_lost() {
    sail_all(0..50);
}

#[test]
#[ignore = "minutes: thousands of clusters"]
fn thousands_of_clusters() {
    sail_all(0..3_000);
}
