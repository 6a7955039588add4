//! Three nodes in one thread, under a clock that is turned by hand: some die, the cluster and the bus are lost and come back, the store of presence fails and
//! forgets. Meanwhile people come, go, and publish.
//!
//! What must hold: what was acknowledged is heard by everybody, once, in one order; nobody is told that somebody has left who has not; and in the end everybody is told
//! who is there.

mod world;

use std::collections::BTreeSet;

use xpush_core::ports::cluster::Standing;
use xpush_core::ports::hosts::Hosts;
use xpush_testkit::{SeededEntropy, sample};

use self::world::World;

#[test]
fn whose_node_dies_has_ten_seconds_to_be_back() {
    let mut world = World::new(1);
    let people: Vec<usize> = (0..9).map(|number| world.come(number % 3)).collect();
    world.settle();
    world.kill(0);
    world.run_ms(9_000);
    assert_eq!(world.told_left(), BTreeSet::new(), "nobody has left yet");
    // One of the three comes back in time, and nobody notices.
    world.come_back(people[3], 1);
    world.run_ms(7_500);
    let gone = [people[0], people[6]].map(|person| world.user(person));
    assert_eq!(world.told_left(), gone.into());
    world.check();
}

#[test]
fn whose_node_dies_is_offline_ten_seconds_later_unless_back() {
    let mut world = World::new(6);
    let people: Vec<usize> = ["ann", "bob", "cid"].map(|name| world.come_as(0, Some(name))).into();
    world.come_as(1, Some("dan"));
    world.settle();
    let entry = |user: &str, state: &str| (user.to_owned(), state.to_owned());
    let online = |users: &[&str]| users.iter().map(|user| entry(user, "online")).collect::<BTreeSet<_>>();
    let all = online(&["ann", "bob", "cid", "dan"]);
    assert_eq!(world.chronicle().into_iter().collect::<BTreeSet<_>>(), all);
    world.kill(0);
    world.run_ms(5_000);
    world.come_back(people[1], 2);
    world.run_ms(4_500);
    assert_eq!(world.chronicle().len(), 4, "nobody is offline yet");
    world.run_ms(6_500);
    let gone: BTreeSet<_> = world.chronicle().into_iter().skip(4).collect();
    assert_eq!(gone, BTreeSet::from(["ann", "cid"].map(|user| entry(user, "offline"))));
    world.run_ms(20_000);
    assert_eq!(world.chronicle().len(), 6, "once each");
}

#[test]
fn the_registry_knows_which_server_carries_what() {
    let mut world = World::new(7);
    let people: Vec<usize> = [0, 0, 1].map(|node| world.come(node)).into();
    world.settle();
    let host = |name: &str, connections| (name.to_owned(), connections);
    assert_eq!(world.carried(), [host("n0", 2), host("n1", 1)]);
    world.go(people[0]);
    world.go(people[2]);
    world.run_ms(2_000);
    assert_eq!(world.carried(), [host("n0", 1)]);
    // A new start of the same server carries nothing.
    world.kill(0);
    world.revive();
    assert_eq!(world.carried(), []);
    // A registry that has forgotten everything is told again.
    world.come_back(people[0], 0);
    world.settle();
    world.hosts.evict(&sample::name("n0"), Box::new(|_| ()));
    world.run_ms(4_000);
    assert_eq!(world.carried(), [host("n0", 1)]);
}

#[test]
fn nobody_has_left_because_the_cluster_cannot_be_reached() {
    let mut world = World::new(2);
    for number in 0..6 {
        world.come(number % 3);
    }
    world.settle();
    world.show(Standing::Frozen);
    world.kill(0);
    world.run_ms(60_000);
    assert_eq!(world.told_left(), BTreeSet::new());
    world.show(Standing::Live);
    world.run_ms(9_000);
    assert_eq!(world.told_left(), BTreeSet::new(), "time under a frozen view does not count");
    world.run_ms(8_000);
    assert_eq!(world.told_left().len(), 2);
    world.check();
}

