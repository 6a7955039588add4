//! One connection: TCP, WebSocket handshake, Engine.IO and Socket.IO handshake, subscription, then messages.
//!
//! The WebSocket protocol is tungstenite's, fed from one read buffer that all connections share: one `read` by
//! readiness, whatever the number of messages in it.

use crate::{
    dialect::{CONNECT, Dialect, PONG, Packet},
    payload::{Clock, Payload, Stamp},
};
use mio::net::TcpStream;
use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    rc::Rc,
};
use tungstenite::{
    Error, Message,
    handshake::{client::generate_key, derive_accept_key},
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

/// Each connection's own buffer, which only holds what is left of a read: a part of one frame.
const OWN_BUFFER: usize = 2048;
/// A handshake's answer that is longer than this is none.
const MAX_ANSWER: usize = 16 * 1024;
/// How often a message is also read by a real JSON parser: the first of each connection, then every so many.
const CLOSE_LOOK_EVERY: u32 = 256;

/// What all connections use, one at a time.
pub(crate) struct Desk {
    pub(crate) dialect: Dialect,
    pub(crate) payload: Payload,
    /// Path and query of the WebSocket's URL.
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) buffer: Box<[u8]>,
    pub(crate) clock: Clock,
    /// The time of the last read.
    pub(crate) read_ns: u64,
}

/// A message that arrived intact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) stamp: Stamp,
    /// When the bytes were read, on the clock that the stamp tells.
    pub(crate) at_ns: u64,
}

/// What a connection tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Connected, and subscribed if it was to.
    Ready,
    Message(Arrival),
    /// A message that cannot be read or is not as it was sent.
    Damaged(String),
    Acked(u32),
    /// A command was refused.
    Refused(String),
    /// The server ended the connection.
    Gone(String),
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    phase: Phase,
    /// What it subscribes to as soon as it may.
    channel: Option<Rc<str>>,
    next_ack: u32,
    messages: u32,
    /// What the server said before it hung up.
    last_words: Option<Box<str>>,
}

enum Phase {
    Dialing,
    /// The WebSocket handshake was sent with this key; this much of the answer is here.
    Shaking {
        key: String,
        answer: Vec<u8>,
    },
    /// Boxed, so that 15,000 clients' states lie small and dense.
    Open {
        socket: Box<WebSocketContext>,
        ready: bool,
    },
    Gone,
}

/// A read that already happened, and the stream to write to: what tungstenite works on.
struct Wire<'a> {
    input: &'a [u8],
    output: &'a TcpStream,
}

