//! Which users are there, counted by scripts: users lie in partitions, each with the leases of nodes and with what each node has entered.

use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::online::{LastSeen, Movement, Online, State, Status, Transition};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, Clock, Device, NodeId, UnixMillis, User};

use crate::connection::Connection;
use crate::partition::{Gather, PARTITIONS, Queues, Store, Time, Worker, everywhere, of_hash};
use crate::presence::{read, strange};
use crate::script::{Script, script};

/// Movements in one script, and users in one answer.
const BATCH: usize = 256;

/// [`Online`] of all nodes that share a Redis.
pub struct RedisOnline {
    keeper: Arc<Keeper>,
    queues: Queues<Part>,
    last_seen: Arc<dyn LastSeen>,
}

/// Speaks with Redis.
struct Keeper {
    store: Arc<Store>,
    grace_ms: u64,
    clock: Arc<dyn Clock>,
    apply: Script,
    expire: Script,
    status: Script,
    evict: Script,
}

enum Part {
    Apply { node: NodeId, movements: Vec<(usize, Movement)>, gather: Arc<Gather<Option<Transition>>> },
    Restate { node: NodeId, arrivals: Vec<Movement>, gather: Arc<Gather<Vec<Transition>>> },
    Expire { gather: Arc<Gather<Vec<Transition>>> },
    Evict { node: NodeId, gather: Arc<Gather<()>> },
}

/// One movement, as the script takes it.
struct Step {
    app: App,
    user: User,
    verb: &'static str,
    device: Option<Device>,
    from: u64,
    to: u64,
}

impl RedisOnline {
    /// Who goes is offline `grace_ms` later, by the server's time. `clock` says what is told to people.
    pub fn new(
        connection: Connection,
        grace_ms: u64,
        clock: Arc<dyn Clock>,
        last_seen: Arc<dyn LastSeen>,
    ) -> Self {
        Self::with_time(connection, grace_ms, clock, last_seen, Time::Server)
    }

    /// For tests: everything goes by `clock`.
    pub fn with_clock(
        connection: Connection,
        grace_ms: u64,
        clock: Arc<dyn Clock>,
        last_seen: Arc<dyn LastSeen>,
    ) -> Self {
        let time = Time::Given(Arc::clone(&clock));
        Self::with_time(connection, grace_ms, clock, last_seen, time)
    }

    fn with_time(
        connection: Connection,
        grace_ms: u64,
        clock: Arc<dyn Clock>,
        last_seen: Arc<dyn LastSeen>,
        time: Time,
    ) -> Self {
        macro_rules! online {
            ($file:literal) => {
                script!("lua/store.lua", "lua/memo.lua", "lua/lease.lua", "online/stays.lua", $file)
            };
        }
        let keeper = Arc::new(Keeper {
            store: Arc::new(Store::new(connection.clone(), "online", time)),
            grace_ms,
            clock,
            apply: online!("online/apply.lua"),
            expire: online!("online/expire.lua"),
            status: online!("online/status.lua"),
            evict: online!("online/evict.lua"),
        });
        let queues = Queues::new(&connection, &keeper);
        Self { keeper, queues, last_seen }
    }

    /// What to do with transitions: note who was seen, and then answer, whether or not that could be kept.
    fn noting(&self, done: Done<Vec<Transition>>) -> Done<Vec<Transition>> {
        let last_seen = Arc::clone(&self.last_seen);
        Box::new(move |result| {
            let Ok(transitions) = result else { return done(result) };
            let told = transitions.iter().filter(|transition| transition.state != State::Away);
            let seen: Vec<_> = told
                .map(|transition| (transition.app.clone(), transition.user.clone(), transition.at))
                .collect();
            if seen.is_empty() {
                return done(Ok(transitions));
            }
            last_seen.note(seen, Box::new(move |_| done(Ok(transitions))));
        })
    }

    fn store(&self) -> &Arc<Store> {
        &self.keeper.store
    }
}

