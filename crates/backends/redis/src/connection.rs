//! Commands to Redis: one multiplexed connection that is made anew whenever it breaks.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use xpush_core::ports::{Done, Failure, PortError};

use crate::failure;
use crate::keys::Keys;
use crate::options::{Deployment, Options};
use crate::server::{self, Backoff, ConnectError, Link};

/// How often a connection without news is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A handle on Redis; a clone is the same connection. It ends with the last one.
///
/// - Nothing waits for a connection: while there is none, every operation fails at once with [`Failure::NotApplied`].
/// - An operation that has no answer within `command_timeout` ends with [`Failure::Unknown`].
/// - What is under way is bounded: see [`Connection::start`].
#[derive(Clone)]
pub struct Connection(Arc<Guard>);

/// How a connection stands.
#[derive(Debug, Clone)]
pub enum State {
    /// It has not been made yet.
    Connecting,
    /// It works. Each time that it is made anew has another number: what was there before may be gone (another master, an empty server).
    Up(u64),
    /// It does not, and why; it is tried again all the time.
    Down(Arc<ConnectError>),
}

/// Ends the supervisor with the last handle.
struct Guard {
    core: Arc<Core>,
    supervisor: AbortHandle,
}

struct Core {
    options: Options,
    keys: Keys,
    runtime: Handle,
    link: RwLock<Option<Link>>,
    states: watch::Sender<State>,
    /// Somebody saw the connection fail.
    suspect: Notify,
    /// Bytes that may be under way.
    room: Arc<Semaphore>,
}

impl Connection {
    /// Begins to connect on `runtime`, and returns at once.
    pub fn open(options: Options, runtime: &Handle) -> Self {
        let core = Arc::new(Core {
            keys: Keys::new(&options.prefix),
            runtime: runtime.clone(),
            link: RwLock::new(None),
            states: watch::Sender::new(State::Connecting),
            suspect: Notify::new(),
            room: Arc::new(Semaphore::new(options.queue_bytes.min(Semaphore::MAX_PERMITS))),
            options,
        });
        let supervisor = runtime.spawn(supervise(core.clone())).abort_handle();
        Self(Arc::new(Guard { core, supervisor }))
    }

    /// Waits for the first connection; after `within`, says why there is none.
    pub async fn ready(&self, within: Duration) -> Result<(), Arc<ConnectError>> {
        let mut states = self.states();
        let up = async { states.wait_for(|state| matches!(state, State::Up(_))).await.map(|_| ()) };
        match timeout(within, up).await {
            Ok(Ok(())) => Ok(()),
            _ => match &*self.0.core.states.borrow() {
                State::Down(error) => Err(error.clone()),
                State::Up(_) => Ok(()),
                State::Connecting => Err(Arc::new(ConnectError::silent())),
            },
        }
    }

    /// How it stands, and every change.
    pub fn states(&self) -> watch::Receiver<State> {
        self.0.core.states.subscribe()
    }

    /// How it was told to connect.
    pub fn options(&self) -> &Options {
        &self.0.core.options
    }

    /// Makes keys.
    pub fn keys(&self) -> &Keys {
        &self.0.core.keys
    }

    /// Where its tasks run.
    pub fn runtime(&self) -> &Handle {
        &self.0.core.runtime
    }

