//! What every [`Cluster`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

mod views;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;
use xpush_core::SettingName;
use xpush_core::placement::Ring;
use xpush_core::ports::Failure;
use xpush_core::ports::cluster::{
    Cluster, ClusterSink, Load, MAX_SETTING, Node, Roles, Setting, Settings, Standing, View,
};

use crate::sample::{name, node, server};
use crate::suite::{Until, answer};

pub use views::{Views, ids, join, ring};

/// A new cluster without members.
pub struct ClusterStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Cluster>; 2],
    /// The same handles, where the cluster has settings.
    pub settings: [Arc<dyn Settings>; 2],
    /// Gives one more.
    pub another: Box<dyn Fn() -> Arc<dyn Cluster> + Send + Sync>,
}

/// Makes each property of a [`Cluster`] a test; `$fixture` is a function that gives a [`ClusterStore`].
#[macro_export]
macro_rules! cluster_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, cluster:
            the_first_view_comes_before_the_answer
            every_member_sees_all_ascending
            a_node_is_seen_as_it_is
            a_node_that_is_no_good_is_refused
            who_leaves_is_seen_no_more
            a_node_that_joins_again_replaces_itself
            views_come_in_the_order_in_which_they_arose
            an_observer_sees_and_is_not_seen
            a_name_is_one_nodes_at_a_time
            a_later_start_of_a_server_takes_its_place
            what_belongs_to_a_handle_goes_with_it
            a_removed_node_that_lives_comes_back
            a_report_is_seen_and_changes_no_membership
            one_member_is_elected_and_terms_ascend
            a_ring_follows_the_ring_before
            only_the_elected_planner_publishes
            of_one_generation_there_is_one_ring
            what_an_operator_wants_is_kept
            a_setting_follows_the_setting_before
        );
    };
}

impl ClusterStore {
    fn join(&self, handle: usize, id: &str) -> Arc<Views> {
        join(&*self.handles[handle], server(id)).expect("joins")
    }

    fn watch(&self, handle: usize) -> Arc<Views> {
        let views = Views::new();
        self.handles[handle].watch(Arc::clone(&views) as Arc<dyn ClusterSink>);
        views
    }

    fn leave(&self, handle: usize, id: &str) {
        answer(|done| self.handles[handle].leave(&node(id), done)).expect("leaves");
    }

    fn publish(&self, handle: usize, ring: Ring) -> Result<(), Failure> {
        let published = answer(|done| self.handles[handle].publish_ring(Arc::new(ring), done));
        published.map_err(|error| error.kind)
    }

    fn set_draining(&self, handle: usize, server: &str, wanted: bool) {
        answer(|done| self.handles[handle].set_draining(&name(server), wanted, done)).expect("is noted");
    }
}

pub fn the_first_view_comes_before_the_answer(store: &ClusterStore) {
    let first = store.join(0, "a");
    first.until("itself, live", |view| view.standing == Standing::Live && *view.nodes == [server("a")]);
    assert!(store.join(1, "b").now().contains(&"b".to_owned()));
}

pub fn every_member_sees_all_ascending(store: &ClusterStore) {
    let all = [(0, "m"), (1, "z"), (0, "a"), (1, "k")].map(|(handle, id)| store.join(handle, id));
    for views in &all {
        views.settle(&["a", "k", "m", "z"]);
        assert_eq!(*views.last().nodes, ["a", "k", "m", "z"].map(server));
    }
}

pub fn a_node_is_seen_as_it_is(store: &ClusterStore) {
    let odd = Node {
        id: node("-._"),
        name: name("a..b"),
        installation: u64::MAX,
        url: "wss://\"방\"/\\".into(),
        peer: Some("[::1]:8000".into()),
        peer_tls: true,
        capacity: u64::MAX,
        version: "".into(),
        roles: Roles { session: true, channel: false },
        since: 0,
        configuration: Default::default(),
    };
    let other = store.watch(1);
    join(&*store.handles[0], odd.clone()).expect("joins");
    other.until("the odd one", |view| *view.nodes == [odd.clone()]);
    assert_eq!(other.last().channel_nodes().count(), 0);
}

