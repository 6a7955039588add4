//! What is unread: differences of sums.

use std::collections::{BTreeMap, HashMap, HashSet};

use mongodb::bson::{Document, doc};
use xpush_core::ports::PortError;

use super::Inner;
use super::channel::{View, without_body};
use super::slot::{self, Slot};

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
    /// Answers all questions: two queries, or one for each hundred channels.
    pub(super) async fn unread(&self, questions: &[Question<'_>]) -> Result<Vec<u64>, PortError> {
        let (mut before, mut deleted) = (Vec::new(), BTreeMap::new());
        for question in questions {
            let Some(from) = question.from() else { continue };
            let id = question.view.id.clone();
            if question.view.slot(from).is_none() {
                before.push(doc! { "c": id.clone(), "s": from as i64 });
            }
            let smallest: &mut u64 = deleted.entry(id.bytes).or_insert(from);
            *smallest = from.min(*smallest);
        }
        let deleted: Vec<Document> = deleted
            .into_iter()
            .map(|(id, from)| doc! { "c": slot::binary(&id), "t": { "$gte": from as i64 }, "d": 1 })
            .collect();
        let sums = self.some(before, without_body()).await?;
        let targets = self.some(deleted, doc! { "c": 1, "t": 1 }).await?;
        let mut counted = HashMap::new();
        for document in &sums {
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

    async fn some(
        &self,
        mut clauses: Vec<Document>,
        projection: Document,
    ) -> Result<Vec<Document>, PortError> {
        if clauses.len() == 1 {
            // Every server finds it by an index.
            let find = self.slots.find(clauses.remove(0)).projection(projection);
            return self.store.find(find).await;
        }
        self.any(clauses, Some(projection)).await
    }
}

fn id_of(document: &Document) -> Result<Vec<u8>, PortError> {
    document.get_binary_generic("c").cloned().map_err(|_| slot::unreadable())
}
