//! What every [`Bus`] does while nothing fails: what may be lost then is shown by a gap, and these tests fail at a gap.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use xpush_core::ports::backend::LiveChannel;
use xpush_core::ports::bus::{Bus, BusSink, Enlisting, Envelope, Event, Inbound, Moved, Signal, Topic};
use xpush_core::ports::forward::{Fate, Forward, Forwarded, Word};
use xpush_core::ports::inquiry::{Asked, Counters, Crowd, Inquiry, Report, Told};
use xpush_core::ports::markers::Mark;
use xpush_core::ports::message_log::{Draft, Refused};
use xpush_core::ports::presence::Delta;
use xpush_core::{ChannelKey, Code, Epoch, Message, NodeId, Position};

use crate::sample::{channel, channel_of, draft, member, node, user};
use crate::suite::{PATIENCE, Until, answer};

/// Connects a node to a bus, until what it gives is dropped.
pub type Attach = dyn Fn(NodeId, Arc<dyn BusSink>) -> Arc<dyn Bus>;

/// A new bus without nodes.
pub struct BusStore {
    /// All nodes come by this.
    pub attach: Box<Attach>,
}

/// Makes each property of a [`Bus`] a test; `$fixture` is a function that gives a [`BusStore`].
#[macro_export]
macro_rules! bus_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, bus:
            a_node_is_told_that_the_bus_works
            an_event_reaches_the_others_that_follow_once
            an_event_never_comes_back
            every_kind_of_event_arrives_as_it_was
            nothing_is_missed_after_following
            topics_are_apart
            following_twice_is_following_once
            nothing_comes_after_unfollowing
            a_detached_node_is_forgotten
            one_origins_events_keep_their_order
            following_and_unfollowing_disturbs_nobody
        );
    };
}

/// Numbers from here on only look whether anything comes; each is used once.
const PROBE: u64 = 1 << 63;
static PROBES: AtomicU64 = AtomicU64::new(PROBE);

/// A node on the bus, and what came to it.
struct Peer {
    id: NodeId,
    bus: Arc<dyn Bus>,
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

impl BusStore {
    fn peer(&self, id: &str) -> Peer {
        let (id, inbox) = (node(id), Arc::new(Inbox::default()));
        let bus = (self.attach)(id.clone(), Arc::clone(&inbox) as Arc<dyn BusSink>);
        Peer { id, bus, inbox }
    }
}

impl Peer {
    /// Follows, and waits until nothing is missed any more.
    fn follow(&self, topic: &Topic) {
        answer(|done| self.bus.follow(topic.clone(), done)).expect("a healthy bus follows");
    }

    fn publish(&self, topic: &Topic, number: u64) {
        self.bus.publish(topic, numbered(number));
    }

    /// Waits until `other`, which follows `topic`, receives what this one publishes on it. A bus between machines needs a moment.
    fn sees(&self, other: &Peer, topic: &Topic) {
        let probe = PROBES.fetch_add(1, Ordering::Relaxed);
        let patient = std::time::Instant::now() + PATIENCE;
        while !other
            .inbox
            .waits(Duration::from_millis(5), |inbox| inbox.numbers_of(&self.id).contains(&probe))
        {
            assert!(std::time::Instant::now() < patient, "{} never sees {}", self.id, other.id);
            self.publish(topic, probe);
        }
    }

    /// Waits until `number` came from `origin`.
    fn expects(&self, origin: &Peer, number: u64) {
        let came = self.inbox.waits(PATIENCE, |inbox| inbox.numbers_of(&origin.id).contains(&number));
        assert!(came, "{number} of {} did not come to {}", origin.id, self.id);
    }

    /// The numbers that came from `origin`, without those by which [`Peer::sees`] looked.
    fn numbers_of(&self, origin: &Peer) -> Vec<u64> {
        let mut numbers = Received(&self.inbox.all.lock().expect("an inbox")).numbers_of(&origin.id);
        numbers.retain(|number| *number < PROBE);
        numbers
    }
}

struct Received<'a>(&'a [Inbound]);

impl<'a> Received<'a> {
    fn envelopes(&self) -> impl Iterator<Item = &'a Envelope> + use<'a> {
        self.0.iter().filter_map(|inbound| match inbound {
            Inbound::Envelope(envelope) => Some(envelope),
            Inbound::Up => None,
            Inbound::Gap(_) | Inbound::Down => panic!("a healthy bus says {inbound:?}"),
        })
    }

    fn numbers_of(&self, origin: &NodeId) -> Vec<u64> {
        self.envelopes()
            .filter(|envelope| envelope.origin == *origin)
            .filter_map(|envelope| number(&envelope.event))
            .collect()
    }
}

