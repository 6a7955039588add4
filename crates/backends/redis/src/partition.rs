//! State that is kept in partitions: each lies in one slot of a Cluster, so that a script can reach all of it, and what is asked of it is done in order.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::FromRedisValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use xpush_core::Clock;
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::{Done, Failure, PortError};

use crate::connection::{Connection, State};
use crate::script::{Script, script};

/// How many. Part of what is stored: it never changes. Enough to spread over the masters of a Cluster, few enough that a node's lease is renewed in all of them.
pub(crate) const PARTITIONS: u8 = 64;

/// So many changes are waiting when more are refused.
const WAITING: usize = 200_000;

/// For so long after a call of unknown outcome it is made again, and so long is the pause between.
const INSISTING: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(50);

/// A connection, and what is common to all that is kept in partitions.
pub(crate) struct Store {
    pub(crate) connection: Connection,
    /// What is kept, in keys.
    what: &'static str,
    time: Time,
    /// Tells this handle's calls from those of others.
    handle: String,
    calls: AtomicU64,
    renew: Script,
    lapsed: Script,
    /// The tokens that nodes had from their last renewals, by partition.
    tokens: Mutex<HashMap<Box<str>, Vec<u64>>>,
}

/// Whose time counts.
#[derive(Clone, Default)]
pub(crate) enum Time {
    /// The server's.
    #[default]
    Server,
    /// A test's.
    Given(Arc<dyn Clock>),
}

/// Does what is asked of one partition, in order.
pub(crate) trait Worker: Send + Sync + 'static {
    /// A call, or the part of it that is for one partition.
    type Part: Send + 'static;

    fn work(&self, partition: u8, parts: Vec<Self::Part>) -> impl Future<Output = ()> + Send;
}

/// One queue and one task for each partition. The tasks end with this, once they have done what waits.
pub(crate) struct Queues<P> {
    queues: Box<[UnboundedSender<Weighed<P>>]>,
    waiting: Arc<AtomicUsize>,
}

struct Weighed<P> {
    part: P,
    weight: usize,
}

/// The answers to the parts of a call, until all are there.
pub(crate) struct Gather<T>(Mutex<Gathering<T>>);

struct Gathering<T> {
    answers: Vec<Option<T>>,
    /// Parts without an answer.
    open: usize,
    some_applied: bool,
    failure: Option<PortError>,
    done: Option<Done<Vec<T>>>,
}

