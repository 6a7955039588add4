//! Taking users out.
//!
//! No index leads from a user to its messages: it would cost every message an entry, for what hardly ever happens, and markers do not tell of all (those
//! that have ended go, and edits make none). So steps look through the app's channels, one behind the other in the order of their digests, with a query
//! of the range of slots that is next; how far they are stands in the erasure's document (`erasures`). It moves on only behind what was done, and
//! only from where the step began: whoever takes the same step at the same time, or again after a crash, finds less to do, or nothing. As digests are
//! spread evenly, the place in their order says how much is done.
//!
//! **A slot is erased where it is**, so that there is never a hole, by one write: its document loses its data, sender, id and fence, and says that it is deleted (`z`), and,
//! when it counted, that it does no more (`t` and `d`, as a deletion would say it). A fence that is random is nobody's, so what is sent again takes a new place. Where
//! other slots are concerned, they come first: a message that was edited is deleted before its edits lose their data, and
//! messages that read as what the user has made of them by editing are deleted, too. Senders go last: by them it is found what is left to be done.
//!
//! **The checkpoint.** A channel is settled before its slots are erased: what edits and deletions up to its head make of their targets is in the targets by
//! then, and so are markers. Whatever is settled again by somebody who has looked before changes nothing, but for a marker of the user, which `end` takes out once more. Of changes behind the head that was
//! settled none is the user's. Somebody's else edit of an erased message may have been decided before it was erased, and be inserted behind that: then the message reads as deleted
//! nevertheless (`z` is looked at before edits are), and whoever settles the edit, which somebody does before the checkpoint passes it, takes its data out.
//! If such an edit was of a message that reads as what the user has made of it, that message reads as deleted, as if the edit had come too late.
//!
//! **A channel begins anew** when a slot says so that is its last one (`q`). It takes its place as a message does, so nobody gets a place behind it: whoever tries meets it, looks
//! again, and goes on in the channel's next life, whose slots and markers are known by another digest ([`slot::slots_id`]). The channel's document follows: it gets the
//! new incarnation, and notes the old digest (`past`), by whoever comes first, the eraser or a writer. The slots of the past are blanked, markers and the name in the channel's document
//! deleted; who writes the channel again names it again. The blank slots stay for 48 h, as long as anybody could think that the channel ends with
//! one of them; then the sweep deletes them. The document stays, with the number of the incarnation: it is the digest that tells who guesses the name.

use std::collections::HashMap;

use mongodb::bson::{Binary, Bson, Document, doc};
use xpush_core::ports::erasure::{Erasure, NOBODY, Pending, Step, is_about};
use xpush_core::ports::message_log::Draft;
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, ChannelKey, ClientId, Code, EventName, Kind, Payload, Sender, UnixMillis, User};

use super::append::Inserted;
use super::channel::View;
use super::slot::{self, NULL};
use super::{Inner, Ledger, plan, sweep};
use crate::directory::{forget, key_text, newest};
use crate::lock;
use crate::store::Update;

/// Slots and channels that one step looks at, and slots that it changes, about.
const LOOKED_AT: u64 = 5_000;
const CHANNELS: u8 = 32;
const CHANGED: usize = 100;

/// Where the server writes, data have to be read, too.
const LOOKED_INTO: u64 = 500;

/// Of how much [`Step`] speaks: the first two bytes of digests.
const WHOLE: u64 = 1 << 16;

/// How often a channel is tried to be ended that others write.
const TRIES: usize = 50;

/// How far an erasure is.
#[derive(Clone, Default)]
struct Place {
    /// The channel under way.
    channel: Option<Binary>,
    /// One of its former lives, which is blanked.
    past: Option<Binary>,
    /// Slots up to this one need not be looked at again.
    seq: u64,
    /// The channel was looked through.
    is_through: bool,
}

/// A step under way.
struct Work {
    at: Place,
    /// The directory's newest change when the first step was taken.
    barred: i64,
    looked: u64,
    changed: usize,
    /// Slots that were erased by it.
    erased: u64,
}

impl Erasure for Ledger {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        let change = doc! { "$setOnInsert": {
            "a": app.as_str(), "u": user.as_str(), "since": i64::try_from(since).unwrap_or(i64::MAX),
            "step": 0_i64, "erased": 0_i64, "ended": false,
        } };
        let begin = Update { filter: doc! { "_id": name(app, user) }, change, upsert: true };
        self.run(done, |inner| async move { inner.store.update("erasures", vec![begin]).await.map(drop) });
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        self.run(done, |inner| async move { inner.pending().await });
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        let (app, user) = (app.clone(), user.clone());
        self.run(done, |inner| async move { inner.erase(&app, &user).await });
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        let (app, user) = (app.clone(), user.clone());
        self.run(done, |inner| async move { inner.forget(&app, &user).await });
    }
}

