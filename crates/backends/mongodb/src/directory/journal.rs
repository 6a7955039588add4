//! The journal of changes, by which the directory is changed.
//!
//! Each change is a document of `changes`, numbered 1, 2, 3 … without holes; its number is the entry's new revision. A writer who knows the journal up to N
//! decides by what entries were then, and inserts N + 1 …, in order: `_id` is unique, so either nobody was faster, and everything that was decided holds, or
//! the insert fails at that number, the writer catches up and decides anew. **N + 1 is there only when N is**: nobody who reads the journal ever meets a
//! number before a smaller one.
//!
//! An entry is the fold of its changes, and written behind them: after an insert the writer writes the entries, and only then answers. Should it die between the two, whoever
//! comes upon the change next (every writer, and every caller of `changes`) writes the entry first. That can be done again: an entry takes only a change that is
//! newer than itself, and a removed one stays as a mark (`gone`) as long as anybody may still write an old one.
//!
//! Old numbers are removed, and free again: so who knows the journal up to N decides only while N is still there, and otherwise reads it from the beginning.
//!
//! When everything up to N is written, the bodies in the journal are taken out: nothing that was removed or replaced stays there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join;
use mongodb::Collection;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use tokio::time::{Instant, sleep};
use xpush_core::ports::directory::{Expected, Key, Record};
use xpush_core::ports::{Done, Failure, PortError};

use super::row::{self, FORM, unreadable};
use crate::store::{Intent, Store, Update, coded, is_duplicate, is_duplicate_code, port_error};

/// Changes that are remembered.
const REMEMBERED: u64 = 20_000;

/// Changes that are removed in one step: none is looked for more often.
const REMOVED: u64 = 256;

/// Changes of one insert, and of one page of the journal.
pub(super) const AT_ONCE: usize = 200;

/// Numbers lost to others in a row before a writer gives up.
const LOST: u32 = 50;

/// How long marks of removed entries are kept, in changes behind them: somebody may have stopped with an old change in its hands.
const MARKS: u64 = REMEMBERED;

/// A change as it is told.
pub(super) struct Told {
    pub(super) number: u64,
    /// The key's text.
    pub(super) key: String,
    /// Whoever comes upon it only now has missed what is not told any more.
    pub(super) gap: bool,
}

/// A change that waits.
pub(super) struct Waiting {
    pub(super) id: String,
    pub(super) expected: Expected,
    /// The new body, and the entry's text in its owner's listings; `None` removes it.
    pub(super) to: Option<(Binary, Option<String>)>,
    /// Under a lock only because what is shared between threads needs one.
    done: Mutex<Done<u64>>,
}

/// The journal as one process knows it.
pub(super) struct Journal {
    changes: Collection<Document>,
    entries: Collection<Document>,
    /// What this process calls itself.
    me: i64,
    /// Every entry is written that a change up to here is about.
    at: u64,
    /// Up to here no body is left in the journal, as far as this process knows.
    cleared: u64,
    /// Up to here changes were removed.
    removed: u64,
}

impl Waiting {
    pub(super) fn new(
        key: &Key,
        expected: Expected,
        to: Option<&Record>,
        done: Done<u64>,
    ) -> Result<Self, (PortError, Done<u64>)> {
        let to = match to.map(|record| Ok((row::body(record)?, key.owner(record)))).transpose() {
            Ok(to) => to.map(|(body, owner)| (body, owner.map(|owner| row::owned_id(key, owner)))),
            Err(error) => return Err((error, done)),
        };
        Ok(Self { id: row::id_of(key), expected, to, done: Mutex::new(done) })
    }

    pub(super) fn end(self, result: Result<u64, PortError>) {
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done(result);
    }

    fn document(&self, number: u64, by: i64) -> Document {
        let mut document = doc! { "_id": number as i64, "key": &self.id, "by": by, "open": true };
        if let Some((body, owner)) = &self.to {
            document.extend(doc! { "form": FORM, "body": body.clone() });
            if let Some(owner) = owner {
                document.insert("o", owner);
            }
        }
        document
    }
}

