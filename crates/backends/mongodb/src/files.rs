//! What is known of files, in the collection `files`.
//!
//! `_id` is the file's id; `a` its app, `c` its app and channel, `o` its app and owner; `s` its size, `t` and `e` when it was made and when it ends; `b` all of it, as JSON.
//! Indexes: `a`, `c` and `o` with `_id`, for listings, and `e` for what is due.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use xpush_core::ports::files::{FileListing, FileRecord, Files};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, FileId, UnixMillis, User};

use crate::directory::key_text;
use crate::store::{Intent, Store, Update, is_duplicate, port_error};

/// Files that are counted at once.
const COUNTED: i64 = 10_000;

const COLLECTION: &str = "files";

/// [`Files`] on a [`Store`].
pub struct MongoFiles {
    store: Arc<Store>,
}

impl MongoFiles {
    /// Those that this database knows.
    pub const fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl Files for MongoFiles {
    fn add(&self, file: FileRecord, done: Done<()>) {
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            match store.ask(store.collection(COLLECTION).insert_one(document(&file)?)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if is_duplicate(&error) => Err(conflict()),
                Ok(Err(error)) => Err(port_error(Intent::Write, &error)),
                Err(error) => Err(PortError { kind: Failure::Unknown, ..error }),
            }
        });
    }

    fn replace(&self, file: FileRecord, done: Done<()>) {
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            let filter = doc! { "_id": file.id.as_str(), "a": file.app.as_str() };
            // All of them at once: a field that has gone is `null`.
            let change = doc! { "$set": fields(&file)? };
            match store.update(COLLECTION, vec![Update { filter, change, upsert: false }]).await? {
                0 => Err(conflict()),
                _ => Ok(()),
            }
        });
    }

    fn get(&self, app: &App, id: &FileId, done: Done<Option<FileRecord>>) {
        let filter = doc! { "_id": id.as_str(), "a": app.as_str() };
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            let found = store.read(store.collection(COLLECTION).find_one(filter)).await?;
            found.map(|document| record(&document)).transpose()
        });
    }

    fn remove(&self, app: &App, id: &FileId, done: Done<()>) {
        let filter = doc! { "_id": id.as_str(), "a": app.as_str() };
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            store.write(store.collection(COLLECTION).delete_one(filter)).await.map(drop)
        });
    }

    fn list(&self, listing: &FileListing, after: Option<FileId>, limit: usize, done: Done<Vec<FileRecord>>) {
        let mut filter = match listing {
            FileListing::OfApp(app) => doc! { "a": app.as_str() },
            FileListing::OfChannel(app, channel) => {
                doc! { "c": key_text(&[app.as_str(), channel.as_str()]) }
            }
            FileListing::OfUser(app, user) => doc! { "o": key_text(&[app.as_str(), user.as_str()]) },
        };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$lt": after.as_str() });
        }
        self.find(filter, doc! { "_id": -1 }, limit, done);
    }

    fn due(&self, now: UnixMillis, limit: usize, done: Done<Vec<FileRecord>>) {
        self.find(doc! { "e": { "$lte": signed(now) } }, doc! { "e": 1 }, limit, done);
    }

    fn bytes_since(&self, app: &App, user: &User, since: UnixMillis, done: Done<u64>) {
        let filter = doc! { "o": key_text(&[app.as_str(), user.as_str()]), "t": { "$gte": signed(since) } };
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            let collection = store.collection(COLLECTION);
            let sizes = store.find(collection.find(filter).projection(doc! { "s": 1 })).await?;
            Ok(sizes.iter().filter_map(|document| document.get_i64("s").ok()).map(i64::unsigned_abs).sum())
        });
    }

    fn bytes(&self, app: &App, done: Done<u64>) {
        let of_app = doc! { "a": app.as_str() };
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            let sum =
                [doc! { "$match": of_app }, doc! { "$group": { "_id": null, "bytes": { "$sum": "$s" } } }];
            let sums = store.gather(store.collection(COLLECTION).aggregate(sum)).await?;
            // Of no files there is no sum.
            let bytes = sums.first().and_then(|sum| sum.get_i64("bytes").ok());
            Ok(bytes.unwrap_or_default().unsigned_abs())
        });
    }
}

impl MongoFiles {
    fn find(&self, filter: Document, order: Document, limit: usize, done: Done<Vec<FileRecord>>) {
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            let collection = store.collection(COLLECTION);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let found = store.find(collection.find(filter).sort(order).limit(limit)).await?;
            found.iter().map(record).collect()
        });
    }
}

/// All of it.
pub(crate) fn document(file: &FileRecord) -> Result<Document, PortError> {
    let mut document = doc! { "_id": file.id.as_str() };
    document.extend(fields(file)?);
    Ok(document)
}

/// How many files all apps have, and how many bytes these.
pub(crate) fn amount(store: &Arc<Store>, done: Done<(u64, u64)>) {
    let store = Arc::clone(store);
    Arc::clone(&store).run(done, async move {
        let collection = store.collection(COLLECTION);
        let (mut files, mut bytes, mut of_these) = (0, 0, doc! {});
        loop {
            // Each part in the time that any command has, however many there are.
            let part = collection.find(of_these).sort(doc! { "_id": 1 }).limit(COUNTED);
            let sizes = store.find(part.projection(doc! { "s": 1 })).await?;
            let Some(last) = sizes.last() else { return Ok((files, bytes)) };
            of_these = doc! { "_id": { "$gt": last.get_str("_id").map_err(|_| unreadable())? } };
            files += sizes.len() as u64;
            bytes += sizes
                .iter()
                .filter_map(|document| document.get_i64("s").ok())
                .map(i64::unsigned_abs)
                .sum::<u64>();
        }
    });
}

/// Everything but the id.
fn fields(file: &FileRecord) -> Result<Document, PortError> {
    let body =
        serde_json::to_string(file).map_err(|error| PortError::new(Failure::Invalid, error.to_string()))?;
    Ok(doc! {
        "a": file.app.as_str(),
        "c": key_text(&[file.app.as_str(), file.channel.as_str()]),
        "o": key_text(&[file.app.as_str(), file.owner.as_str()]),
        "s": signed(file.size),
        "t": signed(file.created_at),
        "e": file.expires_at.map(signed),
        "b": body,
    })
}

fn record(document: &Document) -> Result<FileRecord, PortError> {
    let body = document.get_str("b").map_err(|_| unreadable())?;
    serde_json::from_str(body).map_err(|_| unreadable())
}

fn unreadable() -> PortError {
    PortError::new(Failure::Invalid, "an unreadable file")
}

fn conflict() -> PortError {
    PortError::new(Failure::Conflict, "the file is not as it was expected to be")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
