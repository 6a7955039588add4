//! Who is in which channel, counted by scripts.
//!
//! Channels lie in partitions; with each lie the leases of nodes, and for each node which of the channels it has entered. A change is counted, decided, entered
//! into that index and remembered in one script; one that is run again answers as the first time.

use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::presence::{Change, Delta, Member, Outcome, Presence, Roster};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, Clock, NodeId, User};

use crate::connection::Connection;
use crate::partition::{Gather, PARTITIONS, Queues, Store, Time, Worker, lock, of_hash};
use crate::script::{Script, script};

/// Changes in one script: some ms at most.
const BATCH: usize = 256;
/// Members in one answer.
const PAGE: usize = 1_000;

/// [`Presence`] of all nodes that share a Redis.
pub struct RedisPresence {
    keeper: Arc<Keeper>,
    queues: Queues<Part>,
}

/// Speaks with Redis.
struct Keeper {
    store: Arc<Store>,
    apply: Script,
    list: Script,
    held: Script,
    evict: Script,
}

enum Part {
    Apply { node: NodeId, changes: Vec<(usize, Change)>, gather: Arc<Gather<Outcome>> },
    Restate { node: NodeId, channel: ChannelKey, connections: Vec<Member>, done: Done<Delta> },
    Evict { node: NodeId, gather: Arc<Gather<(ChannelKey, Delta)>>, gone: Gone },
}

/// Where an eviction's parts put what they find.
type Gone = Arc<std::sync::Mutex<Vec<(ChannelKey, Delta)>>>;

/// What is to become of a user's connections by one node.
enum Verb {
    Enter,
    Leave,
    Set(u64),
}

struct Step<'a> {
    channel: &'a ChannelKey,
    user: &'a User,
    name: Option<&'a str>,
    verb: Verb,
}

/// What a step did.
struct Stepped {
    came: bool,
    went: bool,
    users: u64,
    connections: u64,
}

impl RedisPresence {
    /// Leases go by the server's time.
    pub fn new(connection: Connection) -> Self {
        Self::with_time(connection, Time::Server)
    }

    /// For tests: leases go by `clock`.
    pub fn with_clock(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self::with_time(connection, Time::Given(clock))
    }

    fn with_time(connection: Connection, time: Time) -> Self {
        let store = Arc::new(Store::new(connection.clone(), "presence", time));
        let keeper = Arc::new(Keeper {
            store,
            apply: script!("lua/store.lua", "lua/memo.lua", "lua/lease.lua", "presence/apply.lua"),
            list: script!("presence/list.lua"),
            held: script!("lua/store.lua", "lua/lease.lua", "presence/held.lua"),
            evict: script!("lua/memo.lua", "presence/evict.lua"),
        });
        let queues = Queues::new(&connection, &keeper);
        Self { keeper, queues }
    }
}

impl Presence for RedisPresence {
    fn apply(&self, node: &NodeId, changes: Vec<Change>, done: Done<Vec<Outcome>>) {
        if changes.is_empty() {
            return done(Ok(Vec::new()));
        }
        if let Err(error) = self.queues.admit(changes.len()) {
            return done(Err(error));
        }
        let count = changes.len();
        let mut by_partition: HashMap<u8, Vec<(usize, Change)>> = HashMap::new();
        for (place, change) in changes.into_iter().enumerate() {
            by_partition.entry(of_hash(change.channel.hash64())).or_default().push((place, change));
        }
        let gather = Gather::new(count, by_partition.len(), done);
        for (partition, changes) in by_partition {
            let weight = changes.len();
            let part = Part::Apply { node: node.clone(), changes, gather: Arc::clone(&gather) };
            self.queues.push(partition, part, weight);
        }
    }

    fn restate(&self, node: &NodeId, channel: &ChannelKey, connections: Vec<Member>, done: Done<Delta>) {
        let weight = connections.len() + 1;
        if let Err(error) = self.queues.admit(weight) {
            return done(Err(error));
        }
        let (node, channel) = (node.clone(), channel.clone());
        let partition = of_hash(channel.hash64());
        self.queues.push(partition, Part::Restate { node, channel, connections, done }, weight);
    }

