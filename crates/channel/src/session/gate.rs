//! What a session waits for before it goes on: to be admitted, or for a permission that must be asked for. Commands that come meanwhile are held here, in order,
//! whatever transport they come by.

use std::collections::VecDeque;

use bytes::Bytes;
use xpush_core::access::Actions;
use xpush_core::{Action, Channel, ChannelKey, Code, Permission, Problem};

use super::Session;
use super::recovery::Claim;
use crate::command::fields::Fields;
use crate::command::{self, Asked, Call, Command};
use crate::dialect::Namespace;
use crate::fanout::inbox::{Handle, Inbox, Publication};
use crate::shard::{Shard, Timer};
use crate::transport::stream::Flow;

/// What a held command counts beside its bytes.
const OVERHEAD: usize = 256;
/// Permissions that a session remembers for channels that it does not follow.
const REMEMBERED: usize = 16;

/// What few sessions have, and none in an open channel: boxed.
#[derive(Default)]
pub(crate) struct Gate {
    /// What the first request brought, until it is shown to ACCESS.
    pub(crate) opening: Opening,
    waiting: Option<Waiting>,
    held: VecDeque<Held>,
    /// Bytes of `held`, and what they cost beside.
    bytes: usize,
    /// Permissions in channels that are not followed; the oldest first.
    remembered: Vec<(Channel, Permission)>,
    /// Tokens by which channels are followed, by the subscriptions' tickets.
    tokens: Vec<(u32, Box<str>)>,
    /// Subscriptions whose permission is being asked for anew, and the newest question's number.
    pub(super) reviews: Vec<(u32, u32)>,
}

/// What a connection's first request shows beside its query.
#[derive(Default)]
pub(crate) struct Opening {
    /// A token in the query or in a header; it is shown once and then forgotten.
    pub(crate) token: Option<Box<str>>,
    /// A page of an origin that only an app may welcome, and not the server.
    pub(crate) origin: Option<Box<str>>,
}

enum Waiting {
    /// `asked`: the command that is answered by it.
    Admission { number: u32, asked: Option<Asked>, claim: Option<Box<Claim>> },
    /// For what it followed before.
    Reclaim { number: u32 },
    /// To follow all of that again.
    Return,
    /// For the app's back end to agree to a publication.
    Sanction { number: u32, publication: Box<Publication> },
    /// For the first of the held commands. `stale`: something has changed since ACCESS was asked.
    Permission { number: u32, channel: ChannelKey, allowed: Actions, stale: bool },
}

/// A command that waits.
struct Held {
    command: Command,
    name: Box<str>,
    object: Box<str>,
    id: Option<u64>,
    attachments: Vec<Bytes>,
}

/// ACCESS has answered for a command of a session.
pub(crate) struct Permitted {
    pub(crate) to: Handle,
    pub(crate) number: u32,
    pub(crate) result: Result<Permission, Problem>,
}

impl Opening {
    pub(crate) fn is_empty(&self) -> bool {
        self.token.is_none() && self.origin.is_none()
    }
}

impl Held {
    fn size(&self) -> usize {
        let attachments: usize = self.attachments.iter().map(Bytes::len).sum();
        OVERHEAD + self.object.len() + attachments
    }
}

impl Gate {
    /// With what the first request brought.
    pub(crate) fn opened(opening: Opening) -> Box<Self> {
        Box::new(Self { opening, ..Self::default() })
    }

    fn is_idle(&self) -> bool {
        self.opening.is_empty()
            && self.waiting.is_none()
            && self.held.is_empty()
            && self.remembered.is_empty()
            && self.tokens.is_empty()
            && self.reviews.is_empty()
    }

    fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.size();
        Some(held)
    }

    /// Forgets what was found out about a channel, a user's with those of its devices; a permission that is being asked for will be asked for again.
    pub(crate) fn forget(&mut self, name: &Channel) {
        let owner = name.owner().filter(|(_, device)| device.is_none()).map(|(owner, _)| owner);
        let meant = |channel: &Channel| {
            channel == name || owner.is_some() && channel.owner().map(|(owner, _)| owner) == owner
        };
        self.remembered.retain(|(channel, _)| !meant(channel));
        if let Some(Waiting::Permission { channel, stale, .. }) = &mut self.waiting {
            *stale |= meant(&channel.name);
        }
    }

    /// [`Gate::forget`] of every channel.
    pub(crate) fn forget_all(&mut self) {
        self.remembered.clear();
        if let Some(Waiting::Permission { stale, .. }) = &mut self.waiting {
            *stale = true;
        }
    }

    /// The token by which the subscription of this ticket was given.
    pub(crate) fn token(&self, ticket: u32) -> Option<&str> {
        self.tokens.iter().find(|(of, _)| *of == ticket).map(|(_, token)| &**token)
    }
}