impl Online for RedisOnline {
    fn apply(&self, node: &NodeId, movements: Vec<Movement>, done: Done<Vec<Transition>>) {
        if movements.is_empty() {
            return done(Ok(Vec::new()));
        }
        if let Err(error) = self.queues.admit(movements.len()) {
            return done(Err(error));
        }
        let noting = self.noting(done);
        let all: Done<Vec<Option<Transition>>> =
            Box::new(move |result| noting(result.map(|told| told.into_iter().flatten().collect())));
        let count = movements.len();
        let mut by_partition: HashMap<u8, Vec<(usize, Movement)>> = HashMap::new();
        for (place, movement) in movements.into_iter().enumerate() {
            by_partition.entry(partition(&movement.app, &movement.user)).or_default().push((place, movement));
        }
        let gather = Gather::new(count, by_partition.len(), all);
        for (partition, movements) in by_partition {
            let weight = movements.len();
            let part = Part::Apply { node: node.clone(), movements, gather: Arc::clone(&gather) };
            self.queues.push(partition, part, weight);
        }
    }

    fn restate(&self, node: &NodeId, arrivals: Vec<Movement>, done: Done<Vec<Transition>>) {
        if let Err(error) = self.queues.admit(arrivals.len()) {
            return done(Err(error));
        }
        let gather = self.gather_all(done);
        let mut by_partition: Vec<Vec<Movement>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
        for arrival in arrivals {
            by_partition[usize::from(partition(&arrival.app, &arrival.user))].push(arrival);
        }
        for (partition, arrivals) in (0..PARTITIONS).zip(by_partition) {
            let weight = arrivals.len() + 1;
            let part = Part::Restate { node: node.clone(), arrivals, gather: Arc::clone(&gather) };
            self.queues.push(partition, part, weight);
        }
    }

    fn expire(&self, done: Done<Vec<Transition>>) {
        if let Err(error) = self.queues.admit(usize::from(PARTITIONS)) {
            return done(Err(error));
        }
        let gather = self.gather_all(done);
        (0..PARTITIONS).for_each(|partition| {
            self.queues.push(partition, Part::Expire { gather: Arc::clone(&gather) }, 1);
        });
    }

    fn status(&self, app: &App, users: Vec<User>, done: Done<Vec<Status>>) {
        let (keeper, app, last_seen) = (Arc::clone(&self.keeper), app.clone(), Arc::clone(&self.last_seen));
        let of = app.clone();
        let known: Done<Vec<Status>> = Box::new(move |result| {
            let mut statuses = match result {
                Ok(statuses) => statuses,
                Err(error) => return done(Err(error)),
            };
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
            last_seen.recall(&of, users, recalled);
        });
        self.store()
            .connection
            .start(users.len() * 64, known, move |_| async move { keeper.status(&app, users).await });
    }

    fn renew(&self, node: &NodeId, done: Done<Lease>) {
        let (store, node) = (Arc::clone(self.store()), node.to_string());
        self.store().connection.start(0, done, move |_| store.renew(node));
    }

    fn lapsed(&self, done: Done<Vec<NodeId>>) {
        let store = Arc::clone(self.store());
        self.store().connection.start(0, done, move |_| async move {
            Ok(store.lapsed().await?.iter().filter_map(|node| NodeId::new(node).ok()).collect())
        });
    }

    fn evict(&self, node: &NodeId, done: Done<()>) {
        if let Err(error) = self.queues.admit(usize::from(PARTITIONS)) {
            return done(Err(error));
        }
        self.store().forget(node.as_str());
        let all: Done<Vec<()>> = Box::new(move |result| done(result.map(|_| ())));
        let gather = Gather::new(0, usize::from(PARTITIONS), all);
        (0..PARTITIONS).for_each(|partition| {
            self.queues.push(partition, Part::Evict { node: node.clone(), gather: Arc::clone(&gather) }, 1);
        });
    }
}

