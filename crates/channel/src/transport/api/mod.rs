//! Connections of apps' back ends that ask the HTTP API: a shard reads them, and answers what publishes by itself. So a message that comes by HTTP takes no other
//! way than one that comes over a socket, and nobody is woken on its account.
//!
//! What else is asked for the front has answered ([`front::api`](crate::front::api)), alone: what comes behind it waits. What is no such request at all goes back to
//! hyper, connection and bytes, as if it had never been here.

mod answer;
mod request;

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use mio::net::TcpStream;
use mio::{Interest, Token};
use slab::Slab;
use xpush_core::{Monotonic, Problem};

use self::answer::Date;
use self::request::{Bounds, Found, Request};
use crate::command::publish;
use crate::dialect::object;
use crate::fanout::inbox::{Handle, Inbox, Publisher, Reply};
use crate::front::api::Api;
use crate::shard::{Shard, Timer};

pub(crate) use self::answer::whole;
pub(crate) use self::request::is_for_shards;

/// Requests of one connection that may be unanswered; with more, nothing is read from it.
const WINDOW: usize = 64;
/// Bytes of answers that may wait for the socket; with more, nothing is read from it.
const UNSENT: usize = 64 * 1024;
/// Reads of one socket in a turn.
const READS: usize = 4;
/// In the slot of a handle: it is none of a session.
const MARK: u32 = 1 << 31;
/// Bytes of a body beside the largest data.
const AROUND: usize = 65_536;

/// A connection, as the front gives it to a shard.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// What was read from it.
    pub(crate) early: Vec<u8>,
    pub(crate) api: Arc<Api>,
}

/// A connection.
struct Connection {
    generation: u32,
    stream: TcpStream,
    peer: SocketAddr,
    api: Arc<Api>,
    /// Read, and not handled: a request of which there is more to come, or what is behind a pause.
    early: Vec<u8>,
    /// Of the requests that are not answered yet, in order; `None`: it is not known.
    answers: VecDeque<Option<Vec<u8>>>,
    /// The number of the first of them.
    first: u64,
    /// Answers that the socket has not taken.
    unsent: Vec<u8>,
    /// The next request is answered alone, or this one is: nothing is handled before everything is answered.
    alone: bool,
    /// It goes back to hyper when everything is answered.
    leaves: bool,
    /// There may be more to be read, of which epoll tells no more.
    paused: bool,
    dirty: bool,
    heard: Monotonic,
}

/// The connections of a shard.
#[derive(Default)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
    generation: u32,
    /// Those that have something to be sent, or are to go.
    dirty: Vec<Handle>,
    date: Date,
}

impl Connection {
    /// Whether its next request may be handled.
    fn is_hungry(&self) -> bool {
        !self.alone && !self.leaves && self.answers.len() < WINDOW && self.unsent.len() < UNSENT
    }

    /// Another request; its number.
    fn begins(&mut self) -> u64 {
        self.answers.push_back(None);
        self.first + self.answers.len() as u64 - 1
    }

    /// Moves what is answered to what is to be sent.
    fn gather(&mut self) {
        while let Some(Some(answer)) = self.answers.front_mut() {
            match self.unsent.is_empty() {
                true => self.unsent = std::mem::take(answer),
                false => self.unsent.append(answer),
            }
            self.answers.pop_front();
            self.first += 1;
        }
        self.alone &= !self.answers.is_empty();
    }
}

impl Connections {
    /// Whether a handle or a slot is of one of these.
    pub(crate) fn has(slot: u32) -> bool {
        slot & MARK != 0
    }

    fn get(&mut self, handle: Handle) -> Option<&mut Connection> {
        let connection = self.slab.get_mut((handle.slot & !MARK) as usize)?;
        (connection.generation == handle.generation).then_some(connection)
    }

    /// Whoever has this slot now.
    fn handle(&self, shard: u16, slot: u32) -> Option<Handle> {
        let generation = self.slab.get((slot & !MARK) as usize)?.generation;
        Some(Handle { shard, slot, generation })
    }

    fn touch(&mut self, handle: Handle) {
        if let Some(connection) = self.get(handle)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(handle);
        }
    }

    fn remove(&mut self, handle: Handle) -> Option<Connection> {
        self.get(handle)?;
        self.slab.try_remove((handle.slot & !MARK) as usize)
    }

    pub(crate) fn clear(&mut self) {
        self.slab.clear();
    }
}

