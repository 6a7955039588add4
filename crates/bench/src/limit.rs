//! The yardstick: about the least that a server can do for either dialect.
//!
//! One thread, one epoll, no timers, no allocation by message. A publish is encoded once and the same bytes go to every
//! member; what one turn of the loop brings is written to each connection at once. It understands just what the load
//! generator says, checks nothing, and never pings: not a server to learn manners from, but one to divide by.
//!
//! Sources: RFC 6455, sections 4.2.2 and 5.2; Engine.IO protocol v4; Socket.IO protocol v5.

use base64::{Engine, prelude::BASE64_STANDARD};
use mio::{
    Events, Interest, Poll, Registry, Token,
    net::{TcpListener, TcpStream},
};
use sha1::{Digest, Sha1};
use slab::Slab;
use std::{
    collections::HashMap,
    io::{self, ErrorKind, IoSlice, Read, Write},
    mem,
    net::SocketAddr,
    ops::Range,
};

const READ_BUFFER: usize = 64 * 1024;
const EVENTS_A_TURN: usize = 1024;
/// As much as clients of a storm may be waiting to be accepted.
const BACKLOG: i32 = 4096;
/// A client that is further behind is cut off.
const MAX_PENDING: usize = 4 << 20;
const LISTENER: Token = Token(usize::MAX);
/// No room, no reply.
const NONE: u32 = u32::MAX;

const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const OPEN: &[u8] =
    br#"0{"sid":"limit","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const CONNECTED: &[u8] = br#"40{"sid":"limit"}"#;
/// Good enough for both dialects.
const JOINED: &[u8] = br#"[{"ok":{}}]"#;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Run the limit server.
#[derive(clap::Args, Debug)]
pub(crate) struct Limit {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// Write each message at once, instead of once a connection and turn
    #[arg(long)]
    uncorked: bool,
}

pub(crate) struct Server {
    poll: Poll,
    pub(crate) listener: TcpListener,
    connections: Slab<Connection>,
    rooms: Vec<Room>,
    names: HashMap<Box<[u8]>, u32>,
    turn: Turn,
    buffer: Box<[u8]>,
    uncorked: bool,
}

