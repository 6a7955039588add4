//! Entries that are asked for one by one, and read together: behind a server that has died all of its users are asked about at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use xpush_core::ports::directory::Entry;
use xpush_core::ports::{Done, Failure, PortError};

use super::WAITING;
use crate::lock;
use crate::store::Store;

/// Commands under way at once; whoever asks meanwhile shares the next one.
const AT_ONCE: usize = 4;
/// Entries of one command: they come in one answer.
const TOGETHER: usize = 100;

/// The reads of single entries.
pub(super) struct Reads {
    entries: Collection<Document>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(String, Done<Option<Entry>>)>,
    under_way: usize,
}

impl Reads {
    pub(super) fn new(entries: Collection<Document>) -> Self {
        Self { entries, queue: Mutex::default() }
    }

    /// What stands under this id.
    pub(super) fn get(self: &Arc<Self>, store: &Arc<Store>, id: String, done: Done<Option<Entry>>) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= WAITING {
            drop(queue);
            return done(Err(PortError::new(Failure::Overloaded, "too many questions wait for the server")));
        }
        queue.waiting.push((id, done));
        if queue.under_way < AT_ONCE {
            queue.under_way += 1;
            drop(queue);
            let (reads, held) = (Arc::clone(self), Arc::clone(store));
            store.spawn(async move { reads.serve(&held).await });
        }
    }

    /// Reads until nobody waits.
    async fn serve(&self, store: &Store) {
        loop {
            let (ids, who): (Vec<String>, Vec<Done<Option<Entry>>>) = {
                let mut queue = lock(&self.queue);
                let together = queue.waiting.len().min(TOGETHER);
                if together == 0 {
                    queue.under_way -= 1;
                    return;
                }
                queue.waiting.drain(..together).unzip()
            };
            let found = match store.enter().await {
                Ok(_turn) => self.read(store, &ids).await,
                Err(error) => Err(error),
            };
            for (id, done) in ids.iter().zip(who) {
                done(match &found {
                    Ok(found) => found.get(id).map(super::entry).transpose(),
                    Err(error) => Err(error.clone()),
                });
            }
        }
    }

    async fn read(&self, store: &Store, ids: &[String]) -> Result<HashMap<String, Document>, PortError> {
        let find = self.entries.find(doc! { "_id": { "$in": ids }, "gone": { "$exists": false } });
        let named = |found: Document| Some((found.get_str("_id").ok()?.to_owned(), found));
        Ok(store.find(find).await?.into_iter().filter_map(named).collect())
    }
}