impl RedisOnline {
    /// Waits for the transitions of every partition.
    fn gather_all(&self, done: Done<Vec<Transition>>) -> Arc<Gather<Vec<Transition>>> {
        let noting = self.noting(done);
        let all: Done<Vec<Vec<Transition>>> =
            Box::new(move |result| noting(result.map(|told| told.into_iter().flatten().collect())));
        Gather::new(usize::from(PARTITIONS), usize::from(PARTITIONS), all)
    }
}

impl Worker for Keeper {
    type Part = Part;

    async fn work(&self, partition: u8, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Apply { node, movements, gather } => {
                    self.apply(partition, &node, movements, &gather).await
                }
                Part::Restate { node, arrivals, gather } => {
                    self.tell(partition, &gather, self.restate(partition, &node, arrivals).await);
                }
                Part::Expire { gather } => self.tell(partition, &gather, self.expire(partition).await),
                Part::Evict { node, gather } => {
                    if let Err(error) = self.evict(partition, &node).await {
                        gather.fail(&error);
                    }
                    gather.end_part();
                }
            }
        }
    }
}

impl Keeper {
    fn tell(
        &self,
        partition: u8,
        gather: &Gather<Vec<Transition>>,
        result: Result<Vec<Transition>, PortError>,
    ) {
        match result {
            Ok(transitions) => gather.answer(usize::from(partition), transitions),
            Err(error) => gather.fail(&error),
        }
        gather.end_part();
    }

    async fn apply(
        &self,
        partition: u8,
        node: &NodeId,
        movements: Vec<(usize, Movement)>,
        gather: &Gather<Option<Transition>>,
    ) {
        for some in movements.chunks(BATCH) {
            let step = |(_, movement): &(usize, Movement)| {
                let Movement { app, user, device, from, to } = movement.clone();
                Step { app, user, verb: "move", device, from: number(from), to: number(to) }
            };
            let steps: Vec<Step> = some.iter().map(step).collect();
            match self.step(partition, node, &steps).await {
                Ok(transitions) => {
                    for ((place, _), transition) in some.iter().zip(transitions) {
                        gather.answer(*place, transition);
                    }
                }
                Err(error) => gather.fail(&error),
            }
        }
        gather.end_part();
    }

    /// At most [`BATCH`] steps in one script; the transition of each, if it made one.
    async fn step(
        &self,
        partition: u8,
        node: &NodeId,
        steps: &[Step],
    ) -> Result<Vec<Option<Transition>>, PortError> {
        let store = &self.store;
        let at = self.clock.wall();
        let keys = [
            store.memo(partition),
            store.key(partition, "nodes"),
            self.mine(partition, node),
            store.key(partition, "leaving"),
            store.key(partition, "users"),
        ];
        let mut arguments =
            vec![store.now(), store.call(), node.to_string(), LEASE_MS.to_string(), at.to_string()];
        for Step { app, user, verb, device, from, to } in steps {
            let device = device.as_ref().map_or(String::new(), |device| device.to_string());
            arguments.extend([spell(app, user), (*verb).into(), device, from.to_string(), to.to_string()]);
        }
        let told: Vec<u64> = store.invoke(&self.apply, &keys, &arguments).await?;
        let mut transitions: Vec<Option<Transition>> = steps.iter().map(|_| None).collect();
        for pair in told.chunks_exact(2) {
            let index = usize::try_from(pair[0]).map_err(|_| strange())?;
            let Step { app, user, .. } = steps.get(index).ok_or_else(strange)?;
            let (app, user, state) = (app.clone(), user.clone(), state(pair[1])?);
            transitions[index] = Some(Transition { app, user, state, at });
        }
        Ok(transitions)
    }

