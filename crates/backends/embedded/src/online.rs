//! Who is online, counted in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use xpush_core::ports::Done;
use xpush_core::ports::lease::Lease;
use xpush_core::ports::online::{LastSeen, Movement, Online, State, Status, Stays, Transition};
use xpush_core::{App, Clock, Device, Monotonic, NodeId, UnixMillis, User};

use crate::lock;

/// Enough that shards rarely meet.
const STRIPES: usize = 64;

/// [`Online`] for the nodes of one process, which share its fate.
pub struct LocalOnline {
    stripes: Box<[Mutex<Stripe>]>,
    /// Nodes that have renewed and were not evicted since.
    renewed: Mutex<HashSet<NodeId>>,
    hasher: RandomState,
    grace_ms: u64,
    clock: Arc<dyn Clock>,
    last_seen: Arc<dyn LastSeen>,
    /// Where it is noted who is there.
    stays: Option<Arc<dyn Stays>>,
}

type Name = (App, User);

#[derive(Default)]
struct Stripe {
    stays: HashMap<Name, Stay, RandomState>,
    /// Who has no connection left, by when the last one went and a number that tells equal times apart.
    leaving: BTreeMap<(Monotonic, u64), Name>,
    departures: u64,
}

/// A user from its first connection until its grace time is over.
#[derive(Default)]
struct Stay {
    connections: Vec<Connections>,
    /// What everybody was told last.
    shown: State,
    /// Its place among `leaving`, and when its last connection went.
    left: Option<((Monotonic, u64), UnixMillis)>,
}

/// Connections that are alike.
struct Connections {
    node: NodeId,
    device: Option<Device>,
    state: State,
    count: u64,
}

impl LocalOnline {
    /// With nobody there. Who goes is offline `grace_ms` later.
    pub fn new(grace_ms: u64, clock: Arc<dyn Clock>, last_seen: Arc<dyn LastSeen>) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        let (renewed, hasher) = (Mutex::default(), RandomState::default());
        Self { stripes, renewed, hasher, grace_ms, clock, last_seen, stays: None }
    }

    /// As another process has left it, which has ended: whoever was there begins its grace time now. `left_over` is what `stays` tells.
    pub fn continuing(
        grace_ms: u64,
        clock: Arc<dyn Clock>,
        stays: Arc<dyn Stays>,
        left_over: Vec<Transition>,
    ) -> Self {
        let online = Self { stays: Some(Arc::clone(&stays)), ..Self::new(grace_ms, clock, stays) };
        let now = online.clock.monotonic();
        for Transition { app, user, state, at } in left_over {
            let name = (app, user);
            let Stripe { stays, leaving, departures } = &mut *lock(online.stripe(&name));
            let mut stay = Stay { shown: state, ..Stay::default() };
            stay.leave(name.clone(), leaving, departures, now, at);
            stays.insert(name, stay);
        }
        online
    }

    fn stripe(&self, name: &Name) -> &Mutex<Stripe> {
        &self.stripes[(self.hasher.hash_one(name) >> 58) as usize % STRIPES]
    }

    fn make(&self, node: &NodeId, movement: Movement) -> Option<Transition> {
        let Movement { app, user, device, from, to } = movement;
        let name = (app, user);
        let mut stripe = lock(self.stripe(&name));
        if !stripe.stays.contains_key(&name) {
            // Who was never counted cannot go.
            to?;
            stripe.stays.insert(name.clone(), Stay::default());
        }
        let Stripe { stays, leaving, departures } = &mut *stripe;
        let stay = stays.get_mut(&name)?;
        if let Some(from) = from
            && !stay.remove(node, device.as_ref(), from)
        {
            return None;
        }
        if let Some(to) = to {
            stay.add(node, device, to);
        }
        let at = self.clock.wall();
        if stay.connections.is_empty() {
            stay.leave(name, leaving, departures, self.clock.monotonic(), at);
            return None;
        }
        if let Some((place, _)) = stay.left.take() {
            leaving.remove(&place);
        }
        let state = stay.best();
        let changed = state != std::mem::replace(&mut stay.shown, state);
        let (app, user) = name;
        changed.then_some(Transition { app, user, state, at })
    }

    fn look(&self, app: &App, user: User) -> Status {
        let name = (app.clone(), user);
        let mut status = match lock(self.stripe(&name)).stays.get(&name) {
            Some(stay) => stay.status(name.1.clone(), self.clock.wall()),
            None => {
                Status { user: name.1.clone(), state: State::Offline, last_seen: None, devices: Vec::new() }
            }
        };
        // The best state of each comes first.
        status.devices.sort_unstable_by(|(one, state), (other, its)| one.cmp(other).then(its.cmp(state)));
        status.devices.dedup_by(|(one, _), (other, _)| one == other);
        status
    }

    /// The departures that would take away all that `node` has entered, and how often each.
    fn entered_by(&self, node: &NodeId) -> Vec<(Movement, usize)> {
        let mut entered = Vec::new();
        for stripe in &self.stripes {
            for ((app, user), stay) in &lock(stripe).stays {
                for of in stay.connections.iter().filter(|connections| connections.node == *node) {
                    let (app, user, device) = (app.clone(), user.clone(), of.device.clone());
                    let gone = Movement { app, user, device, from: Some(of.state), to: None };
                    entered.push((gone, usize::try_from(of.count).unwrap_or(usize::MAX)));
                }
            }
        }
        // The least present first: nobody is told to be away who goes altogether.
        entered.sort_by_key(|(gone, _)| gone.from);
        entered
    }

    /// Notes `transitions` and then tells them, whether or not that could be kept: who is online is known all the same.
    fn note(&self, transitions: Vec<Transition>, done: Done<Vec<Transition>>) {
        if transitions.is_empty() {
            return done(Ok(transitions));
        }
        if let Some(stays) = &self.stays {
            return stays.turn(transitions.clone(), Box::new(move |_| done(Ok(transitions))));
        }
        let seen = transitions.iter().filter(|transition| transition.state != State::Away);
        let seen = seen.map(|transition| (transition.app.clone(), transition.user.clone(), transition.at));
        self.last_seen.note(seen.collect(), Box::new(move |_| done(Ok(transitions))));
    }
}

