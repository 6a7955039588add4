//! What a bus follows, what waits to be written, and how each lane stands. Pure: nothing here waits or calls anybody.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use xpush_core::ports::bus::{Inbound, Topic};
use xpush_core::ports::{Done, Failure, PortError};

use super::routes::{SLOTS, slot_of};
use crate::options::Address;
use crate::server::ConnectError;

/// Topics that lost something and are remembered one by one; with more, all are told.
const LOSSY: usize = 1_000;
/// What a waiting event counts beyond its bytes.
const OVERHEAD: usize = 64;

/// Of a bus.
pub(super) struct State {
    lanes: Vec<Lane>,
    /// The lane (by its place in `lanes`) of each slot, when channels are sharded.
    slots: Option<Box<[Option<u16>]>>,
    follows: HashMap<Bytes, Follow, RandomState>,
    standing: Standing,
    lossy: Lossy,
    /// The channel on which all nodes are told; every bus listens to it.
    control: Bytes,
    /// Bytes that may wait in a lane.
    bound: usize,
    tickets: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Connecting,
    Up,
    Down,
}

/// A server that carries topics.
struct Lane {
    id: u32,
    /// `None`: whoever the options name.
    address: Option<Address>,
    /// Connected, and all that it carries is subscribed to.
    up: bool,
    /// It never failed: what is published before it is up may wait.
    fresh: bool,
    queue: VecDeque<Publication>,
    bytes: usize,
    changes: Vec<Change>,
    wake: Arc<Notify>,
    task: Option<AbortHandle>,
}

/// An event that waits.
pub(super) struct Publication {
    pub(super) name: Bytes,
    pub(super) payload: Bytes,
}

/// A subscription to begin or to end.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Begin(Bytes, u64),
    End(Bytes),
}

struct Follow {
    /// `None`: the control channel, as long as nobody asked for it.
    topic: Option<Topic>,
    lane: Option<u32>,
    /// Of the newest subscription: an older one's confirmation says nothing.
    ticket: u64,
    confirmed: bool,
    /// What was published before the confirmation may be lost.
    gap: bool,
    waiting: Vec<Done<()>>,
}

#[derive(Default)]
struct Lossy {
    names: HashSet<Bytes, RandomState>,
    all: bool,
}

/// What is to be done when the state's lock is free again.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) tell: Vec<Inbound>,
    pub(super) answers: Vec<(Done<()>, Result<(), PortError>)>,
    pub(super) standing: Option<Result<(), ConnectError>>,
    pub(super) lost: u64,
    /// Where channels lie is to be asked.
    pub(super) moved: bool,
}

impl State {
    pub(super) fn new(bound: usize, control: Bytes) -> Self {
        let mut state = Self {
            lanes: Vec::new(),
            slots: None,
            follows: HashMap::default(),
            standing: Standing::Connecting,
            lossy: Lossy::default(),
            control: control.clone(),
            bound,
            tickets: 0,
        };
        let listen =
            Follow { topic: None, lane: None, ticket: 0, confirmed: false, gap: false, waiting: Vec::new() };
        state.follows.insert(control, listen);
        state
    }

    /// The topic behind a channel of Redis, when it is followed.
    pub(super) fn topic(&self, name: &Bytes) -> Option<Topic> {
        self.follows.get(name)?.topic.clone()
    }

    // === events ===

    /// Queues an event; false when it is lost.
    pub(super) fn publish(&mut self, name: Bytes, payload: Bytes) -> bool {
        let bound = self.bound;
        let weight = name.len() + payload.len() + OVERHEAD;
        let takes = |lane: &&mut Lane| (lane.up || lane.fresh) && lane.bytes.saturating_add(weight) <= bound;
        if let Some(lane) = self.lane_of(&name).filter(takes) {
            lane.bytes += weight;
            lane.queue.push_back(Publication { name, payload });
            lane.wake.notify_one();
            return true;
        }
        self.lossy.add(name);
        false
    }

