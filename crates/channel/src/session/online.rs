//! Who is online, told to the port by one shard for the whole node, so that transitions keep their order, and written into each app's `$presence`.
//!
//! Guests are not counted: they are nobody whom another could know.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use xpush_core::message::Sender;
use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Envelope, Event, Inbound, Topic};
use xpush_core::ports::hooks;
use xpush_core::ports::message_log::{Appended, Draft};
use xpush_core::ports::online::{Movement, State, Transition};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, Device, EventName, Grant, Kind, Message, Monotonic, Payload, Rule,
    User,
};
use xpush_wire::json;

use super::identity::Identity;
use super::sid;
use crate::command::status;
use crate::dialect::object;
use crate::fanout::inbox::{Handle, Inbox};
use crate::shard::{Shard, Timer};

/// A user whose last connection went is offline after so many ms.
pub const GRACE_MS: u64 = 5_000;
/// Where an app's transitions are written, if one of its rules covers it.
pub(crate) const CHANNEL: &str = "$presence";
/// The shard that tells the port.
pub(crate) const TELLER: u16 = 0;
/// Between two looks for grace times that are over, and before what could not be written is tried again; in ms.
const PACE_MS: u64 = 1_000;
/// Transitions in one append, and those that may wait for a log that does not take them.
const BATCH: usize = 1_000;
const WAITING: usize = 100_000;

/// What the telling shard has to tell.
#[derive(Default)]
pub(crate) struct Telling {
    movements: Vec<Movement>,
    /// The port has not answered yet.
    busy: bool,
    /// Shards are asked who is here, to tell the port anew.
    roll: Option<Roll>,
    /// What they have answered, to be told.
    restating: Option<Vec<Movement>>,
    /// The port has not answered something: what it counts is not known.
    pub(crate) astray: bool,
    /// Grace times may be over.
    expiring: bool,
    /// Until then some may be.
    watch_until: Monotonic,
    watched: bool,
    chronicles: HashMap<App, Chronicle>,
}

/// A roll call: which shards have answered, and what.
struct Roll {
    number: u32,
    answered: Vec<bool>,
    arrivals: Vec<Movement>,
}

/// A shard's answer.
pub(crate) struct Rolled {
    shard: u16,
    number: u32,
    arrivals: Vec<Movement>,
}

/// An app's transitions on their way into its `$presence`.
#[derive(Default)]
struct Chronicle {
    waiting: VecDeque<Draft>,
    busy: bool,
}

impl Telling {
    /// At first, those whom an earlier process has left over may be due.
    pub(crate) fn begin(shard: u16, now: Monotonic) -> Self {
        let watch_until = now.after(GRACE_MS + 2 * PACE_MS);
        Self { watched: is_teller(shard), watch_until, ..Self::default() }
    }
}

/// Whether a shard is the one that tells.
pub(crate) const fn is_teller(shard: u16) -> bool {
    shard == TELLER
}

// === sessions ===

impl Shard {
    /// A session acts as somebody from now on.
    pub(super) fn comes_online(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        session.shown = State::Online;
        let Some(grant) = session.native.as_ref().map(|identity| identity.grant.clone()) else { return };
        self.node.user_comes(&grant.app, &grant.sender.user);
        self.node
            .hooks()
            .tell(hooks::Event::Connected { grant: grant.clone(), connection: self.spell(handle) });
        self.moves(&grant, None, Some(State::Online));
    }

    /// A session that acted as somebody has ended.
    pub(super) fn goes_offline(&mut self, handle: Handle, identity: &Identity, shown: State) {
        self.node.user_goes(&identity.grant.app, &identity.grant.sender.user);
        let (grant, connection) = (identity.grant.clone(), self.spell(handle));
        self.node.hooks().tell(hooks::Event::Disconnected { grant, connection });
        self.moves(&identity.grant, Some(shown), None);
    }

    /// A connection's name for back ends: no other one has it, and nobody gets anything by it.
    pub(crate) fn spell(&self, handle: Handle) -> Box<str> {
        format!("{}.{}.{}.{}", self.node.id(), handle.shard, handle.slot, handle.generation).into()
    }

    /// The client says what its user is doing.
    pub(crate) fn shows(&mut self, handle: Handle, grant: &Grant, state: State) {
        let Some(session) = self.sessions.get(handle) else { return };
        let before = std::mem::replace(&mut session.shown, state);
        if before != state {
            self.moves(grant, Some(before), Some(state));
        }
    }

