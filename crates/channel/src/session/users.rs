//! Which sessions of a shard are whose.

use std::collections::HashMap;
use std::hash::BuildHasher;

use smallvec::SmallVec;
use xpush_core::{App, User};

use super::identity::Identity;
use crate::fanout::inbox::Handle;
use crate::shard::Shard;

/// Slots by a digest of app and user: the names themselves stand in the sessions, once.
#[derive(Default)]
pub(crate) struct Users {
    by_digest: HashMap<u64, SmallVec<[u32; 1]>, foldhash::fast::RandomState>,
    digests: foldhash::fast::RandomState,
}

impl Users {
    pub(super) fn enter(&mut self, identity: &Identity, slot: u32) {
        let digest = self.digest(&identity.grant.app, &identity.sender().user);
        self.by_digest.entry(digest).or_default().push(slot);
    }

    pub(super) fn leave(&mut self, identity: &Identity, slot: u32) {
        let digest = self.digest(&identity.grant.app, &identity.sender().user);
        if let Some(slots) = self.by_digest.get_mut(&digest) {
            slots.retain(|one| *one != slot);
            if slots.is_empty() {
                self.by_digest.remove(&digest);
            }
        }
    }

    fn digest(&self, app: &App, user: &User) -> u64 {
        self.digests.hash_one((app, user))
    }
}

impl Shard {
    /// The sessions of a user in `/`.
    pub(crate) fn sessions_of(&mut self, app: &App, user: &User) -> SmallVec<[Handle; 4]> {
        let digest = self.users.digest(app, user);
        let Some(slots) = self.users.by_digest.get(&digest).cloned() else { return SmallVec::new() };
        let handles = slots.iter().filter_map(|slot| {
            let handle = self.sessions.handle(*slot)?;
            let identity = self.sessions.get(handle)?.native.as_ref()?;
            // Two users may have one digest.
            (identity.grant.app == *app && identity.sender().user == *user).then_some(handle)
        });
        handles.collect()
    }
}
