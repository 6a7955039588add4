//! Everything that there is, the time in which it happens, and what must hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use xpush_core::ports::message_log::MessageLog;
use xpush_core::{Clock, Monotonic, NodeId};
use xpush_embedded::{LocalHosts, LocalOnline, MemoryLastSeen, MemoryLog};
use xpush_testkit::checker::{self, Event, Line, Summary};
use xpush_testkit::{
    HostileHub, HostileLedger, Hostility, ManualClock, MemoryLedger, SeededEntropy, Trouble, fleet, sample,
};

use super::client::Client;
use super::coordination::{Coordination, Link};
use super::network::{Mail, Parcel};
use super::placing::Placing;
use super::server::{SHARDS, Server};
use crate::cluster::presences::Presences;
use crate::dialect::Wire;
use crate::fanout::inbox::Inbox;
use crate::front::address::Addresses;
use crate::planted::trial;
use crate::session::online::GRACE_MS;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open};

pub(super) const SESSION_SERVERS: usize = 2;
pub(super) const CHANNEL_SERVERS: usize = 3;
const CHANNELS: [&str; 4] = ["log:a", "log:b", "log:c", "few:a"];
const CLIENTS: usize = 12;
const STEP_MS: u64 = 50;
/// A client gives up on a server from which nothing has come for so long.
const SILENCE_MS: u64 = 5_000;
/// Packets are under way for so long at most, when the network is slow.
const SLOW_MS: u64 = 300;
/// Who is there for so long is not told of as gone.
const THERE_MS: u64 = 2_000;

pub(super) const BAD_BUS: Hostility =
    Hostility { drop: 0.2, max_delay_ms: 150, reorder: true, gap_probability: 0.05, follow_delay_ms: 60 };
const BAD_STORE: Trouble = Trouble { max_delay_ms: 600, fails: 0.12, forgets: 0.05, contends: true };
/// A store that works, and takes its time: so servers that write one channel meet.
const GOOD_STORE: Trouble = Trouble { max_delay_ms: 60, fails: 0.0, forgets: 0.0, contends: true };

pub(super) struct World {
    pub(super) random: SeededEntropy,
    pub(super) clock: Arc<ManualClock>,
    pub(super) hub: HostileHub,
    pub(super) ledger: Arc<HostileLedger>,
    kept: Arc<MemoryLedger>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) presence: Arc<Presences>,
    pub(super) online: Arc<LocalOnline>,
    pub(super) hosts: Arc<LocalHosts>,
    pub(super) coordination: Coordination,
    pub(super) placing: Vec<Placing>,
    pub(super) servers: Vec<Option<Server>>,
    pub(super) starts: usize,
    pub(super) clients: Vec<Client>,
    mail: Mail,
    /// Packets are under way for so long at most.
    pub(super) lag_ms: u64,
    berths: u64,
    lines: Vec<Line>,
    accused: Vec<Accused>,
}

/// Somebody was told of as gone who is there.
struct Accused {
    /// When that is judged.
    due: Monotonic,
    who: usize,
    /// By which connection it is there.
    berth: u64,
    /// Who was told so.
    teller: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        trial::take_refused();
        let clock = Arc::new(ManualClock::default());
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let kept = Arc::new(MemoryLedger::new(seed, shared_clock.clone()));
        let ledger = HostileLedger::new(seed, GOOD_STORE, kept.clone(), shared_clock.clone());
        let coordination = Coordination::new(seed, clock.clone());
        let hosts = Arc::new(LocalHosts::new(shared_clock.clone()));
        let placing = (0..SESSION_SERVERS)
            .map(|number| Placing::start(&format!("session-{number}"), &coordination, hosts.clone()));
        let last_seen = Arc::new(MemoryLastSeen::default());
        let mut world = Self {
            random: SeededEntropy::new(seed ^ 0xc1a5_7e12),
            hub: HostileHub::new(seed, Hostility::NONE, shared_clock.clone()),
            log: Arc::new(MemoryLog::new(seed, 1 << 30, shared_clock.clone())),
            presence: Arc::new(Presences::new(clock.clone())),
            online: Arc::new(LocalOnline::new(GRACE_MS, shared_clock, last_seen)),
            placing: placing.collect(),
            hosts,
            coordination,
            ledger: Arc::new(ledger),
            kept,
            clock,
            servers: (0..CHANNEL_SERVERS).map(|_| None).collect(),
            starts: 0,
            clients: (0..CLIENTS)
                .map(|number| Client::new(number, CHANNELS[number % CHANNELS.len()], seed))
                .collect(),
            mail: Mail::default(),
            lag_ms: 0,
            berths: 0,
            lines: Vec::new(),
            accused: Vec::new(),
        };
        world.start_all();
        world
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    pub(super) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    pub(super) fn fault(&mut self, what: String) {
        self.note("", Event::Fault { what: what.into() });
    }

