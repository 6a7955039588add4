use std::collections::BTreeMap;

use tokio::sync::mpsc;
use xpush_core::placement::Ring;
use xpush_core::ports::cluster::{Cluster, Load, Roles, Standing};
use xpush_core::{App, Channel, Clock, NodeName};
use xpush_embedded::{LocalHosts, SoloCluster};
use xpush_testkit::environment::ManualClock;
use xpush_testkit::sample;

use super::*;
use crate::port::ask;

fn channel(name: &str) -> ChannelKey {
    ChannelKey::new(App::new("demo").unwrap(), Channel::new(name).unwrap())
}

fn carrier(name: &str) -> Node {
    let roles = Roles { session: false, channel: true };
    Node { url: format!("https://{name}.example").into(), capacity: 1_000, roles, ..sample::server(name) }
}

/// Hears of views.
struct Heard(mpsc::Sender<Arc<View>>);

impl ClusterSink for Heard {
    fn view(&self, view: Arc<View>) {
        // Nobody needs more than there is room for.
        drop(self.0.try_send(view));
    }
}

async fn assign(placement: &ByRing, name: &str) -> Option<Assigned> {
    assign_but(placement, name, &[]).await
}

async fn assign_but(placement: &ByRing, name: &str, avoided: &[&NodeId]) -> Option<Assigned> {
    let avoided = avoided.iter().copied().cloned().collect();
    ask(|done| placement.assign(vec![channel(name)], avoided, done)).await.unwrap().pop().unwrap()
}

fn registry() -> Arc<LocalHosts> {
    Arc::new(LocalHosts::new(Arc::new(ManualClock::new())))
}

/// The next view that is as wanted.
async fn until(views: &mut mpsc::Receiver<Arc<View>>, wanted: impl Fn(&View) -> bool) -> Arc<View> {
    loop {
        let view = views.recv().await.expect("views");
        if wanted(&view) {
            return view;
        }
    }
}

#[tokio::test]
async fn the_elected_one_plans_and_all_assign_alike() {
    let cluster = Arc::new(SoloCluster::new());
    let placement = ByRing::new(registry());
    let (sender, mut views) = mpsc::channel(1_000);
    let quiet = Arc::new(Heard(mpsc::channel(1_000).0));
    for name in ["a", "b", "c"] {
        cluster.join(carrier(name), quiet.clone(), Box::new(|joined| joined.unwrap()));
    }
    let planner = Node { roles: Roles { session: true, channel: false }, ..sample::server("s") };
    let id = planner.id.clone();
    cluster.join(planner, Arc::new(placement.clone()), Box::new(|joined| joined.unwrap()));
    cluster.watch(Arc::new(Heard(sender)));
    cluster.campaign(&id);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let planning = tokio::spawn(plan(cluster.clone(), placement.views(), clock));
    let on_ring = |view: &View| view.ring.as_ref().map_or(0, |ring| ring.nodes().len());

    until(&mut views, |view| on_ring(view) == 3).await;
    let mut counts: BTreeMap<Box<str>, u32> = BTreeMap::new();
    for number in 0..300 {
        let assigned = assign(&placement, &format!("chat:{number}")).await.unwrap();
        assert_eq!(&*assigned.reason, Reason::RingOwner.as_str());
        *counts.entry(assigned.url).or_default() += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 60), "{counts:?}");

    let gone = carrier("b");
    cluster.leave(&gone.id, Box::new(|left| left.unwrap()));
    until(&mut views, |view| on_ring(view) == 2).await;
    for number in 0..50 {
        let assigned = assign(&placement, &format!("chat:{number}")).await.unwrap();
        assert_ne!(&*assigned.url, "https://b.example");
    }

    // Nothing new goes to a server that is to be drained, from the very next view on.
    let name = NodeName::new("a").unwrap();
    cluster.set_draining(&name, true, Box::new(|set| set.unwrap()));
    let drained = |view: &View| {
        view.ring.as_ref().and_then(|ring| ring.weight(&name)).is_some_and(|weight| weight.points() == 0)
    };
    until(&mut views, drained).await;
    for number in 0..50 {
        assert_eq!(&*assign(&placement, &format!("chat:{number}")).await.unwrap().url, "https://c.example");
    }
    planning.abort();
}

