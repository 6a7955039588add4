//! A client's session: who it is, what it follows, what it has still to be sent, and when it is too late.

pub(crate) mod admission;
pub(crate) mod change;
pub(crate) mod gate;
pub(crate) mod identity;
pub(crate) mod kept;
pub(crate) mod lifecycle;
pub(crate) mod moving;
pub(crate) mod online;
pub(crate) mod outbox;
mod plain;
pub(crate) mod rate;
pub(crate) mod recovery;
pub(crate) mod resume;
pub(crate) mod sid;
mod socketio;
#[cfg(test)]
mod tests;
pub(crate) mod users;

use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;
use xpush_core::access::Actions;
use xpush_core::ports::online::State;
use xpush_core::{AppLimits, ChannelKey, Monotonic};
use xpush_wire::ws;

use crate::config::Limits;
use crate::dialect::{Format, Namespace, Wire};
use crate::fanout::inbox::{Entrance, Handle, Happening, LegacyEntrance};
use crate::front::address::Permit;
use crate::session::gate::Gate;
use crate::session::identity::Identity;
use crate::session::outbox::Outbox;
use crate::session::rate::Rate;
use crate::session::recovery::Recovery;
use crate::session::resume::Stream;
use crate::session::sid::Secret;
use crate::transport::io::Io;
use crate::transport::polling::Polling;

/// One client.
pub(crate) struct Session {
    pub(crate) generation: u32,
    pub(crate) wire: Wire,
    /// Something is in the outbox, and the flusher knows.
    dirty: bool,
    /// It is to be closed when its outbox is empty.
    pub(crate) closing: bool,
    /// Nothing is read until the commands in progress are fewer.
    pub(crate) paused: bool,
    /// The client was told to renew its token.
    pub(crate) token_expiring: bool,
    /// The client goes elsewhere when it is told `moved`.
    pub(crate) follows_moves: bool,
    /// A heartbeat has been sent and not been answered.
    pub(crate) awaits_pong: bool,
    /// Commands whose answers are still to come.
    pub(crate) in_progress: u16,
    /// Frames that are sent when nothing is in progress any more, before it is closed.
    pub(crate) last_words: Option<Box<[u8]>>,
    pub(crate) outbox: Outbox,
    pub(crate) transport: Transport,
    pub(crate) decoder: ws::Decoder,
    /// Read, and not handled: only while paused.
    pub(crate) backlog: Vec<u8>,
    /// When the client last sent anything.
    pub(crate) heard: Monotonic,
    pub(crate) rate: Rate,
    /// Who this is on `/` (on other wires: at all).
    pub(crate) native: Option<Arc<Identity>>,
    /// How this connection's user is, as the client says.
    pub(crate) shown: State,
    /// Who this is on `/channel`.
    pub(crate) legacy: Option<Box<LegacySocket>>,
    /// What it waits for, what is held meanwhile, and what was found out of its permissions.
    pub(crate) gate: Option<Box<Gate>>,
    pub(crate) subscriptions: SmallVec<[Subscription; 1]>,
    /// Tells this session's subscriptions apart over time.
    pub(crate) tickets: u32,
    /// An event that waits for its attachments.
    pub(crate) assembly: Option<Box<Assembly>>,
    /// A WebSocket that may take over from long polling.
    pub(crate) probe: Option<Box<crate::transport::upgrade::Probing>>,
    /// By what the client resumes, where its transport has a way of its own.
    pub(crate) resuming: Option<Box<Resuming>>,
    pub(crate) secret: Secret,
    /// The query of the first request.
    pub(crate) query: Box<str>,
    /// Gives the address its place back when it is dropped.
    pub(crate) permit: Permit,
}

/// By what a session's bytes travel.
pub(crate) enum Transport {
    Socket(Io),
    /// Boxed, so that a socket does not pay for its size.
    Polling(Box<Polling>),
}

/// How a client goes on that does not ask for it by `subscribe`.
pub(crate) enum Resuming {
    /// Positions that an event stream's ids tell.
    Stream(Stream),
    /// Socket.IO's connection state recovery.
    Recovery(Recovery),
}

/// A channel that a session follows, or is about to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscription {
    pub(crate) topic: u32,
    /// Its place in the topic's list; `None` until the home has answered.
    pub(crate) place: Option<u32>,
    pub(crate) ticket: u32,
    pub(crate) namespace: Namespace,
    pub(crate) wants_presence: bool,
    pub(crate) wants_receipts: bool,
    /// It is counted by presence.
    pub(crate) entered: bool,
    /// What ACCESS has allowed here; `None` where it need not be asked, or must be again.
    pub(crate) actions: Option<Actions>,
}

/// The socket of an XPUSH 0.1 client: one channel, for as long as it is connected.
pub(crate) struct LegacySocket {
    pub(crate) identity: Arc<Identity>,
    pub(crate) channel: ChannelKey,
    pub(crate) entrance: Arc<LegacyEntrance>,
}

/// A binary packet of which attachments are missing.
pub(crate) struct Assembly {
    /// The text packet, whole.
    pub(crate) text: Box<str>,
    pub(crate) missing: usize,
    pub(crate) attachments: Vec<Bytes>,
    pub(crate) bytes: usize,
}

