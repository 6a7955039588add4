//! What all clients share: the log that they write, and where the server is.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PATIENCE;
use crate::checker::{Event, Line};

/// The log of a run.
pub struct Journal {
    began: Instant,
    pages: Mutex<Pages>,
    turned: Condvar,
}

#[derive(Default)]
struct Pages {
    lines: Vec<Line>,
    acks: u64,
    /// By subscriber and channel, the last seq that it has.
    reached: HashMap<(Arc<str>, Arc<str>), u64>,
    stopping: bool,
    closed: bool,
    /// Why a client has given up.
    trouble: Option<String>,
}

/// Where the server is, and since when.
#[derive(Default)]
pub struct Harbour {
    berth: Mutex<Berth>,
    moved: Condvar,
}

#[derive(Default)]
struct Berth {
    addresses: Vec<SocketAddr>,
    /// Counts servers.
    generation: u64,
    /// They are several at once: who loses one goes on at another, without waiting for a new one.
    several: bool,
    closed: bool,
    /// To end connections that wait for the server's word.
    streams: Vec<TcpStream>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { began: Instant::now(), pages: Mutex::default(), turned: Condvar::new() }
    }
}

impl Journal {
    /// Writes a line; nothing any more once the journal is closed.
    pub fn note(&self, client: &str, event: Event) {
        let mut pages = self.pages();
        if pages.closed {
            return;
        }
        let client: Arc<str> = client.into();
        match &event {
            Event::Acked { .. } => pages.acks += 1,
            Event::Subscribed { channel, missed, place, .. } => {
                let reached = place.seq.saturating_sub(*missed);
                pages.reached.insert((client.clone(), channel.clone()), reached);
            }
            Event::Delivered { channel, kept, .. } => {
                pages.reached.insert((client.clone(), channel.clone()), kept.seq);
            }
            _ => {}
        }
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        pages.lines.push(Line { at, client, event });
        self.turned.notify_all();
    }

    /// Waits until so many more are acked.
    pub fn wait_for_acks(&self, more: u64) -> io::Result<()> {
        let goal = self.pages().acks + more;
        let done = self.wait(PATIENCE, |pages| pages.acks >= goal || pages.trouble.is_some());
        match self.pages().trouble.take() {
            Some(trouble) => Err(io::Error::other(trouble)),
            None if done => Ok(()),
            None => Err(io::Error::other(format!("no {more} acks within {PATIENCE:?}"))),
        }
    }

    /// Waits until each of so many subscribers has all heads; false when that takes longer than `patience`.
    pub fn wait_until_all_have(
        &self,
        heads: &BTreeMap<Arc<str>, u64>,
        subscribers: usize,
        patience: Duration,
    ) -> bool {
        self.wait(patience, |pages| {
            let has = |((_, channel), seq): (&(Arc<str>, Arc<str>), &u64)| heads.get(channel) == Some(seq);
            pages.reached.iter().filter(|entry| has(*entry)).count() == subscribers * heads.len()
        })
    }

    /// A client cannot go on, and the run with it.
    pub fn give_up(&self, error: &io::Error) {
        self.pages().trouble.get_or_insert_with(|| error.to_string());
        self.turned.notify_all();
    }

    /// Tells the publishers to finish what they have begun.
    pub fn stop(&self) {
        self.pages().stopping = true;
    }

    /// Whether publishers are to finish.
    pub fn is_stopping(&self) -> bool {
        self.pages().stopping
    }

    /// Ends the run; what happens to clients from here on is not noted.
    pub fn close(&self) -> Vec<Line> {
        self.note("", Event::Finished);
        let mut pages = self.pages();
        pages.closed = true;
        std::mem::take(&mut pages.lines)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, patience: Duration, mut reached: impl FnMut(&Pages) -> bool) -> bool {
        let waited = self.turned.wait_timeout_while(self.pages(), patience, |pages| !reached(pages));
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

impl Harbour {
    /// A server is there; its nodes listen on these addresses.
    pub fn open(&self, addresses: &[SocketAddr]) {
        let mut berth = self.berth();
        berth.addresses = addresses.to_vec();
        berth.generation += 1;
        berth.streams.clear();
        self.moved.notify_all();
    }

    /// Several servers are there, and may come and go: whoever loses one tries the others, and that one again.
    pub fn open_all(&self, addresses: &[SocketAddr]) {
        self.open(addresses);
        self.berth().several = true;
    }

    /// Waits as a client does before it tries again; not when nobody is needed any more.
    pub fn pause(&self, pause: Duration) {
        let waited = self.moved.wait_timeout_while(self.berth(), pause, |berth| !berth.closed);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Nobody is needed any more: ends all connections.
    pub fn close(&self) {
        let mut berth = self.berth();
        berth.closed = true;
        for stream in &berth.streams {
            // It may have ended by itself.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.moved.notify_all();
    }

    /// Waits for a server later than `after`, or for `pause` where there are several; `None` when there will be none. The addresses, and which
    /// server it is.
    pub fn server(&self, after: u64, pause: Duration) -> io::Result<Option<(Vec<SocketAddr>, u64)>> {
        let again = |berth: &Berth| berth.several && berth.generation <= after;
        if again(&self.berth()) {
            self.pause(pause);
        }
        let later = |berth: &mut Berth| !berth.closed && !berth.several && berth.generation <= after;
        let waited = self.moved.wait_timeout_while(self.berth(), PATIENCE, later);
        let (berth, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if berth.closed {
            return Ok(None);
        }
        if timeout.timed_out() {
            return Err(io::Error::other("there is no server"));
        }
        Ok(Some((berth.addresses.clone(), berth.generation)))
    }

    /// Ends this connection with the run.
    pub fn moor(&self, stream: TcpStream) {
        let mut berth = self.berth();
        if berth.closed {
            // It may have ended by itself.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        berth.streams.push(stream);
    }

    fn berth(&self) -> MutexGuard<'_, Berth> {
        self.berth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
