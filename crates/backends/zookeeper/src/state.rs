//! What members want, what is known, and what they are told of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use xpush_core::ports::cluster::{ClusterSink, Load, Node, Standing, View};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{NodeId, NodeName};
use zookeeper_client::Client;

use crate::candidacy::Candidacy;
use crate::options::Options;
use crate::tree::{Found, Tree};

/// What the handle, its task and its operations share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    state: Mutex<State>,
    /// Somebody wants something.
    pub(crate) wake: Notify,
    pub(crate) link: watch::Sender<Link>,
}

/// The way to ZooKeeper.
#[derive(Clone)]
pub(crate) enum Link {
    /// Out of reach, or not read yet.
    Away,
    Here(Client),
    /// The handle is gone.
    Ended,
}

/// What is under the lock. Views are given under it, too: so they come in order.
pub(crate) struct State {
    live: bool,
    pub(crate) tree: Tree,
    pub(crate) own: BTreeMap<NodeId, Own>,
    /// Those who have to be taken out of ZooKeeper, in this order.
    pub(crate) leaving: Vec<Leaving>,
    observers: Vec<Arc<dyn ClusterSink>>,
}

/// A member of this handle.
pub(crate) struct Own {
    pub(crate) node: Node,
    sink: Arc<dyn ClusterSink>,
    /// Called when it is in for the first time, or refused.
    joined: Option<Done<()>>,
    pub(crate) phase: Phase,
    /// It was in before.
    pub(crate) registered: bool,
    pub(crate) campaigns: bool,
    pub(crate) candidacy: Option<Candidacy>,
    pub(crate) load: Option<Load>,
    /// What ZooKeeper has of it.
    pub(crate) written: Option<Load>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not yet in.
    New,
    In,
    /// Counted out.
    Out,
}

/// A node that is no member any more, or whose candidacy is over.
pub(crate) struct Leaving {
    pub(crate) id: NodeId,
    /// Its znode goes, too.
    pub(crate) name: Option<NodeName>,
    pub(crate) done: Option<Done<()>>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        let state = State {
            live: false,
            tree: Tree::default(),
            own: BTreeMap::new(),
            leaving: Vec::new(),
            observers: Vec::new(),
        };
        let (link, _) = watch::channel(Link::Away);
        Arc::new(Self { options, state: Mutex::new(state), wake: Notify::new(), link })
    }

    /// Whoever panicked was a sink, and has left the state as it was.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to ZooKeeper, when there is one before `deadline`.
    pub(crate) async fn client(&self, deadline: Instant) -> Result<Client, PortError> {
        let mut link = self.link.subscribe();
        let there = async {
            match link.wait_for(|link| !matches!(link, Link::Away)).await.as_deref() {
                Ok(Link::Here(client)) => Some(client.clone()),
                _ => None,
            }
        };
        let out_of_reach = || PortError::new(Failure::NotApplied, "ZooKeeper is out of reach");
        timeout_at(deadline, there).await.ok().flatten().ok_or_else(out_of_reach)
    }

    /// How long an operation waits for ZooKeeper to come back.
    pub(crate) fn patience(&self) -> Duration {
        self.options.session_timeout
    }

    /// Out of reach: everybody goes on with what is known.
    pub(crate) fn freeze(&self) {
        self.link.send_if_modified(|link| {
            let here = matches!(link, Link::Here(_));
            if here {
                *link = Link::Away;
            }
            here
        });
        let mut state = self.lock();
        if state.live {
            tracing::warn!("ZooKeeper is out of reach; going on with what is known");
            state.live = false;
            state.announce();
        }
        // Who leaves cannot be waited for; what is still in ZooKeeper is taken out later, or goes with the session.
        let told: Vec<_> = state.leaving.iter_mut().filter_map(|leaving| leaving.done.take()).collect();
        drop(state);
        told.into_iter().for_each(|done| done(Ok(())));
    }

    /// All has been read: what is known is what there is.
    pub(crate) fn thaw(&self, client: &Client, found: Vec<Found>) {
        let mut state = self.lock();
        state.tree.take_in(found);
        tracing::info!(nodes = state.tree.nodes.len(), "the cluster is known");
        state.live = true;
        state.notice_losses();
        for candidacy in state.own.values_mut().filter_map(|own| own.candidacy.as_mut()) {
            candidacy.stale = true;
        }
        state.announce();
        drop(state);
        self.link.send_if_modified(|link| {
            let ended = matches!(link, Link::Ended);
            if !ended {
                *link = Link::Here(client.clone());
            }
            !ended
        });
    }

    /// Something has changed.
    pub(crate) fn take_in(&self, found: Vec<Found>) {
        let mut state = self.lock();
        let changed = state.tree.take_in(found);
        if state.notice_losses() || changed {
            state.announce();
        }
    }

    /// ZooKeeper has ended the session, and has forgotten all that was ours.
    pub(crate) fn expire(&self) {
        let mut state = self.lock();
        for own in state.own.values_mut() {
            own.candidacy = None;
            own.written = None;
            if own.phase == Phase::In {
                own.phase = Phase::Out;
            }
        }
        state.announce();
    }

    /// `node`, as it is written, is in.
    pub(crate) fn registered(&self, node: &Node) {
        let mut state = self.lock();
        let Some(own) = state.own.get_mut(&node.id).filter(|own| own.node == *node) else { return };
        own.phase = Phase::In;
        own.registered = true;
        let joined = own.joined.take();
        state.tree.put_member(node.clone());
        state.announce();
        drop(state);
        if let Some(joined) = joined {
            joined(Ok(()));
        }
    }

    /// `node` cannot be let in: another one has its name. Who was in before waits for its end.
    pub(crate) fn refused(&self, node: &Node, why: String) {
        let mut state = self.lock();
        let Some(own) = state.own.get_mut(&node.id).filter(|own| own.node == *node) else { return };
        if own.registered {
            tracing::debug!(id = %node.id, name = %node.name, why, "a node that was counted out cannot come back yet");
            return;
        }
        let own = state.own.remove(&node.id);
        drop(state);
        tracing::error!(id = %node.id, name = %node.name, why, "a node was refused by the cluster");
        if let Some(joined) = own.and_then(|own| own.joined) {
            joined(Err(PortError::new(Failure::Conflict, why)));
        }
    }

    /// The handle goes.
    pub(crate) fn end(&self) {
        self.link.send_replace(Link::Ended);
        let mut state = self.lock();
        let own = std::mem::take(&mut state.own);
        let leaving = std::mem::take(&mut state.leaving);
        let observers = std::mem::take(&mut state.observers);
        drop(state);
        for joined in own.into_values().filter_map(|own| own.joined) {
            joined(Err(PortError::new(Failure::NotApplied, "the handle is gone")));
        }
        leaving.into_iter().filter_map(|leaving| leaving.done).for_each(|done| done(Ok(())));
        drop(observers);
    }
}

