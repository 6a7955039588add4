//! Socket.IO's connection state recovery, for stock clients: what a connection followed is kept for a while after it broke, under a `pid` that only its client
//! knows; the client comes back with the pid and the offset of what it received last, and goes on behind that.
//!
//! `recovered` is true only when nothing can be missing: the offset tells where the client is in one channel, so at most one with history may have been followed. An
//! offset is worth what the client says of itself and no more: it moves the place from which that channel is read again, for somebody who may read it anyhow.

use std::mem::size_of;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smallvec::SmallVec;
use xpush_core::{Channel, Code, Epoch, Grant, Position, Problem};
use xpush_wire::json;

use super::admission::may_come_from;
use super::identity::Identity;
use super::kept::{Reclaim, Who};
use super::sid::Secret;
use super::{Resuming, Session};
use crate::command::fields::Fields;
use crate::command::{self, Call, Command};
use crate::dialect::{Namespace, object};
use crate::fanout::inbox::{Handle, Inbox, Joined};
use crate::shard::Shard;

/// The name of what may be recovered, and its credential: other clients never see it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pid {
    /// A digest of the node's id: elsewhere, and after a restart, nothing is known of it.
    node: u32,
    /// Which shard knows of it.
    pub(crate) shard: u16,
    pub(super) number: u32,
    pub(super) secret: Secret,
}

/// What a CONNECT brings to recover by.
pub(crate) struct Claim {
    pub(crate) pid: Pid,
    /// What the client received last; `None` if nothing that has a position.
    offset: Option<Offset>,
}

struct Offset {
    channel: Channel,
    position: Position,
}

/// Of a session that may recover.
pub(crate) struct Recovery {
    pub(crate) pid: Pid,
    /// A guest without a secret.
    anonymous: bool,
    /// Of the channels with history that it follows.
    histories: SmallVec<[History; 1]>,
    /// What is being followed again.
    returning: Option<Box<Returning>>,
}

/// A subscription to a channel with history.
struct History {
    ticket: u32,
    /// Behind this position its messages began.
    begin: Position,
    /// Another channel with history was followed beside it: an offset that tells of that one says nothing of this one.
    mixed: bool,
}

struct Returning {
    kept: Box<Kept>,
    /// CONNECT was answered.
    answered: bool,
    /// How many of the channels without history have been followed again, or not.
    next: usize,
}

/// What a connection left.
pub(crate) struct Kept {
    /// The channel with history, behind which position it was followed, and whether beside others.
    history: Option<(Followed, Position, bool)>,
    others: Vec<Followed>,
}

/// How a channel was followed.
struct Followed {
    channel: Channel,
    presence: bool,
    receipts: bool,
    token: Option<Box<str>>,
}

impl Pid {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = [0; 22];
        bytes[..4].copy_from_slice(&self.node.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.shard.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.number.to_be_bytes());
        bytes[10..].copy_from_slice(&self.secret);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0; 22];
        if text.len() != 30 || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != bytes.len() {
            return None;
        }
        let (node, rest) = bytes.split_first_chunk()?;
        let (shard, rest) = rest.split_first_chunk()?;
        let (number, secret) = rest.split_first_chunk()?;
        Some(Self {
            node: u32::from_be_bytes(*node),
            shard: u16::from_be_bytes(*shard),
            number: u32::from_be_bytes(*number),
            secret: secret.try_into().ok()?,
        })
    }
}

impl Claim {
    /// Reads a CONNECT's members. What is not of the server's own making is no claim: apps may have members of these names themselves.
    pub(super) fn read<'a>(members: impl Iterator<Item = (impl AsRef<str>, &'a str)>) -> Option<Box<Self>> {
        let (mut pid, mut offset) = (None, None);
        for (name, value) in members {
            match name.as_ref() {
                "pid" => pid = Some(value),
                "offset" => offset = Some(value),
                _ => {}
            }
        }
        let pid = Pid::decode(&json::string(pid?)?)?;
        let offset = match offset.filter(|value| *value != "null") {
            Some(value) => Some(read_offset(&json::string(value)?)?),
            None => None,
        };
        Some(Box::new(Self { pid, offset }))
    }
}

impl Recovery {
    fn of(pid: Pid, anonymous: bool, returning: Option<Box<Returning>>) -> Box<Resuming> {
        Box::new(Resuming::Recovery(Self { pid, anonymous, histories: SmallVec::new(), returning }))
    }