    fn list(&self, channel: &ChannelKey, limit: usize, done: Done<Roster>) {
        let (keeper, channel) = (Arc::clone(&self.keeper), channel.clone());
        self.keeper
            .store
            .connection
            .start(limit.min(PAGE) * 64, done, move |_| async move { keeper.list(&channel, limit).await });
    }

    fn renew(&self, node: &NodeId, done: Done<Lease>) {
        let (store, node) = (Arc::clone(&self.keeper.store), node.to_string());
        self.keeper.store.connection.start(0, done, move |_| store.renew(node));
    }

    fn lapsed(&self, done: Done<Vec<NodeId>>) {
        let store = Arc::clone(&self.keeper.store);
        self.keeper.store.connection.start(0, done, move |_| async move {
            Ok(store.lapsed().await?.iter().filter_map(|node| NodeId::new(node).ok()).collect())
        });
    }

    fn evict(&self, node: &NodeId, done: Done<Vec<(ChannelKey, Delta)>>) {
        if let Err(error) = self.queues.admit(usize::from(PARTITIONS)) {
            return done(Err(error));
        }
        self.keeper.store.forget(node.as_str());
        let gone = Gone::default();
        let found = Arc::clone(&gone);
        let all: Done<Vec<(ChannelKey, Delta)>> =
            Box::new(move |result| done(result.map(|_| std::mem::take(&mut *lock(&found)))));
        let gather = Gather::new(0, usize::from(PARTITIONS), all);
        for partition in 0..PARTITIONS {
            let (gather, gone) = (Arc::clone(&gather), Arc::clone(&gone));
            self.queues.push(partition, Part::Evict { node: node.clone(), gather, gone }, 1);
        }
    }
}

impl Worker for Keeper {
    type Part = Part;

    async fn work(&self, partition: u8, parts: Vec<Part>) {
        let mut batch = Vec::new();
        for part in parts {
            match part {
                Part::Apply { node, changes, gather } => batch.push((node, changes, gather)),
                other => {
                    self.apply(partition, std::mem::take(&mut batch)).await;
                    match other {
                        Part::Restate { node, channel, connections, done } => {
                            done(self.restate(partition, &node, &channel, connections).await);
                        }
                        Part::Evict { node, gather, gone } => {
                            if let Err(error) = self.evict(partition, &node, &gather, &gone).await {
                                gather.fail(&error);
                            }
                            gather.end_part();
                        }
                        Part::Apply { .. } => {}
                    }
                }
            }
        }
        self.apply(partition, batch).await;
    }
}

type Applying = (NodeId, Vec<(usize, Change)>, Arc<Gather<Outcome>>);

impl Keeper {
    /// Applies what several calls ask for, as few scripts as it takes, in order.
    async fn apply(&self, partition: u8, parts: Vec<Applying>) {
        let all = parts.iter().flat_map(|(node, changes, gather)| {
            changes.iter().map(move |(place, change)| (node, *place, change, gather))
        });
        let all: Vec<_> = all.collect();
        for of_node in all.chunk_by(|one, other| one.0 == other.0) {
            for some in of_node.chunks(BATCH) {
                let step = |(_, _, change, _): &(&NodeId, usize, &'_ Change, &Arc<Gather<Outcome>>)| {
                    (change.channel.clone(), change.member.clone(), change.enters)
                };
                let changes: Vec<_> = some.iter().map(step).collect();
                let steps: Vec<Step<'_>> = changes
                    .iter()
                    .map(|(channel, member, enters)| Step {
                        channel,
                        user: &member.user,
                        name: member.name.as_deref(),
                        verb: if *enters { Verb::Enter } else { Verb::Leave },
                    })
                    .collect();
                match self.step(partition, some[0].0, &steps).await {
                    Ok(stepped) => {
                        for ((_, place, _, gather), stepped) in some.iter().zip(stepped) {
                            gather.answer(*place, stepped.outcome());
                        }
                    }
                    Err(error) => some.iter().for_each(|(_, _, _, gather)| gather.fail(&error)),
                }
            }
        }
        parts.iter().for_each(|(_, _, gather)| gather.end_part());
    }