impl Session {
    /// Whether commands in `/` must wait.
    pub(crate) fn waits(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.waiting.is_some())
    }

    /// Whether it is in a namespace, or is being let in.
    pub(crate) fn has_entered(&self, namespace: Namespace) -> bool {
        self.identity(namespace).is_some() || (namespace == Namespace::Native && self.waits())
    }

    /// Whether so much is held that nothing more should be read.
    pub(crate) fn holds_too_much(&self, room: usize) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.bytes >= room)
    }

    pub(crate) fn gate(&mut self) -> &mut Gate {
        self.gate.get_or_insert_default()
    }

    /// Begins to wait for admission.
    pub(super) fn await_admission(&mut self, number: u32, asked: Option<Asked>, claim: Option<Box<Claim>>) {
        self.gate().waiting = Some(Waiting::Admission { number, asked, claim });
    }

    /// Ends the wait for the admission of this number; what it was asked by, and what the client wants back.
    pub(super) fn admission_ends(&mut self, number: u32) -> Option<(Option<Asked>, Option<Box<Claim>>)> {
        let awaited =
            |waiting: &mut Waiting| matches!(waiting, Waiting::Admission { number: n, .. } if *n == number);
        match self.gate.as_mut()?.waiting.take_if(awaited)? {
            Waiting::Admission { asked, claim, .. } => Some((asked, claim)),
            _ => None,
        }
    }

    /// Begins to wait for the back end's word on a publication.
    pub(crate) fn await_sanction(&mut self, number: u32, publication: Publication) {
        self.gate().waiting = Some(Waiting::Sanction { number, publication: Box::new(publication) });
    }

    /// Ends the wait of this number; what was to be published.
    pub(crate) fn sanction_ends(&mut self, number: u32) -> Option<Box<Publication>> {
        let awaited =
            |waiting: &mut Waiting| matches!(waiting, Waiting::Sanction { number: n, .. } if *n == number);
        match self.gate.as_mut()?.waiting.take_if(awaited)? {
            Waiting::Sanction { publication, .. } => Some(publication),
            _ => None,
        }
    }

    /// Begins to wait for what it followed before.
    pub(super) fn await_reclaim(&mut self, number: u32) {
        self.gate().waiting = Some(Waiting::Reclaim { number });
    }

    /// Whether it still waited for the answer of this number; not any more.
    pub(super) fn reclaim_ends(&mut self, number: u32) -> bool {
        let awaited =
            |waiting: &mut Waiting| matches!(waiting, Waiting::Reclaim { number: n } if *n == number);
        self.gate.as_mut().and_then(|gate| gate.waiting.take_if(awaited)).is_some()
    }

    /// Commands are held until it follows again what it followed before, or not.
    pub(crate) fn await_return(&mut self, waits: bool) {
        self.gate().waiting = waits.then_some(Waiting::Return);
    }

    /// Whether a command to follow a channel has not been run yet.
    pub(super) fn holds_subscription(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.held.iter().any(|held| held.command.follows()))
    }

    /// Gives back what is not needed any more.
    pub(super) fn tidy_gate(&mut self) {
        self.gate.take_if(|gate| gate.is_idle());
    }
}

// === holding and going on ===

impl Shard {
    /// Keeps a command that has begun until the session goes on; whether more may be read.
    pub(crate) fn hold(&mut self, handle: Handle, call: Call<'_, '_>) -> Flow {
        let room = self.node.config.limits.payload;
        let asked = call.asked();
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        let gate = session.gate();
        // A socket is not read before there is room again; a poller's requests must be refused.
        if gate.bytes >= 2 * room {
            self.fail(handle, asked, &Code::Overloaded.into());
            return Flow::Go;
        }
        let held = held(call);
        gate.bytes += held.size();
        gate.held.push_back(held);
        if gate.bytes >= room { Flow::Pause } else { Flow::Go }
    }

    /// Runs what was held, as far as it comes without waiting again.
    pub(crate) fn go_on(&mut self, handle: Handle) {
        while let Some(session) = self.sessions.get(handle) {
            if session.waits() || session.closing {
                return;
            }
            let Some(held) = session.gate.as_mut().and_then(|gate| gate.pop()) else {
                return session.tidy_gate();
            };
            command::execute(self, handle, held.call(), None);
        }
    }

    /// Whoever left does not run what was held.
    pub(crate) fn drop_held(&mut self, handle: Handle) {
        let Some(gate) = self.sessions.get(handle).and_then(|session| session.gate.as_mut()) else { return };
        let asked_about = matches!(gate.waiting.take(), Some(Waiting::Sanction { .. }));
        gate.remembered.clear();
        gate.tokens.clear();
        gate.reviews.clear();
        gate.bytes = 0;
        for _ in 0..std::mem::take(&mut gate.held).len() + usize::from(asked_about) {
            self.command_ends(handle);
        }
    }
}

// === permissions ===