impl Client {
    /// Starts to connect.
    pub(crate) fn dial(addr: SocketAddr, channel: Option<Rc<str>>) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, phase: Phase::Dialing, channel, next_ack: 0, messages: 0, last_words: None })
    }

    pub(crate) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// The socket takes bytes.
    pub(crate) fn writable(&mut self, desk: &Desk, hear: &mut impl FnMut(Heard)) {
        let done = match &self.phase {
            Phase::Dialing => self.shake(desk),
            Phase::Open { .. } => self.flush(),
            _ => Ok(()),
        };
        self.settle(done, hear);
    }

    /// The socket has bytes; `closed`: and after them it ends.
    pub(crate) fn readable(&mut self, desk: &mut Desk, closed: bool, hear: &mut impl FnMut(Heard)) {
        while !self.is_gone() {
            let read = match (&self.stream).read(&mut desk.buffer) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    desk.read_ns = desk.clock.now_ns();
                    self.take(desk, count, hear).map(|()| count)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => Err(error),
            };
            // A short read emptied the socket; readiness is edge-triggered, so there will be a new edge.
            if !closed && read.as_ref().is_ok_and(|&count| count < desk.buffer.len()) {
                return;
            }
            self.settle(read.map(|_| ()), hear);
        }
    }

    /// Queues a publish; [`flush`](Self::flush) sends what was queued. Returns the ack's number.
    pub(crate) fn publish(&mut self, desk: &mut Desk, channel: &str, stamp: Stamp) -> io::Result<u32> {
        let ack = self.next_ack;
        self.next_ack += 1;
        let packet = desk.dialect.publish(ack, channel, desk.payload.write(stamp));
        self.queue(packet)?;
        Ok(ack)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Phase::Open { socket, .. } = &mut self.phase else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match socket.flush(&mut Wire { input: &[], output: &self.stream }) {
            Ok(()) => Ok(()),
            // The rest leaves when the socket is writable again.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn shake(&mut self, desk: &Desk) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        let key = generate_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
            desk.path, desk.host
        );
        // A new socket's buffer has room for it.
        (&self.stream).write_all(request.as_bytes())?;
        self.phase = Phase::Shaking { key, answer: Vec::new() };
        Ok(())
    }

    /// Takes the `count` bytes that were read.
    fn take(&mut self, desk: &Desk, count: usize, hear: &mut impl FnMut(Heard)) -> io::Result<()> {
        let mut input = &desk.buffer[..count];
        if let Phase::Shaking { key, answer } = &mut self.phase {
            let before = answer.len();
            answer.extend_from_slice(input);
            let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
                return if answer.len() > MAX_ANSWER {
                    Err(io::Error::other("endless answer"))
                } else {
                    Ok(())
                };
            };
            check_upgrade(&answer[..end], key)?;
            input = &input[end + 4 - before..];
            let config = WebSocketConfig::default().read_buffer_size(OWN_BUFFER);
            let socket = Box::new(WebSocketContext::new(Role::Client, Some(config)));
            self.phase = Phase::Open { socket, ready: false };
        }
        self.read_messages(desk, input, hear)
    }

    fn read_messages(&mut self, desk: &Desk, input: &[u8], hear: &mut impl FnMut(Heard)) -> io::Result<()> {
        let mut consumed = 0;
        loop {
            let Phase::Open { socket, .. } = &mut self.phase else { return Ok(()) };
            let mut wire = Wire { input: &input[consumed..], output: &self.stream };
            let read = socket.read(&mut wire);
            consumed = input.len() - wire.input.len();
            match read {
                Ok(Message::Text(text)) => self.packet(desk, &text, hear)?,
                Ok(Message::Close(frame)) => {
                    let reason = frame.map_or_else(|| "closed".into(), |frame| frame.to_string());
                    self.last_words.get_or_insert(reason.into());
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn packet(&mut self, desk: &Desk, text: &str, hear: &mut impl FnMut(Heard)) -> io::Result<()> {
        match Packet::parse(text) {
            Packet::Message(packet) => hear(self.message(desk, packet)),
            Packet::Ack(_, arguments) if !desk.dialect.accepted(arguments) => {
                hear(Heard::Refused(arguments.into()))
            }
            Packet::Ack(number, _) => match &mut self.phase {
                Phase::Open { ready, .. } if !*ready => {
                    *ready = true;
                    hear(Heard::Ready);
                }
                _ => hear(Heard::Acked(number)),
            },
            Packet::Open => self.send(CONNECT.into())?,
            Packet::Ping => self.send(PONG.into())?,
            Packet::Connected => match self.channel.clone() {
                Some(channel) => {
                    let ack = self.next_ack;
                    self.next_ack += 1;
                    self.send(desk.dialect.subscribe(ack, &channel))?;
                }
                None => {
                    if let Phase::Open { ready, .. } = &mut self.phase {
                        *ready = true;
                    }
                    hear(Heard::Ready);
                }
            },
            Packet::Refusal(text) => {
                self.last_words = Some(text.into());
                if !self.is_ready() {
                    hear(Heard::Refused(text.into()));
                }
            }
            Packet::Other => {}
        }
        Ok(())
    }

    fn message(&mut self, desk: &Desk, packet: &str) -> Heard {
        let close_look = self.messages.is_multiple_of(CLOSE_LOOK_EVERY);
        self.messages += 1;
        let channel = self.channel.as_deref().unwrap_or_default();
        match desk.payload.read(packet) {
            Some(stamp) if !close_look || desk.dialect.is_well_formed(packet, channel) => {
                Heard::Message(Arrival { stamp, at_ns: desk.read_ns })
            }
            _ => Heard::Damaged(packet.into()),
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Open { ready: true, .. })
    }

    fn queue(&mut self, packet: String) -> io::Result<()> {
        let Phase::Open { socket, .. } = &mut self.phase else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match socket.write(&mut Wire { input: &[], output: &self.stream }, Message::text(packet)) {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn send(&mut self, packet: String) -> io::Result<()> {
        self.queue(packet)?;
        self.flush()
    }

    /// Ends the connection if something failed.
    fn settle(&mut self, done: io::Result<()>, hear: &mut impl FnMut(Heard)) {
        if let Err(error) = done {
            self.phase = Phase::Gone;
            let error = error.to_string();
            hear(Heard::Gone(self.last_words.take().map_or(error, String::from)));
        }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.input.read(into) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut output = self.output;
        output.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// RFC 6455, section 4.1: the answer must be 101 and prove that the key was read.
fn check_upgrade(answer: &[u8], key: &str) -> io::Result<()> {
    let answer = String::from_utf8_lossy(answer);
    let mut lines = answer.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Err(io::Error::other(format!("not upgraded: {status}")));
    }
    let accept = lines
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim()));
    if accept != Some(&derive_accept_key(key.as_bytes())) {
        return Err(io::Error::other("wrong Sec-WebSocket-Accept"));
    }
    Ok(())
}
