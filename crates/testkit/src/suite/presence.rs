//! What every [`Presence`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use xpush_core::ports::Done;
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::presence::{Change, Delta, Member, Outcome, Presence, Roster};
use xpush_core::{ChannelKey, NodeId, User};

use crate::SeededEntropy;
use crate::sample::{channel, channel_of, enters, leaves, member, node, user};
use crate::suite::{answer, ends};

/// A new, empty store.
pub struct PresenceStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Presence>; 2],
    /// Lets so many ms pass, as the store counts leases.
    pub pass: Box<dyn Fn(u64)>,
}

/// Makes each property of a [`Presence`] a test; `$fixture` is a function that gives a [`PresenceStore`].
#[macro_export]
macro_rules! presence_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, presence:
            the_first_connection_and_the_last_one_are_transitions
            leaving_without_having_entered_changes_nothing
            what_a_node_entered_another_cannot_leave
            changes_of_one_call_are_applied_in_order
            one_call_may_change_many_channels
            channels_are_apart
            the_roster_is_in_the_order_of_first_entry
            the_roster_is_cut_at_the_limit
            the_latest_connection_gives_the_name
            exactly_one_caller_sees_each_transition
            any_interleaving_ends_with_every_count_right
            eviction_removes_what_the_node_entered_and_nothing_else
            eviction_tells_who_is_gone_by_it
            an_evicted_node_may_enter_again
            exactly_one_caller_sees_each_user_go_when_a_node_is_evicted
            what_is_restated_is_how_it_is
            restating_the_same_changes_nothing
            a_restatement_is_of_one_node_and_one_channel
            a_restatement_keeps_its_place_among_the_changes
            a_restated_user_keeps_its_place
            a_crowd_is_listed_restated_and_evicted
            a_renewed_node_keeps_its_entries
            a_node_that_was_evicted_is_told_so
            nobody_lapses_who_renews
            done_may_call_presence
        );
    };
}

/// Callers at a time: more than cores, so that they are interrupted anywhere.
const THREADS: usize = 8;

impl PresenceStore {
    fn apply(&self, handle: usize, of: &str, changes: Vec<Change>) -> Vec<Outcome> {
        apply(&self.handles[handle], &node(of), changes)
    }

    fn one(&self, handle: usize, of: &str, change: Change) -> Outcome {
        self.apply(handle, of, vec![change]).remove(0)
    }

    fn restate(&self, handle: usize, of: &str, channel: &ChannelKey, ids: &[&str]) -> Delta {
        let connections = ids.iter().map(|id| member(id)).collect();
        answer(|done| self.handles[handle].restate(&node(of), channel, connections, done)).expect("a delta")
    }

    fn renew(&self, handle: usize, of: &str) -> Lease {
        answer(|done| self.handles[handle].renew(&node(of), done)).expect("a renewal")
    }

    fn list(&self, handle: usize, channel: &ChannelKey, limit: usize) -> Roster {
        answer(|done| self.handles[handle].list(channel, limit, done)).expect("a roster")
    }

    /// All users of a channel, as both handles tell them.
    fn users(&self, channel: &ChannelKey) -> Vec<String> {
        let roster = self.list(0, channel, usize::MAX);
        assert_eq!(roster.users, roster.members.len() as u64);
        assert_eq!(roster, self.list(1, channel, usize::MAX));
        roster.members.iter().map(|member| member.user.to_string()).collect()
    }

    fn evict(&self, handle: usize, of: &str) -> BTreeMap<String, Delta> {
        by_channel(evict(&self.handles[handle], &node(of)))
    }
}

