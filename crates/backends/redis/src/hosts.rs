//! Who hosts what, in partitions of channels: each with the leases of servers and with the channels that each server has reported.

use std::collections::HashMap;
use std::sync::Arc;

use xpush_core::ports::hosts::{Host, Hosts};
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::{Done, PortError};
use xpush_core::{ChannelKey, Clock, NodeName};

use crate::connection::Connection;
use crate::partition::{Gather, PARTITIONS, Queues, Store, Time, Worker, everywhere, of_hash};
use crate::presence::{spell, strange};
use crate::script::{Script, script};

/// Channels in one script.
const BATCH: usize = 256;

/// [`Hosts`] of all servers that share a Redis.
pub struct RedisHosts {
    keeper: Arc<Keeper>,
    queues: Queues<Part>,
}

/// Speaks with Redis.
struct Keeper {
    store: Arc<Store>,
    report: Script,
    find: Script,
    evict: Script,
}

enum Part {
    Report { name: NodeName, connections: Vec<(ChannelKey, u64)>, gather: Arc<Gather<()>> },
    Evict { name: NodeName, gather: Arc<Gather<()>> },
}

impl RedisHosts {
    /// Leases go by the server's time.
    pub fn new(connection: Connection) -> Self {
        Self::with_time(connection, Time::Server)
    }

    /// For tests: leases go by `clock`.
    pub fn with_clock(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self::with_time(connection, Time::Given(clock))
    }

    fn with_time(connection: Connection, time: Time) -> Self {
        let keeper = Arc::new(Keeper {
            store: Arc::new(Store::new(connection.clone(), "hosts", time)),
            report: script!("lua/store.lua", "lua/lease.lua", "hosts/report.lua"),
            find: script!("lua/store.lua", "lua/lease.lua", "hosts/find.lua"),
            evict: script!("lua/store.lua", "lua/lease.lua", "hosts/evict.lua"),
        });
        let queues = Queues::new(&connection, &keeper);
        Self { keeper, queues }
    }

    fn store(&self) -> &Arc<Store> {
        &self.keeper.store
    }
}

impl Hosts for RedisHosts {
    fn report(&self, name: &NodeName, connections: Vec<(ChannelKey, u64)>, done: Done<()>) {
        if connections.is_empty() {
            return done(Ok(()));
        }
        if let Err(error) = self.queues.admit(connections.len()) {
            return done(Err(error));
        }
        let mut by_partition: HashMap<u8, Vec<(ChannelKey, u64)>> = HashMap::new();
        for (channel, count) in connections {
            by_partition.entry(of_hash(channel.hash64())).or_default().push((channel, count));
        }
        let all: Done<Vec<()>> = Box::new(move |result| done(result.map(|_| ())));
        let gather = Gather::new(0, by_partition.len(), all);
        for (partition, connections) in by_partition {
            let weight = connections.len();
            let part = Part::Report { name: name.clone(), connections, gather: Arc::clone(&gather) };
            self.queues.push(partition, part, weight);
        }
    }

    fn find(&self, channels: Vec<ChannelKey>, done: Done<Vec<Vec<Host>>>) {
        let keeper = Arc::clone(&self.keeper);
        self.store()
            .connection
            .start(channels.len() * 64, done, move |_| async move { keeper.find(channels).await });
    }

    fn renew(&self, name: &NodeName, done: Done<Lease>) {
        let (store, name) = (Arc::clone(self.store()), name.to_string());
        self.store().connection.start(0, done, move |_| store.renew(name));
    }

    fn evict(&self, name: &NodeName, done: Done<()>) {
        if let Err(error) = self.queues.admit(usize::from(PARTITIONS)) {
            return done(Err(error));
        }
        self.store().forget(name.as_str());
        let all: Done<Vec<()>> = Box::new(move |result| done(result.map(|_| ())));
        let gather = Gather::new(0, usize::from(PARTITIONS), all);
        (0..PARTITIONS).for_each(|partition| {
            self.queues.push(partition, Part::Evict { name: name.clone(), gather: Arc::clone(&gather) }, 1);
        });
    }
}

impl Worker for Keeper {
    type Part = Part;

    async fn work(&self, partition: u8, parts: Vec<Part>) {
        for part in parts {
            let (result, gather) = match part {
                Part::Report { name, connections, gather } => {
                    (self.report(partition, &name, &connections, &gather).await, gather)
                }
                Part::Evict { name, gather } => (self.evict(partition, &name).await, gather),
            };
            if let Err(error) = result {
                gather.fail(&error);
            }
            gather.end_part();
        }
    }
}

impl Keeper {
    async fn report(
        &self,
        partition: u8,
        name: &NodeName,
        connections: &[(ChannelKey, u64)],
        gather: &Gather<()>,
    ) -> Result<(), PortError> {
        let keys = self.keys(partition, name);
        for some in connections.chunks(BATCH) {
            let mut arguments = vec![self.store.now(), name.to_string(), LEASE_MS.to_string()];
            arguments.extend(some.iter().flat_map(|(channel, count)| [spell(channel), count.to_string()]));
            self.store.invoke::<u64>(&self.report, &keys, &arguments).await?;
            gather.applied();
        }
        Ok(())
    }

    async fn find(self: Arc<Self>, channels: Vec<ChannelKey>) -> Result<Vec<Vec<Host>>, PortError> {
        let mut by_partition: HashMap<u8, Vec<usize>> = HashMap::new();
        for (index, channel) in channels.iter().enumerate() {
            by_partition.entry(of_hash(channel.hash64())).or_default().push(index);
        }
        let count = channels.len();
        let asked = Arc::new((by_partition, channels));
        let look = |partition: u8| {
            let (this, asked) = (Arc::clone(&self), Arc::clone(&asked));
            async move {
                let (by_partition, channels) = &*asked;
                let mut found = Vec::new();
                for some in by_partition.get(&partition).into_iter().flat_map(|of| of.chunks(BATCH)) {
                    let mut arguments = vec![this.store.now()];
                    arguments.extend(some.iter().map(|index| spell(&channels[*index])));
                    let keys = [this.store.key(partition, "nodes"), this.store.key(partition, "hosts")];
                    let answer: Vec<Vec<String>> =
                        this.store.connection.invoke(&this.find, &keys, &arguments).await?;
                    found.extend(some.iter().copied().zip(answer));
                }
                Ok(found)
            }
        };
        let mut hosts = vec![Vec::new(); count];
        for (index, found) in everywhere(look).await?.into_iter().flatten() {
            let host = |pair: &[String]| {
                let name = NodeName::new(&pair[0]).map_err(|_| strange())?;
                Ok(Host { name, connections: pair[1].parse().map_err(|_| strange())? })
            };
            hosts[index] = found.chunks_exact(2).map(host).collect::<Result<Vec<Host>, PortError>>()?;
            hosts[index].sort_unstable_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(hosts)
    }

    async fn evict(&self, partition: u8, name: &NodeName) -> Result<(), PortError> {
        let keys = self.keys(partition, name);
        let mut first = "1";
        loop {
            let arguments = [name.to_string(), BATCH.to_string(), first.to_owned()];
            if self.store.invoke::<u64>(&self.evict, &keys, &arguments).await? == 0 {
                return Ok(());
            }
            first = "0";
        }
    }

    fn keys(&self, partition: u8, name: &NodeName) -> [String; 3] {
        let index = format!("of:{name}");
        ["nodes", &index, "hosts"].map(|part| self.store.key(partition, part))
    }
}