impl Journal {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            changes: store.collection("changes"),
            entries: store.collection("entries"),
            me: crate::random(),
            at: 0,
            cleared: 0,
            removed: 0,
        }
    }

    /// Writes the entries of all changes that there are by now: the newest number.
    pub(super) async fn catch_up(&mut self, store: &Store) -> Result<u64, PortError> {
        loop {
            let find = self.changes.find(doc! { "_id": { "$gt": self.at as i64 } });
            let find = find.sort(doc! { "_id": 1 }).limit(i64::try_from(AT_ONCE).unwrap_or(i64::MAX));
            let found = store.find(find).await?;
            let Some(last) = found.last() else { return Ok(self.at) };
            let last = number(last)?;
            self.fold(store, &found).await?;
            self.at = last;
        }
    }

    /// Reads the journal from the beginning: what was known of it was long ago.
    async fn begin_again(&mut self, store: &Store) -> Result<(), PortError> {
        (self.at, self.cleared) = (0, 0);
        self.catch_up(store).await.map(drop)
    }

    /// Changes behind `since`, at most `limit`.
    pub(super) async fn page(&self, store: &Store, since: u64, limit: usize) -> Result<Vec<Told>, PortError> {
        let mut page: Vec<Told> = Vec::new();
        while page.len() < limit {
            let from = page.last().map_or(since, |told| told.number);
            let count = (limit - page.len()).min(4 * AT_ONCE);
            let find = self.changes.find(doc! { "_id": { "$gt": from as i64, "$lte": self.at as i64 } });
            let find = find.sort(doc! { "_id": 1 }).limit(i64::try_from(count).unwrap_or(i64::MAX));
            let found = store.find(find.projection(doc! { "key": 1, "gap": 1 })).await?;
            for document in &found {
                let key = document.get_str("key").map_err(|_| unreadable("a change"))?.to_owned();
                page.push(Told { number: number(document)?, key, gap: document.contains_key("gap") });
            }
            if found.len() < count {
                break;
            }
        }
        Ok(page)
    }

    /// Makes as many of the changes as go into one insert. Those that were answered are gone from `waiting`; the result is what the others are told.
    pub(super) async fn make(
        &mut self,
        store: &Store,
        waiting: &mut VecDeque<Waiting>,
    ) -> Result<(), PortError> {
        let count = waiting.len().min(AT_ONCE);
        if self.at == 0 {
            self.catch_up(store).await?;
        }
        let (mut lost, started) = (0, Instant::now());
        let mut doubt = None;
        let placed = loop {
            let decided = self.decide(store, waiting.iter().take(count)).await;
            let Some((verdicts, documents)) = decided.map_err(|error| doubt.take().unwrap_or(error))? else {
                self.begin_again(store).await.map_err(|error| doubt.take().unwrap_or(error))?;
                continue;
            };
            let inserted = match documents.is_empty() {
                true => Ok(0),
                false => self.insert(store, &documents).await,
            };
            match inserted {
                Ok(placed) if placed == documents.len() => break (verdicts, documents),
                Ok(placed) if placed > 0 => break first(verdicts, documents, placed),
                Ok(_) => {}
                Err(error) if error.kind == Failure::Unknown => doubt = Some(error),
                Err(error) => return Err(doubt.unwrap_or(error)),
            }
            lost += 1;
            let pause = Duration::from_millis(1 + crate::random().unsigned_abs() % (2 << lost.min(5)));
            if lost >= LOST || started.elapsed() + pause >= store.patience() {
                let error = PortError::new(Failure::NotApplied, "others change the directory all the time");
                return Err(doubt.unwrap_or(error));
            }
            sleep(pause).await;
            // Whatever of the last insert is there after all is found so, and is not made twice.
            let before = self.at;
            self.catch_up(store).await.map_err(|error| doubt.clone().unwrap_or(error))?;
            if doubt.is_some() {
                let found = self.mine(store, before, &documents).await?;
                if found > 0 {
                    let rest = documents.len() - found;
                    self.finish(store, waiting, first(verdicts, documents, found)).await?;
                    // The others may still be on their way, in this order.
                    let unknown = PortError::new(Failure::Unknown, "a part of the changes is lost or late");
                    (0..rest).for_each(|_| {
                        if let Some(change) = waiting.pop_front() {
                            change.end(Err(unknown.clone()));
                        }
                    });
                    return Ok(());
                }
            }
        };
        self.finish(store, waiting, placed).await
    }

    /// The entries first, then the answers.
    async fn finish(
        &mut self,
        store: &Store,
        waiting: &mut VecDeque<Waiting>,
        (verdicts, documents): (Vec<Result<u64, PortError>>, Vec<Document>),
    ) -> Result<(), PortError> {
        let unknown = |error: PortError| PortError { kind: Failure::Unknown, ..error };
        self.fold(store, &documents).await.map_err(unknown)?;
        if let Some(last) = documents.last() {
            self.at = self.at.max(number(last)?);
        }
        let removes = documents.iter().any(|document| !document.contains_key("body"));
        if removes {
            // What was removed is gone from the journal, too.
            self.clear(store).await.map_err(unknown)?;
        }
        for verdict in verdicts {
            if let Some(change) = waiting.pop_front() {
                change.end(verdict);
            }
        }
        if !removes && let Err(error) = self.clear(store).await {
            tracing::debug!(%error, "the directory's journal was not cleared");
        }
        if let Err(error) = self.remove_old(store).await {
            tracing::debug!(%error, "old changes of the directory were not removed");
        }
        Ok(())
    }

    /// What becomes of each change, as long as nobody else makes any, and the documents of those that are made; `None` when that cannot be told by what this
    /// process knows, as the journal has gone on so far.
    async fn decide(
        &self,
        store: &Store,
        waiting: impl Iterator<Item = &Waiting> + Clone,
    ) -> Result<Option<(Vec<Result<u64, PortError>>, Vec<Document>)>, PortError> {
        let asked: Vec<&str> = waiting
            .clone()
            .filter(|change| change.expected != Expected::Any)
            .map(|change| change.id.as_str())
            .collect();
        let (is_there, mut revisions) = try_join(self.is_there(store), self.revisions(store, asked)).await?;
        if !is_there {
            return Ok(None);
        }
        let (mut verdicts, mut documents) = (Vec::new(), Vec::new());
        for change in waiting {
            let now = revisions.get(&change.id).copied().flatten();
            let holds = match change.expected {
                Expected::Any => true,
                Expected::Absent => now.is_none(),
                Expected::Revision(revision) => now == Some(revision),
            };
            if !holds {
                let detail = "the entry is not as it was expected to be";
                verdicts.push(Err(PortError::new(Failure::Conflict, detail)));
                continue;
            }
            let number = self.at + 1 + documents.len() as u64;
            documents.push(change.document(number, self.me));
            revisions.insert(change.id.clone(), change.to.as_ref().map(|_| number));
            verdicts.push(Ok(number));
        }
        Ok(Some((verdicts, documents)))
    }

    /// Whether the newest number that is known is in the journal still, and those behind it therefore, if there are any.
    async fn is_there(&self, store: &Store) -> Result<bool, PortError> {
        if self.at == 0 {
            return Ok(true);
        }
        let find = self.changes.find_one(doc! { "_id": self.at as i64 }).projection(doc! { "_id": 1 });
        Ok(store.read(find).await?.is_some())
    }

    /// What entries' revisions are; `None` of those that were removed.
    async fn revisions(
        &self,
        store: &Store,
        ids: Vec<&str>,
    ) -> Result<HashMap<String, Option<u64>>, PortError> {
        let mut revisions = HashMap::new();
        if ids.is_empty() {
            return Ok(revisions);
        }
        let find = self.entries.find(doc! { "_id": { "$in": ids } });
        for found in store.find(find.projection(doc! { "rev": 1, "gone": 1 })).await? {
            let id = found.get_str("_id").map_err(|_| unreadable("a key"))?.to_owned();
            let revision = found.get_i64("rev").map_err(|_| unreadable("an entry"))?;
            revisions.insert(id, (!found.contains_key("gone")).then_some(revision as u64));
        }
        Ok(revisions)
    }

    /// How many of the documents are there, from the first on.
    async fn insert(&self, store: &Store, documents: &[Document]) -> Result<usize, PortError> {
        match store.ask(self.changes.insert_many(documents).ordered(true)).await {
            Ok(Ok(_)) => Ok(documents.len()),
            Ok(Err(error)) => judge(&error),
            Err(error) => Err(PortError { kind: Failure::Unknown, ..error }),
        }
    }

    /// How many of the documents are there after all, from the first on, behind `before`.
    async fn mine(&self, store: &Store, before: u64, documents: &[Document]) -> Result<usize, PortError> {
        let find = self.changes.find(doc! { "_id": { "$gt": before as i64 }, "by": self.me });
        let found = store.find(find.sort(doc! { "_id": 1 })).await?;
        let same = |(found, sent): (&Document, &Document)| {
            found.get("_id") == sent.get("_id") && found.get("key") == sent.get("key")
        };
        Ok(found.iter().zip(documents).take_while(|pair| same(*pair)).count())
    }

    /// Writes the entries of some changes, should nobody have come to it.
    pub(super) async fn write(&self, store: &Store, changes: Document) -> Result<(), PortError> {
        let found = store.find(self.changes.find(changes).sort(doc! { "_id": 1 })).await?;
        self.fold(store, &found).await
    }

    /// Writes the entries of changes whose bodies are there.
    async fn fold(&self, store: &Store, changes: &[Document]) -> Result<(), PortError> {
        let mut newest: HashMap<&str, &Document> = HashMap::new();
        for change in changes.iter().filter(|change| change.contains_key("open")) {
            newest.insert(change.get_str("key").map_err(|_| unreadable("a change"))?, change);
        }
        let update = |(key, change): (&str, &Document)| {
            let revision = number(change)? as i64;
            let filter = doc! { "_id": key, "rev": { "$lt": revision } };
            let mut set = doc! { "rev": revision };
            let mut unset = Document::new();
            for field in ["form", "body", "o"] {
                match change.get(field) {
                    Some(value) => drop(set.insert(field, value.clone())),
                    // By its owner the mark of an entry is found when its user is erased.
                    None if field == "o" && !change.contains_key("body") => {}
                    None => drop(unset.insert(field, 1)),
                }
            }
            match change.contains_key("body") {
                true => drop(unset.insert("gone", 1)),
                false => drop(set.insert("gone", true)),
            }
            let mut update = doc! { "$set": set };
            if !unset.is_empty() {
                update.insert("$unset", unset);
            }
            Ok(Update { filter, change: update, upsert: true })
        };
        let updates = newest.into_iter().map(update).collect::<Result<Vec<_>, PortError>>()?;
        store.update("entries", updates).await.map(drop)
    }

    /// Takes out bodies that are written elsewhere.
    async fn clear(&mut self, store: &Store) -> Result<(), PortError> {
        let written = doc! { "_id": { "$gt": self.cleared as i64, "$lte": self.at as i64 }, "open": true };
        let clear = doc! { "$unset": { "open": 1, "form": 1, "body": 1, "o": 1 } };
        store.write(self.changes.update_many(written, clear)).await?;
        self.cleared = self.at;
        Ok(())
    }

    /// Removes changes that are too old, when there are some, and marks that nobody needs any more.
    async fn remove_old(&mut self, store: &Store) -> Result<(), PortError> {
        let to = self.at.saturating_sub(REMEMBERED);
        if to < self.removed + REMOVED {
            return Ok(());
        }
        // What fails now is tried again with the next ones.
        self.removed = to;
        let old = doc! { "_id": { "$lte": to as i64 } };
        store.write(self.changes.delete_many(old)).await?;
        let marks = doc! { "gone": true, "rev": { "$lte": self.at.saturating_sub(MARKS) as i64 } };
        store.write(self.entries.delete_many(marks)).await.map(drop)
    }
}

