//! What every [`Online`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use xpush_core::Device;
use xpush_core::ports::lease::Lease;
use xpush_core::ports::online::{Movement, Online, State, Status, Transition};

use crate::SeededEntropy;
use crate::sample::{app, node, user};
use crate::suite::{answer, ends};

/// A new, empty store.
pub struct OnlineStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Online>; 2],
    /// Lets so many ms pass, as the store counts them.
    pub pass: Box<dyn Fn(u64)>,
    /// For so many ms a user whose last connection went is as it was.
    pub grace_ms: u64,
}

/// Makes each property of an [`Online`] a test; `$fixture` is a function that gives an [`OnlineStore`].
#[macro_export]
macro_rules! online_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, online:
            nobody_is_there_at_first
            the_first_connection_is_a_transition_and_the_others_are_none
            a_user_is_as_present_as_its_most_present_connection
            who_goes_is_offline_after_the_grace_time_and_not_before
            who_is_back_in_time_was_never_gone
            who_is_back_as_somebody_less_present_is_that
            the_grace_time_begins_anew_with_each_departure
            what_was_never_counted_cannot_go
            movements_of_one_call_are_applied_in_order
            apps_are_apart
            devices_are_listed_once_each
            a_user_that_was_there_was_last_seen_when_it_went
            statuses_come_in_the_order_asked_for
            exactly_one_caller_sees_each_arrival
            exactly_one_caller_sees_each_departure
            an_evicted_nodes_users_have_the_grace_time
            eviction_leaves_what_other_nodes_entered
            what_is_restated_is_how_it_is
            restating_the_same_changes_nothing
            a_node_renews_until_it_is_evicted
            any_interleaving_ends_with_every_state_right
            done_may_call_online
        );
    };
}

const THREADS: usize = 8;

impl OnlineStore {
    fn apply(&self, handle: usize, movements: Vec<Movement>) -> Vec<Transition> {
        apply(&self.handles[handle], handle, movements)
    }

    fn comes(&self, handle: usize, name: &str, state: State) -> Vec<State> {
        states(self.apply(handle, vec![comes(name, None, state)]))
    }

    fn goes(&self, handle: usize, name: &str, state: State) -> Vec<State> {
        states(self.apply(handle, vec![goes(name, None, state)]))
    }

    fn restate(&self, handle: usize, arrivals: Vec<Movement>) -> Vec<(String, State)> {
        let told = answer(|done| self.handles[handle].restate(&node(&format!("n{handle}")), arrivals, done));
        let told = told.expect("transitions").into_iter();
        let mut told: Vec<_> = told.map(|one| (one.user.to_string(), one.state)).collect();
        told.sort_unstable();
        told
    }

    fn expire(&self, handle: usize) -> Vec<Transition> {
        answer(|done| self.handles[handle].expire(done)).expect("transitions")
    }

    /// Those of an app who are offline now, by both handles.
    fn expired(&self) -> Vec<String> {
        let both = [self.expire(0), self.expire(1)].concat();
        assert!(both.iter().all(|transition| transition.state == State::Offline));
        both.iter().map(|transition| transition.user.to_string()).collect()
    }

    fn status(&self, name: &str) -> Status {
        let ask = |handle: usize| {
            answer(|done| self.handles[handle].status(&app("demo"), vec![user(name)], done))
                .expect("a status")
                .remove(0)
        };
        let status = ask(0);
        assert_eq!(status, ask(1), "both handles say the same");
        status
    }

    fn state(&self, name: &str) -> State {
        self.status(name).state
    }
}

pub fn nobody_is_there_at_first(store: &OnlineStore) {
    let Status { state, last_seen, devices, .. } = store.status("ann");
    assert_eq!((state, last_seen, devices.len()), (State::Offline, None, 0));
    (store.pass)(store.grace_ms);
    assert!(store.expired().is_empty());
}

pub fn the_first_connection_is_a_transition_and_the_others_are_none(store: &OnlineStore) {
    assert_eq!(store.comes(0, "ann", State::Online), [State::Online]);
    assert_eq!(store.comes(0, "ann", State::Online), []);
    assert_eq!(store.comes(1, "ann", State::Online), []);
    assert_eq!(store.goes(0, "ann", State::Online), []);
    assert_eq!(store.goes(0, "ann", State::Online), []);
    (store.pass)(store.grace_ms);
    assert!(store.expired().is_empty(), "one is left on the other node");
    assert_eq!(store.state("ann"), State::Online);
}

