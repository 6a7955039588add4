//! The port.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use xpush_core::placement::Ring;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Load, MAX_SETTING, Node, Settings};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{NodeId, NodeName, SettingName};

use crate::keeper;
use crate::operation::{Operation, What};
use crate::options::{BadOptions, Options};
use crate::state::Shared;

/// Rings, wishes and removals that may wait.
const QUEUE: usize = 256;

/// A handle on a cluster that ZooKeeper keeps: one session, which ends with the handle, and with it all that belongs to it.
pub struct ZooKeeperCluster {
    shared: Arc<Shared>,
    operations: mpsc::Sender<Operation>,
    keeper: AbortHandle,
}

impl ZooKeeperCluster {
    /// Begins to look for ZooKeeper, and goes on until it is found; the work is done on `runtime`. Until then views are frozen and empty.
    pub fn open(options: Options, runtime: &Handle) -> Result<Self, BadOptions> {
        options.check()?;
        let shared = Shared::new(options);
        let (operations, mut queue) = mpsc::channel::<Operation>(QUEUE);
        let keeper = runtime.spawn(keeper::run(shared.clone())).abort_handle();
        let performer = shared.clone();
        runtime.spawn(async move {
            while let Some(operation) = queue.recv().await {
                operation.perform(&performer).await;
            }
        });
        Ok(Self { shared, operations, keeper })
    }

    fn ask(&self, what: What) {
        let deadline = Instant::now() + self.shared.patience();
        match self.operations.try_send(Operation { what, deadline }) {
            Ok(()) => {}
            Err(TrySendError::Full(operation)) => {
                let detail = "too much is asked of ZooKeeper at once";
                operation.fail(PortError::new(Failure::Overloaded, detail));
            }
            Err(TrySendError::Closed(operation)) => {
                operation.fail(PortError::new(Failure::NotApplied, "the runtime has ended"));
            }
        }
    }
}

impl Drop for ZooKeeperCluster {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.end();
    }
}

impl Cluster for ZooKeeperCluster {
    fn join(&self, node: Node, sink: Arc<dyn ClusterSink>, done: Done<()>) {
        if let Err(why) = node.check() {
            return done(Err(PortError::new(Failure::Invalid, why)));
        }
        let before = self.shared.lock().join(node, sink, done);
        self.shared.wake.notify_one();
        if let Some(waiting) = before.and_then(|own| own.into_waiting()) {
            waiting(Err(PortError::new(Failure::NotApplied, "the node has joined once more")));
        }
    }

    fn watch(&self, sink: Arc<dyn ClusterSink>) {
        self.shared.lock().observe(sink);
    }

    fn report(&self, node: &NodeId, load: Load) {
        if let Some(own) = self.shared.lock().own.get_mut(node) {
            own.load = Some(load);
        }
    }

    fn leave(&self, node: &NodeId, done: Done<()>) {
        let mut state = self.shared.lock();
        let live = state.is_live();
        let left = state.leave(node, done);
        let now = if live { None } else { state.leaving.last_mut().and_then(|leaving| leaving.done.take()) };
        drop(state);
        match left {
            Ok(own) => {
                self.shared.wake.notify_one();
                if let Some(waiting) = own.into_waiting() {
                    waiting(Err(PortError::new(Failure::NotApplied, "the node has left")));
                }
                if let Some(done) = now {
                    done(Ok(()));
                }
            }
            Err(done) => done(Ok(())),
        }
    }

    fn remove(&self, node: &NodeId, done: Done<()>) {
        self.ask(What::Remove(node.clone(), done));
    }

    fn campaign(&self, node: &NodeId) {
        if let Some(own) = self.shared.lock().own.get_mut(node) {
            own.campaigns = true;
        }
        self.shared.wake.notify_one();
    }

    fn publish_ring(&self, ring: Arc<Ring>, done: Done<()>) {
        self.ask(What::Publish(ring, done));
    }

    fn set_draining(&self, name: &NodeName, wanted: bool, done: Done<()>) {
        self.ask(What::Drain(name.clone(), wanted, done));
    }
}

impl Settings for ZooKeeperCluster {
    fn set(&self, name: &SettingName, expected: u64, value: Bytes, done: Done<u64>) {
        if value.len() > MAX_SETTING {
            return done(Err(PortError::new(Failure::Invalid, "a setting that is too long")));
        }
        self.ask(What::Set(name.clone(), expected, value, done));
    }
}