pub fn the_first_connection_and_the_last_one_are_transitions(store: &PresenceStore) {
    let channel = channel("chat:a");
    for (handle, of, change, transition, users, connections) in [
        (0, "n1", enters(&channel, "ann"), true, 1, 1),
        (0, "n1", enters(&channel, "ann"), false, 1, 2),
        (1, "n2", enters(&channel, "ann"), false, 1, 3),
        (1, "n2", enters(&channel, "bob"), true, 2, 4),
        (0, "n1", leaves(&channel, "ann"), false, 2, 3),
        (0, "n1", leaves(&channel, "ann"), false, 2, 2),
        (1, "n2", leaves(&channel, "ann"), true, 1, 1),
        (1, "n2", leaves(&channel, "bob"), true, 0, 0),
        (0, "n1", enters(&channel, "ann"), true, 1, 1),
    ] {
        let outcome = store.one(handle, of, change.clone());
        assert_eq!(outcome, Outcome { transition, users, connections }, "{of}: {change:?}");
    }
}

pub fn leaving_without_having_entered_changes_nothing(store: &PresenceStore) {
    let channel = channel("chat:a");
    let nobody = Outcome { transition: false, users: 0, connections: 0 };
    assert_eq!(store.one(0, "n1", leaves(&channel, "ann")), nobody);
    assert!(
        store.one(0, "n1", enters(&channel, "ann")).transition,
        "leaving too early takes no later entry away"
    );
    assert_eq!(
        store.one(0, "n1", leaves(&channel, "bob")),
        Outcome { transition: false, users: 1, connections: 1 }
    );
    assert!(store.one(0, "n1", leaves(&channel, "ann")).transition);
    assert_eq!(store.one(0, "n1", leaves(&channel, "ann")), nobody);
}

pub fn what_a_node_entered_another_cannot_leave(store: &PresenceStore) {
    let channel = channel("chat:a");
    store.one(0, "n1", enters(&channel, "ann"));
    assert_eq!(
        store.one(1, "n2", leaves(&channel, "ann")),
        Outcome { transition: false, users: 1, connections: 1 }
    );
    assert_eq!(store.users(&channel), ["ann"]);
    assert!(store.one(0, "n1", leaves(&channel, "ann")).transition);
}

pub fn changes_of_one_call_are_applied_in_order(store: &PresenceStore) {
    let channel = channel("chat:a");
    let changes = vec![
        leaves(&channel, "ann"),
        enters(&channel, "ann"),
        enters(&channel, "bob"),
        leaves(&channel, "ann"),
        leaves(&channel, "ann"),
        enters(&channel, "ann"),
        enters(&channel, "ann"),
    ];
    let outcomes = store.apply(0, "n1", changes);
    let told: Vec<_> =
        outcomes.iter().map(|outcome| (outcome.transition, outcome.users, outcome.connections)).collect();
    let expected =
        [(false, 0, 0), (true, 1, 1), (true, 2, 2), (true, 1, 1), (false, 1, 1), (true, 2, 2), (false, 2, 3)];
    assert_eq!(told, expected);
    assert_eq!(store.users(&channel), ["bob", "ann"], "who left and came back stands at the end");
    assert_eq!(store.apply(0, "n1", Vec::new()), []);
}

pub fn one_call_may_change_many_channels(store: &PresenceStore) {
    let channels: Vec<ChannelKey> = (0..300).map(|number| channel(&format!("chat:{number}"))).collect();
    let outcomes = store.apply(0, "n1", channels.iter().map(|channel| enters(channel, "ann")).collect());
    assert_eq!(outcomes, vec![Outcome { transition: true, users: 1, connections: 1 }; 300]);
    assert!(channels.iter().all(|channel| store.users(channel) == ["ann"]));
    let outcomes = store.apply(0, "n1", channels.iter().map(|channel| leaves(channel, "ann")).collect());
    assert_eq!(outcomes, vec![Outcome { transition: true, users: 0, connections: 0 }; 300]);
}

pub fn channels_are_apart(store: &PresenceStore) {
    let channels = [channel("chat:a"), channel("chat:b"), channel_of("other", "chat:a")];
    for (channel, id) in channels.iter().zip(["ann", "bob", "cid"]) {
        assert!(store.one(0, "n1", enters(channel, id)).transition);
    }
    for (channel, id) in channels.iter().zip(["ann", "bob", "cid"]) {
        assert_eq!(store.users(channel), [id]);
    }
    assert_eq!(store.users(&channel("chat:c")), Vec::<String>::new());
}

