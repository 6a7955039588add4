//! A session's beginning, its heartbeats and its end.

use smallvec::SmallVec;
use xpush_core::ports::online::State;
use xpush_core::{Code, Monotonic, Problem};
use xpush_wire::engine::{self, Kind, Version};
use xpush_wire::{json, sse, ws};

use super::gate::{Gate, Opening};
use super::outbox::Outbox;
use super::rate::Rate;
use super::resume::Stream;
use super::sid::{PublicId, Secret, Sid};
use super::{Resuming, Session, Subscription, Transport};
use crate::command::subscribe::{self, Terms};
use crate::command::{Asked, Command};
use crate::dialect::{self, Format, Namespace, Wire};
use crate::fanout::inbox::{Handle, Inbox, Leave};
use crate::front::address::Permit;
use crate::shard::{Shard, Timer};
use crate::transport::polling::Polling;
use crate::transport::stream::token;
use crate::transport::{By, Open};

/// How long a connection that was told to go may take, in ms.
const FAREWELL_MS: u64 = 5_000;
/// How long a connection that was told to go waits for answers that it is owed, in ms: a little longer than a publisher waits for the log.
const LAST_ANSWERS_MS: u64 = 2_500;
/// How long a client may take to close its side after all was sent, in ms.
const LINGER_MS: u64 = 1_000;

// === beginning ===

impl Shard {
    pub(crate) fn open(&mut self, open: Open) {
        let Open { wire, query, opening, permit, by } = open;
        match by {
            By::WebSocket { stream, early, response } => {
                let Some(handle) = self.begin(wire, (query, opening), permit, Transport::Socket(stream))
                else {
                    return;
                };
                let mut frames = response.to_vec();
                self.greet(handle, &mut frames);
                self.sessions.send(handle.slot, frames.into());
                self.connect_unasked(handle);
                if !early.is_empty() {
                    self.take_bytes(handle, &mut early.to_vec());
                }
            }
            By::Events { stream, response, identity, channels, credential } => {
                let Some(handle) = self.begin(wire, (query, opening), permit, Transport::Socket(stream))
                else {
                    return;
                };
                self.sessions.send(handle.slot, response);
                self.enter(handle, identity.clone());
                let positions = channels.iter().map(|(place, since)| (place.key.clone(), *since)).collect();
                if let Some(session) = self.sessions.get(handle) {
                    let stream = Stream { channels: positions, credential };
                    session.resuming = Some(Box::new(Resuming::Stream(stream)));
                }
                if self.revocations.matches(&identity.grant) {
                    return self.close(handle, Code::Revoked.into());
                }
                self.welcome(handle);
                self.watch_token(handle);
                for (place, since) in channels {
                    let terms = Terms { since, ..Terms::default() };
                    let asked = Asked {
                        namespace: Namespace::Native,
                        ack: None,
                        command: Command::Subscribe,
                        question: 0,
                    };
                    if let Err(problem) = subscribe::follow(self, handle, asked, place, terms) {
                        self.answer_failure(handle, asked, &problem);
                    }
                }
                // What was found out before the stream was here may have changed meanwhile.
                self.review(handle);
            }
            By::Polling { base64, answer } => {
                // Dropping `answer` is a refusal.
                let Some(version) = wire.engine() else { return };
                let polling = Transport::Polling(Box::new(Polling::begin(version, base64, answer)));
                let Some(handle) = self.begin(wire, (query, opening), permit, polling) else { return };
                let mut frames = Vec::new();
                self.greet(handle, &mut frames);
                self.sessions.send(handle.slot, frames.into());
                self.connect_unasked(handle);
            }
        }
    }

