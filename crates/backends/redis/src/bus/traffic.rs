//! What goes over a lane's connection: batches out, answers and events in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, timeout};

use super::Core;
use super::state::{Batch, Change, Effects};
use crate::options::Address;
use crate::resp::{self, Frame};
use crate::server::{ConnectError, demoted};
use crate::stream::{Socket, refused};

/// Bytes that are read, or written, at once.
const CHUNK: usize = 64 << 10;
/// Bytes that may be written without an answer.
const WINDOW: usize = 1 << 20;
/// Channels that are subscribed to by one command.
const AT_ONCE: usize = 500;
/// After so long without anything to write, the server is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// One connection's.
pub(super) struct Traffic {
    core: Arc<Core>,
    lane: u32,
    address: Address,
    sharded: bool,
    wake: Arc<Notify>,
    /// What answers are to come, in their order.
    expected: Mutex<VecDeque<Expected>>,
    /// Bytes of events without an answer.
    unanswered: AtomicUsize,
    answered: Notify,
    /// When something came, in ms since `began`.
    heard: AtomicU64,
    began: Instant,
    worked: AtomicBool,
}

/// An answer that is to come.
enum Expected {
    /// How many others received an event, or why none did.
    Publication {
        name: Bytes,
        bytes: usize,
        since: Instant,
    },
    Begin {
        names: VecDeque<(Bytes, u64)>,
        since: Instant,
    },
    End {
        names: VecDeque<Bytes>,
        since: Instant,
    },
    /// All that was subscribed to at the beginning is confirmed.
    Settled {
        since: Instant,
    },
    Pong {
        since: Instant,
    },
}