impl Inner {
    async fn pending(&self) -> Result<Vec<Pending>, PortError> {
        let find = self.store.collection("erasures");
        let mut pending = Vec::new();
        for found in self.store.find(find.find(doc! {}).sort(doc! { "since": 1 })).await? {
            let text = |field: &str| found.get_str(field).unwrap_or_default();
            if let (Ok(app), Ok(user)) = (App::new(text("a")), User::new(text("u"))) {
                let since = found.get_i64("since").unwrap_or(0).unsigned_abs();
                pending.push(Pending { app, user, since });
            }
        }
        Ok(pending)
    }

    async fn begun(&self, app: &App, user: &User) -> Result<Option<Document>, PortError> {
        let erasures = self.store.collection("erasures");
        self.store.read(erasures.find_one(doc! { "_id": name(app, user) })).await
    }

    async fn erase(&self, app: &App, user: &User) -> Result<Step, PortError> {
        if let Some(begun) = self.begun(app, user).await?
            && !begun.get_bool("ended").unwrap_or(false)
        {
            // The user was barred before the first step: in one of the changes up to here.
            let barred = match begun.get_i64("barred") {
                Ok(barred) => barred,
                Err(_) => newest(&self.store).await? as i64,
            };
            let mut work = Work { at: Place::read(&begun), barred, looked: 0, changed: 0, erased: 0 };
            let erased = self.erase_some(app, user, &mut work).await;
            // What was erased is counted, also when the rest has failed.
            self.note(app, user, &begun, &work, erased.as_ref().is_ok_and(|ended| *ended)).await?;
            erased?;
        }
        let begun = self.begun(app, user).await?;
        Ok(begun.map_or(Step { ended: true, ..Step::default() }, |begun| told(&begun)))
    }

    /// Writes down how far it is. Of two that took the same step at once one counts, but each with what it has erased.
    async fn note(
        &self,
        app: &App,
        user: &User,
        begun: &Document,
        work: &Work,
        ended: bool,
    ) -> Result<(), PortError> {
        let id = name(app, user);
        let step = begun.get_i64("step").unwrap_or(0);
        let mut set = work.at.document();
        set.extend(doc! { "step": step + 1, "ended": ended, "barred": work.barred });
        let update = |filter: Document, change: Document| Update { filter, change, upsert: false };
        let mut updates = vec![update(doc! { "_id": &id, "step": step }, doc! { "$set": set })];
        if work.erased > 0 {
            updates.push(update(doc! { "_id": id }, doc! { "$inc": { "erased": work.erased as i64 } }));
        }
        self.store.update("erasures", updates).await.map(drop)
    }

    /// Whether there is nothing left.
    async fn erase_some(&self, app: &App, user: &User, work: &mut Work) -> Result<bool, PortError> {
        let mut filter = doc! { "app": app.as_str() };
        if let Some(channel) = &work.at.channel {
            filter.insert("_id", doc! { "$gte": channel.clone() });
        }
        let find = self.channels.find(filter).sort(doc! { "_id": 1 }).limit(i64::from(CHANNELS));
        let channels = self.store.find(find).await?;
        for document in &channels {
            let Some(Bson::Binary(id)) = document.get("_id") else { continue };
            if work.at.channel.as_ref() != Some(id) {
                work.at = Place { channel: Some(id.clone()), ..Place::default() };
            }
            match sweep::key(document) {
                _ if work.at.is_through => continue,
                None => work.at.is_through = true,
                Some(key) if key.name.owner().is_some_and(|(owner, _)| owner == *user) => {
                    self.empty(&key, work).await?;
                }
                Some(key) => self.look_through(&key, user, work).await?,
            }
            if !work.at.is_through || work.looked >= LOOKED_AT || work.changed >= CHANGED {
                return Ok(false);
            }
        }
        if channels.len() == usize::from(CHANNELS) {
            return Ok(false);
        }
        self.end_markers(app, user).await
    }

