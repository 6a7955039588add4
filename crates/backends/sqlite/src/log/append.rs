//! Giving drafts their places.

use std::sync::Arc;

use rusqlite::{CachedStatement, OptionalExtension, params};
use xpush_core::ports::message_log::{Appended, Draft, Placed, Refused};
use xpush_core::{ChannelKey, Epoch, Kind, Message, Position, Retention};

use super::channels::Channel;
use super::fences::{Fence, Fences};
use super::slot::{self, slot_columns};
use super::{Inner, retention};
use crate::lock;
use crate::outbox;
use crate::store::{Fault, Writing};

/// One call's drafts.
struct Append<'a> {
    writing: &'a Writing<'a>,
    insert: CachedStatement<'a>,
    key: &'a ChannelKey,
    epoch: Epoch,
    now: u64,
}

impl Inner {
    pub(super) fn append(
        &self,
        writing: &Writing<'_>,
        key: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
    ) -> Result<Appended, Fault> {
        const INSERT: &str = "INSERT INTO slots
            (slot, placed, counted, bytes, kind, target, fence, user, id, at, event, display, json, attachments)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING";
        let mut channels = lock(&self.channels);
        channels.renew(writing);
        let mut channel = channels.get(writing, key)?.clone();
        let before = channel.head;
        let mut append = Append {
            writing,
            insert: writing.prepare_cached(INSERT)?,
            key,
            epoch: self.epoch_of(channel.incarnation),
            // Two processes' clocks may differ; a channel's slots are in order nevertheless.
            now: self.clock.now().max(channel.placed),
        };
        channels.fences.follow(key, channel.id);
        if channel.age < retention.age_ms.min(retention::ENDLESS) {
            // What was too old until now stays so.
            channel.first = retention::readable(writing, &channel, append.now)?;
        }
        let (mut taken, mut failure) = (Vec::with_capacity(drafts.len()), None);
        for draft in drafts {
            let placed = match append.place(&mut channels.fences, &mut channel, draft) {
                Ok(placed) => placed,
                // Of this draft alone, and before anything was written for it.
                Err(Fault::Port(error)) => {
                    failure = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            };
            if let Ok(Placed { message, retry: false }) = &placed {
                if message.kind.is_message() {
                    channels.sent(key, &message.from.user, message.seq());
                }
                self.put_work(writing, message)?;
            }
            taken.push(placed);
        }
        if channel.head > before {
            channel.placed = append.now;
            channel.active = self.clock.wall();
            retention::keep(writing, &mut channel, retention, append.now)?;
            channels.placed(channel.head - before);
            writing.placed(channel.head - before);
            *channels.change(writing, key)? = channel;
        }
        Ok(Appended { taken, failure })
    }
}

impl Inner {
    /// What the message makes to do goes with it.
    fn put_work(&self, writing: &Writing<'_>, message: &Message) -> Result<(), Fault> {
        let Some(tap) = self.tap.get() else { return Ok(()) };
        for item in tap.work(message) {
            // One at a time: a queue that is full takes nothing from the others.
            let alone = std::slice::from_ref(&item);
            let has_room = item.is_valid() && outbox::has_room(writing, alone)?;
            if has_room {
                outbox::put(writing, alone, self.clock.now(), self.clock.wall())?;
            } else {
                let (channel, seq) = (&message.channel, message.seq());
                tracing::debug!(%channel, seq, queue = item.queue, "what a message makes to do has no room");
            }
            tap.became(&message.channel, &item, has_room);
        }
        Ok(())
    }
}

impl Append<'_> {
    fn place(
        &mut self,
        fences: &mut Fences,
        channel: &mut Channel,
        draft: Draft,
    ) -> Result<Result<Placed, Refused>, Fault> {
        let fence = slot::fence(&draft.from.user, &draft.id);
        // The fence first: whoever has deleted a message and asks again is told so, and not that there is none.
        if let Some(placed) = self.retry(fences, channel, &draft, &fence)? {
            return Ok(Ok(placed));
        }
        let target = match draft.kind.target() {
            None => None,
            Some(seq) => {
                if let Some(refused) = self.refuses(channel, &draft, seq)? {
                    return Ok(Err(refused));
                }
                Some(slot::key(channel.id, seq))
            }
        };
        let seq = channel.head + 1;
        let inserted = self.insert.execute(params![
            slot::key(channel.id, seq),
            self.now as i64,
            channel.counted,
            channel.bytes,
            slot::kind(draft.kind),
            target,
            fence,
            draft.from.user.as_str(),
            draft.id.as_str(),
            draft.at as i64,
            draft.event.as_str(),
            draft.from.name.as_deref(),
            &*draft.payload.json,
            slot::pack(&draft.payload.attachments).as_deref(),
        ])?;
        if inserted == 0 {
            // The seq was given already, and what is known of the channel is wrong.
            return Err(twice(self.key, seq));
        }
        fences.insert(channel.id, fence, seq);
        if let Some(target) = target {
            self.fold(draft.kind, target, slot::key(channel.id, seq))?;
        }
        channel.head = seq;
        channel.counted += i64::from(draft.kind.is_countable());
        channel.bytes += slot::bytes_of(&draft);
        if draft.kind.is_message() {
            channel.newest = seq;
        }
        let message = self.message(seq, draft);
        Ok(Ok(Placed { message: Arc::new(message), retry: false }))
    }