impl Shard {
    /// Asks ACCESS what the sender of `call` may do in a channel; the command and all that come after it wait.
    pub(crate) fn ask(&mut self, handle: Handle, call: Call<'_, '_>, channel: ChannelKey, allowed: Actions) {
        let number = self.next_number();
        let mailbox = self.mailbox();
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(grant) = session.native.as_ref().map(|identity| identity.grant.clone()) else { return };
        let token = call.subscription_token();
        let gate = session.gate();
        let held = held(call);
        gate.bytes += held.size();
        gate.held.push_front(held);
        gate.waiting = Some(Waiting::Permission { number, channel: channel.clone(), allowed, stale: false });
        let done = Box::new(move |result| {
            mailbox.post(Inbox::Permitted(Box::new(Permitted { to: handle, number, result })));
        });
        self.node.access().permit(&channel, &grant, token.as_deref(), done);
    }

    /// The answer: the command runs or fails, and those behind it follow.
    pub(crate) fn permitted(&mut self, permitted: Permitted) {
        let Permitted { to, number, result } = permitted;
        let Some(gate) = self.sessions.get(to).and_then(|session| session.gate.as_mut()) else { return };
        match &gate.waiting {
            Some(Waiting::Permission { number: awaited, .. }) if *awaited == number => {}
            _ => return,
        }
        let Some(Waiting::Permission { channel, allowed, stale, .. }) = gate.waiting.take() else {
            return;
        };
        if stale {
            // The command asks once more.
            return self.go_on(to);
        }
        let Some(held) = gate.pop() else { return self.go_on(to) };
        match result {
            Ok(mut permission) => {
                permission.actions = permission.actions.and(allowed);
                if !held.command.follows() {
                    self.remember(to, &channel, permission);
                }
                command::execute(self, to, held.call(), Some(permission));
            }
            Err(problem) => self.fail(to, held.call().asked(), &problem),
        }
        self.go_on(to);
    }

    /// What was found out earlier of a channel.
    pub(crate) fn remembered(&mut self, handle: Handle, channel: &ChannelKey) -> Option<Permission> {
        let topic = self.topics.find(channel);
        let session = self.sessions.get(handle)?;
        let followed = session.subscriptions.iter().find(|one| {
            Some(one.topic) == topic && one.namespace == Namespace::Native && one.actions.is_some()
        });
        if let Some(actions) = followed.and_then(|one| one.actions) {
            return Some(Permission::of(actions));
        }
        let gate = session.gate.as_ref()?;
        gate.remembered.iter().find(|(name, _)| *name == channel.name).map(|(_, permission)| *permission)
    }

    fn remember(&mut self, handle: Handle, channel: &ChannelKey, permission: Permission) {
        let topic = self.topics.find(channel);
        let Some(session) = self.sessions.get(handle) else { return };
        let followed =
            |one: &&mut super::Subscription| Some(one.topic) == topic && one.namespace == Namespace::Native;
        if let Some(subscription) = session.subscriptions.iter_mut().find(followed) {
            subscription.actions = Some(permission.actions);
            return;
        }
        let gate = session.gate();
        if gate.remembered.len() == REMEMBERED {
            gate.remembered.remove(0);
        }
        gate.remembered.push((channel.name.clone(), permission));
    }

    /// Notes by which token a channel is followed, for as long as the subscription lasts.
    pub(crate) fn keep_token(&mut self, handle: Handle, ticket: u32, token: &str, expires_at: u64) {
        let left = expires_at.saturating_sub(self.node.clock().wall());
        if let Some(session) = self.sessions.get(handle) {
            session.gate().tokens.push((ticket, token.into()));
            self.arm(left, Timer::Permission(handle, ticket));
        }
    }

    /// A subscription of this ticket is no more.
    pub(crate) fn forget_ticket(&mut self, handle: Handle, ticket: u32) {
        let Some(session) = self.sessions.get(handle) else { return };
        if let Some(gate) = &mut session.gate {
            gate.tokens.retain(|(of, _)| *of != ticket);
            gate.reviews.retain(|(of, _)| *of != ticket);
        }
        if let Some(recovery) = session.recovery() {
            recovery.leaves(ticket);
        }
        session.tidy_gate();
    }
}

impl Held {
    fn call(&self) -> Call<'_, '_> {
        Call {
            namespace: Namespace::Native,
            command: self.command,
            name: &self.name,
            object: &self.object,
            fields: Fields::parse(&self.object),
            id: self.id,
            attachments: self.attachments.clone(),
        }
    }
}

impl Call<'_, '_> {
    /// A token for a channel: only `subscribe` brings one.
    fn subscription_token(&self) -> Option<String> {
        let fields = self.fields.as_ref().ok()?;
        let subscribes = self.command.follows();
        fields.text("token").ok().flatten().filter(|_| subscribes).map(Into::into)
    }
}

fn held(call: Call<'_, '_>) -> Held {
    Held {
        command: call.command,
        name: call.name.into(),
        object: call.object.into(),
        id: call.id,
        attachments: call.attachments,
    }
}

/// Whether all of `needed` are among `allowed`.
pub(crate) fn covers(allowed: Actions, needed: Actions) -> bool {
    Actions::EACH.iter().all(|action: &Action| !needed.contains(*action) || allowed.contains(*action))
}