impl Store {
    pub(crate) fn new(connection: Connection, what: &'static str, time: Time) -> Self {
        Self {
            connection,
            what,
            time,
            handle: format!("{:016x}", getrandom::u64().unwrap_or_default()),
            calls: AtomicU64::new(0),
            renew: script!("lua/store.lua", "lua/renew.lua"),
            lapsed: script!("lua/store.lua", "lua/lapsed.lua"),
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn key(&self, partition: u8, part: &str) -> String {
        self.connection.keys().tagged(&format!("{}-{partition}", self.what), part)
    }

    /// Where the answer to this handle's last call on a partition is kept.
    pub(crate) fn memo(&self, partition: u8) -> String {
        self.key(partition, &format!("memo:{}", self.handle))
    }

    /// A name for a call that nobody else uses; all are of one length, and each is greater than the one before.
    pub(crate) fn call(&self) -> String {
        format!("{}{:016x}", self.handle, self.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// What scripts take as the time.
    pub(crate) fn now(&self) -> String {
        self.time.argument()
    }

    /// Runs a script that leaves what one run leaves, and answers so, if it is run again; it is as long as the outcome is not known, for some seconds.
    pub(crate) async fn invoke<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<T, PortError> {
        let unknown = match self.connection.invoke(script, keys, arguments).await {
            Err(error) if error.kind == Failure::Unknown => error,
            result => return result,
        };
        let until = Instant::now() + INSISTING;
        let mut states = self.connection.states();
        loop {
            let up = states.wait_for(|state| matches!(state, State::Up(_)));
            if !matches!(timeout_at(until, up).await, Ok(Ok(_))) {
                return Err(unknown);
            }
            match self.connection.invoke(script, keys, arguments).await {
                Err(error) if matches!(error.kind, Failure::Unknown | Failure::NotApplied) => {
                    if Instant::now() >= until {
                        return Err(unknown);
                    }
                    sleep(PAUSE).await;
                }
                // Refused now; of the first time that says nothing.
                Err(_) => return Err(unknown),
                known => return known,
            }
        }
    }

    /// Renews a node's lease in every partition.
    pub(crate) async fn renew(self: Arc<Self>, node: String) -> Result<Lease, PortError> {
        let renewal = |partition: u8| {
            let (this, node) = (Arc::clone(&self), node.clone());
            async move {
                let fresh = getrandom::u32().unwrap_or_default().max(1).to_string();
                let arguments = [this.now(), node, LEASE_MS.to_string(), fresh];
                let token: u64 =
                    this.invoke(&this.renew, &[this.key(partition, "nodes")], &arguments).await?;
                Ok((usize::from(partition), token))
            }
        };
        let mut tokens = vec![0; usize::from(PARTITIONS)];
        for (partition, token) in everywhere(renewal).await? {
            tokens[partition] = token;
        }
        let before = lock(&self.tokens).insert(node.into(), tokens.clone());
        Ok(if before.as_ref() == Some(&tokens) { Lease::Kept } else { Lease::Anew })
    }

    /// Nodes whose lease is over in some partition.
    pub(crate) async fn lapsed(self: Arc<Self>) -> Result<Vec<String>, PortError> {
        let look = |partition: u8| {
            let this = Arc::clone(&self);
            async move {
                let keys = [this.key(partition, "nodes")];
                this.connection.invoke::<Vec<String>>(&this.lapsed, &keys, &[this.now()]).await
            }
        };
        let mut nodes: Vec<String> = everywhere(look).await?.into_iter().flatten().collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// This handle has nothing to do with the node any more.
    pub(crate) fn forget(&self, node: &str) {
        lock(&self.tokens).remove(node);
    }
}

impl Time {
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::Server => String::new(),
            Self::Given(clock) => clock.wall().to_string(),
        }
    }
}

impl<P: Send + 'static> Queues<P> {
    /// Begins the tasks.
    #[expect(clippy::disallowed_methods, reason = "`admit` bounds all queues together")]
    pub(crate) fn new<W: Worker<Part = P>>(connection: &Connection, worker: &Arc<W>) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = |partition: u8| {
            let (sender, receiver) = unbounded_channel();
            connection.runtime().spawn(serve(partition, Arc::clone(worker), receiver, Arc::clone(&waiting)));
            sender
        };
        Self { queues: (0..PARTITIONS).map(queue).collect(), waiting: Arc::clone(&waiting) }
    }

    /// Whether so much more may wait.
    pub(crate) fn admit(&self, weight: usize) -> Result<(), PortError> {
        if self.waiting.load(Ordering::Relaxed) + weight <= WAITING {
            return Ok(());
        }
        Err(PortError::new(Failure::Overloaded, "too much waits for redis"))
    }

    /// Queues what is for one partition.
    pub(crate) fn push(&self, partition: u8, part: P, weight: usize) {
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        // The tasks live as long as this, or the runtime has ended, and with it all who wait.
        let _ = self.queues[usize::from(partition)].send(Weighed { part, weight });
    }
}

async fn serve<W: Worker>(
    partition: u8,
    worker: Arc<W>,
    mut queue: UnboundedReceiver<Weighed<W::Part>>,
    waiting: Arc<AtomicUsize>,
) {
    let mut some = Vec::new();
    while queue.recv_many(&mut some, 1_000).await > 0 {
        let weight: usize = some.iter().map(|weighed| weighed.weight).sum();
        worker.work(partition, some.drain(..).map(|weighed| weighed.part).collect()).await;
        waiting.fetch_sub(weight, Ordering::Relaxed);
    }
}

impl<T> Gather<T> {
    /// Waits for `count` answers, which come in `parts` parts.
    pub(crate) fn new(count: usize, parts: usize, done: Done<Vec<T>>) -> Arc<Self> {
        let answers = (0..count).map(|_| None).collect();
        Arc::new(Self(Mutex::new(Gathering {
            answers,
            open: parts,
            some_applied: false,
            failure: None,
            done: Some(done),
        })))
    }

    /// The answer to one change.
    pub(crate) fn answer(&self, place: usize, answer: T) {
        let mut gathering = lock(&self.0);
        gathering.some_applied = true;
        gathering.answers[place] = Some(answer);
    }

    /// Some of a part's changes failed.
    pub(crate) fn fail(&self, error: &PortError) {
        let mut gathering = lock(&self.0);
        // What is not known weighs more than what did not happen.
        if gathering.failure.as_ref().is_none_or(|known| known.kind != Failure::Unknown) {
            gathering.failure = Some(error.clone());
        }
    }

    /// Something was applied that has no answer of its own.
    pub(crate) fn applied(&self) {
        lock(&self.0).some_applied = true;
    }

    /// A part has ended; with the last one the call is answered.
    pub(crate) fn end_part(&self) {
        let mut gathering = lock(&self.0);
        gathering.open -= 1;
        if gathering.open > 0 {
            return;
        }
        let (answers, failure) = (std::mem::take(&mut gathering.answers), gathering.failure.take());
        let (some_applied, done) = (gathering.some_applied, gathering.done.take());
        drop(gathering);
        let Some(done) = done else { return };
        done(match failure {
            Some(error) if some_applied => Err(PortError::new(Failure::Unknown, error.detail)),
            Some(error) => Err(error),
            None => Ok(answers.into_iter().flatten().collect()),
        });
    }
}

/// Does the same in every partition at once.
pub(crate) async fn everywhere<T, F>(each: impl Fn(u8) -> F) -> Result<Vec<T>, PortError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, PortError>> + Send + 'static,
{
    let mut all = JoinSet::new();
    (0..PARTITIONS).for_each(|partition| drop(all.spawn(each(partition))));
    let mut answers = Vec::new();
    while let Some(joined) = all.join_next().await {
        answers.push(joined.map_err(|error| PortError::new(Failure::Unknown, error.to_string()))??);
    }
    Ok(answers)
}

/// The partition of a channel, or of whatever has 64 well-mixed bits.
pub(crate) fn of_hash(hash: u64) -> u8 {
    // The top bits: the others choose shards.
    (hash >> 58) as u8
}

/// Locks, whatever became of earlier holders: no foreign code runs under these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