pub fn the_roster_is_in_the_order_of_first_entry(store: &PresenceStore) {
    let channel = channel("chat:a");
    for (handle, of, id) in
        [(0, "n1", "zoe"), (1, "n2", "ann"), (0, "n1", "bob"), (1, "n2", "zoe"), (0, "n1", "cid")]
    {
        store.one(handle, of, enters(&channel, id));
    }
    assert_eq!(store.users(&channel), ["zoe", "ann", "bob", "cid"]);
    // The connection that entered first goes; the user stays, where it was.
    store.one(0, "n1", leaves(&channel, "zoe"));
    assert_eq!(store.users(&channel), ["zoe", "ann", "bob", "cid"]);
    store.one(1, "n2", leaves(&channel, "zoe"));
    store.one(1, "n2", enters(&channel, "zoe"));
    assert_eq!(store.users(&channel), ["ann", "bob", "cid", "zoe"]);
}

pub fn the_roster_is_cut_at_the_limit(store: &PresenceStore) {
    let channel = channel("chat:a");
    store.apply(0, "n1", (0..20).map(|number| enters(&channel, &format!("u{number}"))).collect());
    for limit in [0, 1, 19, 20, 21, usize::MAX] {
        let roster = store.list(1, &channel, limit);
        assert_eq!(roster.users, 20);
        let expected: Vec<Member> = (0..20).take(limit).map(|number| member(&format!("u{number}"))).collect();
        assert_eq!(roster.members, expected, "{limit} at most");
    }
}

pub fn the_latest_connection_gives_the_name(store: &PresenceStore) {
    let channel = channel("chat:a");
    let named = |name: Option<&str>| Change {
        channel: channel.clone(),
        member: Member { user: user("ann"), name: name.map(Arc::from) },
        enters: true,
    };
    let name = || store.list(0, &channel, 10).members.remove(0).name;
    store.one(0, "n1", named(Some("Ann")));
    assert_eq!(name().as_deref(), Some("Ann"));
    store.one(1, "n2", named(Some("Änne")));
    assert_eq!(name().as_deref(), Some("Änne"));
    // A connection that leaves gives no name.
    store.one(0, "n1", leaves(&channel, "ann"));
    assert_eq!(name().as_deref(), Some("Änne"));
    store.one(0, "n1", named(None));
    assert_eq!(name(), None);
}

pub fn exactly_one_caller_sees_each_transition(store: &PresenceStore) {
    let channel = channel("chat:a");
    // All enter together and all leave together, each for its own node, many times.
    let enter = enters(&channel, "ann");
    let leave = leaves(&channel, "ann");
    let rounds = together(store, |presence, own, barrier| {
        let round = |_| {
            barrier.wait();
            let came = apply(presence, own, vec![enter.clone()]).remove(0);
            barrier.wait();
            let left = apply(presence, own, vec![leave.clone()]).remove(0);
            (came, left)
        };
        (0..100).map(round).collect::<Vec<_>>()
    });
    for round in 0..100 {
        let (came, left): (Vec<Outcome>, Vec<Outcome>) = rounds.iter().map(|thread| thread[round]).unzip();
        // Each outcome is decided with its change: the counts are 1, 2, … in some order of the callers.
        let mut connections: Vec<u64> = came.iter().map(|outcome| outcome.connections).collect();
        connections.sort_unstable();
        assert!(connections.into_iter().eq(1..=THREADS as u64));
        assert!(
            came.iter().all(|outcome| outcome.transition == (outcome.connections == 1) && outcome.users == 1)
        );
        let mut connections: Vec<u64> = left.iter().map(|outcome| outcome.connections).collect();
        connections.sort_unstable();
        assert!(connections.into_iter().eq(0..THREADS as u64));
        assert!(left.iter().all(|outcome| outcome.transition == (outcome.connections == 0)));
    }
}

