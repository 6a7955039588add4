//! What follows from slots is written where it belongs.
//!
//! Every step can be done again, by anybody and at the same time, and changes nothing then: markers only rise, a target's newest change only rises, and the
//! checkpoint, which is written last, only rises. So whoever comes upon slots behind the checkpoint settles them; their writers do it soon after.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use futures_util::stream;
use mongodb::bson::{Binary, Document, doc};
use xpush_core::ChannelKey;
use xpush_core::ports::PortError;

use super::Inner;
use super::append::Withdrawal;
use super::channel::{Change, View};
use super::slot;
use crate::lock;
use crate::store::Update;

/// Channels that are settled at a time.
const AT_ONCE: usize = 16;

/// Updates of one command.
const UPDATES: usize = 1000;

/// Channels that were written and not settled since.
#[derive(Default)]
pub(super) struct Settling(HashSet<ChannelKey>);

impl Inner {
    pub(super) fn written(&self, channel: &ChannelKey) {
        lock(&self.settling).0.insert(channel.clone());
    }

    pub(super) async fn settle_written(&self) {
        let written = std::mem::take(&mut lock(&self.settling).0);
        let settle = |channel: ChannelKey| async move {
            if let Err(error) = self.tidy(&channel).await {
                tracing::debug!(%error, "a channel was not settled");
                self.written(&channel);
            }
        };
        stream::iter(written).map(settle).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Settles a channel and takes out what may not be read any more.
    pub(super) async fn tidy(&self, channel: &ChannelKey) -> Result<(), PortError> {
        let view = self.look(channel).await?;
        self.hear_wishes(&view);
        self.settle(&view).await?;
        if self.trim(&view).await? {
            self.written(channel);
        }
        Ok(())
    }

    /// Writes what follows from the slots behind the checkpoint.
    pub(super) async fn settle(&self, view: &View) -> Result<(), PortError> {
        let head = view.seq();
        if head <= view.settled {
            return Ok(());
        }
        self.settle_senders(view).await?;
        self.settle_changes(view).await?;
        // Whoever has emptied the channel may have taken its name away just before the first slot of its new life.
        let change = doc! {
            "$max": { "settled": head as i64, "moved": self.clock.now() as i64 },
            "$set": { "app": view.key.app.as_str(), "name": view.key.name.as_str() },
        };
        let update = Update { filter: view.document(), change, upsert: false };
        if self.store.update("channels", vec![update]).await? == 0 {
            self.forget_markers_of_the_past(view).await?;
        }
        Ok(())
    }

    /// Markers of a life that has ended were taken out behind its end. Who wrote some after that finds it ended.
    async fn forget_markers_of_the_past(&self, view: &View) -> Result<(), PortError> {
        let ended = doc! { "_id": view.channel.clone(), "incarnation": { "$gt": view.incarnation as i64 } };
        if self.store.read(self.channels.find_one(ended)).await?.is_some() {
            self.store.write(self.markers.delete_many(doc! { "c": view.id.clone() })).await?;
        }
        Ok(())
    }

    async fn settle_senders(&self, view: &View) -> Result<(), PortError> {
        let mut senders: Vec<(&str, u64)> = view.senders().into_iter().collect();
        if senders.is_empty() {
            return Ok(());
        }
        senders.sort_unstable_by_key(|(_, seq)| *seq);
        let moves = self.moves(view).await?;
        let updates = (moves + 1..).zip(senders).map(|(moved, (user, seq))| {
            let seq = seq as i64;
            Update {
                filter: doc! { "_id": slot::marker_id(&view.id, user), "o": { "$lt": seq }, "e": { "$lt": seq } },
                change: doc! {
                    "$max": { "d": seq, "r": seq },
                    "$set": { "o": seq, "m": moved, "on": true },
                    "$setOnInsert": self.whose(view, user, &["e"]),
                },
                upsert: true,
            }
        });
        self.update_all("markers", updates.collect()).await.map(drop)
    }

    async fn settle_changes(&self, view: &View) -> Result<(), PortError> {
        let changes = view.changes();
        let fold = |(target, change): (&u64, &Change)| Update {
            filter: doc! { "c": view.id.clone(), "s": *target as i64 },
            change: doc! { "$max": { "r": change.by as i64 }, "$unset": { "j": 1, "x": 1 } },
            upsert: false,
        };
        self.update_all("slots", changes.iter().map(fold).collect()).await?;
        self.blank_late_edits(view, &changes).await?;
        let deleted = changes.iter().filter(|(_, change)| change.deletes);
        let deleted: Vec<Withdrawal> = deleted
            .map(|(target, change)| Withdrawal { target: *target, by: change.by, at: change.at })
            .collect();
        self.withdraw(&view.id, &deleted).await
    }

    /// An edit that was decided while its target was erased came behind that: its data go here.
    async fn blank_late_edits(&self, view: &View, changes: &HashMap<u64, Change>) -> Result<(), PortError> {
        let edited: Vec<i64> =
            changes.iter().filter(|(_, change)| !change.deletes).map(|(target, _)| *target as i64).collect();
        if edited.is_empty() {
            return Ok(());
        }
        let edited = doc! { "c": view.id.clone(), "s": { "$in": edited } };
        let edited = self.store.find(self.slots.find(edited).projection(doc! { "s": 1, "z": 1 })).await?;
        let erased = edited.iter().filter(|target| target.contains_key("z"));
        let erased: Vec<i64> = erased.filter_map(|target| target.get_i64("s").ok()).collect();
        self.blank_edits(&view.id, erased).await
    }

    /// Takes out the data of all edits of some messages.
    pub(super) async fn blank_edits(&self, slots: &Binary, targets: Vec<i64>) -> Result<(), PortError> {
        if targets.is_empty() {
            return Ok(());
        }
        // Most messages have no edit.
        let changes = self.slots.find(doc! { "c": slots.clone(), "t": { "$in": targets } });
        let changes = self.store.find(changes.projection(doc! { "s": 1, "k": 1 })).await?;
        let edits = changes.iter().filter(|change| change.get_i32("k").ok() == Some(slot::EDIT));
        let edits: Vec<i64> = edits.filter_map(|edit| edit.get_i64("s").ok()).collect();
        if edits.is_empty() {
            return Ok(());
        }
        let edits = doc! { "c": slots.clone(), "s": { "$in": edits } };
        let blank = doc! { "$unset": { "j": 1, "x": 1 } };
        self.store.write(self.slots.update_many(edits, blank)).await.map(drop)
    }

    /// How many documents were met.
    pub(super) async fn update_all(
        &self,
        collection: &str,
        mut updates: Vec<Update>,
    ) -> Result<u64, PortError> {
        let mut met = 0;
        while !updates.is_empty() {
            let rest = updates.split_off(updates.len().min(UPDATES));
            met += self.store.update(collection, updates).await?;
            updates = rest;
        }
        Ok(met)
    }

    /// The number of the newest move of a channel's markers.
    pub(super) async fn moves(&self, view: &View) -> Result<i64, PortError> {
        let newest = self.markers.find_one(doc! { "c": view.id.clone() });
        let newest = newest.sort(doc! { "m": -1 }).projection(doc! { "m": 1 });
        let newest = self.store.read(newest).await?;
        Ok(newest.and_then(|newest| newest.get_i64("m").ok()).unwrap_or(0))
    }

    /// The document of somebody who may be about to publish: no marker, until there is a slot.
    pub(super) fn invitation(&self, view: &View, user: &str) -> Update {
        let mut document = self.whose(view, user, &["d", "r", "o", "e", "m"]);
        document.insert("on", false);
        Update {
            filter: doc! { "_id": slot::marker_id(&view.id, user) },
            change: doc! { "$setOnInsert": document },
            upsert: true,
        }
    }

    /// Whose marker it is, and zeros.
    pub(super) fn whose(&self, view: &View, user: &str, zeros: &[&str]) -> Document {
        let mut document = doc! {
            "c": view.id.clone(),
            "a": view.key.app.as_str(),
            "n": view.key.name.as_str(),
            "u": user,
            "made": self.clock.wall() as i64,
        };
        document.extend(zeros.iter().map(|zero| ((*zero).to_owned(), mongodb::bson::Bson::Int64(0))));
        document
    }
}