#[test]
fn presence_is_unknown_while_its_store_is_lost_and_then_as_it_is() {
    let mut world = World::new(3);
    let people: Vec<usize> = (0..6).map(|number| world.come(number % 3)).collect();
    world.settle();
    world.presence.fail(true);
    world.run_ms(10_000);
    assert!(world.all_unknown(), "subscribers are told");
    world.go(people[0]);
    let late = world.come(1);
    world.run_ms(10_000);
    assert_eq!(world.told_left(), BTreeSet::new());
    world.presence.fail(false);
    world.run_ms(10_000);
    assert!(world.knows(people[1], late) && !world.knows(people[1], people[0]));
    world.check();
}

#[test]
fn a_store_that_has_forgotten_is_told_again() {
    let mut world = World::new(4);
    for number in 0..6 {
        world.come(number % 3);
    }
    world.settle();
    world.presence.forget();
    world.run_ms(5_000);
    let newcomer = world.come(2);
    world.run_ms(5_000);
    assert_eq!(world.known_to(newcomer).map(BTreeSet::len), Some(7));
    world.check();
}

#[test]
fn without_the_bus_messages_come_by_the_log_and_nobody_leaves() {
    let mut world = World::new(5);
    let people: Vec<usize> = (0..6).map(|number| world.come(number % 3)).collect();
    world.settle();
    world.hub.set_up(false);
    world.run_ms(3_000);
    assert!(world.all_unknown());
    world.publish(people[0]);
    world.run_ms(2_500);
    assert!(world.all_have_everything(), "heads are compared every second");
    world.go(people[5]);
    world.run_ms(5_000);
    world.hub.set_up(true);
    world.run_ms(5_000);
    assert!(!world.knows(people[0], people[5]));
    world.check();
}

#[test]
fn a_store_that_comes_back_empty_with_the_bus_empties_nobodys_list() {
    for away_ms in [0, 300, 1_000, 3_000] {
        let mut world = World::new(8);
        let people: Vec<usize> = (0..6).map(|number| world.come(number % 3)).collect();
        world.settle();
        world.hub.set_up(false);
        world.presence.forget();
        world.run_ms(away_ms);
        world.hub.set_up(true);
        for ms in (0..15_000).step_by(100) {
            world.run_ms(100);
            for person in &people {
                let known = world.known_to(*person).map_or(6, BTreeSet::len);
                assert_eq!(known, 6, "{ms} ms after {away_ms} ms without the bus");
            }
        }
        assert!(!world.all_unknown());
        world.check();
    }
}

/// Everything at once, as the seed will have it.
fn endure(seed: u64) {
    println!("seed {seed}");
    let mut world = World::new(seed);
    let mut random = SeededEntropy::new(seed ^ 0x5eed);
    for number in 0..6 {
        world.come(number % 3);
    }
    world.settle();
    for _ in 0..150 {
        let person = usize::try_from(random.below(world.people() as u64)).unwrap();
        let node = world.a_living_node(&mut random);
        match random.below(30) {
            0..12 => world.publish(person),
            12..15 => {
                world.come(node);
            }
            15..18 => world.go(person),
            18..20 => world.come_back(person, node),
            20 if world.living() > 1 => world.kill(node),
            21 => world.revive(),
            22 => world.show(Standing::Frozen),
            23 => world.show(Standing::Live),
            24 => world.hub.set_up(false),
            25 => world.hub.set_up(true),
            26 => world.presence.fail(true),
            27 => world.presence.fail(false),
            28 => world.presence.forget(),
            _ => {}
        }
        world.run_ms(random.below(3_000));
    }
    world.show(Standing::Live);
    world.hub.set_up(true);
    world.presence.fail(false);
    // Past the lease of a node that nobody saw go who is alive.
    world.run_ms(70_000);
    world.check();
}

#[test]
fn whatever_happens_presence_converges_and_nothing_is_lost() {
    for seed in 0..60 {
        endure(seed);
    }
}
