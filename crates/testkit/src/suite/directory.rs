//! What every [`Directory`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

mod sample;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use xpush_core::ports::directory::{
    Change, Changes, Directory, Entry, Expected, Key, Listing, Record, UserRecord,
};
use xpush_core::ports::{Failure, PortError};

use crate::sample::{channel_of, user};
use crate::suite::{PATIENCE, Until, answer, ends};
use sample::{
    api_key, app, audit, audit_record, block, device_key, each_kind, identity, login_key, look_alikes,
    member, odd_texts, secret, stamped, user_key, version,
};

/// A new, empty store.
pub struct DirectoryStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Directory>; 2],
    /// A handle on what would be left if everything crashed now.
    pub after_a_crash: Box<dyn Fn() -> Arc<dyn Directory>>,
}

/// Makes each property of a [`Directory`] a test; `$fixture` is a function that gives a [`DirectoryStore`].
#[macro_export]
macro_rules! directory_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, directory:
            an_empty_store_has_nothing
            an_entry_of_every_kind_is_kept_as_it_was_given
            a_change_is_seen_on_every_handle
            revisions_rise
            what_a_change_expects_must_hold
            a_change_that_is_refused_changes_nothing
            a_record_of_another_kind_is_refused
            exactly_one_of_those_who_make_an_entry_makes_it
            no_update_is_lost
            keys_that_look_alike_are_apart
            any_text_can_be_a_key
            every_listing_is_in_the_order_of_its_keys
            a_listing_goes_on_behind_any_key
            a_listing_follows_its_entries
            removing_removes_nothing_else
            changes_are_told_in_order
            changes_go_on_where_one_was
            the_last_10_000_changes_are_known
            a_position_from_elsewhere_is_a_gap
            a_follower_ends_with_what_the_store_has
            what_was_answered_survives_a_crash
            done_may_call_the_directory
        );
    };
}

/// Callers at a time: more than cores, so that they are interrupted anywhere.
const THREADS: usize = 8;

impl DirectoryStore {
    fn get(&self, handle: usize, key: &Key) -> Option<Entry> {
        get(&self.handles[handle], key)
    }

    fn page(&self, handle: usize, listing: &Listing, after: Option<&Key>, limit: usize) -> Vec<Key> {
        let page = answer(|done| self.handles[handle].page(listing, after.cloned(), limit, done));
        let entries = page.expect("a page");
        // What a page shows is what `get` shows.
        for entry in &entries {
            assert!(self.get(1 - handle, &entry.key).as_ref() == Some(entry), "{:?}", entry.key);
        }
        entries.into_iter().map(|entry| entry.key).collect()
    }

    fn all(&self, listing: &Listing) -> Vec<Key> {
        self.page(0, listing, None, usize::MAX)
    }

    fn apply(
        &self,
        handle: usize,
        key: &Key,
        expected: Expected,
        to: Option<Record>,
    ) -> Result<u64, PortError> {
        apply(&self.handles[handle], key, expected, to)
    }

    /// A change that expects nothing.
    fn put(&self, key: &Key, record: Record) -> u64 {
        self.apply(0, key, Expected::Any, Some(record)).expect("a change")
    }

    fn put_all(&self, keys: &[Key]) {
        for (stamp, key) in (1..).zip(keys) {
            self.put(key, stamped(key, stamp));
        }
    }

    fn changes(&self, handle: usize, since: u64, limit: usize) -> Changes {
        changes(&self.handles[handle], since, limit)
    }

    fn position(&self) -> u64 {
        self.changes(0, u64::MAX, 1).next
    }
}

pub fn an_empty_store_has_nothing(store: &DirectoryStore) {
    for (key, _) in each_kind() {
        assert!(store.get(0, &key).is_none() && store.get(1, &key).is_none(), "{key:?}");
    }
    for listing in listings() {
        assert_eq!(store.all(&listing), [], "{listing:?}");
    }
    let Changes { keys, next, gap } = store.changes(0, 0, 10);
    assert_eq!((keys, gap), (Vec::new(), false));
    assert_eq!(store.position(), next);
}

