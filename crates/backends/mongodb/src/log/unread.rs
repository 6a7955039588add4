//! What is unread: differences of sums.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::try_join_all;
use mongodb::bson::{Document, doc};
use xpush_core::ports::PortError;

use super::Inner;
use super::channel::{View, without_body};
use super::slot::{self, Slot};

/// Channels that are asked about at once.
const AT_ONCE: usize = 16;

/// A question: how many countable messages behind `read`, from `first` on, which is the smallest slot that may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) view: &'a View,
    pub(super) first: u64,
    pub(super) read: u64,
}

impl Question<'_> {
    /// The first slot that may count; `None` when none does.
    fn from(&self) -> Option<u64> {
        let from = self.first.max(self.read.saturating_add(1));
        (from <= self.view.seq()).then_some(from)
    }
}

impl Inner {
    /// Answers all questions: one query for the places they count from, and one a channel for what was deleted.
    pub(super) async fn unread(&self, questions: &[Question<'_>]) -> Result<Vec<u64>, PortError> {
        let (mut before, mut deleted) = (Vec::new(), BTreeMap::new());
        for question in questions {
            let Some(from) = question.from() else { continue };
            let id = question.view.id.clone();
            if question.view.slot(from).is_none() {
                before.push((&question.view.id, from));
            }
            let smallest: &mut u64 = deleted.entry(id.bytes).or_insert(from);
            *smallest = from.min(*smallest);
        }
        let sums = self.at(before, without_body()).await?;
        let mut targets = Vec::new();
        for some in deleted.into_iter().collect::<Vec<_>>().chunks(AT_ONCE) {
            let of = |(id, from): &(Vec<u8>, u64)| {
                // Edits come along: the index does not tell them apart.
                let changes = doc! { "c": slot::binary(id), "t": { "$gte": *from as i64 } };
                self.store.find(self.slots.find(changes).projection(doc! { "c": 1, "t": 1, "d": 1 }))
            };
            targets.extend(try_join_all(some.iter().map(of)).await?.into_iter().flatten());
        }
        targets.retain(|change: &Document| change.contains_key("d"));
        let mut counted = HashMap::new();
        for document in sums.values() {
            let slot = Slot::read(document)?;
            counted.insert((id_of(document)?, slot.seq), slot.counted);
        }
        let mut withdrawn: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
        for document in &targets {
            let target = document.get_i64("t").map_err(|_| slot::unreadable())?;
            withdrawn.entry(id_of(document)?).or_default().push(target as u64);
        }
        let answer = |question: &Question<'_>| {
            let (Some(from), Some(head)) = (question.from(), question.view.head()) else { return 0 };
            let id = &question.view.id.bytes;
            let known = question.view.slot(from).map(|slot| slot.counted);
            // Gone since: then it may not be read either.
            let Some(before) = known.or_else(|| counted.get(&(id.clone(), from)).copied()) else { return 0 };
            let targets = withdrawn.get(id).map(Vec::as_slice).unwrap_or_default();
            // One that was deleted and erased is there twice.
            let deleted: HashSet<&u64> =
                targets.iter().filter(|target| **target >= from && **target <= head.seq).collect();
            head.counted_through().saturating_sub(before).saturating_sub(deleted.len() as u64)
        };
        Ok(questions.iter().map(answer).collect())
    }
}

fn id_of(document: &Document) -> Result<Vec<u8>, PortError> {
    document.get_binary_generic("c").cloned().map_err(|_| slot::unreadable())
}