impl Inbox {
    /// Waits until `ready`; false when it did not come to that in time.
    fn waits(&self, time: Duration, ready: impl Fn(&Received<'_>) -> bool) -> bool {
        let all = self.all.lock().expect("an inbox");
        let (_all, waited) =
            self.came.wait_timeout_while(all, time, |all| !ready(&Received(all))).expect("an inbox");
        !waited.timed_out()
    }
}

pub fn a_node_is_told_that_the_bus_works(store: &BusStore) {
    let a = store.peer("a");
    let came = a.inbox.all.lock().expect("an inbox");
    let (came, waited) =
        a.inbox.came.wait_timeout_while(came, PATIENCE, |all| all.is_empty()).expect("an inbox");
    assert!(!waited.timed_out() && came[0] == Inbound::Up, "{came:?}");
}

pub fn an_event_reaches_the_others_that_follow_once(store: &BusStore) {
    let topic = topic("chat:a");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| store.peer(id));
    for follower in [&b, &c] {
        follower.follow(&topic);
        a.sees(follower, &topic);
    }
    for number in 0..100 {
        a.publish(&topic, number);
    }
    for follower in [&b, &c] {
        follower.expects(&a, 99);
        assert_eq!(follower.numbers_of(&a), (0..100).collect::<Vec<_>>());
    }
    // Whatever was on its way to the one that does not follow has come before this.
    d.follow(&Topic::Node(d.id.clone()));
    a.sees(&d, &Topic::Node(d.id.clone()));
    assert!(d.numbers_of(&a).is_empty());
}

pub fn an_event_never_comes_back(store: &BusStore) {
    let topic = topic("chat:a");
    let [a, b] = ["a", "b"].map(|id| store.peer(id));
    for (follower, publisher) in [(&a, &b), (&b, &a)] {
        follower.follow(&topic);
        publisher.sees(follower, &topic);
    }
    a.publish(&topic, 1);
    b.expects(&a, 1);
    // The answer comes after the echo, if there is one.
    b.publish(&topic, 2);
    a.expects(&b, 2);
    assert_eq!((a.numbers_of(&a), a.numbers_of(&b)), (vec![], vec![2]));
    assert_eq!((b.numbers_of(&b), b.numbers_of(&a)), (vec![], vec![1]));
}

pub fn every_kind_of_event_arrives_as_it_was(store: &BusStore) {
    let [a, b] = ["a", "b"].map(|id| store.peer(id));
    let key = channel("chat:방/1");
    let message = |position| {
        let Draft { kind, id, event, payload, from, at, .. } = draft("ann", "x");
        Arc::new(Message {
            kind,
            revision: None,
            channel: key.clone(),
            position,
            id,
            event,
            payload,
            from,
            at,
        })
    };
    let placed = Some(Position { epoch: Epoch(u64::MAX), seq: 7 });
    let signal = |ttl_ms| Arc::new(Signal { message: Message::clone(&message(None)), ttl_ms });
    let moved =
        |mark| Arc::new(Moved { channel: key.clone(), user: user("ann"), mark, seq: u64::from(u32::MAX) });
    let delta = Delta { users: 3, joined: vec![member("ann"), member("bob")], left: vec![user("cid")] };
    let forwarded = |word| Arc::new(Forwarded { channel: key.clone(), number: u32::MAX, word });
    let fates = vec![
        Fate::Placed { seq: 7, at: 42, retry: false },
        Fate::Placed { seq: 3, at: 41, retry: true },
        Fate::Refused(Refused::NoSuchMessage),
        Fate::Refused(Refused::NotYours),
        Fate::Failed(Code::OutcomeUnknown),
    ];
    let mut events = vec![
        Event::Message(message(placed)),
        Event::Message(message(None)),
        Event::Signal(signal(None)),
        Event::Signal(signal(Some(5_000))),
        Event::Presence(key.clone(), Arc::new(delta)),
        Event::Marker(moved(Mark::Read)),
        Event::OwnMarker(moved(Mark::Delivered)),
        Event::Notify(message(placed)),
        Event::Enlist(Arc::new(Enlisting { channel: key.clone(), user: user("ann"), follows: true })),
        Event::Enlist(Arc::new(Enlisting { channel: key.clone(), user: user("ann"), follows: false })),
        Event::Forward(Arc::new(Forward {
            channel: key.clone(),
            number: 7,
            drafts: vec![draft("ann", "x")],
        })),
        Event::Forwarded(forwarded(Word::Waits)),
        Event::Forwarded(forwarded(Word::Declined)),
        Event::Forwarded(forwarded(Word::Done(Epoch(u64::MAX), fates))),
    ];
    events.extend(between_nodes(&key));
    let app = key.app.clone();
    for topic in
        [Topic::Channel(key.clone()), Topic::User(app, user("ann")), Topic::Node(b.id.clone()), Topic::Nodes]
    {
        b.follow(&topic);
        a.sees(&b, &topic);
        let before = b.inbox.all.lock().expect("an inbox").len();
        for event in &events {
            a.bus.publish(&topic, event.clone());
        }
        a.publish(&topic, 1);
        assert!(b.inbox.waits(PATIENCE, |inbox| inbox.numbers_of(&a.id).last() == Some(&1)));
        let all = b.inbox.all.lock().expect("an inbox");
        let came: Vec<&Envelope> =
            Received(&all[before..]).envelopes().filter(|came| number(&came.event).is_none()).collect();
        assert!(came.iter().all(|envelope| envelope.origin == a.id));
        assert!(came.iter().map(|envelope| &envelope.event).eq(&events), "{topic:?}: {came:?}");
    }
}

