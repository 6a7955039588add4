//! When users were last connected, for as long as the process lives.

use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::RandomState;
use xpush_core::ports::Done;
use xpush_core::ports::online::{LastSeen, State, Stays, Transition};
use xpush_core::{App, UnixMillis, User};

use crate::lock;

/// A [`LastSeen`] that forgets with the process: for tests, and where nothing shall be kept.
#[derive(Default)]
pub struct MemoryLastSeen(Mutex<Known>);

/// When, and as what.
type Known = HashMap<(App, User), (UnixMillis, State), RandomState>;

impl LastSeen for MemoryLastSeen {
    fn note(&self, seen: Vec<(App, User, UnixMillis)>, done: Done<()>) {
        let mut known = lock(&self.0);
        for (app, user, at) in seen {
            let (latest, _) = known.entry((app, user)).or_default();
            *latest = at.max(*latest);
        }
        drop(known);
        done(Ok(()));
    }

    fn recall(&self, app: &App, users: Vec<User>, done: Done<Vec<Option<UnixMillis>>>) {
        let known = lock(&self.0);
        let seen = |user| known.get(&(app.clone(), user)).map(|(at, _)| *at);
        let seen = users.into_iter().map(seen).collect();
        drop(known);
        done(Ok(seen));
    }
}

impl Stays for MemoryLastSeen {
    fn turn(&self, transitions: Vec<Transition>, done: Done<()>) {
        let mut known = lock(&self.0);
        for Transition { app, user, state, at } in transitions {
            let (latest, shown) = known.entry((app, user)).or_default();
            (*latest, *shown) = (at.max(*latest), state);
        }
        drop(known);
        done(Ok(()));
    }

    fn left_over(&self, done: Done<Vec<Transition>>) {
        let known = lock(&self.0);
        let there = known.iter().filter(|(_, (_, state))| *state != State::Offline);
        let mut left: Vec<Transition> = there
            .map(|((app, user), (at, state))| Transition {
                app: app.clone(),
                user: user.clone(),
                state: *state,
                at: *at,
            })
            .collect();
        drop(known);
        left.sort_by_key(|transition| transition.at);
        done(Ok(left));
    }
}
