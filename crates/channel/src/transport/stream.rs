//! Sockets: reading with back-pressure, and the flusher.

use std::io as stdio;

use mio::Token;
use xpush_core::Code;
use xpush_wire::ws::{self, Message, Opcode};

use crate::dialect::Wire;
use crate::fanout::inbox::Handle;
use crate::session::outbox::Flushed;
use crate::session::{Session, Transport};
use crate::shard::{Shard, Timer};
use crate::transport::api::Connections;

/// Commands of one connection that may be in progress; with more, nothing is read from it.
const WINDOW: u16 = 64;
/// Reads of one socket in a turn; what is left waits for the next one.
pub(super) const READS: usize = 4;

/// Whether to go on with a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    /// Too many commands are in progress: the rest waits.
    Pause,
    /// The session is over.
    Over,
}

/// A session's token; the socket that probes for it has the next one.
pub(crate) fn token(handle: Handle, probe: bool) -> Token {
    Token(handle.slot as usize * 2 + usize::from(probe))
}

impl Shard {
    /// What epoll says of a socket.
    pub(crate) fn ready(&mut self, token: Token, readable: bool, writable: bool, closed: bool) {
        let Ok(slot) = u32::try_from(token.0 / 2) else { return };
        if Connections::has(slot) {
            return self.api_ready(slot, readable, writable, closed);
        }
        let Some(handle) = self.sessions.handle(slot) else { return };
        if token.0 % 2 == 1 {
            if readable {
                self.read_probe(handle);
            }
            return;
        }
        if writable && self.sessions.get(handle).is_some_and(|session| session.has_unsent()) {
            self.sessions.touch(slot);
        }
        if readable {
            self.read(handle, closed);
        }
    }

    /// Goes on with sockets that had more than their share, or that were paused.
    pub(crate) fn take_unread(&mut self) {
        for handle in std::mem::take(&mut self.unread) {
            if Connections::has(handle.slot) {
                self.read_api(handle, true);
            } else if self.sessions.get(handle).is_some_and(|session| session.probe.is_some()) {
                self.read_probe(handle);
            } else {
                self.read(handle, true);
            }
        }
    }

