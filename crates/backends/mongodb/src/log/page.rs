//! Reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mongodb::bson::{Binary, Document, doc};
use xpush_core::ports::PortError;
use xpush_core::ports::message_log::{Draft, Page, Range};
use xpush_core::{ChannelKey, Kind, Message, Payload, Revision};

use super::Inner;
use super::channel::View;
use super::slot::{self, Content, NULL, Slot};

impl Inner {
    pub(super) async fn page(&self, key: &ChannelKey, range: Range, limit: usize) -> Result<Page, PortError> {
        self.page_of(&self.look(key).await?, range, limit).await
    }

    /// The same of a channel that was looked at.
    pub(super) async fn page_of(&self, view: &View, range: Range, limit: usize) -> Result<Page, PortError> {
        let (epoch, head) = (self.epoch_of(view.incarnation), view.seq());
        if head == 0 {
            return Ok(Page { epoch, first: 1, head, messages: Vec::new() });
        }
        let first = self.readable(view).await?;
        let (limit, behind_last) = (limit as u64, head + 1);
        let (from, to) = match range {
            Range::After(seq) => {
                let from = seq.saturating_add(1).clamp(first, behind_last);
                (from, from.saturating_add(limit).min(behind_last))
            }
            Range::Before(seq) => {
                let to = seq.clamp(first, behind_last);
                (to.saturating_sub(limit).max(first), to)
            }
            Range::Newest => (behind_last.saturating_sub(limit).max(first), behind_last),
        };
        if from >= to {
            return Ok(Page { epoch, first, head, messages: Vec::new() });
        }
        let range = doc! { "c": view.id.clone(), "s": { "$gte": from as i64, "$lt": to as i64 } };
        let found = self.store.find(self.slots.find(range)).await?;
        let slots = self.assemble(view, &found, &HashMap::new()).await?;
        let (first, messages) = whole(first, from, to, slots)?;
        Ok(Page { epoch, first, head, messages })
    }

    /// Some of a channel's messages, as they read now.
    pub(super) async fn messages(
        &self,
        view: &View,
        seqs: &[u64],
    ) -> Result<BTreeMap<u64, Arc<Message>>, PortError> {
        let seqs: Vec<i64> = seqs.iter().map(|seq| *seq as i64).collect();
        let find = self.slots.find(doc! { "c": view.id.clone(), "s": { "$in": seqs } });
        let found = self.store.find(find).await?;
        let slots = self.assemble(view, &found, &HashMap::new()).await?;
        Ok(slots.into_iter().filter_map(|(seq, message)| Some((seq, Arc::new(message?)))).collect())
    }

    /// The messages that retries of `drafts` find among those slots, by their fences, and what their slots are known by now; the drafts have the bodies again, should any be
    /// blanked.
    pub(super) async fn messages_of(
        &self,
        key: &ChannelKey,
        slots: &Binary,
        drafts: &[&Draft],
    ) -> Result<(Binary, HashMap<Vec<u8>, Arc<Message>>), PortError> {
        let fences: Vec<_> = drafts.iter().map(|draft| slot::fence(&draft.from.user, &draft.id)).collect();
        let of = |slots: &Binary| doc! { "c": slots.clone(), "h": { "$in": fences.clone() } };
        let found = self.slots.find(of(slots)).projection(doc! { "h": 1 });
        if self.store.find(found).await?.is_empty() {
            return Ok((slots.clone(), HashMap::new()));
        }
        // What has become of them is looked at first, and they after that: their data may be taken out in between.
        let view = self.look(key).await?;
        let found = self.store.find(self.slots.find(of(&view.id))).await?;
        let by_fence: HashMap<&[u8], &Draft> =
            fences.iter().map(|fence| &*fence.bytes).zip(drafts.iter().copied()).collect();
        let (mut by_seq, mut fence_of) = (HashMap::new(), HashMap::new());
        for document in &found {
            let fence = document.get_binary_generic("h").map_err(|_| slot::unreadable())?;
            let seq = Slot::read(document)?.seq;
            by_seq.extend(by_fence.get(&**fence).map(|draft| (seq, *draft)));
            fence_of.insert(seq, fence.clone());
        }
        let messages = self.assemble(&view, &found, &by_seq).await?;
        let named =
            |(seq, message): (u64, Option<Message>)| Some((fence_of.remove(&seq)?, Arc::new(message?)));
        Ok((view.id, messages.into_iter().filter_map(named).collect()))
    }

