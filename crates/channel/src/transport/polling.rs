//! Long polling: requests stay with the HTTP front; a session's outbox is drained into the poll that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;
use xpush_core::Code;
use xpush_wire::engine::{self, PayloadWriter};
use xpush_wire::ws::{self, Opcode};

use crate::fanout::inbox::Handle;
use crate::session::Transport;
use crate::session::sid::{self, Sid};
use crate::shard::Shard;
use crate::transport::stream::Flow;

/// Packets of one polling body: more would keep a shard from its other connections.
const PACKETS: usize = 4_096;

/// Packets of one answer to a poll: python-engineio refuses more, and the rest goes with the next poll.
const ANSWER: usize = 16;

/// A session's polling half.
pub(crate) struct Polling {
    /// The poll that waits for something to be sent.
    waiting: Option<oneshot::Sender<Answer>>,
    /// The front has the last payload in hand.
    collected: Arc<AtomicBool>,
    version: engine::Version,
    /// The client cannot take binary bodies.
    base64: bool,
}

/// A `GET` that waits for packets.
pub(crate) struct Poll {
    pub(crate) sid: Sid,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// A `POST` that brings packets.
pub(crate) struct Post {
    pub(crate) sid: Sid,
    pub(crate) body: Bytes,
    pub(crate) binary: bool,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What the front answers a polling request.
#[derive(Debug)]
pub(crate) enum Answer {
    Payload(Payload),
    /// `ok`, to a POST.
    Taken,
    Refused(Code),
}

/// Packets for a poll; they are in no outbox any more.
#[derive(Debug)]
pub(crate) struct Payload {
    body: Bytes,
    binary: bool,
    collected: Arc<AtomicBool>,
}

impl Payload {
    /// The body, and whether it is `application/octet-stream`. Whoever asks writes it to the client at once.
    pub(crate) fn collect(self) -> (Bytes, bool) {
        self.collected.store(true, Ordering::Release);
        (self.body, self.binary)
    }
}

impl Polling {
    /// A new session: the answer to its first request is the open packet.
    pub(crate) fn begin(version: engine::Version, base64: bool, answer: oneshot::Sender<Answer>) -> Self {
        Self { waiting: Some(answer), collected: Arc::new(AtomicBool::new(true)), version, base64 }
    }

    /// The session ends: so does the poll that waits, with one packet.
    pub(crate) fn end(&mut self, last: engine::Kind) {
        let mut payload = PayloadWriter::new(self.version, self.base64);
        payload.text(char::from(b'0' + last as u8).encode_utf8(&mut [0; 4]));
        self.answer(payload);
    }

    /// Whether a poll hangs. One whose client has given it up does not: what it would have got is the next one's.
    fn waits(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.is_closed())
    }

    fn answer(&mut self, payload: PayloadWriter) {
        let Some(waiting) = self.waiting.take() else { return };
        let (body, binary) = payload.finish();
        self.collected.store(false, Ordering::Relaxed);
        // A client that has gone at this very moment misses it: its session ends when it polls again, or by the heartbeat.
        let _ = waiting.send(Answer::Payload(Payload { body, binary, collected: self.collected.clone() }));
    }
}

impl Shard {
    pub(crate) fn poll(&mut self, poll: Poll) {
        let Poll { sid, answer } = poll;
        let Some(polling) = self.polling(sid) else {
            return refuse(answer, self.unknown_or_upgraded(sid));
        };
        if !polling.collected.load(Ordering::Acquire) {
            // The last answer has reached nobody. Going on would leave a hole: the client is to connect anew, and to resume.
            refuse(answer, Code::UnknownSession);
            return self.gone(sid.handle);
        }
        if polling.waits() {
            polling.end(engine::Kind::Close);
            refuse(answer, Code::BadRequest);
            return self.cut_off(sid.handle, Code::BadOrder);
        }
        polling.waiting = Some(answer);
        if let Some(session) = self.sessions.get(sid.handle) {
            session.heard = self.now;
        }
        self.sessions.touch(sid.handle.slot);
    }

