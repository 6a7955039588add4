//! What every [`Outbox`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use xpush_core::ports::outbox::{
    Backlog, Claim, Dead, Item, LONGEST_MS, MOST_DEAD, Outbox, Settlement, Then,
};
use xpush_core::ports::{Failure, PortError};

use crate::suite::{answer, ends};

/// A new outbox: nothing is to be done.
pub struct OutboxStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Outbox>; 2],
    /// Lets so many ms pass, as the store counts them; none pass otherwise.
    pub pass: Box<dyn Fn(u64)>,
}

/// Makes each property of an [`Outbox`] a test; `$fixture` is a function that gives an [`OutboxStore`].
#[macro_export]
macro_rules! outbox_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, outbox:
            what_was_put_is_claimed_in_order
            a_key_is_claimed_once
            a_lease_that_ends_is_void
            what_has_failed_waits_and_holds_up_its_key_alone
            what_is_not_done_keeps_its_place
            what_is_buried_is_remembered_without_holding_up
            only_so_many_dead_are_remembered
            claims_are_bounded
            keys_are_fair
            queues_are_apart
            a_backlog_is_counted
            nothing_waits_longer_than_the_longest
            what_is_too_long_is_refused_whole
            claimers_together_do_everything_once
            done_may_call_again
        );
    };
}

const LEASE: u64 = 10_000;