pub fn any_interleaving_ends_with_every_count_right(store: &PresenceStore) {
    let channels = [channel("chat:a"), channel("chat:b")];
    let users = ["ann", "bob", "cid"];
    // By channel and user: comings minus goings, as transitions told them and as they must be.
    type Balance = BTreeMap<(String, String), i64>;
    let seeds = |own: &NodeId| own.as_str().bytes().map(u64::from).sum();
    let told = together(store, |presence, own, barrier| {
        let mut entropy = SeededEntropy::new(seeds(own));
        let (mut told, mut open) = (Balance::new(), Vec::new());
        barrier.wait();
        for _ in 0..300 {
            let change = if open.len() > 3 || (!open.is_empty() && entropy.chance(0.5)) {
                let Change { channel, member, .. } = open.remove(0);
                Change { channel, member, enters: false }
            } else {
                let channel = &channels[usize::from(entropy.chance(0.5))];
                let id = users[usize::from(entropy.chance(0.5)) + usize::from(entropy.chance(0.5))];
                open.push(enters(channel, id));
                enters(channel, id)
            };
            let key = (change.channel.to_string(), change.member.user.to_string());
            let sign = if change.enters { 1 } else { -1 };
            if apply(presence, own, vec![change]).remove(0).transition {
                *told.entry(key).or_default() += sign;
            }
        }
        (told, open)
    });
    let (mut balance, mut connections) = (Balance::new(), 0);
    for (told, open) in &told {
        told.iter().for_each(|(key, sum)| *balance.entry(key.clone()).or_default() += sum);
        connections += open.len() as u64;
    }
    for channel in &channels {
        for id in users {
            let still_open = told.iter().flat_map(|(_, open)| open);
            let present = still_open
                .into_iter()
                .any(|change| change.channel == *channel && change.member.user.as_str() == id);
            assert_eq!(store.users(channel).iter().any(|user| user == id), present, "{id} in {channel}");
            let told = balance.get(&(channel.to_string(), id.to_owned())).copied().unwrap_or(0);
            assert_eq!(told, i64::from(present), "{id} in {channel}: comings minus goings");
        }
    }
    // One that enters and leaves again tells how many the others are.
    let counted = channels.iter().map(|channel| {
        store.one(0, "counter", enters(channel, "counter"));
        store.one(0, "counter", leaves(channel, "counter")).connections
    });
    assert_eq!(counted.sum::<u64>(), connections);
}

pub fn eviction_removes_what_the_node_entered_and_nothing_else(store: &PresenceStore) {
    let (a, b) = (channel("chat:a"), channel("chat:b"));
    for (of, channel, id) in
        [("n1", &a, "ann"), ("n1", &a, "ann"), ("n2", &a, "ann"), ("n1", &a, "bob"), ("n2", &b, "bob")]
    {
        store.one(0, of, enters(channel, id));
    }
    store.evict(1, "n1");
    assert_eq!(store.users(&a), ["ann"]);
    assert_eq!(store.users(&b), ["bob"]);
    // One connection of ann is left, n2's.
    assert_eq!(store.one(1, "n2", leaves(&a, "ann")), Outcome { transition: true, users: 0, connections: 0 });
    assert_eq!(
        store.one(0, "n1", leaves(&a, "bob")),
        Outcome { transition: false, users: 0, connections: 0 }
    );
}

pub fn eviction_tells_who_is_gone_by_it(store: &PresenceStore) {
    let [a, b, c] = ["chat:a", "chat:b", "chat:c"].map(channel);
    for (of, channel, id) in [
        ("n1", &a, "zoe"),
        ("n1", &a, "ann"),
        ("n2", &a, "bob"),
        ("n1", &a, "bob"),
        ("n1", &b, "ann"),
        ("n2", &c, "ann"),
    ] {
        store.one(0, of, enters(channel, id));
    }
    store.one(0, "n1", enters(&c, "ann"));
    // Of chat:c nobody is gone: it is not named.
    let gone = store.evict(1, "n1");
    let of = |users, left: &[&str]| Delta {
        users,
        joined: Vec::new(),
        left: left.iter().map(|id| user(id)).collect(),
    };
    let expected = [(a.to_string(), of(1, &["ann", "zoe"])), (b.to_string(), of(0, &["ann"]))];
    assert_eq!(gone, expected.into());
    assert_eq!(store.evict(0, "n1"), BTreeMap::new(), "told once");
    assert_eq!(store.evict(0, "stranger"), BTreeMap::new());
}