    /// Makes the session; `None` when the shard takes no more.
    fn begin(
        &mut self,
        wire: Wire,
        (query, opening): (Box<str>, Option<Opening>),
        permit: Permit,
        transport: Transport,
    ) -> Option<Handle> {
        if self.draining {
            return None;
        }
        let mut secret: Secret = [0; 12];
        self.entropy.fill(&mut secret);
        let now = self.now;
        let rate = Rate::new(now);
        let handle = self.sessions.insert(|handle| Session {
            generation: handle.generation,
            wire,
            dirty: false,
            closing: false,
            paused: false,
            token_expiring: false,
            follows_moves: false,
            awaits_pong: false,
            in_progress: 0,
            last_words: None,
            outbox: Outbox::default(),
            transport,
            decoder: ws::Decoder::new(),
            backlog: Vec::new(),
            heard: now,
            rate,
            native: None,
            shown: State::Online,
            legacy: None,
            gate: opening.map(Gate::opened),
            subscriptions: SmallVec::new(),
            tickets: 0,
            assembly: None,
            probe: None,
            resuming: None,
            secret,
            query,
            permit,
        });
        self.counters.connections.set(self.sessions.len() as u64);
        self.counters.opened.add(1);
        if let Some(registry) = &self.registry
            && let Some(Session { transport: Transport::Socket(io), .. }) = self.sessions.get(handle)
        {
            if let Err(error) = io.register(registry, token(handle, false)) {
                tracing::warn!(%error, "cannot register a socket");
                self.drop_session(handle);
                return None;
            }
            if !io.is_dry(true) {
                self.unread.push(handle);
            }
        }
        self.arm(self.node.config.heartbeat.interval_ms, Timer::Heartbeat(handle));
        self.arm(self.node.config.limits.handshake_ms, Timer::Handshake(handle));
        Some(handle)
    }

