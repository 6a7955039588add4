//! A channel server: its shards, its ports, its HTTP front.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use xpush_core::ports::Done;
use xpush_core::ports::access::{Access, AccessSink, Changed};
use xpush_core::ports::backend::{Backend, Intake};
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Topic};
use xpush_core::ports::cluster::{self, Cluster, ClusterSink, Standing, View};
use xpush_core::ports::hooks::{Hooks, NoHooks};
use xpush_core::ports::inquiry::{Counters, Crowd};
use xpush_core::ports::markers::Ledger;
use xpush_core::ports::message_log::MessageLog;
use xpush_core::ports::online::Online;
use xpush_core::ports::presence::Presence;
use xpush_core::ports::search::Search;
use xpush_core::{App, ChannelKey, Clock, Entropy, EventName, History, NodeId, Payload, Problem, User};

use crate::backend::Behalf;
use crate::cluster::hosting::Hosting;
use crate::cluster::peers::{Peers, digest};
use crate::config::Config;
use crate::driver;
use crate::fanout::forward::HostOf;
use crate::fanout::inbox::{Inbox, Mailbox};
use crate::front::address::Addresses;
use crate::front::advice::Advice;
use crate::front::relay::Relay;
use crate::metrics::{Metrics, ShardCounters, Tally};
use crate::session::moving::Assign;
use crate::session::online::TELLER;
use crate::session::resume::Seal;
use crate::shard::Shard;

/// How long a node that leaves waits until the others see it.
const LEAVE: Duration = Duration::from_millis(500);

/// Makes a bus that delivers into a sink.
pub type MakeBus = Box<dyn FnOnce(Arc<dyn BusSink>) -> Arc<dyn Bus> + Send>;

/// What stands behind the ports.
pub struct Parts {
    /// The history of channels that keep what is recent.
    pub log: Arc<dyn MessageLog>,
    /// The history of durable channels.
    pub ledger: Arc<dyn Ledger>,
    /// What finds messages in the ledger by their words, if anything does.
    pub search: Option<Arc<dyn Search>>,
    /// The way to the other nodes.
    pub bus: MakeBus,
    /// Who is where.
    pub presence: Arc<dyn Presence>,
    /// Who is online, on whatever channel.
    pub online: Arc<dyn Online>,
    /// Who may connect, and do what.
    pub access: Arc<dyn Access>,
    /// Signs what clients resume event streams by, and what nodes say to each other: the same on every node and after every start.
    pub secret: [u8; 32],
    /// Which nodes there are.
    pub cluster: Arc<dyn Cluster>,
    /// The registry of which server carries what, where clients are placed by it.
    pub hosting: Option<Hosting>,
    /// Who else hears of views, as this node does.
    pub views: Option<Arc<dyn ClusterSink>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Makes a source of randomness for each shard.
    pub entropy: fn() -> Box<dyn Entropy>,
}

/// A running channel server.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    threads: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
}

/// What all shards and the front see.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// A digest of the node's id, in every sid.
    pub(crate) digest: u32,
    pub(crate) metrics: Metrics,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) advice: Advice,
    pub(crate) peers: Peers,
    pub(crate) relay: Relay,
    pub(crate) draining: AtomicBool,
    counters: Vec<Arc<ShardCounters>>,
    mailboxes: Vec<Arc<Mailbox>>,
    log: Arc<dyn MessageLog>,
    ledger: Arc<dyn Ledger>,
    search: Option<Arc<dyn Search>>,
    bus: OnceLock<Arc<dyn Bus>>,
    presence: Arc<dyn Presence>,
    online: Arc<dyn Online>,
    access: Arc<dyn Access>,
    pub(crate) seal: Seal,
    clock: Arc<dyn Clock>,
    /// For what no shard does.
    entropy: Mutex<Box<dyn Entropy>>,
    cluster: Arc<dyn Cluster>,
    hosting: Option<Hosting>,
    views: Option<Arc<dyn ClusterSink>>,
    next_shard: AtomicUsize,
    has_peers: AtomicBool,
    /// The bus is down.
    is_deaf: AtomicBool,
    assign: OnceLock<Assign>,
    hosts: OnceLock<HostOf>,
    hooks: OnceLock<Arc<dyn Hooks>>,
    intake: OnceLock<Arc<dyn Intake>>,
    view: std::sync::RwLock<Option<Arc<View>>>,
    /// The users that are connected here, by how many connections: while there are other nodes, each is followed on the bus.
    users: Mutex<HashMap<(App, User), u32, foldhash::fast::RandomState>>,
}

