//! Several real servers on real services, with faults: what clients were told must be true afterwards.
//!
//! `XPUSH_BIN` names another binary than the one that cargo has just built, and `XPUSH_CRASHES` how often each fault is played.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "figures are shown, not judged")]

mod bad_days;
mod crowd;
mod faults;
mod hooks;
mod migrate;
mod mixed;
mod nginx;
mod operate;
mod restore;
mod secure;
mod sharing;
mod witness;
mod world;

use xpush_testkit::checker::Event;
use xpush_testkit::environment::SeededEntropy;

use world::{World, plan, timed};

/// How often a fault is played: a few times in a run of the tests.
fn times(usual: usize) -> usize {
    std::env::var("XPUSH_CRASHES").map_or(usual, |times| times.parse().unwrap())
}

#[test]
fn nothing_acked_is_lost_whichever_server_is_killed() {
    let mut world = World::start("killed", 3);
    let views = world.views();
    let mut entropy = SeededEntropy::new(7);
    let fleet = world.embark(&plan(1));
    for time in 0..times(5) {
        fleet.journal().wait_for_acks(200).unwrap();
        let victim = usize::try_from(entropy.below(3)).unwrap();
        fleet.journal().note("", Event::Killed);
        world.servers[victim].kill();
        let name = world.servers[victim].name.clone();
        // Every other one comes back at once, and takes its name over from what it was before; the others are missed first.
        if time % 2 == 0 {
            timed("a killed server was noticed", || {
                views.until("one less", |view| !world::members(view).contains(&name));
            });
        }
        fleet.journal().wait_for_acks(100).unwrap();
        timed("a server came back", || world.servers[victim].launch().unwrap());
    }
    world.settle();
    fleet.journal().wait_for_acks(200).unwrap();
    world.judge(fleet);
}