    /// A new token may name another device.
    pub(super) fn changes_device(&mut self, before: &Grant, grant: &Grant, shown: State) {
        if before.device != grant.device {
            self.moves(grant, None, Some(shown));
            self.moves(before, Some(shown), None);
        }
    }

    fn moves(&mut self, grant: &Grant, from: Option<State>, to: Option<State>) {
        if grant.guest {
            return;
        }
        let (app, user) = (grant.app.clone(), grant.sender.user.clone());
        let device: Option<Device> = grant.device.clone();
        let movement = Movement { app, user, device, from, to };
        self.post(TELLER, Inbox::Moves(self.index(), Box::new(movement)));
    }
}

// === the telling shard ===

impl Shard {
    pub(crate) fn tell_movement(&mut self, shard: u16, movement: Movement) {
        if movement.to.is_none() {
            self.watch_grace();
        }
        let answered = |roll: &Roll| roll.answered.get(usize::from(shard)) == Some(&true);
        // Else it will be in the shard's answer.
        if self.telling.roll.as_ref().is_none_or(answered) {
            self.telling.movements.push(movement);
        }
        self.tell();
    }

    /// Somebody's grace time begins about now.
    pub(crate) fn watch_grace(&mut self) {
        self.telling.watch_until = self.now.after(GRACE_MS + 2 * PACE_MS);
        if !self.telling.watched {
            self.telling.watched = true;
            self.arm(PACE_MS, Timer::Expire);
        }
    }

    /// The port has forgotten who is here, or may have: every shard is asked.
    pub(crate) fn call_roll(&mut self) {
        if self.telling.roll.is_some() {
            return;
        }
        self.telling.astray = false;
        let (number, shards) = (self.next_number(), self.node.shards());
        // What waits is in what the shards are going to answer.
        self.telling.movements.clear();
        let answered = vec![false; usize::from(shards)];
        self.telling.roll = Some(Roll { number, answered, arrivals: Vec::new() });
        for shard in 0..shards {
            self.post(shard, Inbox::Roll(number));
        }
    }

    /// The telling shard asks who is connected here.
    pub(crate) fn answer_roll(&mut self, number: u32) {
        let mut arrivals = Vec::new();
        for handle in self.sessions.handles() {
            let Some(session) = self.sessions.get(handle) else { continue };
            let Some(grant) = session.native.as_ref().map(|identity| &identity.grant) else { continue };
            if grant.guest {
                continue;
            }
            let (app, user) = (grant.app.clone(), grant.sender.user.clone());
            let (device, to) = (grant.device.clone(), Some(session.shown));
            arrivals.push(Movement { app, user, device, from: None, to });
        }
        let rolled = Rolled { shard: self.index(), number, arrivals };
        self.post(TELLER, Inbox::Rolled(Box::new(rolled)));
    }

    pub(crate) fn rolled(&mut self, rolled: Rolled) {
        let Some(roll) = self.telling.roll.as_mut().filter(|roll| roll.number == rolled.number) else {
            return;
        };
        roll.arrivals.extend(rolled.arrivals);
        roll.answered[usize::from(rolled.shard)] = true;
        if !roll.answered.contains(&false) {
            self.telling.restating = self.telling.roll.take().map(|roll| roll.arrivals);
            self.tell();
        }
    }

    /// Somebody left lately: perhaps the grace time is over.
    pub(crate) fn expire_timer(&mut self) {
        self.telling.expiring = true;
        self.telling.watched = self.now < self.telling.watch_until;
        if self.telling.watched {
            self.arm(PACE_MS, Timer::Expire);
        }
        self.tell();
    }

    /// One question at a time: the port's answers keep their order.
    fn tell(&mut self) {
        if self.telling.busy {
            return;
        }
        let mailbox = self.mailbox();
        let done = Box::new(move |result| mailbox.post(Inbox::Transitions(result)));
        if let Some(arrivals) = self.telling.restating.take() {
            self.telling.busy = true;
            self.node.online().restate(self.node.id(), arrivals, done);
        } else if self.telling.roll.is_none() && !self.telling.movements.is_empty() {
            self.telling.busy = true;
            let movements = std::mem::take(&mut self.telling.movements);
            self.node.online().apply(self.node.id(), movements, done);
        } else if std::mem::take(&mut self.telling.expiring) {
            self.telling.busy = true;
            self.node.online().expire(done);
        }
    }

