//! The planner's work: whoever is elected turns what servers report into rings.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use xpush_core::placement::{Epsilon, NodeLoad, Planner, Ring, Standing};
use xpush_core::ports::cluster::{self, Cluster, Load, View};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{Clock, SettingName};

use crate::port::ask;

/// How often loads are looked at; who comes or goes is seen at once.
const LOOK: Duration = Duration::from_secs(2);

/// By what an operator says that weights are to be planned anew at once, and then that clients are to go where their channels are: settings of the cluster whose
/// values mean nothing. That they were set anew is what counts.
pub const PLAN: &str = "plan";
/// See [`PLAN`].
pub const MOVE: &str = "move";

/// How often something was wished by one of these.
pub fn wish(view: &View, name: &str) -> u64 {
    let name = SettingName::new(name).ok();
    name.and_then(|name| view.settings.get(&name)).map_or(0, |setting| setting.generation)
}

/// The ring that [`PLAN`] would lead to now; none when the one that there is stays.
pub fn proposal(view: &View) -> Option<Ring> {
    let nobody = Ring::nobody();
    let previous = view.ring.as_deref().unwrap_or(&nobody);
    Planner::new(previous.term(), Epsilon::default()).settle(previous, &loads(view), 0)
}

/// What whoever is elected keeps in mind.
#[derive(Default)]
pub struct Planning {
    planner: Option<(u64, Planner)>,
    wished: Option<u64>,
}

impl Planning {
    /// The ring that is to be published now, by a member whose view this is, if it is the planner and another one is needed. `now`: ms of a clock that never goes back.
    pub fn look(&mut self, view: &View, now: u64) -> Option<Ring> {
        let Some(term) = view.planner.filter(|_| view.standing == cluster::Standing::Live) else {
            self.planner = None;
            return None;
        };
        let planner = match &mut self.planner {
            Some((elected, planner)) if *elected == term => planner,
            other => {
                tracing::info!(term, "elected to plan");
                &mut other.insert((term, Planner::new(term, Epsilon::default()))).1
            }
        };
        let nobody = Ring::nobody();
        let previous = view.ring.as_deref().unwrap_or(&nobody);
        let (loads, wish) = (loads(view), wish(view, PLAN));
        match self.wished.replace(wish) {
            Some(before) if before != wish => planner.settle(previous, &loads, now),
            _ => planner.plan(previous, &loads, now),
        }
    }
}

/// Plans for as long as `views` come, whenever a member of this handle of `cluster` is the elected planner. Runs on every node that campaigns.
pub async fn plan(cluster: Arc<dyn Cluster>, mut views: watch::Receiver<Arc<View>>, clock: Arc<dyn Clock>) {
    let mut planning = Planning::default();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
        let view = views.borrow_and_update().clone();
        if let Some(ring) = planning.look(&view, clock.monotonic().0) {
            publish(&*cluster, ring).await;
        }
    }
}

async fn publish(cluster: &dyn Cluster, ring: Ring) {
    let (generation, term, servers) = (ring.generation(), ring.term(), ring.nodes().len());
    let ring = Arc::new(ring);
    match ask(|done| cluster.publish_ring(ring, done)).await {
        Ok(()) => tracing::info!(generation, term, servers, "published a ring"),
        // Somebody else was elected, or has published: the next view says so.
        Err(PortError { kind: Failure::Fenced | Failure::Conflict, .. }) => {}
        Err(error) => tracing::warn!(generation, term, %error, "a ring was not published"),
    }
}

/// What every server that carries connections says of itself.
fn loads(view: &View) -> Vec<NodeLoad> {
    let one = |node: &cluster::Node| {
        load_of(node, view.loads.get(&node.id).copied(), view.draining.contains(&node.name))
    };
    view.channel_nodes().map(one).collect()
}

pub(super) fn load_of(node: &cluster::Node, said: Option<Load>, draining: bool) -> NodeLoad {
    let standing = match said {
        _ if draining => Standing::Draining,
        Some(_) => Standing::Serving,
        None => Standing::Silent,
    };
    let load = said.unwrap_or_default();
    NodeLoad {
        name: node.name.clone(),
        standing,
        connections: load.connections,
        capacity: NonZeroU64::new(node.capacity).unwrap_or(NonZeroU64::MIN),
        lag_ms: u32::try_from(load.lag_ms).unwrap_or(u32::MAX),
    }
}