impl Online for LocalOnline {
    fn apply(&self, node: &NodeId, movements: Vec<Movement>, done: Done<Vec<Transition>>) {
        let transitions: Vec<_> =
            movements.into_iter().filter_map(|movement| self.make(node, movement)).collect();
        self.note(transitions, done);
    }

    fn restate(&self, node: &NodeId, arrivals: Vec<Movement>, done: Done<Vec<Transition>>) {
        let before = self.entered_by(node);
        let departures = before.into_iter().map(|(movement, count)| vec![movement; count]);
        // First those who come: who is named again is never without a connection.
        let movements = arrivals.into_iter().chain(departures.flatten());
        let mut transitions: Vec<_> = movements.filter_map(|movement| self.make(node, movement)).collect();
        settle(&mut transitions);
        self.note(transitions, done);
    }

    fn expire(&self, done: Done<Vec<Transition>>) {
        let now = self.clock.monotonic();
        let mut transitions = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            while let Some(first) = stripe.leaving.first_entry() {
                if now.since(first.key().0) < self.grace_ms {
                    break;
                }
                let (app, user) = first.remove();
                let stay = stripe.stays.remove(&(app.clone(), user.clone()));
                let at = stay.and_then(|stay| stay.left).map_or(0, |(_, at)| at);
                transitions.push(Transition { app, user, state: State::Offline, at });
            }
        }
        transitions.sort_by_key(|transition| transition.at);
        self.note(transitions, done);
    }

    fn status(&self, app: &App, users: Vec<User>, done: Done<Vec<Status>>) {
        let mut statuses: Vec<Status> = users.into_iter().map(|user| self.look(app, user)).collect();
        let unknown: Vec<usize> =
            (0..statuses.len()).filter(|index| statuses[*index].last_seen.is_none()).collect();
        if unknown.is_empty() {
            return done(Ok(statuses));
        }
        let users = unknown.iter().map(|index| statuses[*index].user.clone()).collect();
        let recalled: Done<Vec<Option<UnixMillis>>> = Box::new(move |result| {
            done(result.map(|recalled| {
                for (index, at) in unknown.into_iter().zip(recalled) {
                    statuses[index].last_seen = at;
                }
                statuses
            }));
        });
        self.last_seen.recall(app, users, recalled);
    }

    fn renew(&self, node: &NodeId, done: Done<Lease>) {
        let anew = lock(&self.renewed).insert(node.clone());
        done(Ok(if anew { Lease::Anew } else { Lease::Kept }));
    }

    fn lapsed(&self, done: Done<Vec<NodeId>>) {
        done(Ok(Vec::new()));
    }

    fn evict(&self, node: &NodeId, done: Done<()>) {
        lock(&self.renewed).remove(node);
        let (now, at) = (self.clock.monotonic(), self.clock.wall());
        for stripe in &self.stripes {
            let Stripe { stays, leaving, departures } = &mut *lock(stripe);
            for (name, stay) in stays.iter_mut() {
                let before = stay.connections.len();
                stay.connections.retain(|connections| connections.node != *node);
                if stay.connections.is_empty() && before > 0 {
                    stay.leave(name.clone(), leaving, departures, now, at);
                }
            }
        }
        done(Ok(()));
    }
}

/// Leaves the last transition of each user.
fn settle(transitions: &mut Vec<Transition>) {
    let mut later = HashSet::new();
    transitions.reverse();
    transitions.retain(|one| later.insert((one.app.clone(), one.user.clone())));
    transitions.reverse();
}

impl Stay {
    fn add(&mut self, node: &NodeId, device: Option<Device>, state: State) {
        match self.find(node, device.as_ref(), state) {
            Some(index) => self.connections[index].count += 1,
            None => self.connections.push(Connections { node: node.clone(), device, state, count: 1 }),
        }
    }

    /// Whether there was such a connection.
    fn remove(&mut self, node: &NodeId, device: Option<&Device>, state: State) -> bool {
        let Some(index) = self.find(node, device, state) else { return false };
        self.connections[index].count -= 1;
        if self.connections[index].count == 0 {
            self.connections.swap_remove(index);
        }
        true
    }

    fn find(&self, node: &NodeId, device: Option<&Device>, state: State) -> Option<usize> {
        let alike =
            |one: &Connections| one.state == state && one.device.as_ref() == device && one.node == *node;
        self.connections.iter().position(alike)
    }

    /// The last connection went: the grace time begins.
    fn leave(
        &mut self,
        name: Name,
        leaving: &mut BTreeMap<(Monotonic, u64), Name>,
        departures: &mut u64,
        now: Monotonic,
        at: UnixMillis,
    ) {
        *departures += 1;
        let place = (now, *departures);
        leaving.insert(place, name);
        self.left = Some((place, at));
    }

    fn best(&self) -> State {
        self.connections.iter().map(|connections| connections.state).max().unwrap_or_default()
    }

    fn status(&self, user: User, now: UnixMillis) -> Status {
        let device = |one: &Connections| Some((one.device.clone()?, one.state));
        let devices = self.connections.iter().filter_map(device).collect();
        let last_seen = self.left.map_or(now, |(_, at)| at);
        Status { user, state: self.shown, last_seen: Some(last_seen), devices }
    }
}
