//! One server that stays, and a way to it that does not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use xpush_core::SettingName;
use xpush_core::ports::Failure;
use xpush_core::ports::cluster::{Cluster, Load, Node, Settings, Standing};
use xpush_testkit::sample::{name, node, server};
use xpush_testkit::service::proxy::Proxy;
use xpush_testkit::service::zookeeper::ZooKeeper;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::cluster::{ids, join, ring};
use xpush_zookeeper::{Credentials, Options};
use zookeeper_client::Client;

use super::{open, open_by, runtime, watch};

/// One server for the whole process, with sessions of 4 s.
fn options() -> (&'static ZooKeeper, Options) {
    static SERVER: OnceLock<ZooKeeper> = OnceLock::new();
    static ROOTS: AtomicUsize = AtomicUsize::new(0);
    let server = SERVER.get_or_init(|| ZooKeeper::start(&[]));
    let mut options = Options::new(server.hosts());
    options.root = format!("/session/{}", ROOTS.fetch_add(1, Ordering::Relaxed));
    options.session_timeout = Duration::from_secs(4);
    (server, options)
}

#[test]
fn who_is_counted_out_joins_again() {
    let (server_, options) = options();
    let proxy = Proxy::start(server_.address(0));
    let (a, b) = (open_by(&proxy, &options), open(&options));
    let hangs = join(&a, server("a")).unwrap();
    let observer = watch(&a);
    let other = join(&b, server("b")).unwrap();
    hangs.settle(&["a", "b"]);
    a.report(&node("a"), Load { connections: 3, ..Load::default() });
    other.until("its load", |view| view.loads.len() == 1);
    proxy.stall();
    hangs.until("a frozen view", |view| view.standing == Standing::Frozen);
    other.settle(&["b"]);
    // Whatever happens out there, here nobody leaves.
    assert_eq!(ids(&hangs.last()), ["a", "b"]);
    proxy.pass();
    hangs.when("expiry", |all| all.iter().any(|view| view.standing == Standing::Expired));
    for views in [&hangs, &other, &observer] {
        views.settle(&["a", "b"]);
    }
    other.until("its load", |view| view.loads.len() == 1);
    assert!(observer.all().iter().all(|view| view.standing != Standing::Expired), "it never was a member");
}

#[test]
fn what_changes_while_nobody_listens_is_seen() {
    let (server_, options) = options();
    // Nobody is counted out here.
    let options = Options { session_timeout: Duration::from_secs(30), ..options };
    let proxy = Proxy::start(server_.address(0));
    let (a, b) = (open_by(&proxy, &options), open(&options));
    let cut_off = join(&a, server("a")).unwrap();
    let other = join(&b, server("b")).unwrap();
    join(&b, server("c")).unwrap();
    cut_off.settle(&["a", "b", "c"]);
    b.campaign(&node("b"));
    other.until("its election", |view| view.planner.is_some());
    let term = other.last().planner.unwrap();
    for round in 1..=2 {
        let seen = cut_off.all().len();
        proxy.cut();
        cut_off.until("a frozen view", |view| view.standing == Standing::Frozen);
        // One comes, one goes, one changes, a ring, a wish.
        answer(|done| b.leave(&node("c"), done)).unwrap();
        join(&b, server("d")).unwrap();
        let moved = Node { url: format!("http://elsewhere:{round}").into(), ..server("b") };
        let moved_views = join(&b, moved.clone()).unwrap();
        moved_views.until("its election", |view| view.planner == Some(term));
        answer(|done| b.publish_ring(ring(2 * round - 1, term, 1).into(), done)).unwrap();
        answer(|done| b.set_draining(&name("x"), round == 1, done)).unwrap();
        let limits = SettingName::new("limits").unwrap();
        answer(|done| b.set(&limits, round - 1, Bytes::from_static(b"1"), done)).unwrap();
        proxy.pass();
        cut_off.until("all of it", |view| {
            let set = view.settings.get(&limits).is_some_and(|setting| setting.generation == round);
            set && view.standing == Standing::Live
                && *view.nodes == [server("a"), moved.clone(), server("d")]
                && view.ring.as_ref().is_some_and(|ring| ring.generation() == 2 * round - 1)
                && view.draining.contains(&name("x")) == (round == 1)
        });
        let told = cut_off.all();
        assert!(told[seen..].iter().all(|view| view.standing != Standing::Expired), "the session went on");
        // And what changes from now on, too.
        answer(|done| b.publish_ring(ring(2 * round, term, 1).into(), done)).unwrap();
        answer(|done| b.leave(&node("d"), done)).unwrap();
        join(&b, server("c")).unwrap();
        cut_off.until("the next ring", |view| {
            ids(view) == ["a", "b", "c"]
                && view.ring.as_ref().is_some_and(|ring| ring.generation() == 2 * round)
        });
    }
}