impl Shard {
    /// A connection comes from the front.
    pub(crate) fn open_api(&mut self, opened: Opened) {
        let Opened { mut stream, peer, early, api } = opened;
        let shard = self.index();
        let connections = &mut self.apis;
        connections.generation = connections.generation.wrapping_add(1);
        let Ok(slot) = u32::try_from(connections.slab.vacant_key()) else { return };
        let handle = Handle { shard, slot: slot | MARK, generation: connections.generation };
        if let Some(registry) = &self.registry
            && let Err(error) = mio::event::Source::register(
                &mut stream,
                registry,
                Token(handle.slot as usize * 2),
                Interest::READABLE | Interest::WRITABLE,
            )
        {
            return tracing::warn!(%error, "cannot watch a connection");
        }
        self.apis.slab.insert(Connection {
            generation: handle.generation,
            stream,
            peer,
            api,
            early: Vec::new(),
            answers: VecDeque::new(),
            first: 0,
            unsent: Vec::new(),
            alone: false,
            leaves: false,
            paused: false,
            dirty: false,
            heard: self.now,
        });
        self.arm(self.node.config.limits.handshake_ms, Timer::Api(handle));
        self.take_api_bytes(handle, &early);
    }

    /// What epoll says of a socket.
    pub(crate) fn api_ready(&mut self, slot: u32, readable: bool, writable: bool, closed: bool) {
        let Some(handle) = self.apis.handle(self.index(), slot) else { return };
        if writable && self.apis.get(handle).is_some_and(|connection| !connection.unsent.is_empty()) {
            self.apis.touch(handle);
        }
        if readable {
            self.read_api(handle, closed);
        }
    }

