use std::sync::PoisonError;

use xpush_core::ports::presence::Delta;
use xpush_core::{App, Channel, ChannelKey};

use super::*;
use crate::ManualClock;

/// Remembers what came, by a number that the tests hide in the event.
#[derive(Default)]
struct Seen(Mutex<Vec<Result<u64, Inbound>>>);

impl BusSink for Seen {
    fn receive(&self, inbound: Inbound) {
        let seen = match inbound {
            Inbound::Envelope(Envelope { event: Event::Presence(_, delta), .. }) => Ok(delta.users),
            other => Err(other),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

impl Seen {
    fn numbers(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().filter_map(|seen| seen.as_ref().ok()).copied().collect()
    }

    fn gaps(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| matches!(seen, Err(Inbound::Gap(_)))).count()
    }
}

fn channel() -> ChannelKey {
    ChannelKey::new(App::new("demo").unwrap(), Channel::new("chat:lobby").unwrap())
}

fn event(number: u64) -> Event {
    Event::Presence(channel(), Arc::new(Delta { users: number, ..Delta::default() }))
}

/// What a follower of `count` events saw, and how many gaps it was told of.
fn play(seed: u64, hostility: Hostility, count: u64) -> (Vec<u64>, usize) {
    let clock = Arc::new(ManualClock::new());
    let hub = HostileHub::new(seed, hostility, Arc::clone(&clock) as Arc<dyn Clock>);
    let (seen, own) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let publisher = hub.attach(NodeId::new("a").unwrap(), Arc::clone(&own) as Arc<dyn BusSink>);
    let follower = hub.attach(NodeId::new("b").unwrap(), Arc::clone(&seen) as Arc<dyn BusSink>);
    let topic = Topic::Channel(channel());
    publisher.follow(topic.clone(), Box::new(|_| ()));
    follower.follow(topic.clone(), Box::new(|_| ()));
    for number in 0..count {
        publisher.publish(&topic, event(number));
        clock.advance(1);
        hub.deliver_due(clock.monotonic());
    }
    while let Some(due) = hub.next_due() {
        clock.advance_to(due);
        assert!(hub.deliver_due(clock.monotonic()) > 0);
    }
    assert!(own.numbers().is_empty(), "an event came back to its publisher");
    (seen.numbers(), seen.gaps())
}

#[test]
fn without_hostility_it_is_a_good_bus() {
    assert_eq!(play(1, Hostility::NONE, 100), ((0..100).collect(), 0));
}

#[test]
fn delay_alone_keeps_the_order() {
    let (seen, _) = play(1, Hostility { max_delay_ms: 50, ..Hostility::NONE }, 500);
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

#[test]
fn reordering_swaps_and_loses_nothing() {
    let (mut seen, _) = play(1, Hostility { max_delay_ms: 50, reorder: true, ..Hostility::NONE }, 500);
    assert!(!seen.is_sorted());
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

#[test]
fn losses_and_gaps_come_as_often_as_asked_for() {
    let (seen, gaps) = play(1, Hostility { drop: 0.2, gap_probability: 0.1, ..Hostility::NONE }, 5000);
    assert!((3850..4150).contains(&seen.len()) && (420..580).contains(&gaps), "{} {gaps}", seen.len());
}

#[test]
fn the_seed_decides() {
    let hostility =
        Hostility { drop: 0.2, max_delay_ms: 50, reorder: true, gap_probability: 0.1, follow_delay_ms: 20 };
    assert_eq!(play(5, hostility, 300), play(5, hostility, 300));
    assert_ne!(play(5, hostility, 300), play(6, hostility, 300));
}

#[test]
fn a_topic_is_followed_when_it_is_said_and_not_before() {
    let clock = Arc::new(ManualClock::new());
    let hub = HostileHub::new(4, Hostility { follow_delay_ms: 100, ..Hostility::NONE }, clock);
    let (seen, said) = (Arc::new(Seen::default()), Arc::new(Mutex::new(Vec::new())));
    let publisher = hub.attach(NodeId::new("a").unwrap(), Arc::new(Seen::default()));
    let follower = hub.attach(NodeId::new("b").unwrap(), Arc::clone(&seen) as Arc<dyn BusSink>);
    let follow = |topic| {
        let said = said.clone();
        follower.follow(topic, Box::new(move |result| said.lock().unwrap().push(result.is_ok())));
    };
    follow(Topic::Nodes);
    publisher.publish(&Topic::Nodes, event(1));
    assert!(said.lock().unwrap().is_empty() && hub.step());
    publisher.publish(&Topic::Nodes, event(2));
    follow(Topic::Channel(channel()));
    follower.unfollow(&Topic::Channel(channel()));
    while hub.step() {}
    assert_eq!((seen.numbers(), said.lock().unwrap().clone()), (vec![2], vec![true, false]));
}

#[test]
fn nothing_arrives_before_it_is_due_except_by_a_step() {
    let clock = Arc::new(ManualClock::new());
    let hub = HostileHub::new(3, Hostility { max_delay_ms: 1000, ..Hostility::NONE }, clock);
    let seen = Arc::new(Seen::default());
    let publisher = hub.attach(NodeId::new("a").unwrap(), Arc::new(Seen::default()));
    let follower = hub.attach(NodeId::new("b").unwrap(), Arc::clone(&seen) as Arc<dyn BusSink>);
    follower.follow(Topic::Nodes, Box::new(|_| ()));
    publisher.publish(&Topic::Nodes, event(1));
    let due = hub.next_due().unwrap();
    assert!(due > Monotonic(0) && due <= Monotonic(1000), "{due:?}");
    assert_eq!(hub.deliver_due(Monotonic(due.0 - 1)), 0);
    assert!(hub.step() && !hub.step());
    assert_eq!(seen.numbers(), [1]);
}
