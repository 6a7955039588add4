//! Membership among the nodes of one process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use xpush_core::placement::Ring;
use xpush_core::ports::cluster::{
    Cluster, ClusterSink, Load, MAX_SETTING, Node, Setting, Settings, Standing, View,
};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{NodeId, NodeName, SettingName};

use crate::lock;

/// A handle on a cluster that lives in this process, and is never out of reach. What belongs to a handle goes with it, as if its process had ended. Nothing
/// here outlives the process, wishes and ring neither.
///
/// Views are given under the lock that orders them: a sink must not call the cluster from within `view`.
pub struct SoloCluster {
    state: Arc<Mutex<State>>,
    handle: u64,
}

#[derive(Default)]
struct State {
    handles: u64,
    members: BTreeMap<NodeId, Member>,
    /// Those whose place a newer start of the same server has, in the order in which they lost it.
    displaced: Vec<Member>,
    observers: Vec<(u64, Arc<dyn ClusterSink>)>,
    /// Who stands for planner, the elected one first.
    candidates: VecDeque<NodeId>,
    /// Of the planner that was elected last.
    term: u64,
    /// What all see alike.
    seen: View,
}

struct Member {
    node: Node,
    sink: Arc<dyn ClusterSink>,
    handle: u64,
}

// === impl SoloCluster ===

impl SoloCluster {
    /// A cluster without members.
    pub fn new() -> Self {
        let seen = View { standing: Standing::Live, ..View::default() };
        Self { state: Arc::new(Mutex::new(State { seen, ..State::default() })), handle: 0 }
    }

    /// One more handle, as another process would have it.
    pub fn handle(&self) -> Self {
        let mut state = self.lock();
        state.handles += 1;
        Self { state: Arc::clone(&self.state), handle: state.handles }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn try_join(&self, node: Node, sink: Arc<dyn ClusterSink>) -> Result<(), PortError> {
        node.check().map_err(|why| PortError::new(Failure::Invalid, why))?;
        let mut state = self.lock();
        let holder = state.members.values().find(|member| member.node.name == node.name);
        let displaced = match holder.map(|member| &member.node) {
            Some(holder) if holder.id == node.id => None,
            Some(holder) if node.installation != 0 && holder.installation == node.installation => {
                Some(holder.id.clone())
            }
            Some(holder) => {
                let detail = format!("the name {} is that of node {}, which lives", node.name, holder.id);
                return Err(PortError::new(Failure::Conflict, detail));
            }
            None => None,
        };
        if let Some(member) = displaced.and_then(|id| state.take_out(&id)) {
            state.displaced.push(member);
        }
        state.members.insert(node.id.clone(), Member { node, sink, handle: self.handle });
        state.members_changed();
        Ok(())
    }

    fn try_publish(&self, ring: Arc<Ring>) -> Result<(), PortError> {
        let mut state = self.lock();
        if state.seen.ring.as_ref() == Some(&ring) {
            return Ok(());
        }
        let planner = state.candidates.front().and_then(|id| state.members.get(id));
        if ring.term() != state.term || planner.is_none_or(|member| member.handle != self.handle) {
            let detail = format!("no planner of term {} is elected here", ring.term());
            return Err(PortError::new(Failure::Fenced, detail));
        }
        let published = state.seen.ring.as_ref().map_or(0, |ring| ring.generation());
        if published.checked_add(1) != Some(ring.generation()) {
            let detail = format!("generation {} cannot follow generation {published}", ring.generation());
            return Err(PortError::new(Failure::Conflict, detail));
        }
        state.seen.ring = Some(ring);
        state.announce();
        Ok(())
    }

    fn try_set(&self, name: &SettingName, expected: u64, value: Bytes) -> Result<u64, PortError> {
        if value.len() > MAX_SETTING {
            return Err(PortError::new(Failure::Invalid, "a setting that is too long"));
        }
        let mut state = self.lock();
        let there = state.seen.settings.get(name);
        let generation = there.map_or(0, |setting| setting.generation);
        if there.is_some_and(|setting| generation == expected + 1 && setting.value == value) {
            return Ok(generation);
        }
        if generation != expected {
            let detail = format!("{name} is of generation {generation}");
            return Err(PortError::new(Failure::Conflict, detail));
        }
        let setting = Setting { generation: expected + 1, value };
        Arc::make_mut(&mut state.seen.settings).insert(name.clone(), setting);
        state.announce();
        Ok(expected + 1)
    }
}

impl Default for SoloCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SoloCluster {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.observers.retain(|(handle, _)| *handle != self.handle);
        state.displaced.retain(|member| member.handle != self.handle);
        let own = state.members.values().filter(|member| member.handle == self.handle);
        let own: Vec<NodeId> = own.map(|member| member.node.id.clone()).collect();
        let gone: Vec<_> = own.iter().filter_map(|id| state.take_out(id)).collect();
        if !gone.is_empty() {
            state.members_changed();
        }
        // A sink may own the last of something that calls the cluster as it goes.
        drop(state);
        drop(gone);
    }
}

