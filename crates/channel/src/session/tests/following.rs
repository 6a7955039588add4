//! Subscriptions before a bus that takes its time to follow.

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
