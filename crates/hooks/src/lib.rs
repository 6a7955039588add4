//! Hooks and calls: an app's own back end is told what happens, asked whether something may happen, and called by clients. For developers of back ends: docs/hooks.md.
//!
//! Events go into the outbox and from there, hook by hook, to the back ends ([`delivery`]); so a back end that is slow or away holds up nobody, and misses nothing. Messages of
//! durable channels are put there by their log, in the message's own transaction ([`Tap`]): nothing is lost between the two, and no order but the log's is ever made up. A log whose outbox
//! is elsewhere notes with each message that it is to be told of ([`Notes`]), so that whoever lives tells of it when its server has died.
//! Questions go at once, within bounds of time, size and number ([`asking`]).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod asking;
mod breaker;
mod delivery;
mod desk;
mod hook;
mod metrics;
mod payload;
mod signature;
mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use xpush_core::access::Apps;
use xpush_core::hooks::{HookAsk, HookEvent};
use xpush_core::ports::access::{Access, Decided};
use xpush_core::ports::erasure::{Erasure, Pending};
use xpush_core::ports::hooks::{Ask, Called, Event, Hooks, Publishing, Route};
use xpush_core::ports::online::State;
use xpush_core::ports::outbox::{Item, MOST_WAITING, Notes, Outbox, Tap};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, Clock, Code, Entropy, Message, NodeId, Position};
use xpush_fetch::{Fetch, Reach};

use crate::hook::Hook;
use crate::metrics::Metrics;
use crate::table::Table;

pub use crate::access::HookedAccess;
pub use crate::desk::{HookState, Tried};
pub use crate::signature::{SHORTEST, usable};

/// Events that may wait for the outbox; more are lost, and counted.
const QUEUED: usize = 65_536;
/// Items in one put.
const BATCH: usize = 1_000;
/// How often it is looked whether apps have changed.
const REFRESH: Duration = Duration::from_millis(250);
/// Connections to one back end that are kept.
const IDLE: usize = 32;
/// How often it is looked for messages that nobody was told of.
const UNTOLD: Duration = Duration::from_secs(5);
/// How often it is looked who is erased: an erasure takes ten seconds at least.
const ERASURES: Duration = Duration::from_secs(3);
/// Bytes of ids.
const ID: usize = 15;

/// What [`Webhooks`] stand on.
pub struct Parts {
    /// The apps as they are now. Cheap.
    pub apps: Arc<dyn Fn() -> Arc<Apps> + Send + Sync>,
    /// Where events wait.
    pub outbox: Arc<dyn Outbox>,
    /// The log of durable channels puts what their messages make to do into that outbox ([`Webhooks`] is its [`Tap`]).
    pub tapped: bool,
    /// The log of durable channels, when its outbox is elsewhere: it notes which messages are still to be told of, and [`Webhooks`] is its [`Tap`], too.
    pub notes: Option<Arc<dyn Notes>>,
    /// Who is erased, when that is noted elsewhere than in the outbox.
    pub erasures: Option<Erasures>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For ids and jitter.
    pub entropy: Box<dyn Entropy>,
    /// Where to wait.
    pub runtime: Handle,
    /// Who tells.
    pub node: NodeId,
    /// Back ends may be on private addresses, and speak `http`.
    pub allow_private: bool,
}

/// Where users are erased, and what they are to be taken out of here when that has ended.
pub struct Erasures {
    /// What all servers share.
    pub shared: Arc<dyn Erasure>,
    /// What is in the same store as this server's outbox.
    pub own: Arc<dyn Erasure>,
}

/// [`Hooks`] over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Core>);

pub(crate) struct Core {
    apps: Arc<dyn Fn() -> Arc<Apps> + Send + Sync>,
    table: RwLock<Arc<Table>>,
    /// Some app has a hook or a call.
    any: AtomicBool,
    pub(crate) outbox: Arc<dyn Outbox>,
    tapped: bool,
    notes: Option<Arc<dyn Notes>>,
    pub(crate) clock: Arc<dyn Clock>,
    entropy: Mutex<Box<dyn Entropy>>,
    pub(crate) runtime: Handle,
    pub(crate) node: NodeId,
    pub(crate) fetch: Fetch,
    queued: mpsc::Sender<Queued>,
    /// What is on its way into the outbox.
    unwritten: Arc<AtomicUsize>,
    metrics: Metrics,
    registry: Registry,
}

