//! What every [`Cluster`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;

use xpush_core::ports::cluster::{Cluster, ClusterSink, Load, Node, Standing, View};

use crate::sample::node;
use crate::suite::PATIENCE;

/// A new cluster without members.
pub struct ClusterStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Cluster>; 2],
}

/// Makes each property of a [`Cluster`] a test; `$fixture` is a function that gives a [`ClusterStore`].
#[macro_export]
macro_rules! cluster_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, cluster:
            the_first_view_comes_before_join_returns
            every_member_sees_all_ascending
            who_leaves_is_seen_no_more
            a_node_that_joins_again_replaces_itself
            views_come_in_the_order_in_which_they_arose
            a_report_changes_no_membership
        );
    };
}

/// What a member was told.
#[derive(Default)]
struct Views {
    all: Mutex<Vec<Arc<View>>>,
    came: Condvar,
}

impl ClusterSink for Views {
    fn view(&self, view: Arc<View>) {
        // The smaller a view, the longer it is held up: a later one overtakes it, if the cluster lets it.
        (view.nodes.len()..30).for_each(|_| thread::yield_now());
        self.all.lock().expect("views").push(view);
        self.came.notify_all();
    }
}

impl Views {
    /// The ids in the newest view.
    fn now(&self) -> Vec<String> {
        self.all.lock().expect("views").last().map(|view| ids(view)).unwrap_or_default()
    }

    /// Waits until the newest view is live and has exactly these members.
    fn settle(&self, expected: &[&str]) {
        let views = self.all.lock().expect("views");
        let other = |views: &mut Vec<Arc<View>>| {
            views.last().is_none_or(|view| ids(view) != expected || view.standing != Standing::Live)
        };
        let (views, waited) = self.came.wait_timeout_while(views, PATIENCE, other).expect("views");
        assert!(!waited.timed_out(), "{expected:?} were expected, {:?} came last", views.last());
    }
}

impl ClusterStore {
    fn join(&self, handle: usize, id: &str) -> Arc<Views> {
        let views = Arc::new(Views::default());
        self.handles[handle].join(member(id), Arc::clone(&views) as Arc<dyn ClusterSink>);
        views
    }
}

pub fn the_first_view_comes_before_join_returns(store: &ClusterStore) {
    let first = store.join(0, "a").all.lock().expect("views").first().cloned().expect("a view");
    assert_eq!(*first, View { standing: Standing::Live, nodes: vec![member("a")] });
    assert!(store.join(1, "b").now().contains(&"b".to_owned()));
}

pub fn every_member_sees_all_ascending(store: &ClusterStore) {
    let all = [(0, "m"), (1, "z"), (0, "a"), (1, "k")].map(|(handle, id)| store.join(handle, id));
    for views in &all {
        views.settle(&["a", "k", "m", "z"]);
        let last = views.all.lock().expect("views").last().cloned().expect("a view");
        assert_eq!(last.nodes, ["a", "k", "m", "z"].map(member));
    }
}

pub fn who_leaves_is_seen_no_more(store: &ClusterStore) {
    let [a, b, c] = [(0, "a"), (1, "b"), (0, "c")].map(|(handle, id)| store.join(handle, id));
    store.handles[1].leave(&node("b"));
    for views in [&a, &c] {
        views.settle(&["a", "c"]);
    }
    // Twice, and by a stranger, is no harm.
    store.handles[1].leave(&node("b"));
    store.handles[0].leave(&node("stranger"));
    let again = store.join(1, "b");
    for views in [&a, &c, &again] {
        views.settle(&["a", "b", "c"]);
    }
    drop(b);
}

pub fn a_node_that_joins_again_replaces_itself(store: &ClusterStore) {
    let other = store.join(1, "b");
    store.join(0, "a").settle(&["a", "b"]);
    let moved = Node { id: node("a"), url: "http://elsewhere:1".into() };
    let views = Arc::new(Views::default());
    store.handles[0].join(moved.clone(), Arc::clone(&views) as Arc<dyn ClusterSink>);
    views.settle(&["a", "b"]);
    let knows = |views: &Views| {
        let all = views.all.lock().expect("views");
        let old = |all: &mut Vec<Arc<View>>| all.last().is_none_or(|view| view.nodes[0] != moved);
        !views.came.wait_timeout_while(all, PATIENCE, old).expect("views").1.timed_out()
    };
    assert!(knows(&views) && knows(&other));
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
        let sizes = views.all.lock().expect("views").iter().map(|view| view.nodes.len()).collect::<Vec<_>>();
        assert!(sizes.is_sorted(), "{sizes:?}");
    }
}

pub fn a_report_changes_no_membership(store: &ClusterStore) {
    let views = store.join(0, "a");
    store.handles[0].report(&node("a"), Load { connections: 7, channels: 3 });
    store.handles[1].report(&node("stranger"), Load::default());
    store.join(1, "b");
    views.settle(&["a", "b"]);
}

fn member(id: &str) -> Node {
    Node { id: node(id), url: format!("http://{id}:8000").into() }
}

fn ids(view: &View) -> Vec<String> {
    view.nodes.iter().map(|node| node.id.to_string()).collect()
}