pub fn a_node_that_is_no_good_is_refused(store: &ClusterStore) {
    let observer = store.watch(1);
    for bad in [
        Node { url: "http://a\n".into(), ..server("a") },
        Node { url: "x".repeat(2_049).into(), ..server("a") },
        Node { version: "\u{7f}".into(), ..server("a") },
        Node { peer: Some("a".into()), ..server("a") },
        Node { peer: Some("a:0".into()), ..server("a") },
        Node { peer: Some(":80".into()), ..server("a") },
        Node { peer: Some("a:+80".into()), ..server("a") },
        Node { peer: Some("a/..:80".into()), ..server("a") },
    ] {
        let refused = join(&*store.handles[0], bad.clone()).expect_err("is refused");
        assert_eq!(refused.kind, Failure::Invalid, "{bad:?}");
    }
    store.join(0, "a");
    observer.settle(&["a"]);
    assert_eq!(observer.last().refused, 0, "nothing of it came into the cluster");
}

pub fn who_leaves_is_seen_no_more(store: &ClusterStore) {
    let [a, b, c] = [(0, "a"), (1, "b"), (0, "c")].map(|(handle, id)| store.join(handle, id));
    store.leave(1, "b");
    for views in [&a, &c] {
        views.settle(&["a", "c"]);
    }
    // Twice, and by a stranger, is no harm.
    store.leave(1, "b");
    store.leave(0, "stranger");
    let again = store.join(1, "b");
    for views in [&a, &c, &again] {
        views.settle(&["a", "b", "c"]);
    }
    // Of a member of another handle it says nothing.
    store.leave(0, "b");
    store.join(0, "d");
    again.settle(&["a", "b", "c", "d"]);
    drop(b);
}

pub fn a_node_that_joins_again_replaces_itself(store: &ClusterStore) {
    let other = store.join(1, "b");
    store.join(0, "a").settle(&["a", "b"]);
    let moved = Node { url: "http://elsewhere:1".into(), ..server("a") };
    let views = join(&*store.handles[0], moved.clone()).expect("joins");
    for views in [&views, &other] {
        views.until("a elsewhere", |view| *view.nodes == [moved.clone(), server("b")]);
    }
}

pub fn views_come_in_the_order_in_which_they_arose(store: &ClusterStore) {
    // Nobody leaves: in the right order views only grow.
    let expected: Vec<String> = (10..30).map(|number| format!("n{number}")).collect();
    let start = Barrier::new(expected.len());
    let all: Vec<Arc<Views>> = thread::scope(|scope| {
        let start = &start;
        let spawn = |(number, id): (usize, &'_ String)| {
            let id = id.clone();
            scope.spawn(move || {
                start.wait();
                store.join(number % 2, &id)
            })
        };
        let threads: Vec<_> = expected.iter().enumerate().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a node")).collect()
    });
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    for views in all {
        views.settle(&expected);
        let sizes = views.all().iter().map(|view| view.nodes.len()).collect::<Vec<_>>();
        assert!(sizes.is_sorted(), "{sizes:?}");
    }
}

pub fn an_observer_sees_and_is_not_seen(store: &ClusterStore) {
    let early = store.watch(0);
    assert_eq!(early.all().len().min(1), 1, "a view at once");
    let member = store.join(1, "a");
    early.settle(&["a"]);
    store.watch(1).settle(&["a"]);
    member.settle(&["a"]);
    store.leave(1, "a");
    early.settle(&[]);
}

pub fn a_name_is_one_nodes_at_a_time(store: &ClusterStore) {
    let named = |id: &str, installation| Node { id: node(id), installation, ..server("a") };
    let first = join(&*store.handles[0], named("first", 0)).expect("joins");
    for (handle, installation) in [(1, 0), (0, 0), (1, 7)] {
        let refused = join(&*store.handles[handle], named("second", installation)).expect_err("is refused");
        assert_eq!(refused.kind, Failure::Conflict);
        assert!(refused.detail.contains("first"), "{refused}");
    }
    first.settle(&["first"]);
    store.leave(0, "first");
    let second = join(&*store.handles[1], named("second", 0)).expect("the name is free");
    second.settle(&["second"]);
}

