//! Two versions in one cluster: it is rolled from the previous one to this one and back under load, server by server.

use std::path::PathBuf;

use serde_json::json;
use xpush_testkit::checker::Event;
use xpush_testkit::fleet::Plan;

use crate::times;
use crate::witness::Witness;
use crate::world::{World, fault, members, plan, read, timed};

/// What a server says of a record that it does not understand.
const ALARMS: [&str; 3] = ["is no good", "cannot be read", "panicked"];

/// Few channels, and many who write each at every server: so servers leave appends to each other, too.
fn crowd() -> Plan {
    Plan { publishers: 9, window: 4, channels: vec!["kept:one".into(), "kept:two".into()], ..plan(9) }
}

/// What one server's clients say, another's hear; and who is there is known to both.
fn hear_each_other(world: &World, time: &str) {
    let channels = ["live:a", "seen:a"];
    let witnesses: Vec<_> = (world.servers.iter())
        .map(|server| Witness::at(server, &format!("{time} at {}", server.name), &channels))
        .collect();
    for server in &world.servers {
        let said = format!("{time} by {}", server.name);
        server.connect("speaker").ask("publish", json!({"channel": "live:a", "data": said})).unwrap();
        witnesses.iter().for_each(|witness| witness.hears("live:a", &said));
    }
    let mut asking = world.servers[0].connect("who asks");
    let there = asking.ask("presence", json!({"channel": "seen:a"})).unwrap();
    assert!(there["count"].as_u64().unwrap() >= witnesses.len() as u64, "{there}");
}

#[test]
#[ignore = "needs a binary of the previous version in PREVIOUS_XPUSH_BIN: cargo xtask soak mixed"]
fn a_cluster_is_rolled_to_the_next_version_and_back() {
    let previous = std::env::var_os("PREVIOUS_XPUSH_BIN").map(PathBuf::from);
    let previous = previous.expect("PREVIOUS_XPUSH_BIN names the previous version");
    let mut world = World::services("mixed");
    for number in 0..3 {
        world.add_with(&world.ways(), |config| config);
        world.servers[number].binary = Some(previous.clone());
        world.servers[number].launch().unwrap();
    }
    world.settle();
    let views = world.views();
    let fleet = world.embark(&crowd());
    for round in 0..times(1) {
        for binary in [None, Some(previous.clone())] {
            let version = if binary.is_none() { "this version" } else { "the previous version" };
            for place in 0..3 {
                fleet.journal().wait_for_acks(200).unwrap();
                let name = world.servers[place].name.clone();
                fault(&fleet, &format!("{name} gets {version}"));
                // In every other round it is not asked.
                if round % 2 == 0 {
                    world.servers[place].end();
                } else {
                    fleet.journal().note("", Event::Killed);
                    world.servers[place].kill();
                }
                views.until("one less", |view| !members(view).contains(&name));
                fleet.journal().wait_for_acks(100).unwrap();
                world.servers[place].binary = binary.clone();
                timed(&format!("{name} is of {version}"), || {
                    world.servers[place].launch().unwrap();
                    world.settle();
                });
                hear_each_other(&world, &format!("round {round}, {version}, {name}"));
            }
        }
    }
    let forwarded: u64 = world.servers.iter().map(|server| server.metric("xpush_forwarded_total")).sum();
    println!("{forwarded} publications were left to other servers since the last starts");
    for server in &world.servers {
        let log = read(&server.log());
        let alarm = log.lines().find(|line| ALARMS.iter().any(|alarm| line.contains(alarm)));
        assert_eq!(alarm, None, "{}", server.name);
    }
    fleet.journal().wait_for_acks(200).unwrap();
    world.judge(fleet);
}