pub fn a_user_is_as_present_as_its_most_present_connection(store: &OnlineStore) {
    assert_eq!(store.comes(0, "ann", State::Away), [State::Away]);
    assert_eq!(store.comes(1, "ann", State::Online), [State::Online]);
    assert_eq!(store.state("ann"), State::Online);
    let falls_asleep = Movement { to: Some(State::Away), ..goes("ann", None, State::Online) };
    assert_eq!(states(store.apply(1, vec![falls_asleep])), [State::Away]);
    assert_eq!(store.state("ann"), State::Away);
}

pub fn who_goes_is_offline_after_the_grace_time_and_not_before(store: &OnlineStore) {
    store.comes(0, "ann", State::Online);
    assert_eq!(store.goes(0, "ann", State::Online), []);
    (store.pass)(store.grace_ms - 1);
    assert!(store.expired().is_empty());
    assert_eq!(store.state("ann"), State::Online);
    (store.pass)(1);
    assert_eq!(store.expired(), ["ann"]);
    assert_eq!(store.state("ann"), State::Offline);
    assert!(store.expired().is_empty(), "once");
    assert_eq!(store.comes(0, "ann", State::Online), [State::Online]);
}

pub fn who_is_back_in_time_was_never_gone(store: &OnlineStore) {
    store.comes(0, "ann", State::Online);
    store.goes(0, "ann", State::Online);
    (store.pass)(store.grace_ms - 1);
    assert_eq!(store.comes(1, "ann", State::Online), []);
    (store.pass)(store.grace_ms * 2);
    assert!(store.expired().is_empty());
    assert_eq!(store.state("ann"), State::Online);
}

pub fn who_is_back_as_somebody_less_present_is_that(store: &OnlineStore) {
    store.comes(0, "ann", State::Online);
    store.goes(0, "ann", State::Online);
    assert_eq!(store.comes(0, "ann", State::Away), [State::Away]);
}

pub fn the_grace_time_begins_anew_with_each_departure(store: &OnlineStore) {
    store.comes(0, "ann", State::Online);
    store.goes(0, "ann", State::Online);
    (store.pass)(store.grace_ms - 1);
    store.comes(0, "ann", State::Online);
    store.goes(0, "ann", State::Online);
    (store.pass)(store.grace_ms - 1);
    assert!(store.expired().is_empty());
    (store.pass)(1);
    assert_eq!(store.expired(), ["ann"]);
}

pub fn what_was_never_counted_cannot_go(store: &OnlineStore) {
    assert_eq!(store.goes(0, "ann", State::Online), []);
    (store.pass)(store.grace_ms);
    assert!(store.expired().is_empty());
    store.comes(0, "bob", State::Online);
    // Another device, another state, another node.
    assert!(store.apply(0, vec![goes("bob", Some("phone"), State::Online)]).is_empty());
    assert_eq!(store.goes(0, "bob", State::Away), []);
    assert_eq!(store.goes(1, "bob", State::Online), []);
    (store.pass)(store.grace_ms);
    assert!(store.expired().is_empty());
    assert_eq!(store.state("bob"), State::Online);
}

pub fn movements_of_one_call_are_applied_in_order(store: &OnlineStore) {
    let movements = vec![
        comes("ann", None, State::Away),
        comes("bob", None, State::Online),
        Movement { to: Some(State::Online), ..goes("ann", None, State::Away) },
    ];
    let told: Vec<_> =
        store.apply(0, movements).iter().map(|one| (one.user.to_string(), one.state)).collect();
    let told: Vec<_> = told.iter().map(|(name, state)| (name.as_str(), *state)).collect();
    assert_eq!(told, [("ann", State::Away), ("bob", State::Online), ("ann", State::Online)]);
}

pub fn apps_are_apart(store: &OnlineStore) {
    let elsewhere = Movement { app: app("other"), ..comes("ann", None, State::Online) };
    let told = store.apply(0, vec![elsewhere]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].app, app("other"));
    assert_eq!(store.state("ann"), State::Offline);
    assert_eq!(store.comes(0, "ann", State::Online), [State::Online]);
}

pub fn devices_are_listed_once_each(store: &OnlineStore) {
    for (handle, device) in [(0, Some("web")), (1, Some("web")), (1, Some("phone")), (0, None)] {
        store.apply(handle, vec![comes("ann", device, State::Online)]);
    }
    let devices = || {
        let status = store.status("ann");
        status.devices.iter().map(|(device, state)| format!("{device} {state:?}")).collect::<Vec<_>>()
    };
    assert_eq!(devices(), ["phone Online", "web Online"]);
    store.apply(1, vec![goes("ann", Some("web"), State::Online)]);
    store.apply(1, vec![goes("ann", Some("phone"), State::Online)]);
    assert_eq!(devices(), ["web Online"]);
    store.apply(0, vec![Movement { to: Some(State::Away), ..goes("ann", Some("web"), State::Online) }]);
    assert_eq!(devices(), ["web Away"], "though the user is online elsewhere");
    store.apply(1, vec![comes("ann", Some("web"), State::Online)]);
    assert_eq!(devices(), ["web Online"], "the best of its connections");
}

