//! Many who write into one durable channel, at several servers.

use xpush_core::placement::{Ring, Table};
use xpush_core::{App, Channel, ChannelKey};
use xpush_testkit::checker::Event;
use xpush_testkit::fleet::Plan;

use crate::times;
use crate::world::{World, fault, members, plan, timed};

const CHANNEL: &str = "kept:one";

/// Eight at each of three servers, all in one channel.
fn crowd(seed: u64) -> Plan {
    Plan { publishers: 24, subscribers: 3, window: 4, channels: vec![CHANNEL.into()], ..plan(seed) }
}

/// The name of the server that appends for all.
fn host(world: &mut World) -> String {
    let channel = ChannelKey::new(App::new("demo").unwrap(), Channel::new(CHANNEL).unwrap());
    let ring = world.views().last().ring.clone().unwrap();
    let table = Table::new(Ring::clone(&ring));
    ring.nodes()[table.owner(channel.hash64()).unwrap()].name.to_string()
}

#[test]
fn many_at_several_servers_write_one_channel_whose_host_is_killed() {
    let mut world = World::start("sharing", 3);
    let views = world.views();
    let fleet = world.embark(&crowd(8));
    for _ in 0..times(1) {
        fleet.journal().wait_for_acks(2_000).unwrap();
        let host = host(&mut world);
        let forwarded = |world: &World| -> u64 {
            let others = world.servers.iter().filter(|server| server.name != host);
            others.map(|server| server.metric("xpush_forwarded_total")).sum()
        };
        assert!(forwarded(&world) > 0, "the host appends for the others");
        fleet.journal().note("", Event::Killed);
        let victim = world.servers.iter().position(|server| server.name == host).unwrap();
        world.servers[victim].kill();
        fleet.journal().wait_for_acks(500).unwrap();
        timed("the killed host was noticed", || {
            views.until("one less", |view| !members(view).contains(&host));
        });
        fleet.journal().wait_for_acks(1_000).unwrap();
        fault(&fleet, "the killed host comes back");
        world.servers[victim].launch().unwrap();
        world.settle();
    }
    fleet.journal().wait_for_acks(500).unwrap();
    world.judge(fleet);
}
