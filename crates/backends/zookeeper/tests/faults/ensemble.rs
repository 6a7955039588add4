//! An ensemble that loses its leader, or its majority.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use xpush_core::ports::Failure;
use xpush_core::ports::cluster::{Cluster, Standing, View};
use xpush_testkit::sample::{name, node, server};
use xpush_testkit::service::zookeeper::ZooKeeper;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::cluster::{ids, join, ring};
use xpush_zookeeper::Options;

use super::{open, watch};

/// Three servers for the whole process; one test at a time, which finds all of them well.
fn ensemble() -> MutexGuard<'static, ZooKeeper> {
    static ENSEMBLE: OnceLock<Mutex<ZooKeeper>> = OnceLock::new();
    let ensemble = ENSEMBLE.get_or_init(|| Mutex::new(ZooKeeper::ensemble()));
    let mut ensemble = ensemble.lock().unwrap_or_else(PoisonError::into_inner);
    ensemble.restart();
    ensemble.wait_until_whole();
    ensemble
}

fn options(ensemble: &ZooKeeper, root: &str) -> Options {
    let mut options = Options::new(ensemble.hosts());
    options.root = format!("/{root}");
    // Long enough for an election on a busy machine.
    options.session_timeout = Duration::from_secs(20);
    options
}

#[test]
fn a_dead_leader_costs_nobody_membership() {
    let mut ensemble = ensemble();
    let options = options(&ensemble, "leader");
    let handles = [open(&options), open(&options), open(&options)];
    let all = ["a", "b", "c"].map(server);
    let views: Vec<_> =
        handles.iter().zip(&all).map(|(handle, member)| join(handle, member.clone()).unwrap()).collect();
    views.iter().for_each(|views| views.settle(&["a", "b", "c"]));
    handles[0].campaign(&node("a"));
    views[0].until("its election", |view| view.planner.is_some());
    let term = views[0].last().planner;
    let seen: Vec<usize> = views.iter().map(|views| views.all().len()).collect();

    let leader = ensemble.leader();
    ensemble.kill(leader);
    // Servers without a leader turn their clients away.
    for (views, seen) in views.iter().zip(&seen) {
        views.when("out of reach", |all| all[*seen..].iter().any(|view| view.standing == Standing::Frozen));
        views.settle(&["a", "b", "c"]);
    }
    // It goes on, and tells all of them.
    answer(|done| handles[1].set_draining(&name("x"), true, done)).expect("is noted");
    for (views, seen) in views.iter().zip(&seen) {
        views.until("the wish", |view| view.draining.contains(&name("x")));
        let kept = |view: &View| view.nodes.len() == 3 && view.standing != Standing::Expired;
        assert!(views.all()[*seen..].iter().all(|view| kept(view)), "nobody was ever gone");
    }
    views[0].until("the same term", |view| view.planner == term);
    answer(|done| handles[0].publish_ring(ring(1, term.unwrap(), 7).into(), done))
        .expect("still the planner");
}

#[test]
fn without_a_majority_everything_stays_as_it_was() {
    let mut ensemble = ensemble();
    // So short that the client gives the session up by itself (after 7/5 of it) long before the majority is back.
    let options = Options { session_timeout: Duration::from_secs(8), ..options(&ensemble, "majority") };
    let handle = open(&options);
    let member = join(&handle, server("a")).unwrap();
    let observer = watch(&handle);
    handle.campaign(&node("a"));
    member.until("its election", |view| view.planner.is_some());
    let first = ring(1, member.last().planner.unwrap(), 7);
    answer(|done| handle.publish_ring(first.clone().into(), done)).expect("is published");
    member.until("the ring", |view| view.ring.as_deref() == Some(&first));
    let seen = member.all().len();

    let survivor = ensemble.leader();
    let dead = [0, 1, 2].into_iter().filter(|index| *index != survivor);
    dead.for_each(|index| ensemble.kill(index));
    for views in [&member, &observer] {
        views.until("a frozen view", |view| {
            view.standing == Standing::Frozen && ids(view) == ["a"] && view.ring.as_deref() == Some(&first)
        });
    }
    assert_eq!(member.last().planner, None, "it cannot know whether it still is");
    // Asking takes as long as a session lasts: so long, twice, nobody is heard of.
    for _ in 0..2 {
        let second = ring(2, first.term(), 7).into();
        let refused = answer(|done| handle.publish_ring(second, done)).expect_err("is out of reach");
        assert_eq!(refused.kind, Failure::NotApplied);
    }
    let frozen = |view: &View| view.standing == Standing::Frozen && ids(view) == ["a"];
    assert!(frozen(&member.last()) && frozen(&observer.last()));

    ensemble.restart();
    ensemble.wait_until_whole();
    member.settle(&["a"]);
    assert!(observer.all()[1..].iter().filter(|view| view.standing == Standing::Frozen).count() > 0);
    member.until("the same planner, and the ring", |view| {
        view.planner == Some(first.term()) && view.ring.as_deref() == Some(&first)
    });
    assert!(member.all().iter().all(|view| view.standing != Standing::Expired), "the session went on");
    assert!(
        member.all()[seen..].iter().all(|view| view.ring.as_deref() == Some(&first)),
        "the ring was kept"
    );
}