    /// Erases what is found in the next range of a channel.
    async fn look_through(&self, key: &ChannelKey, user: &User, work: &mut Work) -> Result<(), PortError> {
        let view = self.look(key).await?;
        self.settle(&view).await?;
        let is_system = key.name.is_system();
        let range = if is_system { LOOKED_INTO } else { LOOKED_AT };
        if work.at.seq == 0 {
            let first = self.slots.find_one(doc! { "c": view.id.clone() });
            let first = self.store.read(first.sort(doc! { "s": 1 }).projection(doc! { "s": 1 })).await?;
            let first = first.and_then(|first| first.get_i64("s").ok()).unwrap_or(1) as u64;
            work.at.seq = first.saturating_sub(1);
        }
        let to = view.seq().min(work.at.seq + range);
        let mut projection = doc! { "s": 1, "k": 1, "t": 1, "at": 1, "u": 1, "r": 1, "z": 1, "e": 1 };
        let mut senders = vec![user.as_str()];
        if is_system {
            projection.insert("j", 1);
            senders.push("$");
        }
        let slots = doc! {
            "c": view.id.clone(),
            "s": { "$gt": work.at.seq as i64, "$lte": to as i64 },
            "u": { "$in": senders },
        };
        let find = self.slots.find(slots).sort(doc! { "s": 1 }).limit(CHANGED as i64);
        let mut found = self.store.find(find.projection(projection)).await?;
        let last = found.last().and_then(|last| last.get_i64("s").ok()).filter(|_| found.len() == CHANGED);
        found.retain(|slot| {
            let is_own = slot.get_str("u").is_ok_and(|sender| sender == user.as_str());
            is_own || slot.get_binary_generic("j").is_ok_and(|json| is_about(json, user))
        });
        self.blank(&view, &found, user, work).await?;
        let seq = last.map_or(to, |last| last as u64);
        work.looked += seq.saturating_sub(work.at.seq);
        work.at.seq = work.at.seq.max(seq);
        work.at.is_through = seq >= view.seq();
        Ok(())
    }

    /// Erases slots of a channel that is settled.
    async fn blank(
        &self,
        view: &View,
        found: &[Document],
        user: &User,
        work: &mut Work,
    ) -> Result<(), PortError> {
        if found.is_empty() {
            return Ok(());
        }
        let at = |seq: i64| doc! { "_id": slot::place(&view.id, seq as u64), "c": view.id.clone() };
        let update = |filter: Document, change: Document| Update { filter, change, upsert: false };
        let times = self.times_of_edits(view, found).await?;
        let (mut deletes, mut edited, mut targets, mut names) = (vec![], vec![], vec![], vec![]);
        for slot in found {
            let number = |field: &str| slot.get_i64(field).ok();
            let (Some(seq), Ok(kind)) = (number("s"), slot.get_i32("k")) else {
                return Err(slot::unreadable());
            };
            let sent = number("at").unwrap_or(0);
            let mut change = nameless(seq, slot.contains_key("e"));
            if kind == slot::MESSAGE || kind == slot::SILENT {
                let deleted = number("r").and_then(|edit| times.get(&edit).copied()).unwrap_or(sent);
                let mut set = doc! { "z": number("z").unwrap_or(deleted) };
                if kind == slot::MESSAGE {
                    set.extend(doc! { "t": seq, "d": 1 });
                }
                change.insert("$max", doc! { "r": seq });
                if let Ok(all) = change.get_document_mut("$set") {
                    all.extend(set.clone());
                }
                if slot.contains_key("r") {
                    let first = doc! { "$set": set, "$unset": { "j": 1, "x": 1 } };
                    deletes.push(update(at(seq), first));
                    edited.push(seq);
                }
            } else if let (slot::EDIT, Some(target)) = (kind, number("t")) {
                for (kind, set) in [
                    (slot::MESSAGE, doc! { "z": sent, "t": target, "d": 1 }),
                    (slot::SILENT, doc! { "z": sent }),
                ] {
                    let mut filter = at(target);
                    filter.extend(doc! { "k": kind, "r": seq, "z": { "$exists": false } });
                    targets.push(update(filter, doc! { "$set": set }));
                }
            }
            let mut filter = at(seq);
            filter.insert("u", doc! { "$in": [user.as_str(), "$"] });
            names.push(update(filter, change));
        }
        let places = found.iter().flat_map(|slot| [slot.get_i64("s").ok(), slot.get_i64("t").ok()]);
        self.note_erased(&view.id, places.flatten().collect()).await?;
        work.changed += found.len();
        self.update_all("slots", deletes).await?;
        self.blank_edits(&view.id, edited).await?;
        self.update_all("slots", targets).await?;
        work.erased += self.update_all("slots", names).await?;
        Ok(())
    }

