//! Forgetting that there was a user: in the journal, and among the marks of what was removed.

use mongodb::bson::doc;
use xpush_core::ports::PortError;
use xpush_core::ports::directory::{Key, Listing};
use xpush_core::{App, User};

use super::journal::{Journal, number};
use super::row::{self, Span};
use crate::store::Store;

/// The key of a change that is told to nobody any more. Its number stays, as a place in the order; with `gap`, whoever comes upon it has missed something.
pub(super) const FORGOTTEN: &str = "";

/// Changes that are read at once.
const AT_ONCE: i64 = 1000;

/// Takes the user's name out of what is left of its entries, which are all removed by now.
///
/// Of an identity its provider's name for the user is the key, which tells nothing of whose it was: all of the app's are forgotten. A node that stopped for
/// seconds between reading the removal of an entry and writing its mark writes one that says nothing but the key; it goes when 20,000 more changes were made.
///
/// One of the changes up to `before` has barred the user: whoever comes upon them only now was cut off, and does not know. Those behind are removals of a moment ago. Who was
/// there all the time may not have heard of them either, but has of the bar, and shall not take everything for changed at each erasure.
pub(crate) async fn forget(store: &Store, app: &App, user: &User, before: u64) -> Result<(), PortError> {
    let (changes, entries) = (store.collection("changes"), store.collection("entries"));
    let mut at = 0;
    loop {
        let find = changes.find(doc! { "_id": { "$gt": at } }).sort(doc! { "_id": 1 }).limit(AT_ONCE);
        let found = store.find(find.projection(doc! { "key": 1 })).await?;
        let Some(last) = found.last() else { break };
        at = number(last)? as i64;
        let (mut missed, mut others) = (Vec::new(), Vec::new());
        for change in &found {
            let Ok(key) = row::key(change.get_str("key").unwrap_or(FORGOTTEN)) else { continue };
            if names(&key, app, user) {
                let number = number(change)?;
                // Nobody remembers identities.
                let is_gap = number <= before && !matches!(key, Key::Identity(..));
                if is_gap { &mut missed } else { &mut others }.push(number as i64);
            }
        }
        for (named, forgotten) in
            [(missed, doc! { "key": FORGOTTEN, "gap": true }), (others, doc! { "key": FORGOTTEN })]
        {
            if named.is_empty() {
                continue;
            }
            let named = doc! { "$in": named };
            Journal::new(store).write(store, doc! { "_id": named.clone(), "open": true }).await?;
            let forget = doc! { "$set": forgotten, "$unset": { "open": 1, "form": 1, "body": 1, "o": 1 } };
            store.write(changes.update_many(doc! { "_id": named }, forget)).await?;
        }
    }
    let own = row::id_of(&Key::User(app.clone(), user.clone()));
    store.write(entries.delete_many(doc! { "_id": own, "gone": true })).await?;
    for listing in Listing::of_user(app, user) {
        let span = Span::of(&listing);
        let (start, end) = span.bounds();
        let marks = doc! { span.field: { "$gte": start, "$lt": end }, "gone": true };
        store.write(entries.delete_many(marks)).await?;
    }
    Ok(())
}

/// The newest change.
pub(crate) async fn newest(store: &Store) -> Result<u64, PortError> {
    let newest = store.collection("changes");
    let newest = newest.find_one(doc! {}).sort(doc! { "_id": -1 }).projection(doc! { "_id": 1 });
    store.read(newest).await?.as_ref().map_or(Ok(0), number)
}

/// Whether a key names the user, or may.
fn names(key: &Key, app: &App, user: &User) -> bool {
    let is = |of: &App, who: &User| of == app && who == user;
    match key {
        Key::User(of, who) | Key::Device(of, who, _) | Key::Login(of, who, _) => is(of, who),
        Key::Member(channel, who) => is(&channel.app, who),
        Key::Block(of, who, other) => is(of, who) || is(of, other),
        Key::Identity(of, ..) => of == app,
        Key::App(_)
        | Key::Secret(_)
        | Key::ApiKey(..)
        | Key::Version(..)
        | Key::Audit(_)
        | Key::Deletion(_) => false,
    }
}
