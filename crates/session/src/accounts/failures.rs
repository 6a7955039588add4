//! Who guesses passwords has to wait, longer each time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use xpush_core::{App, Clock, Monotonic, User};

use crate::api::Refusal;

/// Failures that cost no waiting: people mistype, and many may be behind one address.
const FREE_BY_USER: u32 = 5;
const FREE_BY_ADDRESS: u32 = 30;

/// The longest waiting, in seconds: a stranger who guesses must not keep a user out for long.
const LONGEST: u64 = 60;

/// Failures are forgotten when there was none for so long, in ms.
const FORGOTTEN: u64 = 15 * 60_000;

/// Users and addresses that are remembered.
const REMEMBERED: usize = 10_000;

/// Failures by user and by address, in memory.
pub(crate) struct Failures {
    clock: Arc<dyn Clock>,
    failed: Mutex<HashMap<Subject, Failed>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(App, User),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    last: Monotonic,
}

/// Whom an attempt is about, whether or not there is such a user.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    user: Subject,
    address: Option<Subject>,
}

impl Attempt {
    pub(crate) fn new(app: &App, user: &User, address: Option<IpAddr>) -> Self {
        let address = address.map(|address| Subject::Address(network(address)));
        Self { user: Subject::User(app.clone(), user.clone()), address }
    }

    fn subjects(&self) -> impl Iterator<Item = (&Subject, u32)> {
        let address = self.address.iter().map(|address| (address, FREE_BY_ADDRESS));
        std::iter::once((&self.user, FREE_BY_USER)).chain(address)
    }
}

impl Failures {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, failed: Mutex::default() }
    }

    /// Refuses an attempt that comes too early.
    pub(crate) fn check(&self, attempt: &Attempt) -> Result<(), Refusal> {
        let now = self.clock.monotonic();
        let failed = self.failed.lock().unwrap_or_else(|broken| broken.into_inner());
        let waits = attempt.subjects().filter_map(|(subject, free)| {
            let Failed { times, last } = *failed.get(subject)?;
            let seconds = 1_u64.checked_shl(times.checked_sub(free)?).unwrap_or(LONGEST).min(LONGEST);
            let left = (seconds * 1_000).saturating_sub(now.since(last));
            (left > 0).then(|| left.div_ceil(1_000))
        });
        waits.max().map_or(Ok(()), |seconds| Err(Refusal::busy(seconds)))
    }

    /// Notes that an attempt has failed.
    pub(crate) fn failed(&self, attempt: &Attempt) {
        let now = self.clock.monotonic();
        let mut failed = self.failed.lock().unwrap_or_else(|broken| broken.into_inner());
        for (subject, _) in attempt.subjects() {
            if failed.len() >= REMEMBERED && !failed.contains_key(subject) {
                make_room(&mut failed, now);
            }
            let entry = failed.entry(subject.clone()).or_insert(Failed { times: 0, last: now });
            let times = if now.since(entry.last) >= FORGOTTEN { 0 } else { entry.times };
            *entry = Failed { times: times.saturating_add(1), last: now };
        }
    }

    /// Notes that an attempt has succeeded: its user is no longer guessed at. The address may still be a guesser's.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        self.failed.lock().unwrap_or_else(|broken| broken.into_inner()).remove(&attempt.user);
    }
}

/// Forgets what is old, or else what is oldest.
fn make_room(failed: &mut HashMap<Subject, Failed>, now: Monotonic) {
    failed.retain(|_, entry| now.since(entry.last) < FORGOTTEN);
    if failed.len() >= REMEMBERED {
        let oldest = failed.iter().min_by_key(|(_, entry)| entry.last).map(|(subject, _)| subject.clone());
        oldest.and_then(|subject| failed.remove(&subject));
    }
}

/// What one customer has: an IPv4 address, or 64 bits of an IPv6 one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_testkit::ManualClock;

    fn attempt(user: &str, address: &str) -> Attempt {
        Attempt::new(&App::new("demo").unwrap(), &User::new(user).unwrap(), address.parse().ok())
    }

    fn wait(failures: &Failures, attempt: &Attempt) -> u64 {
        failures.check(attempt).err().and_then(|refusal| refusal.retry_after).unwrap_or(0)
    }

    #[test]
    fn waiting_grows_to_a_minute_and_is_forgotten() {
        let clock = Arc::new(ManualClock::new());
        let failures = Failures::new(clock.clone());
        let ann = attempt("ann", "");
        let mut waits = Vec::new();
        for _ in 0..14 {
            failures.failed(&ann);
            waits.push(wait(&failures, &ann));
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(wait(&failures, &attempt("bob", "")), 0);
        clock.advance(59_001);
        assert_eq!(wait(&failures, &ann), 1);
        clock.advance(FORGOTTEN);
        failures.failed(&ann);
        assert_eq!(wait(&failures, &ann), 0);
    }

    #[test]
    fn a_success_clears_the_user_but_not_the_address() {
        let failures = Failures::new(Arc::new(ManualClock::new()));
        for user in 0..31 {
            failures.failed(&attempt(&user.to_string(), "2001:db8::1"));
        }
        let neighbour = attempt("ann", "2001:db8::ffff");
        assert!(wait(&failures, &neighbour) > 0, "the same customer");
        failures.succeeded(&neighbour);
        assert!(wait(&failures, &neighbour) > 0);
        assert_eq!(wait(&failures, &attempt("ann", "2001:db8:0:1::1")), 0);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let clock = Arc::new(ManualClock::new());
        let failures = Failures::new(clock.clone());
        for user in 0..REMEMBERED + 10 {
            clock.advance(1);
            failures.failed(&attempt(&user.to_string(), ""));
        }
        let failed = failures.failed.lock().unwrap();
        assert_eq!(failed.len(), REMEMBERED);
        assert!(!failed.contains_key(&attempt("0", "").user));
        assert!(failed.contains_key(&attempt("10009", "").user));
    }
}