#[test]
fn a_planner_that_hung_publishes_nothing_more() {
    let (server_, options) = options();
    let proxy = Proxy::start(server_.address(0));
    let (a, b) = (open_by(&proxy, &options), open(&options));
    let hangs = join(&a, server("a")).unwrap();
    let next = join(&b, server("b")).unwrap();
    a.campaign(&node("a"));
    hangs.until("its election", |view| view.planner.is_some());
    b.campaign(&node("b"));
    let old = hangs.last().planner.unwrap();
    answer(|done| a.publish_ring(ring(1, old, 1).into(), done)).unwrap();
    // It publishes, and does not know that nobody hears it.
    proxy.stall();
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| answer(|done| a.publish_ring(ring(2, old, 2).into(), done)));
        next.until("its election", |view| view.planner.is_some());
        let new = next.last().planner.unwrap();
        assert!(new > old);
        answer(|done| b.publish_ring(ring(2, new, 3).into(), done)).unwrap();
        proxy.pass();
        late.join().unwrap()
    });
    assert!(late.is_err(), "of one generation there is one ring");
    hangs.when("expiry", |all| all.iter().any(|view| view.standing == Standing::Expired));
    hangs.until("the other's ring", |view| {
        view.standing == Standing::Live
            && view.ring.as_deref() == Some(&ring(2, next.last().planner.unwrap(), 3))
    });
    let fenced = answer(|done| a.publish_ring(ring(3, old, 2).into(), done)).expect_err("its term is over");
    assert_eq!(fenced.kind, Failure::Fenced);
    assert_eq!(hangs.last().planner, None);
}

#[test]
fn a_planner_that_does_not_know_of_its_end_is_fenced() {
    let (server_, options) = options();
    // Nobody is counted out here.
    let options = Options { session_timeout: Duration::from_secs(30), ..options };
    let proxy = Proxy::start(server_.address(0));
    let (a, b) = (open_by(&proxy, &options), open(&options));
    let unaware = join(&a, server("a")).unwrap();
    let next = join(&b, server("b")).unwrap();
    a.campaign(&node("a"));
    unaware.until("its election", |view| view.planner.is_some());
    b.campaign(&node("b"));
    let old = unaware.last().planner.unwrap();
    let somebody = runtime().block_on(Client::connect(&server_.hosts())).unwrap();
    let planners = format!("{}/planners", options.root);
    proxy.stall();
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| answer(|done| a.publish_ring(ring(1, old, 2).into(), done)));
        runtime().block_on(async {
            let all = somebody.list_children(&planners).await.unwrap();
            let its = all.iter().find(|child| child.starts_with("a-")).unwrap();
            somebody.delete(&format!("{planners}/{its}"), None).await.unwrap();
        });
        next.until("its election", |view| view.planner > Some(old));
        proxy.pass();
        late.join().unwrap()
    });
    assert_eq!(late.expect_err("another one is elected").kind, Failure::Fenced);
    let new = next.last().planner.unwrap();
    answer(|done| b.publish_ring(ring(1, new, 3).into(), done)).unwrap();
    unaware.until("the other's ring", |view| view.ring.as_deref() == Some(&ring(1, new, 3)));
}

#[test]
fn a_restart_need_not_wait_for_its_dead() {
    let (server_, options) = options();
    // Nobody is counted out here.
    let options = Options { session_timeout: Duration::from_secs(30), ..options };
    let proxy = Proxy::start(server_.address(0));
    let dead = open_by(&proxy, &options);
    let (b, c) = (open(&options), open(&options));
    let started = |id: &str, installation| Node { id: node(id), installation, ..server("a") };
    let earlier = join(&dead, started("1", 7)).unwrap();
    let other = join(&c, server("c")).unwrap();
    watch(&b).settle(&["1", "c"]);
    proxy.stall();
    let refused =
        join(&b, started("2", 8)).expect_err("another server of this name lives, as far as is known");
    assert_eq!(refused.kind, Failure::Conflict);
    let later = join(&b, started("3", 7)).expect("the same server is let in");
    for views in [&later, &other] {
        views.settle(&["3", "c"]);
    }
    // Were it not dead, it would not fight for its name.
    proxy.pass();
    earlier.until("its end", |view| view.standing == Standing::Expired && ids(view) == ["3", "c"]);
    answer(|done| b.leave(&node("3"), done)).unwrap();
    earlier.settle(&["1", "c"]);
}

