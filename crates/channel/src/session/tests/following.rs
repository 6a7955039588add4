//! Subscriptions before a bus that takes its time to follow.

use serde_json::Value;
use xpush_testkit::Hostility;

use super::{Client, World};
use crate::config::Limits;

const SUBSCRIBE: &str = r#"421["subscribe",{"channel":"open:a"}]"#;

fn world() -> (World, Client) {
    let hostility = Hostility { follow_delay_ms: 10_000, ..Hostility::NONE };
    let mut world = World::over(hostility, Limits::default());
    let mut guest = world.connect(None);
    world.receive(&mut guest);
    (world, guest)
}

fn is_answered(packets: &[String]) -> bool {
    packets.iter().any(|packet| packet.starts_with("431["))
}

#[test]
fn a_subscription_is_answered_when_the_bus_follows_and_not_before() {
    let (mut world, mut guest) = world();
    world.send(&mut guest, SUBSCRIBE);
    assert!(!is_answered(&world.receive(&mut guest)));
    // A second one waits, too.
    let mut other = world.connect(None);
    world.receive(&mut other);
    world.send(&mut other, SUBSCRIBE);
    assert!(!is_answered(&world.receive(&mut other)));
    while world.hub.step() {}
    world.turn();
    assert!(is_answered(&world.receive(&mut guest)) && is_answered(&world.receive(&mut other)));
}

#[test]
fn nobody_waits_for_a_bus_that_says_nothing() {
    let (mut world, mut guest) = world();
    world.send(&mut guest, SUBSCRIBE);
    world.advance(400);
    assert!(!is_answered(&world.receive(&mut guest)));
    world.advance(200);
    assert!(is_answered(&world.receive(&mut guest)));
    while world.hub.step() {}
    world.turn();
    world.send(&mut guest, r#"422["publish",{"channel":"open:a","data":1}]"#);
    let packets = world.receive(&mut guest);
    assert!(packets.iter().any(|packet| packet.starts_with(r#"42["message""#)), "{packets:?}");
}

/// The data of the messages among these packets.
fn messages(packets: &[String]) -> Vec<Value> {
    let pushes = packets.iter().filter(|packet| packet.starts_with(r#"42["message","#));
    pushes.map(|push| serde_json::from_str::<Value>(&push[2..]).unwrap()[1]["data"].clone()).collect()
}

#[test]
fn a_first_subscriber_does_not_hear_what_it_publishes_without_echo() {
    let (mut world, mut guest) = world();
    world.send(&mut guest, SUBSCRIBE);
    world.send(&mut guest, r#"422["publish",{"channel":"open:a","data":1,"echo":false}]"#);
    world.send(&mut guest, r#"423["publish",{"channel":"open:a","data":2}]"#);
    while world.hub.step() {}
    let packets = world.receive(&mut guest);
    assert!(is_answered(&packets));
    assert_eq!(messages(&packets), [2]);
}

#[test]
fn who_leaves_at_once_is_answered_each_time() {
    let mut world = World::new();
    let mut guest = world.connect(None);
    world.send(&mut guest, SUBSCRIBE);
    world.receive(&mut guest);
    let again = r#"["subscribe",{"channel":"open:a","presence":true}]"#;
    let leave = r#"["unsubscribe",{"channel":"open:a"}]"#;
    world.send(&mut guest, &format!("422{again}\u{1e}423{again}\u{1e}424{leave}"));
    let packets = world.receive(&mut guest);
    for (ack, what) in [("432[", "cancelled"), ("433[", "cancelled"), ("434[", "ok")] {
        assert!(packets.iter().any(|packet| packet.starts_with(ack) && packet.contains(what)), "{packets:?}");
    }
}
