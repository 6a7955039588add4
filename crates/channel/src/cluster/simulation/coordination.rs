//! What ZooKeeper is to a cluster, in memory: sessions with leases, an elected planner, one ring with compare-and-set. Each process has a link to it that can be cut, and
//! hears of changes late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use xpush_core::placement::Ring;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Load, Node, Standing, View};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{Clock, Monotonic, NodeId, NodeName};
use xpush_testkit::{ManualClock, SeededEntropy};

/// A member that was not heard of for so long is counted out.
pub(super) const SESSION_MS: u64 = 6_000;
/// A process that cannot reach anybody knows it after so long.
const NOTICED_MS: u64 = 2_000;
/// Changes are heard at most so late.
const LATE_MS: u64 = 400;

/// The one place.
#[derive(Clone)]
pub(super) struct Coordination(Arc<Mutex<State>>);

/// A process's way to it.
pub(super) struct Link {
    coordination: Coordination,
    number: usize,
}

struct State {
    clock: Arc<ManualClock>,
    random: SeededEntropy,
    /// By the order in which they came.
    members: BTreeMap<u64, Member>,
    joined: u64,
    loads: BTreeMap<NodeId, Load>,
    draining: BTreeSet<NodeName>,
    ring: Option<Arc<Ring>>,
    term: u64,
    planner: Option<NodeId>,
    /// Counts every change.
    version: u64,
    links: Vec<Line>,
}

/// A view on its way.
type Told = (Arc<dyn ClusterSink>, Arc<View>);

struct Member {
    node: Node,
    link: usize,
    heard: Monotonic,
    campaigns: bool,
}

/// One end of a link.
struct Line {
    sinks: Vec<(Option<NodeId>, Arc<dyn ClusterSink>)>,
    /// Members of it that were counted out, and do not know it.
    expired: Vec<(Node, bool)>,
    /// Nothing comes through.
    cut: bool,
    /// The process does not run at the moment, or never will again.
    stopped: bool,
    reached: Monotonic,
    frozen: bool,
    seen: u64,
    /// When it hears of the newest change.
    due: Option<Monotonic>,
    last: View,
}

impl Coordination {
    pub(super) fn new(seed: u64, clock: Arc<ManualClock>) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            random: SeededEntropy::new(seed),
            members: BTreeMap::new(),
            joined: 0,
            loads: BTreeMap::new(),
            draining: BTreeSet::new(),
            ring: None,
            term: 0,
            planner: None,
            version: 1,
            links: Vec::new(),
        })))
    }

    /// Another process.
    pub(super) fn link(&self) -> Arc<Link> {
        let mut state = self.state();
        let reached = state.clock.monotonic();
        state.links.push(Line {
            sinks: Vec::new(),
            expired: Vec::new(),
            cut: false,
            stopped: false,
            reached,
            frozen: false,
            seen: 0,
            due: None,
            last: View::default(),
        });
        Arc::new(Link { coordination: self.clone(), number: state.links.len() - 1 })
    }

    /// What has come due: leases end, somebody is elected, changes are heard.
    pub(super) fn turn(&self) {
        let mut state = self.state();
        let now = state.clock.monotonic();
        state.hear(now);
        state.count_out(now);
        state.elect();
        let mut told = Vec::new();
        for number in 0..state.links.len() {
            if let Some(views) = state.views(number, now) {
                told.extend(views);
            }
        }
        drop(state);
        // A sink may call the cluster.
        for (sink, view) in told {
            sink.view(view);
        }
    }

    /// The servers that carry connections and the ring, as they are.
    pub(super) fn truth(&self) -> (BTreeSet<NodeName>, Option<Arc<Ring>>) {
        let state = self.state();
        let channel = state.members.values().filter(|member| member.node.roles.channel);
        (channel.map(|member| member.node.name.clone()).collect(), state.ring.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn reaches(&self, number: usize) -> bool {
        let line = &self.links[number];
        !line.cut && !line.stopped
    }

    /// Who is within reach says that it lives.
    fn hear(&mut self, now: Monotonic) {
        for number in 0..self.links.len() {
            if !self.reaches(number) {
                continue;
            }
            self.links[number].reached = now;
            for member in self.members.values_mut().filter(|member| member.link == number) {
                member.heard = now;
            }
            // Counted out, and back: the same node, under a new session.
            for (node, campaigns) in std::mem::take(&mut self.links[number].expired) {
                let named = self.members.values().any(|member| member.node.name == node.name);
                if named {
                    self.links[number].expired.push((node, campaigns));
                } else {
                    self.enter(node, number, campaigns, now);
                }
            }
        }
    }

    fn enter(&mut self, node: Node, link: usize, campaigns: bool, heard: Monotonic) {
        self.joined += 1;
        self.members.insert(self.joined, Member { node, link, heard, campaigns });
        self.version += 1;
    }

    fn count_out(&mut self, now: Monotonic) {
        let over = |member: &Member| now.since(member.heard) > SESSION_MS;
        let gone: Vec<u64> =
            self.members.iter().filter(|(_, member)| over(member)).map(|(key, _)| *key).collect();
        for key in gone {
            let Some(Member { node, link, campaigns, .. }) = self.members.remove(&key) else { continue };
            self.loads.remove(&node.id);
            self.links[link].expired.push((node, campaigns));
            self.version += 1;
        }
    }

    fn elect(&mut self) {
        let planner = self.planner.clone();
        if self.members.values().any(|member| Some(&member.node.id) == planner.as_ref()) {
            return;
        }
        let next = self.members.values().find(|member| member.campaigns).map(|member| member.node.id.clone());
        if next != self.planner {
            self.term += u64::from(next.is_some());
            self.planner = next;
            self.version += 1;
        }
    }

    /// What a process hears now, if anything.
    fn views(&mut self, number: usize, now: Monotonic) -> Option<Vec<Told>> {
        let line = &self.links[number];
        if line.stopped {
            return None;
        }
        if line.cut {
            if line.frozen || now.since(line.reached) < NOTICED_MS {
                return None;
            }
            let line = &mut self.links[number];
            line.frozen = true;
            line.last.standing = Standing::Frozen;
            line.last.planner = None;
            return Some(line.told(&line.last));
        }
        if line.frozen || line.seen < self.version {
            let late = self.random.below(LATE_MS);
            let due = *self.links[number].due.get_or_insert(now.after(late));
            if due > now {
                return None;
            }
            let view = self.view(number);
            let version = self.version;
            let line = &mut self.links[number];
            (line.frozen, line.seen, line.due) = (false, version, None);
            line.last = view;
            return Some(line.told(&line.last));
        }
        None
    }

    fn view(&self, number: usize) -> View {
        let mut nodes: Vec<Node> = self.members.values().map(|member| member.node.clone()).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let own =
            |id: &NodeId| self.members.values().any(|member| member.link == number && member.node.id == *id);
        let standing = if self.links[number].expired.is_empty() { Standing::Live } else { Standing::Expired };
        View {
            standing,
            nodes: nodes.into(),
            loads: Arc::new(self.loads.clone()),
            ring: self.ring.clone(),
            draining: Arc::new(self.draining.clone()),
            planner: self.planner.as_ref().filter(|id| own(id)).map(|_| self.term),
            ..View::default()
        }
    }
}

impl Line {
    fn told(&self, view: &View) -> Vec<Told> {
        let view = Arc::new(view.clone());
        self.sinks.iter().map(|(_, sink)| (sink.clone(), view.clone())).collect()
    }
}

impl Link {
    /// Nothing comes through, or everything again.
    pub(super) fn cut(&self, cut: bool) {
        self.state().links[self.number].cut = cut;
    }

    /// The process stands still, or runs again.
    pub(super) fn stop(&self, stopped: bool) {
        self.state().links[self.number].stopped = stopped;
    }

    /// The process is no more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        let line = &mut state.links[self.number];
        line.stopped = true;
        let sinks = std::mem::take(&mut line.sinks);
        // A sink may hold the last handle of what calls the cluster as it goes.
        drop(state);
        drop(sinks);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.coordination.state()
    }

    fn out_of_reach() -> PortError {
        PortError::new(Failure::NotApplied, "the cluster is out of reach")
    }
}

