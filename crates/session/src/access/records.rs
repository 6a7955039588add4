//! The directory's entries, remembered for as long as changes are heard of.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xpush_core::ports::access::MemberOf;
use xpush_core::ports::directory::{Directory, Entry, Key, Listing, MemberRecord, Record};
use xpush_core::{ChannelKey, Clock, Code, Monotonic, Problem, User};

use super::cache::Generations;
use crate::erasure::is_barred;
use crate::port::{ask, unreadable};

/// How long what is remembered holds when nothing is heard of changes: the store is lost, or this node cut off from it.
pub(super) const HELD: u64 = 60_000;
/// Bytes, roughly, of entries in one generation.
const ENTRIES: usize = 16 << 20;
/// Members in one generation of lists.
const LISTED: usize = 200_000;
/// Entries of a page.
pub(super) const PAGE: usize = 1_000;
/// The most members that a channel may have.
pub(super) const MOST_MEMBERS: usize = 10_000;

/// Reads through to the directory. What it answers was true at some moment after the question, or is at most as old as the last change that was heard of.
pub(super) struct Records {
    directory: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// `None`: there is no such entry.
    entries: Generations<Key, Option<Arc<Record>>>,
    rosters: Generations<ChannelKey, Roster>,
    /// Goes up with every change: what was read before it may be older and is not remembered.
    changes: u64,
    /// Everything that had changed by then is known.
    fresh_at: Monotonic,
    /// The directory did not answer when it was asked for changes last.
    lost: bool,
}

/// A channel's members.
#[derive(Clone)]
pub(super) struct Roster {
    pub(super) all: Arc<[MemberOf]>,
    /// Without those who want no notifications.
    pub(super) notified: Arc<[MemberOf]>,
}

/// A member as the directory has it.
pub(super) struct Enrolled {
    pub(super) user: User,
    pub(super) record: MemberRecord,
    pub(super) revision: u64,
}

impl Records {
    pub(super) fn new(directory: Arc<dyn Directory>, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            entries: Generations::new(ENTRIES),
            rosters: Generations::new(LISTED),
            changes: 0,
            fresh_at: clock.monotonic(),
            lost: false,
        };
        Self { directory, clock, state: Mutex::new(state) }
    }

    /// What an entry says; `None` when there is none.
    pub(super) async fn read(&self, key: &Key) -> Result<Option<Arc<Record>>, Problem> {
        let before = {
            let mut state = self.state();
            if self.holds(&state)
                && let Some(found) = state.entries.get(key)
            {
                return Ok(found);
            }
            state.changes
        };
        let entry = ask(|done| self.directory.get(key, done)).await.map_err(|error| unreadable(&error))?;
        let record = entry.map(|entry| Arc::new(entry.record));
        let mut state = self.state();
        let lasts = match record.as_deref() {
            // When the bar goes, it may soon be forgotten that there was one: who is late does not hear of it.
            Some(Record::User(user)) => !is_barred(user),
            Some(_) => true,
            None => absence_is_common(key),
        };
        if state.changes == before && lasts {
            let weight = weight(record.as_deref());
            state.entries.insert(key.clone(), record.clone(), weight);
        }
        Ok(record)
    }

    /// As [`read`](Self::read), but does not wait for a directory that is known to be out of reach: for who can do without.
    pub(super) async fn read_unless_lost(&self, key: &Key) -> Result<Option<Arc<Record>>, Problem> {
        let lost = {
            let mut state = self.state();
            state.lost && !(self.holds(&state) && state.entries.get(key).is_some())
        };
        if lost { Err(Code::Unavailable.into()) } else { self.read(key).await }
    }

    /// What an entry says, if that is remembered.
    pub(super) fn known(&self, key: &Key) -> Option<Arc<Record>> {
        let mut state = self.state();
        if self.holds(&state) { state.entries.get(key).flatten() } else { None }
    }

    /// The members of a channel.
    pub(super) async fn roster(&self, channel: &ChannelKey) -> Result<Roster, Problem> {
        let before = {
            let mut state = self.state();
            if self.holds(&state)
                && let Some(found) = state.rosters.get(channel)
            {
                return Ok(found);
            }
            state.changes
        };
        let roster = Roster::of(&self.enrolled(channel).await?);
        let mut state = self.state();
        if state.changes == before {
            state.rosters.insert(channel.clone(), roster.clone(), roster.all.len() + 1);
        }
        Ok(roster)
    }

    /// The members of a channel as they are now, by user.
    pub(super) async fn enrolled(&self, channel: &ChannelKey) -> Result<Vec<Enrolled>, Problem> {
        let listing = Listing::Members(channel.clone());
        let mut members: Vec<Enrolled> = Vec::new();
        loop {
            let after = members.last().map(|last| Key::Member(channel.clone(), last.user.clone()));
            let page = ask(|done| self.directory.page(&listing, after, PAGE, done)).await;
            let page = page.map_err(|error| unreadable(&error))?;
            let last = page.len() < PAGE;
            members.extend(page.into_iter().filter_map(|entry| match entry {
                Entry { key: Key::Member(_, user), record: Record::Member(record), revision } => {
                    Some(Enrolled { user, record, revision })
                }
                _ => None,
            }));
            if last || members.len() >= MOST_MEMBERS + PAGE {
                return Ok(members);
            }
        }
    }

    /// How many changes have been heard of: the same number later means that nothing that was read in between is out of date.
    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// An entry has changed.
    pub(super) fn forget(&self, key: &Key) {
        let mut state = self.state();
        state.changes += 1;
        state.entries.remove(key);
        if let Key::Member(channel, _) = key {
            state.rosters.remove(channel);
        }
    }

    /// Anything may have changed.
    pub(super) fn forget_all(&self) {
        let mut state = self.state();
        state.changes += 1;
        state.entries.clear();
        state.rosters.clear();
    }

    /// All that had changed by `moment` has been heard of.
    pub(super) fn are_fresh(&self, moment: Monotonic) {
        let mut state = self.state();
        (state.fresh_at, state.lost) = (moment, false);
    }

    /// The directory does not answer.
    pub(super) fn are_lost(&self) {
        self.state().lost = true;
    }

    /// Whether what is remembered, and what was decided by it, still holds.
    pub(super) fn hold(&self) -> bool {
        self.holds(&self.state())
    }

    fn holds(&self, state: &State) -> bool {
        self.clock.monotonic().since(state.fresh_at) <= HELD
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roster {
    fn of(members: &[Enrolled]) -> Self {
        let shown = |member: &Enrolled| MemberOf {
            user: member.user.clone(),
            role: member.record.role.clone(),
            muted: member.record.muted,
        };
        let all: Arc<[MemberOf]> = members.iter().map(shown).collect();
        let notified = if all.iter().any(|member| member.muted) {
            all.iter().filter(|member| !member.muted).cloned().collect()
        } else {
            all.clone()
        };
        Self { all, notified }
    }
}

/// Who is refused because something is not there asks again as soon as it is, perhaps before that is heard of; so only what is usually not there is remembered as
/// such.
fn absence_is_common(key: &Key) -> bool {
    matches!(key, Key::User(..) | Key::Device(..) | Key::Block(..))
}

fn weight(record: Option<&Record>) -> usize {
    let long = match record {
        Some(Record::User(user)) => user.info.as_ref().map_or(0, |info| info.len()) + 256,
        Some(Record::Device(device)) => device.push_token.as_ref().map_or(0, |token| token.len()) + 256,
        Some(Record::Login(_)) => 256,
        _ => 0,
    };
    256 + long
}
