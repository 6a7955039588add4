//! Who a client is: admitted as a guest at once, or by a token that ACCESS checks; for how long; and a new token in place of the old one.

use std::sync::Arc;

use xpush_core::ports::hooks::Ask;
use xpush_core::{AppSettings, Code, Grant, Problem};
use xpush_wire::json;

use super::Session;
use super::identity::{Claims, Identity};
use super::recovery::Claim;
use crate::command::Asked;
use crate::dialect::{self, Namespace};
use crate::fanout::inbox::{Handle, Inbox};
use crate::front::origin::welcomes;
use crate::shard::{Shard, Timer};

/// How long before its end a client is told to renew its token, in ms; of a shorter token, halfway.
const NOTICE_MS: u64 = 60_000;

/// ACCESS has answered who a client is.
pub(crate) struct Admitted {
    pub(crate) to: Handle,
    pub(crate) number: u32,
    /// A guest without a secret.
    pub(crate) anonymous: bool,
    pub(crate) result: Result<Grant, Problem>,
}

/// How a client comes that is to be admitted.
struct Arrival {
    /// The command that the welcome answers.
    asked: Option<Asked>,
    /// What it wants to have back.
    claim: Option<Box<Claim>>,
    /// A guest without a secret: another one with each connection.
    anonymous: bool,
}

impl Session {
    /// What the first request said. Its token is shown this once.
    pub(super) fn claims(&mut self) -> Claims {
        let mut claims = Claims::default();
        claims.read_query(&self.query);
        let token = self.gate.as_mut().and_then(|gate| gate.opening.token.take());
        claims.token = token.map(Into::into);
        claims
    }

    /// The page that it comes from, when not every app welcomes that.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.gate.as_ref()?.opening.origin.as_deref()
    }
}

impl Shard {
    /// Finds out who a client is. New guests are admitted at once; while ACCESS checks a token, or whether a guest that has been here before is still welcome, commands
    /// are held. `asked`: the command that the welcome answers.
    pub(crate) fn admit(&mut self, handle: Handle, mut claims: Claims, asked: Option<Asked>) {
        let claim = claims.claim.take();
        if let Some(session) = self.sessions.get(handle) {
            session.follows_moves = claims.moves.is_some();
        }
        let by_itself = claims.token.is_none() && !self.is_asked_about(&claims);
        let guest = by_itself.then(|| {
            let identity = Identity::guest(&self.node.access().apps(), &claims, &mut *self.entropy);
            (identity, claims.guest.is_some())
        });
        let known = match guest {
            Some((Ok(identity), true)) => Some(identity.grant),
            Some((identity, _)) => {
                let arrival = Arrival { asked, claim, anonymous: claims.guest.is_none() };
                self.admitted(handle, arrival, identity);
                // Nothing is held here, but for the place of what the first request brought.
                return self.go_on(handle);
            }
            None => None,
        };
        let anonymous = claims.token.is_none() && claims.guest.is_none();
        let (number, mailbox) = (self.next_number(), self.mailbox());
        let Some(session) = self.sessions.get(handle) else { return };
        session.await_admission(number, asked, claim);
        let credentials = claims.credentials(session.permit.address());
        let done = Box::new(move |result| {
            mailbox.post(Inbox::Admitted(Box::new(Admitted { to: handle, number, anonymous, result })));
        });
        match known {
            Some(grant) => {
                let guest = Grant::clone(&grant);
                self.node.access().readmit(&grant, Box::new(move |result| done(result.map(|()| guest))));
            }
            None => self.node.access().admit(credentials, done),
        }
    }

    /// Whether the app's back end is asked about every client, guests included.
    fn is_asked_about(&self, claims: &Claims) -> bool {
        let apps = self.node.access().apps();
        let app = apps.find(claims.app.as_deref());
        app.is_ok_and(|app| self.node.hooks().asks(&app.app, Ask::Connect, None))
    }

    /// ACCESS has answered. Whoever has gone meanwhile is nobody.
    pub(crate) fn admission_ends(&mut self, admitted: Admitted) {
        let Admitted { to, number, anonymous, result } = admitted;
        let ended = self.sessions.get(to).and_then(|session| session.admission_ends(number));
        let Some((asked, claim)) = ended else { return };
        let identity = result.and_then(|grant| match self.revocations.matches(&grant) {
            true => Err(Code::Revoked.into()),
            false => Identity::of(&self.node.access().apps(), grant),
        });
        self.admitted(to, Arrival { asked, claim, anonymous }, identity);
        self.go_on(to);
    }

    /// Everything is in place before the client is answered.
    fn admitted(&mut self, handle: Handle, arrival: Arrival, identity: Result<Identity, Problem>) {
        let Arrival { asked, claim, anonymous } = arrival;
        let Some(session) = self.sessions.get(handle) else { return };
        let identity = identity.and_then(|identity| {
            may_come_from(session.origin(), &identity.app)?;
            Ok(identity)
        });
        match identity {
            Ok(identity) => match (asked, claim.filter(|_| identity.app.recovery)) {
                (Some(asked), _) => {
                    self.enter(handle, Arc::new(identity));
                    let body = self.welcome_object(handle);
                    self.answer(handle, asked, &body);
                    self.watch_token(handle);
                }
                (None, Some(claim)) => self.reclaim(handle, *claim, identity.grant, anonymous),
                (None, None) => {
                    self.enter(handle, Arc::new(identity));
                    self.offer_recovery(handle, anonymous);
                    self.answer_admission(handle);
                }
            },
            Err(problem) => {
                self.drop_held(handle);
                match asked {
                    Some(asked) => {
                        self.answer_failure(handle, asked, &problem);
                        self.close(handle, problem);
                    }
                    None => self.refuse_connect(handle, Namespace::Native.as_str(), &problem),
                }
            }
        }
    }

