//! What ACCESS has decided otherwise meanwhile: access that is revoked, permissions that are lost, settings that are others now.

use std::collections::VecDeque;
use std::sync::Arc;

use xpush_core::access::{Apps, Decision};
use xpush_core::ports::access::Changed;
use xpush_core::{Action, App, Channel, ChannelKey, Code, Grant, Monotonic, Permission, Problem, User};

use super::Subscription;
use super::admission::may_come_from;
use super::identity::Identity;
use crate::command::place::decide;
use crate::dialect::{Namespace, Wire, object};
use crate::fanout::inbox::{Handle, Inbox};
use crate::shard::{Shard, Timer};

/// For how long an admission that was decided before a revocation may arrive after it, in ms.
const OVERTAKEN_MS: u64 = 60_000;
/// When ACCESS does not answer, a followed channel's permission is asked for again after so many ms.
const AGAIN_MS: u64 = 2_000;

/// Revocations of late: an admission that they have overtaken finds them here.
#[derive(Default)]
pub(crate) struct Revocations(VecDeque<(Monotonic, Changed)>);

/// ACCESS has answered for a subscription whose permission may have changed.
pub(crate) struct Reviewed {
    pub(crate) to: Handle,
    pub(crate) ticket: u32,
    pub(crate) number: u32,
    pub(crate) result: Result<Permission, Problem>,
}

impl Revocations {
    fn note(&mut self, now: Monotonic, revoked: Changed) {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > OVERTAKEN_MS) {
            self.0.pop_front();
        }
        self.0.push_back((now, revoked));
    }

    pub(crate) fn matches(&self, grant: &Grant) -> bool {
        self.0.iter().any(|(_, revoked)| revokes(revoked, grant))
    }
}

impl Shard {
    pub(crate) fn changed(&mut self, changed: Changed) {
        match &changed {
            Changed::Revoked { app, user, .. } => {
                for handle in self.sessions_of(app, user) {
                    let identity = self.sessions.get(handle).and_then(|session| session.native.as_ref());
                    if identity.is_some_and(|identity| revokes(&changed, &identity.grant)) {
                        self.close(handle, Code::Revoked.into());
                    }
                }
                self.revocations.note(self.now, changed);
            }
            Changed::Permission(channel, user) => self.permission_changed(channel, user),
            Changed::App(app) => self.app_changed(Some(app)),
            Changed::Everything => {
                self.app_changed(None);
                self.readmit_all();
            }
        }
    }

    fn permission_changed(&mut self, channel: &ChannelKey, user: &User) {
        for handle in self.sessions_of(&channel.app, user) {
            let topic = self.topics.find(channel);
            let Some(session) = self.sessions.get(handle) else { continue };
            if let Some(gate) = &mut session.gate {
                gate.forget(&channel.name);
            }
            let followed = session
                .subscriptions
                .iter()
                .find(|one| Some(one.topic) == topic && one.namespace.is_within(Namespace::Native))
                .copied();
            if let Some(subscription) = followed {
                self.review_one(handle, subscription);
            }
        }
    }

    /// The settings of an app are others, or of all of them.
    fn app_changed(&mut self, app: Option<&App>) {
        self.homes_take_rules(app);
        let apps = self.node.access().apps();
        for handle in self.sessions.handles() {
            for namespace in [Namespace::Native, Namespace::Legacy] {
                let Some(session) = self.sessions.get(handle).filter(|session| !session.closing) else {
                    break;
                };
                let Some(identity) = session.identity(namespace).cloned() else { continue };
                if app.is_none_or(|app| *app == identity.grant.app) {
                    self.take_settings(handle, namespace, &identity, &apps);
                }
            }
        }
    }