pub fn an_evicted_node_may_enter_again(store: &PresenceStore) {
    let channel = channel("chat:a");
    store.one(0, "n1", enters(&channel, "ann"));
    store.evict(1, "n1");
    assert_eq!(
        store.one(0, "n1", enters(&channel, "ann")),
        Outcome { transition: true, users: 1, connections: 1 }
    );
    assert_eq!(store.users(&channel), ["ann"]);
}

pub fn exactly_one_caller_sees_each_user_go_when_a_node_is_evicted(store: &PresenceStore) {
    let channel = channel("chat:a");
    let users: Vec<String> = (0..20).map(|number| format!("u{number}")).collect();
    for round in 0..20 {
        let dying = format!("dying-{round}");
        let entered = store.apply(0, &dying, users.iter().map(|id| enters(&channel, id)).collect());
        let mut present = entered.iter().filter(|outcome| outcome.transition).count();
        let (mut came, mut left) = (0, 0);
        thread::scope(|scope| {
            // Meanwhile the same users come and go on another node.
            let (other, users, channel) = (&store.handles[1], &users, &channel);
            let passing = scope.spawn(move || {
                let pass =
                    |id: &String| apply(other, &node("n2"), vec![enters(channel, id), leaves(channel, id)]);
                users.iter().flat_map(pass).collect::<Vec<Outcome>>()
            });
            left += store.evict(0, &dying).values().map(|delta| delta.left.len()).sum::<usize>();
            let outcomes = passing.join().expect("the other node");
            came += outcomes.iter().step_by(2).filter(|outcome| outcome.transition).count();
            left += outcomes.iter().skip(1).step_by(2).filter(|outcome| outcome.transition).count();
        });
        present += came;
        assert_eq!(present, left, "round {round}: every user who came went once");
        assert_eq!(store.users(&channel), Vec::<String>::new());
    }
}

pub fn what_is_restated_is_how_it_is(store: &PresenceStore) {
    let channel = channel("chat:a");
    store.apply(0, "n1", ["ann", "ann", "bob", "cid"].map(|id| enters(&channel, id)).to_vec());
    let delta = store.restate(0, "n1", &channel, &["dee", "bob", "ann", "bob", "dee"]);
    assert_eq!(delta, Delta { users: 3, joined: vec![member("dee")], left: vec![user("cid")] });
    assert_eq!(store.users(&channel), ["ann", "bob", "dee"]);
    // Every connection counts: one of ann, two of bob and of dee.
    for (id, transition, users, connections) in [
        ("ann", true, 2, 4),
        ("bob", false, 2, 3),
        ("bob", true, 1, 2),
        ("dee", false, 1, 1),
        ("dee", true, 0, 0),
    ] {
        let outcome = store.one(0, "n1", leaves(&channel, id));
        assert_eq!(outcome, Outcome { transition, users, connections }, "{id}");
    }
    let name = |name: &str| Member { user: user("ann"), name: Some(Arc::from(name)) };
    let named = vec![name("Ann"), name("Anna")];
    let delta = answer(|done| store.handles[1].restate(&node("n1"), &channel, named, done)).expect("a delta");
    assert_eq!((delta.users, delta.joined.len()), (1, 1));
    assert_eq!(store.list(0, &channel, 10).members, [name("Anna")], "the latest gives the name");
}