fn item(key: &str, body: &str) -> Item {
    Item { queue: "q".into(), key: key.into(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn bodies(claim: &Claim) -> Vec<&str> {
    claim.items.iter().map(|item| std::str::from_utf8(&item.body).expect("text")).collect()
}

fn settled(claim: &Claim, done: usize, then: Then) -> Settlement {
    Settlement { key: claim.key.clone(), lease: claim.lease, done, then }
}

impl OutboxStore {
    fn put(&self, handle: usize, items: Vec<Item>) {
        answer(|done| self.handles[handle].put(items, done)).expect("put");
    }

    fn claim(&self, handle: usize) -> Vec<Claim> {
        self.claim_of(handle, "q", 100, 100)
    }

    fn claim_of(&self, handle: usize, queue: &str, keys: usize, items: usize) -> Vec<Claim> {
        answer(|done| self.handles[handle].claim(queue, keys, items, LEASE, done)).expect("claims")
    }

    /// The only claim.
    fn one(&self, handle: usize) -> Claim {
        let mut claims = self.claim(handle);
        assert_eq!(claims.len(), 1);
        claims.remove(0)
    }

    fn settle(&self, handle: usize, claim: &Claim, done: usize, then: Then) -> bool {
        let settlement = settled(claim, done, then);
        answer(|done| self.handles[handle].settle("q", vec![settlement], done)).expect("settled") == 1
    }

    fn backlog(&self, handle: usize) -> Backlog {
        answer(|done| self.handles[handle].backlog("q", done)).expect("a backlog")
    }

    fn dead(&self, limit: usize) -> Vec<Dead> {
        answer(|done| self.handles[1].dead("q", limit, done)).expect("the dead")
    }
}

pub fn what_was_put_is_claimed_in_order(store: &OutboxStore) {
    assert!(store.claim(0).is_empty());
    store.put(0, vec![item("a", "1"), item("b", "x"), item("a", "2")]);
    store.put(1, vec![item("a", "3")]);
    let claims = store.claim(1);
    let of = |key: &str| claims.iter().find(|claim| &*claim.key == key).expect("a claim");
    assert_eq!(bodies(of("a")), ["1", "2", "3"]);
    assert_eq!(bodies(of("b")), ["x"]);
    assert!(of("a").items.is_sorted_by(|one, next| one.id < next.id));
    assert!(of("a").items.iter().all(|item| item.attempts == 0 && item.put_at > 0));
    assert!(store.settle(0, of("a"), 3, Then::Release));
    assert!(store.settle(0, of("b"), 1, Then::Release));
    assert!(store.claim(0).is_empty());
}

pub fn a_key_is_claimed_once(store: &OutboxStore) {
    store.put(0, vec![item("a", "1")]);
    let claim = store.one(0);
    store.put(1, vec![item("a", "2"), item("b", "x")]);
    let other = store.one(1);
    assert_eq!(bodies(&other), ["x"], "what is behind it waits, and nothing else");
    assert_ne!(other.lease, claim.lease);
    assert!(store.settle(1, &claim, 1, Then::Release), "whoever settles");
    assert!(!store.settle(0, &claim, 1, Then::Release), "only once");
    assert_eq!(bodies(&store.one(0)), ["2"]);
}

pub fn a_lease_that_ends_is_void(store: &OutboxStore) {
    store.put(0, vec![item("a", "1"), item("a", "2")]);
    let lost = store.one(0);
    (store.pass)(LEASE - 1);
    assert!(store.claim(1).is_empty());
    (store.pass)(1);
    let again = store.one(1);
    assert_eq!(bodies(&again), ["1", "2"]);
    assert_eq!((again.items[0].id, again.items[0].attempts), (lost.items[0].id, 0));
    assert!(!store.settle(0, &lost, 2, Then::Bury { why: "late".into() }), "somebody else has it");
    assert!(store.settle(1, &again, 1, Then::Release));
    let rest = store.one(0);
    (store.pass)(LEASE);
    assert!(!store.settle(0, &rest, 1, Then::Release), "the lease has ended, although nobody has asked");
    assert_eq!(bodies(&store.one(0)), ["2"]);
}

pub fn what_has_failed_waits_and_holds_up_its_key_alone(store: &OutboxStore) {
    store.put(0, vec![item("a", "1"), item("a", "2"), item("b", "x")]);
    let claims = store.claim(0);
    let of = |key: &str| claims.iter().find(|claim| &*claim.key == key).expect("a claim");
    assert!(store.settle(0, of("a"), 0, Then::Retry { after_ms: 500 }));
    assert!(store.settle(0, of("b"), 1, Then::Release));
    store.put(1, vec![item("b", "y"), item("a", "3")]);
    assert_eq!(bodies(&store.one(1)), ["y"]);
    (store.pass)(499);
    assert!(store.claim(0).is_empty());
    (store.pass)(1);
    let again = store.one(1);
    assert_eq!(bodies(&again), ["1", "2", "3"]);
    assert_eq!(again.items.iter().map(|item| item.attempts).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(store.settle(0, &again, 1, Then::Retry { after_ms: 0 }));
    assert_eq!(store.one(0).items[0].attempts, 1, "the next one has failed now");
}

pub fn what_is_not_done_keeps_its_place(store: &OutboxStore) {
    store.put(0, vec![item("a", "1"), item("a", "2"), item("a", "3")]);
    let claim = store.one(0);
    assert!(store.settle(1, &claim, 1, Then::Release));
    let rest = store.one(1);
    assert_eq!(bodies(&rest), ["2", "3"]);
    assert_eq!(rest.items[0].attempts, 0);
    assert!(store.settle(0, &rest, 99, Then::Retry { after_ms: 99 }), "all of them, and no more");
    store.put(0, vec![item("a", "4")]);
    assert_eq!(bodies(&store.one(0)), ["4"]);
}

pub fn what_is_buried_is_remembered_without_holding_up(store: &OutboxStore) {
    store.put(0, vec![item("a", "1"), item("a", "2"), item("a", "3")]);
    let claim = store.one(0);
    assert!(store.settle(0, &claim, 0, Then::Retry { after_ms: 0 }));
    let claim = store.one(0);
    assert!(store.settle(1, &claim, 1, Then::Bury { why: "status 500".into() }));
    assert_eq!(bodies(&store.one(1)), ["3"]);
    let dead = store.dead(10);
    assert_eq!(dead.len(), 1);
    let Dead { id, key, attempts, put_at, died_at, why } = &dead[0];
    assert_eq!((*id, &**key, *attempts, &**why), (claim.items[1].id, "a", 1, "status 500"));
    assert!(*put_at > 0 && died_at >= put_at);
}

pub fn only_so_many_dead_are_remembered(store: &OutboxStore) {
    let many = MOST_DEAD + 20;
    for chunk in (0..many).collect::<Vec<_>>().chunks(100) {
        store.put(0, chunk.iter().map(|number| item(&number.to_string(), "")).collect());
        let claims = store.claim(0);
        let bury = |claim| settled(claim, 0, Then::Bury { why: claim.key.clone() });
        let settlements: Vec<_> = claims.iter().map(bury).collect();
        assert_eq!(answer(|done| store.handles[0].settle("q", settlements, done)), Ok(100.min(chunk.len())));
    }
    assert_eq!(store.dead(usize::MAX).len(), MOST_DEAD);
    let last: Vec<_> = store.dead(3).into_iter().map(|dead| dead.why).collect();
    let newest = |back: usize| Box::<str>::from((many - back).to_string());
    assert_eq!(last, [newest(1), newest(2), newest(3)]);
}

pub fn claims_are_bounded(store: &OutboxStore) {
    for key in ["a", "b", "c"] {
        store.put(0, (0..4).map(|number| item(key, &number.to_string())).collect());
    }
    let claims = store.claim_of(0, "q", 2, 100);
    assert_eq!(claims.iter().map(|claim| claim.items.len()).collect::<Vec<_>>(), [4, 4]);
    let rest = store.claim_of(1, "q", 100, 3);
    assert_eq!(rest.iter().map(bodies).collect::<Vec<_>>(), [["0", "1", "2"]]);
    assert!(store.settle(0, &rest[0], 3, Then::Release));
    assert_eq!(bodies(&store.one(0)), ["3"]);
}

pub fn keys_are_fair(store: &OutboxStore) {
    for key in ["a", "b", "c"] {
        store.put(0, vec![item(key, "1"), item(key, "2")]);
        (store.pass)(1);
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let claims = store.claim_of(0, "q", 1, 1);
        order.push(claims[0].key.clone());
        assert!(store.settle(0, &claims[0], 1, Then::Release));
        (store.pass)(1);
    }
    assert_eq!(order.concat(), "abcabc");
}

pub fn queues_are_apart(store: &OutboxStore) {
    let other = Item { queue: "Q".into(), ..item("a", "other") };
    store.put(0, vec![item("a", "1"), other]);
    let claim = store.one(0);
    assert_eq!(bodies(&claim), ["1"]);
    let settlement = settled(&claim, 1, Then::Release);
    assert_eq!(answer(|done| store.handles[0].settle("Q", vec![settlement], done)), Ok(0));
    assert_eq!(bodies(&store.claim_of(1, "Q", 9, 9)[0]), ["other"]);
    assert!(store.claim_of(0, "none", 9, 9).is_empty());
}

pub fn a_backlog_is_counted(store: &OutboxStore) {
    assert_eq!(store.backlog(0), Backlog::default());
    store.put(0, vec![item("a", "1"), item("b", "2")]);
    store.put(1, vec![item("a", "3")]);
    let first = store.claim_of(0, "q", 1, 9).remove(0);
    let backlog = store.backlog(1);
    assert_eq!((backlog.waiting, backlog.oldest), (3, Some(first.items[0].put_at)));
    assert!(store.settle(0, &first, 1, Then::Bury { why: "".into() }));
    assert_eq!(store.backlog(0).waiting, 1);
    let last = store.one(0);
    assert!(store.settle(0, &last, 1, Then::Release));
    assert_eq!(store.backlog(1), Backlog::default());
}

pub fn nothing_waits_longer_than_the_longest(store: &OutboxStore) {
    store.put(0, vec![item("a", "1"), item("b", "2")]);
    let first = store.claim_of(0, "q", 1, 1).remove(0);
    assert!(store.settle(0, &first, 0, Then::Retry { after_ms: u64::MAX }));
    let claims = answer(|done| store.handles[0].claim("q", 9, 9, u64::MAX, done)).expect("claims");
    assert_eq!(claims.len(), 1);
    (store.pass)(LONGEST_MS);
    assert_eq!(store.claim(1).len(), 2);
}

pub fn what_is_too_long_is_refused_whole(store: &OutboxStore) {
    let long = "x".repeat(513);
    for bad in [item(&long, ""), Item { queue: long[..257].into(), ..item("a", "") }] {
        let put: Result<(), PortError> =
            answer(|done| store.handles[0].put(vec![item("a", "1"), bad, item("a", "2")], done));
        assert_eq!(put.map_err(|error| error.kind), Err(Failure::Invalid));
    }
    assert!(store.claim(0).is_empty());
    store.put(0, vec![item(&long[..512], "1"), item("", "2")]);
    assert_eq!(store.claim(0).len(), 2);
}

pub fn claimers_together_do_everything_once(store: &OutboxStore) {
    const KEYS: usize = 7;
    const EACH: usize = 40;
    for number in 0..EACH {
        store.put(0, (0..KEYS).map(|key| item(&key.to_string(), &number.to_string())).collect());
    }
    let did: Vec<(String, usize)> = thread::scope(|scope| {
        let work = |thread: usize| {
            let outbox = &store.handles[thread % 2];
            scope.spawn(move || {
                let mut did = Vec::new();
                loop {
                    let claims = answer(|done| outbox.claim("q", 2, 5, LEASE, done)).expect("claims");
                    if claims.is_empty() {
                        let left = answer(|done| outbox.backlog("q", done)).expect("a backlog");
                        if left.waiting == 0 {
                            return did;
                        }
                        continue;
                    }
                    for claim in claims {
                        for body in bodies(&claim) {
                            did.push((claim.key.to_string(), body.parse().expect("a number")));
                        }
                        let settlement = settled(&claim, claim.items.len(), Then::Release);
                        let held = answer(|done| outbox.settle("q", vec![settlement], done));
                        assert_eq!(held, Ok(1));
                    }
                }
            })
        };
        let threads: Vec<_> = (0..4).map(work).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a claimer")).collect()
    });
    let mut counts: HashMap<(String, usize), usize> = HashMap::new();
    for one in did {
        *counts.entry(one).or_default() += 1;
    }
    assert_eq!(counts.len(), KEYS * EACH);
    assert!(counts.values().all(|count| *count == 1));
}

pub fn done_may_call_again(store: &OutboxStore) {
    let outbox = Arc::clone(&store.handles[0]);
    ends(move || {
        let again = Arc::clone(&outbox);
        let claims = answer(|done| {
            let then = move |_| again.claim("q", 9, 9, LEASE, done);
            outbox.put(vec![item("a", "1")], Box::new(then));
        });
        assert_eq!(claims.expect("claims").len(), 1);
    });
}