    /// Runs one command.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, PortError> {
        self.attempt(command)
            .await
            .map_err(|error| error.map_or_else(|port| port, |redis| failure::of(&redis)))
    }

    /// Runs several commands that are written at once. Through a Cluster all must be for one slot.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, PortError> {
        let mut link = self.link()?;
        match timeout(self.options().command_timeout, pipeline.query_async(&mut link)).await {
            Ok(result) => result.map_err(|error| {
                self.doubt(&error);
                failure::of(&error)
            }),
            Err(_) => Err(self.too_late()),
        }
    }

    /// Runs `operation` on the runtime and tells `done` how it ended. What is under way is bounded by `queue_bytes`: over it, `done` is told
    /// [`Failure::Overloaded`] before this returns. `bytes` is about what the operation holds. Two operations may overtake each other.
    pub fn start<T, F>(
        &self,
        bytes: usize,
        done: Done<T>,
        operation: impl FnOnce(Connection) -> F + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, PortError>> + Send,
    {
        let bytes = u32::try_from(bytes.saturating_add(256)).unwrap_or(u32::MAX);
        let Ok(room) = self.0.core.room.clone().try_acquire_many_owned(bytes) else {
            return done(Err(PortError::new(Failure::Overloaded, "too much waits for redis")));
        };
        let this = self.clone();
        self.runtime().spawn(async move {
            let result = operation(this).await;
            drop(room);
            done(result);
        });
    }

    /// As [`Connection::query`]; what Redis itself says comes as it is.
    pub(crate) async fn attempt<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, Result<RedisError, PortError>> {
        let mut link = self.link().map_err(Err)?;
        match timeout(self.options().command_timeout, command.query_async(&mut link)).await {
            Ok(result) => result.map_err(|error| {
                self.doubt(&error);
                Ok(error)
            }),
            Err(_) => Err(Err(self.too_late())),
        }
    }

    /// Runs one command on the master of a slot; without a Cluster there is one server.
    pub(crate) async fn query_at<T: FromRedisValue>(
        &self,
        slot: Slot,
        command: &Cmd,
    ) -> Result<T, PortError> {
        let Link::Cluster(mut cluster) = self.link()? else { return self.query(command).await };
        let route = Route::with_slot(slot, SlotAddr::Master);
        let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
        let answer = timeout(self.options().command_timeout, cluster.route_command(command.clone(), route));
        let value = answer.await.map_err(|_| self.too_late())?.map_err(|error| {
            self.doubt(&error);
            failure::of(&error)
        })?;
        T::from_redis_value(value).map_err(|_| PortError::new(Failure::NotApplied, "redis: a strange answer"))
    }

    /// Whether it goes to a Cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.options().deployment, Deployment::Cluster(_))
    }

    fn link(&self) -> Result<Link, PortError> {
        let link = self.0.core.link.read().unwrap_or_else(PoisonError::into_inner).clone();
        link.ok_or_else(|| {
            let detail = match &*self.0.core.states.borrow() {
                State::Down(error) => format!("redis: {error}"),
                _ => "redis: not connected yet".to_owned(),
            };
            PortError::new(Failure::NotApplied, detail)
        })
    }

    fn too_late(&self) -> PortError {
        self.0.core.suspect.notify_one();
        PortError::new(Failure::Unknown, "redis: no answer in time")
    }

    /// After some errors the connection is looked at.
    fn doubt(&self, error: &RedisError) {
        if error.is_unrecoverable_error() || error.is_io_error() || server::is_demotion(error) {
            self.0.core.suspect.notify_one();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&*self.0.core.states.borrow()).finish()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Core {
    fn set_link(&self, link: Option<Link>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Until the connection fails.
    async fn watch(&self, link: &Link) -> ConnectError {
        loop {
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = self.suspect.notified() => {}
            }
            if let Err(error) = link.check(&self.options).await {
                return error;
            }
        }
    }
}

async fn supervise(core: Arc<Core>) {
    let mut backoff = Backoff::default();
    for generation in 1.. {
        let trouble = loop {
            match Link::connect(&core.options).await {
                Ok(link) => {
                    backoff = Backoff::default();
                    core.set_link(Some(link.clone()));
                    core.states.send_replace(State::Up(generation));
                    break tokio::select! {
                        trouble = core.watch(&link) => trouble,
                        trouble = link.demoted(&core.options) => trouble,
                    };
                }
                Err(error) => {
                    backoff.tell("redis", &error);
                    core.states.send_replace(State::Down(Arc::new(error)));
                    sleep(backoff.next()).await;
                }
            }
        };
        tracing::warn!(error = %trouble, "the connection with redis is lost");
        core.set_link(None);
        core.states.send_replace(State::Down(Arc::new(trouble)));
        sleep(backoff.next()).await;
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Link::Server(link) => link.connection.req_packed_command(command),
            Link::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Link::Server(link) => link.connection.req_packed_commands(pipeline, offset, count),
            Link::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Link::Server(link) => link.connection.get_db(),
            Link::Cluster(cluster) => cluster.get_db(),
        }
    }
}