    /// CONNECT is answered.
    pub(super) fn answer_admission(&mut self, handle: Handle) {
        // Before anybody can know that it is here: what is published from then on reaches it.
        self.join_plain(handle);
        self.answer_connect(handle, Namespace::Native);
        self.welcome(handle);
        self.watch_token(handle);
    }

    /// From now on the session acts as somebody.
    pub(super) fn enter(&mut self, handle: Handle, identity: Arc<Identity>) {
        let Some(session) = self.sessions.get(handle) else { return };
        self.users.enter(&identity, handle.slot);
        session.native = Some(identity);
        session.token_expiring = false;
        self.comes_online(handle);
    }

    /// The push that follows every admission but `/ws`'s `connect`.
    pub(super) fn welcome(&mut self, handle: Handle) {
        let object = self.welcome_object(handle);
        self.push(handle, "welcome", &object);
    }

    fn welcome_object(&mut self, handle: Handle) -> String {
        let Some(session) = self.sessions.get(handle) else { return String::new() };
        let Some(identity) = &session.native else { return String::new() };
        let rate = session.commands_per_second(&self.node.config.limits);
        welcome_object(identity, self.node.id().as_str(), rate)
    }

    /// A push to one session in `/`.
    pub(crate) fn push(&mut self, handle: Handle, name: &str, object: &str) {
        let Some(session) = self.sessions.get(handle).filter(|session| session.native.is_some()) else {
            return;
        };
        let mut frame = Vec::new();
        dialect::push(session.format(Namespace::Native), name, object, &[], &mut frame);
        self.sessions.send(handle.slot, frame.into());
    }
}

// === the token's end ===

impl Shard {
    /// Arms the timer for what comes next: the notice, or the end.
    pub(super) fn watch_token(&mut self, handle: Handle) {
        let wall = self.node.clock().wall();
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(grant) = session.native.as_ref().map(|identity| identity.grant.clone()) else { return };
        let Some(expires_at) = grant.expires_at else { return };
        let left = expires_at.saturating_sub(wall);
        if left == 0 {
            return self.close(handle, Code::TokenExpired.into());
        }
        let lifetime = expires_at.saturating_sub(grant.issued_at);
        let notice = NOTICE_MS.min(lifetime / 2);
        let told = session.token_expiring || left <= notice;
        let tell = told && !session.token_expiring;
        session.token_expiring = told;
        if tell {
            self.push(handle, "token_expiring", &format!(r#"{{"expires_at":{expires_at}}}"#));
        }
        let after = if told { left } else { left - notice };
        self.arm(after, Timer::Token(handle, token_number(expires_at)));
    }

    /// The timer fired: unless the token was renewed, its notice or its end is due.
    pub(crate) fn token_timer(&mut self, handle: Handle, number: u32) {
        let Some(identity) = self.sessions.get(handle).and_then(|session| session.native.as_ref()) else {
            return;
        };
        if identity.grant.expires_at.map(token_number) == Some(number) {
            self.watch_token(handle);
        }
    }

    /// A new token for the same user takes the old one's place.
    pub(crate) fn renew(&mut self, handle: Handle, grant: Grant) -> Result<String, Problem> {
        let Some(session) = self.sessions.get(handle) else { return Ok(String::new()) };
        let Some(identity) = &session.native else { return Err(Code::Cancelled.into()) };
        let old = &identity.grant;
        if old.guest || grant.guest || old.app != grant.app || old.sender.user != grant.sender.user {
            return Err(Problem::new(Code::Forbidden, "token: of another user or app"));
        }
        if self.revocations.matches(&grant) {
            return Err(Code::Revoked.into());
        }
        let expires_at = grant.expires_at.unwrap_or_default();
        let (old, new, shown) = (old.clone(), Arc::new(grant), session.shown);
        session.native = Some(Arc::new(Identity { app: identity.app.clone(), grant: new.clone() }));
        session.token_expiring = false;
        self.changes_device(&old, &new, shown);
        self.watch_token(handle);
        self.review(handle);
        Ok(format!(r#"{{"expires_at":{expires_at}}}"#))
    }
}

/// Tells one token's timers from another's.
fn token_number(expires_at: u64) -> u32 {
    // A difference of 2^32 ms between two tokens of one session would be taken for none: the check is then made once too often.
    u32::try_from(expires_at & u64::from(u32::MAX)).unwrap_or_default()
}

/// A page that the server itself does not welcome must be welcome to the app.
pub(crate) fn may_come_from(origin: Option<&str>, app: &AppSettings) -> Result<(), Problem> {
    if origin.is_none_or(|origin| welcomes(app, origin)) { Ok(()) } else { Err(Code::OriginRefused.into()) }
}

/// The object of `welcome`.
fn welcome_object(identity: &Identity, node: &str, rate: u32) -> String {
    let grant = &identity.grant;
    let mut out = Vec::with_capacity(160);
    let mut member = |name: &str, value: &str| {
        out.extend_from_slice(if out.is_empty() { b"{" } else { b"," });
        json::write_string(name, &mut out);
        out.push(b':');
        json::write_string(value, &mut out);
    };
    member("app", grant.app.as_str());
    member("user", grant.sender.user.as_str());
    if let Some(name) = &grant.sender.name {
        member("name", name);
    }
    member("node", node);
    if let Some(device) = grant.device.as_ref().filter(|_| !grant.guest) {
        member("device", device.as_str());
    }
    out.extend_from_slice(format!(r#","guest":{},"rate":{rate}"#, grant.guest).as_bytes());
    if let Some(expires_at) = grant.expires_at {
        out.extend_from_slice(format!(r#","expires_at":{expires_at}"#).as_bytes());
    }
    out.push(b'}');
    dialect::object::text(out)
}