    /// What a lane is to write next: events of about `bytes` at most. First come the channels on which others must be told that something was lost.
    pub(super) fn next_batch(&mut self, lane: u32, bytes: usize, batch: &mut Batch) {
        let Some(place) = self.place(lane) else { return };
        batch.changes.append(&mut self.lanes[place].changes);
        if !self.lanes[place].up {
            return;
        }
        if self.lossy.all && self.place_of(&self.control) == Some(place) {
            self.lossy = Lossy::default();
            batch.gaps.push(self.control.clone());
        }
        if !self.lossy.names.is_empty() {
            let names: Vec<Bytes> = self.lossy.names.iter().cloned().collect();
            for name in names {
                if self.place_of(&name) == Some(place) {
                    self.lossy.names.remove(&name);
                    batch.gaps.push(name);
                }
            }
        }
        let lane = &mut self.lanes[place];
        let mut taken = 0;
        while taken < bytes
            && let Some(publication) = lane.queue.pop_front()
        {
            let weight = publication.name.len() + publication.payload.len() + OVERHEAD;
            lane.bytes -= weight;
            taken += weight;
            batch.publications.push(publication);
        }
    }

    /// An event of this channel is lost.
    pub(super) fn lose(&mut self, name: Bytes) {
        self.lossy.add(name);
    }

    // === topics ===

    /// Begins to follow; gives `done` back with the answer when there is one already.
    pub(super) fn follow(
        &mut self,
        name: Bytes,
        topic: Topic,
        done: Done<()>,
    ) -> Option<(Done<()>, Result<(), PortError>)> {
        let down = self.standing == Standing::Down;
        let not_now = || PortError::new(Failure::NotApplied, "redis: the bus is down");
        if let Some(follow) = self.follows.get_mut(&name) {
            follow.topic = Some(topic);
            return match follow.confirmed {
                true => Some((done, Ok(()))),
                false if down => Some((done, Err(not_now()))),
                false => {
                    follow.waiting.push(done);
                    None
                }
            };
        }
        let waiting = Vec::new();
        let follow =
            Follow { topic: Some(topic), lane: None, ticket: 0, confirmed: false, gap: false, waiting };
        self.follows.insert(name.clone(), follow);
        self.subscribe(&name);
        let connecting = self.standing == Standing::Connecting;
        let Some(follow) = self.follows.get_mut(&name) else { return Some((done, Err(not_now()))) };
        // Nobody has its slot: it is asked for again when somebody does.
        if down || (follow.lane.is_none() && !connecting) {
            follow.gap = true;
            return Some((done, Err(not_now())));
        }
        follow.waiting.push(done);
        None
    }

    /// Ceases to follow; gives back who still waits.
    pub(super) fn unfollow(&mut self, name: &Bytes) -> Vec<Done<()>> {
        if *name == self.control {
            let follow = self.follows.get_mut(name);
            return follow
                .map(|follow| {
                    follow.topic = None;
                    std::mem::take(&mut follow.waiting)
                })
                .unwrap_or_default();
        }
        let Some(follow) = self.follows.remove(name) else { return Vec::new() };
        if let Some(lane) = follow.lane.and_then(|lane| self.lane(lane)) {
            lane.changes.push(Change::End(name.clone()));
            lane.wake.notify_one();
        }
        follow.waiting
    }

    /// Asks the lane that carries `name` to subscribe to it.
    fn subscribe(&mut self, name: &Bytes) {
        self.tickets += 1;
        let ticket = self.tickets;
        let place = self.place_of(name);
        let Some(follow) = self.follows.get_mut(name) else { return };
        (follow.ticket, follow.confirmed) = (ticket, false);
        follow.lane = place.map(|place| self.lanes[place].id);
        if let Some(place) = place {
            self.lanes[place].changes.push(Change::Begin(name.clone(), ticket));
            self.lanes[place].wake.notify_one();
        }
    }

    /// The server has confirmed a subscription.
    pub(super) fn confirmed(&mut self, name: &Bytes, ticket: u64) -> Effects {
        let mut effects = Effects::default();
        let Some(follow) = self.follows.get_mut(name).filter(|follow| follow.ticket == ticket) else {
            return effects;
        };
        follow.confirmed = true;
        effects.answers = follow.waiting.drain(..).map(|done| (done, Ok(()))).collect();
        // When the bus comes up, all are told at once.
        if self.standing != Standing::Down
            && std::mem::take(&mut follow.gap)
            && let Some(topic) = follow.topic.clone()
        {
            effects.tell.push(Inbound::Gap(Some(topic)));
        }
        effects
    }