pub fn an_entry_of_every_kind_is_kept_as_it_was_given(store: &DirectoryStore) {
    for (key, records) in each_kind() {
        for record in records {
            let revision = store.put(&key, record.clone());
            let entry = Entry { key: key.clone(), record, revision };
            for handle in [0, 1] {
                assert!(store.get(handle, &key).as_ref() == Some(&entry), "{key:?}");
            }
        }
    }
}

pub fn a_change_is_seen_on_every_handle(store: &DirectoryStore) {
    let key = user_key("demo", "ann");
    let listing = Listing::Users(app("demo"));
    for round in 0..50_usize {
        let (writer, reader) = (round % 2, 1 - round % 2);
        let position = store.position();
        let record = (!round.is_multiple_of(5)).then(|| stamped(&key, round as u64));
        store.apply(writer, &key, Expected::Any, record.clone()).expect("a change");
        assert!(store.get(reader, &key).map(|entry| entry.record) == record, "round {round}");
        let there: Vec<_> = record.iter().map(|_| key.clone()).collect();
        assert_eq!(store.page(reader, &listing, None, 10), there, "round {round}");
        assert!(store.changes(reader, position, 10).keys.contains(&key), "round {round}");
    }
}

pub fn revisions_rise(store: &DirectoryStore) {
    let [key, other] = [user_key("demo", "ann"), user_key("demo", "bob")];
    let mut last = 0;
    for round in 0..40 {
        // Removed and made again it begins anew, but never with a revision that it has had.
        let record = (round % 4 != 3).then(|| stamped(&key, round));
        let revision = store.apply((round % 2) as usize, &key, Expected::Any, record).expect("a change");
        assert!(revision > last, "{revision} comes after {last}");
        last = revision;
        store.put(&other, stamped(&other, round));
    }
}

pub fn what_a_change_expects_must_hold(store: &DirectoryStore) {
    let key = user_key("demo", "ann");
    let refused = |expected| {
        for to in [Some(stamped(&key, 9)), None] {
            let result = store.apply(1, &key, expected, to);
            assert_eq!(result.expect_err("must not hold").kind, Failure::Conflict, "{expected:?}");
        }
    };
    refused(Expected::Revision(0));
    refused(Expected::Revision(1));
    refused(Expected::Revision(u64::MAX));
    let change = |expected, to| store.apply(0, &key, expected, to).expect("holds");
    change(Expected::Absent, None);
    let first = change(Expected::Absent, Some(stamped(&key, 1)));
    refused(Expected::Absent);
    refused(Expected::Revision(first + 1));
    let second = change(Expected::Revision(first), Some(stamped(&key, 2)));
    refused(Expected::Revision(first));
    let gone = change(Expected::Revision(second), None);
    refused(Expected::Revision(second));
    refused(Expected::Revision(gone));
    change(Expected::Any, None);
    change(Expected::Any, Some(stamped(&key, 3)));
    change(Expected::Any, Some(stamped(&key, 4)));
    assert!(store.get(1, &key).is_some_and(|entry| entry.record == stamped(&key, 4)));
}

pub fn a_change_that_is_refused_changes_nothing(store: &DirectoryStore) {
    let key = user_key("demo", "ann");
    let revision = store.put(&key, stamped(&key, 1));
    let before = store.get(0, &key);
    for to in [Some(stamped(&key, 2)), None] {
        for expected in [Expected::Absent, Expected::Revision(revision + 1)] {
            store.apply(1, &key, expected, to.clone()).expect_err("must not hold");
        }
    }
    assert!(store.get(0, &key) == before);
    assert_eq!(store.all(&Listing::Users(app("demo"))), [key]);
}

