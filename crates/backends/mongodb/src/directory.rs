//! The directory.
//!
//! All entries share one collection, `entries`: what differs between kinds is how a key is spelled ([`row`]), and a listing is a range of such texts. They are changed
//! by way of a [`journal`], whose numbers are the entries' revisions and the positions of `changes`.

mod erasure;
mod journal;
mod reads;
mod row;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use xpush_core::ports::directory::{Change, Changes, Directory, Entry, Key, Listing};
use xpush_core::ports::{Done, Failure, PortError};

use crate::lock;
use crate::store::Store;
use journal::{Journal, Waiting};
use reads::Reads;
use row::Span;

pub(crate) use erasure::{forget, newest};
pub(crate) use row::text as key_text;

/// Changes that wait, at most; and as many questions.
const WAITING: usize = 50_000;

/// [`Directory`] on a [`Store`].
pub struct MongoDirectory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    entries: Collection<Document>,
    reads: Arc<Reads>,
    journal: tokio::sync::Mutex<Journal>,
    waiting: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    changes: VecDeque<Waiting>,
    /// Somebody makes them.
    served: bool,
}

impl MongoDirectory {
    /// The directory of this database.
    pub fn new(store: Arc<Store>) -> Self {
        let journal = tokio::sync::Mutex::new(Journal::new(&store));
        let entries = store.collection("entries");
        let reads = Arc::new(Reads::new(entries.clone()));
        Self { inner: Arc::new(Inner { store, entries, reads, journal, waiting: Mutex::default() }) }
    }
}

impl Inner {
    /// Makes changes until none waits.
    async fn serve(self: Arc<Self>) {
        let mut changes = VecDeque::new();
        loop {
            {
                let mut waiting = lock(&self.waiting);
                changes.append(&mut waiting.changes);
                if changes.is_empty() {
                    waiting.served = false;
                    return;
                }
            }
            let made = match self.store.enter().await {
                Ok(_turn) => self.journal.lock().await.make(&self.store, &mut changes).await,
                Err(error) => Err(error),
            };
            if let Err(error) = made {
                // Of the first ones it may be unknown; the others were not tried, and would only wait as long.
                changes.append(&mut lock(&self.waiting).changes);
                let untried = PortError { kind: Failure::NotApplied, ..error.clone() };
                for (place, change) in changes.drain(..).enumerate() {
                    let error = if place < journal::AT_ONCE { &error } else { &untried };
                    change.end(Err(error.clone()));
                }
            }
        }
    }

    async fn page(&self, span: &Span, after: Option<String>, limit: usize) -> Result<Vec<Entry>, PortError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (start, end) = span.bounds();
        let start = match after {
            None => doc! { "$gte": start, "$lt": end },
            Some(after) => doc! { "$gt": after, "$gte": start, "$lt": end },
        };
        let find = self.entries.find(doc! { span.field: start, "gone": { "$exists": false } });
        let find = find.sort(doc! { span.field: 1 }).limit(i64::try_from(limit).unwrap_or(0));
        self.store.find(find).await?.iter().map(entry).collect()
    }

    async fn changes(&self, since: u64, limit: usize) -> Result<Changes, PortError> {
        let mut journal = self.journal.lock().await;
        let newest = journal.catch_up(&self.store).await?;
        if since == u64::MAX {
            return Ok(Changes { keys: Vec::new(), next: newest, gap: false });
        }
        let gap = Changes { keys: Vec::new(), next: newest, gap: true };
        if since > newest {
            return Ok(gap);
        }
        let page = journal.page(&self.store, since, limit).await?;
        drop(journal);
        let mut next = since;
        let mut keys = Vec::with_capacity(page.len());
        for told in page {
            if told.number != next + 1 || told.gap {
                return Ok(gap);
            }
            next = told.number;
            if told.key != erasure::FORGOTTEN {
                keys.push(row::key(&told.key)?);
            }
        }
        Ok(Changes { keys, next, gap: false })
    }
}

impl Directory for MongoDirectory {
    fn get(&self, key: &Key, done: Done<Option<Entry>>) {
        self.inner.reads.get(&self.inner.store, row::id_of(key), done);
    }

    fn page(&self, listing: &Listing, after: Option<Key>, limit: usize, done: Done<Vec<Entry>>) {
        let span = Span::of(listing);
        let after = match after.map(|after| span.text(&after)) {
            None => None,
            Some(Some(after)) => Some(after),
            Some(None) => {
                let detail = "a page goes on behind a key of its own kind";
                return done(Err(PortError::new(Failure::Invalid, detail)));
            }
        };
        let inner = Arc::clone(&self.inner);
        self.inner.store.run(done, async move { inner.page(&span, after, limit).await });
    }

    fn apply(&self, change: Change, done: Done<u64>) {
        let Change { key, expected, to } = change;
        if to.as_ref().is_some_and(|record| !record.belongs_to(&key)) {
            return done(Err(PortError::new(Failure::Invalid, "a record of another kind than its key")));
        }
        let waiting = match Waiting::new(&key, expected, to.as_ref(), done) {
            Ok(waiting) => waiting,
            Err((error, done)) => return done(Err(error)),
        };
        let mut queue = lock(&self.inner.waiting);
        if queue.changes.len() >= WAITING {
            drop(queue);
            let detail = "too many changes wait for the server";
            return waiting.end(Err(PortError::new(Failure::Overloaded, detail)));
        }
        queue.changes.push_back(waiting);
        if !std::mem::replace(&mut queue.served, true) {
            drop(queue);
            let inner = Arc::clone(&self.inner);
            self.inner.store.spawn(inner.serve());
        }
    }

    fn changes(&self, since: u64, limit: usize, done: Done<Changes>) {
        let inner = Arc::clone(&self.inner);
        self.inner.store.run(done, async move { inner.changes(since, limit).await });
    }
}

fn entry(document: &Document) -> Result<Entry, PortError> {
    let id = document.get_str("_id").map_err(|_| row::unreadable("a key"))?;
    let key = row::key(id)?;
    let record = row::record(&key, document)?;
    let revision = document.get_i64("rev").map_err(|_| row::unreadable("an entry"))?.unsigned_abs();
    Ok(Entry { key, record, revision })
}