    /// Engine.IO's open packet.
    fn greet(&mut self, handle: Handle, frames: &mut Vec<u8>) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(version) = session.wire.engine() else { return };
        let upgrades: &[&str] =
            if matches!(session.transport, Transport::Polling(_)) { &["websocket"] } else { &[] };
        let sid = Sid { node: self.node.digest, handle, secret: session.secret }.encode();
        let heartbeat = self.node.config.heartbeat;
        let payload = self.node.config.limits.payload;
        let open =
            engine::open_json(version, &sid, upgrades, heartbeat.interval_ms, heartbeat.timeout_ms, payload);
        dialect::engine_packet(Kind::Open, &open, frames);
    }

    /// Protocol 4 clients are connected to `/` without asking.
    fn connect_unasked(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        if session.wire.engine() == Some(Version::V3) {
            let claims = session.claims();
            self.admit(handle, claims, None);
        }
    }

    /// Socket.IO's CONNECT answer.
    pub(crate) fn answer_connect(&mut self, handle: Handle, namespace: Namespace) {
        let Some(session) = self.sessions.get(handle) else { return };
        let wire = session.wire;
        let data = match wire.engine() {
            Some(Version::V4) => match session.recovery().filter(|_| namespace == Namespace::Native) {
                Some(recovery) => {
                    format!(r#"{{"sid":"{}","pid":"{}"}}"#, PublicId(handle), recovery.pid.encode())
                }
                None => format!(r#"{{"sid":"{}"}}"#, PublicId(handle)),
            },
            Some(Version::V3) => String::new(),
            None => return,
        };
        let mut frame = Vec::new();
        let kind = xpush_wire::socket::Kind::Connect;
        dialect::socket_packet(wire, kind, namespace.as_str(), None, &data, &[], &mut frame);
        self.sessions.send(handle.slot, frame.into());
    }

    /// Socket.IO's CONNECT_ERROR; other wires are closed.
    pub(crate) fn refuse_connect(&mut self, handle: Handle, namespace: &str, problem: &Problem) {
        self.count_refusal(problem.code);
        let Some(session) = self.sessions.get(handle) else { return };
        let wire = session.wire;
        let Some(version) = wire.engine() else {
            return self.close(handle, problem.clone());
        };
        let mut data = Vec::new();
        match version {
            Version::V3 => json::write_string(problem.message(), &mut data),
            Version::V4 => {
                data.extend_from_slice(br#"{"message":"#);
                json::write_string(problem.message(), &mut data);
                data.extend_from_slice(
                    format!(r#","data":{}}}"#, dialect::object::error(problem)).as_bytes(),
                );
            }
        }
        let mut frame = Vec::new();
        let kind = xpush_wire::socket::Kind::ConnectError;
        let data = dialect::object::text(data);
        dialect::socket_packet(wire, kind, namespace, None, &data, &[], &mut frame);
        self.sessions.send(handle.slot, frame.into());
    }
}

// === heartbeats ===

impl Shard {
    pub(crate) fn handshake_is_over(&mut self, handle: Handle) {
        let silent = |session: &mut Session| session.native.is_none() && session.legacy.is_none();
        if self.sessions.get(handle).is_some_and(silent) {
            self.close(handle, Code::HandshakeTimeout.into());
        }
    }

    pub(crate) fn heartbeat(&mut self, handle: Handle) {
        let beat = self.node.config.heartbeat;
        let Some(session) = self.sessions.get(handle) else { return };
        if session.closing {
            return;
        }
        let (wire, heard) = (session.wire, session.heard);
        if wire.engine() == Some(Version::V3) {
            // Here the client sends the pings.
            if self.heard_within(heard, beat.interval_ms + beat.timeout_ms) {
                return self.arm(beat.interval_ms, Timer::Heartbeat(handle));
            }
            return self.cut_off(handle, Code::HeartbeatTimeout);
        }
        let mut frame = Vec::new();
        match wire {
            Wire::Sse => sse::write_comment("", &mut frame),
            Wire::Plain => ws::write_frame(ws::Opcode::Ping, b"", &mut frame),
            _ => dialect::engine_packet(Kind::Ping, "", &mut frame),
        }
        if wire == Wire::Sse {
            // Nothing comes back: a reader that is gone shows by its outbox.
            self.arm(beat.interval_ms, Timer::Heartbeat(handle));
        } else {
            session.awaits_pong = true;
            self.arm(beat.timeout_ms, Timer::Pong(handle));
        }
        self.sessions.send(handle.slot, frame.into());
    }

    /// The answer should have come. The next heartbeat is one interval after the last one, whatever else was heard: the client waits for it.
    pub(crate) fn pong_is_due(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        if session.awaits_pong {
            return self.cut_off(handle, Code::HeartbeatTimeout);
        }
        let beat = self.node.config.heartbeat;
        self.arm(beat.interval_ms.saturating_sub(beat.timeout_ms), Timer::Heartbeat(handle));
    }

    /// Within `ms` of the last sign of life?
    fn heard_within(&self, heard: Monotonic, ms: u64) -> bool {
        self.now.since(heard) <= ms
    }
}

// === the end ===

impl Shard {
    /// Tells the client why, sends what is still in the outbox, then closes.
    pub(crate) fn close(&mut self, handle: Handle, problem: Problem) {
        let Some(session) = self.sessions.get(handle) else { return };
        let (wire, code) = (session.wire, problem.code);
        let mut frames = Vec::new();
        if session.native.is_some() || wire == Wire::Plain {
            let object = format!("{{\"error\":{}}}", dialect::object::error(&problem));
            dialect::push(
                Format { wire, namespace: Namespace::Native },
                "closing",
                &object,
                &[],
                &mut frames,
            );
        }
        match &session.transport {
            Transport::Socket(_) if wire != Wire::Sse => dialect::close_frame(wire, code, &mut frames),
            Transport::Socket(_) => {}
            Transport::Polling(_) => dialect::engine_packet(Kind::Close, "", &mut frames),
        }
        tracing::debug!(code = code.as_str(), "connection closed");
        self.close_with(handle, code, frames);
    }

    /// [`Shard::close`] with other last words.
    pub(crate) fn close_with(&mut self, handle: Handle, code: Code, frames: Vec<u8>) {
        self.count_refusal(code);
        self.begin_farewell(handle, frames);
    }

    /// The client's close frame is answered (RFC 6455, 5.5.1).
    pub(crate) fn close_answered(&mut self, handle: Handle, code: u16) {
        let mut frame = Vec::new();
        match code {
            // No code at all: 1005 never goes over the wire.
            1005 => ws::write_frame(ws::Opcode::Close, b"", &mut frame),
            code => ws::write_close(code, "", &mut frame),
        }
        self.begin_farewell(handle, frame);
    }

    /// Ends a client at once, and says so only to the log: it does not read, or its session is in no state to tell it anything.
    pub(crate) fn cut_off(&mut self, handle: Handle, code: Code) {
        self.count_refusal(code);
        tracing::debug!(code = code.as_str(), "connection cut off");
        self.drop_session(handle);
    }

    /// The client has gone, or says that it goes: a poll of its that still hangs ends with nothing.
    pub(crate) fn gone(&mut self, handle: Handle) {
        if let Some(Transport::Polling(polling)) =
            self.sessions.get(handle).map(|session| &mut session.transport)
        {
            polling.end(Kind::Noop);
        }
        self.drop_session(handle);
    }

    /// The outbox is empty; the client has a moment to close its side, so that nothing under way is destroyed.
    pub(crate) fn farewell(&mut self, handle: Handle) {
        self.arm(LINGER_MS, Timer::Farewell(handle));
    }

    pub(crate) fn drop_session(&mut self, handle: Handle) {
        self.leave_everything(handle);
        if self.sessions.remove(handle).is_some() {
            self.counters.connections.set(self.sessions.len() as u64);
            self.counters.closed.add(1);
        }
    }

    fn begin_farewell(&mut self, handle: Handle, frames: Vec<u8>) {
        self.leave_everything(handle);
        let Some(session) = self.sessions.get(handle) else { return };
        if session.closing {
            return;
        }
        session.closing = true;
        session.probe = None;
        session.last_words = Some(frames.into());
        if session.in_progress > 0 {
            // What was published is being stored: its answers go before the last words.
            self.arm(LAST_ANSWERS_MS, Timer::LastWords(handle));
        } else {
            self.say_last_words(handle);
        }
        self.arm(FAREWELL_MS, Timer::Farewell(handle));
    }

    /// Everything was answered, or has had its time.
    pub(crate) fn say_last_words(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(frames) = session.last_words.take() else { return };
        session.in_progress = 0;
        self.sessions.send(handle.slot, frames.into());
        self.sessions.touch(handle.slot);
    }

    /// Ends what a client has in one namespace.
    pub(crate) fn leave_namespace(&mut self, handle: Handle, namespace: Namespace) {
        if namespace == Namespace::Native {
            // It goes by itself; one that is cut off has parted already.
            self.part(handle, false);
        }
        while let Some(session) = self.sessions.get(handle)
            && let Some(index) =
                session.subscriptions.iter().position(|one| one.namespace.is_within(namespace))
        {
            let subscription = session.subscriptions.remove(index);
            self.end_subscription(handle, subscription);
        }
        if let Some(session) = self.sessions.get(handle) {
            match namespace {
                Namespace::Native | Namespace::Plain => {
                    if let Some(identity) = session.native.take() {
                        let shown = session.shown;
                        self.users.leave(&identity, handle.slot);
                        self.goes_offline(handle, &identity, shown);
                    }
                    self.drop_held(handle);
                }
                Namespace::Legacy => session.legacy = None,
            }
        }
    }

    fn leave_everything(&mut self, handle: Handle) {
        self.part(handle, true);
        self.leave_namespace(handle, Namespace::Native);
        self.leave_namespace(handle, Namespace::Legacy);
    }

    /// Undoes a subscription that was just taken out of its session.
    pub(crate) fn end_subscription(&mut self, handle: Handle, subscription: Subscription) {
        let channel = self.topics.get(subscription.topic).key.clone();
        self.unplace(subscription);
        self.forget_ticket(handle, subscription.ticket);
        self.topics.leave(subscription.topic);
        let Some(session) = self.sessions.get(handle) else { return };
        let leaves = session.entrance(subscription.namespace).filter(|_| subscription.entered);
        let home = self.node.home_of(&channel);
        let leave = Leave { channel, who: handle, ticket: subscription.ticket, leaves };
        self.post(home, Inbox::Leave(Box::new(leave)));
    }

    /// Takes a subscription out of its topic's list; who is moved into its place is told.
    pub(crate) fn unplace(&mut self, subscription: Subscription) {
        let Some(place) = subscription.place else { return };
        let moved = self.topics.unsubscribe(subscription.topic, place, &mut self.sessions);
        let Some(moved) = moved else { return };
        let Some(session) = self.sessions.at(moved.slot) else { return };
        let same = |one: &&mut Subscription| {
            one.topic == subscription.topic && one.namespace == moved.format.namespace && one.place.is_some()
        };
        if let Some(subscription) = session.subscriptions.iter_mut().find(same) {
            subscription.place = Some(place);
        }
    }
}
