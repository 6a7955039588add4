//! Appends wait in lanes, one for each channel: one at a time is under way, and what has gathered meanwhile goes together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use xpush_core::ports::message_log::{Appended, Draft};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{ChannelKey, Retention};

use super::channel::View;
use super::retention::Edge;
use super::{Inner, LARGEST_MESSAGE, slot};
use crate::lock;

/// Bytes that wait in all lanes, at most.
const WAITING: usize = 128 << 20;

/// What a message takes beside its contents, about.
const OVERHEAD: usize = 512;

/// How long a lane lets others go first from time to time, once it knows of any, and for how long, ms, before each insert.
const POLITE: Duration = Duration::from_secs(1);
const PAUSE: u64 = 10;

/// Channels whose head is remembered, and for how long: much shorter than slots are kept that others may have put behind it.
const REMEMBERED: usize = 20_000;
const KNOWN: Duration = Duration::from_secs(600);

/// One call.
pub(super) struct Call {
    pub(super) retention: Retention,
    /// It would rather leave it to somebody else than go on losing places.
    pub(super) yields: bool,
    pub(super) drafts: VecDeque<Draft>,
    pub(super) appended: Appended,
    /// Under a lock only because what is shared between threads needs one.
    done: Mutex<Done<Appended>>,
    size: usize,
    /// What becomes of the draft behind the last one.
    refusal: Option<PortError>,
}

/// What a lane's appender knows of its channel.
pub(super) struct Known {
    pub(super) view: View,
    pub(super) edge: Edge,
}

#[derive(Default)]
pub(super) struct Lanes {
    /// Lanes that somebody serves, with who waits in them.
    lanes: HashMap<ChannelKey, VecDeque<Call>>,
    known: HashMap<ChannelKey, (Instant, Known)>,
    /// Channels that others write, too: until when that is thought, and the wish that was heard last.
    shared: HashMap<ChannelKey, (Instant, u64)>,
    bytes: usize,
}

impl Call {
    /// Answers.
    pub(super) fn end(mut self) {
        if self.appended.failure.is_none() {
            self.appended.failure = self.refusal.take();
        }
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done(Ok(self.appended));
    }

    pub(super) fn fail(&mut self, error: PortError) {
        self.drafts.clear();
        self.appended.failure = Some(error);
    }
}

impl Inner {
    pub(super) fn append(
        inner: &Arc<Self>,
        channel: &ChannelKey,
        retention: Retention,
        mut drafts: Vec<Draft>,
        yields: bool,
        done: Done<Appended>,
    ) {
        let failing = drafts.iter().position(|draft| draft.payload.size() >= LARGEST_MESSAGE);
        let refusal = failing.map(|_| PortError::new(Failure::Invalid, "larger than a document may be"));
        drafts.truncate(failing.unwrap_or(drafts.len()));
        if drafts.is_empty() {
            return done(Ok(Appended { taken: Vec::new(), failure: refusal }));
        }
        let size = drafts.iter().map(|draft| OVERHEAD + draft.payload.size()).sum();
        let appended = Appended { taken: Vec::with_capacity(drafts.len()), failure: None };
        let call = Call {
            retention,
            yields,
            drafts: drafts.into(),
            appended,
            done: Mutex::new(done),
            size,
            refusal,
        };
        let mut lanes = lock(&inner.lanes);
        // One call always fits: two of the largest messages must not refuse each other for ever.
        if lanes.bytes > 0 && lanes.bytes + size > WAITING {
            drop(lanes);
            let error = PortError::new(Failure::Overloaded, "too many messages wait for the server");
            let done = call.done.into_inner().unwrap_or_else(PoisonError::into_inner);
            return done(Err(error));
        }
        lanes.bytes += size;
        if let Some(lane) = lanes.lanes.get_mut(channel) {
            lane.push_back(call);
            return;
        }
        lanes.lanes.insert(channel.clone(), VecDeque::from([call]));
        drop(lanes);
        let (inner, channel) = (Arc::clone(inner), channel.clone());
        let store = Arc::clone(&inner.store);
        store.spawn(async move { inner.serve(&channel).await });
    }

