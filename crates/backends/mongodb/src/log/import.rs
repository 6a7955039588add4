//! Taking in what another store held, into a database that holds nothing.
//!
//! Until [`Import::finish`] the database says that it is not whole, and nobody else opens it. An import that was cut short is begun anew: what it had written is
//! thrown away first, as the other store may have gone on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Binary, Bson, Document, doc};
use xpush_core::ports::directory::{Change, Directory as _, Entry, Expected};
use xpush_core::ports::erasure::NOBODY;
use xpush_core::ports::files::FileRecord;
use xpush_core::ports::online::LastSeen as _;
use xpush_core::ports::transfer::{ChannelCopy, MarkerCopy, Origin, SlotCopy};
use xpush_core::ports::{Failure, PortError, wait};
use xpush_core::{App, Kind, UnixMillis, User};

use super::slot;
use crate::store::{OpenError, Options, Store, Update};
use crate::{MongoDirectory, MongoLastSeen};

/// Bytes and documents of one command.
const BYTES: usize = 1 << 20;
const DOCUMENTS: usize = 500;

/// How often a command is sent that was not answered: each of them can be sent twice.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A database that is being filled. Its calls block.
pub struct Import {
    store: Arc<Store>,
    directory: MongoDirectory,
    last_seen: MongoLastSeen,
}

impl Import {
    /// Begins in a database that holds nothing, or what an import from the same origin has left that was cut short.
    pub fn begin(options: Options, origin: Origin) -> Result<Self, OpenError> {
        let store = Store::fill(options, origin)?;
        let (directory, last_seen) = (MongoDirectory::new(store.clone()), MongoLastSeen::new(store.clone()));
        Ok(Self { store, directory, last_seen })
    }

    /// Takes entries in; their revisions are others here.
    pub fn entries(&self, entries: Vec<Entry>) -> Result<(), PortError> {
        let (sender, answers) = std::sync::mpsc::channel();
        let count = entries.len();
        for Entry { key, record, .. } in entries {
            let sender = sender.clone();
            let change = Change { key, expected: Expected::Any, to: Some(record) };
            self.directory.apply(change, Box::new(move |result| drop(sender.send(result))));
        }
        answers.iter().take(count).try_for_each(|answer| answer.map(drop))
    }

    /// Takes slots in, which come ascending and whole; `newest` is the newest one that is a message so far, 0 at first.
    pub fn slots(
        &self,
        channel: &ChannelCopy,
        newest: &mut u64,
        slots: &[SlotCopy],
    ) -> Result<(), PortError> {
        let id = slots_of(channel);
        let mut updates = Vec::new();
        let mut bytes = 0;
        for copy in slots {
            if copy.kind.is_message() {
                *newest = copy.seq;
            }
            bytes += copy.payload.as_ref().map_or(0, xpush_core::Payload::size);
            updates.push(put(document(&id, channel, copy, *newest)));
            if bytes > BYTES || updates.len() >= DOCUMENTS {
                self.update("slots", std::mem::take(&mut updates))?;
                bytes = 0;
            }
        }
        self.update("slots", updates)
    }

    /// Takes markers in.
    pub fn markers(&self, channel: &ChannelCopy, markers: &[MarkerCopy]) -> Result<(), PortError> {
        let id = slots_of(channel);
        for markers in markers.chunks(DOCUMENTS) {
            let marker = |copy: &MarkerCopy| {
                put(doc! {
                    "_id": slot::marker_id(&id, copy.user.as_str()),
                    "c": id.clone(),
                    "a": channel.key.app.as_str(),
                    "n": channel.key.name.as_str(),
                    "u": copy.user.as_str(),
                    "on": true,
                    "d": copy.marker.delivered as i64,
                    "r": copy.marker.read as i64,
                    // Everything up to the head is settled.
                    "o": channel.head as i64,
                    "e": 0_i64,
                    "m": copy.moved as i64,
                    "made": copy.made as i64,
                })
            };
            self.update("markers", markers.iter().map(marker).collect())?;
        }
        Ok(())
    }

    /// Takes a channel in, behind its slots and markers.
    pub fn channel(&self, channel: &ChannelCopy) -> Result<(), PortError> {
        let document = doc! {
            "_id": slot::channel_id(&channel.key),
            "app": channel.key.app.as_str(),
            "name": channel.key.name.as_str(),
            "incarnation": channel.incarnation as i64,
            "settled": channel.head as i64,
            "blanked": channel.blanked as i64,
        };
        self.update("channels", vec![put(document)])
    }