impl Node {
    /// Starts the shards' threads and joins the cluster as `member`, whose id is the configured one. `joined` is called when that has been decided.
    pub fn start(
        config: Config,
        parts: Parts,
        member: cluster::Node,
        joined: Done<()>,
    ) -> io::Result<Arc<Self>> {
        let entropy = parts.entropy;
        let mut polls = Vec::new();
        let mut wakers = Vec::new();
        for _ in 0..config.shards {
            let poll = mio::Poll::new()?;
            wakers.push(Some(mio::Waker::new(poll.registry(), driver::WAKER)?));
            polls.push(poll);
        }
        let (shared, inboxes) = Shared::new(config, parts, wakers);
        let mut threads = Vec::new();
        for (index, (poll, inbox)) in polls.into_iter().zip(inboxes).enumerate() {
            let registry = poll.registry().try_clone()?;
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let mailbox = shared.mailbox(index).clone();
            let shard = Shard::new(index, shared.clone(), inbox, entropy(), Some(registry));
            let builder = thread::Builder::new().name(format!("shard-{index}"));
            threads.push(builder.spawn(move || driver::run(shard, poll, &mailbox))?);
        }
        let member = cluster::Node { id: shared.id().clone(), ..member };
        shared.cluster.join(member, shared.clone(), joined);
        Ok(Arc::new(Self { shared, threads: threads.into() }))
    }

    /// Serves this node's subscribers with what a back end has published on every node at once (socket.io's emitters over Redis): into channels without history
    /// only, and no event whose name is reserved.
    pub fn emit(&self, channel: ChannelKey, event: EventName, payload: Payload) -> Result<(), Problem> {
        self.shared.emit(channel, event, payload)
    }