/// The verdicts and documents up to the last of `count` documents.
fn first(
    mut verdicts: Vec<Result<u64, PortError>>,
    mut documents: Vec<Document>,
    count: usize,
) -> (Vec<Result<u64, PortError>>, Vec<Document>) {
    documents.truncate(count);
    let mut made = 0;
    let end = verdicts.iter().position(|verdict| {
        made += usize::from(verdict.is_ok());
        made > count
    });
    verdicts.truncate(end.unwrap_or(verdicts.len()));
    (verdicts, documents)
}

fn judge(error: &Error) -> Result<usize, PortError> {
    if let ErrorKind::InsertMany(many) = &*error.kind {
        if many.write_concern_error.is_some() {
            return Err(PortError::new(Failure::Unknown, "the write was not confirmed by a majority"));
        }
        return match many.write_errors.iter().flatten().min_by_key(|error| error.index) {
            Some(first) if is_duplicate_code(first.code) => Ok(first.index),
            Some(first) => match coded(Failure::Unknown, first.code) {
                error if first.index > 0 => Err(PortError { kind: Failure::Unknown, ..error }),
                error => Err(error),
            },
            None => Err(port_error(Intent::Write, error)),
        };
    }
    if is_duplicate(error) { Ok(0) } else { Err(port_error(Intent::Write, error)) }
}

pub(super) fn number(document: &Document) -> Result<u64, PortError> {
    match document.get("_id") {
        Some(Bson::Int64(number)) => Ok(number.unsigned_abs()),
        _ => Err(unreadable("a change")),
    }
}
