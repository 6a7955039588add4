//! What clients may have back that recover: each pid names the shard that knows whose it is, and where its connection is or what it left.
//!
//! Bounded in time, number and bytes: what is oldest goes first, and who comes for it then is told that nothing was recovered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use xpush_core::{Grant, Monotonic, Problem};

use super::recovery::{Claim, Kept, Pid};
use super::sid::{self, Secret};
use crate::fanout::inbox::{Handle, Inbox};
use crate::shard::{Shard, Timer};

/// For how long it is kept what a connection left, in ms.
const KEEP_MS: u64 = 120_000;
/// How many connections' is kept in a shard at most, and how many bytes of it.
const MOST: usize = 50_000;
const MOST_BYTES: usize = 16 << 20;

/// A client wants to go on where a connection of this pid broke.
pub(crate) struct Reclaim {
    pub(crate) to: Handle,
    pub(crate) number: u32,
    pub(crate) claim: Claim,
    pub(crate) who: Who,
    /// Whether it may still come as whom it goes on.
    pub(crate) readmitted: Result<(), Problem>,
}

/// Whose a pid is.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) grant: Arc<Grant>,
    /// A guest without a secret, who is nobody but the holder of the pid.
    pub(crate) anonymous: bool,
}

/// All of a shard.
#[derive(Default)]
pub(crate) struct Recoverable {
    entries: HashMap<u32, Entry, foldhash::fast::RandomState>,
    /// When what was kept, oldest first; some of it may be gone, or be kept anew.
    queue: VecDeque<(Monotonic, u32)>,
    bytes: usize,
    /// A timer will look for what is too old.
    watched: bool,
}

struct Entry {
    secret: Secret,
    who: Who,
    state: State,
}

enum State {
    /// A connection has it. `claimant`: who gets it as soon as that one has let go.
    Live {
        at: Handle,
        claimant: Option<Box<Reclaim>>,
    },
    Kept {
        since: Monotonic,
        kept: Box<Kept>,
    },
}

/// What a claim comes to.
enum Verdict {
    Granted(Box<Reclaim>, Box<Kept>),
    /// The connection must let go first.
    Held(Handle),
    Refused(Box<Reclaim>),
}

impl Who {
    /// Whether `other` may have what is this one's.
    fn is(&self, other: &Self) -> bool {
        let (mine, others) = (&self.grant, &other.grant);
        mine.app == others.app
            && self.anonymous == other.anonymous
            && (self.anonymous || mine.guest == others.guest && mine.sender.user == others.sender.user)
    }

    /// Who goes on: a guest without a secret as whom it was, anybody else as it was just admitted.
    fn goes_on(&mut self, other: &mut Self) {
        if self.anonymous { other.clone_from(self) } else { self.clone_from(other) }
    }
}

impl Recoverable {
    /// A connection has a new pid.
    pub(super) fn note(&mut self, pid: &Pid, who: Who, at: Handle) {
        let state = State::Live { at, claimant: None };
        self.entries.insert(pid.number, Entry { secret: pid.secret, who, state });
    }

    fn find(&mut self, pid: &Pid) -> Option<&mut Entry> {
        self.entries.get_mut(&pid.number).filter(|entry| sid::same(&entry.secret, &pid.secret))
    }

    fn claim(&mut self, mut reclaim: Box<Reclaim>, now: Monotonic) -> Verdict {
        let Some(entry) = self.find(&reclaim.claim.pid).filter(|entry| entry.who.is(&reclaim.who)) else {
            return Verdict::Refused(reclaim);
        };
        match &mut entry.state {
            State::Live { at, claimant: claimant @ None } => {
                *claimant = Some(reclaim);
                Verdict::Held(*at)
            }
            State::Live { .. } => Verdict::Refused(reclaim),
            State::Kept { since, .. } if now.since(*since) > KEEP_MS => Verdict::Refused(reclaim),
            state @ State::Kept { .. } => {
                let taken = std::mem::replace(state, State::Live { at: reclaim.to, claimant: None });
                let State::Kept { kept, .. } = taken else { return Verdict::Refused(reclaim) };
                entry.who.goes_on(&mut reclaim.who);
                self.bytes -= kept.bytes();
                Verdict::Granted(reclaim, kept)
            }
        }
    }