    /// The server carries a channel no more, or never did.
    pub(super) fn misplaced(&mut self, name: &Bytes) -> Effects {
        if let Some(follow) = self.follows.get_mut(name) {
            (follow.lane, follow.confirmed, follow.gap) = (None, false, true);
            // A confirmation that is still to come is of no use.
            follow.ticket = 0;
        }
        Effects { moved: true, ..Effects::default() }
    }

    // === lanes ===

    /// A lane more; `address` of `None` is whoever the options name.
    pub(super) fn add_lane(&mut self, address: Option<Address>) -> u32 {
        let id = self.lanes.iter().map(|lane| lane.id + 1).max().unwrap_or(0);
        self.lanes.push(Lane {
            id,
            address,
            up: false,
            fresh: true,
            queue: VecDeque::new(),
            bytes: 0,
            changes: Vec::new(),
            wake: Arc::new(Notify::new()),
            task: None,
        });
        id
    }

    /// Where a lane leads, and what wakes its writer.
    pub(super) fn lane_ends(&self, id: u32) -> Option<(Option<Address>, Arc<Notify>)> {
        let lane = &self.lanes[self.place(id)?];
        Some((lane.address.clone(), lane.wake.clone()))
    }

    /// The task that serves a lane.
    pub(super) fn set_task(&mut self, id: u32, task: AbortHandle) {
        match self.lane(id) {
            Some(lane) => lane.task = Some(task),
            None => task.abort(),
        }
    }

    /// A lane has a new connection, on which nothing is subscribed to yet: all that it carries is asked for.
    pub(super) fn lane_begins(&mut self, id: u32) {
        let Some(place) = self.place(id) else { return };
        self.lanes[place].changes.clear();
        let names: Vec<Bytes> = self.follows.keys().cloned().collect();
        for name in names {
            if self.place_of(&name) == Some(place) {
                self.subscribe(&name);
            }
        }
    }

    /// All that a lane carried when it began is subscribed to.
    pub(super) fn lane_up(&mut self, id: u32) -> Effects {
        if let Some(lane) = self.lane(id) {
            lane.up = true;
            lane.wake.notify_one();
        }
        self.settle(Effects::default())
    }

    /// A lane's connection is lost, or was not to be had. `under_way` are the channels of events whose fate is unknown.
    pub(super) fn lane_down(&mut self, id: u32, why: ConnectError, under_way: Vec<Bytes>) -> Effects {
        let mut effects = Effects::default();
        let Some(place) = self.place(id) else { return effects };
        let lane = &mut self.lanes[place];
        (lane.up, lane.fresh) = (false, false);
        lane.bytes = 0;
        lane.changes.clear();
        let waiting: Vec<Bytes> = lane.queue.drain(..).map(|publication| publication.name).collect();
        effects.lost = (waiting.len() + under_way.len()) as u64;
        waiting.into_iter().chain(under_way).for_each(|name| self.lossy.add(name));
        for follow in self.follows.values_mut().filter(|follow| follow.lane == Some(id)) {
            (follow.confirmed, follow.ticket) = (false, 0);
        }
        self.fail(why, effects)
    }

    /// The bus does not work, and nobody shall wait for it.
    pub(super) fn fail(&mut self, why: ConnectError, mut effects: Effects) -> Effects {
        for follow in self.follows.values_mut().filter(|follow| !follow.confirmed) {
            let error = || PortError::new(Failure::NotApplied, format!("redis: {why}"));
            effects.answers.extend(follow.waiting.drain(..).map(|done| (done, Err(error()))));
        }
        if self.standing != Standing::Down {
            self.standing = Standing::Down;
            effects.tell.push(Inbound::Down);
        }
        effects.standing = Some(Err(why));
        effects
    }

    /// Nobody says where channels lie. It does not matter while all lanes work.
    pub(super) fn no_routes(&mut self, why: ConnectError) -> Effects {
        let works = !self.lanes.is_empty() && self.lanes.iter().all(|lane| lane.up);
        if works { Effects::default() } else { self.fail(why, Effects::default()) }
    }