    pub(crate) fn transitions(&mut self, result: Result<Vec<Transition>, PortError>) {
        self.telling.busy = false;
        match result {
            Ok(transitions) => transitions.into_iter().for_each(|transition| self.note(transition)),
            Err(error) => {
                tracing::warn!(%error, "who is online is not known until it is told again");
                self.telling.astray = true;
            }
        }
        self.tell();
    }

    fn note(&mut self, transition: Transition) {
        let app = transition.app.clone();
        let Transition { user, state, at, .. } = transition.clone();
        self.node.hooks().tell(hooks::Event::Status { app: app.clone(), user, state, at });
        if self.presence_of(&app).is_none() {
            return;
        }
        let id = sid::spell(self.entropy.word());
        let Some(draft) = draft(&transition, &id) else { return };
        let chronicle = self.telling.chronicles.entry(app.clone()).or_default();
        if chronicle.waiting.len() >= WAITING {
            tracing::error!(%app, "a change of who is online is not written: too many wait for the log");
            return;
        }
        chronicle.waiting.push_back(draft);
        self.write_chronicle(app);
    }

    /// The channel of an app's transitions, if one of its rules covers it.
    fn presence_of(&self, app: &App) -> Option<(ChannelKey, Arc<Rule>)> {
        let name = Channel::new(CHANNEL).ok()?;
        let apps = self.node.access().apps();
        let rule = apps.by_name.get(app)?.rules.find(&name)?;
        Some((ChannelKey::new(app.clone(), name), rule.clone()))
    }

    pub(crate) fn write_chronicle(&mut self, app: App) {
        let Some((key, rule)) = self.presence_of(&app) else { return };
        let mailbox = self.mailbox();
        let Some(chronicle) = self.telling.chronicles.get_mut(&app) else { return };
        if chronicle.busy || chronicle.waiting.is_empty() {
            return;
        }
        let Some(retention) = rule.history.retention() else {
            for draft in std::mem::take(&mut chronicle.waiting) {
                self.announce(Arc::new(draft.message(key.clone(), None)));
            }
            return;
        };
        chronicle.busy = true;
        let drafts: Vec<_> = chronicle.waiting.iter().take(BATCH).cloned().collect();
        let done = Box::new(move |result| mailbox.post(Inbox::Chronicled(app, result)));
        self.node.log(&rule.history).append(&key, retention, drafts, done);
    }

    /// What has its place goes on to those who follow; the rest is tried again with the same ids, so that nothing is written twice.
    pub(crate) fn chronicled(&mut self, app: App, result: Result<Appended, PortError>) {
        let Some(chronicle) = self.telling.chronicles.get_mut(&app) else { return };
        chronicle.busy = false;
        let (taken, failure) = match result {
            Ok(Appended { taken, failure }) => (taken, failure),
            Err(error) => (Vec::new(), Some(error)),
        };
        chronicle.waiting.drain(..taken.len());
        taken.into_iter().flatten().for_each(|placed| self.announce(placed.message));
        match failure {
            None => self.write_chronicle(app),
            Some(error) => {
                tracing::warn!(%error, "cannot write who is online");
                self.arm(PACE_MS, Timer::Chronicles);
            }
        }
    }

    /// By the same way as what comes from other nodes: through the channel's home.
    fn announce(&mut self, message: Arc<Message>) {
        let key = message.channel.clone();
        let event = Event::Message(message);
        self.node.bus().publish(&Topic::Channel(key.clone()), event.clone());
        let envelope = Envelope { origin: self.node.id().clone(), event };
        self.post(self.node.home_of(&key), Inbox::Bus(Inbound::Envelope(envelope)));
    }

    pub(crate) fn chronicles_timer(&mut self) {
        let apps: Vec<App> = self.telling.chronicles.keys().cloned().collect();
        apps.into_iter().for_each(|app| self.write_chronicle(app));
    }
}

fn draft(transition: &Transition, id: &str) -> Option<Draft> {
    let mut data = br#"{"user":"#.to_vec();
    json::write_string(transition.user.as_str(), &mut data);
    let state = status::name(transition.state);
    data.extend_from_slice(format!(r#","state":"{state}","at":{}}}"#, transition.at).as_bytes());
    Some(Draft {
        kind: Kind::Message,
        moderates: false,
        id: ClientId::new(id).ok()?,
        event: EventName::new("status").ok()?,
        payload: Payload { json: Bytes::from(object::text(data)), attachments: Vec::new() },
        from: Sender { user: User::new("$").ok()?, name: None },
        at: transition.at,
    })
}