pub fn a_later_start_of_a_server_takes_its_place(store: &ClusterStore) {
    let named = |id: &str| Node { id: node(id), installation: 7, ..server("a") };
    let other = store.join(0, "other");
    let earlier = join(&*store.handles[0], named("earlier")).expect("joins");
    store.handles[0].report(&node("earlier"), Load { connections: 5, ..Load::default() });
    other.until("a load", |view| !view.loads.is_empty());
    let later = join(&*store.handles[1], named("later")).expect("takes the place");
    earlier.until("the loss", |view| view.standing == Standing::Expired);
    for views in [&later, &other] {
        views.settle(&["later", "other"]);
        views.until("no load of the one that went", |view| view.loads.is_empty());
    }
    // It comes back when the name is free again, and not before.
    assert!(earlier.all().iter().rev().take_while(|view| view.standing == Standing::Expired).count() > 0);
    store.leave(1, "later");
    for views in [&earlier, &other] {
        views.settle(&["earlier", "other"]);
    }
}

pub fn what_belongs_to_a_handle_goes_with_it(store: &ClusterStore) {
    let handle = (store.another)();
    let gone = join(&*handle, server("gone")).expect("joins");
    handle.campaign(&node("gone"));
    gone.until("its election", |view| view.planner.is_some());
    let stays = store.join(0, "stays");
    store.handles[0].campaign(&node("stays"));
    stays.settle(&["gone", "stays"]);
    drop(handle);
    stays.settle(&["stays"]);
    stays.until("its election", |view| view.planner > gone.last().planner.or(Some(0)));
}

pub fn a_removed_node_that_lives_comes_back(store: &ClusterStore) {
    let [a, b] = [(0, "a"), (1, "b")].map(|(handle, id)| store.join(handle, id));
    a.settle(&["a", "b"]);
    store.handles[0].campaign(&node("a"));
    a.until("its election", |view| view.planner.is_some());
    answer(|done| store.handles[1].remove(&node("a"), done)).expect("is removed");
    let back = |views: &[Arc<View>]| {
        let out = views.iter().position(|view| view.standing == Standing::Expired);
        out.is_some_and(|out| views[out..].iter().any(|view| view.standing == Standing::Live))
    };
    a.when("out, and in again", back);
    b.settle(&["a", "b"]);
    assert!(b.all().iter().any(|view| ids(view) == ["b"]), "it was out");
    a.until("another election", |view| view.planner.is_some());
    answer(|done| store.handles[1].remove(&node("stranger"), done)).expect("nobody was there");
}

pub fn a_report_is_seen_and_changes_no_membership(store: &ClusterStore) {
    let [a, b] = [(0, "a"), (1, "b")].map(|(handle, id)| store.join(handle, id));
    let observer = store.watch(1);
    let load = |connections| Load { connections, channels: 3, lag_ms: 12 };
    store.handles[1].report(&node("a"), load(1));
    store.handles[1].report(&node("stranger"), load(2));
    store.handles[0].report(&node("a"), load(7_000));
    store.handles[1].report(&node("b"), load(8_000));
    for views in [&a, &b, &observer] {
        views.until("both loads", |view| {
            view.loads.get(&node("a")) == Some(&load(7_000))
                && view.loads.get(&node("b")) == Some(&load(8_000))
        });
        views.settle(&["a", "b"]);
        let strange = |view: &Arc<View>| view.loads.values().any(|load| [1, 2].contains(&load.connections));
        assert!(!views.all().iter().any(strange), "others' loads are not ours to tell");
    }
    store.leave(0, "a");
    b.until("one load less", |view| view.loads.len() == 1);
}

