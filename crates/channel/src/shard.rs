//! A shard: one thread that owns its connections, their subscriptions and the homes of its share of the channels.
//!
//! Architecture invariant: nothing here waits. Sockets are non-blocking, ports answer into the inbox, time comes from the wheel; so a [`Shard`] is a state
//! machine that anybody can turn, a thread with epoll ([`crate::driver`]) or a simulation with a clock of its own.
//!
//! A turn: handle what has arrived (sockets, inbox, timers) → [`Shard::settle`]: lay out and hand around what was published, then write to every socket once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use mio::Registry;
use xpush_core::{Code, Entropy, Monotonic};

use crate::cluster::inquiring::Inquiries;
use crate::cluster::keeping::{Keeper, Knowledge};
use crate::cluster::recount::Recount;
use crate::command::patience::Awaited;
use crate::command::{enlist, members};
use crate::fanout::home::Homes;
use crate::fanout::inbox::{Handle, HomeRef, Inbox, Mailbox};
use crate::fanout::topic::Topics;
use crate::fanout::wheel::Wheel;
use crate::metrics::ShardCounters;
use crate::node::Shared;
use crate::session::Sessions;
use crate::session::change::Revocations;
use crate::session::kept::Recoverable;
use crate::session::online::{self, Telling};
use crate::session::users::Users;
use crate::transport::api;

/// Messages taken from the inbox in one turn, so that sockets get their turn too.
const INBOX_BATCH: usize = 4_096;
/// Between two comparisons of heads, in ms.
const HEADS_MS: u64 = 5_000;

/// One shard.
pub(crate) struct Shard {
    index: u16,
    pub(crate) node: Arc<Shared>,
    pub(crate) now: Monotonic,
    pub(crate) sessions: Sessions,
    /// Back ends that ask the HTTP API.
    pub(crate) apis: api::Connections,
    /// Whose the sessions are.
    pub(crate) users: Users,
    pub(crate) revocations: Revocations,
    /// What clients may have back whose pids name this shard.
    pub(crate) recoverable: Recoverable,
    /// Commands that wait for a store.
    pub(crate) awaited: Awaited,
    pub(crate) topics: Topics,
    pub(crate) homes: Homes,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) entropy: Box<dyn Entropy>,
    /// Where sockets are registered; none in a simulation.
    pub(crate) registry: Option<Registry>,
    /// What is read goes here first; no connection has a buffer of its own while it is idle.
    pub(crate) buffer: Vec<u8>,
    inbox: Receiver<Inbox>,
    /// What this shard sends to itself.
    own: VecDeque<Inbox>,
    /// Sockets that had more to read than their share of a turn, or whose commands were finished.
    pub(crate) unread: Vec<Handle>,
    /// Of channels at home here.
    pub(crate) recount: Recount,
    pub(crate) presence: Knowledge,
    bus_down: bool,
    /// The longest turn lately, in ms: so late may a message be handled.
    pub(crate) lag_ms: u64,
    /// In one shard of the node: leases, and what the dead leave behind.
    pub(crate) keeper: Keeper,
    /// In one shard of the node: what other nodes are asked.
    pub(crate) inquiries: Inquiries,
    /// In one shard of the node: what it tells of who is online.
    pub(crate) telling: Telling,
    pub(crate) draining: bool,
    stopped: bool,
    number: u32,
    pub(crate) counters: Arc<ShardCounters>,
}

