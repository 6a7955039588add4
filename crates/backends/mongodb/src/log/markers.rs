//! How far each user has read.
//!
//! | field | is |
//! |---|---|
//! | `_id` | channel and user ([`slot::marker_id`]) |
//! | `c`, `a`, `n`, `u` | the channel, its app and name, and the user |
//! | `on` | whether there is a marker; the document of somebody who has published nothing that counts has none |
//! | `d`, `r` | delivered, read |
//! | `o` | the user's own newest settled message |
//! | `e` | the user's own messages up to here make no marker: one has ended |
//! | `m` | when it moved: larger than those that had moved before, in its channel |
//! | `made` | when it was made, or has ended, by the wall clock |
//!
//! A marker is what its document says, moved to the sender's own newest slot behind the checkpoint: an append moves it by being there.

use std::cmp::Reverse;
use std::collections::HashMap;

use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use xpush_core::ports::markers::{Advanced, After, Conversation, Mark, Marker, Markers};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, User};

use super::channel::View;
use super::unread::Question;
use super::{Inner, Ledger, slot};
use crate::store::{Intent, is_duplicate, port_error};

/// How often a marker is tried to be moved that others make and end at the same time.
const TRIES: usize = 10;

/// A marker's document, with what is not settled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) marker: Marker,
    pub(super) made: u64,
}

/// How a document and the user's own newest unsettled message make a marker.
pub(super) fn place(document: &Document, own: Option<u64>) -> Option<Place> {
    let number = |field: &str| document.get_i64(field).map_or(0, |value| value as u64);
    let own = own.filter(|own| *own > number("e"));
    let made = number("made");
    let kept = Marker { delivered: number("d"), read: number("r") };
    match (document.get_bool("on").unwrap_or(false), own) {
        (false, None) => None,
        (false, Some(own)) => Some(Place { marker: Marker { delivered: own, read: own }, made }),
        (true, own) => {
            let own = own.unwrap_or(0);
            let marker = Marker { delivered: kept.delivered.max(own), read: kept.read.max(own) };
            Some(Place { marker, made })
        }
    }
}

impl Inner {
    /// The channel with everything settled that was there: from now on a marker's document is all there is to it.
    async fn settled(&self, key: &ChannelKey) -> Result<View, PortError> {
        let view = self.look(key).await?;
        if view.head().is_none() {
            return Ok(view);
        }
        self.settle(&view).await?;
        Ok(view)
    }

    async fn begin(&self, key: &ChannelKey, user: &User) -> Result<Marker, PortError> {
        let view = self.settled(key).await?;
        let head = view.seq();
        let (_, marker) = self.make(&view, user, Marker { delivered: head, read: head }).await?;
        Ok(marker)
    }

    /// Makes a marker, unless there is one: whether it was made, and how it stands.
    async fn make(&self, view: &View, user: &User, marker: Marker) -> Result<(bool, Marker), PortError> {
        let id = slot::marker_id(&view.id, user.as_str());
        for _ in 0..TRIES {
            let found = self.store.read(self.markers.find_one(doc! { "_id": id.clone() })).await?;
            if let Some(found) = found.as_ref().and_then(|found| place(found, None)) {
                return Ok((false, found.marker));
            }
            let moved = self.moves(view).await? + 1;
            let mut set = self.whose(view, user.as_str(), &[]);
            set.extend(
                doc! { "on": true, "d": marker.delivered as i64, "r": marker.read as i64, "m": moved },
            );
            let change = doc! { "$set": set, "$setOnInsert": { "o": 0_i64, "e": 0_i64 } };
            let make = self.markers.update_one(doc! { "_id": id.clone(), "on": false }, change).upsert(true);
            match self.store.ask(make).await {
                Ok(Ok(_)) => return Ok((true, marker)),
                // Somebody else has made it.
                Ok(Err(error)) if is_duplicate(&error) => {}
                Ok(Err(error)) => return Err(port_error(Intent::Write, &error)),
                Err(error) => return Err(PortError { kind: Failure::Unknown, ..error }),
            }
        }
        Err(PortError::new(Failure::Conflict, "a marker is made and ended again and again"))
    }

