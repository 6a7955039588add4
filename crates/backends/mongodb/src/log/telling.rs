//! Which messages apps' back ends are still to be told of: noted in the message's own document, and taken out when that is in an outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use mongodb::bson::{Binary, Document, doc};
use xpush_core::ports::outbox::{Notes, TAKEN_MS};
use xpush_core::ports::{Done, PortError};
use xpush_core::{App, Channel, ChannelKey, Epoch, Message, Position};

use super::slot;
use super::{Inner, Ledger};

/// Slots of one update.
const AT_ONCE: usize = 1_000;

/// What stands in a slot's `tell`: since when nobody has taken it, and the channel, which its digest does not tell.
pub(super) fn note(key: &ChannelKey, now: u64) -> Document {
    doc! { "at": now as i64, "a": key.app.as_str(), "n": key.name.as_str() }
}

impl Notes for Ledger {
    fn untold(&self, limit: usize, done: Done<Vec<Arc<Message>>>) {
        self.run(done, move |inner| async move { inner.take_untold(limit).await });
    }

    fn told(&self, messages: Vec<(ChannelKey, Position)>) {
        let done: Done<()> = Box::new(|told| {
            if let Err(error) = told {
                tracing::debug!(%error, "what was told of is noted still, and will be told of again");
            }
        });
        self.run(done, move |inner| async move { inner.forget_notes(&messages).await });
    }
}

impl Inner {
    async fn take_untold(&self, limit: usize) -> Result<Vec<Arc<Message>>, PortError> {
        let now = self.clock.now();
        let old = doc! { "tell.at": { "$lt": now.saturating_sub(TAKEN_MS) as i64 } };
        let find = self.slots.find(old).limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let found = self.store.find(find.projection(doc! { "s": 1, "tell": 1 })).await?;
        let mut taken: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        for document in &found {
            let Some((place, tell)) = read(document) else { continue };
            // Whoever comes second finds another moment there.
            let take = doc! { "$set": { "tell.at": now as i64 } };
            let mine = doc! { "_id": place, "tell.at": tell.at };
            if self.store.write(self.slots.update_one(mine, take)).await?.modified_count == 1 {
                taken.entry((tell.app, tell.name)).or_default().push(tell.seq);
            }
        }
        let mut messages = Vec::new();
        for ((app, name), seqs) in taken {
            let (Ok(app), Ok(name)) = (App::new(&app), Channel::new(&name)) else { continue };
            let view = self.look(&ChannelKey::new(app, name)).await?;
            let found = self.messages(&view, &seqs).await?;
            // What nobody may read any more, nobody is told of.
            let gone = seqs.iter().filter(|seq| !found.contains_key(seq));
            let gone: Vec<_> = gone.map(|seq| (view.key.clone(), self.position(&view, *seq))).collect();
            self.forget_notes(&gone).await?;
            messages.extend(found.into_values());
        }
        Ok(messages)
    }

    async fn forget_notes(&self, messages: &[(ChannelKey, Position)]) -> Result<(), PortError> {
        let mut places: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
        for (key, position) in messages {
            let slots = slot::slots_id(&slot::channel_id(key), self.incarnation_of(position.epoch));
            places.entry(slots.bytes).or_default().push(position.seq as i64);
        }
        for (slots, seqs) in places {
            for seqs in seqs.chunks(AT_ONCE) {
                let told = doc! { "c": slot::binary(&slots), "s": { "$in": seqs.to_vec() } };
                let forget = doc! { "$unset": { "tell": 1 } };
                self.store.write(self.slots.update_many(told, forget)).await?;
            }
        }
        Ok(())
    }

    /// Which life of a channel an epoch is of ([`Inner::epoch_of`]).
    fn incarnation_of(&self, epoch: Epoch) -> u64 {
        epoch.0.wrapping_sub(self.store.epoch()).wrapping_mul(super::channel::EPOCHS_APART_INVERSE)
    }
}

struct Tell {
    at: i64,
    app: String,
    name: String,
    seq: u64,
}

fn read(document: &Document) -> Option<(Binary, Tell)> {
    let place = document.get_binary_generic("_id").ok()?;
    let tell = document.get_document("tell").ok()?;
    let text = |field: &str| tell.get_str(field).ok().map(str::to_owned);
    let seq = document.get_i64("s").ok()? as u64;
    let tell = Tell { at: tell.get_i64("at").ok()?, app: text("a")?, name: text("n")?, seq };
    Some((slot::binary(place), tell))
}
