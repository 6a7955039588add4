//! A channel server, and what can become of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use xpush_core::ports::bus::BusSink;
use xpush_core::ports::cluster::{Cluster, Node, Roles, Standing};
use xpush_core::{
    Clock, Entropy, History, Monotonic, NodeId, NodeName, Permissions, Retention, Rule, UnixMillis, Who,
};
use xpush_session::placement::ByRing;
use xpush_testkit::checker::Event;
use xpush_testkit::{ManualClock, OpenAccess, SeededEntropy, sample};

use super::coordination::Link;
use super::world::{CHANNEL_SERVERS, World};
use crate::cluster::hosting::Hosting;
use crate::config::{Config, Heartbeat, Limits, Origins};
use crate::fanout::inbox::Inbox;
use crate::node::{Parts, Shared};
use crate::shard::Shard;

pub(super) const SHARDS: u16 = 2;
/// Heartbeats, so that silence means something.
const HEARTBEAT: Heartbeat = Heartbeat { interval_ms: 2_000, timeout_ms: 2_000 };
/// A server that is to end has so long, as in earnest.
const DRAIN_MS: u64 = 8_000;
/// Within which the clients of a server that is to be emptied are told.
const EMPTYING_MS: u64 = 30_000;
/// So long after a server was out of sight others may still clear away what it has entered.
const DOUBTED_MS: u64 = 20_000;
/// What is kept of a channel that forgets.
const FEW: usize = 40;

/// A server's own idea of time: a day that is hours off, and a speed of its own.
pub(super) struct Skewed {
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
pub(super) struct Server {
    pub(super) id: NodeId,
    name: NodeName,
    pub(super) shared: Arc<Shared>,
    shards: Vec<Shard>,
    pub(super) link: Arc<Link>,
    clock: Arc<Skewed>,
    placement: ByRing,
    /// It stands still (SIGSTOP).
    pub(super) stopped: bool,
    /// It does not reach what they coordinate by.
    cut: bool,
    /// An operator wants it empty, as it has heard.
    emptied: bool,
    /// It drains, and ends at this moment at the latest.
    ends: Option<Monotonic>,
    /// Until then others may clear away what they have seen no owner of.
    doubted: Monotonic,
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

fn rule(pattern: &str, retention: Retention) -> Rule {
    Rule {
        pattern: pattern.into(),
        history: History::Durable(retention),
        presence: true,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Anyone),
    }
}

impl Server {
    /// Lets it do what there is to do.
    pub(super) fn turn(&mut self) {
        for shard in &mut self.shards {
            shard.now = self.clock.monotonic();
            shard.take_inbox();
            shard.take_timers();
            shard.settle();
        }
    }

    /// As `follow_wishes` of the role does it.
    pub(super) fn follow_wishes(&mut self) {
        let view = self.placement.views().borrow().clone();
        let wanted = match view.standing {
            Standing::Live => view.draining.contains(&self.name),
            Standing::Frozen | Standing::Expired => self.emptied,
        };
        if wanted != self.emptied && self.ends.is_none() {
            self.emptied = wanted;
            self.shared.empty(wanted, EMPTYING_MS);
        }
    }

    /// Whether whoever connects is turned away.
    pub(super) fn refuses(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Whether others may believe that it is dead.
    pub(super) fn is_doubted(&self, now: Monotonic) -> bool {
        self.stopped || self.cut || self.doubted > now
    }
}

impl World {
    pub(super) fn start_all(&mut self) {
        (0..CHANNEL_SERVERS).for_each(|place| self.start(place));
    }