    pub(super) fn note(&mut self, client: &str, event: Event) {
        self.lines.push(Line { at: self.now().0 * 1_000, client: client.into(), event });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The bus and the servers hold each other.
        for server in self.servers.iter_mut().filter_map(Option::take) {
            server.link.end();
            self.hub.detach(&server.id);
        }
    }
}

// === clients ===

impl World {
    /// Asks a session server, and connects to the server that it names; or to any.
    fn connect(&mut self, client: usize) {
        let place = self.below(SESSION_SERVERS);
        let (channel, unreached) =
            (sample::channel(&self.clients[client].channel), self.clients[client].unreached.clone());
        let strays = self.clients[client].stubborn && self.random.chance(0.7);
        let assigned = if strays { None } else { self.placing[place].assign(&channel, unreached.clone()) };
        let assigned = assigned.filter(|to| Some(to) != unreached.as_ref());
        let Some(to) = assigned.or_else(|| self.anybody()) else { return self.rest(client) };
        let Some(server) = self.named(&to).filter(|server| !server.refuses()) else {
            // Refused, or nobody listens there any more.
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
        self.berths += 1;
        let (number, now) = (self.berths, self.now());
        self.clients[client].connects(number, to, shard, answered, now);
    }

    /// Some server that is there, as a balancer would choose.
    fn anybody(&mut self) -> Option<NodeId> {
        let place = self.below(CHANNEL_SERVERS);
        self.servers[place].as_ref().map(|server| server.id.clone())
    }

    fn rest(&mut self, client: usize) {
        let now = self.now();
        self.clients[client].rests_until = now.after(200 + self.random.below(800));
    }

    /// Its connection ends: what it has sent may still arrive, up to some place.
    pub(super) fn lose(&mut self, client: usize) {
        let until = self.now().after(self.random.below(1_000));
        if let Some(at) = &self.clients[client].at {
            self.mail.cut(at.number, &mut self.random);
        }
        self.clients[client].loses(until);
        self.take_notes(client);
    }

    /// All connections of this server end.
    pub(super) fn lose_all(&mut self, server: &NodeId) {
        for client in 0..self.clients.len() {
            if self.clients[client].at.as_ref().is_some_and(|at| at.node == *server) {
                self.lose(client);
            }
        }
    }

    fn take_notes(&mut self, client: usize) {
        let name = self.clients[client].name.clone();
        for event in self.clients[client].notes() {
            self.note(&name, event);
        }
    }

    fn turn_client(&mut self, client: usize) {
        let now = self.now();
        let Some(at) = &self.clients[client].at else {
            if self.clients[client].rests_until <= now && !self.clients[client].absent {
                self.connect(client);
            }
            return;
        };
        if now.since(at.heard) > SILENCE_MS {
            return self.lose(client);
        }
        self.poll(client);
        let mut packets = Vec::new();
        while let Some(packet) = self.clients[client].hears(now) {
            match self.clients[client].takes(&packet, now) {
                Ok(answer) => packets.extend(answer),
                Err(()) => return self.lose(client),
            }
        }
        if self.clients[client].is_over() {
            return self.lose(client);
        }
        packets.extend(self.clients[client].says(now));
        self.take_notes(client);
        self.accuse(client);
        if self.clients[client].goes(now) {
            self.send(client, "1".to_owned());
            return self.lose(client);
        }
        if !packets.is_empty() {
            self.send(client, packets.join("\u{1e}"));
        }
    }

    fn poll(&mut self, client: usize) {
        let Some(poll) = self.clients[client].at.as_mut().and_then(|at| at.poll.as_mut()) else { return };
        let body = match poll.try_recv() {
            Ok(Answer::Payload(payload)) => String::from_utf8(payload.collect().0.to_vec()).unwrap(),
            // The session is no more: it did not answer heartbeats while its server stood still.
            Ok(_) | Err(oneshot::error::TryRecvError::Closed) => {
                if let Some(at) = &mut self.clients[client].at {
                    (at.ended, at.poll) = (true, None);
                }
                return;
            }
            Err(oneshot::error::TryRecvError::Empty) => return,
        };
        let due = self.arrives();
        self.clients[client].told(&body, due);
        if body.starts_with('0')
            && let Some(at) = &mut self.clients[client].at
        {
            // The first packet says where the next ones are to be had.
            at.sid = super::client::sid_of(&body);
        }
        let Some(at) = &self.clients[client].at else { return };
        let (Some(sid), Some(server)) = (at.sid, self.named(&at.node)) else { return };
        let (answer, answered) = oneshot::channel();
        server.shared.mailbox(at.shard).post(Inbox::Poll(Poll { sid, answer }));
        if let Some(at) = &mut self.clients[client].at {
            at.poll = Some(answered);
        }
    }

    /// When a packet arrives that leaves now.
    fn arrives(&mut self) -> Monotonic {
        let late = self.random.below(self.lag_ms + 1);
        self.now().after(late)
    }

    fn send(&mut self, client: usize, body: String) {
        let due = self.arrives();
        let Some(at) = &mut self.clients[client].at else { return };
        let Some(sid) = at.sid else { return };
        at.sent = at.sent.max(due);
        let parcel = Parcel { berth: at.number, node: at.node.clone(), shard: at.shard, sid, body };
        self.mail.send(at.sent, parcel);
    }

    fn deliver(&mut self) {
        let now = self.now();
        while let Some(Parcel { node, shard, sid, body, .. }) = self.mail.arrived(now) {
            let Some(server) = self.named(&node) else { continue };
            let (answer, _) = oneshot::channel();
            let post = Post { sid, body: Bytes::from(body), binary: false, answer };
            server.shared.mailbox(shard).post(Inbox::Post(Box::new(post)));
        }
    }

    /// Whoever is told of as gone, and is there as far as it knows, is to be gone a moment later, or told of as there.
    fn accuse(&mut self, teller: usize) {
        let now = self.now();
        for user in self.clients[teller].told_left() {
            let channel = self.clients[teller].channel.clone();
            let is_there = |client: &Client| {
                let since = client.subscribed_since();
                client.user.as_ref() == Some(&user)
                    && client.channel == channel
                    && since.is_some_and(|since| now.since(since) > THERE_MS)
            };
            if let Some(of) = self.clients.iter().position(is_there)
                && let Some(at) = &self.clients[of].at
            {
                let due = now.after(THERE_MS);
                self.accused.push(Accused { due, who: of, berth: at.number, teller });
            }
        }
    }

    fn judge_departures(&mut self) {
        let now = self.now();
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.accused).into_iter().partition(|accused| accused.due <= now);
        self.accused = rest;
        for Accused { who, berth, teller, .. } in due {
            let there = self.clients[who].at.as_ref().filter(|at| at.number == berth);
            let Some(at) = there else { continue };
            let doubted = self.named(&at.node).is_none_or(|server| server.is_doubted(now));
            // What was late is told again: that it went, and that it came.
            let (who, teller) = (&self.clients[who], &self.clients[teller]);
            let gone = (teller.present.as_ref().zip(who.user.as_ref()))
                .is_some_and(|(present, user)| !present.contains(user));
            assert!(
                doubted || !gone,
                "{} was told of as gone, by {}, and is there ({})",
                who.name,
                teller.name,
                at.node
            );
        }
    }
}