/// What nodes ask each other about themselves, and answer.
fn between_nodes(key: &ChannelKey) -> [Event; 4] {
    let inquiry = |asked| Event::Inquiry(Arc::new(Inquiry { number: 7, asked }));
    let report = |told| Event::Report(Arc::new(Report { number: u32::MAX, told }));
    let (app, after) = (key.app.clone(), Some("b".into()));
    let counters = Counters { published: u64::MAX, ..Counters::default() };
    let crowd = Crowd::of([(&user("ann"), 2)].into_iter(), 1);
    [
        inquiry(Asked::Followed { app: app.clone(), prefix: "c".into(), after, limit: 9 }),
        inquiry(Asked::Census(vec![app])),
        report(Told::Followed(vec![LiveChannel { channel: key.name.clone(), subscribers: 3 }])),
        report(Told::Census(counters, vec![crowd])),
    ]
}

pub fn nothing_is_missed_after_following(store: &BusStore) {
    let (a, b) = (store.peer("a"), store.peer("b"));
    // Whether the publisher can be heard at all.
    let control = Topic::Node(b.id.clone());
    b.follow(&control);
    a.sees(&b, &control);
    for number in 0..100 {
        let topic = topic(&format!("chat:{number}"));
        b.follow(&topic);
        a.publish(&topic, number);
    }
    // Topics have no order among each other: a bus may carry them over several servers.
    (0..100).for_each(|number| b.expects(&a, number));
    assert_eq!(b.numbers_of(&a).len(), 100);
    // Whoever unfollows meanwhile is answered, too.
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = Box::new(move |result: Result<(), _>| sender.send(result.is_ok()).expect("a listener"));
    b.bus.follow(topic("chat:left"), done);
    b.bus.unfollow(&topic("chat:left"));
    receiver.recv_timeout(PATIENCE).expect("`done` is called");
}

pub fn topics_are_apart(store: &BusStore) {
    let (a, b) = (store.peer("a"), store.peer("b"));
    let app = |name: &str| channel_of(name, "chat:a").app;
    let topics = [
        topic("chat:a"),
        topic("chat:b"),
        Topic::Channel(channel_of("other", "chat:a")),
        Topic::User(app("demo"), user("ann")),
        Topic::User(app("other"), user("ann")),
        Topic::User(app("demo"), user("bob")),
        Topic::Node(a.id.clone()),
        Topic::Node(b.id.clone()),
        Topic::Nodes,
    ];
    for (at, topic) in topics.iter().enumerate() {
        let follower = store.peer(&format!("follower-{at}"));
        follower.follow(topic);
        a.sees(&follower, topic);
        for (number, topic) in (0..).zip(&topics) {
            a.publish(topic, number);
        }
        // The last word is said on the topic that it does follow.
        a.publish(topic, 1000);
        follower.expects(&a, 1000);
        assert_eq!(follower.numbers_of(&a), [at as u64, 1000], "{topic:?}");
    }
}

pub fn following_twice_is_following_once(store: &BusStore) {
    let topic = topic("chat:a");
    let [a, b] = ["a", "b"].map(|id| store.peer(id));
    b.follow(&topic);
    b.follow(&topic);
    a.sees(&b, &topic);
    a.publish(&topic, 1);
    a.publish(&topic, 2);
    b.expects(&a, 2);
    assert_eq!(b.numbers_of(&a), [1, 2]);
    // And it ends at once.
    b.bus.unfollow(&topic);
    falls_silent(&a, &b, &topic);
}

pub fn nothing_comes_after_unfollowing(store: &BusStore) {
    let topic = topic("chat:a");
    let [a, b, c] = ["a", "b", "c"].map(|id| store.peer(id));
    for follower in [&b, &c] {
        follower.follow(&topic);
        a.sees(follower, &topic);
    }
    b.bus.unfollow(&topic);
    falls_silent(&a, &b, &topic);
    // The other one goes on, and the first may come again.
    a.publish(&topic, 1_000_000);
    c.expects(&a, 1_000_000);
    b.follow(&topic);
    a.sees(&b, &topic);
    let never_followed = crate::sample::channel("chat:never");
    b.bus.unfollow(&Topic::Channel(never_followed));
    a.publish(&topic, 1_000_001);
    b.expects(&a, 1_000_001);
}