    /// Keeps what a connection left; or somebody waits for it, who has it now.
    fn keep(&mut self, pid: &Pid, kept: Box<Kept>, now: Monotonic) -> Option<(Box<Reclaim>, Box<Kept>)> {
        let entry = self.find(pid)?;
        if let State::Live { claimant, .. } = &mut entry.state
            && let Some(mut reclaim) = claimant.take()
        {
            entry.state = State::Live { at: reclaim.to, claimant: None };
            entry.who.goes_on(&mut reclaim.who);
            return Some((reclaim, kept));
        }
        let bytes = kept.bytes();
        entry.state = State::Kept { since: now, kept };
        self.bytes += bytes;
        self.queue.push_back((now, pid.number));
        None
    }

    /// Nobody will come for this any more; who waits for it, in vain.
    fn forget(&mut self, pid: &Pid) -> Option<Box<Reclaim>> {
        self.find(pid)?;
        match self.entries.remove(&pid.number)?.state {
            State::Live { claimant, .. } => claimant,
            State::Kept { kept, .. } => {
                self.bytes -= kept.bytes();
                None
            }
        }
    }

    /// Forgets what is too old or too much; when the oldest of the rest will be.
    fn trim(&mut self, now: Monotonic) -> Option<u64> {
        while let Some((since, number)) = self.queue.front().copied() {
            let age = now.since(since);
            let current = |entry: &Entry| matches!(entry.state, State::Kept { since: at, .. } if at == since);
            let current = self.entries.get(&number).is_some_and(current);
            if current && age <= KEEP_MS && self.queue.len() <= MOST && self.bytes <= MOST_BYTES {
                return Some(KEEP_MS - age + 1);
            }
            self.queue.pop_front();
            if let Some(Entry { state: State::Kept { kept, .. }, .. }) =
                current.then(|| self.entries.remove(&number)).flatten()
            {
                self.bytes -= kept.bytes();
            }
        }
        None
    }
}

impl Shard {
    /// A session has ended, or has given up its pid.
    pub(crate) fn keep_left(&mut self, pid: &Pid, kept: Option<Box<Kept>>) {
        let Some(kept) = kept else {
            if let Some(reclaim) = self.recoverable.forget(pid) {
                self.post(reclaim.to.shard, Inbox::Reclaimed(reclaim, None));
            }
            return;
        };
        match self.recoverable.keep(pid, kept, self.now) {
            Some((reclaim, kept)) => self.hand_on(reclaim, kept),
            None => self.trim_kept(),
        }
    }

    pub(crate) fn home_reclaim(&mut self, reclaim: Box<Reclaim>) {
        match self.recoverable.claim(reclaim, self.now) {
            Verdict::Granted(reclaim, kept) => self.hand_on(reclaim, kept),
            Verdict::Refused(reclaim) => self.post(reclaim.to.shard, Inbox::Reclaimed(reclaim, None)),
            Verdict::Held(at) => self.post(at.shard, Inbox::Yield(at)),
        }
    }

    /// To who has claimed it. Of a guest without a secret ACCESS has not heard before now who it is.
    fn hand_on(&mut self, mut reclaim: Box<Reclaim>, kept: Box<Kept>) {
        if !reclaim.who.anonymous {
            return self.post(reclaim.to.shard, Inbox::Reclaimed(reclaim, Some(kept)));
        }
        let (grant, mailbox) = (reclaim.who.grant.clone(), self.node.mailbox(reclaim.to.shard).clone());
        let done = Box::new(move |readmitted| {
            reclaim.readmitted = readmitted;
            mailbox.post(Inbox::Reclaimed(reclaim, Some(kept)));
        });
        self.node.access().readmit(&grant, done);
    }

    pub(crate) fn kept_timer(&mut self) {
        self.recoverable.watched = false;
        self.trim_kept();
    }

