//! What a search index sees of the ledger ([`Followed`]): each server has one of its own.
//!
//! Channels are compared by their checkpoints, which are at most a moment behind their heads, so that no query by channel is needed; and each checkpoint has the time when it was
//! set, by which those are found that were written lately, however many others there are. What was erased is told by documents of their own
//! (`erased`), which name places and no user: slots that are blanked give no other sign, and nobody would look at them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mongodb::bson::{Binary, Document, doc};
use xpush_core::ports::message_log::{Page, Range};
use xpush_core::ports::search::{ERASED_FOR, Erased, Followed, Moved, Standing, Standings, Stretch};
use xpush_core::ports::{Done, PortError};
use xpush_core::{ChannelKey, Message};

use super::channel::View;
use super::{Inner, Ledger, slot, sweep};
use crate::store::Update;

/// Documents of what was erased that are read at once: more than can be written within a millisecond.
const AT_ONCE: usize = 5_000;

/// Servers' clocks may differ by so much, ms.
const SKEW: u64 = 60_000;

/// Checkpoints of at most so many ms before are looked at again: what is written by then has its time already. Who comes later than that is met when all channels are compared.
const UNDER_WAY: u64 = 2_000;

/// Channels that were written lately and are read at once.
const WRITTEN: usize = 2_000;

impl Followed for Ledger {
    fn identity(&self) -> u64 {
        self.inner.store.epoch()
    }

    fn standings(&self, after: Option<Box<[u8]>>, limit: usize, done: Done<Standings>) {
        self.run(done, |inner| async move { inner.standings(after, limit).await });
    }

    fn moved(&self, since: u64, done: Done<Moved>) {
        self.run(done, |inner| async move { inner.moved_since(since).await });
    }

    fn stretch(&self, channel: &ChannelKey, after: u64, limit: u64, done: Done<Stretch>) {
        let channel = channel.clone();
        self.run(done, |inner| async move { inner.stretch(&channel, after, limit).await });
    }

    fn messages(&self, channel: &ChannelKey, seqs: Vec<u64>, done: Done<Vec<(u64, Arc<Message>)>>) {
        let channel = channel.clone();
        self.run(done, |inner| async move {
            let view = inner.look(&channel).await?;
            inner.readable_of(&view, &seqs).await
        });
    }

    fn erased(&self, since: u64, done: Done<Erased>) {
        self.run(done, |inner| async move { inner.erased_since(since).await });
    }
}

impl Inner {
    async fn standings(&self, after: Option<Box<[u8]>>, limit: usize) -> Result<Standings, PortError> {
        let filter = after.map_or_else(Document::new, |id| doc! { "_id": { "$gt": slot::binary(&id) } });
        let find = self.channels.find(filter).sort(doc! { "_id": 1 }).limit(limit as i64);
        let documents = self.store.find(find.projection(standing_fields())).await?;
        let last = documents.last().filter(|_| documents.len() == limit);
        let next = last.and_then(|last| last.get_binary_generic("_id").ok()).map(|id| (&**id).into());
        let channels = documents.iter().filter_map(|document| self.standing(document));
        Ok(Standings { channels: channels.collect(), next })
    }

    async fn moved_since(&self, since: u64) -> Result<Moved, PortError> {
        let now = self.clock.now();
        let lately = doc! { "moved": { "$gte": since as i64 } };
        let find = self.channels.find(lately).sort(doc! { "moved": 1 }).limit(WRITTEN as i64);
        let documents = self.store.find(find.projection(standing_fields())).await?;
        let last = documents.last().filter(|_| documents.len() == WRITTEN);
        let last = last.and_then(|last| last.get_i64("moved").ok()).map(i64::unsigned_abs);
        // More of one moment than are read at once are passed over.
        let until = last.map_or(now.saturating_sub(UNDER_WAY), |last| last.max(since + 1));
        let channels = documents.iter().filter_map(|document| self.standing(document));
        Ok(Moved { channels: channels.collect(), until: until.max(since), more: last.is_some() })
    }

