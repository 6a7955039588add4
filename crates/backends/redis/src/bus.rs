//! The bus over Redis's pub/sub: a channel of Redis for each topic, and one connection with each server that carries some of them (a *lane*).
//!
//! A single server has one lane, and so has a Cluster older than Redis 7, which sends everything everywhere. In a newer Cluster channels are sharded: each
//! lies in one slot, with its server.

mod lane;
mod routes;
mod state;
mod traffic;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use xpush_core::NodeId;
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Topic};
use xpush_core::ports::{Done, Failure, PortError};

use crate::options::{BadOptions, Deployment, Options};
use crate::server::ConnectError;
use state::{Effects, State};

/// In place of an envelope's version: what follows is the origin, and some of its events were lost.
const GAP: u8 = 0;

/// One node's bus. The node is detached when this is dropped.
pub struct RedisBus {
    core: Arc<Core>,
    /// What keeps the connections.
    task: AbortHandle,
}

/// What a bus has done so far.
#[derive(Debug, Default)]
pub struct BusCounters {
    /// Events given to Redis.
    pub published: AtomicU64,
    /// Events that were dropped, or whose fate is unknown: the others are told of a gap.
    pub lost: AtomicU64,
    /// Events of other nodes that came.
    pub received: AtomicU64,
    /// What came and could not be read, such as events of a much newer release.
    pub unreadable: AtomicU64,
    /// Times that a connection was made.
    pub connections: AtomicU64,
}

/// What the lanes share.
struct Core {
    options: Options,
    names: Names,
    node: NodeId,
    /// How envelopes of this node go on behind their version.
    own: Bytes,
    sink: Arc<dyn BusSink>,
    state: Mutex<State>,
    /// Held while the sink is told how the bus stands, so that it hears of changes in their order. Taken before `state`.
    telling: Mutex<()>,
    closed: AtomicBool,
    counters: BusCounters,
    /// Where channels lie is not what it was.
    moved: Notify,
    standing: watch::Sender<Result<(), Option<ConnectError>>>,
}

impl RedisBus {
    /// Connects a node, on `runtime`; returns at once. `sink` is told [`Inbound::Up`] when the bus works, or [`Inbound::Down`] when it cannot be had; then it is
    /// tried on.
    pub fn attach(
        options: Options,
        node: NodeId,
        sink: Arc<dyn BusSink>,
        runtime: &Handle,
    ) -> Result<Self, BadOptions> {
        options.check()?;
        let mut own = BytesMut::new();
        origin(&node, &mut own);
        let names = Names { prefix: options.prefix.clone() };
        let core = Arc::new(Core {
            state: Mutex::new(State::new(options.queue_bytes, names.of(&Topic::Nodes))),
            names,
            options,
            node,
            own: own.freeze(),
            sink,
            telling: Mutex::new(()),
            closed: AtomicBool::new(false),
            counters: BusCounters::default(),
            moved: Notify::new(),
            standing: watch::Sender::new(Err(None)),
        });
        let task = match &core.options.deployment {
            Deployment::Cluster(_) => runtime.spawn(routes::keep(core.clone())),
            Deployment::Single(_) | Deployment::Sentinel { .. } => {
                let lane = core.state().add_lane(None);
                runtime.spawn(lane::run(core.clone(), lane))
            }
        };
        Ok(Self { core, task: task.abort_handle() })
    }

    /// Waits until the bus works; after `within`, says why it does not.
    pub async fn ready(&self, within: Duration) -> Result<(), ConnectError> {
        let mut standing = self.core.standing.subscribe();
        if timeout(within, standing.wait_for(Result::is_ok)).await.is_ok_and(|waited| waited.is_ok()) {
            return Ok(());
        }
        let why = self.core.standing.borrow().clone();
        why.map_err(|error| error.unwrap_or_else(ConnectError::silent))
    }

    /// What it has done so far.
    pub fn counters(&self) -> &BusCounters {
        &self.core.counters
    }
}

