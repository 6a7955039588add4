//! `subscribe`: to follow a channel, from now on or from a position.

use std::sync::Arc;

use bytes::Bytes;
use xpush_core::message::Message;
use xpush_core::{Action, ChannelKey, Code, History, Position, Problem};
use xpush_wire::json;

use super::place::Place;
use super::{Asked, Command, Outcome, Request, legacy};
use crate::dialect::{self, Format, Namespace, Wire, object};
use crate::fanout::inbox::{Handle, Happening, Inbox, Join, Joined};
use crate::fanout::join::NEWEST_PAGE;
use crate::fanout::topic::Subscriber;
use crate::session::Subscription;
use crate::shard::Shard;

/// How a channel is to be followed.
#[derive(Default)]
pub(crate) struct Terms {
    /// From behind this position.
    pub(crate) since: Option<Position>,
    /// With the list of who is there, and its changes.
    pub(crate) presence: bool,
    /// With the news of how far the others are.
    pub(crate) receipts: bool,
    /// By a token for this channel.
    pub(crate) token: Option<Box<str>>,
}

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    request.place(Action::Subscribe)?;
    let fields = &request.fields;
    let terms = Terms {
        since: fields.position("since")?,
        presence: fields.flag("presence", false)?,
        receipts: fields.flag("receipts", false)?,
        token: fields.text("token")?.map(Into::into),
    };
    if terms.presence {
        request.place(Action::Presence)?;
    }
    let Some(place) = request.place else { return Err(Code::BadField.into()) };
    // Whoever subscribes knows the protocol, and needs no plain events beside it.
    shard.end_plain(request.handle, &place.key);
    follow(shard, request.handle, request.asked, place, terms)?;
    Ok(Outcome::Later)
}

/// Asks the channel's home; [`joined`] goes on.
pub(crate) fn follow(
    shard: &mut Shard,
    handle: Handle,
    asked: Asked,
    place: Place,
    terms: Terms,
) -> Result<(), Problem> {
    let Place { key, rule, permission, asked: granted } = place;
    let (wants_presence, wants_receipts) = (terms.presence, terms.receipts);
    let most = shard.node.config.limits.channels_per_connection;
    let Some(session) = shard.sessions.get(handle) else { return Ok(()) };
    let most = session.app_limits().channels_per_connection.unwrap_or(most);
    // Whoever recovers is told nothing but what it missed.
    let told = asked.command != Command::Recover;
    let marks_of = session.identity(asked.namespace).filter(|_| told).and_then(|identity| identity.marks());
    if wants_presence && !rule.presence {
        return Err(Code::NoPresence.into());
    }
    let since = terms.since.filter(|_| rule.history != History::None);
    let unreadable = since.is_some() && !permission.actions.contains(Action::History);
    let since = since.filter(|_| !unreadable);
    let actions = granted.then_some(permission.actions);
    session.tickets = session.tickets.wrapping_add(1);
    let ticket = session.tickets;
    let topic = shard.topics.find(&key);
    let followed = |one: &Subscription| Some(one.topic) == topic && one.namespace == asked.namespace;
    let index = session.subscriptions.iter().position(followed);
    let mut enters = None;
    match index {
        Some(index) => {
            // Nothing live goes between the second answer and what it announces.
            let before = session.subscriptions[index];
            session.subscriptions[index] =
                Subscription { place: None, ticket, wants_presence, wants_receipts, actions, ..before };
            shard.unplace(before);
            shard.forget_ticket(handle, before.ticket);
        }
        None if session.subscriptions.len() >= most => return Err(Code::TooManyChannels.into()),
        None => {
            // XPUSH 0.1 tells comings and goings in every channel.
            if rule.presence || asked.namespace == Namespace::Legacy {
                enters = session.entrance(asked.namespace);
            }
            let entered = enters.is_some();
            let topic = shard.topics.enter(&key);
            let Some(session) = shard.sessions.get(handle) else { return Ok(()) };
            let namespace = asked.namespace;
            session.subscriptions.push(Subscription {
                topic,
                place: None,
                ticket,
                namespace,
                wants_presence,
                wants_receipts,
                entered,
                actions,
            });
        }
    }
    if let Some((token, expires_at)) = terms.token.zip(permission.expires_at) {
        shard.keep_token(handle, ticket, &token, expires_at);
    }
    let home = shard.node.home_of(&key);
    let join = Join {
        channel: key,
        rule,
        who: handle,
        asked,
        ticket,
        again: index.is_some(),
        since,
        unreadable,
        enters,
        wants_roster: told && wants_presence,
        marks_of,
        wants_receipts: told && wants_receipts,
    };
    shard.post(home, Inbox::Join(Box::new(join)));
    Ok(())
}