    /// How a channel stands by its document; `None`: it has no messages.
    fn standing(&self, document: &Document) -> Option<Standing> {
        let number = |field: &str| document.get_i64(field).map_or(0, i64::unsigned_abs);
        let id = document.get_binary_generic("_id").ok()?;
        let life = number("incarnation");
        let standing = Standing {
            channel: sweep::key(document)?,
            mark: slot::slots_id(&slot::binary(id), life).bytes.into(),
            epoch: self.epoch_of(life),
            head: number("settled"),
            first: number("blanked").max(1),
        };
        (standing.head > 0).then_some(standing)
    }

    async fn stretch(&self, key: &ChannelKey, after: u64, limit: u64) -> Result<Stretch, PortError> {
        let view = self.look(key).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let page = self.page_of(&view, Range::After(after), limit).await?;
        let to = page.messages.last().map_or(page.head.min(after.max(page.first - 1)), |last| last.seq());
        let mut messages: BTreeMap<u64, Option<Arc<Message>>> = BTreeMap::new();
        // Edits and deletions may be of messages that lie before.
        let mut before = BTreeSet::new();
        for message in &page.messages {
            match message.kind.target() {
                Some(target) => _ = before.insert(target),
                None => {
                    let is_there = may_be_read(message);
                    messages.insert(message.seq(), is_there.then(|| Arc::clone(message)));
                }
            }
        }
        before.retain(|target| !messages.contains_key(target));
        let before = Vec::from_iter(before);
        messages.extend(before.iter().map(|target| (*target, None)));
        let found = self.readable_of(&view, &before).await?;
        messages.extend(found.into_iter().map(|(seq, message)| (seq, Some(message))));
        let Page { epoch, head, first, .. } = page;
        let mark = view.id.bytes.as_slice().into();
        let standing = Standing { channel: key.clone(), mark, epoch, head, first };
        Ok(Stretch { standing, to, messages: messages.into_iter().collect() })
    }

    /// Those of the slots that are messages that may be read.
    async fn readable_of(&self, view: &View, seqs: &[u64]) -> Result<Vec<(u64, Arc<Message>)>, PortError> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.readable(view).await?;
        let messages = self.messages(view, seqs).await?;
        Ok(messages.into_iter().filter(|(seq, message)| *seq >= first && may_be_read(message)).collect())
    }

    /// Notes slots of a channel's life that are about to be erased; 0: all of them.
    pub(super) async fn note_erased(&self, life: &Binary, seqs: BTreeSet<i64>) -> Result<(), PortError> {
        let now = self.clock.now() as i64;
        let note = |seq: i64| {
            let set = doc! { "c": life.clone(), "s": seq, "at": now };
            let filter = doc! { "_id": slot::place(life, seq as u64) };
            Update { filter, change: doc! { "$set": set }, upsert: true }
        };
        self.update_all("erased", seqs.into_iter().map(note).collect()).await.map(drop)
    }

    async fn erased_since(&self, since: u64) -> Result<Erased, PortError> {
        let from = since.saturating_sub(SKEW);
        let find = self.store.collection("erased");
        let find = find.find(doc! { "at": { "$gte": from as i64 } }).sort(doc! { "at": 1 });
        let found = self.store.find(find.limit(AT_ONCE as i64)).await?;
        let at = found.last().and_then(|last| last.get_i64("at").ok()).map_or(since, i64::unsigned_abs);
        let slot = |document: &Document| {
            let life = document.get_binary_generic("c").ok()?;
            Some((life.as_slice().into(), document.get_i64("s").ok()?.unsigned_abs()))
        };
        let more = found.len() == AT_ONCE;
        let until = if more { at + SKEW } else { self.clock.now() };
        Ok(Erased { slots: found.iter().filter_map(slot).collect(), until, more })
    }

    /// Forgets what was erased long ago.
    pub(super) async fn forget_erased(&self, now: u64) -> Result<(), PortError> {
        let old = doc! { "at": { "$lt": now.saturating_sub(ERASED_FOR + SKEW) as i64 } };
        self.store.write(self.store.collection("erased").delete_many(old)).await.map(drop)
    }
}

fn standing_fields() -> Document {
    doc! { "app": 1, "name": 1, "incarnation": 1, "settled": 1, "blanked": 1, "moved": 1 }
}

fn may_be_read(message: &Message) -> bool {
    message.kind.is_message() && !message.is_deleted()
}