pub fn restating_the_same_changes_nothing(store: &PresenceStore) {
    let channel = channel("chat:a");
    assert_eq!(store.restate(0, "n1", &channel, &[]), Delta::default());
    store.apply(0, "n1", ["ann", "bob", "ann"].map(|id| enters(&channel, id)).to_vec());
    for _ in 0..3 {
        let delta = store.restate(0, "n1", &channel, &["bob", "ann", "ann"]);
        assert_eq!(delta, Delta { users: 2, ..Delta::default() });
    }
    assert_eq!(
        store.one(0, "n1", leaves(&channel, "bob")),
        Outcome { transition: true, users: 1, connections: 2 }
    );
    let delta = store.restate(0, "n1", &channel, &[]);
    assert_eq!(delta, Delta { users: 0, joined: Vec::new(), left: vec![user("ann")] });
    assert_eq!(store.evict(1, "n1"), BTreeMap::new());
}

pub fn a_restatement_is_of_one_node_and_one_channel(store: &PresenceStore) {
    let [a, b] = ["chat:a", "chat:b"].map(channel);
    for (of, channel) in [("n1", &a), ("n2", &a), ("n1", &b)] {
        store.one(0, of, enters(channel, "ann"));
    }
    let delta = store.restate(0, "n1", &a, &["bob"]);
    assert_eq!(delta, Delta { users: 2, joined: vec![member("bob")], left: Vec::new() });
    assert_eq!(store.users(&a), ["ann", "bob"]);
    assert_eq!(store.users(&b), ["ann"]);
    assert_eq!(store.one(1, "n2", leaves(&a, "ann")), Outcome { transition: true, users: 1, connections: 1 });
}

pub fn a_restatement_keeps_its_place_among_the_changes(store: &PresenceStore) {
    let presence = &store.handles[0];
    let of = node("n1");
    for round in 0..50 {
        let channel = channel(&format!("chat:{round}"));
        presence.apply(&of, vec![enters(&channel, "ann"), enters(&channel, "bob")], Box::new(|_| ()));
        presence.restate(&of, &channel, vec![member("cid")], Box::new(|_| ()));
        presence.apply(&of, vec![enters(&channel, "dee"), leaves(&channel, "cid")], Box::new(|_| ()));
        let last = store.one(0, "n1", enters(&channel, "eve"));
        assert_eq!(last, Outcome { transition: true, users: 2, connections: 2 });
        assert_eq!(store.users(&channel), ["dee", "eve"]);
    }
}

pub fn a_restated_user_keeps_its_place(store: &PresenceStore) {
    let channel = channel("chat:a");
    store.apply(0, "n1", ["zoe", "ann", "bob"].map(|id| enters(&channel, id)).to_vec());
    store.restate(0, "n1", &channel, &["new", "bob", "zoe"]);
    assert_eq!(store.users(&channel), ["zoe", "bob", "new"]);
}

pub fn a_crowd_is_listed_restated_and_evicted(store: &PresenceStore) {
    const CROWD: usize = 3_000;
    let channel = channel("chat:crowd");
    let ids: Vec<String> = (0..CROWD).map(|number| format!("u{number}")).collect();
    let outcomes = store.apply(0, "n1", ids.iter().map(|id| enters(&channel, id)).collect());
    assert!(outcomes.iter().map(|outcome| outcome.users).eq(1..=CROWD as u64));
    assert_eq!(store.users(&channel), ids);
    let second: Vec<&str> = ids.iter().skip(1).step_by(2).map(String::as_str).collect();
    let delta = store.restate(0, "n1", &channel, &second);
    assert_eq!((delta.users, delta.joined.len(), delta.left.len()), (CROWD as u64 / 2, 0, CROWD / 2));
    assert_eq!(store.users(&channel), second);
    let gone = store.evict(1, "n1");
    assert_eq!(gone[&channel.to_string()].left.len(), CROWD / 2);
    assert_eq!(store.users(&channel), Vec::<String>::new());
}