    fn trim_kept(&mut self) {
        if let Some(left) = self.recoverable.trim(self.now)
            && !self.recoverable.watched
        {
            self.recoverable.watched = true;
            self.arm(left, Timer::Kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_core::{App, Sender, User};

    const AT: Handle = Handle { shard: 0, slot: 1, generation: 1 };

    fn who() -> Who {
        let grant = Grant {
            app: App::new("demo").unwrap(),
            sender: Sender { user: User::new("ann").unwrap(), name: None },
            device: None,
            guest: false,
            roles: Vec::new(),
            capabilities: None,
            issued_at: 0,
            expires_at: None,
            login: None,
            info: None,
        };
        Who { grant: Arc::new(grant), anonymous: false }
    }

    fn leave(all: &mut Recoverable, number: u32, length: usize, now: Monotonic) {
        let pid = Pid::of(number);
        all.note(&pid, who(), AT);
        assert!(all.keep(&pid, Kept::of_token(length), now).is_none());
        all.trim(now);
    }

    fn is_kept(all: &mut Recoverable, number: u32) -> bool {
        matches!(all.find(&Pid::of(number)), Some(Entry { state: State::Kept { .. }, .. }))
    }

    #[test]
    fn what_is_oldest_goes_when_it_is_too_much() {
        let mut all = Recoverable::default();
        for number in 0..100 {
            leave(&mut all, number, MOST_BYTES / 10, Monotonic(u64::from(number)));
            assert!(all.bytes <= MOST_BYTES, "{}", all.bytes);
        }
        let kept: Vec<_> = (0..100).filter(|number| is_kept(&mut all, *number)).collect();
        assert_eq!(kept, (91..100).collect::<Vec<_>>());
        assert_eq!((all.entries.len(), all.queue.len()), (9, 9));
        assert_eq!(all.trim(Monotonic(99 + KEEP_MS)), Some(1));
        assert_eq!(all.trim(Monotonic(99 + KEEP_MS + 1)), None);
        assert_eq!((all.entries.len(), all.queue.len(), all.bytes), (0, 0, 0));
    }

    #[test]
    fn small_ones_are_bounded_too() {
        let mut all = Recoverable::default();
        let most = u32::try_from(MOST).unwrap();
        for number in 0..most + 1_000 {
            leave(&mut all, number, 1, Monotonic(0));
        }
        assert!(all.entries.len() <= MOST && all.bytes <= MOST_BYTES);
        assert!(!is_kept(&mut all, 0) && is_kept(&mut all, most + 999));
    }

    #[test]
    fn who_comes_and_goes_all_the_time_leaves_no_more() {
        let mut all = Recoverable::default();
        leave(&mut all, 1, 1, Monotonic(0));
        for time in 1..200_000 {
            let claim = Claim::of(Pid::of(1));
            let reclaim = Box::new(Reclaim { to: AT, number: 1, claim, who: who(), readmitted: Ok(()) });
            let Verdict::Granted(_, kept) = all.claim(reclaim, Monotonic(time)) else { panic!("{time}") };
            assert!(all.keep(&Pid::of(1), kept, Monotonic(time)).is_none());
            all.trim(Monotonic(time));
        }
        assert!(all.queue.len() <= MOST && all.entries.len() == 1);
    }

    #[test]
    fn only_one_may_wait_for_a_connection_to_let_go() {
        let mut all = Recoverable::default();
        let pid = Pid::of(1);
        all.note(&pid, who(), AT);
        let reclaim = |number| {
            let claim = Claim::of(pid);
            Box::new(Reclaim { to: AT, number, claim, who: who(), readmitted: Ok(()) })
        };
        assert!(matches!(all.claim(reclaim(1), Monotonic(0)), Verdict::Held(at) if at == AT));
        assert!(matches!(all.claim(reclaim(2), Monotonic(0)), Verdict::Refused(_)));
        assert!(
            all.keep(&pid, Kept::of_token(1), Monotonic(0)).is_some_and(|(reclaim, _)| reclaim.number == 1)
        );
        assert_eq!(all.bytes, 0, "it was handed on");
    }
}