    /// When messages that are not deleted were edited last, by the edits.
    async fn times_of_edits(&self, view: &View, found: &[Document]) -> Result<HashMap<i64, i64>, PortError> {
        let edited = found.iter().filter(|slot| !slot.contains_key("z"));
        let edits: Vec<i64> = edited.filter_map(|slot| slot.get_i64("r").ok()).collect();
        if edits.is_empty() {
            return Ok(HashMap::new());
        }
        let find = self.slots.find(doc! { "c": view.id.clone(), "s": { "$in": edits } });
        let found = self.store.find(find.projection(doc! { "s": 1, "at": 1 })).await?;
        Ok(found
            .iter()
            .filter_map(|edit| Some((edit.get_i64("s").ok()?, edit.get_i64("at").ok()?)))
            .collect())
    }

    /// Ends a channel's life, and blanks its former ones, a part of it.
    async fn empty(&self, key: &ChannelKey, work: &mut Work) -> Result<(), PortError> {
        if work.at.past.is_none() {
            self.end_life(key).await?;
        }
        let channel = doc! { "_id": slot::channel_id(key) };
        let document = self.store.read(self.channels.find_one(channel)).await?;
        let lives = document.as_ref().map(sweep::past).unwrap_or_default();
        let begun = work.at.past.as_ref().and_then(|past| lives.iter().position(|life| life == past));
        for past in lives.into_iter().skip(begun.unwrap_or(0)) {
            if work.at.past.as_ref() != Some(&past) {
                (work.at.past, work.at.seq) = (Some(past.clone()), 0);
                self.note_erased(&past, [0].into()).await?;
            }
            while self.blank_past(&past, work).await? {
                if work.looked >= LOOKED_AT || work.changed >= CHANGED {
                    return Ok(());
                }
            }
            // Whoever writes some of them behind this finds that the life has ended.
            self.store.write(self.markers.delete_many(doc! { "c": past })).await?;
        }
        let view = self.look(key).await?;
        if view.head().is_none() {
            let change = doc! { "$unset": { "app": 1, "name": 1 } };
            let update = Update { filter: view.document(), change, upsert: false };
            self.store.update("channels", vec![update]).await?;
        }
        work.at.is_through = true;
        Ok(())
    }

    /// Some slots of a life that has ended; whether there may be more.
    async fn blank_past(&self, past: &Binary, work: &mut Work) -> Result<bool, PortError> {
        let range = doc! { "c": past.clone(), "s": { "$gt": work.at.seq as i64 } };
        let find = self.slots.find(range).sort(doc! { "s": 1 }).limit(CHANGED as i64);
        let found = self.store.find(find.projection(doc! { "s": 1, "u": 1 })).await?;
        let seq = |slot: &Document| slot.get_i64("s").map_err(|_| slot::unreadable());
        let mut updates = Vec::new();
        for slot in found.iter().filter(|slot| slot.get_str("u").ok() != Some(NOBODY)) {
            let seq = seq(slot)?;
            let filter = doc! {
                "_id": slot::place(past, seq as u64), "c": past.clone(), "u": { "$ne": NOBODY },
            };
            let mut change = nameless(seq, false);
            change.insert("$unset", doc! { "e": 1, "y": 1, "j": 1, "x": 1, "tell": 1 });
            updates.push(Update { filter, change, upsert: false });
        }
        work.looked += found.len() as u64;
        work.changed += updates.len();
        work.erased += self.update_all("slots", updates).await?;
        if let Some(last) = found.last() {
            work.at.seq = seq(last)? as u64;
        }
        Ok(found.len() == CHANGED)
    }

    /// Has a channel begin anew, unless nothing was ever said in this life.
    async fn end_life(&self, key: &ChannelKey) -> Result<(), PortError> {
        for _ in 0..TRIES {
            let view = self.look_latest(key).await?;
            let Some(head) = view.head() else {
                if let Some(ended) = view.incarnation.checked_sub(1) {
                    self.begin_anew(&view.channel, ended).await?;
                }
                return Ok(());
            };
            let draft = last_word(head.seq + 1, head.at).map_err(|_| slot::unreadable())?;
            let now = self.clock.now().max(head.placed);
            let mut last = plan::behind(Some(head), &draft, now, self.clock.wall());
            (last.first, last.is_last) = (last.seq, true);
            match self.insert(&[last.document(&view.id, &draft)]).await? {
                Inserted::All => return self.begin_anew(&view.channel, view.incarnation).await,
                Inserted::Duplicate(_) => {}
                Inserted::Unknown(_, error) | Inserted::Failed(_, error) => return Err(error),
            }
        }
        Err(PortError::new(Failure::Conflict, "others have taken every place that was tried"))
    }