pub fn one_member_is_elected_and_terms_ascend(store: &ClusterStore) {
    let [a, b] = [(0, "a"), (1, "b")].map(|(handle, id)| store.join(handle, id));
    store.handles[0].campaign(&node("stranger"));
    store.handles[0].campaign(&node("a"));
    a.until("its election", |view| view.planner.is_some());
    store.handles[1].campaign(&node("b"));
    let first = a.last().planner.expect("is elected");
    assert!(b.all().iter().all(|view| view.planner.is_none()), "one at a time");
    store.leave(0, "a");
    b.until("a higher term", |view| view.planner > Some(first));
    let again = store.join(0, "a");
    store.leave(1, "b");
    b.when("nothing more", |views| !views.is_empty());
    store.handles[0].campaign(&node("a"));
    again.until("a term higher still", |view| view.planner > b.last().planner);
}

pub fn a_ring_follows_the_ring_before(store: &ClusterStore) {
    let planner = store.join(0, "a");
    let observer = store.watch(1);
    assert_eq!(observer.last().ring, None);
    store.handles[0].campaign(&node("a"));
    planner.until("its election", |view| view.planner.is_some());
    let term = planner.last().planner.expect("is elected");
    assert_eq!(store.publish(0, ring(2, term, 1)), Err(Failure::Conflict), "there is no first one");
    assert_eq!(store.publish(0, ring(0, term, 1)), Err(Failure::Conflict), "before the first one");
    for generation in 1..=3 {
        let wanted = ring(generation, term, generation);
        assert_eq!(store.publish(0, wanted.clone()), Ok(()));
        assert_eq!(store.publish(0, wanted.clone()), Ok(()), "the very same again");
        for other in [ring(generation, term, 9), ring(generation + 2, term, 9), ring(generation - 1, term, 9)]
        {
            assert_eq!(store.publish(0, other), Err(Failure::Conflict));
        }
        for views in [&planner, &observer] {
            views.until("the ring", |view| view.ring.as_deref() == Some(&wanted));
        }
    }
    // It stays when nobody is there any more.
    store.leave(0, "a");
    observer.settle(&[]);
    let later = store.watch(0);
    later.until("the ring", |view| view.ring.as_deref() == Some(&ring(3, term, 3)));
    assert!(observer.all().iter().map(|view| view.ring.as_ref().map(|ring| ring.generation())).is_sorted());
}

pub fn only_the_elected_planner_publishes(store: &ClusterStore) {
    let [a, b] = [(0, "a"), (1, "b")].map(|(handle, id)| store.join(handle, id));
    assert_eq!(store.publish(0, ring(1, 0, 1)), Err(Failure::Fenced), "nobody stands");
    store.handles[0].campaign(&node("a"));
    a.until("its election", |view| view.planner.is_some());
    store.handles[1].campaign(&node("b"));
    let term = a.last().planner.expect("is elected");
    for (handle, term) in [(1, term), (0, term + 1), (0, term - 1), (1, term + 1), (0, u64::MAX)] {
        assert_eq!(store.publish(handle, ring(1, term, 1)), Err(Failure::Fenced), "{handle} {term}");
    }
    store.leave(0, "a");
    b.until("its election", |view| view.planner.is_some());
    assert_eq!(store.publish(0, ring(1, term, 1)), Err(Failure::Fenced), "its term is over");
    let newer = b.last().planner.expect("is elected");
    assert_eq!(store.publish(1, ring(1, newer, 1)), Ok(()));
}

pub fn of_one_generation_there_is_one_ring(store: &ClusterStore) {
    const GENERATIONS: u64 = 6;
    let observer = store.watch(0);
    let over = AtomicBool::new(false);
    let published: Vec<Vec<u64>> = thread::scope(|scope| {
        let over = &over;
        let observer = &observer;
        let publish = |handle: usize, id: &'static str| {
            scope.spawn(move || {
                let _end = Until(over);
                let mut published = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let views = store.join(handle, id);
                    store.handles[handle].campaign(&node(id));
                    let elected = |view: &View| view.planner.is_some() || over.load(Ordering::SeqCst);
                    if !views.until_or("an election", elected, || over.load(Ordering::SeqCst)) {
                        break;
                    }
                    let Some(term) = views.last().planner else { break };
                    // What this node has seen may be old: then it is refused.
                    let next = observer.last().ring.as_ref().map_or(0, |ring| ring.generation()) + 1;
                    let weight = if handle == 0 { 1 } else { 2 };
                    match store.publish(handle, ring(next, term, weight)) {
                        Ok(()) => published.push(next),
                        Err(why) => assert!(matches!(why, Failure::Fenced | Failure::Conflict), "{why:?}"),
                    }
                    store.leave(handle, id);
                    over.fetch_or(next >= GENERATIONS, Ordering::SeqCst);
                }
                published
            })
        };
        let planners = [publish(0, "a"), publish(1, "b")];
        planners.into_iter().map(|planner| planner.join().expect("a planner")).collect()
    });
    let mut all = published.concat();
    all.sort_unstable();
    let expected: Vec<u64> = (1..).take(all.len()).collect();
    assert_eq!(all, expected, "each generation once");
    assert!(all.len() as u64 >= GENERATIONS - 1);
    observer.until("the newest", |view| {
        view.ring.as_ref().is_some_and(|ring| ring.generation() == all.len() as u64)
    });
}