    /// Takes in what is known of files.
    pub fn files(&self, files: &[FileRecord]) -> Result<(), PortError> {
        for files in files.chunks(DOCUMENTS) {
            let updates = files.iter().map(|file| crate::files::document(file).map(put));
            self.update("files", updates.collect::<Result<_, _>>()?)?;
        }
        Ok(())
    }

    /// How many files there are, and how many bytes they have.
    pub fn files_taken(&self) -> Result<(u64, u64), PortError> {
        wait(|done| crate::files::amount(&self.store, done))
    }

    /// Takes in when users were last connected.
    pub fn last_seen(&self, seen: Vec<(App, User, UnixMillis)>) -> Result<(), PortError> {
        wait(|done| self.last_seen.note(seen, done))
    }

    /// It is whole: from now on servers open it.
    pub fn finish(self) -> Result<(), PortError> {
        let whole = doc! { "$set": { "done": true } };
        self.update("meta", vec![Update { filter: doc! { "_id": "import" }, change: whole, upsert: false }])
    }

    fn update(&self, collection: &'static str, updates: Vec<Update>) -> Result<(), PortError> {
        let store = self.store.clone();
        wait(|done| {
            self.store.run(done, async move {
                let mut tried = 1;
                loop {
                    match store.update(collection, updates.clone()).await {
                        Ok(_) => return Ok(()),
                        Err(error) if error.kind == Failure::Invalid || tried >= TRIES => return Err(error),
                        Err(error) => tracing::debug!(%error, collection, "trying again"),
                    }
                    tried += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        })
    }
}

fn slots_of(channel: &ChannelCopy) -> Binary {
    slot::slots_id(&slot::channel_id(&channel.key), channel.incarnation)
}

/// In the place of whatever has its `_id`.
fn put(document: Document) -> Update {
    let id = document.get("_id").cloned().unwrap_or(Bson::Null);
    Update { filter: doc! { "_id": id }, change: document, upsert: true }
}

/// A slot's document, as if it had been written here and settled ([`slot`] says what the fields are).
fn document(id: &Binary, channel: &ChannelCopy, copy: &SlotCopy, newest: u64) -> Document {
    let is_head = copy.seq == channel.head;
    let erased = copy.from.user.as_str() == NOBODY;
    let mut document = doc! {
        "_id": slot::place(id, copy.seq),
        "c": id.clone(),
        "s": copy.seq as i64,
        "h": if erased { slot::no_fence() } else { slot::fence(&copy.from.user, &copy.id) },
        "k": slot::number_of(copy.kind),
        "u": copy.from.user.as_str(),
        "i": copy.id.as_str(),
        "at": copy.at as i64,
        "p": copy.placed as i64,
        "w": if is_head { channel.active } else { copy.at } as i64,
        "n": copy.counted as i64,
        "b": copy.bytes as i64,
        "o": copy.own_bytes as i64,
        // Only the head's counts.
        "f": channel.first.min(copy.seq) as i64,
        "g": channel.age_ms.min(super::retention::ENDLESS) as i64,
        "l": if is_head { channel.newest } else { newest } as i64,
    };
    if let Some(target) = copy.kind.target() {
        document.insert("t", target as i64);
    }
    if let Some((by, at)) = copy.revised {
        document.insert("r", by as i64);
        if copy.deleted {
            document.insert("z", at as i64);
        }
    }
    if copy.deleted && matches!(copy.kind, Kind::Message) {
        // It counts no more, whoever has deleted it.
        document.insert("t", copy.seq as i64);
        document.insert("d", 1);
    }
    if let Some(event) = &copy.event {
        document.insert("e", event.as_str());
        if let Some(name) = &copy.from.name {
            document.insert("y", &**name);
        }
    }
    if let Some(payload) = &copy.payload {
        document.insert("j", slot::binary(&payload.json));
        if !payload.attachments.is_empty() {
            let attachments = payload.attachments.iter().map(|bytes| Bson::Binary(slot::binary(bytes)));
            document.insert("x", attachments.collect::<Vec<_>>());
        }
    }
    document
}