impl Traffic {
    pub(super) fn new(
        core: Arc<Core>,
        lane: u32,
        address: Address,
        sharded: bool,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            core,
            lane,
            address,
            sharded,
            wake,
            expected: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            answered: Notify::new(),
            heard: AtomicU64::new(0),
            began: Instant::now(),
            worked: AtomicBool::new(false),
        }
    }

    /// Carries everything until the connection ends, and says why it did.
    pub(super) async fn carry(&self, socket: Socket) -> ConnectError {
        let Socket { stream, buffer, .. } = socket;
        let (reader, writer) = tokio::io::split(stream);
        tokio::select! {
            why = self.read(reader, buffer) => why,
            why = self.write(writer) => why,
            why = self.silence() => why,
            why = demoted(&self.core.options, &self.address) => why,
        }
    }

    /// Whether it was up at some time.
    pub(super) fn worked(&self) -> bool {
        self.worked.load(Ordering::Relaxed)
    }

    /// The channels of events whose fate is unknown.
    pub(super) fn under_way(&self) -> Vec<Bytes> {
        let expected = std::mem::take(&mut *self.expected());
        let names = expected.into_iter().filter_map(|expected| match expected {
            Expected::Publication { name, .. } => Some(name),
            _ => None,
        });
        names.collect()
    }

    fn expected(&self) -> MutexGuard<'_, VecDeque<Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, text: impl std::fmt::Display) -> ConnectError {
        ConnectError::new(format!("{}: {text}", self.address))
    }

    // === out ===

    async fn write(&self, mut writer: impl AsyncWrite + Unpin) -> ConnectError {
        let mut out = BytesMut::with_capacity(CHUNK);
        self.core.state().lane_begins(self.lane);
        let mut settled = false;
        loop {
            let mut batch = Batch::default();
            let unanswered = self.unanswered.load(Ordering::Acquire);
            let room = WINDOW.saturating_sub(unanswered).min(CHUNK);
            self.core.state().next_batch(self.lane, room, &mut batch);
            if batch.is_empty() && settled {
                self.pause(room == 0, &mut out).await;
            } else {
                self.encode(batch, &mut out);
                if !settled {
                    self.expect(Expected::Settled { since: Instant::now() });
                    resp::command(&mut out, &[b"PING"]);
                    settled = true;
                }
            }
            if let Err(error) = writer.write_all(&out).await {
                return self.error(error);
            }
            if let Err(error) = writer.flush().await {
                return self.error(error);
            }
            out.clear();
            if out.capacity() > 4 * CHUNK {
                // A large event came by.
                out = BytesMut::with_capacity(CHUNK);
            }
        }
    }

    /// Until there is something to write; after a while that is the question whether the server lives.
    async fn pause(&self, window_is_full: bool, out: &mut BytesMut) {
        let news = async {
            if window_is_full { self.answered.notified().await } else { self.wake.notified().await }
        };
        if timeout(HEARTBEAT, news).await.is_err() {
            self.expect(Expected::Pong { since: Instant::now() });
            resp::command(out, &[b"PING"]);
        }
    }

    fn encode(&self, batch: Batch, out: &mut BytesMut) {
        let since = Instant::now();
        let publish: &[u8] = if self.sharded { b"SPUBLISH" } else { b"PUBLISH" };
        self.encode_changes(batch.changes, out);
        let mut expected = self.expected();
        let mut events = 0;
        let gap = if batch.gaps.is_empty() { Bytes::new() } else { self.core.gap() };
        let gaps = batch.gaps.into_iter().map(|name| (name, gap.clone()));
        let publications = batch.publications.into_iter();
        for (name, payload) in gaps.chain(publications.map(|one| (one.name, one.payload))) {
            resp::command(out, &[publish, &name, &payload]);
            let bytes = name.len() + payload.len();
            self.unanswered.fetch_add(bytes, Ordering::AcqRel);
            expected.push_back(Expected::Publication { name, bytes, since });
            events += 1;
        }
        self.core.counters.published.fetch_add(events, Ordering::Relaxed);
    }

    /// Subscriptions in the order in which they were asked for; neighbours of one kind share a command, unless each may lie in another slot.
    fn encode_changes(&self, changes: Vec<Change>, out: &mut BytesMut) {
        let since = Instant::now();
        let at_once = if self.sharded { 1 } else { AT_ONCE };
        let (begin, end): (&[u8], &[u8]) =
            if self.sharded { (b"SSUBSCRIBE", b"SUNSUBSCRIBE") } else { (b"SUBSCRIBE", b"UNSUBSCRIBE") };
        let mut changes = changes.into_iter().peekable();
        while let Some(first) = changes.next() {
            let begins = matches!(first, Change::Begin(..));
            let mut run = vec![first];
            while run.len() < at_once
                && let Some(next) = changes.next_if(|next| matches!(next, Change::Begin(..)) == begins)
            {
                run.push(next);
            }
            let mut words: Vec<&[u8]> = vec![if begins { begin } else { end }];
            words.extend(run.iter().map(|change| match change {
                Change::Begin(name, _) | Change::End(name) => &name[..],
            }));
            resp::command(out, &words);
            let begun = run.iter().filter_map(|change| match change {
                Change::Begin(name, ticket) => Some((name.clone(), *ticket)),
                Change::End(_) => None,
            });
            let expected = if begins {
                Expected::Begin { names: begun.collect(), since }
            } else {
                let names = run.iter().map(|change| match change {
                    Change::Begin(name, _) | Change::End(name) => name.clone(),
                });
                Expected::End { names: names.collect(), since }
            };
            self.expect(expected);
        }
    }

    fn expect(&self, expected: Expected) {
        self.expected().push_back(expected);
    }

    // === in ===

    async fn read(&self, mut reader: impl AsyncRead + Unpin, mut buffer: BytesMut) -> ConnectError {
        loop {
            loop {
                match resp::take(&mut buffer) {
                    Ok(Some(frame)) => {
                        if let Err(error) = self.hear(frame) {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(resp::Garbled) => return self.error("does not speak the protocol of Redis"),
                }
            }
            buffer.reserve(CHUNK);
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return self.error("closes the connection"),
                Ok(_) => self.heard.store(self.elapsed(), Ordering::Relaxed),
                Err(error) => return self.error(error),
            }
        }
    }

    fn hear(&self, frame: Frame) -> Result<(), ConnectError> {
        let Frame::Push(parts) = frame else { return self.answer(frame) };
        match (parts.first().and_then(Frame::text), parts.get(1).and_then(Frame::bytes)) {
            (Some("message" | "smessage"), Some(name)) => {
                if let Some(payload) = parts.get(2).and_then(Frame::bytes) {
                    self.core.deliver(name, payload);
                }
            }
            (Some("subscribe" | "ssubscribe"), Some(name)) => self.begun(name),
            (Some("unsubscribe" | "sunsubscribe"), Some(name)) => self.ended(name),
            _ => {}
        }
        Ok(())
    }

    fn begun(&self, name: &Bytes) {
        let mut expected = self.expected();
        let Some(Expected::Begin { names, .. }) = expected.front_mut() else { return };
        let Some((_, ticket)) = names.pop_front_if(|(first, _)| first == name) else { return };
        if names.is_empty() {
            expected.pop_front();
        }
        drop(expected);
        self.core.change(|state| state.confirmed(name, ticket));
    }

    fn ended(&self, name: &Bytes) {
        let mut expected = self.expected();
        if let Some(Expected::End { names, .. }) = expected.front_mut()
            && names.pop_front_if(|first| first == name).is_some()
        {
            if names.is_empty() {
                expected.pop_front();
            }
            return;
        }
        drop(expected);
        // Nobody asked: the channel's slot has moved to another server.
        self.core.change(|state| state.misplaced(name));
    }

    /// The answer to what was written first of all that has none yet.
    fn answer(&self, frame: Frame) -> Result<(), ConnectError> {
        let Some(expected) = self.expected().pop_front() else {
            return Err(self.error("answers what nobody asked"));
        };
        let refusal = match frame {
            Frame::Error(text) => Some(text),
            _ => None,
        };
        match (expected, refusal) {
            (Expected::Publication { name, bytes, .. }, refusal) => {
                self.unanswered.fetch_sub(bytes, Ordering::AcqRel);
                self.answered.notify_one();
                if let Some(text) = refusal {
                    self.refused_publication(name, &text);
                }
            }
            (Expected::Begin { names, .. }, Some(text)) if is_elsewhere(&text) => {
                names.iter().for_each(|(name, _)| self.core.change(|state| state.misplaced(name)));
            }
            // Already elsewhere, so it has ended.
            (Expected::End { .. }, Some(text)) if is_elsewhere(&text) => {}
            (_, Some(text)) => return Err(refused(&self.address, &text)),
            (Expected::Settled { .. }, None) => {
                self.worked.store(true, Ordering::Relaxed);
                self.core.change(|state| state.lane_up(self.lane));
            }
            (Expected::Pong { .. }, None) => {}
            (Expected::Begin { .. } | Expected::End { .. }, None) => {
                return Err(self.error("does not confirm subscriptions"));
            }
        }
        Ok(())
    }

    fn refused_publication(&self, name: Bytes, text: &Bytes) {
        if self.core.counters.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            let text = String::from_utf8_lossy(text);
            tracing::warn!(%text, "redis refuses an event; more of them are only counted");
        }
        let elsewhere = is_elsewhere(text);
        self.core.change(|state| {
            state.lose(name);
            Effects { moved: elsewhere, ..Effects::default() }
        });
    }

    // === silence ===

    /// Until the server has been silent for too long while an answer was to come.
    async fn silence(&self) -> ConnectError {
        let patience = self.core.options.command_timeout;
        let mut ticks = interval(patience / 8);
        loop {
            ticks.tick().await;
            let since = self.expected().front().map(|expected| match expected {
                Expected::Publication { since, .. }
                | Expected::Begin { since, .. }
                | Expected::End { since, .. }
                | Expected::Settled { since }
                | Expected::Pong { since } => *since,
            });
            let heard = self.began + Duration::from_millis(self.heard.load(Ordering::Relaxed));
            if since.is_some_and(|since| since.max(heard).elapsed() >= patience) {
                return self.error("no answer in time");
            }
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether the channel lies with another server, or with none at the moment.
fn is_elsewhere(text: &[u8]) -> bool {
    [&b"MOVED"[..], b"ASK", b"TRYAGAIN", b"CLUSTERDOWN"].iter().any(|code| text.starts_with(code))
}