    /// Starts the server of this place anew, unless it runs.
    pub(super) fn start(&mut self, place: usize) {
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
        let (hub, bus_id, placement) = (self.hub.clone(), id.clone(), ByRing::new(self.hosts.clone()));
        let few = Retention { count: FEW, ..Retention::ENDLESS };
        let rules = [rule("few:*", few), rule("log:*", Retention::ENDLESS)];
        let parts = Parts {
            log: self.log.clone(),
            ledger: self.ledger.clone(),
            search: None,
            bus: Box::new(move |sink: Arc<dyn BusSink>| hub.attach(bus_id, sink)),
            presence: self.presence.clone(),
            online: self.online.clone(),
            access: Arc::new(OpenAccess::demo(rules)),
            secret: [7; 32],
            cluster: link.clone(),
            hosting: Some(Hosting { name: name.clone(), registry: self.hosts.clone() }),
            views: Some(Arc::new(placement.clone())),
            clock: clock.clone(),
            entropy: || Box::new(SeededEntropy::new(7)) as Box<dyn Entropy>,
        };
        let (shared, inboxes) = Shared::new(config(id.clone()), parts, (0..SHARDS).map(|_| None).collect());
        let (by, here) = (placement.clone(), id.clone());
        shared.assign_by(Arc::new(move |channel| by.elsewhere(channel, &here)));
        let by = placement.clone();
        shared.host_by(Arc::new(move |channel, accept| by.host(channel, accept)));
        let node = Node {
            id: id.clone(),
            name: name.clone(),
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
        self.servers[place] = Some(Server {
            id,
            name,
            shared,
            shards,
            link,
            clock,
            placement,
            stopped: false,
            cut: false,
            emptied: false,
            ends: None,
            doubted: Monotonic(0),
        });
    }

    /// Ends it without a word. Its clients know at once: the system closes their sockets.
    pub(super) fn kill(&mut self, place: usize) {
        let Some(server) = self.servers[place].take() else { return };
        server.link.end();
        self.hub.detach(&server.id);
        self.note("", Event::Killed);
        self.lose_all(&server.id);
    }

    /// Asks it to end (SIGTERM).
    pub(super) fn drain(&mut self, place: usize) {
        let ends = self.now().after(DRAIN_MS);
        let Some(server) = &mut self.servers[place] else { return };
        if server.ends.is_none() {
            server.ends = Some(ends);
            server.shared.begin_drain(DRAIN_MS);
            let what = format!("{} is to end", server.id);
            self.fault(what);
        }
    }

    /// Those that drain end when they are empty, or when their time is over.
    pub(super) fn end_drained(&mut self) {
        let now = self.now();
        for place in 0..CHANNEL_SERVERS {
            let is_over = |server: &Server| {
                !server.stopped && server.ends.is_some_and(|ends| now >= ends || server.shared.is_empty())
            };
            if !self.servers[place].as_ref().is_some_and(is_over) {
                continue;
            }
            let Some(mut server) = self.servers[place].take() else { continue };
            if let Some(hosting) = server.shared.hosting() {
                hosting.forget();
            }
            server.link.leave(&server.id, Box::new(|_| ()));
            server.shared.post_all(|| Inbox::Stop);
            server.turn();
            server.link.end();
            self.hub.detach(&server.id);
            self.lose_all(&server.id);
        }
    }

    /// An operator wants it empty, or not any more.
    pub(super) fn wish_empty(&mut self, place: usize, wanted: bool) {
        let name = sample::name(&format!("channel-{place}"));
        self.placing[0].link.set_draining(&name, wanted, Box::new(|_| ()));
        self.fault(format!("{name} is {}", if wanted { "to be emptied" } else { "wanted again" }));
    }

    pub(super) fn stop(&mut self, place: usize, stopped: bool) {
        let doubted = self.now().after(DOUBTED_MS);
        let Some(server) = &mut self.servers[place] else { return };
        (server.stopped, server.doubted) = (stopped, doubted);
        server.link.stop(stopped);
        let what = format!("{} {}", server.id, if stopped { "stands still" } else { "goes on" });
        self.fault(what);
    }

    /// From what they coordinate by; the bus is another way.
    pub(super) fn cut_off(&mut self, place: usize, cut: bool) {
        let doubted = self.now().after(DOUBTED_MS);
        let Some(server) = &mut self.servers[place] else { return };
        (server.cut, server.doubted) = (cut, doubted);
        server.link.cut(cut);
        let what = format!("{} is {}", server.id, if cut { "cut off" } else { "back" });
        self.fault(what);
    }

    /// Somebody sets its time of day.
    pub(super) fn jump(&mut self, place: usize) {
        let hours = i64::try_from(self.below(49)).unwrap() - 24;
        if let Some(server) = &self.servers[place] {
            server.clock.wall_off.store(hours * 3_600_000, Ordering::Relaxed);
        }
    }

    pub(super) fn named(&self, id: &NodeId) -> Option<&Server> {
        self.servers.iter().flatten().find(|server| server.id == *id)
    }
}