    /// What apps' own back ends may have done here.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Behalf(self.shared.clone()))
    }

    /// The metrics as OpenMetrics text.
    pub fn metrics(&self) -> String {
        self.shared.metrics.text()
    }

    /// The way to the other nodes, and whether it hears them, as far as is known.
    pub fn bus(&self) -> (Option<Arc<dyn Bus>>, bool) {
        (self.shared.bus.get().cloned(), !self.shared.is_deaf.load(Ordering::Relaxed))
    }

    /// The nodes, as known here.
    pub fn view(&self) -> Option<Arc<View>> {
        self.shared.newest_view()
    }

    /// Live connections.
    pub fn connections(&self) -> u64 {
        self.shared.connections()
    }

    /// Whether new connections are refused.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Says where the channels' clients should be. Before that, and after the first time, nothing changes: clients that must go are told no address.
    pub fn assign_by(&self, assign: Assign) {
        // A second one is no more right than the first.
        let _ = self.shared.assign.set(assign);
    }

    /// Says who appends for those who write a channel together. Before that, and after the first time, nothing changes: each node appends for itself.
    pub fn host_by(&self, hosts: HostOf) {
        // A second one is no more right than the first.
        let _ = self.shared.hosts.set(hosts);
    }

    /// Tells and asks apps' back ends from now on; to be called before anybody is served, and once.
    pub fn hook(&self, hooks: Arc<dyn Hooks>) {
        // A second one is no more right than the first.
        let _ = self.shared.hooks.set(hooks);
    }

    /// Reads requests of apps' own back ends from now on: what publishes is done by shards, without the HTTP front. To be called before anybody is served, and once.
    pub fn read_by(&self, intake: Arc<dyn Intake>) {
        // A second one is no more right than the first.
        let _ = self.shared.intake.set(intake);
    }

    /// Asks clients to go on at the server that is assigned to their channel, and spreads that over `within`. Only clients that follow `moved` are asked, and only
    /// where another server is assigned; each goes by itself, within two seconds.
    pub fn rebalance(&self, within: Duration) {
        self.shared.rebalance(millis(within));
    }

    /// Empties the node for as long as it is `wanted`, and takes connections again afterwards: as [`Node::drain`], but that the node goes on. Clients are told within
    /// `within`, in which each has its while.
    pub fn empty(&self, wanted: bool, within: Duration) {
        self.shared.empty(wanted, millis(within));
    }

    /// Takes no more connections, tells every client (one after the other, when there are other nodes), waits for what is being stored, sends what is still to be sent, leaves the cluster; then, or after
    /// `within`, stops. What keeps the messages may be closed afterwards.
    pub async fn drain(&self, within: Duration) {
        let shared = &self.shared;
        shared.begin_drain(millis(within));
        shared.relay.end_tunnels(millis(within) * 3 / 8);
        let emptied = async {
            while !shared.is_empty() || shared.relay.tunnels() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(within, emptied).await.is_err() {
            let (connections, unfinished) = (shared.connections(), shared.unfinished());
            tracing::warn!(
                connections,
                unfinished,
                "not every client went in time, or not everything was stored"
            );
        }
        if let Some(hosting) = &self.shared.hosting {
            hosting.forget();
        }
        let (left, gone) = tokio::sync::oneshot::channel();
        let left = move |_| {
            // Nobody waits any more when it has taken too long.
            let _ = left.send(());
        };
        self.shared.cluster.leave(self.shared.id(), Box::new(left));
        // Who is not told counts this node out by itself.
        let _ = tokio::time::timeout(LEAVE, gone).await;
        self.shared.post_all(|| Inbox::Stop);
        let threads =
            self.threads.lock().map(|mut threads| std::mem::take(&mut *threads)).unwrap_or_default();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard has panicked");
            }
        }
    }
}

impl Shared {
    /// The shared part, and one inbox a shard.
    pub(crate) fn new(
        config: Config,
        parts: Parts,
        wakers: Vec<Option<mio::Waker>>,
    ) -> (Arc<Self>, Vec<mpsc::Receiver<Inbox>>) {
        let mut mailboxes = Vec::new();
        let mut inboxes = Vec::new();
        let mut counters = Vec::new();
        for waker in wakers {
            let (sender, inbox) = mpsc::channel();
            mailboxes.push(Arc::new(Mailbox::new(sender, waker)));
            inboxes.push(inbox);
            counters.push(Arc::new(ShardCounters::default()));
        }
        let shared = Arc::new(Self {
            digest: digest(&config.node),
            metrics: Metrics::new(&counters),
            addresses: Arc::new(Addresses::default()),
            advice: Advice::default(),
            peers: Peers::default(),
            relay: Relay::new(&parts.secret, &config.peers),
            draining: AtomicBool::new(false),
            counters,
            mailboxes,
            log: parts.log,
            ledger: parts.ledger,
            search: parts.search,
            bus: OnceLock::new(),
            presence: parts.presence,
            online: parts.online,
            access: parts.access,
            seal: Seal::new(&parts.secret),
            clock: parts.clock,
            entropy: Mutex::new((parts.entropy)()),
            cluster: parts.cluster,
            hosting: parts.hosting,
            views: parts.views,
            next_shard: AtomicUsize::new(0),
            has_peers: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            assign: OnceLock::new(),
            hosts: OnceLock::new(),
            hooks: OnceLock::new(),
            intake: OnceLock::new(),
            view: std::sync::RwLock::new(None),
            users: Mutex::default(),
            config,
        });
        let bus = (parts.bus)(shared.clone());
        bus.follow(Topic::Nodes, Box::new(|_| ()));
        bus.follow(Topic::Node(shared.id().clone()), Box::new(|_| ()));
        if let Some(hosting) = &shared.hosting {
            // What an earlier start of this server has said holds no more.
            hosting.forget();
        }
        // The cell was just made, so it is empty.
        let _ = shared.bus.set(bus);
        shared.access.watch(shared.clone());
        (shared, inboxes)
    }

