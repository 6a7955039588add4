//! Giving drafts their places.

use std::collections::HashSet;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use tokio::time::{Instant, sleep};
use xpush_core::ports::message_log::{Draft, Placed, Refused};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, Kind};

use super::Inner;
use super::channel::View;
use super::lanes::{Call, Known, failed};
use super::plan::{Plan, Step};
use super::slot;
use crate::lock;
use crate::store::{Intent, Update, is_duplicate, port_error};

/// Places lost to others in a row before an append gives up.
const LOST: u32 = 50;

/// Drafts that are looked for at once when one has its slot already.
const RETRIES: usize = 256;

/// After so many a call that yields gives up.
const YIELDED: u32 = 2;

/// After so many the others are told.
const WANTING: u32 = 3;

/// How long one waits for others at first, ms, and at most.
const PAUSE: u64 = 2;
const LONGEST_PAUSE: u64 = 16;

/// Writers whose markers are remembered, and for how long, ms.
const WRITERS: usize = 100_000;
const WRITER_KNOWN: u64 = 600_000;

/// How an insert has ended.
pub(super) enum Inserted {
    All,
    /// The document behind so many met a unique index.
    Duplicate(usize),
    /// So many are there; of the others nobody knows.
    Unknown(usize, PortError),
    /// So many are there, and the others are not.
    Failed(usize, PortError),
}

/// A deletion whose target still has its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Withdrawal {
    pub(super) target: u64,
    pub(super) by: u64,
    pub(super) at: u64,
}

/// An append under way.
struct Work {
    calls: Vec<Call>,
    /// The call whose drafts are next.
    at: usize,
    /// Fences that were sent without an answer: who finds one has not met somebody else's.
    sent: HashSet<Vec<u8>>,
    /// The head was read since the calls were made: what is refused by it is refused rightly.
    fresh: bool,
    /// The head that is known is none any more.
    stale: bool,
    /// Places lost in a row.
    lost: u32,
    started: Instant,
}

impl Work {
    fn drafts(&self) -> impl Iterator<Item = &Draft> + Clone + Send {
        self.calls[self.at..].iter().flat_map(|call| call.drafts.iter())
    }

    /// Whether the next draft's call yields.
    fn yields(&self) -> bool {
        self.calls[self.at..].iter().find(|call| !call.drafts.is_empty()).is_some_and(|call| call.yields)
    }

    /// The next draft has ended so.
    fn pop(&mut self) -> Option<(usize, Draft)> {
        while let Some(call) = self.calls.get_mut(self.at) {
            if let Some(draft) = call.drafts.pop_front() {
                return Some((self.at, draft));
            }
            self.at += 1;
        }
        None
    }

    fn is_done(&self) -> bool {
        self.calls[self.at..].iter().all(|call| call.drafts.is_empty())
    }

    /// The next draft has failed, and with it the rest of its call.
    fn fail(&mut self, error: PortError) {
        while let Some(call) = self.calls.get_mut(self.at) {
            if !call.drafts.is_empty() {
                return call.fail(error);
            }
            self.at += 1;
        }
    }

    /// Answers drafts that have their places, or were refused: those that delete only when the data of their targets are `withdrawn`.
    fn answer(&mut self, taken: Vec<(usize, Result<Placed, Refused>)>, withdrawn: &Result<(), PortError>) {
        for (call, result) in taken {
            let call = &mut self.calls[call];
            let deletes =
                matches!(&result, Ok(Placed { message, .. }) if matches!(message.kind, Kind::Delete { .. }));
            match withdrawn {
                // It has its place, and nobody reads its target any more. That the bytes are gone, which whoever settles the channel sees to, cannot be said yet.
                Err(error) if deletes && call.appended.failure.is_none() => {
                    call.fail(PortError { kind: Failure::Unknown, ..error.clone() });
                }
                _ if call.appended.failure.is_none() => call.appended.taken.push(result),
                _ => {}
            }
        }
    }

    /// Whoever still waits is told the same.
    fn fail_all(mut self, error: &PortError) -> Vec<Call> {
        let done: Vec<Call> = self.calls.drain(..self.at).collect();
        let (open, ended): (Vec<Call>, Vec<Call>) =
            self.calls.into_iter().partition(|call| !call.drafts.is_empty());
        let mut calls = done;
        calls.extend(ended);
        calls.extend(failed(open, error));
        calls
    }
}