// === time ===

impl World {
    pub(super) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(STEP_MS) {
            self.clock.advance(STEP_MS);
            self.coordination.turn();
            for placing in &mut self.placing {
                placing.turn(&self.clock);
            }
            self.deliver();
            for _ in 0..3 {
                for server in self.servers.iter_mut().flatten().filter(|server| !server.stopped) {
                    server.turn();
                }
                self.hub.deliver_due(self.now());
                self.ledger.run_due(self.now());
            }
            for server in self.servers.iter_mut().flatten().filter(|server| !server.stopped) {
                server.follow_wishes();
            }
            self.end_drained();
            (0..self.clients.len()).for_each(|client| self.turn_client(client));
            self.judge_departures();
        }
    }

    /// Something goes wrong, or comes right again.
    pub(super) fn happens(&mut self) {
        let place = self.below(CHANNEL_SERVERS);
        let lucky = self.random.chance(0.5);
        let word = |good, bad| if lucky { good } else { bad };
        match self.below(24) {
            0 | 1 => self.kill(place),
            2..=4 => self.start(place),
            5 | 6 => self.stop(place, true),
            7 | 8 => self.stop(place, false),
            9 => self.cut_off(place, !lucky),
            10 => {
                let session = self.below(SESSION_SERVERS);
                self.placing[session].link.cut(lucky);
            }
            11 => {
                self.fault(format!("the bus is {}", word("up", "down")));
                self.hub.set_up(lucky);
            }
            12 => {
                self.fault(format!("the bus is {}", word("good", "bad")));
                self.hub.set_hostility(if lucky { Hostility::NONE } else { BAD_BUS });
            }
            13 => {
                self.fault(format!("the store is {}", word("good", "bad")));
                self.ledger.set_trouble(if lucky { GOOD_STORE } else { BAD_STORE });
            }
            14 => self.jump(place),
            15 => {
                self.fault("coordination is out of reach".to_owned());
                (0..CHANNEL_SERVERS).for_each(|place| self.cut_off(place, true));
                self.placing.iter().for_each(|placing| placing.link.cut(true));
            }
            16 => self.drain(place),
            17 => self.wish_empty(place, !lucky),
            18 => {
                for server in self.servers.iter().flatten() {
                    server.shared.rebalance(3_000);
                }
            }
            19 | 20 => {
                for client in 0..self.clients.len() {
                    if self.random.chance(0.3) {
                        self.lose(client);
                    }
                }
            }
            21 => self.lag_ms = if lucky { 0 } else { SLOW_MS },
            22 => {
                self.fault(format!("the store of presence {}", word("forgets", "fails or comes back")));
                match lucky {
                    true => self.presence.forget(),
                    false => {
                        let fails = self.random.chance(0.5);
                        self.presence.fail(fails);
                    }
                }
            }
            _ => {
                self.fault("the store stands still".to_owned());
                self.ledger.hold();
                let ms = self.random.below(4_000);
                self.run_ms(ms);
                self.ledger.let_go();
            }
        }
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.placing.iter().map(|placing| placing.link.clone()).collect()
    }

    /// Everything comes right.
    pub(super) fn heal(&mut self) {
        for place in 0..CHANNEL_SERVERS {
            self.stop(place, false);
            self.cut_off(place, false);
            self.wish_empty(place, false);
        }
        for link in self.links() {
            link.cut(false);
        }
        self.presence.fail(false);
        self.hub.set_up(true);
        self.hub.set_hostility(Hostility::NONE);
        self.ledger.set_trouble(GOOD_STORE);
        self.lag_ms = 0;
        // What drains does so first.
        self.run_ms(9_000);
        self.start_all();
    }
}

