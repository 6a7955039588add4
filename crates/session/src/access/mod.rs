//! ACCESS (the port [`Access`]) over a directory: who somebody is, by tokens or as a guest; what they may do where, by rules, membership and channels' tokens; and
//! telling when that has changed. For developers of apps: docs/access.md.
//!
//! A question that can be answered from memory is answered within the call; others wait for the directory, for a key set, or for a public key's arithmetic on
//! tokio's threads.

mod admission;
mod apps;
mod cache;
mod feed;
mod guest;
mod key_sets;
mod keys;
mod members;
mod permission;
mod records;
mod token;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use xpush_core::access::Apps;
use xpush_core::ports::PortError;
use xpush_core::ports::access::{Access, AccessSink, Changed, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::ports::directory::{AppRecord, Directory, Key, Record};
use xpush_core::ports::markers::Ledger;
use xpush_core::ports::message_log::MessageLog;
use xpush_core::{App, ChannelKey, Clock, Entropy, Grant, Permission, Problem};

use self::admission::Verified;
use self::apps::Registry;
use self::cache::Generations;
use self::key_sets::KeySets;
use self::records::Records;
use crate::devices;
use crate::port::{ask, unreadable};
use xpush_fetch::Fetch;

pub use self::apps::{Configured, OPERATORS};
pub(crate) use self::keys::fits;
pub use self::keys::{Unusable, usable};
pub(crate) use self::members::{heir, is_owner};

/// Bytes of tokens whose signatures are remembered, in one generation.
const VERIFIED: usize = 8 << 20;
/// Channels whose members change at the same time on this node.
const TURNS: u64 = 64;

/// What [`DirectoryAccess`] stands on.
pub struct Parts {
    /// Who and what there is.
    pub directory: Arc<dyn Directory>,
    /// Durable histories: where a new member's reading begins, and whether a channel was used before. None where nothing durable is kept.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Recent histories: whether a channel was used before. None where they are not kept.
    pub recent: Option<Arc<dyn MessageLog>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For the ids of guests.
    pub entropy: Box<dyn Entropy>,
    /// Where to wait and to compute.
    pub runtime: Handle,
    /// What the configuration says.
    pub configured: Configured,
}

/// [`Access`] over a directory. Cheap to clone.
#[derive(Clone)]
pub struct DirectoryAccess(Arc<Core>);

struct Core {
    directory: Arc<dyn Directory>,
    ledger: Option<Arc<dyn Ledger>>,
    recent: Option<Arc<dyn MessageLog>>,
    clock: Arc<dyn Clock>,
    entropy: Mutex<Box<dyn Entropy>>,
    runtime: Handle,
    configured: Configured,
    /// With how often it has changed.
    registry: RwLock<(u64, Arc<Registry>)>,
    records: Records,
    verified: Mutex<Generations<[u8; 32], Arc<Verified>>>,
    key_sets: Arc<KeySets>,
    /// Taken by whoever does a public key's arithmetic.
    checking: Arc<Semaphore>,
    /// Whose turn it is to change members, by channel.
    turns: Box<[tokio::sync::Mutex<()>]>,
    /// Who was admitted while the directory could not be asked.
    unchecked: Mutex<Vec<Grant>>,
    /// Something has changed on this node.
    poked: Arc<Notify>,
    sink: OnceLock<Arc<dyn AccessSink>>,
}

impl DirectoryAccess {
    /// Reads the apps and begins to listen for changes.
    pub async fn start(parts: Parts) -> Result<Self, Problem> {
        Self::start_with(parts, Fetch::new()).await
    }

    async fn start_with(parts: Parts, fetch: Fetch) -> Result<Self, Problem> {
        let Parts { directory, ledger, recent, clock, entropy, runtime, configured } = parts;
        let from = ask(|done| directory.changes(u64::MAX, 0, done)).await;
        let from = from.map_err(|error| unreadable(&error))?.next;
        let registry = Registry::load(&configured, &*directory).await.map_err(|error| unreadable(&error))?;
        let key_sets = Arc::new(KeySets::new(fetch, clock.clone()));
        key_sets.keep(registry.key_sets());
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let core = Arc::new(Core {
            records: Records::new(directory.clone(), clock.clone()),
            directory,
            ledger,
            recent,
            clock,
            entropy: Mutex::new(entropy),
            runtime: runtime.clone(),
            configured,
            registry: RwLock::new((0, Arc::new(registry))),
            verified: Mutex::new(Generations::new(VERIFIED)),
            key_sets,
            checking: Arc::new(Semaphore::new(processors.div_ceil(2))),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            unchecked: Mutex::default(),
            poked: Arc::new(Notify::new()),
            sink: OnceLock::new(),
        });
        runtime.spawn(feed::listen(Arc::downgrade(&core), from));
        Ok(Self(core))
    }

    /// Everything that was set up for an app, live or in the configuration.
    pub fn app(&self, app: &App) -> Option<Arc<AppRecord>> {
        self.0.registry().record(app)
    }

    /// What an entry of the directory says, remembered for as long as changes of it are heard of.
    pub(crate) async fn remembered(&self, key: &Key) -> Result<Option<Arc<Record>>, Problem> {
        self.0.records.read(key).await
    }

    /// The same, if it is remembered at the moment.
    pub(crate) fn known(&self, key: &Key) -> Option<Arc<Record>> {
        self.0.records.known(key)
    }

    /// The same directory: what is changed through it is heard of here at once, not only when it is asked for changes next.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(feed::Attentive(Arc::downgrade(&self.0), self.0.directory.clone()))
    }

    /// Answers within the call when that is possible. Otherwise `again` hears what was answered, if something has changed while it was being decided: who waited
    /// for the answer may have missed the news.
    fn answer<T, F>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
        done: Decided<T>,
        again: impl FnOnce(Arc<Core>, T) -> F + Send + 'static,
    ) where
        T: Clone + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let core = self.0.clone();
        let before = core.records.changes();
        let mut work = Box::pin(work);
        let first = {
            let _context = core.runtime.enter();
            work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        if let Poll::Ready(result) = first {
            return done(result);
        }
        core.runtime.clone().spawn(async move {
            let result = work.await;
            let given = result.clone();
            done(result);
            if let Ok(given) = given
                && core.records.changes() != before
            {
                again(core, given).await;
            }
        });
    }
}