pub fn a_detached_node_is_forgotten(store: &BusStore) {
    let topic = topic("chat:a");
    let [a, b, c] = ["a", "b", "c"].map(|id| store.peer(id));
    for follower in [&b, &c] {
        follower.follow(&topic);
        a.sees(follower, &topic);
    }
    let Peer { bus, inbox, .. } = b;
    drop(bus);
    let until_here = inbox.all.lock().expect("an inbox").len();
    a.publish(&topic, 1);
    c.expects(&a, 1);
    assert_eq!(inbox.all.lock().expect("an inbox").len(), until_here);
    // Its successor under the same name follows nothing yet.
    let b = store.peer("b");
    let own = Topic::Node(b.id.clone());
    b.follow(&own);
    a.publish(&topic, 2);
    a.sees(&b, &own);
    assert!(b.numbers_of(&a).is_empty());
}

pub fn one_origins_events_keep_their_order(store: &BusStore) {
    const EVENTS: u64 = 500;
    let topics = ["chat:a", "chat:b"].map(topic);
    let peers = ["a", "b", "c", "d"].map(|id| store.peer(id));
    for (follower, publisher) in peers.iter().flat_map(|one| peers.iter().map(move |other| (one, other))) {
        for topic in topics.iter().filter(|_| follower.id != publisher.id) {
            follower.follow(topic);
            publisher.sees(follower, topic);
        }
    }
    thread::scope(|scope| {
        for publisher in &peers {
            let topics = &topics;
            scope.spawn(move || {
                for number in 0..EVENTS {
                    let topic = usize::from(number % 3 == 0);
                    publisher.publish(&topics[topic], number);
                }
            });
        }
    });
    for (follower, publisher) in peers.iter().flat_map(|one| peers.iter().map(move |other| (one, other))) {
        if follower.id == publisher.id {
            continue;
        }
        // The last one on each topic.
        follower.expects(publisher, EVENTS - 1);
        follower.expects(publisher, EVENTS - 2);
        let mut by_topic: BTreeMap<bool, Vec<u64>> = BTreeMap::new();
        for number in follower.numbers_of(publisher) {
            by_topic.entry(number % 3 == 0).or_default().push(number);
        }
        for (third, numbers) in by_topic {
            let expected: Vec<u64> = (0..EVENTS).filter(|number| (number % 3 == 0) == third).collect();
            assert_eq!(numbers, expected, "{} to {}", publisher.id, follower.id);
        }
    }
}

pub fn following_and_unfollowing_disturbs_nobody(store: &BusStore) {
    const EVENTS: u64 = 500;
    let topic = topic("chat:a");
    let [a, steady, restless] = ["a", "steady", "restless"].map(|id| store.peer(id));
    steady.follow(&topic);
    a.sees(&steady, &topic);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                restless.bus.follow(topic.clone(), Box::new(|_| ()));
                restless.bus.unfollow(&topic);
            }
        });
        let _until_here = Until(&ended);
        (0..EVENTS).for_each(|number| a.publish(&topic, number));
        steady.expects(&a, EVENTS - 1);
    });
    assert_eq!(steady.numbers_of(&a), (0..EVENTS).collect::<Vec<_>>());
    let numbers = restless.numbers_of(&a);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

/// Publishes on `topic` until it no longer comes to `other`. What was under way may still come, so not at once, but soon.
fn falls_silent(publisher: &Peer, other: &Peer, topic: &Topic) {
    let control = Topic::Node(other.id.clone());
    other.follow(&control);
    publisher.sees(other, &control);
    let silent = |round: u64| {
        publisher.publish(topic, 1000 + 2 * round);
        publisher.publish(&control, 1001 + 2 * round);
        other.expects(publisher, 1001 + 2 * round);
        !other.numbers_of(publisher).contains(&(1000 + 2 * round))
    };
    assert!((0..1000).any(silent), "{} still receives what it does not follow", other.id);
}

fn topic(name: &str) -> Topic {
    Topic::Channel(channel(name))
}

/// An event by which a number can be told again.
fn numbered(number: u64) -> Event {
    Event::Presence(counting(), Arc::new(Delta { users: number, ..Delta::default() }))
}

fn number(event: &Event) -> Option<u64> {
    match event {
        Event::Presence(channel, delta) if *channel == counting() => Some(delta.users),
        _ => None,
    }
}

fn counting() -> ChannelKey {
    channel("test:counting")
}