    fn take_settings(&mut self, handle: Handle, namespace: Namespace, before: &Identity, apps: &Apps) {
        let Some(app) = apps.by_name.get(&before.grant.app) else {
            return self.close(handle, Code::UnknownApp.into());
        };
        if before.grant.guest && !app.guests {
            return self.close(handle, Code::Unauthenticated.into());
        }
        if Arc::ptr_eq(app, &before.app) {
            return;
        }
        let Some(session) = self.sessions.get(handle) else { return };
        if let Err(problem) = may_come_from(session.origin(), app) {
            return self.close(handle, problem);
        }
        let identity = Arc::new(Identity { app: app.clone(), grant: before.grant.clone() });
        let Some(session) = self.sessions.get(handle) else { return };
        match namespace {
            Namespace::Native | Namespace::Plain => session.native = Some(identity),
            Namespace::Legacy => {
                if let Some(legacy) = &mut session.legacy {
                    legacy.identity = identity;
                }
            }
        }
        if let Some(gate) = &mut session.gate {
            gate.forget_all();
        }
        for subscription in self.followed_in(handle, namespace) {
            let name = &self.topics.get(subscription.topic).key.name;
            let (old, new) = (before.app.rules.find(name), app.rules.find(name));
            let same = old
                .zip(new)
                .is_some_and(|(old, new)| old.history == new.history && old.presence == new.presence);
            match (same, new) {
                (true, _) => self.review_one(handle, subscription),
                (false, Some(_)) => {
                    let problem =
                        Problem::new(Code::Unavailable, "the channel's rules have changed; subscribe again");
                    self.end_with(handle, subscription.ticket, &problem);
                }
                (false, None) => self.end_with(handle, subscription.ticket, &Code::Forbidden.into()),
            }
        }
    }

    /// Whether each grant still holds: revocations may have been missed.
    fn readmit_all(&mut self) {
        for handle in self.sessions.handles() {
            let Some(identity) = self.sessions.get(handle).and_then(|session| session.native.clone()) else {
                continue;
            };
            if identity.grant.guest {
                continue;
            }
            self.review(handle);
            let mailbox = self.mailbox();
            let done = Box::new(move |result| mailbox.post(Inbox::Readmitted(handle, result)));
            self.node.access().readmit(&identity.grant, done);
        }
    }

    /// ACCESS has said whether a grant still holds; when it cannot, what was decided holds on.
    pub(crate) fn readmitted(&mut self, handle: Handle, result: Result<(), Problem>) {
        if let Err(problem) = result
            && problem.code != Code::Unavailable
        {
            self.close(handle, problem);
        }
    }
}

// === permissions of those who follow ===

impl Shard {
    /// All of a session's permissions may be others.
    pub(super) fn review(&mut self, handle: Handle) {
        if let Some(gate) = self.sessions.get(handle).and_then(|session| session.gate.as_mut()) {
            gate.forget_all();
        }
        for subscription in self.followed_in(handle, Namespace::Native) {
            self.review_one(handle, subscription);
        }
    }

    /// A subscription's permission is to be decided anew; until then nothing is known of it.
    fn review_one(&mut self, handle: Handle, subscription: Subscription) {
        let key = self.topics.get(subscription.topic).key.clone();
        let number = self.next_number();
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(identity) = session.identity(subscription.namespace).cloned() else { return };
        let Ok((_, rule)) = identity.channel(key.name.clone()) else {
            return self.end_with(handle, subscription.ticket, &Code::Forbidden.into());
        };
        if let Some(one) = session.subscriptions.iter_mut().find(|one| one.ticket == subscription.ticket) {
            one.actions = None;
        }
        let legacy = subscription.namespace == Namespace::Legacy;
        match decide(self.node.hooks(), &identity.grant, &key, &rule) {
            Decision::Known(permission) => self.apply(handle, subscription.ticket, permission, false),
            Decision::Ask(allowed) if legacy => {
                self.apply(handle, subscription.ticket, Permission::of(allowed), false);
            }
            Decision::Ask(_) => {
                let gate = session.gate();
                gate.reviews.retain(|(ticket, _)| *ticket != subscription.ticket);
                gate.reviews.push((subscription.ticket, number));
                let token: Option<Box<str>> = gate.token(subscription.ticket).map(Into::into);
                let (ticket, mailbox) = (subscription.ticket, self.mailbox());
                let done = Box::new(move |result| {
                    let reviewed = Reviewed { to: handle, ticket, number, result };
                    mailbox.post(Inbox::Reviewed(Box::new(reviewed)));
                });
                self.node.access().permit(&key, &identity.grant, token.as_deref(), done);
            }
        }
    }