    /// What is named is set first: who is named again is never without a connection.
    async fn restate(
        &self,
        partition: u8,
        node: &NodeId,
        arrivals: Vec<Movement>,
    ) -> Result<Vec<Transition>, PortError> {
        type Alike = (App, User, Option<Device>, u64);
        let before = self.held(partition, node).await?;
        let mut places: HashMap<Alike, usize> = HashMap::new();
        let mut stated: Vec<(Alike, u64)> = Vec::new();
        for Movement { app, user, device, to, .. } in arrivals {
            let alike = (app, user, device, number(to));
            if alike.3 == 0 {
                continue;
            }
            let place = *places.entry(alike.clone()).or_insert(stated.len());
            match stated.get_mut(place) {
                Some((_, count)) => *count += 1,
                None => stated.push((alike, 1)),
            }
        }
        let mut gone: Vec<_> = before.into_iter().filter(|alike| !places.contains_key(alike)).collect();
        // The least present first: nobody is told to be away who goes altogether.
        gone.sort_by_key(|alike| alike.3);
        stated.extend(gone.into_iter().map(|alike| (alike, 0)));
        let steps: Vec<Step> = stated
            .into_iter()
            .map(|((app, user, device, from), to)| Step { app, user, verb: "set", device, from, to })
            .collect();
        if steps.is_empty() {
            // What is still on its way comes too late now.
            self.step(partition, node, &steps).await?;
        }
        let mut last: Vec<Transition> = Vec::new();
        for (count, some) in steps.chunks(BATCH).enumerate() {
            match self.step(partition, node, some).await {
                Ok(transitions) => last.extend(transitions.into_iter().flatten()),
                Err(error) if count > 0 => return Err(PortError::new(Failure::Unknown, error.detail)),
                Err(error) => return Err(error),
            }
        }
        // Of each user the last one counts.
        let mut later = std::collections::HashSet::new();
        last.reverse();
        last.retain(|one| later.insert((one.app.clone(), one.user.clone())));
        last.reverse();
        Ok(last)
    }