pub fn a_record_of_another_kind_is_refused(store: &DirectoryStore) {
    let kinds = each_kind();
    for (key, _) in &kinds {
        for (other, records) in &kinds {
            let record = records[0].clone();
            if record.belongs_to(key) {
                continue;
            }
            for expected in [Expected::Any, Expected::Absent] {
                let result = store.apply(0, key, expected, Some(record.clone()));
                assert_eq!(result.expect_err("refused").kind, Failure::Invalid, "{other:?} under {key:?}");
            }
        }
        assert!(store.get(0, key).is_none(), "{key:?}");
    }
}

pub fn exactly_one_of_those_who_make_an_entry_makes_it(store: &DirectoryStore) {
    for round in 0..20 {
        let key = secret(&format!("round {round}"));
        let results = together(store, |directory, thread| {
            apply(directory, &key, Expected::Absent, Some(stamped(&key, thread as u64)))
        });
        let winners: Vec<_> = (0..).zip(&results).filter(|(_, result)| result.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        for result in &results {
            assert!(!result.as_ref().is_err_and(|error| error.kind != Failure::Conflict), "{result:?}");
        }
        let kept = store.get(0, &key).expect("the winner's");
        assert!(kept.record == stamped(&key, winners[0].0), "what the winner wrote is what there is");
        assert_eq!(Ok(kept.revision), winners[0].1.clone());
    }
}

pub fn no_update_is_lost(store: &DirectoryStore) {
    const EACH: u64 = 20;
    let key = user_key("demo", "ann");
    store.put(&key, stamped(&key, 0));
    together(store, |directory, _| {
        for _ in 0..EACH {
            loop {
                let Entry { record, revision, .. } = get(directory, &key).expect("is never removed");
                let next = stamped(&key, stamp_of(&record) + 1);
                match apply(directory, &key, Expected::Revision(revision), Some(next)) {
                    Ok(_) => break,
                    // It was refused without an effect: by what the entry is now, or because others were faster each time.
                    Err(error) => {
                        assert!(matches!(error.kind, Failure::Conflict | Failure::NotApplied), "{error}");
                    }
                }
            }
        }
    });
    let kept = store.get(0, &key).expect("is never removed");
    assert_eq!(stamp_of(&kept.record), THREADS as u64 * EACH);
}

pub fn keys_that_look_alike_are_apart(store: &DirectoryStore) {
    let keys = look_alikes();
    store.put_all(&keys);
    for (stamp, key) in (1..).zip(&keys) {
        let entry = store.get(1, key);
        assert!(
            entry.is_some_and(|entry| entry.key == *key && entry.record == stamped(key, stamp)),
            "{key:?}"
        );
    }
    for (gone, key) in keys.iter().enumerate() {
        store.apply(0, key, Expected::Any, None).expect("a change");
        for (place, other) in keys.iter().enumerate() {
            assert_eq!(store.get(1, other).is_some(), place > gone, "{other:?} after {key:?} went");
        }
    }
}

pub fn any_text_can_be_a_key(store: &DirectoryStore) {
    let users: Vec<Key> = odd_texts().iter().map(|text| user_key("demo", text)).collect();
    store.put_all(&users);
    assert_eq!(store.all(&Listing::Users(app("demo"))).len(), users.len(), "each is its own");
    for (stamp, key) in (1..).zip(&users) {
        let Key::User(_, owner) = key else { unreachable!() };
        let owned = [
            device_key("demo", owner.as_str(), "a device's 'name'; --"),
            member("demo", "room:방", owner.as_str()),
            block("demo", owner.as_str(), "bob"),
        ];
        store.put_all(&owned);
        assert_eq!(store.all(&Listing::Devices(app("demo"), owner.clone())), [owned[0].clone()]);
        assert_eq!(store.all(&Listing::Memberships(app("demo"), owner.clone())), [owned[1].clone()]);
        assert_eq!(store.all(&Listing::Blocks(app("demo"), owner.clone())), [owned[2].clone()]);
        assert!(store.get(1, key).is_some_and(|entry| entry.record == stamped(key, stamp)), "{key:?}");
    }
}

pub fn every_listing_is_in_the_order_of_its_keys(store: &DirectoryStore) {
    for (listing, mut keys, strangers) in samples().into_iter().chain(samples_for_operators()) {
        // Neither as written nor backwards.
        let odd = keys.iter().skip(1).step_by(2).rev().cloned();
        let written: Vec<Key> = odd.chain(keys.iter().step_by(2).cloned()).chain(strangers.clone()).collect();
        for key in &written {
            store.put(key, owned_by_ann(key, &strangers));
        }
        assert_eq!(store.all(&listing), keys, "{listing:?}");
        for key in written {
            store.apply(1, &key, Expected::Any, None).expect("a change");
        }
        keys.clear();
        assert_eq!(store.all(&listing), keys, "{listing:?}");
    }
}

pub fn a_listing_goes_on_behind_any_key(store: &DirectoryStore) {
    for (listing, keys, strangers) in samples().into_iter().chain(samples_for_operators()) {
        for key in keys.iter().chain(&strangers) {
            store.put(key, owned_by_ann(key, &strangers));
        }
        for limit in (0..=keys.len() + 1).chain([usize::MAX]) {
            for from in 0..=keys.len() {
                let after = from.checked_sub(1).map(|last| &keys[last]);
                let expected: Vec<Key> = keys[from..].iter().take(limit).cloned().collect();
                assert_eq!(store.page(limit % 2, &listing, after, limit), expected, "{listing:?} {after:?}");
            }
        }
        // The last of a page may be gone when the next one is asked for.
        let gone = keys.len() / 2;
        store.apply(0, &keys[gone], Expected::Any, None).expect("a change");
        assert_eq!(store.page(1, &listing, Some(&keys[gone]), 100), keys[gone + 1..], "{listing:?}");
        for key in keys.iter().chain(&strangers) {
            store.apply(0, key, Expected::Any, None).expect("a change");
        }
    }
}

pub fn a_listing_follows_its_entries(store: &DirectoryStore) {
    let key = identity("demo", "https://id.example", "1");
    let of = |name: &str| store.all(&Listing::Identities(app("demo"), user(name)));
    store.put(&key, Record::Identity(user("ann")));
    assert_eq!((of("ann"), of("bob")), (vec![key.clone()], Vec::new()));
    store.put(&key, Record::Identity(user("bob")));
    assert_eq!((of("ann"), of("bob")), (Vec::new(), vec![key.clone()]));
    store.apply(1, &key, Expected::Any, None).expect("a change");
    assert_eq!(of("bob"), []);
}

pub fn removing_removes_nothing_else(store: &DirectoryStore) {
    let kinds = each_kind();
    for (gone, _) in &kinds {
        for (key, records) in &kinds {
            store.put(key, records[0].clone());
        }
        store.apply(0, gone, Expected::Any, None).expect("a change");
        for (key, _) in &kinds {
            assert_eq!(store.get(1, key).is_none(), key == gone, "{key:?} after {gone:?} went");
        }
    }
}

pub fn changes_are_told_in_order(store: &DirectoryStore) {
    let start = store.position();
    let kinds = each_kind();
    let keys: Vec<Key> = kinds.iter().map(|(key, _)| key.clone()).collect();
    for (handle, (key, records)) in kinds.iter().enumerate() {
        store.apply(handle % 2, key, Expected::Any, Some(records[0].clone())).expect("a change");
    }
    store.apply(1, &keys[2], Expected::Any, None).expect("a change");
    let written: Vec<Key> = keys.iter().chain([&keys[2]]).cloned().collect();
    for handle in [0, 1] {
        let Changes { keys, gap, next } = store.changes(handle, start, 100);
        assert_eq!((keys, gap), (written.clone(), false));
        assert_eq!(store.changes(handle, next, 100).keys, []);
        assert_eq!(store.position(), next);
    }
    assert_eq!(store.changes(0, 0, 100).keys, written, "0 is the beginning");
}

pub fn changes_go_on_where_one_was(store: &DirectoryStore) {
    let keys: Vec<Key> = (0..10).map(|n| user_key("demo", &format!("u{n}"))).collect();
    let start = store.position();
    store.put_all(&keys);
    for limit in 1..=keys.len() + 1 {
        let (mut told, mut next) = (Vec::new(), start);
        loop {
            let page = store.changes(limit % 2, next, limit);
            assert!(page.keys.len() <= limit && !page.gap);
            if page.keys.is_empty() {
                break;
            }
            told.extend(page.keys);
            next = page.next;
        }
        assert_eq!(told, keys, "{limit} at a time");
    }
    // Nothing at all may be asked for, and leads nowhere else.
    assert_eq!(store.changes(0, start, 0), Changes { keys: Vec::new(), next: start, gap: false });
}

pub fn the_last_10_000_changes_are_known(store: &DirectoryStore) {
    const KNOWN: usize = 10_000;
    const MORE: usize = 500;
    let key = |n: usize| block("demo", "ann", &format!("u{n}"));
    let start = store.position();
    let (sender, receiver) = mpsc::channel();
    let answered = |count| {
        for _ in 0..count {
            let result: Result<u64, PortError> = receiver.recv_timeout(PATIENCE).expect("`done` is called");
            result.expect("a change");
        }
    };
    let mut middle = 0;
    for n in 0..KNOWN + MORE {
        let sender = sender.clone();
        let change = Change { key: key(n), expected: Expected::Any, to: Some(stamped(&key(n), 1)) };
        // All at once, so that the store may make them durable together.
        let done = move |result: Result<u64, PortError>| sender.send(result).unwrap_or_default();
        store.handles[0].apply(change, Box::new(done));
        if n + 1 == MORE {
            answered(MORE);
            middle = store.position();
        }
    }
    answered(KNOWN);
    let Changes { keys, gap, .. } = store.changes(1, middle, usize::MAX);
    assert_eq!((keys.len(), gap), (KNOWN, false));
    let expected: HashSet<Key> = (MORE..KNOWN + MORE).map(key).collect();
    assert!(keys.into_iter().collect::<HashSet<_>>() == expected);
    let older = store.changes(1, start, usize::MAX);
    assert!(older.gap || older.keys.len() >= KNOWN + MORE, "what is not told is a gap");
}

pub fn a_position_from_elsewhere_is_a_gap(store: &DirectoryStore) {
    store.put_all(&[user_key("demo", "ann")]);
    let position = store.position();
    let changes = store.changes(0, position + 1_000, 10);
    assert_eq!(changes, Changes { keys: Vec::new(), next: position, gap: true });
}

pub fn a_follower_ends_with_what_the_store_has(store: &DirectoryStore) {
    const EACH: u64 = 40;
    let keys: Vec<Key> = (0..5).map(|n| user_key("demo", &format!("u{n}"))).collect();
    let written = AtomicBool::new(false);
    let [directory, other] = &store.handles;
    let mut next = store.position();
    let cached = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut cached: HashMap<Key, Option<u64>> = HashMap::new();
            loop {
                // Asked before: what was written by then must be told.
                let last_round = written.load(Ordering::SeqCst);
                let page = changes(other, next, 3);
                assert!(!page.gap && page.next >= next);
                next = page.next;
                if last_round && page.keys.is_empty() {
                    return cached;
                }
                for key in page.keys {
                    let stamp = get(other, &key).map(|entry| stamp_of(&entry.record));
                    cached.insert(key, stamp);
                }
            }
        });
        let write = |thread: u64| {
            for n in 0..EACH {
                let key = &keys[((thread + n) % 5) as usize];
                let record = (n % 7 != 6).then(|| stamped(key, thread * EACH + n));
                apply(directory, key, Expected::Any, record).expect("a change");
            }
        };
        let writers = [1, 2, 3].map(|thread| scope.spawn(move || write(thread)));
        let all_written = Until(&written);
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        drop(all_written);
        follower.join().expect("the follower")
    });
    let kept = |key: &Key| (key.clone(), store.get(0, key).map(|entry| stamp_of(&entry.record)));
    assert_eq!(cached, keys.iter().map(kept).collect());
}