    /// Reads until the socket has nothing more. `closed`: the peer will send no more, so a short read is not the end.
    fn read(&mut self, handle: Handle, closed: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for round in 0.. {
            let Some(session) = self.sessions.get(handle) else { break };
            if session.paused {
                break;
            }
            if !session.backlog.is_empty() {
                let mut backlog = std::mem::take(&mut session.backlog);
                if self.take_bytes(handle, &mut backlog) != Flow::Go {
                    break;
                }
                continue;
            }
            if round >= READS {
                self.unread.push(handle);
                break;
            }
            let Transport::Socket(io) = &mut session.transport else { break };
            match io.read(&mut buffer) {
                Ok(0) => {
                    self.gone(handle);
                    break;
                }
                Ok(n) => {
                    let dry = io.is_dry(n < buffer.len());
                    if self.take_bytes(handle, &mut buffer[..n]) != Flow::Go || (dry && !closed) {
                        break;
                    }
                }
                Err(error) if error.kind() == stdio::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == stdio::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone(handle);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Decodes frames and handles them in order. What is not handled because of a pause is kept.
    pub(crate) fn take_bytes(&mut self, handle: Handle, bytes: &mut [u8]) -> Flow {
        let max = self.node.config.limits.payload;
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        if session.wire == Wire::Sse || session.closing {
            return Flow::Go; // nothing that such a client says matters
        }
        session.heard = self.now;
        let mut decoder = std::mem::take(&mut session.decoder);
        let mut rest = bytes;
        let flow = loop {
            match decoder.next(&mut rest, max) {
                Ok(Some(message)) => {
                    let flow = self.take_frame(handle, message);
                    if flow != Flow::Go {
                        break flow;
                    }
                }
                Ok(None) => break Flow::Go,
                Err(error) => {
                    self.refuse_frame(handle, error);
                    break Flow::Over;
                }
            }
        };
        if let Some(session) = self.sessions.get(handle) {
            session.decoder = decoder;
            if flow == Flow::Pause {
                session.paused = true;
                session.backlog = rest.to_vec();
            }
        }
        flow
    }

    fn take_frame(&mut self, handle: Handle, message: Message<'_>) -> Flow {
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        session.awaits_pong = false;
        let wire = session.wire;
        match message {
            Message::Text(text) if wire == Wire::Plain => self.plain_message(handle, text),
            Message::Text(text) => self.engine_text(handle, text),
            Message::Binary(_) if wire == Wire::Plain => {
                self.close(handle, Code::BadPacket.into());
                Flow::Over
            }
            Message::Binary(data) => self.engine_binary(handle, data),
            Message::Ping(payload) => {
                if !self.may_go_on(handle) {
                    return Flow::Over;
                }
                let mut frame = Vec::with_capacity(payload.len() + 2);
                ws::write_frame(Opcode::Pong, payload, &mut frame);
                self.sessions.send(handle.slot, frame.into());
                Flow::Go
            }
            Message::Pong(_) => Flow::Go,
            Message::Close(code, _) => {
                self.close_answered(handle, code);
                Flow::Over
            }
        }
    }

    fn refuse_frame(&mut self, handle: Handle, error: ws::Error) {
        let code = if error == ws::Error::TooLarge { Code::TooLarge } else { Code::BadPacket };
        let mut frame = Vec::new();
        ws::write_close(error.close_code(), code.as_str(), &mut frame);
        self.close_with(handle, code, frame);
    }

    /// A command begins; whether the next one may be read.
    pub(crate) fn command_begins(&mut self, handle: Handle) -> Flow {
        let Some(session) = self.sessions.get(handle) else { return Flow::Over };
        session.in_progress += 1;
        if session.in_progress >= WINDOW { Flow::Pause } else { Flow::Go }
    }

    /// A command was answered; a paused connection goes on when half of its window is free.
    pub(crate) fn command_ends(&mut self, handle: Handle) {
        let room = self.node.config.limits.payload;
        let Some(session) = self.sessions.get(handle) else { return };
        session.in_progress = session.in_progress.saturating_sub(1);
        if session.paused && session.in_progress <= WINDOW / 2 && !session.holds_too_much(room) {
            session.paused = false;
            self.unread.push(handle);
        }
        if session.closing && session.in_progress == 0 {
            self.say_last_words(handle);
        }
    }

    /// Sends what an outbox holds, as far as the socket or the waiting poll takes it.
    pub(crate) fn flush(&mut self, slot: u32) {
        let now = self.now;
        let Some(handle) = self.sessions.handle(slot) else { return };
        let Some(session) = self.sessions.get(handle) else { return };
        let Transport::Socket(io) = &mut session.transport else {
            return self.flush_poll(handle);
        };
        match session.outbox.flush(io, now) {
            Ok(Flushed::All) if session.closing && session.in_progress == 0 => {
                io.finish();
                self.farewell(handle);
            }
            Ok(Flushed::All | Flushed::Stalled { already: true }) => {}
            Ok(Flushed::Stalled { already: false }) => {
                let age = self.node.config.limits.outbox_age_ms;
                self.arm(age, Timer::Outbox(handle));
            }
            Err(_) => self.gone(handle),
        }
    }

    /// The outbox was stuck some time ago; it is cut off if it still is.
    pub(crate) fn outbox_is_old(&mut self, handle: Handle) {
        let (now, age) = (self.now, self.node.config.limits.outbox_age_ms);
        let Some(since) =
            self.sessions.get(handle).and_then(|session: &mut Session| session.outbox.stalled())
        else {
            return;
        };
        match age.checked_sub(now.since(since)) {
            Some(left) if left > 0 => self.arm(left, Timer::Outbox(handle)),
            _ => self.cut_off(handle, Code::SlowConsumer),
        }
    }

    pub(crate) fn cut_off_if_overfull(&mut self, handle: Handle) {
        let limit = self.node.config.limits.outbox;
        if self.sessions.get(handle).is_none_or(|session| session.outbox.excess() <= limit) {
            return;
        }
        // Perhaps the socket takes it all: only what stays over the bound counts.
        self.flush(handle.slot);
        if self.sessions.get(handle).is_some_and(|session| session.outbox.excess() > limit) {
            self.cut_off(handle, Code::SlowConsumer);
        }
    }
}
