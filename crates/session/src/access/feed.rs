//! Hearing of changes: what was remembered is forgotten, and whoever holds a decision is told.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use xpush_core::ports::access::Changed;
use xpush_core::ports::directory::{Change, Changes, Directory, Entry, Key, Listing, Record};
use xpush_core::ports::{Done, PortError};
use xpush_core::{Channel, ChannelKey, Problem, UnixMillis};

use super::Core;
use super::token::LEEWAY;
use crate::port::{ask, unreadable};

/// How often the directory is asked. With the time that an answer takes it stays below the 2 s of the port's contract.
const PACE: Duration = Duration::from_secs(1);
/// Changes of one answer: their entries are read at the same time, and what has been told of them is not told again when the next answer fails.
const LIMIT: usize = 200;

/// The directory, whose changes are heard of at once when they are made here.
pub(super) struct Attentive(pub(super) Weak<Core>, pub(super) Arc<dyn Directory>);

impl Directory for Attentive {
    fn get(&self, key: &Key, done: Done<Option<Entry>>) {
        self.1.get(key, done);
    }

    fn page(&self, listing: &Listing, after: Option<Key>, limit: usize, done: Done<Vec<Entry>>) {
        self.1.page(listing, after, limit, done);
    }

    fn apply(&self, change: Change, done: Done<u64>) {
        let (core, key) = (self.0.clone(), change.key.clone());
        let told = move |result: Result<u64, PortError>| {
            // A change whose outcome is not known may have been made.
            if let Some(core) = core.upgrade() {
                core.noticed(&key);
            }
            done(result);
        };
        self.1.apply(change, Box::new(told));
    }

    fn changes(&self, since: u64, limit: usize, done: Done<Changes>) {
        self.1.changes(since, limit, done);
    }
}

/// Listens as long as there is somebody to tell.
pub(super) async fn listen(core: Weak<Core>, mut since: u64) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some(poked) = core.upgrade().map(|core| core.poked.clone()) else { return };
    let mut lost = Outage::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = poked.notified() => {}
        }
        let Some(core) = core.upgrade() else { return };
        let heard = core.hear(&mut since).await;
        lost.note(&core, heard);
        core.key_sets.refresh_old(&core.runtime);
    }
}

/// Whether the directory is out of reach.
#[derive(Default)]
struct Outage {
    is_on: bool,
    /// It has lasted so long that nothing holds any more.
    told: bool,
}

impl Outage {
    fn note(&mut self, core: &Arc<Core>, heard: Result<(), Problem>) {
        match heard {
            Ok(()) => {
                if self.is_on {
                    tracing::info!("the directory is there again");
                }
                if self.told {
                    core.tell(Changed::Everything);
                }
                core.check_unchecked();
                *self = Self::default();
            }
            Err(problem) => {
                core.records.are_lost();
                if !self.is_on {
                    tracing::warn!(%problem, "the directory is out of reach: what was decided holds for 60 s");
                    self.is_on = true;
                }
                if !self.told && !core.records.hold() {
                    tracing::error!("the directory is out of reach: nothing holds any more");
                    core.tell(Changed::Everything);
                    self.told = true;
                }
            }
        }
    }
}

impl Core {
    /// An entry may have been changed on this node.
    pub(super) fn noticed(&self, key: &Key) {
        self.records.forget(key);
        self.poked.notify_one();
    }

    /// Takes in what has changed. After an error the same changes come once more, which does no harm.
    async fn hear(&self, since: &mut u64) -> Result<(), Problem> {
        let now = self.clock.monotonic();
        loop {
            let changes = ask(|done| self.directory.changes(*since, LIMIT, done)).await;
            let changes = changes.map_err(|error| unreadable(&error))?;
            if changes.gap || changes.next < *since {
                self.records.forget_all();
                self.reload().await?;
                self.tell(Changed::Everything);
            } else {
                self.take_in(&changes.keys).await?;
            }
            // By its places: of some there is nothing to be told any more.
            let more = changes.next.saturating_sub(*since) >= LIMIT as u64;
            *since = changes.next;
            if !more {
                self.records.are_fresh(now);
                return Ok(());
            }
        }
    }

    async fn take_in(&self, keys: &[Key]) -> Result<(), Problem> {
        for key in keys {
            self.records.forget(key);
        }
        if keys.iter().any(|key| matches!(key, Key::App(_))) {
            self.reload().await?;
        }
        let mut known = HashSet::new();
        let meanings = keys.iter().filter(|key| known.insert(*key)).map(|key| self.meaning(key));
        let mut taken_in = Ok(());
        for meaning in join_all(meanings).await {
            match meaning {
                Ok(changed) => changed.into_iter().for_each(|changed| self.tell(changed)),
                // What could be read is told all the same.
                Err(problem) => taken_in = Err(problem),
            }
        }
        taken_in
    }

    /// What a change of an entry is to those who hold grants and permissions.
    async fn meaning(&self, key: &Key) -> Result<Option<Changed>, Problem> {
        let revoked = |issued_before: UnixMillis, app: &_, user: &_, device, login| {
            let (app, user) = (Clone::clone(app), Clone::clone(user));
            (issued_before > 0).then_some(Changed::Revoked { app, user, device, login, issued_before })
        };
        Ok(match key {
            Key::App(app) => Some(Changed::App(app.clone())),
            Key::User(app, user) => match self.records.read(key).await?.as_deref() {
                Some(Record::User(record)) => {
                    // Not for ever: whoever is let in again, or has the id next, is somebody with newer grants.
                    let until = if record.disabled {
                        self.clock.wall() + LEEWAY + 1
                    } else {
                        record.tokens_valid_from
                    };
                    revoked(until, app, user, None, None)
                }
                _ => None,
            },
            Key::Device(app, user, device) => match self.records.read(key).await?.as_deref() {
                Some(Record::Device(record)) => {
                    revoked(record.tokens_valid_from, app, user, Some(device.clone()), None)
                }
                _ => None,
            },
            Key::Login(app, user, login) => match self.records.read(key).await? {
                None => revoked(UnixMillis::MAX, app, user, None, Some(login.clone())),
                Some(_) => None,
            },
            Key::Member(channel, user) => Some(Changed::Permission(channel.clone(), user.clone())),
            Key::Block(app, owner, user) => {
                let channel = ChannelKey::new(app.clone(), Channel::personal(owner, None));
                Some(Changed::Permission(channel, user.clone()))
            }
            Key::ApiKey(..)
            | Key::Identity(..)
            | Key::Secret(_)
            | Key::Version(..)
            | Key::Audit(_)
            | Key::Deletion(_) => None,
        })
    }
}