impl Shard {
    /// Ends what a client has followed from the beginning.
    pub(super) fn end_plain(&mut self, handle: Handle, key: &ChannelKey) {
        let topic = self.topics.find(key);
        let Some(session) = self.sessions.get(handle) else { return };
        let plain = |one: &Subscription| Some(one.topic) == topic && one.namespace == Namespace::Plain;
        if let Some(index) = session.subscriptions.iter().position(plain) {
            let subscription = session.subscriptions.remove(index);
            self.end_subscription(handle, subscription);
        }
    }
}

/// The home has answered: the answer, then what was missed, then everything live.
pub(crate) fn joined(shard: &mut Shard, handle: Handle, asked: Asked, mut joined: Joined) {
    let Some(session) = shard.sessions.get(handle) else { return };
    let format = session.format(asked.namespace);
    let Some(subscription) = session.subscriptions.iter_mut().find(|one| one.ticket == joined.ticket) else {
        // Overtaken by a later `subscribe` or `unsubscribe`.
        let code = overtaken(shard, handle);
        return shard.fail(handle, asked, &code.into());
    };
    let Subscription { topic, wants_presence, wants_receipts, .. } = *subscription;
    let subscriber = Subscriber { slot: handle.slot, format, wants_presence, wants_receipts };
    let place = shard.topics.subscribe(topic, subscriber, &mut shard.sessions);
    if let Some(session) = shard.sessions.get(handle) {
        if let Some(subscription) = session.subscriptions.iter_mut().find(|one| one.ticket == joined.ticket) {
            subscription.place = Some(place);
        }
        if let Some(stream) = session.stream().filter(|_| joined.missed.is_empty()) {
            // Told at once: a stream that breaks before its first message resumes from here.
            let id = stream.advance(&joined.channel, joined.position);
            shard.sessions.send(handle.slot, format!("id: {id}\n\n").into());
        }
    }
    let missed = lay_out_missed(shard, handle, format, &mut joined);
    if asked.namespace == Namespace::Native
        && let Some(recovery) = shard.sessions.get(handle).and_then(|session| session.recovery())
    {
        recovery.follows(&joined);
    }
    match asked.namespace {
        Namespace::Native if asked.command == Command::Recover => {
            if !shard.returned(handle, &joined) {
                return shard.command_ends(handle);
            }
        }
        Namespace::Native if asked.command == Command::Enlist => {
            shard.push(handle, "subscribed", &answer(&joined));
        }
        Namespace::Native => shard.answer(handle, asked, &answer(&joined)),
        // Nobody has asked.
        Namespace::Plain => {}
        Namespace::Legacy => shard.answer_connect(handle, Namespace::Legacy),
    }
    if format.wire == Wire::Sse && joined.recovered == Some(false) {
        tell_gap(shard, handle, &joined);
    }
    if let Some(session) = shard.sessions.get(handle) {
        session.outbox.allow(missed.iter().map(Bytes::len).sum());
    }
    for (message, frame) in joined.missed.into_iter().zip(missed) {
        shard.sessions.send_event(handle.slot, &Happening::Message(message), frame);
    }
    shard.command_ends(handle);
}