impl Inner {
    /// Appends what the calls bring, and says whether the server is away.
    pub(super) async fn append_all(&self, key: &ChannelKey, calls: Vec<Call>) -> (Vec<Call>, bool) {
        let mut work = Work {
            calls,
            at: 0,
            sent: HashSet::new(),
            fresh: false,
            stale: false,
            lost: 0,
            started: Instant::now(),
        };
        if let Err(error) = self.check_tide().await {
            return (work.fail_all(&error), is_away(&error));
        }
        let mut known = self.recall(key);
        while !work.is_done() {
            match self.step(key, &mut work, &mut known).await {
                Ok(()) => {}
                Err(error) if is_away(&error) => {
                    self.tide.doubt();
                    // Of what was sent before, nobody knows either.
                    let kind = if work.sent.is_empty() { error.kind } else { Failure::Unknown };
                    return (work.fail_all(&PortError { kind, ..error }), true);
                }
                Err(error) => {
                    known = None;
                    work.fail(error);
                }
            }
        }
        if let Some(known) = known {
            self.remember(key, known);
        }
        (work.calls, false)
    }

    /// Brings the next drafts to their end, or learns why that must be tried again.
    async fn step(
        &self,
        key: &ChannelKey,
        work: &mut Work,
        known: &mut Option<Known>,
    ) -> Result<(), PortError> {
        let retention = work.calls[work.at].retention;
        let changes = || work.drafts().take(super::plan::SLOTS).any(|draft| draft.kind.target().is_some());
        let current = match known {
            // A message that was written elsewhere a moment ago is not to be called none.
            Some(known) if !work.stale && (work.fresh || !changes()) => known,
            _ => {
                let before = known.take();
                let view = self.learn(key).await?;
                // Of a life that has ended nothing is true of the next one.
                let edge = before.filter(|before| before.view.id == view.id).map(|before| before.edge);
                let edge = edge.unwrap_or_default();
                (work.fresh, work.stale) = (true, false);
                known.insert(Known { view, edge })
            }
        };
        current.edge.cut(current.view.seq());
        let plan = self.plan(current, retention, work.drafts()).await?;
        self.know_writers(current, &plan).await?;
        let inserted =
            if plan.documents.is_empty() { Inserted::All } else { self.insert(&plan.documents).await? };
        let count = match &inserted {
            Inserted::All => plan.documents.len(),
            Inserted::Duplicate(count) | Inserted::Unknown(count, _) | Inserted::Failed(count, _) => *count,
        };
        let meets = self.take(key, work, current, plan, count).await?;
        let retry = match inserted {
            Inserted::All => meets,
            Inserted::Duplicate(_) => true,
            Inserted::Unknown(_, error) => {
                work.sent.extend(work.fences());
                *known = None;
                return self.again(work, error).await;
            }
            Inserted::Failed(_, error) => return Err(error),
        };
        if retry {
            self.meet(key, work, known).await?;
        }
        Ok(())
    }

    /// Lets others know that somebody wants a place, too: a writer that knows the head is faster than one that has just lost it.
    async fn want_place(&self, key: &ChannelKey) -> Result<(), PortError> {
        let wanted = doc! { "$set": { "wanted": crate::random() } };
        let filter = doc! { "_id": slot::channel_id(key) };
        self.store.update("channels", vec![Update { filter, change: wanted, upsert: false }]).await.map(drop)
    }

    async fn learn(&self, key: &ChannelKey) -> Result<View, PortError> {
        let view = self.look_latest(key).await?;
        if view.head().is_none() {
            // It must be there before its first slot: by it slots are found.
            let make = doc! {
                "$set": { "app": key.app.as_str(), "name": key.name.as_str() },
                "$setOnInsert": { "incarnation": 0_i64, "settled": 0_i64, "blanked": 1_i64 },
            };
            if let Some(ended) = view.incarnation.checked_sub(1) {
                self.begin_anew(&view.channel, ended).await?;
            }
            let update = Update { filter: doc! { "_id": view.channel.clone() }, change: make, upsert: true };
            self.store.update("channels", vec![update]).await?;
        }
        Ok(view)
    }