pub fn what_was_answered_survives_a_crash(store: &DirectoryStore) {
    let kinds = each_kind();
    for (key, records) in &kinds {
        store.put(key, records[0].clone());
    }
    let (gone, _) = &kinds[1];
    store.apply(1, gone, Expected::Any, None).expect("a change");
    let position = store.position();
    let left = (store.after_a_crash)();
    for (key, _) in &kinds {
        let entry = get(&left, key);
        assert!(entry == store.get(0, key), "{key:?}");
        assert_eq!(entry.is_none(), key == gone, "{key:?}");
    }
    assert_eq!(changes(&left, u64::MAX, 1).next, position);
    let after = apply(&left, gone, Expected::Absent, Some(kinds[1].1[0].clone())).expect("goes on");
    assert!(kinds.iter().filter_map(|(key, _)| get(&store.handles[0], key)).all(|old| old.revision < after));
}

pub fn done_may_call_the_directory(store: &DirectoryStore) {
    let directory = Arc::clone(&store.handles[0]);
    ends(move || {
        let key = user_key("demo", "ann");
        let found = answer(|done| {
            let (again, same) = (Arc::clone(&directory), key.clone());
            let change = Change { key: key.clone(), expected: Expected::Absent, to: Some(stamped(&key, 1)) };
            let applied = move |_| {
                let (last, wanted) = (Arc::clone(&again), same);
                let paged = move |_| last.get(&wanted, done);
                again.page(&Listing::Users(app("demo")), None, 1, Box::new(paged));
            };
            directory.apply(change, Box::new(applied));
        });
        assert!(found.expect("an entry").is_some_and(|entry| entry.record == stamped(&key, 1)));
    });
}

