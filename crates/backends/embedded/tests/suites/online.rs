//! Who is online keeps the port's contract.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::online::{Movement, Online, State, Stays};
use xpush_embedded::{LocalOnline, MemoryLastSeen};
use xpush_testkit::ManualClock;
use xpush_testkit::sample::{app, node, user};
use xpush_testkit::suite::answer;
use xpush_testkit::suite::online::OnlineStore;

const GRACE_MS: u64 = 5_000;

fn store() -> OnlineStore {
    let clock = Arc::new(ManualClock::new());
    let online =
        LocalOnline::new(GRACE_MS, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(MemoryLastSeen::default()));
    let online: Arc<dyn Online> = Arc::new(online);
    OnlineStore {
        handles: [Arc::clone(&online), online],
        pass: Box::new(move |ms| clock.advance(ms)),
        grace_ms: GRACE_MS,
    }
}

/// What the process knew is gone; who was there is noted elsewhere.
#[test]
fn who_was_there_when_the_process_ended_is_offline_after_the_grace_time() {
    let clock = Arc::new(ManualClock::new());
    let stays = Arc::new(MemoryLastSeen::default());
    let start = || {
        let left_over = answer(|done| stays.left_over(done)).unwrap();
        LocalOnline::continuing(GRACE_MS, clock.clone(), stays.clone(), left_over)
    };
    let node = node("n0");
    let moves = |online: &LocalOnline, name: &str, from, to| {
        let movement = Movement { app: app("demo"), user: user(name), device: None, from, to };
        let transitions = answer(|done| online.apply(&node, vec![movement], done)).unwrap();
        transitions.into_iter().map(|transition| transition.state).collect::<Vec<_>>()
    };
    let expired = |online: &LocalOnline| {
        let transitions = answer(|done| online.expire(done)).unwrap();
        transitions.into_iter().map(|transition| transition.user.to_string()).collect::<Vec<_>>()
    };
    let first = start();
    for name in ["ann", "bob", "cid", "dan"] {
        clock.advance(10);
        moves(&first, name, None, Some(State::Online));
    }
    moves(&first, "bob", Some(State::Online), Some(State::Away));
    moves(&first, "dan", Some(State::Online), None);
    clock.advance(GRACE_MS);
    assert_eq!(expired(&first), ["dan"]);
    drop(first);
    let second = start();
    assert_eq!(expired(&second), [""; 0]);
    assert_eq!(moves(&second, "ann", None, Some(State::Online)), [], "back in time, she was never gone");
    assert_eq!(moves(&second, "bob", None, Some(State::Online)), [State::Online], "he was away");
    clock.advance(GRACE_MS);
    assert_eq!(expired(&second), ["cid"]);
    drop(second);
    let third = start();
    clock.advance(GRACE_MS);
    assert_eq!(expired(&third), ["ann", "bob"], "in the order in which they were seen; and cid once");
}

xpush_testkit::online_suite!(store);