    /// Where lanes lead.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.lanes.iter().filter_map(|lane| lane.address.clone()).collect()
    }

    /// Up, when every lane is.
    fn settle(&mut self, mut effects: Effects) -> Effects {
        if self.lanes.is_empty() || self.standing == Standing::Up || !self.lanes.iter().all(|lane| lane.up) {
            return effects;
        }
        effects.tell.push(Inbound::Up);
        if self.standing == Standing::Down {
            // Whoever did not wait for a confirmation is told, too.
            self.follows.values_mut().for_each(|follow| follow.gap = false);
            effects.tell.push(Inbound::Gap(None));
        }
        self.standing = Standing::Up;
        effects.standing = Some(Ok(()));
        effects
    }

    /// Channels lie elsewhere now: `owners` has the address of each slot's server. Gives the new lanes, whose tasks are to be started.
    pub(super) fn reroute(&mut self, owners: &[Option<Address>]) -> (Vec<u32>, Effects) {
        let mut effects = Effects::default();
        let wanted: HashSet<&Address> = owners.iter().flatten().collect();
        let known: HashSet<Address> = self.lanes.iter().filter_map(|lane| lane.address.clone()).collect();
        let mut gone = Vec::new();
        self.lanes.retain_mut(|lane| {
            if lane.address.as_ref().is_some_and(|address| wanted.contains(address)) {
                return true;
            }
            lane.task.take().into_iter().for_each(|task| task.abort());
            gone.extend(lane.queue.drain(..).map(|publication| publication.name));
            false
        });
        effects.lost = gone.len() as u64;
        gone.into_iter().for_each(|name| self.lossy.add(name));
        let mut new: Vec<&Address> = wanted.into_iter().filter(|address| !known.contains(*address)).collect();
        new.sort();
        let new = new.into_iter().map(|address| self.add_lane(Some(address.clone()))).collect();
        let place = |address: &Address| {
            let place = self.lanes.iter().position(|lane| lane.address.as_ref() == Some(address))?;
            u16::try_from(place).ok()
        };
        self.slots = Some(owners.iter().map(|owner| owner.as_ref().and_then(place)).collect());
        self.resubscribe(&mut effects);
        // A lane that held everything up may be gone.
        (new, self.settle(effects))
    }

    /// Follows topics on the lanes that carry them now.
    fn resubscribe(&mut self, effects: &mut Effects) {
        let names: Vec<Bytes> = self.follows.keys().cloned().collect();
        for name in names {
            let now = self.place_of(&name).map(|place| self.lanes[place].id);
            if now.is_none()
                && let Some(follow) = self.follows.get_mut(&name)
            {
                let error = || PortError::new(Failure::NotApplied, "redis: nobody has the channel's slot");
                effects.answers.extend(follow.waiting.drain(..).map(|done| (done, Err(error()))));
                follow.gap = true;
            }
            let Some(follow) = self.follows.get_mut(&name).filter(|follow| follow.lane != now) else {
                continue;
            };
            // New ones were never followed, and miss nothing yet.
            follow.gap |= follow.lane.is_some();
            let before = follow.lane;
            if let Some(lane) = before.and_then(|lane| self.lane(lane)) {
                lane.changes.push(Change::End(name.clone()));
                lane.wake.notify_one();
            }
            self.subscribe(&name);
        }
    }

    /// Ends everything: gives the tasks to abort, and who still waits.
    pub(super) fn close(&mut self) -> (Vec<AbortHandle>, Vec<Done<()>>) {
        let tasks = self.lanes.drain(..).filter_map(|lane| lane.task).collect();
        self.slots = None;
        let waiting = self.follows.drain().flat_map(|(_, follow)| follow.waiting).collect();
        (tasks, waiting)
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.id == id)
    }

    fn lane(&mut self, id: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    fn place_of(&self, name: &Bytes) -> Option<usize> {
        match &self.slots {
            Some(slots) => slots[usize::from(slot_of(name)) % SLOTS].map(usize::from),
            None => (!self.lanes.is_empty()).then_some(0),
        }
    }

    fn lane_of(&mut self, name: &Bytes) -> Option<&mut Lane> {
        let place = self.place_of(name)?;
        self.lanes.get_mut(place)
    }
}

/// What one write carries.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// Channels on which a gap is told.
    pub(super) gaps: Vec<Bytes>,
    pub(super) publications: Vec<Publication>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.gaps.is_empty() && self.publications.is_empty()
    }
}

impl Lossy {
    fn add(&mut self, name: Bytes) {
        if self.all {
            return;
        }
        self.names.insert(name);
        if self.names.len() > LOSSY {
            *self = Self { names: HashSet::default(), all: true };
        }
    }
}