impl Cluster for Link {
    /// Of two servers of one name the later one takes the place: in this simulation it is always the same installation.
    fn join(&self, node: Node, sink: Arc<dyn ClusterSink>, done: Done<()>) {
        let mut state = self.state();
        let now = state.clock.monotonic();
        let before: Vec<u64> = (state.members.iter())
            .filter(|(_, member)| member.node.name == node.name)
            .map(|(key, _)| *key)
            .collect();
        for key in before {
            let Some(Member { node, link, campaigns, .. }) = state.members.remove(&key) else { continue };
            state.loads.remove(&node.id);
            state.links[link].expired.push((node, campaigns));
        }
        state.links[self.number].sinks.push((Some(node.id.clone()), sink));
        state.enter(node, self.number, false, now);
        drop(state);
        done(Ok(()));
    }

    fn watch(&self, sink: Arc<dyn ClusterSink>) {
        let mut state = self.state();
        let view = Arc::new(state.links[self.number].last.clone());
        state.links[self.number].sinks.push((None, sink.clone()));
        drop(state);
        sink.view(view);
    }

    fn report(&self, node: &NodeId, load: Load) {
        let mut state = self.state();
        let member =
            state.members.values().any(|member| member.link == self.number && member.node.id == *node);
        if member && state.reaches(self.number) && state.loads.insert(node.clone(), load) != Some(load) {
            state.version += 1;
        }
    }

    fn leave(&self, node: &NodeId, done: Done<()>) {
        let mut state = self.state();
        state.members.retain(|_, member| member.node.id != *node);
        state.loads.remove(node);
        state.version += 1;
        drop(state);
        done(Ok(()));
    }

    fn remove(&self, node: &NodeId, done: Done<()>) {
        self.leave(node, done);
    }

    fn campaign(&self, node: &NodeId) {
        for member in self.state().members.values_mut().filter(|member| member.node.id == *node) {
            member.campaigns = true;
        }
    }

    fn publish_ring(&self, ring: Arc<Ring>, done: Done<()>) {
        let mut state = self.state();
        let result = if !state.reaches(self.number) {
            Err(Self::out_of_reach())
        } else if state.term != ring.term() {
            Err(PortError::new(Failure::Fenced, "another planner was elected"))
        } else if state.ring.as_ref().map_or(0, |ring| ring.generation()) + 1 != ring.generation() {
            Err(PortError::new(Failure::Conflict, "the ring is of another generation"))
        } else {
            state.ring = Some(ring);
            state.version += 1;
            Ok(())
        };
        drop(state);
        done(result);
    }

    fn set_draining(&self, name: &NodeName, wanted: bool, done: Done<()>) {
        let mut state = self.state();
        if wanted {
            state.draining.insert(name.clone());
        } else {
            state.draining.remove(name);
        }
        state.version += 1;
        drop(state);
        done(Ok(()));
    }
}