/// The sessions of a shard, and those among them that have something to be sent.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    shard: u16,
    generation: u32,
    /// Slots whose outboxes are to be flushed.
    dirty: Vec<u32>,
    /// Slots whose outboxes have grown beyond the bound.
    overfull: Vec<u32>,
    outbox_limit: usize,
}

impl Session {
    /// The identity in a namespace.
    pub(crate) fn identity(&self, namespace: Namespace) -> Option<&Arc<Identity>> {
        match namespace {
            Namespace::Native | Namespace::Plain => self.native.as_ref(),
            Namespace::Legacy => self.legacy.as_ref().map(|socket| &socket.identity),
        }
    }

    /// The limits of the app that it is in.
    pub(crate) fn app_limits(&self) -> AppLimits {
        let legacy = || self.legacy.as_ref().map(|socket| &socket.identity);
        self.native.as_ref().or_else(legacy).map(|identity| identity.app.limits).unwrap_or_default()
    }

    /// How many commands it may send; 0 means no bound. The server's limit holds where the app has none.
    pub(crate) fn commands_per_second(&self, limits: &Limits) -> u32 {
        self.app_limits().events_per_second.unwrap_or(limits.events_per_second)
    }

    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        match self.resuming.as_deref_mut()? {
            Resuming::Stream(stream) => Some(stream),
            Resuming::Recovery(_) => None,
        }
    }

    pub(crate) fn recovery(&mut self) -> Option<&mut Recovery> {
        match self.resuming.as_deref_mut()? {
            Resuming::Stream(_) => None,
            Resuming::Recovery(recovery) => Some(recovery),
        }
    }

    pub(crate) fn format(&self, namespace: Namespace) -> Format {
        Format { wire: self.wire, namespace }
    }

    /// Whether the socket has not taken everything yet.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty() || matches!(&self.transport, Transport::Socket(io) if io.unsent())
    }

    /// How presence counts a subscription of this session.
    pub(crate) fn entrance(&self, namespace: Namespace) -> Option<Entrance> {
        let identity = self.identity(namespace)?;
        let legacy = self.legacy.as_ref().filter(|_| namespace == Namespace::Legacy);
        Some(Entrance { member: identity.member(), legacy: legacy.map(|socket| socket.entrance.clone()) })
    }
}

impl Sessions {
    pub(crate) fn new(shard: u16, outbox_limit: usize) -> Self {
        Self {
            slab: Slab::new(),
            shard,
            generation: 0,
            dirty: Vec::new(),
            overfull: Vec::new(),
            outbox_limit,
        }
    }

    /// Makes a session of what `make` builds with its future handle.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Handle) -> Session) -> Handle {
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(self.slab.vacant_key()).unwrap_or(u32::MAX);
        let handle = Handle { shard: self.shard, slot, generation: self.generation };
        self.slab.insert(make(handle));
        handle
    }

    pub(crate) fn get(&mut self, handle: Handle) -> Option<&mut Session> {
        self.slab.get_mut(handle.slot as usize).filter(|session| session.generation == handle.generation)
    }

    /// Whoever has this slot now.
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Session> {
        self.slab.get_mut(slot as usize)
    }

    pub(crate) fn handle(&self, slot: u32) -> Option<Handle> {
        let session = self.slab.get(slot as usize)?;
        Some(Handle { shard: self.shard, slot, generation: session.generation })
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<Session> {
        self.get(handle)?;
        self.slab.try_remove(handle.slot as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many outboxes wait for the flusher.
    pub(crate) fn waiting(&self) -> usize {
        self.dirty.len()
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.slab.iter().filter_map(|(slot, _)| self.handle(u32::try_from(slot).ok()?)).collect()
    }

    /// Puts whole frames into an outbox. The flusher sends them at the end of the turn.
    pub(crate) fn send(&mut self, slot: u32, frames: Bytes) {
        let Some(session) = self.slab.get_mut(slot as usize) else { return };
        session.outbox.push(frames);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(slot);
        }
        if session.outbox.excess() > self.outbox_limit {
            self.overfull.push(slot);
        }
    }

    /// [`Sessions::send`] for one delivery; in an event stream with the id that resumes behind it.
    pub(crate) fn send_event(&mut self, slot: u32, happening: &Happening, frames: Bytes) {
        if let Some(session) = self.slab.get_mut(slot as usize)
            && let Some(stream) = session.stream()
            && let Happening::Message(message) = happening
        {
            let id = stream.advance(&message.channel, message.position);
            self.send(slot, Bytes::from(format!("id: {id}\n")));
        }
        self.send(slot, frames);
    }

    /// Marks a session for the flusher although nothing was added: its socket takes bytes again.
    pub(crate) fn touch(&mut self, slot: u32) {
        if let Some(session) = self.slab.get_mut(slot as usize)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The slots to be flushed; each is clean again.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for slot in &dirty {
            if let Some(session) = self.slab.get_mut(*slot as usize) {
                session.dirty = false;
            }
        }
        dirty
    }

    /// Gives the list of [`Sessions::take_dirty`] back, for its memory.
    pub(crate) fn recycle(&mut self, mut list: Vec<u32>) {
        if self.dirty.is_empty() {
            list.clear();
            self.dirty = list;
        }
    }

    /// Sessions that have more unsent bytes than they may.
    pub(crate) fn take_overfull(&mut self) -> Vec<Handle> {
        let overfull = std::mem::take(&mut self.overfull);
        overfull.into_iter().filter_map(|slot| self.handle(slot)).collect()
    }
}
