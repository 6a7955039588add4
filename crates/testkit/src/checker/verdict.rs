//! What a judgement says.

use std::fmt;
use std::sync::Arc;

use super::record::{Event, Line};

/// Lines of the log that a violation shows.
const CONTEXT: usize = 16;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// What was acked is in the store.
    NothingLost,
    /// What was never sent is nowhere.
    NothingInvented,
    /// What was refused has had no effect.
    RefusedIsRefused,
    /// Data arrive as they were sent.
    Unaltered,
    /// The seqs of a history are 1, 2, 3 …, in the store and for each subscriber.
    NoHoles,
    /// A place is given once.
    OnePlaceOneMessage,
    /// An id has one place, however often it was sent.
    OneMessageOnePlace,
    /// No subscriber gets a slot twice, or out of order.
    OneOrder,
    /// What a client publishes into a channel keeps its order.
    SendersOrder,
    /// `recovered: true`: nothing is missing.
    RecoveredIsWhole,
    /// Who resumes within what is kept does recover.
    RecoversWhereItCan,
    /// What is said to be gone, is.
    GapsAreTrue,
    /// Whoever is subscribed gets the last message, too.
    NoSilentEnd,
    /// A message shows its newest edit.
    EditsFold,
    /// A durable history is never replaced by another.
    OneHistory,
    /// The log makes sense; the run, not the server, is to blame.
    Log,
}

/// A broken promise, with what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// What is wrong.
    pub what: String,
    /// In which channel.
    pub channel: Option<Arc<str>>,
    /// The lines of the log that are about the same messages, up to and with the one that broke the promise.
    pub context: Vec<Line>,
}

/// How much was judged: a run in which nothing happened proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Attempts to publish, edit, delete.
    pub sent: u64,
    /// Those that were acked.
    pub acked: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that nobody answered.
    pub unknown: u64,
    /// Slots that reached subscribers.
    pub delivered: u64,
    /// Subscriptions that were told that nothing is missing.
    pub recovered: u64,
    /// Servers that were killed.
    pub kills: u64,
}

/// A violation that does not know the log yet.
pub(super) struct Accusation {
    promise: Promise,
    what: String,
    line: Option<usize>,
    channel: Option<Arc<str>>,
    ids: Vec<Arc<str>>,
    seqs: Vec<u64>,
}

impl Summary {
    pub(super) fn count(&mut self, event: &Event) {
        let counter = match event {
            Event::Sent { .. } => &mut self.sent,
            Event::Acked { .. } => &mut self.acked,
            Event::Refused { .. } => &mut self.refused,
            Event::Unknown { .. } => &mut self.unknown,
            Event::Delivered { .. } => &mut self.delivered,
            Event::Subscribed { recovered: Some(true), .. } => &mut self.recovered,
            Event::Killed => &mut self.kills,
            Event::Subscribed { .. }
            | Event::Gap { .. }
            | Event::Disconnected
            | Event::Fault { .. }
            | Event::Finished => return,
        };
        *counter += 1;
    }
}

impl Accusation {
    /// The line that broke it.
    pub(super) fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }

    /// In this channel.
    pub(super) fn of(mut self, channel: &Arc<str>) -> Self {
        self.channel.get_or_insert_with(|| channel.clone());
        self
    }

    /// Lines about this message belong to the context.
    pub(super) fn about(mut self, id: &Arc<str>) -> Self {
        self.ids.push(id.clone());
        self
    }

    /// Lines about this place and its neighbours belong to the context.
    pub(super) fn near(mut self, seq: u64) -> Self {
        self.seqs.push(seq);
        self
    }

    pub(super) fn with_context(self, lines: &[Line]) -> Violation {
        let broke = self.line.map(|line| &lines[line]);
        let channel = self.channel.or_else(|| broke.and_then(|line| line.event.channel().cloned()));
        let belongs = |line: &Line| {
            let same_id = line.event.id().is_some_and(|id| self.ids.contains(id));
            let near = |seq: u64| self.seqs.iter().any(|about| seq.abs_diff(*about) <= 1);
            let general =
                line.event.channel().is_none() && broke.is_some_and(|broke| broke.client == line.client);
            let same_channel = line.event.channel() == channel.as_ref();
            matches!(line.event, Event::Killed | Event::Fault { .. })
                || general
                || (same_channel && (same_id || line.event.seq().is_some_and(near)))
        };
        let until = self.line.map_or(lines.len(), |line| line + 1);
        let mut context: Vec<Line> =
            lines[..until].iter().filter(|line| belongs(line)).rev().take(CONTEXT).cloned().collect();
        context.reverse();
        if let Some(broke) = broke.filter(|broke| context.last() != Some(broke)) {
            context.push(broke.clone());
        }
        Violation { promise: self.promise, what: self.what, channel, context }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is broken", self.promise)?;
        if let Some(channel) = &self.channel {
            write!(f, " in {channel}")?;
        }
        writeln!(f, ": {}", self.what)?;
        for line in &self.context {
            let who = if line.client.is_empty() { "server" } else { &line.client };
            writeln!(f, "  {:>10.3} ms  {who:8}  {:?}", line.at as f64 / 1000.0, line.event)?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acked, refused, unknown, delivered, recovered, kills } = self;
        write!(
            f,
            "{kills} kills, {sent} sent, {acked} acked, {refused} refused, {unknown} unanswered, \
             {delivered} delivered, {recovered} recovered"
        )
    }
}

/// A promise that does not hold.
pub(super) fn broken(promise: Promise, what: impl Into<String>) -> Accusation {
    Accusation { promise, what: what.into(), line: None, channel: None, ids: Vec::new(), seqs: Vec::new() }
}