    /// Takes the steps that need no more than the first `count` documents. True when the next draft has a slot already.
    async fn take(
        &self,
        key: &ChannelKey,
        work: &mut Work,
        known: &mut Known,
        plan: Plan,
        count: usize,
    ) -> Result<bool, PortError> {
        let (mut inserted, mut deleted, mut meets) = (0, Vec::new(), false);
        let mut taken = Vec::new();
        for step in plan.steps {
            let slot = match step {
                Step::Retry => {
                    meets = true;
                    break;
                }
                Step::Refuse(refused) => {
                    if let Some((call, _)) = work.pop() {
                        taken.push((call, Err(refused)));
                    }
                    continue;
                }
                Step::Insert(_) if inserted == count => break,
                Step::Insert(slot) => slot,
            };
            inserted += 1;
            let Some((call, draft)) = work.pop() else { break };
            if let Kind::Delete { target } = slot.kind {
                deleted.push(Withdrawal { target, by: slot.seq, at: slot.at });
            }
            let message = slot::message(key, self.position(&known.view, slot.seq), draft);
            taken.push((call, Ok(Placed { message: message.into(), retry: false })));
            known.view.push(*slot);
        }
        if inserted > 0 {
            (work.lost, work.started) = (0, Instant::now());
            self.written(key);
        }
        let withdrawn = self.withdraw(&known.view.id, &deleted).await;
        work.answer(taken, &withdrawn);
        Ok(meets)
    }

    /// The next draft met a fence: it is a retry, or somebody else was faster.
    async fn meet(
        &self,
        key: &ChannelKey,
        work: &mut Work,
        known: &mut Option<Known>,
    ) -> Result<(), PortError> {
        // What it has read of the old end stays right.
        if let Some(known) = known {
            known.edge.cut(known.view.seq());
        }
        work.stale = true;
        let drafts: Vec<&Draft> = work.drafts().take(RETRIES).collect();
        let Some(draft) = drafts.first() else { return Ok(()) };
        let fence = slot::fence(&draft.from.user, &draft.id);
        let slots = known.as_ref().map_or_else(|| slot::channel_id(key), |known| known.view.id.clone());
        let (slots, found) = self.messages_of(key, &slots, &drafts).await?;
        // Who comes again with one comes again with several: those at the head are answered together.
        let fences = drafts.iter().map(|draft| slot::fence(&draft.from.user, &draft.id).bytes);
        let known: Vec<_> = fences.map_while(|fence| Some((found.get(&fence)?.clone(), fence))).collect();
        if !known.is_empty() {
            let (mut taken, mut deleted) = (Vec::new(), Vec::new());
            for (message, fence) in known {
                if let Kind::Delete { target } = message.kind {
                    deleted.push(Withdrawal { target, by: message.seq(), at: message.at });
                }
                let retry = !work.sent.contains(&fence);
                if let Some((call, _)) = work.pop() {
                    taken.push((call, Ok(Placed { message, retry })));
                }
            }
            (work.lost, work.started) = (0, Instant::now());
            // Whoever has written them may have died behind that.
            self.written(key);
            let withdrawn = self.withdraw(&slots, &deleted).await;
            work.answer(taken, &withdrawn);
            return Ok(());
        }
        work.lost += 1;
        self.yield_for_a_while(key);
        if work.lost.is_multiple_of(WANTING) {
            self.want_place(key).await?;
        }
        let doubt = work.sent.contains(&fence.bytes);
        let error = PortError::new(Failure::Conflict, "others have taken every place that was tried");
        let most = if work.yields() { YIELDED } else { LOST };
        if work.lost >= most {
            return Err(if doubt { PortError { kind: Failure::Unknown, ..error } } else { error });
        }
        self.again(work, error).await
    }

    /// Waits a moment, unless there is no time left.
    async fn again(&self, work: &Work, error: PortError) -> Result<(), PortError> {
        let longest = (PAUSE << work.lost.min(5)).min(LONGEST_PAUSE);
        let pause = Duration::from_millis(1 + crate::random().unsigned_abs() % longest);
        if work.started.elapsed() + pause >= self.store.patience() {
            return Err(error);
        }
        sleep(pause).await;
        Ok(())
    }