/// What the wheel wakes. Whoever it names may be gone, or no longer interested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// To say who it is.
    Handshake(Handle),
    Heartbeat(Handle),
    /// A heartbeat's answer.
    Pong(Handle),
    /// The outbox may have been stuck for too long.
    Outbox(Handle),
    /// The upgrade of this number was begun some time ago.
    Probe(Handle, u32),
    /// A hanging poll must end so that the upgrade of this number goes on.
    ProbeNoop(Handle, u32),
    /// A connection that is to go, and is owed answers.
    LastWords(Handle),
    /// A connection that was told to go.
    Farewell(Handle),
    /// A client is to be told `moved`, for the channel of the subscription of this ticket.
    Move(Handle, u32),
    /// A client that was told `moved` should have gone.
    Moved(Handle),
    /// A token's notice or end; the number says which token's.
    Token(Handle, u32),
    /// The permission of the subscription of this ticket ends.
    Permission(Handle, u32),
    /// The permission of the subscription of this ticket is to be asked for again.
    Review(Handle, u32),
    Hole(HomeRef),
    /// Publishers may have waited long enough for the log.
    Appends(HomeRef),
    /// The forward of this number may not have been heard.
    Forward(HomeRef, u32),
    /// Nothing may have been published for a while in a channel that is shared.
    Quiet(HomeRef),
    Attendance(HomeRef),
    Receipts(HomeRef),
    Notices(HomeRef),
    /// A join of this number may have waited long enough for the store.
    Join(HomeRef, u32),
    /// The bus should follow by now.
    Follow(HomeRef, u32),
    Heads,
    /// What is done once a second.
    Tick,
    /// A user's grace time may be over.
    Expire,
    /// Who is online is to be written once more.
    Chronicles,
    /// What was kept for those who may recover may be too old.
    Kept,
    /// A command of this number may have waited long enough for a store.
    Question(u32),
    /// A back end's connection may have been silent for too long.
    Api(Handle),
    /// Other nodes have been asked long enough ago.
    Inquiry(u32),
}

impl Shard {
    pub(crate) fn new(
        index: u16,
        node: Arc<Shared>,
        inbox: Receiver<Inbox>,
        entropy: Box<dyn Entropy>,
        registry: Option<Registry>,
    ) -> Self {
        let now = node.clock().monotonic();
        let outbox_limit = node.config.limits.outbox;
        let counters = node.counters(index);
        let mut wheel = Wheel::new(now);
        wheel.arm(now.after(HEADS_MS), Timer::Heads);
        wheel.arm(now, Timer::Tick);
        let mut homes = Homes::default();
        if node.hosting().is_some() {
            homes.note_changes();
        }
        if online::is_teller(index) {
            wheel.arm(now, Timer::Expire);
        }
        Self {
            index,
            node,
            now,
            sessions: Sessions::new(index, outbox_limit),
            apis: api::Connections::default(),
            users: Users::default(),
            revocations: Revocations::default(),
            recoverable: Recoverable::default(),
            awaited: Awaited::default(),
            topics: Topics::default(),
            homes,
            wheel,
            entropy,
            registry,
            buffer: vec![0; 64 * 1024],
            inbox,
            own: VecDeque::new(),
            unread: Vec::new(),
            recount: Recount::default(),
            presence: Knowledge { known: true, held: true },
            bus_down: false,
            lag_ms: 0,
            keeper: Keeper::new(now),
            inquiries: Inquiries::default(),
            telling: Telling::begin(index, now),
            draining: false,
            stopped: false,
            number: 0,
            counters,
        }
    }