#[test]
fn a_dead_node_is_noticed_and_may_be_removed_before() {
    let (server_, options) = options();
    let proxy = Proxy::start(server_.address(0));
    let (dead, b) = (open_by(&proxy, &options), open(&options));
    let views = join(&dead, server("a")).unwrap();
    let other = join(&b, server("b")).unwrap();
    dead.campaign(&node("a"));
    views.until("its election", |view| view.planner.is_some());
    b.campaign(&node("b"));
    other.settle(&["a", "b"]);
    proxy.stall();
    answer(|done| b.remove(&node("a"), done)).unwrap();
    other.settle(&["b"]);
    other.until("its election", |view| view.planner.is_some());
    // One that does nothing, and is not removed.
    let second = Proxy::start(server_.address(0));
    let silent = open_by(&second, &options);
    join(&silent, server("c")).unwrap();
    other.until("c", |view| ids(view).contains(&"c".to_owned()));
    second.stall();
    other.until("its end", |view| !ids(view).contains(&"c".to_owned()));
}

#[test]
fn a_node_that_leaves_unheard_is_gone_when_it_is_heard_again() {
    let (server_, options) = options();
    let proxy = Proxy::start(server_.address(0));
    let (a, b) = (open_by(&proxy, &options), open(&options));
    let leaves = join(&a, server("a")).unwrap();
    let other = join(&b, server("b")).unwrap();
    other.settle(&["a", "b"]);
    proxy.cut();
    leaves.until("a frozen view", |view| view.standing == Standing::Frozen);
    answer(|done| a.leave(&node("a"), done)).expect("nobody can be told");
    proxy.pass();
    other.settle(&["b"]);
}

#[test]
fn who_joins_before_zookeeper_is_there_is_let_in_when_it_is() {
    let (server_, options) = options();
    let proxy = Proxy::start(server_.address(0));
    proxy.cut();
    let handle = open_by(&proxy, &options);
    let observer = watch(&handle);
    assert_eq!(*observer.last(), Default::default(), "frozen, and empty");
    let joined = std::thread::scope(|scope| {
        let joined = scope.spawn(|| join(&handle, server("a")));
        xpush_testkit::service::wait_until("several attempts", || proxy.accepted() > 5);
        assert!(!joined.is_finished());
        proxy.pass();
        joined.join().unwrap()
    });
    joined.expect("joins").settle(&["a"]);
    observer.settle(&["a"]);
    // Or it gives up.
    let lost = Proxy::start(server_.address(0));
    lost.cut();
    let handle = open_by(&lost, &options);
    let refused = std::thread::scope(|scope| {
        let joined = scope.spawn(|| join(&handle, server("b")));
        xpush_testkit::service::wait_until("several attempts", || lost.accepted() > 5);
        answer(|done| handle.leave(&node("b"), done)).unwrap();
        joined.join().unwrap()
    });
    assert_eq!(refused.expect_err("has left").kind, Failure::NotApplied);
}

#[test]
fn with_credentials_nobody_else_gets_in() {
    let (_, mut options) = options();
    options.credentials = Some(Credentials { user: "xpush".into(), password: "sesame".into() });
    let ours = open(&options);
    join(&ours, server("a")).unwrap().settle(&["a"]);
    watch(&open(&options)).settle(&["a"]);
    for credentials in [None, Some(Credentials { user: "xpush".into(), password: "guess".into() })] {
        let stranger = open(&Options { credentials, ..options.clone() });
        let views = watch(&stranger);
        let refused = answer(|done| stranger.set_draining(&name("a"), true, done)).expect_err("no way in");
        assert_eq!(refused.kind, Failure::NotApplied);
        assert_eq!(*views.last(), Default::default());
    }
}
