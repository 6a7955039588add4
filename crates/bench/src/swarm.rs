//! All connections of the load generator on one thread and one epoll.

use crate::{
    Target,
    client::{Client, Desk, Heard},
    payload::{Clock, Payload, Stamp},
};
use mio::{Events, Interest, Poll, Token};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    rc::Rc,
    time::{Duration, Instant},
};

/// What one `read` takes at most.
const READ_BUFFER: usize = 64 * 1024;
const EVENTS_A_TURN: usize = 1024;
/// Connections that are being set up at once, where time is not what is measured.
const DIALING_AT_ONCE: usize = 256;

/// The clients, by number in the order in which they were dialed.
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    desk: Desk,
    addr: SocketAddr,
    spin: bool,
}

impl Swarm {
    /// For the server at `url` (`ws://HOST:PORT/PATH?QUERY`); messages carry `payload` bytes.
    pub(crate) fn new(target: &Target, payload: usize) -> io::Result<Self> {
        let (addr, host, path) = place(&target.url)?;
        let desk = Desk {
            dialect: target.dialect,
            payload: Payload::new(payload),
            path,
            host,
            buffer: vec![0; READ_BUFFER].into(),
            clock: Clock::start(),
            read_ns: 0,
        };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_A_TURN),
            clients: Vec::new(),
            desk,
            addr,
            spin: target.spin,
        })
    }

    /// Connections are made to the server at `url` from now on. Those that are being made must be ready.
    pub(crate) fn go_to(&mut self, url: &str) -> io::Result<()> {
        (self.addr, self.desk.host, self.desk.path) = place(url)?;
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.desk.clock
    }

    /// See [`Clock::now_ns`].
    pub(crate) fn now_ns(&self) -> u64 {
        self.desk.clock.now_ns()
    }

    /// Starts one more connection.
    pub(crate) fn dial(&mut self, channel: Option<Rc<str>>) -> io::Result<usize> {
        let number = self.clients.len();
        let mut client = Client::dial(self.addr, channel)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(client.source(), Token(number), interest)?;
        self.clients.push(client);
        Ok(number)
    }

    /// Starts `count` more connections, a bounded number at once, and waits until all are ready.
    pub(crate) fn connect(
        &mut self,
        count: usize,
        patience: Duration,
        channel_of: impl Fn(usize) -> Option<Rc<str>>,
    ) -> io::Result<()> {
        let goal = self.clients.len() + count;
        let mut ready = self.clients.len();
        let mut progress = Instant::now();
        while ready < goal {
            while self.clients.len() < goal && self.clients.len() - ready < DIALING_AT_ONCE {
                self.dial(channel_of(self.clients.len()))?;
            }
            let mut trouble = None;
            let before = ready;
            self.turn(Duration::from_millis(100), &mut |client, heard| match heard {
                Heard::Ready => ready += 1,
                Heard::Refused(why) | Heard::Gone(why) => _ = trouble.get_or_insert((client, why)),
                _ => {}
            })?;
            if let Some((client, why)) = trouble {
                return Err(io::Error::other(format!("client {client} could not connect: {why}")));
            }
            if ready > before {
                progress = Instant::now();
            } else if progress.elapsed() > patience {
                return Err(io::Error::other(format!("only {ready} of {goal} clients could connect")));
            }
        }
        Ok(())
    }

    /// Waits for events, so long at most, and handles them.
    pub(crate) fn turn(&mut self, wait: Duration, hear: &mut impl FnMut(usize, Heard)) -> io::Result<()> {
        let wait = if self.spin { Duration::ZERO } else { wait };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            done => done?,
        }
        for event in &self.events {
            let number = event.token().0;
            // Events of connections that were dropped meanwhile.
            let Some(client) = self.clients.get_mut(number) else { continue };
            if event.is_writable() {
                client.writable(&self.desk, &mut |heard| hear(number, heard));
            }
            if event.is_readable() || event.is_error() {
                let closed = event.is_read_closed();
                client.readable(&mut self.desk, closed, &mut |heard| hear(number, heard));
            }
            if client.is_gone() {
                self.poll.registry().deregister(client.source())?;
            }
        }
        Ok(())
    }

    /// Queues a message of `publisher`; nothing leaves before [`flush`](Self::flush).
    pub(crate) fn publish(
        &mut self,
        client: usize,
        channel: &str,
        publisher: u32,
        seq: u32,
    ) -> io::Result<u32> {
        let stamp = Stamp { publisher, seq, sent_ns: self.now_ns() };
        self.clients[client].publish(&mut self.desk, channel, stamp)
    }

    pub(crate) fn flush(&mut self, client: usize) -> io::Result<()> {
        self.clients[client].flush()
    }

    /// Stops to read what the server sends to this client. (Its receive buffer stays as it is: made smaller than the
    /// window that was promised, the kernel would drop segments, and the connection would stall for seconds.)
    pub(crate) fn pause(&mut self, client: usize) -> io::Result<()> {
        self.poll.registry().deregister(self.clients[client].source())
    }

    /// Reads on.
    pub(crate) fn resume(&mut self, client: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(self.clients[client].source(), Token(client), interest)
    }

    /// Drops every connection at once, without a word.
    pub(crate) fn drop_all(&mut self) {
        self.clients.clear();
    }
}

/// Address, host and path of `ws://HOST:PORT/PATH?QUERY`.
fn place(url: &str) -> io::Result<(SocketAddr, String, String)> {
    let rest = url.strip_prefix("ws://").ok_or_else(|| io::Error::other("the URL must start with ws://"))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(slash);
    let addr = host.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the host has no address"))?;
    Ok((addr, host.into(), if path.is_empty() { "/".into() } else { path.into() }))
}