// === what must hold ===

impl World {
    /// Everybody is where they want to be, within a while.
    pub(super) fn all_arrive(&mut self, within_ms: u64) {
        for _ in 0..within_ms / 500 {
            if self.clients.iter().all(|client| client.absent || client.subscribed_since().is_some()) {
                return;
            }
            self.run_ms(500);
        }
        let lost = self.clients.iter().find(|client| !client.absent && client.subscribed_since().is_none());
        let lost = lost.map(|client| format!("{} waits for {}", client.name, client.waits_for()));
        assert_eq!(lost, None, "nothing is wrong, and somebody is not served");
    }

    pub(super) fn hush(&mut self, hushed: bool) {
        for client in &mut self.clients {
            client.talks = !hushed && !client.absent;
        }
    }

    /// How far each channel has come.
    pub(super) fn heads(&self) -> Vec<u64> {
        let (sender, heads) = std::sync::mpsc::channel();
        let keys = CHANNELS.iter().map(|channel| sample::channel(channel)).collect();
        self.kept.heads(keys, Box::new(move |heads| sender.send(heads.unwrap()).unwrap()));
        heads.recv().unwrap().into_iter().map(|head| head.seq).collect()
    }

    /// Everybody has what was there at a moment.
    pub(super) fn all_have(&self, heads: &[u64], what: &str) {
        for client in self.clients.iter().filter(|client| !client.absent) {
            let channel = CHANNELS.iter().position(|channel| **channel == *client.channel).unwrap();
            assert!(
                client.has(heads[channel]),
                "{what}: {} has not heard up to {}; it waits for {}",
                client.name,
                heads[channel],
                client.waits_for()
            );
        }
    }