    /// Appends until nothing waits in the lane.
    async fn serve(&self, channel: &ChannelKey) {
        loop {
            if self.is_shared(channel) {
                sleep(Duration::from_millis(crate::random().unsigned_abs() % PAUSE)).await;
            }
            let Some(calls) = self.next(channel) else { return };
            let size: usize = calls.iter().map(|call| call.size).sum();
            let turn = self.store.enter().await;
            let (calls, away) = match turn {
                Ok(_turn) => self.append_all(channel, calls).await,
                Err(error) => (failed(calls, &error), true),
            };
            lock(&self.lanes).bytes -= size;
            calls.into_iter().for_each(Call::end);
            if away {
                // They were not tried, and would only wait as long as these.
                let waiting = lock(&self.lanes).lanes.get_mut(channel).map(std::mem::take);
                let waiting: Vec<Call> = waiting.into_iter().flatten().collect();
                lock(&self.lanes).bytes -= waiting.iter().map(|call| call.size).sum::<usize>();
                let error = PortError::new(Failure::NotApplied, "the server does not answer");
                failed(waiting, &error).into_iter().for_each(Call::end);
            }
        }
    }

    /// Whoever waits in the lane and goes together; `None` ends the lane.
    fn next(&self, channel: &ChannelKey) -> Option<Vec<Call>> {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.lanes.get_mut(channel)?;
        let Some(retention) = lane.front().map(|call| call.retention) else {
            lanes.lanes.remove(channel);
            return None;
        };
        let together = lane.iter().take_while(|call| call.retention == retention).count();
        Some(lane.drain(..together).collect())
    }

    /// Others write the channel, too.
    pub(super) fn yield_for_a_while(&self, channel: &ChannelKey) {
        let heard = lock(&self.lanes).shared.get(channel).map_or(0, |(_, heard)| *heard);
        self.share(channel, heard);
    }

    /// Yields when somebody has asked for it.
    pub(super) fn hear_wishes(&self, view: &View) {
        let heard = lock(&self.lanes).shared.get(&view.key).map_or(0, |(_, heard)| *heard);
        if view.wanted != heard {
            self.share(&view.key, view.wanted);
        }
    }

    fn share(&self, channel: &ChannelKey, heard: u64) {
        let mut lanes = lock(&self.lanes);
        if lanes.shared.len() >= REMEMBERED {
            lanes.shared.clear();
        }
        lanes.shared.insert(channel.clone(), (Instant::now() + POLITE, heard));
    }

    fn is_shared(&self, channel: &ChannelKey) -> bool {
        lock(&self.lanes).shared.get(channel).is_some_and(|(until, _)| *until > Instant::now())
    }

    /// What is known of a channel; nobody else has it then.
    pub(super) fn recall(&self, channel: &ChannelKey) -> Option<Known> {
        let (since, known) = lock(&self.lanes).known.remove(channel)?;
        (since.elapsed() < KNOWN).then_some(known)
    }

    pub(super) fn remember(&self, channel: &ChannelKey, known: Known) {
        let mut lanes = lock(&self.lanes);
        if lanes.known.len() >= REMEMBERED {
            lanes.known.clear();
        }
        lanes.known.insert(channel.clone(), (Instant::now(), known));
    }
}

pub(super) fn failed(mut calls: Vec<Call>, error: &PortError) -> Vec<Call> {
    for call in &mut calls {
        call.fail(error.clone());
    }
    calls
}

/// What a draft takes in an insert, about.
pub(super) fn weight(draft: &Draft) -> usize {
    OVERHEAD + usize::try_from(slot::bytes_of(draft)).unwrap_or(usize::MAX)
}