impl Bus for RedisBus {
    fn publish(&self, topic: &Topic, event: Event) {
        let name = self.core.names.of(topic);
        let envelope = Envelope { origin: self.core.node.clone(), event }.encode();
        if !self.core.state().publish(name, envelope) {
            self.core.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn follow(&self, topic: Topic, done: Done<()>) {
        let name = self.core.names.of(&topic);
        let answer = self.core.state().follow(name, topic, done);
        if let Some((done, answer)) = answer {
            done(answer);
        }
    }

    fn unfollow(&self, topic: &Topic) {
        let waiting = self.core.state().unfollow(&self.core.names.of(topic));
        for done in waiting {
            done(Err(PortError::new(Failure::NotApplied, "unfollowed meanwhile")));
        }
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.core.closed.store(true, Ordering::SeqCst);
        self.task.abort();
        let (tasks, waiting) = self.core.state().close();
        tasks.into_iter().for_each(|task| task.abort());
        for done in waiting {
            done(Err(PortError::new(Failure::NotApplied, "the bus is closed")));
        }
    }
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic left is at worst a topic that is followed once more.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, inbound: Inbound) {
        if !self.closed.load(Ordering::SeqCst) {
            self.sink.receive(inbound);
        }
    }

    /// Changes the state, then does what follows from it.
    fn change(&self, change: impl FnOnce(&mut State) -> Effects) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let effects = change(&mut self.state());
        if let Some(standing) = effects.standing {
            let _before = self.standing.send_replace(standing.map_err(Some));
        }
        self.counters.lost.fetch_add(effects.lost, Ordering::Relaxed);
        // Whoever waits hears first: a gap that comes after a confirmation is about later.
        effects.answers.into_iter().for_each(|(done, answer)| done(answer));
        effects.tell.into_iter().for_each(|inbound| self.tell(inbound));
        if effects.moved {
            self.moved.notify_one();
        }
    }

    /// What came on a channel of Redis.
    fn deliver(&self, name: &Bytes, payload: &Bytes) {
        // Own events come back from Redis, as from a mirror: they end here, before anything is decoded.
        if payload.get(1..).is_some_and(|rest| rest.starts_with(&self.own)) {
            return;
        }
        if payload.first() == Some(&GAP) {
            let everything = *name == self.names.of(&Topic::Nodes);
            let topic = self.state().topic(name);
            return match topic {
                _ if everything => self.tell(Inbound::Gap(None)),
                Some(topic) => self.tell(Inbound::Gap(Some(topic))),
                None => {}
            };
        }
        // It may be that it is not followed any more, or never was: every bus listens to what all nodes are told.
        let Some(topic) = self.state().topic(name) else { return };
        // A copy of its own size: a slice would hold all that was read with it.
        match Envelope::decode(&Bytes::copy_from_slice(payload)) {
            Ok(envelope) => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                self.tell(Inbound::Envelope(envelope));
            }
            Err(error) => {
                if self.counters.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        ?error,
                        "an event on the bus cannot be read; more of them are only counted"
                    );
                }
                self.tell(Inbound::Gap(Some(topic)));
            }
        }
    }

    /// Tells that some of this node's events were lost.
    fn gap(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + self.own.len());
        out.put_u8(GAP);
        out.put_slice(&self.own);
        out.freeze()
    }
}

/// The origin as an envelope has it behind its version: a node's name is short, so its length is one byte.
fn origin(node: &NodeId, out: &mut BytesMut) {
    let name = node.as_str().as_bytes();
    out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.put_slice(name);
}

/// Topics as channels of Redis.
struct Names {
    prefix: Box<str>,
}

impl Names {
    /// Neither an app's name nor a node's holds a colon, so no two topics are alike. Nothing here is a hash tag on purpose: names spread over all slots.
    fn of(&self, topic: &Topic) -> Bytes {
        let prefix = &self.prefix;
        Bytes::from(match topic {
            Topic::Channel(key) => format!("{prefix}:bus:c:{}:{}", key.app, key.name),
            Topic::User(app, user) => format!("{prefix}:bus:u:{app}:{user}"),
            Topic::Node(node) => format!("{prefix}:bus:n:{node}"),
            Topic::Nodes => format!("{prefix}:bus:nodes"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_testkit::sample;

    #[test]
    fn an_envelopes_origin_stands_where_it_is_looked_for() {
        let node = NodeId::new("node-1.example").unwrap();
        let event = Event::Presence(sample::channel("chat:a"), Arc::default());
        let envelope = Envelope { origin: node.clone(), event }.encode();
        let mut own = BytesMut::new();
        origin(&node, &mut own);
        assert!(envelope[1..].starts_with(&own));
        let mut other = BytesMut::new();
        origin(&NodeId::new("node-1.exampl").unwrap(), &mut other);
        assert!(!envelope[1..].starts_with(&other));
        assert_ne!(envelope[0], GAP);
    }
}