    /// Slots as they read now; `None` for those that are blanked, unless there is a draft for their seq.
    async fn assemble(
        &self,
        view: &View,
        found: &[Document],
        drafts: &HashMap<u64, &Draft>,
    ) -> Result<BTreeMap<u64, Option<Message>>, PortError> {
        let changes = view.changes();
        let contents = found.iter().map(Content::read).collect::<Result<Vec<_>, _>>()?;
        // What counts is in the slots of the newest edits.
        let newest = |content: &Content| {
            let unsettled = changes.get(&content.slot.seq).map_or(0, |change| change.by);
            content.slot.revised.max(unsettled)
        };
        let deleted = |content: &Content| {
            let unsettled = changes.get(&content.slot.seq).filter(|change| change.deletes);
            content.slot.deleted_at.or(unsettled.map(|change| change.at))
        };
        let wanted: Vec<i64> = contents
            .iter()
            .map(|content| (newest(content), content))
            .filter(|(by, content)| *by > 0 && deleted(content).is_none())
            .map(|(by, _)| by as i64)
            .collect();
        let edits = self.edits(view, wanted).await?;
        let mut messages = BTreeMap::new();
        for content in contents {
            let (seq, by) = (content.slot.seq, newest(&content));
            let draft = drafts.get(&seq);
            let (mut revision, mut payload) = (None, content.payload.clone());
            if let Some(at) = deleted(&content) {
                (revision, payload) = (Some(Revision { seq: by, at, deleted: true }), None);
            } else if let Some(edit) = edits.get(&by) {
                revision = Some(Revision { seq: by, at: edit.slot.at, deleted: false });
                payload.clone_from(&edit.payload);
                if payload.is_none() {
                    // The message was deleted a moment ago, and its edits' data with it.
                    let now = self.slots.find_one(doc! { "c": view.id.clone(), "s": seq as i64 });
                    let now = self.store.read(now).await?.map(|now| Slot::read(&now)).transpose()?;
                    if let Some(Slot { revised, deleted_at: Some(at), .. }) = now {
                        revision = Some(Revision { seq: revised, at, deleted: true });
                    }
                }
            } else if by > 0 {
                return Err(slot::unreadable());
            } else if let Kind::Edit { target } = content.slot.kind
                && changes.get(&target).is_some_and(|change| change.deletes)
            {
                payload = None;
            }
            let blanked = content.event.is_none();
            let event = match (&content.event, draft) {
                (Some(event), _) => event.clone(),
                (None, Some(draft)) => draft.event.clone(),
                (None, None) => {
                    messages.insert(seq, None);
                    continue;
                }
            };
            let deleted = revision.is_some_and(|revision| revision.deleted);
            let payload = match (payload, draft) {
                (Some(payload), _) => payload,
                (None, Some(draft)) if blanked && !deleted => draft.payload.clone(),
                (None, _) => Payload { json: NULL, attachments: Vec::new() },
            };
            let message = Message {
                kind: content.slot.kind,
                channel: view.key.clone(),
                position: Some(self.position(view, seq)),
                from: content.sender()?,
                at: content.slot.at,
                id: content.id,
                event,
                payload,
                revision,
            };
            messages.insert(seq, Some(message));
        }
        Ok(messages)
    }

    async fn edits(&self, view: &View, seqs: Vec<i64>) -> Result<HashMap<u64, Content>, PortError> {
        if seqs.is_empty() {
            return Ok(HashMap::new());
        }
        let find = self.slots.find(doc! { "c": view.id.clone(), "s": { "$in": seqs } });
        let found = self.store.find(find).await?;
        let contents = found.iter().map(Content::read).collect::<Result<Vec<_>, _>>()?;
        Ok(contents.into_iter().map(|content| (content.slot.seq, content)).collect())
    }
}

/// The slots from `from` to before `to`, or from behind the last one that was blanked meanwhile.
fn whole(
    first: u64,
    from: u64,
    to: u64,
    mut slots: BTreeMap<u64, Option<Message>>,
) -> Result<(u64, Vec<Arc<Message>>), PortError> {
    let gone = (from..to).rev().find(|seq| !matches!(slots.get(seq), Some(Some(_))));
    let start = gone.map_or(from, |gone| gone + 1);
    let messages = slots.split_off(&start).into_values().flatten().map(Arc::new);
    Ok((if gone.is_some() { first.max(start) } else { first }, messages.collect()))
}