    pub(crate) fn posted(&mut self, post: Post) {
        let Post { sid, body, binary, answer } = post;
        if self.polling(sid).is_none() {
            return refuse(answer, self.unknown_or_upgraded(sid));
        }
        let Some(session) = self.sessions.get(sid.handle) else { return };
        session.heard = self.now;
        let Some(version) = session.wire.engine() else { return refuse(answer, Code::BadRequest) };
        let result = engine::read_payload(version, binary, &body, PACKETS, |packet| {
            match self.engine_packet(sid.handle, packet) {
                Flow::Over => Err(Stopped::Session),
                // A body is bounded; a poller's next one is not taken before this one is answered.
                Flow::Go | Flow::Pause => Ok(()),
            }
        });
        match result {
            Ok(()) => drop(answer.send(Answer::Taken)),
            Err(Stopped::Session) => match self.sessions.get(sid.handle) {
                // The client itself has closed the session.
                None => drop(answer.send(Answer::Taken)),
                Some(_) => refuse(answer, Code::BadRequest),
            },
            Err(Stopped::Payload) => {
                refuse(answer, Code::BadPacket);
                self.cut_off(sid.handle, Code::BadPacket);
            }
        }
    }

    /// Ends the waiting poll with what the outbox holds, as much as the client takes at once.
    pub(crate) fn flush_poll(&mut self, handle: Handle) {
        let max = self.node.config.limits.payload;
        let Some(session) = self.sessions.get(handle) else { return };
        let (Some(version), Transport::Polling(polling)) = (session.wire.engine(), &mut session.transport)
        else {
            return;
        };
        if session.outbox.is_empty() || !polling.waits() {
            return self.farewell_if_done(handle);
        }
        let mut payload = PayloadWriter::new(version, polling.base64);
        let mut packets = 0;
        'chunks: while let Some(mut chunk) = session.outbox.pop() {
            let mut rest = chunk.clone();
            while let Some((opcode, data)) = ws::split_frame(&mut rest) {
                // socket.io-client hands packets on later than it closes: the close packet has an answer of its own.
                let closes = opcode == Opcode::Text && data[..] == [b'0' + engine::Kind::Close as u8];
                if packets == ANSWER || (packets > 0 && (closes || payload.len() + data.len() > max)) {
                    session.outbox.push_front(chunk);
                    break 'chunks;
                }
                packets += 1;
                chunk.clone_from(&rest);
                match opcode {
                    Opcode::Text => payload.text(std::str::from_utf8(&data).unwrap_or_default()),
                    // Version 3's type byte belongs to WebSocket's framing here.
                    Opcode::Binary if version == engine::Version::V3 => {
                        payload.binary(data.get(1..).unwrap_or(&[]))
                    }
                    Opcode::Binary => payload.binary(&data),
                    Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
                }
            }
        }
        if payload.is_empty() {
            return self.farewell_if_done(handle);
        }
        polling.answer(payload);
        self.farewell_if_done(handle);
    }

    /// Whether a poll hangs.
    pub(crate) fn poll_waits(&mut self, handle: Handle) -> bool {
        self.sessions.get(handle).is_some_and(
            |session| matches!(&session.transport, Transport::Polling(polling) if polling.waits()),
        )
    }

    /// The polling half of the session that a sid names and proves.
    fn polling(&mut self, sid: Sid) -> Option<&mut Polling> {
        let session = self.sessions.get(sid.handle)?;
        match &mut session.transport {
            Transport::Polling(polling) if sid::same(&session.secret, &sid.secret) => Some(polling.as_mut()),
            _ => None,
        }
    }

    fn unknown_or_upgraded(&mut self, sid: Sid) -> Code {
        match self.sessions.get(sid.handle) {
            Some(session) if sid::same(&session.secret, &sid.secret) => Code::BadRequest,
            _ => Code::UnknownSession,
        }
    }

    fn farewell_if_done(&mut self, handle: Handle) {
        let done = |session: &mut crate::session::Session| {
            session.closing && session.in_progress == 0 && session.outbox.is_empty()
        };
        if self.sessions.get(handle).is_some_and(done) {
            self.drop_session(handle);
        }
    }
}

/// Why a body was not taken to its end.
enum Stopped {
    Session,
    Payload,
}

impl From<engine::Error> for Stopped {
    fn from(_: engine::Error) -> Self {
        Self::Payload
    }
}

fn refuse(answer: oneshot::Sender<Answer>, code: Code) {
    let _ = answer.send(Answer::Refused(code));
}