impl Webhooks {
    /// Reads what the apps have set up, and goes on with what waits.
    pub fn start(parts: Parts) -> Self {
        let (queued, waiting) = mpsc::channel(QUEUED);
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let reach = if parts.allow_private { Reach::Anywhere } else { Reach::Public };
        let core = Arc::new(Core {
            apps: parts.apps,
            table: RwLock::default(),
            any: AtomicBool::new(false),
            outbox: parts.outbox,
            tapped: parts.tapped,
            notes: parts.notes,
            clock: parts.clock,
            entropy: Mutex::new(parts.entropy),
            runtime: parts.runtime,
            node: parts.node,
            fetch: Fetch::reaching(reach, IDLE),
            queued,
            unwritten: Arc::default(),
            metrics,
            registry,
        });
        core.refresh();
        core.runtime.spawn(write(core.outbox.clone(), core.notes.clone(), waiting, core.unwritten.clone()));
        core.runtime.spawn(tell_untold(Arc::downgrade(&core)));
        if let Some(erasures) = parts.erasures {
            core.runtime.spawn(follow_erasures(erasures, Arc::downgrade(&core)));
        }
        let weak = Arc::downgrade(&core);
        core.runtime.spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                match weak.upgrade() {
                    Some(core) => core.refresh(),
                    None => return,
                }
            }
        });
        Self(core)
    }

    /// Decides who may connect, and who may do what in a channel, as `inner` does and then as back ends say.
    pub fn guard(&self, inner: Arc<dyn Access>) -> Arc<dyn Access> {
        Arc::new(HookedAccess::new(inner, self.0.clone()))
    }

    /// Waits until everything that was told is in the outbox; `within` at most. To be called before the outbox is closed.
    pub async fn flush(&self, within: Duration) {
        let flushed = async {
            while self.0.unwritten.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(within, flushed).await.is_err() {
            tracing::warn!("not every event of hooks was put into the outbox in time");
        }
    }

    /// Appends what is counted to other metrics, all in OpenMetrics' text form.
    pub fn add_metrics(&self, mut text: String) -> String {
        text.truncate(text.trim_end().strip_suffix("# EOF").map_or(text.len(), str::len));
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.0.registry) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

impl Core {
    /// Takes up what has changed in the apps.
    pub(crate) fn refresh(self: &Arc<Self>) {
        let (apps, before) = ((self.apps)(), self.table());
        if before.is_of(&apps) {
            return;
        }
        let (table, fresh) = Table::new(apps, &before, &self.metrics);
        self.any.store(!table.is_empty(), Ordering::Release);
        let table = Arc::new(table);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table.clone();
        before.hooks().filter(|hook| !table.has(hook)).for_each(|hook| hook.end());
        for hook in fresh {
            if let Err(error) = self.fetch.permitted(&hook.record.url) {
                tracing::warn!(app = %hook.app, hook = %hook.record.name, %error, "a hook's URL will not be asked");
            }
            if !hook.record.events.is_empty() {
                self.runtime.spawn(delivery::deliver(Arc::downgrade(self), hook));
            }
        }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table, unless no app has anything in it.
    fn any(&self) -> Option<Arc<Table>> {
        self.any.load(Ordering::Acquire).then(|| self.table())
    }

    /// An id that nobody has given before.
    pub(crate) fn fresh_id(&self) -> String {
        let mut bytes = [0; ID];
        self.entropy.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn chance(&self) -> u64 {
        self.entropy.lock().unwrap_or_else(PoisonError::into_inner).word()
    }

    /// Queues an event for the outbox.
    fn queue(&self, queued: Queued) {
        self.unwritten.fetch_add(1, Ordering::AcqRel);
        if let Err(refused) = self.queued.try_send(queued) {
            self.unwritten.fetch_sub(1, Ordering::AcqRel);
            let Queued { items, noted } = refused.into_inner();
            // What is noted is told of again.
            if self.notes.is_none() || noted.is_none() {
                items.iter().for_each(|(hook, _)| hook.counts.events("lost", 1));
            }
        }
    }

    /// Whether anybody is to be told of messages in this channel.
    fn wants(&self, channel: &ChannelKey) -> bool {
        let Some(table) = self.any() else { return false };
        let mut hooks = table.of(&channel.app).iter();
        hooks.any(|hook| hook.wants(HookEvent::Message) && hook.record.covers(&channel.name))
    }

    fn tell(&self, event: &Event) {
        let Some(table) = self.any() else { return };
        let (app, kind, channel, key) = facts(event);
        let wants =
            |hook: &&Arc<Hook>| hook.wants(kind) && channel.is_none_or(|channel| hook.record.covers(channel));
        let hooks = table.of(app).iter().filter(wants);
        let noted = match event {
            Event::Message { durable: true, .. } if self.tapped => {
                // It was counted by the log's writer, and is there by now.
                return hooks.for_each(|hook| hook.woken.notify_one());
            }
            Event::Message { message, durable: true } => Some(&**message),
            _ => None,
        };
        let id = noted.and_then(id_of).unwrap_or_else(|| self.fresh_id());
        let body = Bytes::from(payload::event(&id, kind.as_str(), self.clock.wall(), event));
        let item = |hook: &Arc<Hook>| {
            let (queue, key, body) = (hook.queue.clone(), key.as_str().into(), body.clone());
            (hook.clone(), Item { queue, key, body })
        };
        let (items, too_long): (Vec<_>, Vec<_>) = hooks.map(item).partition(|(_, item)| item.is_valid());
        too_long.iter().for_each(|(hook, _)| hook.counts.events("lost", 1));
        let noted = noted.and_then(|message| Some((message.channel.clone(), message.position?)));
        if !items.is_empty() || !too_long.is_empty() {
            self.queue(Queued { items, noted });
        }
    }
}

impl Hooks for Webhooks {
    fn tell(&self, event: Event) {
        self.0.tell(&event);
    }

    fn asks(&self, app: &App, ask: Ask, channel: Option<&Channel>) -> bool {
        let Some(table) = self.0.any() else { return false };
        let ask = match ask {
            Ask::Connect => HookAsk::Connect,
            Ask::Subscribe => HookAsk::Subscribe,
            Ask::Publish => HookAsk::Publish,
            Ask::PublishByServer => {
                return table.asked(app, HookAsk::Publish, channel).any(|hook| hook.record.api);
            }
        };
        table.asked(app, ask, channel).next().is_some()
    }

    fn publishing(&self, publishing: Publishing, done: Decided<Option<Bytes>>) {
        let core = self.0.clone();
        self.0.runtime.spawn(async move { done(core.publishing(publishing).await) });
    }

    fn route(&self, app: &App, name: &str) -> Option<Route> {
        let table = self.0.any()?;
        if let Some((channel, echo)) = table.call(app, name) {
            return Some(Route::Publish { channel, echo });
        }
        table.asked(app, HookAsk::Call, None).next().map(|_| Route::Call)
    }

    fn joined(&self, app: &App) -> Vec<Channel> {
        self.0.any().map(|table| table.joined(app)).unwrap_or_default()
    }

    fn call(&self, called: Called, done: Decided<Bytes>) {
        let core = self.0.clone();
        self.0.runtime.spawn(async move { done(core.call(called).await) });
    }
}

impl Tap for Webhooks {
    fn work(&self, message: &Message) -> Vec<Item> {
        let Some(table) = self.0.any() else { return Vec::new() };
        let channel = &message.channel;
        let wants = |hook: &&Arc<Hook>| hook.wants(HookEvent::Message) && hook.record.covers(&channel.name);
        let id = id_of(message).unwrap_or_else(|| self.0.fresh_id());
        let item = |hook: &Arc<Hook>| {
            let body = payload::of_message(&id, self.0.clock.wall(), message);
            Item {
                queue: hook.queue.clone(),
                key: channel_key(&channel.name).into(),
                body: Bytes::from(body),
            }
        };
        table.of(&channel.app).iter().filter(wants).map(item).collect()
    }

    fn became(&self, channel: &ChannelKey, item: &Item, put: bool) {
        let table = self.0.table();
        if let Some(hook) = table.of(&channel.app).iter().find(|hook| hook.queue == item.queue) {
            hook.counts.events(if put { "queued" } else { "lost" }, 1);
        }
    }

    fn wants(&self, channel: &ChannelKey) -> bool {
        self.0.wants(channel)
    }
}

/// What goes into the outbox together.
struct Queued {
    items: Vec<(Arc<Hook>, Item)>,
    /// The message that makes them, when its log has noted that it is to be told of.
    noted: Option<(ChannelKey, Position)>,
}

/// The id of the event that tells of a message which has its place: the same whoever tells of it, and however often.
fn id_of(message: &Message) -> Option<String> {
    let Position { epoch, seq } = message.position?;
    let ChannelKey { app, name, .. } = &message.channel;
    let place = format!("{app}\n{name}\n{epoch}\n{seq}");
    Some(URL_SAFE_NO_PAD.encode(&digest(&SHA256, place.as_bytes()).as_ref()[..ID]))
}

/// Whose event it is, its kind, the channel that it is about, and what it is ordered by.
fn facts(event: &Event) -> (&App, HookEvent, Option<&Channel>, String) {
    let of_user = |user: &xpush_core::User| format!("u{user}");
    match event {
        Event::Connected { grant, .. } => {
            (&grant.app, HookEvent::Connected, None, of_user(&grant.sender.user))
        }
        Event::Disconnected { grant, .. } => {
            (&grant.app, HookEvent::Disconnected, None, of_user(&grant.sender.user))
        }
        Event::Occupied(key) => (&key.app, HookEvent::Occupied, Some(&key.name), channel_key(&key.name)),
        Event::Vacated(key) => (&key.app, HookEvent::Vacated, Some(&key.name), channel_key(&key.name)),
        Event::Message { message, .. } => {
            let key = &message.channel;
            (&key.app, HookEvent::Message, Some(&key.name), channel_key(&key.name))
        }
        Event::Status { app, user, state: State::Offline, .. } => {
            (app, HookEvent::Offline, None, of_user(user))
        }
        Event::Status { app, user, .. } => (app, HookEvent::Online, None, of_user(user)),
    }
}

fn channel_key(channel: &Channel) -> String {
    format!("c{channel}")
}

/// Puts what is queued into the outbox, in order. What it has no room for is lost, and counted; what it fails to take is, too, unless it is noted: then it is told of again.
async fn write(
    outbox: Arc<dyn Outbox>,
    notes: Option<Arc<dyn Notes>>,
    mut queued: mpsc::Receiver<Queued>,
    unwritten: Arc<AtomicUsize>,
) {
    let mut batch = Vec::new();
    while queued.recv_many(&mut batch, BATCH).await > 0 {
        let entries = batch.len();
        // Of each entry, and the items with the number of theirs.
        let (mut noted, mut items) = (Vec::with_capacity(entries), Vec::new());
        for (number, entry) in batch.drain(..).enumerate() {
            noted.push(entry.noted.filter(|_| notes.is_some()));
            items.extend(entry.items.into_iter().map(|(hook, item)| (number, hook, item)));
        }
        // Each queue's stand together, in their order.
        items.sort_by(|(_, _, one), (_, _, other)| one.queue.cmp(&other.queue));
        let queues = || items.chunk_by(|(_, _, one), (_, _, other)| one.queue == other.queue);
        let put = |some: &[(usize, Arc<Hook>, Item)]| {
            let some = some.iter().map(|(_, _, item)| item.clone()).collect();
            port(|done| outbox.put(some, done))
        };
        let mut failed = vec![false; entries];
        if items.is_empty() || put(&items).await.is_ok() {
            items.iter().for_each(|(_, hook, _)| hook.counts.events("queued", 1));
        } else {
            // One queue that is full does not take the others' events with it.
            let puts: Vec<_> = queues().map(put).collect();
            for (some, put) in queues().zip(puts) {
                let (_, hook, _) = &some[0];
                match put.await {
                    Ok(()) => hook.counts.events("queued", some.len()),
                    Err(error)
                        if error.kind == Failure::Full && is_full(&*outbox, hook, some.len()).await =>
                    {
                        hook.counts.events("lost", some.len());
                    }
                    Err(error) => {
                        tracing::warn!(hook = %hook.queue, %error, "events of a hook cannot be put");
                        let lost = some.iter().filter(|(number, ..)| noted[*number].is_none()).count();
                        hook.counts.events("lost", lost);
                        // Hooks that have taken what is told of again are told twice: by the same id.
                        some.iter().for_each(|(number, ..)| failed[*number] = true);
                    }
                }
            }
        }
        let told = noted.into_iter().zip(failed).filter(|(_, failed)| !failed);
        let told: Vec<_> = told.filter_map(|(noted, _)| noted).collect();
        if let Some(notes) = notes.as_ref().filter(|_| !told.is_empty()) {
            notes.told(told);
        }
        unwritten.fetch_sub(entries, Ordering::AcqRel);
        items.iter().for_each(|(_, hook, _)| hook.woken.notify_one());
    }
}

/// Whether it is a hook's queue that has no room for so many more: a disk may be full, too.
async fn is_full(outbox: &dyn Outbox, hook: &Hook, more: usize) -> bool {
    let backlog = port(|done| outbox.backlog(&hook.queue, done)).await;
    backlog.is_ok_and(|backlog| backlog.waiting + more as u64 > MOST_WAITING)
}

/// Tells of what was noted by servers that have died before it was in their outboxes.
async fn tell_untold(core: Weak<Core>) {
    loop {
        tokio::time::sleep(UNTOLD).await;
        let Some(core) = core.upgrade() else { return };
        let Some(notes) = &core.notes else { return };
        match port(|done| notes.untold(BATCH, done)).await {
            Ok(messages) => {
                let (wanted, idle): (Vec<_>, Vec<_>) =
                    messages.into_iter().partition(|message| core.wants(&message.channel));
                for message in wanted {
                    core.tell(&Event::Message { message, durable: true });
                }
                // Whoever wanted to be told of these has gone since.
                let place = |message: &Arc<Message>| Some((message.channel.clone(), message.position?));
                notes.told(idle.iter().filter_map(place).collect());
            }
            Err(error) => tracing::debug!(%error, "cannot look for messages that nobody was told of"),
        }
    }
}

/// Takes out of what waits here whoever is erased.
async fn follow_erasures(erasures: Erasures, core: Weak<Core>) {
    while core.strong_count() > 0 {
        if let Err(error) = erasures.follow().await {
            tracing::warn!(%error, "what waits for hooks may tell of users who were erased; it is tried again");
        }
        tokio::time::sleep(ERASURES).await;
    }
}

impl Erasures {
    /// What has begun there begins here, too, and is remembered over a restart; it ends here when it has ended there, as nothing comes behind it then.
    async fn follow(&self) -> Result<(), PortError> {
        let pending = port(|done| self.shared.pending(done)).await?;
        let begun = port(|done| self.own.pending(done)).await?;
        let is_in = |list: &[Pending], one: &Pending| {
            list.iter().any(|other| other.app == one.app && other.user == one.user)
        };
        for one in pending.iter().filter(|one| !is_in(&begun, one)) {
            port(|done| self.own.begin(&one.app, &one.user, one.since, done)).await?;
        }
        for one in begun.iter().filter(|one| !is_in(&pending, one)) {
            while !port(|done| self.own.step(&one.app, &one.user, done)).await?.ended {}
            port(|done| self.own.end(&one.app, &one.user, done)).await?;
        }
        Ok(())
    }
}

/// What a port answers. It is asked now.
pub(crate) fn port<T: Send + 'static>(
    ask: impl FnOnce(Done<T>),
) -> impl Future<Output = Result<T, PortError>> + Send + 'static {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    ask(Box::new(move |result| {
        // Whoever has gone does not hear it.
        let _ = sender.send(result);
    }));
    let gone = |_| PortError::new(Failure::Unknown, "no answer");
    async move { receiver.await.unwrap_or_else(|error| Err(gone(error))) }
}

/// What a client is told whose question was not answered.
pub(crate) fn unanswered() -> xpush_core::Problem {
    xpush_core::Problem::new(Code::Unavailable, "the app's back end does not answer")
}