/// A dialect's fixed bytes. In XPUSH's, what is answered is as long as what XPUSH answers.
struct Words {
    join: &'static [u8],
    /// Before the name.
    publish: &'static [u8],
    /// Between name and data.
    data: &'static [u8],
    /// Before the name, if it is told; between name and data; after them.
    message: [&'static [u8]; 3],
    /// The arguments of the ack: before and after the name.
    published: [&'static [u8]; 2],
    tells_name: bool,
}

const SOCKETIO: Words = Words {
    join: br#"["join",""#,
    publish: br#"["publish",{"room":""#,
    data: br#"","data":"#,
    message: [br#"42["message","#, b"", b"]"],
    published: [b"[", b"]"],
    tells_name: false,
};
const XPUSH: Words = Words {
    join: br#"["subscribe",{"channel":""#,
    publish: br#"["publish",{"channel":""#,
    data: br#"","event":"message","data":"#,
    message: [
        br#"42["message",{"channel":""#,
        br#"","id":"0123456789","event":"message","data":"#,
        br#","from":{"user":"g-0123456789a"},"at":1700000000000}]"#,
    ],
    published: [br#"[{"ok":{"channel":""#, br#"","id":"0123456789","at":1700000000000}}]"#],
    tells_name: true,
};

struct Connection {
    stream: TcpStream,
    /// Where it is a member, and its place there.
    room: u32,
    place: u32,
    /// Its reply of this turn.
    reply: u32,
    upgraded: bool,
    /// Only for those whose input is incomplete or whose output is stuck.
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Default)]
struct Room {
    members: Vec<u32>,
    /// The frames of this turn.
    frames: Vec<u8>,
}

/// What this turn has to write.
#[derive(Default)]
struct Turn {
    /// Rooms with frames.
    rooms: Vec<u32>,
    /// Who is answered, by which part of `bytes`.
    replies: Vec<(usize, Range<usize>)>,
    bytes: Vec<u8>,
    /// Who failed while being written to.
    dead: Vec<usize>,
}

impl Limit {
    /// Serves until the process ends.
    pub(crate) fn serve(&self) -> io::Result<()> {
        Server::bind(self.listen, self.uncorked)?.run()
    }
}

impl Server {
    pub(crate) fn bind(listen: SocketAddr, uncorked: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(listen), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: a system call less by connection.
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&listen.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: Slab::new(),
            rooms: Vec::new(),
            names: HashMap::new(),
            turn: Turn::default(),
            buffer: vec![0; READ_BUFFER].into(),
            uncorked,
        })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        loop {
            self.run_turn(&mut events)?;
        }
    }

    fn run_turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            done => done?,
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(key) => {
                    if event.is_writable() {
                        self.write_rest(key);
                    }
                    if event.is_readable() && !self.read(key, event.is_read_closed()) {
                        self.close(key);
                    }
                }
            }
        }
        self.flush();
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let slot = self.connections.vacant_entry();
                    self.poll.registry().register(&mut stream, Token(slot.key()), Interest::READABLE)?;
                    let connection =
                        Connection { stream, room: NONE, place: 0, reply: NONE, upgraded: false, rest: None };
                    slot.insert(connection);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Handles what the socket has; false when the connection is over.
    fn read(&mut self, key: usize, closed: bool) -> bool {
        let mut buffer = mem::take(&mut self.buffer);
        let alive = loop {
            let Some(connection) = self.connections.get_mut(key) else { break true };
            match connection.stream.read(&mut buffer) {
                Ok(0) => break false,
                Ok(count) => {
                    if !self.take(key, &mut buffer[..count]) {
                        break false;
                    }
                    // A short read emptied the socket, and there will be a new edge, unless it has ended already.
                    if !closed && count < buffer.len() {
                        break true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(_) => break false,
            }
        };
        self.buffer = buffer;
        alive
    }

    /// Handles new input, joined to what was incomplete before.
    fn take(&mut self, key: usize, input: &mut [u8]) -> bool {
        let rest =
            self.connections[key].rest.as_mut().map(|rest| mem::take(&mut rest.input)).unwrap_or_default();
        if rest.is_empty() {
            let Some(used) = self.handle(key, input) else { return false };
            if used < input.len() {
                self.connections[key].rest.get_or_insert_default().input = input[used..].to_vec();
            }
            return true;
        }
        let mut joined = rest;
        joined.extend_from_slice(input);
        let Some(used) = self.handle(key, &mut joined) else { return false };
        joined.drain(..used);
        self.connections[key].rest.get_or_insert_default().input = joined;
        true
    }

    /// Handles whole packets and tells how many bytes they had; `None` ends the connection.
    fn handle(&mut self, key: usize, input: &mut [u8]) -> Option<usize> {
        if !self.connections[key].upgraded {
            return self.shake(key, input);
        }
        let mut used = 0;
        while let Some((opcode, payload)) = next_frame(&input[used..]) {
            let (start, end) = (used + payload.start, used + payload.end);
            let (head, body) = input[..end].split_at_mut(start);
            unmask(body, [head[start - 4], head[start - 3], head[start - 2], head[start - 1]]);
            match opcode {
                1 => self.packet(key, body)?,
                8 => return None,
                _ => {}
            }
            if self.uncorked {
                self.flush();
            }
            used = end;
        }
        Some(used)
    }

    fn shake(&mut self, key: usize, input: &[u8]) -> Option<usize> {
        let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else { return Some(0) };
        let Some(nonce) = header(&input[..end], b"sec-websocket-key") else {
            // A probe for readiness. It is too short to get stuck.
            let _ = self.connections[key].stream.write(PLAIN);
            return None;
        };
        let digest = Sha1::new().chain_update(nonce).chain_update(GUID).finalize();
        let mut accept = [0; 28];
        let _ = BASE64_STANDARD.encode_slice(digest, &mut accept);
        self.connections[key].upgraded = true;
        self.reply(key, |bytes| {
            bytes.extend_from_slice(UPGRADE);
            bytes.extend_from_slice(&accept);
            bytes.extend_from_slice(b"\r\n\r\n");
            put_frame(bytes, &[OPEN]);
        });
        Some(end + 4)
    }

    /// One Engine.IO packet; `None` when it is nothing that the load generator says.
    fn packet(&mut self, key: usize, packet: &[u8]) -> Option<()> {
        if packet == b"40" {
            self.reply(key, |bytes| put_frame(bytes, &[CONNECTED]));
            return Some(());
        }
        let Some(event) = packet.strip_prefix(b"42") else { return Some(()) };
        let (ack, arguments) = event.split_at(memchr::memchr(b'[', event)?);
        if let Some((words, rest)) = Words::find(arguments, |words| words.publish) {
            let (name, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
            let data = rest.strip_prefix(words.data)?.strip_suffix(b"}]")?;
            if let Some(&number) = self.names.get(name) {
                let room = &mut self.rooms[number as usize];
                if room.frames.is_empty() {
                    self.turn.rooms.push(number);
                }
                let [before, between, after] = words.message;
                put_frame(&mut room.frames, &[before, words.named(name), between, data, after]);
            }
            let [before, after] = words.published;
            self.reply(key, |bytes| put_frame(bytes, &[b"43", ack, before, words.named(name), after]));
        } else {
            let (_, rest) = Words::find(arguments, |words| words.join)?;
            self.join(key, &rest[..memchr::memchr(b'"', rest)?]);
            self.reply(key, |bytes| put_frame(bytes, &[b"43", ack, JOINED]));
        }
        Some(())
    }

    fn join(&mut self, key: usize, name: &[u8]) {
        self.leave(key);
        let number = self.names.get(name).copied().unwrap_or_else(|| {
            let number = narrow(self.rooms.len());
            self.rooms.push(Room::default());
            self.names.insert(name.into(), number);
            number
        });
        let members = &mut self.rooms[number as usize].members;
        let connection = &mut self.connections[key];
        (connection.room, connection.place) = (number, narrow(members.len()));
        members.push(narrow(key));
    }

    fn leave(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let (room, place) = (mem::replace(&mut connection.room, NONE), connection.place);
        let Some(room) = self.rooms.get_mut(room as usize) else { return };
        room.members.swap_remove(place as usize);
        if let Some(&moved) = room.members.get(place as usize) {
            self.connections[moved as usize].place = place;
        }
    }

    /// Adds to what this connection gets in this turn. A connection's input is handled in one go, so its replies lie
    /// together.
    fn reply(&mut self, key: usize, put: impl FnOnce(&mut Vec<u8>)) {
        let Turn { replies, bytes, .. } = &mut self.turn;
        let connection = &mut self.connections[key];
        if connection.reply == NONE {
            connection.reply = narrow(replies.len());
            replies.push((key, bytes.len()..bytes.len()));
        }
        put(bytes);
        replies[connection.reply as usize].1.end = bytes.len();
    }

    /// Writes what this turn brought: one write by connection.
    fn flush(&mut self) {
        let Self { poll, connections, rooms, turn, .. } = self;
        let registry = poll.registry();
        for number in turn.rooms.drain(..) {
            let Room { members, frames } = &mut rooms[number as usize];
            for &member in &*members {
                let connection = &mut connections[member as usize];
                let reply = match mem::replace(&mut connection.reply, NONE) {
                    NONE => &[],
                    reply => &turn.bytes[turn.replies[reply as usize].1.clone()],
                };
                if !connection.write(frames, reply, registry, member as usize) {
                    turn.dead.push(member as usize);
                }
            }
            frames.clear();
        }
        for (index, (key, range)) in turn.replies.drain(..).enumerate() {
            let Some(connection) = connections.get_mut(key) else { continue };
            if connection.reply != narrow(index) {
                continue;
            }
            connection.reply = NONE;
            if !connection.write(&turn.bytes[range], &[], registry, key) {
                turn.dead.push(key);
            }
        }
        turn.bytes.clear();
        for key in mem::take(&mut self.turn.dead) {
            self.close(key);
        }
    }

    fn write_rest(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(rest) = &mut connection.rest else { return };
        while !rest.output.is_empty() {
            match connection.stream.write(&rest.output) {
                Ok(count) => drop(rest.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(key),
            }
        }
    }

    fn close(&mut self, key: usize) {
        if self.connections.contains(key) {
            self.leave(key);
            self.connections.remove(key);
        }
    }
}

impl Words {
    /// The dialect whose phrase `arguments` begin with, and what follows.
    fn find(arguments: &[u8], phrase: impl Fn(&Self) -> &'static [u8]) -> Option<(&'static Self, &[u8])> {
        [&SOCKETIO, &XPUSH]
            .into_iter()
            .find_map(|words| Some((words, arguments.strip_prefix(phrase(words))?)))
    }

    fn named<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        if self.tells_name { name } else { b"" }
    }
}

impl Connection {
    /// Writes two pieces as one; keeps what the socket does not take. False when the connection is to be closed.
    fn write(&mut self, first: &[u8], second: &[u8], registry: &Registry, key: usize) -> bool {
        let stuck = self.rest.as_ref().is_some_and(|rest| !rest.output.is_empty());
        let written = match () {
            () if stuck => Ok(0),
            () if second.is_empty() => self.stream.write(first),
            () => self.stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
        };
        let written = match written {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if written == first.len() + second.len() {
            return true;
        }
        let output = &mut self.rest.get_or_insert_default().output;
        output.extend_from_slice(&first[written.min(first.len())..]);
        output.extend_from_slice(&second[written.saturating_sub(first.len())..]);
        let watched = stuck || {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.reregister(&mut self.stream, Token(key), both).is_ok()
        };
        watched && self.rest.as_ref().is_none_or(|rest| rest.output.len() <= MAX_PENDING)
    }
}

/// The opcode of the first whole frame, and where its (masked) payload lies.
fn next_frame(input: &[u8]) -> Option<(u8, Range<usize>)> {
    let (head, len) = match *input.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = head + 4..len.checked_add(head + 4)?;
    (input.len() >= payload.end).then_some((input[0] & 0x0f, payload))
}

/// Eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at: usize| chunk[at]));
        chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends a text frame made of parts.
fn put_frame(into: &mut Vec<u8>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    const FIN_TEXT: u8 = 0x81;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..126), _) => into.extend_from_slice(&[FIN_TEXT, short]),
        (_, Ok(medium)) => {
            into.extend_from_slice(&[FIN_TEXT, 126]);
            into.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            into.extend_from_slice(&[FIN_TEXT, 127]);
            into.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        into.extend_from_slice(part);
    }
}

/// The value of a header, by its lower-case name.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at(memchr::memchr(b':', line)?);
        found.eq_ignore_ascii_case(name).then(|| value[1..].trim_ascii())
    })
}

/// Connections and rooms are fewer than 2^32.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_is_read_back() {
        for len in [0, 5, 125, 126, 300, 70_000] {
            let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
            let mut frame = Vec::new();
            put_frame(&mut frame, &[&payload]);
            let head = frame.len() - len;
            frame.splice(head..head, [1, 2, 3, 4]);
            frame[1] |= 0x80;
            assert_eq!(next_frame(&frame[..frame.len() - 1]), None, "incomplete");
            let (opcode, place) = next_frame(&frame).expect("a whole frame");
            assert_eq!((opcode, place.len()), (1, len));
            let mut body = frame[place].to_vec();
            unmask(&mut body, [1, 2, 3, 4]);
            let masked: Vec<u8> =
                payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(body, masked);
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\nSEC-websocket-Key:  abc \r\n";
        assert_eq!(header(head, b"sec-websocket-key"), Some(&b"abc"[..]));
        assert_eq!(header(head, b"origin"), None);
    }
}