    /// Sends to a shard: to itself without the detour.
    pub(crate) fn post(&mut self, shard: u16, inbox: Inbox) {
        if shard == self.index {
            self.own.push_back(inbox);
        } else {
            self.node.mailbox(shard).post(inbox);
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// The bus works, or it does not: then what it does not bring is looked for in the logs, every second.
    pub(crate) fn bus_is(&mut self, up: bool) {
        self.bus_down = !up;
        self.keeper.bus_is(up);
    }

    pub(crate) fn bus_is_down(&self) -> bool {
        self.bus_down
    }

    /// This shard's address, for completions.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        self.node.mailbox(self.index).clone()
    }

    pub(crate) fn arm(&mut self, after_ms: u64, timer: Timer) {
        self.wheel.arm(self.now.after(after_ms), timer);
    }

    /// A number that this shard has not given before (within 2^32 of them).
    pub(crate) fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Handles what is in the inbox, at most a turn's share; whether anything was there.
    pub(crate) fn take_inbox(&mut self) -> bool {
        let mut any = false;
        for _ in 0..INBOX_BATCH {
            self.take_own();
            match self.inbox.try_recv() {
                Ok(inbox) => self.handle(inbox),
                Err(_) => break,
            }
            any = true;
        }
        self.take_own();
        any
    }

    /// Wakes whatever is due.
    pub(crate) fn take_timers(&mut self) {
        let mut due = Vec::new();
        self.wheel.expire(self.now, &mut due);
        for timer in due {
            match timer {
                Timer::Handshake(handle) => self.handshake_is_over(handle),
                Timer::Heartbeat(handle) => self.heartbeat(handle),
                Timer::Pong(handle) => self.pong_is_due(handle),
                Timer::Outbox(handle) => self.outbox_is_old(handle),
                Timer::Probe(handle, number) => self.probe_is_over(handle, number),
                Timer::ProbeNoop(handle, number) => self.end_poll_for_probe(handle, number),
                Timer::LastWords(handle) => self.say_last_words(handle),
                Timer::Farewell(handle) => self.drop_session(handle),
                Timer::Move(handle, ticket) => self.move_timer(handle, ticket),
                Timer::Moved(handle) => self.moved_timer(handle),
                Timer::Token(handle, number) => self.token_timer(handle, number),
                Timer::Permission(handle, ticket) => self.permission_expired(handle, ticket),
                Timer::Review(handle, ticket) => self.review_again(handle, ticket),
                Timer::Hole(home) => self.home_hole_is_old(home),
                Timer::Appends(home) => self.appends_are_old(home),
                Timer::Forward(home, number) => self.forward_is_old(home, number),
                Timer::Quiet(home) => self.home_is_quiet(home),
                Timer::Attendance(home) => self.attendance_timer(home),
                Timer::Receipts(home) => self.receipts_timer(home),
                Timer::Notices(home) => self.notices_timer(home),
                Timer::Follow(home, number) => self.bus_is_late(home, number),
                Timer::Join(home, number) => self.join_is_old(home, number),
                Timer::Tick => self.tick(),
                Timer::Expire => self.expire_timer(),
                Timer::Chronicles => self.chronicles_timer(),
                Timer::Kept => self.kept_timer(),
                Timer::Question(number) => self.question_is_old(number),
                Timer::Api(handle) => self.api_timer(handle),
                Timer::Inquiry(number) => self.inquiry_is_old(number),
                Timer::Heads => {
                    if std::mem::take(&mut self.homes.unsure) || self.node.has_peers() {
                        self.compare_heads();
                    }
                    self.arm(HEADS_MS, Timer::Heads);
                }
            }
        }
        self.take_own();
    }

    /// Ends a turn: everything published meanwhile goes into the outboxes, and every outbox that has something is written once.
    pub(crate) fn settle(&mut self) {
        let deliveries = self.topics.fan_out(&mut self.sessions);
        if deliveries > 0 {
            self.counters.deliveries.add(deliveries);
        }
        for handle in self.sessions.take_overfull() {
            self.cut_off_if_overfull(handle);
        }
        let dirty = self.sessions.take_dirty();
        for slot in &dirty {
            self.flush(*slot);
        }
        self.sessions.recycle(dirty);
        self.flush_apis();
        self.counters.channels.set(self.topics.len() as u64);
        self.counters.unfinished.set(self.homes.unfinished);
    }

    fn take_own(&mut self) {
        while let Some(inbox) = self.own.pop_front() {
            self.handle(inbox);
        }
    }

    fn handle(&mut self, inbox: Inbox) {
        match inbox {
            Inbox::Open(open) => self.open(*open),
            Inbox::OpenApi(opened) => self.open_api(*opened),
            Inbox::Poll(poll) => self.poll(poll),
            Inbox::Post(post) => self.posted(*post),
            Inbox::Probe(probe) => self.begin_probe(*probe),
            Inbox::Join(join) => self.home_join(*join),
            Inbox::Leave(leave) => self.home_leave(*leave),
            Inbox::Publish(publication) => self.home_publish(*publication),
            Inbox::PublishAll(publications) => self.home_publish_all(publications),
            Inbox::Enlist(enlisting) => enlist::run(self, &enlisting),
            Inbox::Tally(tally) => tally.take(&self.topics),
            Inbox::Inquire(inquire) => self.inquire(*inquire),
            Inbox::Asked(origin, inquiry) => self.report(&origin, &inquiry),
            Inbox::Told(origin, report) => self.reported(&origin, &report),
            Inbox::Signal { signal, exclude } => self.home_signal(signal, exclude),
            Inbox::Deliver(delivery) => self.topics.deliver(delivery),
            Inbox::Reply { to, asked, reply } => self.replied(to, asked, reply),
            Inbox::ApiPublished { to, number, reply } => self.api_published(to, number, reply),
            Inbox::ApiAnswered(to, answer) => self.api_answered(to, answer),
            Inbox::Direct { to, message } => self.deliver_direct(to, &message),
            Inbox::Appended(home, result) => self.home_appended(home, result),
            Inbox::Followed(home, number, result) => self.home_followed(home, number, result),
            Inbox::PageRead(home, wanted, result) => self.home_page(home, wanted, result),
            Inbox::PresenceApplied(home, result) => self.attendance_applied(home, result),
            Inbox::RosterRead(home, number, result) => self.join_roster(home, number, result),
            Inbox::Marked(marked) => self.home_marked(*marked),
            Inbox::JoinMarked(home, number, result) => self.join_marked(home, number, result),
            Inbox::Notify(notification) => self.notify(*notification),
            Inbox::Counted(counted) => self.notify_counted(*counted),
            Inbox::Newest(message) => self.ask_members(message),
            Inbox::Moves(shard, movement) => self.tell_movement(shard, *movement),
            Inbox::Roll(number) => self.answer_roll(number),
            Inbox::Rolled(rolled) => self.rolled(*rolled),
            Inbox::Transitions(result) => self.transitions(result),
            Inbox::Chronicled(app, result) => self.chronicled(app, result),
            Inbox::Enrolled(enrolled) => members::enrolled(self, *enrolled),
            Inbox::OwnMarker { moved, except } => self.own_marker(&moved, except),
            Inbox::Heads(keys, result) => self.home_heads(keys, result),
            Inbox::Bus(inbound) => self.home_bus(inbound),
            Inbox::Admitted(admitted) => self.admission_ends(*admitted),
            Inbox::Permitted(permitted) => self.permitted(*permitted),
            Inbox::Sanctioned(sanctioned) => self.sanctioned(*sanctioned),
            Inbox::Reviewed(reviewed) => self.reviewed(*reviewed),
            Inbox::Readmitted(handle, result) => self.readmitted(handle, result),
            Inbox::Keep(pid, kept) => self.keep_left(&pid, kept),
            Inbox::Reclaim(reclaim) => self.home_reclaim(reclaim),
            Inbox::Reclaimed(reclaim, kept) => self.reclaimed(*reclaim, kept),
            Inbox::Yield(handle) => self.gone(handle),
            Inbox::Return(handle) => self.follow_next(handle),
            Inbox::Changed(changed) => self.changed(*changed),
            Inbox::Restate => self.restate_all(),
            Inbox::Recount(question) => self.count(&question),
            Inbox::Counts(count) => self.counts(*count),
            Inbox::Restated(home, covered, result) => self.restated(home, covered, result),
            Inbox::Relisted(home, relisted) => self.relisted(home, *relisted),
            Inbox::Knowledge(knowledge) => self.presence_is(knowledge),
            Inbox::Rehost => self.rehost(),
            Inbox::Hosted(channels, result) => self.hosted(channels, result),
            Inbox::View(view) => self.sees(&view),
            Inbox::Leased(store, result) => self.leased(store, result),
            Inbox::Lapsed(result) => self.lapsed(result),
            Inbox::Evicted(evicted) => self.evicted(evicted),
            Inbox::Drain { within_ms } => self.drain(within_ms),
            Inbox::Refill => self.draining = false,
            Inbox::Rebalance { within_ms } => self.rebalance(within_ms),
            Inbox::Stop => {
                for handle in self.sessions.handles() {
                    self.drop_session(handle);
                }
                self.apis.clear();
                self.stopped = true;
            }
        }
    }

    /// Counts a refusal under its code.
    pub(crate) fn count_refusal(&self, code: Code) {
        self.node.metrics.refused(code);
    }
}