    async fn advance(
        &self,
        key: &ChannelKey,
        user: &User,
        mark: Mark,
        seq: u64,
    ) -> Result<Advanced, PortError> {
        let view = self.settled(key).await?;
        let seq = seq.min(view.seq());
        let (marker, moved) = self.move_to(&view, user, mark, seq).await?;
        let first = self.readable(&view).await?;
        let unread = self.unread(&[Question { view: &view, first, read: marker.read }]).await?;
        Ok(Advanced { marker, moved, unread: unread.first().copied().unwrap_or(0) })
    }

    async fn move_to(
        &self,
        view: &View,
        user: &User,
        mark: Mark,
        seq: u64,
    ) -> Result<(Marker, bool), PortError> {
        let (behind, marks) = match mark {
            Mark::Delivered => ("d", doc! { "d": seq as i64 }),
            Mark::Read => ("r", doc! { "d": seq as i64, "r": seq as i64 }),
        };
        let filter = doc! {
            "_id": slot::marker_id(&view.id, user.as_str()),
            "on": true,
            behind: { "$lt": seq as i64 },
        };
        for _ in 0..TRIES {
            let change = doc! { "$max": marks.clone(), "$set": { "m": self.moves(view).await? + 1 } };
            let moved = self.markers.find_one_and_update(filter.clone(), change);
            let moved = self.store.write(moved.return_document(ReturnDocument::After)).await?;
            if let Some(place) = moved.and_then(|moved| place(&moved, None)) {
                return Ok((place.marker, true));
            }
            let read = if mark == Mark::Read { seq } else { 0 };
            let (made, marker) = self.make(view, user, Marker { delivered: seq, read }).await?;
            // Somebody else may have made it just now, and further back.
            let stands = if mark == Mark::Read { marker.read } else { marker.delivered };
            if made || stands >= seq {
                return Ok((marker, made && marker != Marker::default()));
            }
        }
        Err(PortError::new(Failure::Conflict, "a marker is made and ended again and again"))
    }

    async fn end(&self, app: &App, channel: Option<&Channel>, user: &User) -> Result<(), PortError> {
        let keys: Vec<ChannelKey> = match channel {
            Some(name) => vec![ChannelKey::new(app.clone(), name.clone())],
            None => self.markers_of(app, user).await?.into_iter().map(|(key, _)| key).collect(),
        };
        for key in keys {
            let view = self.look(&key).await?;
            let filter = doc! { "_id": slot::marker_id(&view.id, user.as_str()) };
            // Own messages up to here, should they be settled only now, make none.
            let change = doc! {
                "$set": { "on": false, "d": 0_i64, "r": 0_i64, "made": self.clock.wall() as i64 },
                "$max": { "e": view.seq() as i64 },
            };
            self.store.write(self.markers.update_one(filter, change)).await?;
        }
        Ok(())
    }

    /// The documents of a user's channels.
    pub(super) async fn markers_of(
        &self,
        app: &App,
        user: &User,
    ) -> Result<Vec<(ChannelKey, Document)>, PortError> {
        let find = self.markers.find(doc! { "a": app.as_str(), "u": user.as_str() });
        let found = self.store.find(find).await?;
        let key = |document: Document| {
            let name = Channel::new(document.get_str("n").ok()?).ok()?;
            Some((ChannelKey::new(app.clone(), name), document))
        };
        Ok(found.into_iter().filter_map(key).collect())
    }