    fn message(&self, seq: u64, draft: Draft) -> Message {
        let Draft { kind, id, event, payload, from, at, .. } = draft;
        Message {
            kind,
            channel: self.key.clone(),
            position: Some(Position { epoch: self.epoch, seq }),
            id,
            event,
            payload,
            from,
            at,
            revision: None,
        }
    }

    /// The slot that the same sender's message of the same id has.
    fn retry(
        &self,
        fences: &Fences,
        channel: &Channel,
        draft: &Draft,
        fence: &Fence,
    ) -> Result<Option<Placed>, Fault> {
        const SQL: &str = concat!("SELECT ", slot_columns!(), " WHERE s.slot = ?1 AND s.fence = ?2");
        let Some(seq) = fences.find(self.writing, channel.id, fence)? else { return Ok(None) };
        let mut select = self.writing.prepare_cached(SQL)?;
        let mut rows = select.query(params![slot::key(channel.id, seq), fence])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let message = slot::message(row, self.key, self.epoch, Some(draft))?;
        Ok(Some(Placed { message: Arc::new(message), retry: true }))
    }

    fn refuses(&self, channel: &Channel, draft: &Draft, seq: u64) -> Result<Option<Refused>, Fault> {
        const SQL: &str = "SELECT user FROM slots WHERE slot = ?1 AND kind <= 1 AND withdrawn IS NULL";
        if seq > channel.head || seq < retention::readable(self.writing, channel, self.now)? {
            return Ok(Some(Refused::NoSuchMessage));
        }
        let mut select = self.writing.prepare_cached(SQL)?;
        let own = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_str()? == draft.from.user.as_str());
        Ok(match select.query_row([slot::key(channel.id, seq)], own).optional()? {
            None => Some(Refused::NoSuchMessage),
            Some(own) if own || draft.moderates => None,
            Some(_) => Some(Refused::NotYours),
        })
    }

    /// From now on the target reads as `by`, the slot of the edit or deletion, makes it.
    fn fold(&self, kind: Kind, target: i64, by: i64) -> Result<(), Fault> {
        const EDIT: &str = "UPDATE slots SET revised = ?2, json = NULL, attachments = NULL WHERE slot = ?1";
        const DELETE: &str = "UPDATE slots SET revised = ?2, json = NULL, attachments = NULL,
            withdrawn = iif(kind = 0, 1, 0) WHERE slot = ?1";
        const EDITS: &str = "UPDATE slots SET json = NULL, attachments = NULL WHERE target = ?1 AND kind = 2";
        if !matches!(kind, Kind::Delete { .. }) {
            self.writing.prepare_cached(EDIT)?.execute([target, by])?;
            return Ok(());
        }
        self.writing.without_a_trace(|| {
            self.writing.prepare_cached(DELETE)?.execute([target, by])?;
            self.writing.prepare_cached(EDITS)?.execute([target])?;
            Ok(())
        })
    }
}

fn twice(key: &ChannelKey, seq: u64) -> Fault {
    tracing::error!(channel = %key, seq, "a place was to be given twice");
    // The whole batch's: what is known of channels is forgotten with it.
    Fault::Sqlite(rusqlite::Error::StatementChangedRows(0))
}