impl Cluster for SoloCluster {
    fn join(&self, node: Node, sink: Arc<dyn ClusterSink>, done: Done<()>) {
        let joined = self.try_join(node, sink);
        done(joined);
    }

    fn watch(&self, sink: Arc<dyn ClusterSink>) {
        let mut state = self.lock();
        sink.view(Arc::new(state.seen.clone()));
        state.observers.push((self.handle, sink));
    }

    fn report(&self, node: &NodeId, load: Load) {
        let mut state = self.lock();
        let own = state.members.get(node).is_some_and(|member| member.handle == self.handle);
        if own && state.seen.loads.get(node) != Some(&load) {
            Arc::make_mut(&mut state.seen.loads).insert(node.clone(), load);
            state.announce();
        }
    }

    fn leave(&self, node: &NodeId, done: Done<()>) {
        let mut state = self.lock();
        let own = |member: &Member| member.handle == self.handle;
        state.displaced.retain(|member| member.node.id != *node || !own(member));
        let gone = if state.members.get(node).is_some_and(own) { state.take_out(node) } else { None };
        if gone.is_some() {
            state.members_changed();
        }
        drop(state);
        drop(gone);
        done(Ok(()));
    }

    fn remove(&self, node: &NodeId, done: Done<()>) {
        let mut state = self.lock();
        let stood = state.candidates.contains(node);
        if let Some(member) = state.take_out(node) {
            // Who has a sink here lives, or its handle would have gone with it.
            member.sink.view(Arc::new(View { standing: Standing::Expired, ..state.seen.clone() }));
            state.members_changed();
            state.members.insert(node.clone(), member);
            if stood {
                state.stand(node);
            }
            state.members_changed();
        }
        drop(state);
        done(Ok(()));
    }

    fn campaign(&self, node: &NodeId) {
        let mut state = self.lock();
        let own = state.members.get(node).is_some_and(|member| member.handle == self.handle);
        if own && !state.candidates.contains(node) {
            state.stand(node);
            state.announce();
        }
    }

    fn publish_ring(&self, ring: Arc<Ring>, done: Done<()>) {
        let published = self.try_publish(ring);
        done(published);
    }

    fn set_draining(&self, name: &NodeName, wanted: bool, done: Done<()>) {
        let mut state = self.lock();
        if state.seen.draining.contains(name) != wanted {
            let draining = Arc::make_mut(&mut state.seen.draining);
            let _ = if wanted { draining.insert(name.clone()) } else { draining.remove(name) };
            state.announce();
        }
        drop(state);
        done(Ok(()));
    }
}

impl Settings for SoloCluster {
    fn set(&self, name: &SettingName, expected: u64, value: Bytes, done: Done<u64>) {
        let set = self.try_set(name, expected, value);
        done(set);
    }
}

// === impl State ===

impl State {
    /// The member, and what it was.
    fn take_out(&mut self, node: &NodeId) -> Option<Member> {
        let member = self.members.remove(node)?;
        if self.seen.loads.contains_key(node) {
            Arc::make_mut(&mut self.seen.loads).remove(node);
        }
        let planned = self.candidates.front() == Some(node);
        self.candidates.retain(|candidate| candidate != node);
        if planned && !self.candidates.is_empty() {
            self.term += 1;
        }
        Some(member)
    }

    fn stand(&mut self, node: &NodeId) {
        if self.candidates.is_empty() {
            self.term += 1;
        }
        self.candidates.push_back(node.clone());
    }

    /// Lets those in whose name is free again, and tells everybody.
    fn members_changed(&mut self) {
        for member in std::mem::take(&mut self.displaced) {
            if self.members.values().any(|other| other.node.name == member.node.name) {
                self.displaced.push(member);
            } else {
                self.members.insert(member.node.id.clone(), member);
            }
        }
        self.seen.nodes = self.members.values().map(|member| member.node.clone()).collect();
        self.announce();
    }

    fn announce(&self) {
        let seen = Arc::new(self.seen.clone());
        for (id, member) in &self.members {
            if self.candidates.front() == Some(id) {
                member.sink.view(Arc::new(View { planner: Some(self.term), ..self.seen.clone() }));
            } else {
                member.sink.view(Arc::clone(&seen));
            }
        }
        for member in &self.displaced {
            member.sink.view(Arc::new(View { standing: Standing::Expired, ..self.seen.clone() }));
        }
        for (_, sink) in &self.observers {
            sink.view(Arc::clone(&seen));
        }
    }
}