    /// What `node` has entered.
    async fn held(
        &self,
        partition: u8,
        node: &NodeId,
    ) -> Result<Vec<(App, User, Option<Device>, u64)>, PortError> {
        let key = self.mine(partition, node);
        let (mut cursor, mut held) = ("0".to_owned(), Vec::new());
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(&key).arg(&cursor).arg("COUNT").arg(BATCH);
            let (next, fields): (String, Vec<String>) = self.store.connection.query(&scan).await?;
            for field in fields.iter().step_by(2) {
                let mut parts = field.split('\0');
                let mut part = || parts.next().ok_or_else(strange);
                let (app, user) = unspell(part()?)?;
                let state = part()?.parse().map_err(|_| strange())?;
                let device = Some(part()?).filter(|device| !device.is_empty());
                let device = device.map(Device::new).transpose().map_err(|_| strange())?;
                held.push((app, user, device, state));
            }
            cursor = next;
            if cursor == "0" {
                return Ok(held);
            }
        }
    }

    async fn expire(&self, partition: u8) -> Result<Vec<Transition>, PortError> {
        let store = &self.store;
        let keys = [store.memo(partition), store.key(partition, "leaving"), store.key(partition, "users")];
        let mut transitions = Vec::new();
        loop {
            let arguments = [store.now(), store.call(), self.grace_ms.to_string(), BATCH.to_string()];
            let gone: Vec<String> = match store.invoke(&self.expire, &keys, &arguments).await {
                Ok(gone) => gone,
                // What was taken out is told; the rest is still there.
                Err(_) if !transitions.is_empty() => return Ok(transitions),
                Err(error) => return Err(error),
            };
            for pair in gone.chunks_exact(2) {
                let (app, user) = unspell(&pair[0])?;
                let at = pair[1].parse().map_err(|_| strange())?;
                transitions.push(Transition { app, user, state: State::Offline, at });
            }
            if gone.len() < 2 * BATCH {
                return Ok(transitions);
            }
        }
    }

    async fn status(self: &Arc<Self>, app: &App, users: Vec<User>) -> Result<Vec<Status>, PortError> {
        let mut by_partition: HashMap<u8, Vec<usize>> = HashMap::new();
        for (index, user) in users.iter().enumerate() {
            by_partition.entry(partition(app, user)).or_default().push(index);
        }
        let names: Vec<String> = users.iter().map(|user| spell(app, user)).collect();
        let asked = Arc::new((by_partition, names));
        let look = |partition: u8| {
            let (this, asked) = (Arc::clone(self), Arc::clone(&asked));
            async move {
                let (by_partition, names) = &*asked;
                let mut found: Vec<(usize, Vec<Value>)> = Vec::new();
                for some in by_partition.get(&partition).into_iter().flat_map(|of| of.chunks(BATCH)) {
                    let names: Vec<&str> = some.iter().map(|index| &*names[*index]).collect();
                    let keys = [this.store.key(partition, "users")];
                    let answer: Vec<Vec<Value>> =
                        this.store.connection.invoke(&this.status, &keys, &names).await?;
                    found.extend(some.iter().copied().zip(answer));
                }
                Ok(found)
            }
        };
        let found = everywhere(look).await?;
        let now = self.clock.wall();
        let mut statuses: Vec<Option<Status>> = users.iter().map(|_| None).collect();
        for (index, one) in found.into_iter().flatten() {
            let [shown, went, devices @ ..] = &one[..] else { return Err(strange()) };
            let last_seen = match read::<i64>(went)? {
                -2 => None,
                -1 => Some(now),
                went => Some(u64::try_from(went).map_err(|_| strange())?),
            };
            let device = |pair: &[Value]| {
                let device = Device::new(&read::<String>(&pair[0])?).map_err(|_| strange())?;
                Ok((device, state(read(&pair[1])?)?))
            };
            let devices = devices.chunks_exact(2).map(device);
            let mut devices = devices.collect::<Result<Vec<(Device, State)>, PortError>>()?;
            devices.sort_unstable();
            let (user, state) = (users[index].clone(), state(read(shown)?)?);
            statuses[index] = Some(Status { user, state, last_seen, devices });
        }
        statuses.into_iter().map(|status| status.ok_or_else(strange)).collect()
    }

    async fn evict(&self, partition: u8, node: &NodeId) -> Result<(), PortError> {
        let store = &self.store;
        let keys = [
            store.key(partition, "nodes"),
            self.mine(partition, node),
            store.key(partition, "leaving"),
            store.key(partition, "users"),
        ];
        let mut first = "1";
        loop {
            let wall = self.clock.wall().to_string();
            let arguments = [store.now(), node.to_string(), wall, BATCH.to_string(), first.to_owned()];
            let left: u64 = store.invoke(&self.evict, &keys, &arguments).await?;
            first = "0";
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn mine(&self, partition: u8, node: &NodeId) -> String {
        self.store.key(partition, &format!("mine:{node}"))
    }
}

fn partition(app: &App, user: &User) -> u8 {
    of_hash(ChannelKey::new(app.clone(), Channel::personal(user, None)).hash64())
}

/// An app's name holds no colon, so both can be read again.
fn spell(app: &App, user: &User) -> String {
    format!("{app}:{user}")
}

fn unspell(name: &str) -> Result<(App, User), PortError> {
    let (app, user) = name.split_once(':').ok_or_else(strange)?;
    Ok((App::new(app).map_err(|_| strange())?, User::new(user).map_err(|_| strange())?))
}

/// Stored: never to be changed.
fn number(state: Option<State>) -> u64 {
    match state {
        None | Some(State::Offline) => 0,
        Some(State::Away) => 1,
        Some(State::Online) => 2,
    }
}

fn state(number: u64) -> Result<State, PortError> {
    match number {
        0 => Ok(State::Offline),
        1 => Ok(State::Away),
        2 => Ok(State::Online),
        _ => Err(strange()),
    }
}