// === impl State ===

impl State {
    /// A member that is to be let in, and whom it replaces.
    pub(crate) fn join(&mut self, node: Node, sink: Arc<dyn ClusterSink>, joined: Done<()>) -> Option<Own> {
        let own = Own {
            sink,
            joined: Some(joined),
            phase: Phase::New,
            registered: false,
            campaigns: false,
            candidacy: None,
            load: None,
            written: None,
            node,
        };
        let before = self.own.remove(&own.node.id);
        let own = match &before {
            Some(before) => Own { campaigns: before.campaigns, load: before.load, ..own },
            None => own,
        };
        own.sink.view(Arc::new(self.view_of(&own)));
        self.own.insert(own.node.id.clone(), own);
        before
    }

    /// A member that goes, and is to be taken out of ZooKeeper.
    pub(crate) fn leave(&mut self, id: &NodeId, done: Done<()>) -> Result<Own, Done<()>> {
        let Some(own) = self.own.remove(id) else { return Err(done) };
        let name = Some(own.node.name.clone());
        self.leaving.push(Leaving { id: id.clone(), name, done: Some(done) });
        Ok(own)
    }

    pub(crate) fn observe(&mut self, sink: Arc<dyn ClusterSink>) {
        sink.view(Arc::new(self.base()));
        self.observers.push(sink);
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Members whose place in ZooKeeper is gone, or another's. Says whether there are any.
    fn notice_losses(&mut self) -> bool {
        let mut lost = false;
        for (id, own) in &mut self.own {
            let there = self.tree.member(&own.node.name).is_some_and(|node| node.id == *id);
            if own.phase == Phase::In && !there {
                tracing::warn!(%id, name = %own.node.name, "this node was counted out of the cluster");
                own.phase = Phase::Out;
                own.written = None;
                if own.candidacy.take().is_some() {
                    self.leaving.push(Leaving { id: id.clone(), name: None, done: None });
                }
                lost = true;
            }
        }
        lost
    }

    /// What everybody sees alike.
    fn base(&self) -> View {
        View {
            standing: if self.live { Standing::Live } else { Standing::Frozen },
            nodes: self.tree.nodes.clone(),
            loads: self.tree.loads.clone(),
            ring: self.tree.ring.clone(),
            draining: self.tree.draining.clone(),
            settings: self.tree.settings.clone(),
            planner: None,
            refused: self.tree.refused,
        }
    }

    fn view_of(&self, own: &Own) -> View {
        let base = self.base();
        let elected = own.candidacy.as_ref().and_then(|candidacy| candidacy.term);
        View {
            standing: if own.phase == Phase::Out { Standing::Expired } else { base.standing },
            planner: elected.filter(|_| self.live && own.phase == Phase::In),
            ..base
        }
    }

    pub(crate) fn announce(&self) {
        for own in self.own.values() {
            own.sink.view(Arc::new(self.view_of(own)));
        }
        if !self.observers.is_empty() {
            let base = Arc::new(self.base());
            self.observers.iter().for_each(|sink| sink.view(base.clone()));
        }
    }
}

// === impl Own ===

impl Own {
    /// What waits for its answer, if it is not in yet.
    pub(crate) fn into_waiting(self) -> Option<Done<()>> {
        self.joined
    }
}