/// Each listing with its keys in order, and keys that it must not have.
fn samples() -> Vec<(Listing, Vec<Key>, Vec<Key>)> {
    let names = ["A", "a", "a-b", "aa", "b", "방"];
    let demo = app("demo");
    let keys = |key: &dyn Fn(&str) -> Key| names.map(key).to_vec();
    let ann = || user("ann");
    let room = channel_of("demo", "room:a");
    vec![
        (
            Listing::Apps,
            ["A", "a", "a-b", "aa", "b"].map(|name| Key::App(app(name))).to_vec(),
            vec![user_key("demo", "ann"), secret("a")],
        ),
        (
            Listing::Users(demo.clone()),
            keys(&|name| user_key("demo", name)),
            vec![user_key("demo2", "ann"), device_key("demo", "ann", "d"), Key::App(demo.clone())],
        ),
        (
            Listing::Devices(demo.clone(), ann()),
            keys(&|name| device_key("demo", "ann", name)),
            vec![
                device_key("demo", "ann2", "d"),
                device_key("de", "ann", "d"),
                login_key("demo", "ann", "d"),
            ],
        ),
        (
            Listing::Logins(demo.clone(), ann()),
            ["A", "a", "aa", "b"].map(|name| login_key("demo", "ann", name)).to_vec(),
            vec![login_key("demo", "bob", "x"), device_key("demo", "ann", "x")],
        ),
        (
            Listing::Members(room),
            keys(&|name| member("demo", "room:a", name)),
            vec![member("demo", "room:b", "ann"), member("dem", "room:a", "ann")],
        ),
        (
            Listing::Memberships(demo.clone(), ann()),
            keys(&|name| member("demo", name, "ann")),
            vec![member("demo", "a", "bob"), member("demo2", "a", "ann"), block("demo", "a", "ann")],
        ),
        (
            Listing::Blocks(demo.clone(), ann()),
            keys(&|name| block("demo", "ann", name)),
            vec![block("demo", "bob", "ann"), block("demo2", "ann", "bob")],
        ),
        (
            Listing::ApiKeys(demo.clone()),
            ["A", "a", "aa", "b"].map(|id| api_key("demo", id)).to_vec(),
            vec![api_key("demo2", "a"), user_key("demo", "a"), Key::App(demo.clone())],
        ),
        (
            Listing::BlockedBy(demo.clone(), ann()),
            keys(&|name| block("demo", name, "ann")),
            vec![
                block("demo", "ann", "bob"),
                block("demo2", "bob", "ann"),
                block("demo", "bob", "anna"),
                member("demo", "a", "ann"),
            ],
        ),
        (
            Listing::Identities(demo, ann()),
            [("https://a", "1"), ("https://a", "2"), ("https://aa", "0"), ("https://b", "방")]
                .map(|(issuer, sub)| identity("demo", issuer, sub))
                .to_vec(),
            vec![identity("demo", "https://a", "3"), identity("demo2", "https://a", "1")],
        ),
    ]
}