pub fn a_user_that_was_there_was_last_seen_when_it_went(store: &OnlineStore) {
    let came = store.apply(0, vec![comes("ann", None, State::Online)])[0].at;
    (store.pass)(60_000);
    assert_eq!(store.status("ann").last_seen, Some(came + 60_000), "now, while it is there");
    store.goes(0, "ann", State::Online);
    (store.pass)(store.grace_ms * 3);
    let gone = store.expire(1);
    assert_eq!(gone[0].at, came + 60_000, "not when the grace time was over");
    assert_eq!(store.status("ann").last_seen, Some(came + 60_000));
}

pub fn statuses_come_in_the_order_asked_for(store: &OnlineStore) {
    store.comes(0, "bob", State::Away);
    let asked: Vec<_> = ["eve", "bob", "ann", "bob"].map(user).to_vec();
    let statuses =
        answer(|done| store.handles[1].status(&app("demo"), asked.clone(), done)).expect("statuses");
    let users: Vec<_> = statuses.iter().map(|status| status.user.clone()).collect();
    assert_eq!(users, asked);
    assert_eq!(statuses.iter().filter(|status| status.state == State::Away).count(), 2);
    assert!(answer(|done| store.handles[0].status(&app("demo"), Vec::new(), done)).expect("none").is_empty());
}

pub fn exactly_one_caller_sees_each_arrival(store: &OnlineStore) {
    let seen = together(store, |online, handle, _| {
        (0..50)
            .flat_map(|name| apply(online, handle, vec![comes(&name.to_string(), None, State::Online)]))
            .count()
    });
    assert_eq!(seen.iter().sum::<usize>(), 50);
}

pub fn exactly_one_caller_sees_each_departure(store: &OnlineStore) {
    for name in 0..50 {
        store.comes(0, &name.to_string(), State::Online);
        store.goes(0, &name.to_string(), State::Online);
    }
    (store.pass)(store.grace_ms);
    let seen = together(store, |online, _, _| answer(|done| online.expire(done)).expect("transitions").len());
    assert_eq!(seen.iter().sum::<usize>(), 50);
}

pub fn an_evicted_nodes_users_have_the_grace_time(store: &OnlineStore) {
    store.comes(1, "ann", State::Online);
    store.comes(1, "bob", State::Online);
    answer(|done| store.handles[0].evict(&node("n1"), done)).expect("evicted");
    assert_eq!(store.state("ann"), State::Online);
    assert!(store.expired().is_empty());
    assert_eq!(store.comes(0, "ann", State::Online), [], "back on another node");
    (store.pass)(store.grace_ms);
    assert_eq!(store.expired(), ["bob"]);
}

pub fn eviction_leaves_what_other_nodes_entered(store: &OnlineStore) {
    store.comes(0, "ann", State::Online);
    store.comes(1, "ann", State::Online);
    answer(|done| store.handles[0].evict(&node("n1"), done)).expect("evicted");
    answer(|done| store.handles[0].evict(&node("never"), done)).expect("evicted");
    (store.pass)(store.grace_ms);
    assert!(store.expired().is_empty());
    assert_eq!(store.goes(1, "ann", State::Online), [], "it is not counted any more");
    assert_eq!(store.state("ann"), State::Online);
}

pub fn what_is_restated_is_how_it_is(store: &OnlineStore) {
    for (name, state) in [("ann", State::Online), ("bob", State::Online), ("cid", State::Away)] {
        store.comes(0, name, state);
        store.comes(0, name, state);
    }
    store.comes(1, "bob", State::Away);
    let told = store.restate(
        0,
        vec![
            comes("ann", Some("web"), State::Away),
            comes("cid", None, State::Away),
            comes("dee", None, State::Online),
        ],
    );
    let expected = [("ann", State::Away), ("bob", State::Away), ("dee", State::Online)];
    assert_eq!(told, expected.map(|(name, state)| (name.to_owned(), state)));
    assert_eq!(store.status("ann").devices.len(), 1);
    // Of cid one connection is left.
    assert_eq!(store.goes(0, "cid", State::Away), []);
    assert_eq!(store.restate(0, vec![comes("dee", None, State::Online)]), []);
    (store.pass)(store.grace_ms);
    let mut expired = store.expired();
    expired.sort_unstable();
    assert_eq!(expired, ["ann", "cid"]);
    assert_eq!(store.state("bob"), State::Away);
}

