//! What nobody else comes upon: channels whose writer has died before it settled them, and what grows old where nothing is written.

use mongodb::bson::{Binary, Document, doc};
use xpush_core::ports::PortError;
use xpush_core::{App, Channel, ChannelKey};

use super::Inner;
use super::retention::KEPT;
use crate::store::Update;

/// Channels that are looked at in one step.
const CHANNELS: i64 = 64;

/// How long a node sweeps alone, ms: as long as it goes on, others leave it to it.
const LEASE: u64 = 10_000;

impl Inner {
    /// One step, when it is this node's to make.
    pub(super) async fn sweep(&self) {
        if let Err(error) = self.swept().await {
            tracing::debug!(%error, "channels were not swept");
        }
    }

    async fn swept(&self) -> Result<(), PortError> {
        let now = self.clock.now();
        let Some(state) = self.lease(now).await? else { return Ok(()) };
        let at = state.get("at").cloned().unwrap_or(mongodb::bson::Bson::Null);
        let mut filter = Document::new();
        if let mongodb::bson::Bson::Binary(at) = at {
            filter.insert("_id", doc! { "$gt": at });
        }
        let find = self.channels.find(filter).sort(doc! { "_id": 1 }).limit(CHANNELS);
        let channels = self.store.find(find).await?;
        let last: Option<Binary> = channels.last().and_then(|channel| match channel.get("_id") {
            Some(mongodb::bson::Bson::Binary(id)) => Some(id.clone()),
            _ => None,
        });
        for channel in &channels {
            if let Err(error) = self.sweep_past(channel, now).await {
                tracing::debug!(%error, "what a channel was before was not swept");
            }
            // One that cannot be read keeps nobody from the others.
            if let Some(key) = key(channel)
                && let Err(error) = self.sweep_channel(&key, now).await
            {
                tracing::debug!(%error, channel = %key, "a channel was not swept");
            }
        }
        if (channels.len() as i64) < CHANNELS {
            self.forget_erased(now).await?;
        }
        let change = doc! { "$set": { "at": last } };
        let update = Update { filter: doc! { "_id": "sweep" }, change, upsert: false };
        self.store.update("meta", vec![update]).await?;
        Ok(())
    }

    /// Where the sweep has come to, when it is this node's.
    async fn lease(&self, now: u64) -> Result<Option<Document>, PortError> {
        let meta = self.store.collection("meta");
        let me = self.me;
        let free = doc! { "_id": "sweep", "$or": [{ "by": me }, { "until": { "$lt": now as i64 } }] };
        let take = doc! { "$set": { "by": me, "until": (now + LEASE) as i64 } };
        let taken = self.store.write(meta.find_one_and_update(free, take)).await?;
        if taken.is_none() {
            let make = doc! { "$setOnInsert": { "by": me, "until": 0_i64 } };
            let update = Update { filter: doc! { "_id": "sweep" }, change: make, upsert: true };
            self.store.update("meta", vec![update]).await?;
        }
        Ok(taken)
    }

    async fn sweep_channel(&self, key: &ChannelKey, now: u64) -> Result<(), PortError> {
        self.tidy(key).await?;
        let view = self.look(key).await?;
        self.delete(&view).await?;
        // By now nobody settles slots any more that are older than a marker's end.
        let cut = now.saturating_sub(KEPT) as i64;
        let ended = doc! { "c": view.id.clone(), "on": false, "made": { "$lt": cut } };
        self.store.write(self.markers.delete_many(ended)).await?;
        Ok(())
    }

    /// Deletes slots of former lives, when nobody can think any more that their channel goes on behind one of them.
    async fn sweep_past(&self, channel: &Document, now: u64) -> Result<(), PortError> {
        let cut = now.saturating_sub(KEPT) as i64;
        for past in past(channel) {
            let old = doc! { "c": past.clone(), "p": { "$lt": cut } };
            self.store.write(self.slots.delete_many(old)).await?;
            if self.store.read(self.slots.find_one(doc! { "c": past.clone() })).await?.is_none() {
                let id = channel.get("_id").cloned().unwrap_or(mongodb::bson::Bson::Null);
                let forget = doc! { "$pull": { "past": past } };
                self.store.write(self.channels.update_one(doc! { "_id": id }, forget)).await?;
            }
        }
        Ok(())
    }
}

/// What slots of a channel's former lives are known by.
pub(super) fn past(channel: &Document) -> Vec<Binary> {
    let past = channel.get_array("past").map(Vec::as_slice).unwrap_or_default();
    let id = |id: &mongodb::bson::Bson| match id {
        mongodb::bson::Bson::Binary(id) => Some(id.clone()),
        _ => None,
    };
    past.iter().filter_map(id).collect()
}

pub(super) fn key(channel: &Document) -> Option<ChannelKey> {
    let app = App::new(channel.get_str("app").ok()?).ok()?;
    Some(ChannelKey::new(app, Channel::new(channel.get_str("name").ok()?).ok()?))
}