    pub(crate) fn id(&self) -> &NodeId {
        &self.config.node
    }

    pub(crate) fn mailbox(&self, shard: u16) -> &Arc<Mailbox> {
        &self.mailboxes[usize::from(shard)]
    }

    pub(crate) fn has_shard(&self, shard: u16) -> bool {
        usize::from(shard) < self.mailboxes.len()
    }

    pub(crate) fn counters(&self, shard: u16) -> Arc<ShardCounters> {
        self.counters[usize::from(shard)].clone()
    }

    /// Live connections.
    pub(crate) fn connections(&self) -> u64 {
        self.counters.iter().map(|shard| shard.connections.get()).sum()
    }

    /// Publications that wait for their places.
    fn unfinished(&self) -> u64 {
        self.counters.iter().map(|shard| shard.unfinished.get()).sum()
    }

    /// Nobody is connected, and everything is stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections() == 0 && self.unfinished() == 0
    }

    /// Takes nobody new, and tells every client to go; for good.
    pub(crate) fn begin_drain(&self, within_ms: u64) {
        self.draining.store(true, Ordering::Relaxed);
        self.post_all(|| Inbox::Drain { within_ms });
    }

    /// See [`Node::empty`].
    pub(crate) fn empty(&self, wanted: bool, within_ms: u64) {
        if self.draining.swap(wanted, Ordering::Relaxed) == wanted {
            return;
        }
        match wanted {
            true => self.post_all(|| Inbox::Drain { within_ms }),
            false => self.post_all(|| Inbox::Refill),
        }
    }

    /// See [`Node::rebalance`].
    pub(crate) fn rebalance(&self, within_ms: u64) {
        self.post_all(|| Inbox::Rebalance { within_ms });
    }

    /// Channels with subscribers.
    pub(crate) fn hosted(&self) -> u64 {
        self.counters.iter().map(|shard| shard.hosted.get()).sum()
    }

    /// By how many ms the slowest event loop was late.
    pub(crate) fn lag_ms(&self) -> u64 {
        self.counters.iter().map(|shard| shard.lag.get()).max().unwrap_or(0)
    }

    pub(crate) fn shards(&self) -> u16 {
        u16::try_from(self.mailboxes.len()).unwrap_or(u16::MAX)
    }

    pub(crate) fn cluster(&self) -> &dyn Cluster {
        &*self.cluster
    }

    pub(crate) fn hosting(&self) -> Option<&Hosting> {
        self.hosting.as_ref()
    }

    /// The shard where a channel is at home.
    pub(crate) fn home_of(&self, channel: &ChannelKey) -> u16 {
        // Fewer shards than 2^16 leave a remainder that fits.
        u16::try_from(channel.hash64() % self.mailboxes.len() as u64).unwrap_or(0)
    }

    /// The shard for a new connection: each in its turn.
    pub(crate) fn next_shard(&self) -> u16 {
        let next = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len();
        u16::try_from(next).unwrap_or(0)
    }

    /// Where a channel that keeps `history` keeps it.
    pub(crate) fn log(&self, history: &History) -> &dyn MessageLog {
        if history.is_durable() { &*self.ledger } else { &*self.log }
    }

    pub(crate) fn recent(&self) -> &dyn MessageLog {
        &*self.log
    }

    pub(crate) fn ledger(&self) -> &dyn Ledger {
        &*self.ledger
    }

    /// A random number.
    pub(crate) fn word(&self) -> u64 {
        self.entropy.lock().unwrap_or_else(PoisonError::into_inner).word()
    }

    pub(crate) fn search(&self) -> Option<&Arc<dyn Search>> {
        self.search.as_ref()
    }

    pub(crate) fn bus(&self) -> &dyn Bus {
        match self.bus.get() {
            Some(bus) => &**bus,
            None => &NoBus,
        }
    }

    pub(crate) fn presence(&self) -> &dyn Presence {
        &*self.presence
    }

    pub(crate) fn online(&self) -> &dyn Online {
        &*self.online
    }

    pub(crate) fn access(&self) -> &dyn Access {
        &*self.access
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The apps' own back ends.
    pub(crate) fn hooks(&self) -> &dyn Hooks {
        match self.hooks.get() {
            Some(hooks) => &**hooks,
            None => &NoHooks,
        }
    }

    /// What reads the requests of apps' own back ends, where this server has the API.
    pub(crate) fn intake(&self) -> Option<&dyn Intake> {
        self.intake.get().map(|intake| &**intake)
    }

    #[cfg(test)]
    pub(crate) fn hook(&self, hooks: Arc<dyn Hooks>) {
        assert!(self.hooks.set(hooks).is_ok(), "hooked twice");
    }

    /// Where a channel's clients should be, if that is known and not here.
    pub(crate) fn assign(&self, channel: &ChannelKey) -> Option<Box<str>> {
        self.assign.get().and_then(|assign| assign(channel))
    }

    /// Which node appends for those who write a channel together: the first that is accepted.
    pub(crate) fn host_of(&self, channel: &ChannelKey, accept: &dyn Fn(&NodeId) -> bool) -> Option<NodeId> {
        self.hosts.get().and_then(|host| host(channel, accept))
    }

    #[cfg(test)]
    pub(crate) fn assign_by(&self, assign: Assign) {
        assert!(self.assign.set(assign).is_ok(), "named twice");
    }

    #[cfg(test)]
    pub(crate) fn host_by(&self, hosts: HostOf) {
        assert!(self.hosts.set(hosts).is_ok(), "named twice");
    }

    /// The nodes, as known here.
    pub(crate) fn newest_view(&self) -> Option<Arc<View>> {
        self.view.read().ok()?.clone()
    }

    /// Whether there are other nodes, whose messages may be lost on the way.
    pub(crate) fn has_peers(&self) -> bool {
        self.has_peers.load(Ordering::Relaxed)
    }

    /// A connection acts as this user from now on.
    pub(crate) fn user_comes(&self, app: &App, user: &User) {
        let mut users = self.users();
        let connections = users.entry((app.clone(), user.clone())).or_default();
        *connections += 1;
        if *connections == 1 && self.has_peers() {
            self.bus().follow(Topic::User(app.clone(), user.clone()), Box::new(|_| ()));
        }
    }

    /// One of its connections has ended.
    pub(crate) fn user_goes(&self, app: &App, user: &User) {
        let mut users = self.users();
        let name = (app.clone(), user.clone());
        let Some(connections) = users.get_mut(&name) else { return };
        *connections -= 1;
        if *connections == 0 {
            users.remove(&name);
            self.bus().unfollow(&Topic::User(name.0, name.1));
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<(App, User), u32, foldhash::fast::RandomState>> {
        // A panic elsewhere leaves a count that is wrong at worst.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who of an app is connected here, as one of `apps` that are asked about.
    pub(crate) fn crowd(&self, app: &App, apps: usize) -> Crowd {
        let users = self.users();
        let of_app = users.iter().filter(|((of, _), _)| of == app);
        Crowd::of(of_app.map(|((_, user), connections)| (user, u64::from(*connections))), apps)
    }

    /// What the shards and the front have counted.
    pub(crate) fn counted(&self) -> Counters {
        let sum = |field: fn(&ShardCounters) -> &Tally| -> u64 {
            self.counters.iter().map(|shard| field(shard).get()).sum()
        };
        Counters {
            connections: sum(|shard| &shard.connections),
            commands: sum(|shard| &shard.commands),
            published: sum(|shard| &shard.published),
            delivered: sum(|shard| &shard.deliveries),
            refused: self.metrics.refusals(),
        }
    }

    pub(crate) fn post_all(&self, make: impl Fn() -> Inbox) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.post(make()));
    }
}

impl BusSink for Shared {
    fn receive(&self, inbound: Inbound) {
        if matches!(inbound, Inbound::Up | Inbound::Down) {
            self.is_deaf.store(matches!(inbound, Inbound::Down), Ordering::Relaxed);
        }
        match &inbound {
            Inbound::Envelope(Envelope { event: Event::OwnMarker(moved), .. }) => {
                self.post_all(|| Inbox::OwnMarker { moved: moved.clone(), except: None });
            }
            Inbound::Envelope(Envelope { event: Event::Enlist(enlisting), .. }) => {
                self.post_all(|| Inbox::Enlist(enlisting.clone()));
            }
            Inbound::Envelope(Envelope { event: Event::Notify(message), .. }) => {
                let home = self.home_of(&message.channel);
                self.mailbox(home).post(Inbox::Newest(message.clone()));
            }
            Inbound::Envelope(Envelope { origin, event: Event::Inquiry(inquiry) }) => {
                self.mailbox(TELLER).post(Inbox::Asked(origin.clone(), inquiry.clone()));
            }
            Inbound::Envelope(Envelope { origin, event: Event::Report(report) }) => {
                self.mailbox(TELLER).post(Inbox::Told(origin.clone(), report.clone()));
            }
            Inbound::Envelope(envelope) => {
                if let Some(channel) = envelope.event.channel() {
                    self.mailbox(self.home_of(channel)).post(Inbox::Bus(inbound));
                }
            }
            Inbound::Gap(Some(Topic::Channel(channel))) => {
                let home = self.home_of(channel);
                self.mailbox(home).post(Inbox::Bus(inbound));
            }
            // Forwards are sent again while they are not answered.
            Inbound::Gap(Some(Topic::Node(_))) => {}
            Inbound::Gap(_) | Inbound::Up | Inbound::Down => self.post_all(|| Inbox::Bus(inbound.clone())),
        }
    }
}

impl AccessSink for Shared {
    fn changed(&self, changed: Changed) {
        self.post_all(|| Inbox::Changed(Box::new(changed.clone())));
    }
}

impl ClusterSink for Shared {
    fn view(&self, view: Arc<View>) {
        // A view that cannot be trusted takes nobody away.
        let blind = view.standing != Standing::Live && self.has_peers();
        // Servers that carry no connections publish, too.
        let has_peers = blind || view.nodes.len() > 1;
        let users = self.users();
        if has_peers && !self.has_peers.swap(has_peers, Ordering::Relaxed) {
            for (app, user) in users.keys() {
                self.bus().follow(Topic::User(app.clone(), user.clone()), Box::new(|_| ()));
            }
        }
        self.has_peers.store(has_peers, Ordering::Relaxed);
        drop(users);
        self.peers.see(&view, self.id());
        if view.standing == Standing::Live {
            self.metrics.drifts(&view.drift());
        }
        self.mailbox(TELLER).post(Inbox::View(view.clone()));
        if let Some(views) = &self.views {
            views.view(view.clone());
        }
        if let Ok(mut newest) = self.view.write() {
            *newest = Some(view);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Stands in while the bus is being made; nothing is published then.
struct NoBus;

impl Bus for NoBus {
    fn publish(&self, _: &Topic, _: Event) {}
    fn follow(&self, _: Topic, done: Done<()>) {
        done(Ok(()));
    }
    fn unfollow(&self, _: &Topic) {}
}