    async fn of_channel(&self, key: &ChannelKey, limit: usize) -> Result<Vec<(User, Marker)>, PortError> {
        let view = self.look(key).await?;
        let senders = view.senders();
        // Who has published behind the checkpoint has moved last, and may be among the others a second time.
        let count = i64::try_from(limit.saturating_add(senders.len())).unwrap_or(i64::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let find = self.markers.find(doc! { "c": view.id.clone(), "m": { "$gt": 0_i64 }, "on": true });
        let mut found = self.store.find(find.sort(doc! { "m": -1 }).limit(count)).await?;
        let ids: Vec<_> = senders.keys().map(|user| slot::marker_id(&view.id, user)).collect();
        if !ids.is_empty() {
            found.extend(self.store.find(self.markers.find(doc! { "_id": { "$in": ids } })).await?);
        }
        let mut markers = HashMap::new();
        for document in found {
            let Ok(user) = document.get_str("u").map(str::to_owned) else { continue };
            let own = senders.get(user.as_str()).copied();
            let moved = (own.unwrap_or(0), document.get_i64("m").unwrap_or(0));
            if let (Some(place), Ok(name)) = (place(&document, own), User::new(&user)) {
                markers.insert(user, (Reverse(moved), name, place.marker));
            }
        }
        let mut markers: Vec<_> = markers.into_values().collect();
        markers.sort_unstable_by_key(|(moved, ..)| *moved);
        Ok(markers.into_iter().take(limit).map(|(_, user, marker)| (user, marker)).collect())
    }

    async fn unread_of(&self, key: &ChannelKey, users: Vec<User>) -> Result<Vec<(User, u64)>, PortError> {
        let view = self.look(key).await?;
        let senders = view.senders();
        let ids: Vec<_> = users.iter().map(|user| slot::marker_id(&view.id, user.as_str())).collect();
        let find = self.markers.find(doc! { "_id": { "$in": ids }, "c": view.id.clone() });
        let mut reads = HashMap::new();
        for document in self.store.find(find).await? {
            let Ok(user) = document.get_str("u") else { continue };
            if let Some(place) = place(&document, senders.get(user).copied()) {
                reads.insert(user.to_owned(), place.marker.read);
            }
        }
        let first = self.readable(&view).await?;
        let asked: Vec<(User, u64)> = users
            .into_iter()
            .filter_map(|user| reads.get(user.as_str()).copied().map(|read| (user, read)))
            .collect();
        let questions: Vec<_> =
            asked.iter().map(|(_, read)| Question { view: &view, first, read: *read }).collect();
        let unread = self.unread(&questions).await?;
        Ok(asked.into_iter().map(|(user, _)| user).zip(unread).collect())
    }
}

impl Markers for Ledger {
    fn begin(&self, channel: &ChannelKey, user: &User, done: Done<Marker>) {
        let (channel, user) = (channel.clone(), user.clone());
        self.run(done, |inner| async move { inner.begin(&channel, &user).await });
    }

    fn advance(&self, channel: &ChannelKey, user: &User, mark: Mark, seq: u64, done: Done<Advanced>) {
        let (channel, user) = (channel.clone(), user.clone());
        self.run(done, |inner| async move { inner.advance(&channel, &user, mark, seq).await });
    }

    fn end(&self, app: &App, channel: Option<&Channel>, user: &User, done: Done<()>) {
        let (app, channel, user) = (app.clone(), channel.cloned(), user.clone());
        self.run(done, |inner| async move { inner.end(&app, channel.as_ref(), &user).await });
    }

    fn of_channel(&self, channel: &ChannelKey, limit: usize, done: Done<Vec<(User, Marker)>>) {
        let channel = channel.clone();
        self.run(done, move |inner| async move { inner.of_channel(&channel, limit).await });
    }

    fn unread(&self, channel: &ChannelKey, users: Vec<User>, done: Done<Vec<(User, u64)>>) {
        let channel = channel.clone();
        self.run(done, |inner| async move { inner.unread_of(&channel, users).await });
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
        done: Done<Vec<Conversation>>,
    ) {
        let (app, user) = (app.clone(), user.clone());
        self.run(done, move |inner| async move { inner.conversations(&app, &user, after, limit).await });
    }
}
