//! The hostile bus, when it is not hostile, keeps the port's contract; and the suite tells when it is.

use std::sync::{Arc, Mutex};

use xpush_core::NodeId;
use xpush_core::ports::Done;
use xpush_core::ports::bus::{Bus, BusSink, Event, Topic};
use xpush_core::{Clock, Monotonic};
use xpush_testkit::suite::bus::BusStore;
use xpush_testkit::{HostileHub, Hostility, ManualClock};

/// Delivers what it publishes, one at a time.
struct Pumped {
    bus: Arc<dyn Bus>,
    hub: HostileHub,
    turn: Arc<Mutex<()>>,
    /// How many events may wait: the more, the more can be swapped.
    held: u32,
    published: Mutex<u32>,
}

impl Bus for Pumped {
    fn publish(&self, topic: &Topic, event: Event) {
        let _turn = self.turn.lock();
        self.bus.publish(topic, event);
        let mut published = self.published.lock().expect("a count");
        *published += 1;
        if published.is_multiple_of(self.held) {
            self.hub.deliver_due(Monotonic(u64::MAX));
        }
    }

    fn follow(&self, topic: Topic, done: Done<()>) {
        self.bus.follow(topic, done);
        // Two who deliver at once could swap what they deliver.
        let _turn = self.turn.lock();
        self.hub.deliver_due(Monotonic(u64::MAX));
    }

    fn unfollow(&self, topic: &Topic) {
        self.bus.unfollow(topic);
    }
}

fn store_that_is(hostility: Hostility, held: u32) -> BusStore {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let (hub, turn) = (HostileHub::new(1, hostility, clock), Arc::new(Mutex::new(())));
    let attach = move |node: NodeId, sink: Arc<dyn BusSink>| -> Arc<dyn Bus> {
        let (bus, hub, turn) = (hub.attach(node, sink), hub.clone(), Arc::clone(&turn));
        Arc::new(Pumped { bus, hub, turn, held, published: Mutex::new(0) })
    };
    BusStore { attach: Box::new(attach) }
}

fn store() -> BusStore {
    store_that_is(Hostility::NONE, 1)
}

xpush_testkit::bus_suite!(store);

mod shows {
    use super::*;
    use xpush_testkit::suite::bus::{
        an_event_reaches_the_others_that_follow_once, one_origins_events_keep_their_order,
    };

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_swap() {
        let swapping = Hostility { max_delay_ms: 10, reorder: true, ..Hostility::NONE };
        one_origins_events_keep_their_order(&store_that_is(swapping, 5));
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_loss() {
        an_event_reaches_the_others_that_follow_once(&store_that_is(
            Hostility { drop: 0.1, ..Hostility::NONE },
            1,
        ));
    }

    #[test]
    #[should_panic(expected = "a healthy bus says Gap")]
    fn a_gap() {
        let announcing = Hostility { gap_probability: 0.2, ..Hostility::NONE };
        an_event_reaches_the_others_that_follow_once(&store_that_is(announcing, 1));
    }
}