pub fn what_an_operator_wants_is_kept(store: &ClusterStore) {
    let observer = store.watch(1);
    // Whether it is there or not, and by whoever.
    store.set_draining(0, "b", true);
    store.set_draining(1, "a", true);
    store.set_draining(0, "a", true);
    observer.until("both", |view| view.draining.iter().eq([&name("a"), &name("b")]));
    let member = store.join(0, "a");
    store.leave(0, "a");
    assert!(member.last().draining.contains(&name("a")));
    store.set_draining(1, "b", false);
    store.set_draining(0, "b", false);
    store.set_draining(0, "c", false);
    observer.until("one", |view| view.draining.iter().eq([&name("a")]));
    let late = (store.another)();
    let views = Views::new();
    late.watch(Arc::clone(&views) as Arc<dyn ClusterSink>);
    views.until("one", |view| view.draining.iter().eq([&name("a")]));
}

pub fn a_setting_follows_the_setting_before(store: &ClusterStore) {
    let [limits, other] = ["limits", "other"].map(|text| SettingName::new(text).expect("a name"));
    let set = |handle: usize, name: &SettingName, expected, value: &'static [u8]| {
        let set = answer(|done| store.settings[handle].set(name, expected, Bytes::from_static(value), done));
        set.map_err(|error| error.kind)
    };
    let observer = store.watch(1);
    assert_eq!(set(0, &limits, 1, b"a"), Err(Failure::Conflict), "it was never set");
    for (generation, value) in [(1, &b"a"[..]), (2, b"b"), (3, b""), (4, b"\0\xff")] {
        assert_eq!(set(0, &limits, generation - 1, value), Ok(generation));
        assert_eq!(set(1, &limits, generation - 1, value), Ok(generation), "the very same again");
        assert_eq!(set(1, &limits, generation - 1, b"x"), Err(Failure::Conflict));
        assert_eq!(set(1, &limits, generation + 1, b"x"), Err(Failure::Conflict));
        observer.until("the value", |view| {
            view.settings.get(&limits) == Some(&Setting { generation, value: Bytes::from_static(value) })
        });
    }
    assert_eq!(set(1, &other, 0, b"c"), Ok(1));
    assert_eq!(set(1, &other, 1, &[0; MAX_SETTING]), Ok(2));
    assert_eq!(set(1, &other, 2, &[0; MAX_SETTING + 1]), Err(Failure::Invalid));
    let late = store.join(0, "a");
    for views in [&observer, &late] {
        views.until("both", |view| view.settings.values().map(|setting| setting.generation).eq([4, 2]));
    }
    // Of two who set it at once, one does.
    let start = Barrier::new(2);
    let ended = thread::scope(|scope| {
        let set = |handle: usize, value: &'static [u8]| {
            let (start, set, limits) = (&start, &set, &limits);
            scope.spawn(move || {
                start.wait();
                set(handle, limits, 4, value)
            })
        };
        [set(0, b"first"), set(1, b"second")].map(|thread| thread.join().expect("an answer"))
    });
    assert!(ended.contains(&Ok(5)) && ended.contains(&Err(Failure::Conflict)), "{ended:?}");
}