impl Access for DirectoryAccess {
    fn apps(&self) -> Arc<Apps> {
        self.0.registry().apps.clone()
    }

    fn admit(&self, credentials: Credentials, done: Decided<Grant>) {
        let again = |core: Arc<Core>, grant: Grant| async move { core.check_again(&grant).await };
        let core = self.0.clone();
        let noted = Box::new(move |result: Result<Grant, Problem>| {
            if let Ok(grant) = &result {
                core.note_device(grant);
            }
            done(result);
        });
        self.answer(self.0.clone().admit(credentials), noted, again);
    }

    fn readmit(&self, grant: &Grant, done: Decided<()>) {
        let (core, grant) = (self.0.clone(), grant.clone());
        let work = async move { core.readmit(&grant).await };
        self.answer(work, done, |_, ()| async {});
    }

    fn permit(&self, channel: &ChannelKey, who: &Arc<Grant>, token: Option<&str>, done: Decided<Permission>) {
        let (channel, who) = (channel.clone(), who.clone());
        let work = self.0.clone().permit(channel.clone(), who.clone(), token.map(str::to_owned));
        let again = move |core: Arc<Core>, _| async move {
            core.tell(Changed::Permission(channel, who.sender.user.clone()));
        };
        self.answer(work, done, again);
    }

    fn members(&self, channel: &ChannelKey, notified: bool, done: Decided<Arc<[MemberOf]>>) {
        let (core, channel) = (self.0.clone(), channel.clone());
        let work = async move {
            let roster = core.records.roster(&channel).await?;
            Ok(if notified { roster.notified } else { roster.all })
        };
        self.answer(work, done, |_, _| async {});
    }

    fn enrol(
        &self,
        channel: &ChannelKey,
        by: &Arc<Grant>,
        may_invite: bool,
        change: Enrolment,
        done: Decided<()>,
    ) {
        let (core, channel, by) = (self.0.clone(), channel.clone(), by.clone());
        let work = async move { core.enrol(&channel, &by, may_invite, change).await };
        self.answer(work, done, |_, ()| async {});
    }

    fn watch(&self, sink: Arc<dyn AccessSink>) {
        assert!(self.0.sink.set(sink).is_ok(), "watched twice");
    }
}

impl Core {
    /// A device that connects is one of the user's: it is listed, and can be logged out.
    fn note_device(&self, grant: &Grant) {
        let Some(device) = grant.device.clone().filter(|_| !grant.guest) else { return };
        let (app, user, now) = (grant.app.clone(), grant.sender.user.clone(), self.clock.wall());
        let known = self.records.known(&Key::Device(app.clone(), user.clone(), device.clone()));
        if matches!(known.as_deref(), Some(Record::Device(known)) if devices::was_noted(known, now)) {
            return;
        }
        let directory = self.directory.clone();
        self.runtime.spawn(async move {
            if let Err(error) = devices::seen(directory, &app, &user, &device, now).await {
                tracing::debug!(%error, "a device was not noted");
            }
        });
    }

    fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Reads the apps anew.
    async fn reload(&self) -> Result<(), Problem> {
        let registry = Registry::load(&self.configured, &*self.directory).await;
        let registry = Arc::new(registry.map_err(|error| unreadable(&error))?);
        self.key_sets.keep(registry.key_sets());
        let mut current = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, registry);
        Ok(())
    }

    /// Other numbers when keys may have changed.
    fn key_changes(&self) -> (u64, u64) {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner).0;
        (registry, self.key_sets.changes())
    }

    fn verified(&self) -> MutexGuard<'_, Generations<[u8; 32], Arc<Verified>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self) -> u64 {
        self.entropy.lock().unwrap_or_else(PoisonError::into_inner).word()
    }

    fn turn(&self, channel: &ChannelKey) -> &tokio::sync::Mutex<()> {
        &self.turns[(channel.hash64() % TURNS) as usize]
    }

    fn tell(&self, changed: Changed) {
        if let Some(sink) = self.sink.get() {
            sink.changed(changed);
        }
    }

    /// Starts a change of the directory; what it changes is forgotten when it has been made.
    fn apply(
        self: &Arc<Self>,
        change: xpush_core::ports::directory::Change,
    ) -> impl Future<Output = Result<u64, PortError>> + Send + use<> {
        let attentive = feed::Attentive(Arc::downgrade(self), self.directory.clone());
        ask(move |done| attentive.apply(change, done))
    }
}

#[cfg(test)]
mod tests;