    /// Takes the data of deleted messages and of their edits out.
    pub(super) async fn withdraw(
        &self,
        channel: &mongodb::bson::Binary,
        deleted: &[Withdrawal],
    ) -> Result<(), PortError> {
        if deleted.is_empty() {
            return Ok(());
        }
        let update = |deletion: &Withdrawal| Update {
            filter: doc! { "c": channel.clone(), "s": deletion.target as i64 },
            change: doc! {
                "$set": { "z": deletion.at as i64 },
                "$max": { "r": deletion.by as i64 },
                "$unset": { "j": 1, "x": 1 },
            },
            upsert: false,
        };
        self.store.update("slots", deleted.iter().map(update).collect()).await?;
        let targets: Vec<i64> = deleted.iter().map(|deletion| deletion.target as i64).collect();
        self.blank_edits(channel, targets).await
    }

    /// Sees to it that whoever publishes has a marker's document: by it a user's channels are found.
    async fn know_writers(&self, known: &Known, plan: &Plan) -> Result<(), PortError> {
        let (view, now) = (&known.view, self.clock.now());
        let mut writers = HashSet::new();
        for step in &plan.steps {
            if let Step::Insert(slot) = step
                && slot.kind.is_message()
            {
                writers.insert(slot.user.as_str());
            }
        }
        let id = |user: &str| slot::marker_id(&view.id, user);
        {
            let known = lock(&self.known);
            let is_known = |user: &str| {
                known.get(&id(user).bytes).is_some_and(|since| now.saturating_sub(*since) < WRITER_KNOWN)
            };
            writers.retain(|user| !is_known(user));
        }
        if writers.is_empty() {
            return Ok(());
        }
        let updates = writers.iter().map(|user| self.invitation(view, user)).collect();
        self.store.update("markers", updates).await?;
        let mut known = lock(&self.known);
        if known.len() > WRITERS {
            known.clear();
        }
        known.extend(writers.into_iter().map(|user| (id(user).bytes, now)));
        Ok(())
    }

    pub(super) async fn insert(&self, documents: &[Document]) -> Result<Inserted, PortError> {
        let insert = self.slots.insert_many(documents).ordered(true);
        let error = match self.store.ask(insert).await {
            Ok(Ok(_)) => return Ok(Inserted::All),
            Ok(Err(error)) => error,
            Err(error) => {
                return Ok(Inserted::Unknown(0, PortError { kind: Failure::Unknown, ..error }));
            }
        };
        Ok(judge(&error, documents.len()))
    }
}

impl Work {
    fn fences(&self) -> Vec<Vec<u8>> {
        let fence = |draft: &Draft| slot::fence(&draft.from.user, &draft.id).bytes;
        self.drafts().map(fence).collect()
    }
}

fn judge(error: &Error, count: usize) -> Inserted {
    if let ErrorKind::InsertMany(many) = &*error.kind {
        // Not confirmed by a majority: what was written may be taken back.
        if many.write_concern_error.is_some() {
            let told = PortError::new(Failure::Unknown, "the write was not confirmed by a majority");
            return Inserted::Unknown(0, told);
        }
        let first = many.write_errors.iter().flatten().min_by_key(|error| error.index);
        return match first {
            None => Inserted::Unknown(0, port_error(Intent::Write, error)),
            Some(first) if crate::store::is_duplicate_code(first.code) => {
                Inserted::Duplicate(first.index.min(count))
            }
            Some(first) => {
                let told = crate::store::coded(Failure::Unknown, first.code);
                match told.kind {
                    Failure::Unknown => Inserted::Unknown(first.index, told),
                    _ => Inserted::Failed(first.index, told),
                }
            }
        };
    }
    if is_duplicate(error) {
        return Inserted::Duplicate(0);
    }
    let told = port_error(Intent::Write, error);
    match told.kind {
        Failure::Unknown => Inserted::Unknown(0, told),
        _ => Inserted::Failed(0, told),
    }
}

fn is_away(error: &PortError) -> bool {
    matches!(error.kind, Failure::Unknown | Failure::NotApplied | Failure::Overloaded | Failure::Full)
}