/// The same of what is kept for operators.
fn samples_for_operators() -> Vec<(Listing, Vec<Key>, Vec<Key>)> {
    vec![
        (
            Listing::Versions(app("demo")),
            [u64::MAX, 100, 99, 9, 1, 0].map(|revision| version("demo", revision)).to_vec(),
            vec![version("demo2", 5), api_key("demo", "a"), audit("demo")],
        ),
        (
            Listing::Audit,
            ["0", "0a", "1", "a", "f"].map(audit).to_vec(),
            vec![version("demo", 1), secret("a"), Key::App(app("a"))],
        ),
        (
            Listing::AuditOf(app("a")),
            ["0", "0a", "1", "a", "f"].map(audit).to_vec(),
            vec![audit("00"), audit("g"), identity("a", "https://a", "1"), version("a", 1)],
        ),
    ]
}

fn listings() -> Vec<Listing> {
    samples().into_iter().chain(samples_for_operators()).map(|(listing, ..)| listing).collect()
}

/// A record for the key; of identities, the strangers of the same app are somebody else's.
fn owned_by_ann(key: &Key, strangers: &[Key]) -> Record {
    match key {
        Key::Identity(of, ..) if of.as_str() == "demo" && strangers.contains(key) => {
            Record::Identity(user("bob"))
        }
        Key::Identity(..) => Record::Identity(user("ann")),
        Key::Audit(_) if strangers.contains(key) => audit_record(None),
        _ => stamped(key, 1),
    }
}

