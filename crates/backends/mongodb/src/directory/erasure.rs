//! Forgetting that there was a user: in the journal, and among the marks of what was removed.

use mongodb::bson::{Bson, doc};
use xpush_core::ports::PortError;
use xpush_core::ports::directory::{Key, Listing};
use xpush_core::{App, User};

use super::journal::{Journal, number};
use super::row::{self, Span};
use crate::store::Store;

/// The key of a change that is told to nobody any more. Its number stays, as a place in the order.
pub(super) const FORGOTTEN: &str = "";

/// Changes that are read at once.
const AT_ONCE: i64 = 1000;

/// Takes the user's name out of what is left of its entries, which are all removed by now.
///
/// Of an identity its provider's name for the user is the key, which tells nothing of whose it was: all of the app's are forgotten. A node that stopped for
/// seconds between reading the removal of an entry and writing its mark writes one that says nothing but the key; it goes when 20,000 more changes were made.
pub(crate) async fn forget(store: &Store, app: &App, user: &User) -> Result<(), PortError> {
    let (changes, entries) = (store.collection("changes"), store.collection("entries"));
    let mut at = 0;
    loop {
        let find = changes.find(doc! { "_id": { "$gt": at } }).sort(doc! { "_id": 1 }).limit(AT_ONCE);
        let found = store.find(find.projection(doc! { "key": 1 })).await?;
        let Some(last) = found.last() else { break };
        at = number(last)? as i64;
        let named =
            found.iter().filter(|change| change.get_str("key").is_ok_and(|key| names(key, app, user)));
        let named: Vec<Bson> = named.filter_map(|change| change.get("_id").cloned()).collect();
        if !named.is_empty() {
            Journal::new(store).write(store, doc! { "_id": { "$in": named.clone() }, "open": true }).await?;
            let forget = doc! {
                "$set": { "key": FORGOTTEN },
                "$unset": { "open": 1, "form": 1, "body": 1, "o": 1 },
            };
            store.write(changes.update_many(doc! { "_id": { "$in": named } }, forget)).await?;
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

/// Whether a key's text names the user, or may.
fn names(key: &str, app: &App, user: &User) -> bool {
    let is = |of: &App, who: &User| of == app && who == user;
    match row::key(key) {
        Ok(Key::User(of, who) | Key::Device(of, who, _) | Key::Login(of, who, _)) => is(&of, &who),
        Ok(Key::Member(channel, who)) => is(&channel.app, &who),
        Ok(Key::Block(of, who, other)) => is(&of, &who) || is(&of, &other),
        Ok(Key::Identity(of, ..)) => of == *app,
        Ok(
            Key::App(_)
            | Key::Secret(_)
            | Key::ApiKey(..)
            | Key::Version(..)
            | Key::Audit(_)
            | Key::Deletion(_),
        )
        | Err(_) => false,
    }
}