pub fn restating_the_same_changes_nothing(store: &OnlineStore) {
    let all = || {
        let crowd = (0..700).map(|name| comes(&name.to_string(), Some("web"), State::Online));
        crowd.chain([comes("0", None, State::Away), comes("0", None, State::Away)]).collect::<Vec<_>>()
    };
    assert_eq!(store.restate(0, all()).len(), 700);
    assert_eq!(store.restate(0, all()), []);
    (store.pass)(store.grace_ms);
    assert!(store.expired().is_empty());
    assert_eq!(store.restate(0, Vec::new()), []);
    (store.pass)(store.grace_ms);
    assert_eq!(store.expired().len(), 700);
}

pub fn a_node_renews_until_it_is_evicted(store: &OnlineStore) {
    let renew =
        |handle: usize| answer(|done| store.handles[handle].renew(&node("n0"), done)).expect("a renewal");
    assert_eq!(renew(0), Lease::Anew, "the first time");
    store.comes(0, "ann", State::Online);
    assert_eq!(renew(0), Lease::Kept);
    assert_eq!(answer(|done| store.handles[1].lapsed(done)).expect("nodes"), []);
    answer(|done| store.handles[1].evict(&node("n0"), done)).expect("evicted");
    assert_eq!(renew(0), Lease::Anew);
    assert_eq!(store.restate(0, vec![comes("ann", None, State::Online)]), [], "within the grace time");
    assert_eq!(renew(0), Lease::Kept);
}

pub fn any_interleaving_ends_with_every_state_right(store: &OnlineStore) {
    // Each thread brings connections of its own and takes some of them away again: what is left of all threads is what must be told.
    let left = together(store, |online, handle, thread| {
        let mut chance = SeededEntropy::new(thread as u64);
        let mut mine: Vec<(u64, State)> = Vec::new();
        for _ in 0..200 {
            if mine.is_empty() || chance.chance(0.6) {
                let (name, state) =
                    (chance.below(5), if chance.chance(0.5) { State::Online } else { State::Away });
                apply(online, handle, vec![comes(&name.to_string(), None, state)]);
                mine.push((name, state));
            } else {
                let (name, state) =
                    mine.swap_remove(usize::try_from(chance.below(mine.len() as u64)).expect("an index"));
                apply(online, handle, vec![goes(&name.to_string(), None, state)]);
            }
        }
        for (name, state) in mine.extract_if(.., |(name, _)| *name == 0).collect::<Vec<_>>() {
            apply(online, handle, vec![goes(&name.to_string(), None, state)]);
        }
        mine
    });
    let mut expected = BTreeMap::<u64, State>::new();
    for (name, state) in left.concat() {
        let best = expected.entry(name).or_default();
        *best = state.max(*best);
    }
    (store.pass)(store.grace_ms);
    store.expired();
    for name in 0..5 {
        let expected = expected.get(&name).copied().unwrap_or_default();
        assert_eq!(store.state(&name.to_string()), expected, "user {name}");
    }
    assert!(!expected.contains_key(&0));
}

pub fn done_may_call_online(store: &OnlineStore) {
    let online = Arc::clone(&store.handles[0]);
    ends(move || {
        let again = Arc::clone(&online);
        let (sender, receiver) = std::sync::mpsc::channel();
        let arrival = vec![comes("ann", None, State::Online)];
        online.apply(
            &node("n0"),
            arrival,
            Box::new(move |_| {
                again.expire(Box::new(move |_| {
                    // The test may have given up.
                    let _ = sender.send(());
                }));
            }),
        );
        receiver.recv().expect("the inner call is answered");
    });
}

fn apply(online: &Arc<dyn Online>, handle: usize, movements: Vec<Movement>) -> Vec<Transition> {
    answer(|done| online.apply(&node(&format!("n{handle}")), movements, done)).expect("transitions")
}

fn comes(name: &str, device: Option<&str>, state: State) -> Movement {
    let device = device.map(|device| Device::new(device).expect("a device"));
    Movement { app: app("demo"), user: user(name), device, from: None, to: Some(state) }
}

fn goes(name: &str, device: Option<&str>, state: State) -> Movement {
    Movement { from: Some(state), to: None, ..comes(name, device, state) }
}

fn states(transitions: Vec<Transition>) -> Vec<State> {
    transitions.into_iter().map(|transition| transition.state).collect()
}

/// Runs `each` on many threads, half of them on either handle, with the handle's and the thread's number.
fn together<T: Send>(
    store: &OnlineStore,
    each: impl Fn(&Arc<dyn Online>, usize, usize) -> T + Sync,
) -> Vec<T> {
    thread::scope(|scope| {
        let run = |thread: usize| {
            let (each, online) = (&each, &store.handles[thread % 2]);
            scope.spawn(move || each(online, thread % 2, thread))
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}
