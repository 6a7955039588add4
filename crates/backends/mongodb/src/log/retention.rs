//! What may be read, and what leaves.
//!
//! A slot says from where on the channel may be read once it is the newest (`f`), and which age is too old (`g`). The bodies before are blanked, and slots that
//! are old enough deleted, in steps, behind the appends that pushed them out and by the sweep. Age moves on by itself: whoever reads looks where it stands.

use std::collections::BTreeMap;

use mongodb::bson::doc;
use xpush_core::Retention;
use xpush_core::ports::PortError;

use super::Inner;
use super::channel::View;
use super::slot::{self, Slot};

/// How long a slot is kept, ms: a retry is recognized for 24 h, and a clock may have been a day ahead when a node started.
pub(super) const KEPT: u64 = 48 * 3_600_000;

/// No bound on age, as documents say it.
pub(super) const ENDLESS: u64 = i64::MAX as u64;

/// Slots that are blanked or deleted in one step.
const STEP: u64 = 1000;

/// Slots at the old end that are read at once, and how many a writer remembers.
const READ: i64 = 256;
const REMEMBERED: usize = 1024;

/// The old end of a channel, as far as it was read, and slots that were written since: bytes before each, and when it was placed.
#[derive(Default)]
pub(super) struct Edge(BTreeMap<u64, (u64, u64)>);

impl Edge {
    pub(super) fn push(&mut self, slot: &Slot) {
        self.0.insert(slot.seq, (slot.bytes, slot.placed));
    }

    /// Forgets what is not written, and what is too much.
    pub(super) fn cut(&mut self, head: u64) {
        drop(self.0.split_off(&(head + 1)));
        while self.0.len() > REMEMBERED {
            self.0.pop_last();
        }
    }
}

impl Inner {
    /// The smallest slot that may be read once `slot` is the newest.
    pub(super) async fn keep(
        &self,
        edge: &mut Edge,
        view: &View,
        slot: &Slot,
        retention: Retention,
    ) -> Result<u64, PortError> {
        let count = (retention.count as u64).max(1);
        // What is blanked has left by age, although no append has moved the bound since; of it even the slots may be gone.
        let left = view.blanked.min(slot.seq);
        let mut first = slot.first.max(left).max((slot.seq + 1).saturating_sub(count));
        let bytes = retention.bytes as u64;
        let through = slot.bytes_through();
        if slot.age < ENDLESS || bytes < through {
            while first < slot.seq {
                if !edge.0.contains_key(&first) {
                    self.read_on(edge, view, first, slot.seq).await?;
                }
                // Slots are deleted from the old end on: those that are missing before the first one have left.
                let there = edge.0.range(first..slot.seq).next().map(|(seq, known)| (*seq, *known));
                let Some((seq, (before, placed))) = there else {
                    first = slot.seq;
                    break;
                };
                first = seq;
                if through - before <= bytes && slot.placed.saturating_sub(placed) <= slot.age {
                    break;
                }
                first += 1;
            }
        }
        edge.0 = edge.0.split_off(&first);
        Ok(first)
    }

    /// Reads some of the slots from `first` to before `end`.
    async fn read_on(&self, edge: &mut Edge, view: &View, first: u64, end: u64) -> Result<(), PortError> {
        let range = doc! { "c": view.id.clone(), "s": { "$gte": first as i64, "$lt": end as i64 } };
        let find = self.latest.find(range).sort(doc! { "s": 1 }).limit(READ);
        let found = self.store.find(find.projection(doc! { "s": 1, "b": 1, "p": 1 })).await?;
        for (place, slot) in found.iter().enumerate() {
            let number = |field: &str| slot.get_i64(field).map(|value| value as u64);
            match (number("s"), number("b"), number("p")) {
                (Ok(seq), Ok(bytes), Ok(placed)) => drop(edge.0.insert(seq, (bytes, placed))),
                // One that is there and cannot be read has not left.
                _ if place == 0 => return Err(slot::unreadable()),
                _ => break,
            }
        }
        Ok(())
    }

    /// The smallest slot that may be read now; head + 1 when there is none.
    pub(super) async fn readable(&self, view: &View) -> Result<u64, PortError> {
        let Some(head) = view.head() else { return Ok(1) };
        let cut = self.clock.now().saturating_sub(head.age);
        if head.age >= ENDLESS || head.first == head.seq {
            return Ok(head.first);
        }
        // Where blanking has come to, as a rule: what is before is too old, too.
        let from = head.first.max(view.blanked.min(head.seq));
        if view.slot(from).is_some_and(|slot| slot.placed >= cut) {
            return Ok(from);
        }
        let young = doc! {
            "c": view.id.clone(),
            "s": { "$gte": from as i64, "$lt": head.seq as i64 },
            "p": { "$gte": cut as i64 },
        };
        let first = self.slots.find_one(young).sort(doc! { "s": 1 }).projection(doc! { "s": 1 });
        let first = self.store.read(first).await?;
        let first = first.map(|first| first.get_i64("s").map_err(|_| slot::unreadable())).transpose()?;
        Ok(first.map_or(head.seq, |first| first as u64))
    }

    /// Blanks and deletes what may not be read any more, one step of it; true when there is more.
    pub(super) async fn trim(&self, view: &View) -> Result<bool, PortError> {
        let first = self.readable(view).await?;
        let to = first.min(view.blanked + STEP);
        if view.blanked < to {
            let range = doc! { "c": view.id.clone(), "s": { "$gte": view.blanked as i64, "$lt": to as i64 } };
            let blank = doc! { "$unset": { "e": 1, "y": 1, "j": 1, "x": 1 } };
            self.store.write(self.slots.update_many(range, blank)).await?;
            let blanked = doc! { "$max": { "blanked": to as i64 } };
            self.store.write(self.channels.update_one(view.document(), blanked)).await?;
        }
        Ok(to < first)
    }

    /// Deletes slots that nobody retries any more, behind which nothing is left to be written.
    pub(super) async fn delete(&self, view: &View) -> Result<(), PortError> {
        let to = view.blanked.min(view.settled);
        if to <= 1 {
            return Ok(());
        }
        let cut = self.clock.now().saturating_sub(KEPT);
        let old = doc! { "c": view.id.clone(), "s": { "$lt": to as i64 }, "p": { "$lt": cut as i64 } };
        self.store.write(self.slots.delete_many(old)).await?;
        Ok(())
    }
}
