//! From long polling to WebSocket: the client probes the new transport while the old one goes on, then changes over.

use std::io;

use bytes::Bytes;
use xpush_wire::engine::{self, Kind, Packet};
use xpush_wire::ws::{self, Message};

use crate::dialect;
use crate::fanout::inbox::Handle;
use crate::session::outbox::{Flushed, Outbox};
use crate::session::sid;
use crate::session::{Session, Transport};
use crate::shard::{Shard, Timer};
use crate::transport::Probe;
use crate::transport::io::Io;
use crate::transport::stream::{READS, token};

/// How long a probing client's hanging poll may go on, in ms: the client waits for its end.
const NOOP_MS: u64 = 100;

/// A WebSocket that is not yet the session's transport.
pub(crate) struct Probing {
    /// Tells its timers from those of the session's earlier probes.
    number: u32,
    io: Io,
    decoder: ws::Decoder,
    outbox: Outbox,
    /// The probe's ping has been heard: there is only one.
    pinged: bool,
}

/// What a probe's bytes have come to.
enum Heard {
    Nothing,
    /// It was the probe's ping.
    Ping,
    /// The client changes over; what came behind it.
    Upgrade(Vec<u8>),
    Garbage,
}

impl Shard {
    pub(crate) fn begin_probe(&mut self, probe: Probe) {
        let Probe { sid, stream: mut io, early, response } = probe;
        let number = self.next_number();
        let Some(session) = self.sessions.get(sid.handle) else { return };
        let polls = matches!(session.transport, Transport::Polling(_));
        if !sid::same(&session.secret, &sid.secret) || !polls || session.probe.is_some() || session.closing {
            return; // the stream is dropped: the handshake fails, the session goes on
        }
        if let Some(registry) = &self.registry
            && io.register(registry, token(sid.handle, true)).is_err()
        {
            return;
        }
        let mut outbox = Outbox::default();
        outbox.push(response);
        let decoder = ws::Decoder::new();
        session.probe = Some(Box::new(Probing { number, io, decoder, outbox, pinged: false }));
        let patience = self.node.config.limits.handshake_ms;
        self.arm(patience, Timer::Probe(sid.handle, number));
        self.write_probe(sid.handle, None);
        if !early.is_empty() {
            self.take_probe_bytes(sid.handle, &mut early.to_vec());
        }
        self.read_probe(sid.handle);
    }

    pub(crate) fn read_probe(&mut self, handle: Handle) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for round in 0.. {
            let Some(probe) = self.sessions.get(handle).and_then(|session| session.probe.as_mut()) else {
                break;
            };
            if round >= READS {
                self.unread.push(handle);
                break;
            }
            match probe.io.read(&mut buffer) {
                Ok(0) => {
                    self.end_probe(handle);
                    break;
                }
                Ok(n) => self.take_probe_bytes(handle, &mut buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.end_probe(handle);
                    break;
                }
            }
        }
        self.buffer = buffer;
        // Bytes behind the change-over may have come with it.
        if self.sessions.get(handle).is_some_and(|session| matches!(session.transport, Transport::Socket(_)))
        {
            self.unread.push(handle);
        }
    }

    fn take_probe_bytes(&mut self, handle: Handle, bytes: &mut [u8]) {
        let Some(probe) = self.sessions.get(handle).and_then(|session| session.probe.as_mut()) else {
            return;
        };
        match probe.hear(bytes) {
            Heard::Nothing => {}
            Heard::Garbage => self.end_probe(handle),
            Heard::Ping => {
                let number = probe.number;
                let mut pong = Vec::new();
                dialect::engine_packet(Kind::Pong, "probe", &mut pong);
                self.write_probe(handle, Some(pong.into()));
                self.end_poll_for_probe(handle, number);
            }
            Heard::Upgrade(mut rest) => {
                self.change_over(handle);
                if !rest.is_empty() {
                    self.take_bytes(handle, &mut rest);
                }
            }
        }
    }

    /// The client waits for its poll to end before it changes over.
    pub(crate) fn end_poll_for_probe(&mut self, handle: Handle, number: u32) {
        if !self.is_probed_by(handle, number) {
            return;
        }
        if self.poll_waits(handle) {
            let mut noop = Vec::new();
            dialect::engine_packet(Kind::Noop, "", &mut noop);
            self.sessions.send(handle.slot, noop.into());
        }
        self.arm(NOOP_MS, Timer::ProbeNoop(handle, number));
    }

    /// The WebSocket is the session's transport from here on; the outbox goes with it.
    fn change_over(&mut self, handle: Handle) {
        if self.poll_waits(handle) {
            let mut noop = Vec::new();
            dialect::engine_packet(Kind::Noop, "", &mut noop);
            // It must leave by the poll, and before it what waits in the outbox.
            self.sessions.send(handle.slot, noop.into());
            self.flush_poll(handle);
        }
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(mut probe) = session.probe.take() else { return };
        if let Some(registry) = &self.registry
            && let Err(error) = probe.io.reregister(registry, token(handle, false))
        {
            tracing::warn!(%error, "cannot register an upgraded socket");
            return self.gone(handle);
        }
        session.adopt(*probe);
        self.sessions.touch(handle.slot);
    }

    pub(crate) fn probe_is_over(&mut self, handle: Handle, number: u32) {
        if self.is_probed_by(handle, number) {
            self.count_refusal(xpush_core::Code::HandshakeTimeout);
            self.end_probe(handle);
        }
    }

    /// Whether the probe of this number goes on.
    fn is_probed_by(&mut self, handle: Handle, number: u32) -> bool {
        let probe = self.sessions.get(handle).and_then(|session| session.probe.as_ref());
        probe.is_some_and(|probe| probe.number == number)
    }

    fn end_probe(&mut self, handle: Handle) {
        if let Some(session) = self.sessions.get(handle) {
            session.probe = None;
        }
    }

    fn write_probe(&mut self, handle: Handle, frame: Option<Bytes>) {
        let now = self.now;
        let Some(probe) = self.sessions.get(handle).and_then(|session| session.probe.as_mut()) else {
            return;
        };
        frame.into_iter().for_each(|frame| probe.outbox.push(frame));
        // A few bytes into an empty socket buffer: a peer for whom that does not do is not waited for.
        if !matches!(probe.outbox.flush(&mut probe.io, now), Ok(Flushed::All)) {
            self.end_probe(handle);
        }
    }
}

impl Probing {
    fn hear(&mut self, mut bytes: &mut [u8]) -> Heard {
        const SMALL: usize = 64;
        let mut heard = Heard::Nothing;
        loop {
            let packet = match self.decoder.next(&mut bytes, SMALL) {
                Ok(Some(Message::Text(text))) => engine::read_text(text),
                Ok(Some(Message::Ping(_) | Message::Pong(_))) => continue,
                Ok(None) => return heard,
                Ok(Some(_)) | Err(_) => return Heard::Garbage,
            };
            match packet {
                Ok(Packet::Text(Kind::Ping, "probe")) if !self.pinged => {
                    self.pinged = true;
                    heard = Heard::Ping;
                }
                Ok(Packet::Text(Kind::Upgrade, _)) => return Heard::Upgrade(bytes.to_vec()),
                _ => return Heard::Garbage,
            }
        }
    }
}

impl Session {
    fn adopt(&mut self, probe: Probing) {
        self.transport = Transport::Socket(probe.io);
        self.decoder = probe.decoder;
    }
}
