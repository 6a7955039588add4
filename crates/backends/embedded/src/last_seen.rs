//! When users were last connected, for as long as the process lives.

use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::RandomState;
use xpush_core::ports::Done;
use xpush_core::ports::online::LastSeen;
use xpush_core::{App, UnixMillis, User};

use crate::lock;

/// A [`LastSeen`] that forgets with the process: for tests, and where nothing shall be kept.
#[derive(Default)]
pub struct MemoryLastSeen(Mutex<HashMap<(App, User), UnixMillis, RandomState>>);

impl LastSeen for MemoryLastSeen {
    fn note(&self, seen: Vec<(App, User, UnixMillis)>, done: Done<()>) {
        let mut known = lock(&self.0);
        for (app, user, at) in seen {
            let latest = known.entry((app, user)).or_default();
            *latest = at.max(*latest);
        }
        drop(known);
        done(Ok(()));
    }

    fn recall(&self, app: &App, users: Vec<User>, done: Done<Vec<Option<UnixMillis>>>) {
        let known = lock(&self.0);
        let seen = users.into_iter().map(|user| known.get(&(app.clone(), user)).copied()).collect();
        drop(known);
        done(Ok(seen));
    }
}