    /// Reads until the socket has nothing more. `closed`: a short read is not the end.
    pub(crate) fn read_api(&mut self, handle: Handle, closed: bool) {
        if self.apis.get(handle).is_some_and(|connection| std::mem::take(&mut connection.paused)) {
            self.take_api_bytes(handle, &[]);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        for round in 0.. {
            let now = self.now;
            let Some(connection) = self.apis.get(handle) else { break };
            if !connection.is_hungry() {
                connection.paused = true;
                break;
            }
            if round >= READS {
                self.unread.push(handle);
                break;
            }
            match connection.stream.read(&mut buffer) {
                Ok(0) => {
                    self.apis.remove(handle);
                    break;
                }
                Ok(n) => {
                    connection.heard = now;
                    self.take_api_bytes(handle, &buffer[..n]);
                    if n < buffer.len() && !closed {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.apis.remove(handle);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Handles the requests that are whole, as far as the connection's window goes, and keeps the rest.
    fn take_api_bytes(&mut self, handle: Handle, bytes: &[u8]) {
        let Some(connection) = self.apis.get(handle) else { return };
        let mut early = std::mem::take(&mut connection.early);
        let rest = if early.is_empty() {
            let taken = self.take_requests(handle, bytes);
            early.extend_from_slice(&bytes[taken..]);
            early
        } else {
            early.extend_from_slice(bytes);
            let taken = self.take_requests(handle, &early);
            early.drain(..taken);
            early
        };
        if let Some(connection) = self.apis.get(handle) {
            connection.early = rest;
            connection.paused |= !connection.is_hungry();
        }
    }

    /// Handles requests one behind the other; how many bytes they had.
    fn take_requests(&mut self, handle: Handle, bytes: &[u8]) -> usize {
        let limits = &self.node.config.limits;
        let bounds = Bounds { head: limits.headers, body: limits.payload.saturating_add(AROUND) };
        let mut taken = 0;
        while taken < bytes.len() && self.apis.get(handle).is_some_and(|connection| connection.is_hungry()) {
            let mut room = request::room();
            match request::find(&bytes[taken..], &mut room, bounds) {
                Found::Part => break,
                Found::Request(request) if self.take_request(handle, &request) => taken += request.len,
                // It has to wait.
                Found::Request(_) => break,
                Found::Other => {
                    self.leave_api(handle);
                    break;
                }
            }
        }
        taken
    }

    /// Publishes, or asks the API; whether it could be done now.
    fn take_request(&mut self, handle: Handle, request: &Request<'_, '_>) -> bool {
        let node = self.node.clone();
        let wanted = request.publishes().and_then(|asked| node.intake()?.publication(asked));
        let Some(wanted) = wanted.filter(|wanted| !node.asks_about_server(&wanted.channel)) else {
            return self.ask_api(handle, request);
        };
        let Some(connection) = self.apis.get(handle) else { return false };
        let number = connection.begins();
        match node.publication(wanted, Publisher::Request(handle, number)) {
            Ok(publication) => {
                let home = node.home_of(&publication.channel);
                self.post(home, Inbox::Publish(Box::new(publication)));
            }
            Err(problem) => self.answer_api(handle, number, Err(problem)),
        }
        true
    }

    /// Has a request answered by the API, when all before it are answered.
    fn ask_api(&mut self, handle: Handle, request: &Request<'_, '_>) -> bool {
        let mailbox = self.mailbox();
        let Some(connection) = self.apis.get(handle) else { return false };
        connection.alone = true;
        if !connection.answers.is_empty() {
            return false;
        }
        let Some(request) = request.to_http() else {
            self.leave_api(handle);
            return false;
        };
        connection.begins();
        let answered = move |answer| mailbox.post(Inbox::ApiAnswered(handle, answer));
        connection.api.clone().ask(request, connection.peer.ip(), answered);
        true
    }

    /// The API has answered the request that it was asked; `None`: it cannot.
    pub(crate) fn api_answered(&mut self, handle: Handle, answer: Option<Vec<u8>>) {
        let Some(connection) = self.apis.get(handle) else { return };
        match (answer, connection.answers.front_mut()) {
            (Some(answer), Some(slot @ None)) => *slot = Some(answer),
            _ => return drop(self.apis.remove(handle)),
        }
        connection.gather();
        self.apis.touch(handle);
    }

    /// What a channel's home says of what was published.
    pub(crate) fn api_published(&mut self, handle: Handle, number: u64, reply: Reply) {
        match reply {
            Reply::Published(published) => self.answer_api(handle, number, Ok(publish::answer(&published))),
            Reply::Failed(problem) => self.answer_api(handle, number, Err(problem)),
            // Nothing else answers a publication.
            _ => {}
        }
    }

    fn answer_api(&mut self, handle: Handle, number: u64, result: Result<String, Problem>) {
        let now = self.node.clock().wall();
        let mut date = std::mem::take(&mut self.apis.date);
        if let Some(connection) = self.apis.get(handle) {
            let place = usize::try_from(number.wrapping_sub(connection.first)).unwrap_or(usize::MAX);
            if let Some(slot @ None) = connection.answers.get_mut(place) {
                let (status, text) = match result {
                    Ok(text) => (StatusCode::OK, text),
                    Err(problem) => {
                        let status = StatusCode::from_u16(problem.code.status());
                        let text = format!(r#"{{"error":{}}}"#, object::error(&problem));
                        (status.unwrap_or(StatusCode::BAD_REQUEST), text)
                    }
                };
                if place == 0 {
                    answer::object(status, &text, date.at(now), &mut connection.unsent);
                    connection.answers.pop_front();
                    connection.first += 1;
                } else {
                    let mut answer = Vec::new();
                    answer::object(status, &text, date.at(now), &mut answer);
                    *slot = Some(answer);
                }
                connection.gather();
                self.apis.touch(handle);
            }
        }
        self.apis.date = date;
    }

    /// What comes next is nothing for a shard.
    fn leave_api(&mut self, handle: Handle) {
        if let Some(connection) = self.apis.get(handle) {
            connection.leaves = true;
            self.apis.touch(handle);
        }
    }

    /// Sends what is answered, at the end of a turn.
    pub(crate) fn flush_apis(&mut self) {
        for handle in std::mem::take(&mut self.apis.dirty) {
            self.flush_api(handle);
        }
    }

    fn flush_api(&mut self, handle: Handle) {
        let Some(connection) = self.apis.get(handle) else { return };
        connection.dirty = false;
        while !connection.unsent.is_empty() {
            match connection.stream.write(&connection.unsent) {
                Ok(n) if n == connection.unsent.len() => connection.unsent.clear(),
                Ok(n) if n > 0 => drop(connection.unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => return drop(self.apis.remove(handle)),
            }
        }
        if connection.paused && connection.is_hungry() {
            self.unread.push(handle);
        } else if connection.leaves && connection.answers.is_empty() && connection.unsent.is_empty() {
            self.give_back(handle);
        }
    }

    /// hyper goes on with a connection.
    fn give_back(&mut self, handle: Handle) {
        let Some(mut connection) = self.apis.remove(handle) else { return };
        if let Some(registry) = &self.registry
            && let Err(error) = mio::event::Source::deregister(&mut connection.stream, registry)
        {
            return tracing::warn!(%error, "cannot give a connection back");
        }
        connection.api.go_on(connection.stream.into(), connection.peer, connection.early);
    }

    /// A connection may have been silent for too long: between requests it ends, as hyper would end it; in the middle of one hyper is to say so.
    pub(crate) fn api_timer(&mut self, handle: Handle) {
        let (now, patience) = (self.now, self.node.config.limits.handshake_ms);
        let Some(connection) = self.apis.get(handle) else { return };
        let silent = now.since(connection.heard);
        if !connection.answers.is_empty() || silent < patience {
            return self.arm(patience.saturating_sub(silent).max(1_000), Timer::Api(handle));
        }
        if connection.early.is_empty() || !connection.unsent.is_empty() {
            self.apis.remove(handle);
        } else {
            self.leave_api(handle);
        }
    }
}