    /// The answer to the newest question for a subscription counts.
    pub(crate) fn reviewed(&mut self, reviewed: Reviewed) {
        let Reviewed { to, ticket, number, result } = reviewed;
        let Some(session) = self.sessions.get(to) else { return };
        let Some(gate) = &mut session.gate else { return };
        let Some(index) = gate.reviews.iter().position(|one| *one == (ticket, number)) else { return };
        gate.reviews.swap_remove(index);
        session.tidy_gate();
        match result {
            Ok(permission) => self.apply(to, ticket, permission, true),
            Err(problem) if problem.code == Code::Forbidden => self.end_with(to, ticket, &problem),
            Err(problem) if problem.code.status() < 500 => self.end_with(to, ticket, &problem),
            // ACCESS cannot say: what was decided holds, and it is asked again.
            Err(_) => self.arm(AGAIN_MS, Timer::Review(to, ticket)),
        }
    }

    pub(crate) fn review_again(&mut self, handle: Handle, ticket: u32) {
        let Some(session) = self.sessions.get(handle) else { return };
        let followed = session.subscriptions.iter().find(|one| one.ticket == ticket).copied();
        if let Some(subscription) = followed {
            self.review_one(handle, subscription);
        }
    }

    /// A subscription goes on, or ends, by what is allowed now.
    fn apply(&mut self, handle: Handle, ticket: u32, permission: Permission, asked: bool) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(subscription) = session.subscriptions.iter_mut().find(|one| one.ticket == ticket) else {
            return;
        };
        let mut needed = permission.check(Action::Subscribe);
        if subscription.wants_presence {
            needed = needed.and_then(|()| permission.check(Action::Presence));
        }
        match needed {
            Ok(()) => subscription.actions = asked.then_some(permission.actions),
            Err(problem) => self.end_with(handle, ticket, &problem),
        }
    }

    /// A token for a channel has expired.
    pub(crate) fn permission_expired(&mut self, handle: Handle, ticket: u32) {
        self.end_with(handle, ticket, &Code::TokenExpired.into());
    }

    /// Ends a subscription and tells the client why.
    pub(crate) fn end_with(&mut self, handle: Handle, ticket: u32, problem: &Problem) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(index) = session.subscriptions.iter().position(|one| one.ticket == ticket) else { return };
        let subscription = session.subscriptions.remove(index);
        let (wire, left) = (session.wire, session.subscriptions.len());
        let key = self.topics.get(subscription.topic).key.clone();
        self.end_subscription(handle, subscription);
        self.count_refusal(problem.code);
        if subscription.namespace == Namespace::Legacy {
            // These clients know no other word for it.
            return self.close(handle, problem.clone());
        }
        if subscription.namespace == Namespace::Plain {
            // It has asked for nothing, and would not understand.
            return;
        }
        self.tell_unsubscribed(handle, &key.name, problem);
        if wire == Wire::Sse && left == 0 {
            self.close(handle, problem.clone());
        }
    }

    pub(super) fn tell_unsubscribed(&mut self, handle: Handle, channel: &Channel, problem: &Problem) {
        let mut out = object::of_channel(channel);
        out.extend_from_slice(br#","error":"#);
        out.extend_from_slice(object::error(problem).as_bytes());
        out.push(b'}');
        self.push(handle, "unsubscribed", &object::text(out));
    }

    fn followed_in(&mut self, handle: Handle, namespace: Namespace) -> Vec<Subscription> {
        let Some(session) = self.sessions.get(handle) else { return Vec::new() };
        session.subscriptions.iter().filter(|one| one.namespace.is_within(namespace)).copied().collect()
    }
}

/// Whether a revocation concerns a grant.
fn revokes(changed: &Changed, grant: &Grant) -> bool {
    let Changed::Revoked { app, user, device, login, issued_before } = changed else { return false };
    grant.app == *app
        && grant.sender.user == *user
        && grant.issued_at < *issued_before
        && device.as_ref().is_none_or(|device| grant.device.as_ref() == Some(device))
        && login.as_ref().is_none_or(|login| grant.login.as_ref() == Some(login))
}
