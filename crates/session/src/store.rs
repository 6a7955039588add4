//! The directory, for code that waits.

use std::sync::Arc;

use xpush_core::ports::directory::{Change, Directory, Entry, Expected, Key, Listing, Record};
use xpush_core::ports::{Failure, PortError};

use crate::port::ask;

/// Entries of one page: enough for most users' everything.
const PAGE: usize = 100;

/// How often a change is tried anew when others change the same entry meanwhile.
const TRIES: usize = 16;

/// A [`Directory`] whose answers are waited for.
#[derive(Clone)]
pub(crate) struct Store(Arc<dyn Directory>);

impl Store {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        Self(directory)
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Entry>, PortError> {
        ask(|done| self.0.get(key, done)).await
    }

    pub(crate) async fn page(
        &self,
        listing: &Listing,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Entry>, PortError> {
        ask(|done| self.0.page(listing, after, limit, done)).await
    }

    /// Makes the change, if what it expects holds: whether it did.
    pub(crate) async fn apply(
        &self,
        key: Key,
        expected: Expected,
        to: Option<Record>,
    ) -> Result<bool, PortError> {
        match ask(|done| self.0.apply(Change { key, expected, to }, done)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Failure::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn remove(&self, key: Key) -> Result<(), PortError> {
        self.apply(key, Expected::Any, None).await.map(drop)
    }

    /// Changes an entry from what it is now, again when somebody else was faster. `change` says what it becomes, or `None` when it may stay as it is;
    /// whether there was a change.
    pub(crate) async fn change(
        &self,
        key: &Key,
        mut change: impl FnMut(Option<&Record>) -> Option<Record>,
    ) -> Result<bool, PortError> {
        for _ in 0..TRIES {
            let entry = self.get(key).await?;
            let Some(to) = change(entry.as_ref().map(|entry| &entry.record)) else { return Ok(false) };
            let expected = entry.map_or(Expected::Absent, |entry| Expected::Revision(entry.revision));
            if self.apply(key.clone(), expected, Some(to)).await? {
                return Ok(true);
            }
        }
        Err(PortError::new(Failure::Conflict, "others change the same entry all the time"))
    }

    /// Every entry of a listing that is short by nature, such as a user's devices.
    pub(crate) async fn all(&self, listing: &Listing) -> Result<Vec<Entry>, PortError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.key.clone());
            let page = self.page(listing, after, PAGE).await?;
            let last = page.len() < PAGE;
            entries.extend(page);
            if last {
                return Ok(entries);
            }
        }
    }

    /// Removes every entry of a listing.
    pub(crate) async fn clear(&self, listing: &Listing) -> Result<(), PortError> {
        for entry in self.all(listing).await? {
            self.remove(entry.key).await?;
        }
        Ok(())
    }

    /// A secret of this installation; made, 32 random bytes, by whoever needs it first.
    pub(crate) async fn secret(&self, name: &str) -> Result<Box<[u8]>, PortError> {
        let key = Key::Secret(name.into());
        for _ in 0..TRIES {
            if let Some(Entry { record: Record::Secret(secret), .. }) = self.get(&key).await? {
                return Ok(secret);
            }
            let mut secret = [0; 32];
            getrandom::fill(&mut secret)
                .map_err(|error| PortError::new(Failure::NotApplied, error.to_string()))?;
            let record = Record::Secret(Box::from(secret));
            if self.apply(key.clone(), Expected::Absent, Some(record)).await? {
                return Ok(Box::from(secret));
            }
        }
        Err(PortError::new(Failure::Conflict, "the secret comes and goes"))
    }
}