    /// At most [`BATCH`] steps of one node, in one script.
    async fn step(
        &self,
        partition: u8,
        node: &NodeId,
        steps: &[Step<'_>],
    ) -> Result<Vec<Stepped>, PortError> {
        let store = &self.store;
        let mut keys =
            vec![store.memo(partition), store.key(partition, "nodes"), self.index(partition, node)];
        let mut arguments =
            vec![store.now(), store.call(), node.to_string(), LEASE_MS.to_string(), String::new()];
        let mut channels: HashMap<&ChannelKey, usize> = HashMap::new();
        for step in steps {
            let next = channels.len() + 1;
            channels.entry(step.channel).or_insert_with(|| {
                keys.extend(self.channel(partition, step.channel, node));
                arguments.push(spell(step.channel));
                next
            });
        }
        arguments[4] = channels.len().to_string();
        for Step { channel, user, name, verb } in steps {
            let (verb, count) = match verb {
                Verb::Enter => ("enter", 0),
                Verb::Leave => ("leave", 0),
                Verb::Set(count) => ("set", *count),
            };
            let name = name.map_or(String::new(), |name| format!("={name}"));
            arguments.extend([
                channels[channel].to_string(),
                verb.into(),
                user.to_string(),
                count.to_string(),
                name,
            ]);
        }
        let numbers: Vec<u64> = store.invoke(&self.apply, &keys, &arguments).await?;
        if numbers.len() != 3 * steps.len() {
            return Err(strange());
        }
        let stepped = |three: &[u64]| Stepped {
            came: three[0] == 1,
            went: three[0] == 2,
            users: three[1],
            connections: three[2],
        };
        Ok(numbers.chunks_exact(3).map(stepped).collect())
    }

    async fn restate(
        &self,
        partition: u8,
        node: &NodeId,
        channel: &ChannelKey,
        connections: Vec<Member>,
    ) -> Result<Delta, PortError> {
        let before = self.held(partition, node, channel).await?;
        let mut places: HashMap<User, usize> = HashMap::new();
        let mut stated: Vec<(Member, u64)> = Vec::new();
        for member in connections {
            let place = *places.entry(member.user.clone()).or_insert(stated.len());
            match stated.get_mut(place) {
                Some((known, count)) => (known.name, *count) = (member.name, *count + 1),
                None => stated.push((member, 1)),
            }
        }
        let gone = before.into_iter().filter(|user| !places.contains_key(user));
        stated.extend(gone.map(|user| (Member { user, name: None }, 0)).collect::<Vec<_>>());

        let (mut delta, mut some_applied) = (Delta::default(), false);
        for some in stated.chunks(BATCH) {
            let steps: Vec<Step<'_>> = some.iter().map(|one| stated_step(channel, one)).collect();
            let stepped = match self.step(partition, node, &steps).await {
                Ok(stepped) => stepped,
                Err(error) if some_applied => return Err(PortError::new(Failure::Unknown, error.detail)),
                Err(error) => return Err(error),
            };
            some_applied = true;
            for ((member, _), stepped) in some.iter().zip(stepped) {
                delta.users = stepped.users;
                if stepped.came {
                    delta.joined.push(member.clone());
                } else if stepped.went {
                    delta.left.push(member.user.clone());
                }
            }
        }
        if stated.is_empty() {
            // What is still on its way comes too late now.
            self.step(partition, node, &[]).await?;
            delta.users = self.list(channel, 0).await?.users;
        }
        Ok(delta)
    }

    /// The users that `node` has in a channel.
    async fn held(&self, partition: u8, node: &NodeId, channel: &ChannelKey) -> Result<Vec<User>, PortError> {
        let [_, _, key] = self.channel(partition, channel, node);
        let (mut cursor, mut users) = ("0".to_owned(), Vec::new());
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(&key).arg(&cursor).arg("COUNT").arg(PAGE);
            let (next, fields): (String, Vec<String>) = self.store.connection.query(&scan).await?;
            users.extend(fields.iter().step_by(2).filter_map(|user| User::new(user).ok()));
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        // A scan may name somebody twice.
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    async fn list(&self, channel: &ChannelKey, limit: usize) -> Result<Roster, PortError> {
        let partition = of_hash(channel.hash64());
        let keys = ["c", "o"].map(|part| self.store.key(partition, &format!("{part}:{}", spell(channel))));
        let mut roster = Roster::default();
        let mut after = "0".to_owned();
        loop {
            let page = (limit - roster.members.len()).min(PAGE);
            // An empty page tells how many there are, too.
            let arguments = [after, page.to_string()];
            let mut answer: Vec<Value> = self.store.connection.invoke(&self.list, &keys, &arguments).await?;
            if answer.len() < 2 {
                return Err(strange());
            }
            let members = answer.split_off(2);
            roster.users = read(&answer[0])?;
            after = read(&answer[1])?;
            let came = members.len() / 2;
            for pair in members.chunks_exact(2) {
                let (user, name): (String, String) = (read(&pair[0])?, read(&pair[1])?);
                let user = User::new(&user).map_err(|_| strange())?;
                roster.members.push(Member { user, name: name.strip_prefix('=').map(Arc::from) });
            }
            if came < PAGE || roster.members.len() >= limit {
                // Between two pages somebody may have come or gone.
                roster.users = roster.users.max(roster.members.len() as u64);
                return Ok(roster);
            }
        }
    }

    async fn evict(
        &self,
        partition: u8,
        node: &NodeId,
        gather: &Gather<(ChannelKey, Delta)>,
        gone: &Gone,
    ) -> Result<(), PortError> {
        let store = &self.store;
        let index = self.index(partition, node);
        let keys = [store.key(partition, "nodes"), index.clone()];
        let mut first = "1";
        loop {
            let arguments = [node.to_string(), first.to_owned()];
            let some: Vec<String> = store.invoke(&self.held, &keys, &arguments).await?;
            first = "0";
            if some.is_empty() {
                return Ok(());
            }
            for name in some {
                let Some(channel) = unspell(&name) else { return Err(strange()) };
                let left = self.evict_from(partition, node, &channel, &index).await?;
                gather.applied();
                if !left.left.is_empty() {
                    lock(gone).push((channel, left));
                }
            }
        }
    }

    async fn evict_from(
        &self,
        partition: u8,
        node: &NodeId,
        channel: &ChannelKey,
        index: &str,
    ) -> Result<Delta, PortError> {
        let store = &self.store;
        let mut keys = vec![store.memo(partition), index.to_owned()];
        keys.extend(self.channel(partition, channel, node));
        let mut delta = Delta::default();
        loop {
            let arguments = [store.call(), spell(channel), BATCH.to_string()];
            let answer: Vec<Value> = store.invoke(&self.evict, &keys, &arguments).await?;
            let [users, more, left @ ..] = &answer[..] else { return Err(strange()) };
            delta.users = read(users)?;
            for user in left {
                delta.left.push(User::new(&read::<String>(user)?).map_err(|_| strange())?);
            }
            if read::<u8>(more)? == 0 {
                return Ok(delta);
            }
        }
    }

    fn index(&self, partition: u8, node: &NodeId) -> String {
        self.store.key(partition, &format!("held:{node}"))
    }

    fn channel(&self, partition: u8, channel: &ChannelKey, node: &NodeId) -> [String; 3] {
        let name = spell(channel);
        // A node's id holds no colon, so its end is known.
        [format!("c:{name}"), format!("o:{name}"), format!("n:{node}:{name}")]
            .map(|part| self.store.key(partition, &part))
    }
}

impl Stepped {
    fn outcome(&self) -> Outcome {
        let Self { came, went, users, connections } = *self;
        Outcome { transition: came || went, users, connections }
    }
}

fn stated_step<'a>(channel: &'a ChannelKey, (member, count): &'a (Member, u64)) -> Step<'a> {
    Step { channel, user: &member.user, name: member.name.as_deref(), verb: Verb::Set(*count) }
}

/// An app's name holds no colon, so both can be read again.
pub(crate) fn spell(channel: &ChannelKey) -> String {
    format!("{}:{}", channel.app, channel.name)
}

pub(crate) fn unspell(text: &str) -> Option<ChannelKey> {
    let (app, name) = text.split_once(':')?;
    Some(ChannelKey::new(App::new(app).ok()?, Channel::new(name).ok()?))
}

pub(crate) fn read<T: redis::FromRedisValue>(value: &Value) -> Result<T, PortError> {
    T::from_redis_value(value.clone()).map_err(|_| strange())
}

/// Redis answers what our scripts never do: somebody else writes under our keys, or an unlike release does.
pub(crate) fn strange() -> PortError {
    PortError::new(Failure::Unknown, "redis: an answer that cannot be read")
}