    /// Everybody has said what there was to say.
    pub(super) fn all_are_settled(&self) {
        for client in &self.clients {
            assert!(client.is_settled(), "{} waits for {}", client.name, client.waits_for());
        }
    }

    /// Everybody knows who is there.
    pub(super) fn all_know_who_is_there(&self) {
        for channel in CHANNELS {
            let here = || {
                let here = self.clients.iter().filter(|client| *client.channel == *channel);
                here.filter(|client| !client.absent)
            };
            let there: BTreeSet<_> = here().map(|client| client.user.clone().unwrap()).collect();
            for client in here() {
                assert_eq!(client.present.as_ref(), Some(&there), "who is in {channel}, as {}", client.name);
            }
        }
    }

    /// All agree on who is there, and on where each channel is.
    pub(super) fn check_placement(&mut self) {
        let (there, ring) = self.coordination.truth();
        let names = (0..CHANNEL_SERVERS).map(|place| sample::name(&format!("channel-{place}")));
        assert_eq!(there, names.collect::<BTreeSet<_>>(), "all are members again");
        let ring = ring.expect("a ring");
        let on_ring: BTreeSet<_> = ring.nodes().iter().map(|node| node.name.clone()).collect();
        assert_eq!(on_ring, there, "the ring has those who are there");
        for channel in CHANNELS {
            let key = sample::channel(channel);
            let assigned: BTreeSet<_> =
                self.placing.iter().map(|placing| placing.assign(&key, None)).collect();
            assert_eq!(assigned.len(), 1, "{channel}: session servers disagree: {assigned:?}");
            let to = assigned.into_iter().flatten().next().expect("a server");
            assert!(self.named(&to).is_some(), "{to} lives");
        }
    }

    /// What clients have written down against what the store holds; and the log itself.
    pub(super) fn judge(mut self) -> (Summary, Vec<Line>) {
        // What a server has refused may be overtaken, also where nobody has heard of the refusal.
        for id in trial::take_refused() {
            let sent = self.lines.iter().find_map(|line| match &line.event {
                Event::Sent { channel, id: sent, .. } if **sent == *id.as_str() => Some(channel.clone()),
                _ => None,
            });
            if let Some(channel) = sent {
                self.note("", Event::Unknown { channel, id: id.as_str().into(), told: true });
            }
        }
        self.note("", Event::Finished);
        let channels: Vec<Arc<str>> = CHANNELS.into_iter().map(Arc::from).collect();
        let contents = fleet::contents(&*self.kept, "demo", &channels);
        match checker::check_knowing_all(&self.lines, &contents) {
            Ok(summary) => (summary, std::mem::take(&mut self.lines)),
            Err(violation) => panic!("{violation}"),
        }
    }
}
