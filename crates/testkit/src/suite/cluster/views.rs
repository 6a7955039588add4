//! What a member or an observer was told.

use std::num::NonZeroU64;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use xpush_core::placement::{Epsilon, Ring, RingNode, Weight};
use xpush_core::ports::PortError;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Node, Standing, View};

use crate::sample::name;
use crate::suite::{PATIENCE, answer};

/// All views, in the order in which they came.
#[derive(Debug, Default)]
pub struct Views {
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
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All views.
    pub fn all(&self) -> Vec<Arc<View>> {
        self.all.lock().expect("views").clone()
    }

    /// The newest view; fails when none has come.
    pub fn last(&self) -> Arc<View> {
        Arc::clone(self.all.lock().expect("views").last().expect("a view"))
    }

    /// The ids in the newest view.
    pub fn now(&self) -> Vec<String> {
        self.all.lock().expect("views").last().map(|view| ids(view)).unwrap_or_default()
    }

    /// Waits until the newest view is live and has exactly these members.
    pub fn settle(&self, expected: &[&str]) {
        self.until(&format!("{expected:?}"), |view| view.standing == Standing::Live && ids(view) == expected);
    }

    /// Waits until the newest view is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) {
        self.when(what, |views| views.last().is_some_and(|view| wanted(view)));
    }

    /// Waits until all views together are as wanted.
    pub fn when(&self, what: &str, wanted: impl Fn(&[Arc<View>]) -> bool) {
        let views = self.all.lock().expect("views");
        let (views, waited) =
            self.came.wait_timeout_while(views, PATIENCE, |views| !wanted(views)).expect("views");
        assert!(!waited.timed_out(), "expected was {what}, but {:?} came last", views.last());
    }

    /// Waits until the newest view is as wanted, or it is `over`: then it says no.
    pub fn until_or(&self, what: &str, wanted: impl Fn(&View) -> bool, over: impl Fn() -> bool) -> bool {
        let start = std::time::Instant::now();
        let mut views = self.all.lock().expect("views");
        while !views.last().is_some_and(|view| wanted(view)) {
            if over() {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "expected was {what}, but {:?} came last", views.last());
            // Whoever ends it tells nobody: look again now and then.
            let again = std::time::Duration::from_millis(20);
            views = self.came.wait_timeout(views, again).expect("views").0;
        }
        true
    }
}

/// Joins, and gives the views that come.
pub fn join(cluster: &dyn Cluster, member: Node) -> Result<Arc<Views>, PortError> {
    let views = Views::new();
    let id = member.id.to_string();
    let sink = Arc::clone(&views) as Arc<dyn ClusterSink>;
    answer(|done| cluster.join(member, sink, done))?;
    let told = views.all().iter().any(|view| view.standing == Standing::Live && ids(view).contains(&id));
    assert!(told, "the view comes before the answer");
    Ok(views)
}

/// A ring of one server.
pub fn ring(generation: u64, term: u64, weight: u64) -> Ring {
    let node = RingNode { name: name("a"), weight: Weight::new(weight).expect("a weight") };
    Ring::new(generation, term, Epsilon::default(), NonZeroU64::MIN, vec![node]).expect("a ring")
}

/// The ids in a view.
pub fn ids(view: &View) -> Vec<String> {
    view.nodes.iter().map(|node| node.id.to_string()).collect()
}