pub fn a_renewed_node_keeps_its_entries(store: &PresenceStore) {
    let channel = channel("chat:a");
    assert_eq!(store.renew(0, "n1"), Lease::Anew, "the first time");
    store.one(0, "n1", enters(&channel, "ann"));
    assert_eq!(store.renew(0, "n1"), Lease::Kept);
    store.renew(1, "stranger");
    (store.pass)(LEASE_MS - 1);
    assert_eq!(store.renew(0, "n1"), Lease::Kept);
    (store.pass)(LEASE_MS - 1);
    assert_eq!(store.users(&channel), ["ann"]);
}

pub fn a_node_that_was_evicted_is_told_so(store: &PresenceStore) {
    let channel = channel("chat:a");
    for _ in 0..2 {
        assert_eq!(store.renew(0, "n1"), Lease::Anew);
        store.one(0, "n1", enters(&channel, "ann"));
        store.evict(1, "n1");
        // It goes on before it knows.
        store.one(0, "n1", enters(&channel, "bob"));
        assert_eq!(store.renew(0, "n1"), Lease::Anew);
        store.restate(0, "n1", &channel, &["ann", "bob"]);
        assert_eq!(store.renew(0, "n1"), Lease::Kept);
        assert_eq!(store.users(&channel).len(), 2);
        store.evict(1, "n1");
    }
}

pub fn nobody_lapses_who_renews(store: &PresenceStore) {
    store.renew(0, "n1");
    store.one(0, "n1", enters(&channel("chat:a"), "ann"));
    store.one(0, "n2", enters(&channel("chat:a"), "ann"));
    assert_eq!(answer(|done| store.handles[1].lapsed(done)).expect("nodes"), []);
    store.evict(1, "n1");
    assert_eq!(answer(|done| store.handles[1].lapsed(done)).expect("nodes"), []);
}

pub fn done_may_call_presence(store: &PresenceStore) {
    let presence = Arc::clone(&store.handles[0]);
    ends(move || {
        let channel = channel("chat:a");
        let gone = answer(|done: Done<Vec<(ChannelKey, Delta)>>| {
            let (again, key) = (Arc::clone(&presence), channel.clone());
            let applied = move |_| {
                let last = Arc::clone(&again);
                again.list(&key, 10, Box::new(move |_| last.evict(&node("n1"), done)));
            };
            presence.apply(&node("n1"), vec![enters(&channel, "ann")], Box::new(applied));
        });
        assert_eq!(gone.expect("an eviction").len(), 1);
    });
}

fn apply(presence: &Arc<dyn Presence>, of: &NodeId, changes: Vec<Change>) -> Vec<Outcome> {
    let count = changes.len();
    let outcomes = answer(|done| presence.apply(of, changes, done)).expect("outcomes");
    assert_eq!(outcomes.len(), count, "one outcome a change");
    outcomes
}

fn evict(presence: &Arc<dyn Presence>, of: &NodeId) -> Vec<(ChannelKey, Delta)> {
    answer(|done| presence.evict(of, done)).expect("an eviction")
}

/// The order of channels and of users in an eviction is nobody's promise.
fn by_channel(gone: Vec<(ChannelKey, Delta)>) -> BTreeMap<String, Delta> {
    let count = gone.len();
    let sorted = |(channel, mut delta): (ChannelKey, Delta)| {
        delta.left.sort_unstable_by_key(User::to_string);
        (channel.to_string(), delta)
    };
    let by_channel: BTreeMap<String, Delta> = gone.into_iter().map(sorted).collect();
    assert_eq!(by_channel.len(), count, "each channel once");
    by_channel
}

/// Runs `caller` on several threads, each a node of its own, half of them on each handle.
fn together<T: Send>(
    store: &PresenceStore,
    caller: impl Fn(&Arc<dyn Presence>, &NodeId, &Barrier) -> T + Sync,
) -> Vec<T> {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        let spawn = |thread: usize| {
            let (caller, barrier, handle) = (&caller, &barrier, &store.handles[thread % 2]);
            scope.spawn(move || caller(handle, &node(&format!("n{thread}")), barrier))
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a caller")).collect()
    })
}