    /// A channel is followed from now on.
    pub(crate) fn follows(&mut self, joined: &Joined) {
        let Some(position) = joined.position else { return };
        let begin = Position { seq: position.seq.saturating_sub(joined.missed.len() as u64), ..position };
        let mixed = !self.histories.is_empty();
        self.histories.iter_mut().for_each(|other| other.mixed = true);
        self.histories.push(History { ticket: joined.ticket, begin, mixed });
    }

    /// The subscription of this ticket is no more.
    pub(super) fn leaves(&mut self, ticket: u32) {
        self.histories.retain(|history| history.ticket != ticket);
    }
}

impl Kept {
    /// What it costs.
    pub(super) fn bytes(&self) -> usize {
        let followed = |one: &Followed| {
            size_of::<Followed>()
                + one.channel.as_str().len()
                + one.token.as_ref().map_or(0, |token| token.len())
        };
        let history = self.history.as_ref().map_or(0, |(history, ..)| followed(history));
        // The rest is its entry, and who it is.
        512 + size_of::<Self>() + history + self.others.iter().map(followed).sum::<usize>()
    }

    /// Behind which position the channel with history goes on; `None` when that cannot be told.
    fn since(&self, offset: Option<&Offset>) -> Option<Option<Position>> {
        let Some((history, begin, mixed)) = &self.history else { return Some(None) };
        let told =
            |offset: &&Offset| offset.channel == history.channel && offset.position.epoch == begin.epoch;
        match offset.filter(told) {
            // It may have been received before the channel was followed anew.
            Some(Offset { position, .. }) => {
                Some(Some(Position { seq: position.seq.max(begin.seq), ..*begin }))
            }
            None if *mixed => None,
            None => Some(Some(*begin)),
        }
    }
}

#[cfg(test)]
impl Kept {
    /// What somebody leaves who followed one channel by a token of this length.
    pub(super) fn of_token(length: usize) -> Box<Self> {
        let channel = Channel::new("a").unwrap();
        let token = Some("t".repeat(length).into());
        Box::new(Self {
            history: None,
            others: vec![Followed { channel, presence: false, receipts: false, token }],
        })
    }
}

#[cfg(test)]
impl Claim {
    pub(super) fn of(pid: Pid) -> Self {
        Self { pid, offset: None }
    }
}

#[cfg(test)]
impl Pid {
    pub(super) fn of(number: u32) -> Self {
        Self { node: 0, shard: 0, number, secret: [7; 12] }
    }
}

