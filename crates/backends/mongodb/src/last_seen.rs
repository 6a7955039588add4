//! When users were last connected.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::{Bson, doc};
use xpush_core::ports::Done;
use xpush_core::ports::online::LastSeen;
use xpush_core::{App, UnixMillis, User};

use crate::directory::key_text;
use crate::store::{Store, Update};

/// Users of one command.
const AT_ONCE: usize = 1000;

/// [`LastSeen`] on a [`Store`].
pub struct MongoLastSeen {
    store: Arc<Store>,
}

impl MongoLastSeen {
    /// What this database knows.
    pub const fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl LastSeen for MongoLastSeen {
    fn note(&self, seen: Vec<(App, User, UnixMillis)>, done: Done<()>) {
        let store = Arc::clone(&self.store);
        self.store.run(done, async move {
            for seen in seen.chunks(AT_ONCE) {
                let update = |(app, user, at): &(App, User, UnixMillis)| Update {
                    filter: doc! { "_id": key_text(&[app.as_str(), user.as_str()]) },
                    change: doc! { "$max": { "at": i64::try_from(*at).unwrap_or(i64::MAX) } },
                    upsert: true,
                };
                store.update("last_seen", seen.iter().map(update).collect()).await?;
            }
            Ok(())
        });
    }

    fn recall(&self, app: &App, users: Vec<User>, done: Done<Vec<Option<UnixMillis>>>) {
        let (store, app) = (Arc::clone(&self.store), app.clone());
        self.store.run(done, async move {
            let ids: Vec<String> =
                users.iter().map(|user| key_text(&[app.as_str(), user.as_str()])).collect();
            let mut known = HashMap::new();
            let collection = store.collection("last_seen");
            for ids in ids.chunks(AT_ONCE) {
                let find = collection.find(doc! { "_id": { "$in": ids.to_vec() } });
                for found in store.find(find).await? {
                    if let (Some(Bson::String(id)), Ok(at)) = (found.get("_id"), found.get_i64("at")) {
                        known.insert(id.clone(), at.unsigned_abs());
                    }
                }
            }
            Ok(ids.iter().map(|id| known.get(id).copied()).collect())
        });
    }
}