    /// A channel's document follows what its slots say: that life has ended.
    pub(super) async fn begin_anew(&self, channel: &Binary, ended: u64) -> Result<(), PortError> {
        let change = doc! {
            "$set": { "incarnation": (ended + 1) as i64, "settled": 0_i64, "blanked": 1_i64 },
            "$push": { "past": slot::slots_id(channel, ended) },
        };
        let filter = doc! { "_id": channel.clone(), "incarnation": ended as i64 };
        self.store.update("channels", vec![Update { filter, change, upsert: false }]).await.map(drop)
    }

    /// Some of the user's markers; whether these were all.
    async fn end_markers(&self, app: &App, user: &User) -> Result<bool, PortError> {
        let find = self.markers.find(doc! { "a": app.as_str(), "u": user.as_str() }).limit(CHANGED as i64);
        let found = self.store.find(find.projection(doc! { "_id": 1 })).await?;
        let ids: Vec<Bson> = found.iter().filter_map(|marker| marker.get("_id").cloned()).collect();
        let count = ids.len();
        if count > 0 {
            self.store.write(self.markers.delete_many(doc! { "_id": { "$in": ids } })).await?;
        }
        Ok(count < CHANGED)
    }

    async fn forget(&self, app: &App, user: &User) -> Result<(), PortError> {
        while !self.end_markers(app, user).await? {}
        lock(&self.known).clear();
        let id = key_text(&[app.as_str(), user.as_str()]);
        let last_seen = self.store.collection("last_seen");
        self.store.write(last_seen.delete_one(doc! { "_id": id })).await?;
        let begun = self.begun(app, user).await?;
        let barred = begun.and_then(|begun| begun.get_i64("barred").ok()).map_or(0, i64::unsigned_abs);
        forget(&self.store, app, user, barred).await?;
        let erasures = self.store.collection("erasures");
        self.store.write(erasures.delete_one(doc! { "_id": name(app, user) })).await.map(drop)
    }
}

impl Place {
    fn read(begun: &Document) -> Self {
        let id = |field: &str| match begun.get(field) {
            Some(Bson::Binary(id)) => Some(id.clone()),
            _ => None,
        };
        Self {
            channel: id("channel"),
            past: id("past"),
            seq: begun.get_i64("seq").map_or(0, |seq| seq as u64),
            is_through: begun.get_bool("through").unwrap_or(false),
        }
    }

    fn document(&self) -> Document {
        doc! {
            "channel": self.channel.clone(), "past": self.past.clone(), "seq": self.seq as i64, "through": self.is_through,
        }
    }
}

/// What an erasure is known by.
fn name(app: &App, user: &User) -> String {
    key_text(&[app.as_str(), user.as_str()])
}

fn told(begun: &Document) -> Step {
    let ended = begun.get_bool("ended").unwrap_or(false);
    let first = |id: &Vec<u8>| id.iter().take(2).fold(0, |before, byte| before << 8 | u64::from(*byte));
    let looked_at = begun.get_binary_generic("channel").map_or(0, first);
    let erased = begun.get_i64("erased").unwrap_or(0).unsigned_abs();
    Step { looked_at: if ended { WHOLE } else { looked_at }, of: WHOLE, erased, ended }
}

/// What makes a slot nobody's.
fn nameless(seq: i64, has_event: bool) -> Document {
    let mut set = doc! { "u": NOBODY, "i": id_of(seq), "h": slot::no_fence() };
    if has_event {
        set.insert("e", "message");
    }
    doc! { "$set": set, "$unset": { "y": 1, "j": 1, "x": 1, "tell": 1 } }
}

fn id_of(seq: i64) -> String {
    format!("erased-{seq}")
}

/// What stands in the last slot.
fn last_word(seq: u64, at: u64) -> Result<Draft, Code> {
    Ok(Draft {
        kind: Kind::Silent,
        moderates: false,
        id: ClientId::new(&id_of(seq as i64))?,
        event: EventName::new("message")?,
        payload: Payload { json: NULL, attachments: Vec::new() },
        from: Sender { user: User::new(NOBODY)?, name: None },
        at,
    })
}