impl Followed {
    /// The object of the command that follows it again.
    fn object(&self, since: Option<Position>) -> String {
        let mut out = object::of_channel(&self.channel);
        if let Some(Position { epoch, seq }) = since {
            out.extend_from_slice(format!(r#","since":{{"epoch":"{epoch}","seq":{seq}}}"#).as_bytes());
        }
        let flags = format!(r#","presence":{},"receipts":{}"#, self.presence, self.receipts);
        out.extend_from_slice(flags.as_bytes());
        if let Some(token) = &self.token {
            out.extend_from_slice(br#","token":"#);
            json::write_string(token, &mut out);
        }
        out.push(b'}');
        object::text(out)
    }
}

// === a connection that may recover later ===

impl Shard {
    /// The client is told a pid with CONNECT's answer, if it and its app know what to do with one.
    pub(super) fn offer_recovery(&mut self, handle: Handle, anonymous: bool) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(identity) = session.native.clone().filter(|identity| identity.app.recovery) else { return };
        if session.wire.with_offsets(true) == session.wire {
            return;
        }
        session.wire = session.wire.with_offsets(true);
        let mut secret = Secret::default();
        self.entropy.fill(&mut secret);
        let (node, number) = (self.node.digest, self.next_number());
        let pid = Pid { node, shard: self.index(), number, secret };
        self.recoverable.note(&pid, Who { grant: identity.grant.clone(), anonymous }, handle);
        if let Some(session) = self.sessions.get(handle) {
            session.resuming = Some(Recovery::of(pid, anonymous, None));
        }
    }

    /// The session leaves `/`, and what it followed is kept or not.
    pub(super) fn part(&mut self, handle: Handle, keeps: bool) {
        let Some(session) = self.sessions.get(handle) else { return };
        if session.recovery().is_none() {
            return;
        }
        session.wire = session.wire.with_offsets(false);
        let Some(Resuming::Recovery(recovery)) = session.resuming.take().map(|resuming| *resuming) else {
            return;
        };
        let pid = recovery.pid;
        let kept = if keeps { self.left_by(handle, recovery) } else { None };
        self.post(pid.shard, Inbox::Keep(pid, kept));
    }

    /// What it leaves; `None` when nobody could go on from there.
    fn left_by(&mut self, handle: Handle, recovery: Recovery) -> Option<Box<Kept>> {
        if self.follows_plain_history(handle) {
            return None;
        }
        if let Some(returning) = recovery.returning {
            // It broke once more before everything was followed again.
            return Some(returning.kept);
        }
        let session = self.sessions.get(handle)?;
        if recovery.histories.len() > 1 || session.holds_subscription() {
            return None;
        }
        let mut kept = Kept { history: None, others: Vec::new() };
        for one in session.subscriptions.iter().filter(|one| one.namespace == Namespace::Native) {
            // What was not answered, the client asks for again.
            one.place?;
            let followed = Followed {
                channel: self.topics.get(one.topic).key.name.clone(),
                presence: one.wants_presence,
                receipts: one.wants_receipts,
                token: session.gate.as_ref().and_then(|gate| gate.token(one.ticket)).map(Into::into),
            };
            match recovery.histories.first().filter(|history| history.ticket == one.ticket) {
                Some(history) => kept.history = Some((followed, history.begin, history.mixed)),
                None => kept.others.push(followed),
            }
        }
        Some(Box::new(kept))
    }

    /// Whether it is given plain events of a channel with history: they carry no offset, so what it has missed of them cannot be told.
    fn follows_plain_history(&mut self, handle: Handle) -> bool {
        let Some(session) = self.sessions.get(handle) else { return false };
        let Some(identity) = &session.native else { return false };
        let plain = session.subscriptions.iter().filter(|one| one.namespace == Namespace::Plain);
        let mut rules = plain.filter_map(|one| identity.app.rules.find(&self.topics.get(one.topic).key.name));
        rules.any(|rule| rule.history.retention().is_some())
    }
}

// === a client that recovers ===

impl Shard {
    /// Asks for what an admitted client had before its connection broke; [`Shard::reclaimed`] goes on.
    pub(super) fn reclaim(&mut self, handle: Handle, claim: Claim, grant: Arc<Grant>, anonymous: bool) {
        let number = self.next_number();
        if let Some(session) = self.sessions.get(handle) {
            session.await_reclaim(number);
        }
        let pid = claim.pid;
        let who = Who { grant, anonymous };
        let reclaim = Box::new(Reclaim { to: handle, number, claim, who, readmitted: Ok(()) });
        if pid.node == self.node.digest && self.node.has_shard(pid.shard) {
            self.post(pid.shard, Inbox::Reclaim(reclaim));
        } else {
            self.reclaimed(*reclaim, None);
        }
    }

    /// The pid's shard has answered. Whoever has gone meanwhile may come again.
    pub(crate) fn reclaimed(&mut self, reclaim: Reclaim, kept: Option<Box<Kept>>) {
        let Reclaim { to, number, claim: Claim { pid, offset }, who, readmitted } = reclaim;
        if !self.sessions.get(to).is_some_and(|session| session.reclaim_ends(number)) {
            if kept.is_some() {
                self.post(pid.shard, Inbox::Keep(pid, kept));
            }
            return;
        }
        let identity = match readmitted.and_then(|()| self.welcome_back(to, &who)) {
            Ok(identity) => identity,
            Err(problem) => {
                if kept.is_some() {
                    self.post(pid.shard, Inbox::Keep(pid, None));
                }
                self.drop_held(to);
                return self.refuse_connect(to, Namespace::Native.as_str(), &problem);
            }
        };
        self.enter(to, Arc::new(identity));
        let since = kept.as_ref().and_then(|kept| kept.since(offset.as_ref()));
        match (kept, since) {
            (Some(kept), Some(since)) => self.begin_return(to, pid, who.anonymous, kept, since),
            (kept, _) => {
                if kept.is_some() {
                    self.post(pid.shard, Inbox::Keep(pid, None));
                }
                self.begin_anew(to, who.anonymous);
            }
        }
    }

    /// Who it is, if nothing has changed since it was admitted, or since it was here last.
    fn welcome_back(&mut self, handle: Handle, who: &Who) -> Result<Identity, Problem> {
        let grant = &who.grant;
        if self.revocations.matches(grant) {
            return Err(Code::Revoked.into());
        }
        let apps = self.node.access().apps();
        let app = apps.by_name.get(&grant.app).ok_or(Code::UnknownApp)?.clone();
        if grant.guest && !app.guests {
            return Err(Code::Unauthenticated.into());
        }
        may_come_from(self.sessions.get(handle).and_then(|session| session.origin()), &app)?;
        Ok(Identity { app, grant: grant.clone() })
    }

    /// Nothing was recovered.
    fn begin_anew(&mut self, handle: Handle, anonymous: bool) {
        if let Some(session) = self.sessions.get(handle) {
            session.await_return(false);
        }
        self.offer_recovery(handle, anonymous);
        self.answer_admission(handle);
        self.go_on(handle);
    }

    /// Joins first; CONNECT is answered when it is clear what was missed.
    fn begin_return(
        &mut self,
        handle: Handle,
        pid: Pid,
        anonymous: bool,
        kept: Box<Kept>,
        since: Option<Position>,
    ) {
        let Some(session) = self.sessions.get(handle) else { return };
        session.wire = session.wire.with_offsets(true);
        session.await_return(true);
        let object = kept.history.as_ref().map(|(history, ..)| history.object(since));
        let answered = object.is_none();
        let returning = Box::new(Returning { kept, answered, next: 0 });
        session.resuming = Some(Recovery::of(pid, anonymous, Some(returning)));
        match object {
            Some(object) => self.follow_again(handle, &object),
            None => {
                self.answer_admission(handle);
                self.return_goes_on(handle);
            }
        }
    }

    fn follow_again(&mut self, handle: Handle, object: &str) {
        self.command_begins(handle);
        let call = Call {
            namespace: Namespace::Native,
            command: Command::Recover,
            name: Command::Recover.as_str(),
            object,
            fields: Fields::parse(object),
            id: None,
            attachments: Vec::new(),
        };
        command::execute(self, handle, call, None);
    }

    /// A channel is followed again; whether what it missed is to be sent.
    pub(crate) fn returned(&mut self, handle: Handle, joined: &Joined) -> bool {
        let Some(returning) = self.sessions.get(handle).and_then(Session::returning) else { return false };
        if returning.answered {
            self.return_goes_on(handle);
            return true;
        }
        if joined.recovered == Some(true) {
            returning.answered = true;
            self.answer_admission(handle);
            self.return_goes_on(handle);
            return true;
        }
        if let Some(session) = self.sessions.get(handle)
            && let Some(index) = session.subscriptions.iter().position(|one| one.ticket == joined.ticket)
        {
            let subscription = session.subscriptions.remove(index);
            self.end_subscription(handle, subscription);
        }
        self.give_up(handle);
        false
    }

    /// A channel cannot be followed again.
    pub(crate) fn return_failed(&mut self, handle: Handle, problem: &Problem) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(returning) = session.returning() else { return };
        if !returning.answered {
            return self.give_up(handle);
        }
        let current = returning.next.checked_sub(1).and_then(|index| returning.kept.others.get(index));
        let channel = current.map(|followed| followed.channel.clone());
        session.await_return(true);
        if let Some(channel) = channel {
            self.count_refusal(problem.code);
            self.tell_unsubscribed(handle, &channel, problem);
        }
        self.return_goes_on(handle);
    }

    /// What was missed cannot be had.
    fn give_up(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(recovery) = session.recovery() else { return };
        let (pid, anonymous) = (recovery.pid, recovery.anonymous);
        session.resuming = None;
        session.wire = session.wire.with_offsets(false);
        self.post(pid.shard, Inbox::Keep(pid, None));
        self.begin_anew(handle, anonymous);
    }

    /// The next step is one of its own: there may be many.
    fn return_goes_on(&mut self, handle: Handle) {
        self.post(handle.shard, Inbox::Return(handle));
    }

    /// Follows the next channel without history again; when there is none, what the client has sent meanwhile is run.
    pub(crate) fn follow_next(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(returning) = session.returning() else { return };
        let object = returning.kept.others.get(returning.next).map(|followed| followed.object(None));
        returning.next += 1;
        if let Some(object) = object {
            return self.follow_again(handle, &object);
        }
        if let Some(recovery) = session.recovery() {
            recovery.returning = None;
        }
        session.await_return(false);
        self.go_on(handle);
    }
}

impl Session {
    fn returning(&mut self) -> Option<&mut Returning> {
        self.recovery()?.returning.as_deref_mut()
    }
}

/// What a push carries behind its object: `EPOCH.SEQ.CHANNEL`.
pub(crate) fn spell_offset(channel: &Channel, Position { epoch, seq }: Position) -> String {
    format!("{epoch}.{seq}.{}", channel.as_str())
}

fn read_offset(text: &str) -> Option<Offset> {
    let (epoch, rest) = text.split_once('.')?;
    let (seq, channel) = rest.split_once('.')?;
    let position = Position { epoch: Epoch::parse(epoch)?, seq: seq.parse().ok()? };
    Some(Offset { channel: Channel::new(channel).ok()?, position })
}