/// The frames of what was missed. When they and what is unsent already go beyond twice the outbox's bound, it is `recovered: false` with the newest page:
/// a client may be given that much more than the bound at once, and no more.
fn lay_out_missed(shard: &mut Shard, handle: Handle, format: Format, joined: &mut Joined) -> Vec<Bytes> {
    let room = 2 * shard.node.config.limits.outbox;
    let room = room.saturating_sub(shard.sessions.get(handle).map_or(0, |session| session.outbox.bytes()));
    let lay_out = |message: &Arc<Message>| {
        let mut frame = Vec::new();
        let happening = Happening::Message(message.clone());
        dialect::happening(format, &happening, &mut object::Objects::default(), &mut frame);
        Bytes::from(frame)
    };
    let mut frames: Vec<_> = joined.missed.iter().map(lay_out).collect();
    if frames.iter().map(Bytes::len).sum::<usize>() > room {
        let older = frames.len().saturating_sub(NEWEST_PAGE);
        frames.drain(..older);
        joined.missed.drain(..older);
        joined.recovered = Some(false);
    }
    frames
}

/// An event stream has no answer that could say `recovered: false`.
fn tell_gap(shard: &mut Shard, handle: Handle, joined: &Joined) {
    let Some(newest) = joined.position else { return };
    let before = joined.missed.first().map_or(newest.seq, |message| message.seq() - 1);
    let gap = Happening::Gap(joined.channel.clone(), Position { seq: before, ..newest });
    let format = Format { wire: Wire::Sse, namespace: Namespace::Native };
    let mut frame = Vec::new();
    dialect::happening(format, &gap, &mut object::Objects::default(), &mut frame);
    shard.sessions.send(handle.slot, frame.into());
}

/// The home could not: the subscription is undone, and the home hears of that as of any other end.
pub(crate) fn failed(shard: &mut Shard, handle: Handle, asked: Asked, ticket: u32, problem: &Problem) {
    if let Some(session) = shard.sessions.get(handle)
        && let Some(index) = session.subscriptions.iter().position(|one| one.ticket == ticket)
    {
        let subscription = session.subscriptions.remove(index);
        shard.end_subscription(handle, subscription);
    }
    match asked.namespace {
        Namespace::Native if problem.code == Code::Cancelled => {
            let code = overtaken(shard, handle);
            shard.fail(handle, asked, &code.into());
        }
        Namespace::Native => shard.fail(handle, asked, problem),
        Namespace::Plain => shard.command_ends(handle),
        Namespace::Legacy => legacy::refuse(shard, handle, problem),
    }
}

/// What has ended a subscription that was under way: a later request of its client, or its session, which is no fault of the client's.
fn overtaken(shard: &mut Shard, handle: Handle) -> Code {
    match shard.sessions.get(handle).is_some_and(|session| session.closing) {
        false => Code::Cancelled,
        true if shard.draining => Code::Draining,
        true => Code::UnknownSession,
    }
}

fn answer(joined: &Joined) -> String {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(br#"{"channel":"#);
    json::write_string(joined.channel.name.as_str(), &mut out);
    out.extend_from_slice(if joined.position.is_some() {
        br#","history":true"#
    } else {
        br#","history":false"#
    });
    if let Some(position) = joined.position {
        object::write_position(position, &mut out);
    }
    if let Some(recovered) = joined.recovered {
        out.extend_from_slice(
            format!(r#","recovered":{recovered},"missed":{}"#, joined.missed.len()).as_bytes(),
        );
    }
    if let Some(marks) = &joined.marks {
        if let Some(marker) = marks.marker {
            out.push(b',');
            object::write_marker(marker, marks.unread, &mut out);
        }
        if let Some(receipts) = &marks.receipts {
            out.push(b',');
            object::write_receipts(receipts, &mut out);
        }
    }
    if let Some(roster) = &joined.roster {
        out.extend_from_slice(br#","presence":{"#);
        object::write_roster(roster, &[], &mut out);
        out.push(b'}');
    }
    out.push(b'}');
    object::text(out)
}