fn stamp_of(record: &Record) -> u64 {
    match record {
        Record::User(user) => {
            let UserRecord { tokens_valid_from, .. } = **user;
            tokens_valid_from
        }
        _ => unreachable!("a user's"),
    }
}

fn get(directory: &Arc<dyn Directory>, key: &Key) -> Option<Entry> {
    answer(|done| directory.get(key, done)).expect("an answer")
}

fn apply(
    directory: &Arc<dyn Directory>,
    key: &Key,
    expected: Expected,
    to: Option<Record>,
) -> Result<u64, PortError> {
    answer(|done| directory.apply(Change { key: key.clone(), expected, to }, done))
}

fn changes(directory: &Arc<dyn Directory>, since: u64, limit: usize) -> Changes {
    answer(|done| directory.changes(since, limit, done)).expect("changes")
}

/// Runs `caller` on several threads at once, half of them on each handle.
fn together<T: Send>(
    store: &DirectoryStore,
    caller: impl Fn(&Arc<dyn Directory>, usize) -> T + Sync,
) -> Vec<T> {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        let spawn = |thread: usize| {
            let (caller, barrier, handle) = (&caller, &barrier, &store.handles[thread % 2]);
            scope.spawn(move || {
                barrier.wait();
                caller(handle, thread)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a caller")).collect()
    })
}