#[tokio::test]
async fn an_active_channel_stays_where_it_is_and_a_frozen_view_is_good_enough() {
    let hosts = registry();
    let placement = ByRing::new(hosts.clone());
    let nodes: Vec<Node> = ["a", "b", "c"].map(carrier).into();
    let ring = {
        let loads: Vec<_> = nodes.iter().map(|node| planning::load_of(node, None, false)).collect();
        let mut planner = xpush_core::placement::Planner::new(1, Default::default());
        planner.plan(&Ring::nobody(), &loads, 0).unwrap()
    };
    let loads =
        nodes.iter().map(|node| (node.id.clone(), Load { connections: 10, ..Load::default() })).collect();
    let view = View {
        standing: Standing::Live,
        nodes: nodes.into(),
        loads: Arc::new(loads),
        ring: Some(Arc::new(ring)),
        ..View::default()
    };
    placement.view(Arc::new(view.clone()));
    let owner = assign(&placement, "room:1").await.unwrap();
    let elsewhere =
        ["a", "b", "c"].into_iter().find(|name| !owner.url.contains(&format!("//{name}."))).unwrap();
    ask(|done| hosts.report(&NodeName::new(elsewhere).unwrap(), vec![(channel("room:1"), 5)], done))
        .await
        .unwrap();
    let assigned = assign(&placement, "room:1").await.unwrap();
    assert_eq!(
        (&*assigned.url, &*assigned.reason),
        (&*format!("https://{elsewhere}.example"), Reason::Host.as_str())
    );

    // Who cannot reach it is sent to others, as long as there are any; it is the host all the same.
    let id = |name: &str| carrier(name).id;
    let another = assign_but(&placement, "room:1", &[&id(elsewhere)]).await.unwrap();
    assert!(another.url != assigned.url, "{another:?}");
    let third = assign_but(&placement, "room:1", &[&id(elsewhere), &another.node]).await.unwrap();
    assert!(third.url != assigned.url && third.url != another.url, "{third:?}");
    let all = [&id(elsewhere), &another.node, &third.node];
    assert_eq!(assign_but(&placement, "room:1", &all).await.unwrap().url, assigned.url);
    let stranger = NodeId::new("nobody").unwrap();
    assert_eq!(assign_but(&placement, "room:1", &[&stranger]).await.unwrap().url, assigned.url);

    placement.view(Arc::new(View { standing: Standing::Frozen, ..view }));
    assert_eq!(&*assign(&placement, "room:1").await.unwrap().url, &*assigned.url);
}

#[tokio::test]
async fn without_a_ring_it_is_better_anywhere_than_nowhere() {
    let placement = ByRing::new(registry());
    assert_eq!(assign(&placement, "room:1").await, None);
    for (names, reason) in [(&["a"][..], "only_one"), (&["a", "b"], "no_ring")] {
        let nodes = names.iter().map(|name| carrier(name)).collect();
        placement.view(Arc::new(View { standing: Standing::Live, nodes, ..View::default() }));
        assert_eq!(&*assign(&placement, "room:1").await.unwrap().reason, reason);
    }
    let a = carrier("a").id;
    assert_eq!(&*assign_but(&placement, "room:1", &[&a]).await.unwrap().url, "https://b.example");
}

#[tokio::test]
async fn the_ring_says_who_appends_for_all() {
    let placement = ByRing::new(registry());
    let anybody = |_: &NodeId| true;
    assert_eq!(placement.host(&channel("room:1"), &anybody), None, "before the first ring");
    let nodes: Vec<Node> = ["a", "b", "c"].map(carrier).into();
    let loads: Vec<_> = nodes.iter().map(|node| planning::load_of(node, None, false)).collect();
    let mut planner = xpush_core::placement::Planner::new(1, Default::default());
    let ring = planner.plan(&Ring::nobody(), &loads, 0).unwrap();
    let view = View { nodes: nodes.clone().into(), ring: Some(Arc::new(ring)), ..View::default() };
    placement.view(Arc::new(view.clone()));
    let host = placement.host(&channel("room:1"), &anybody).unwrap();
    assert_eq!(assign(&placement, "room:1").await.unwrap().node, host, "where its clients are, too");
    let next = placement.host(&channel("room:1"), &|node| *node != host).unwrap();
    assert_ne!(next, host);
    let name = |id: &NodeId| nodes.iter().find(|node| node.id == *id).unwrap().name.clone();
    let draining = Arc::new([name(&host)].into());
    placement.view(Arc::new(View { draining, ..view.clone() }));
    assert_eq!(placement.host(&channel("room:1"), &anybody), Some(next.clone()), "the host is to be drained");
    let others = nodes.iter().filter(|node| node.id != host).cloned().collect();
    placement.view(Arc::new(View { nodes: others, ..view }));
    assert_eq!(placement.host(&channel("room:1"), &anybody), Some(next), "the host is gone");
}
