//! What is done once, in the order in which it was asked for, and answered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use xpush_core::placement::{BadRing, Ring};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{NodeId, NodeName, SettingName};
use zookeeper_client::{CheckWriteError, Client, CreateMode, Error};

use crate::candidacy;
use crate::registration::delete;
use crate::state::{Phase, Shared};
use crate::tree::{DRAINING, MEMBERS, PLANNERS, RING, SETTINGS, holder, read};

/// What is asked for, until when ZooKeeper has to be within reach, and who waits for it.
pub(crate) struct Operation {
    pub(crate) what: What,
    pub(crate) deadline: Instant,
}

pub(crate) enum What {
    Publish(Arc<Ring>, Done<()>),
    Drain(NodeName, bool, Done<()>),
    Remove(NodeId, Done<()>),
    Set(SettingName, u64, Bytes, Done<u64>),
}

impl Operation {
    pub(crate) async fn perform(self, shared: &Shared) {
        let client = match shared.client(self.deadline).await {
            Ok(client) => client,
            Err(error) => return self.fail(error),
        };
        match self.what {
            What::Publish(ring, done) => done(publish(shared, &client, &ring).await),
            What::Drain(name, true, done) => done(drain(shared, &client, &name).await.map_err(failed)),
            What::Drain(name, false, done) => {
                done(delete(&client, &format!("{DRAINING}/{name}"), None).await.map_err(failed));
            }
            What::Remove(id, done) => done(remove(shared, &client, &id).await.map_err(failed)),
            What::Set(name, expected, value, done) => {
                done(set(shared, &client, &name, expected, &value).await);
            }
        }
    }

    /// Nothing comes of it.
    pub(crate) fn fail(self, error: PortError) {
        match self.what {
            What::Publish(_, done) | What::Drain(_, _, done) | What::Remove(_, done) => done(Err(error)),
            What::Set(_, _, _, done) => done(Err(error)),
        }
    }
}

async fn set(
    shared: &Shared,
    client: &Client,
    name: &SettingName,
    expected: u64,
    value: &Bytes,
) -> Result<u64, PortError> {
    let path = format!("{SETTINGS}/{name}");
    loop {
        let found = read(client, &path).await.map_err(failed)?;
        let there = found.as_ref().map(|(data, stat)| (u64::try_from(stat.version).unwrap_or(0) + 1, data));
        match there {
            Some((generation, data)) if generation == expected.saturating_add(1) && data[..] == value[..] => {
                return Ok(generation);
            }
            there => {
                let generation = there.map_or(0, |(generation, _)| generation);
                if generation != expected {
                    let detail = format!("{name} is of generation {generation}");
                    return Err(PortError::new(Failure::Conflict, detail));
                }
            }
        }
        let written = match found {
            Some((_, stat)) => client.set_data(&path, value, Some(stat.version)).await.map(drop),
            None => {
                client.create(&path, value, &shared.options.create(CreateMode::Persistent)).await.map(drop)
            }
        };
        match written {
            Ok(()) => return Ok(expected + 1),
            // Somebody has written meanwhile: what is there now decides.
            Err(Error::BadVersion | Error::NodeExists | Error::NoNode) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

async fn publish(shared: &Shared, client: &Client, ring: &Arc<Ring>) -> Result<(), PortError> {
    let record = ring.encode();
    let fenced = || {
        let detail = format!("no planner of term {} is elected here", ring.term());
        Err(PortError::new(Failure::Fenced, detail))
    };
    loop {
        let published = read(client, RING).await.map_err(failed)?;
        if published.as_ref().is_some_and(|(data, _)| *data == record) {
            return Ok(());
        }
        let Some(candidate) = elected(shared, ring.term()) else { return fenced() };
        let (generation, version) = match published {
            None => (0, None),
            Some((data, stat)) => match Ring::decode(&data) {
                Ok(there) if there.term() > ring.term() => return fenced(),
                Ok(there) => (there.generation(), Some(stat.version)),
                Err(why @ BadRing::Version(_)) => {
                    return Err(PortError::new(Failure::Conflict, why.to_string()));
                }
                // Garbage stands where the newest good one stood.
                Err(_) => {
                    let known = shared.lock().tree.ring.clone();
                    (known.map_or(0, |ring| ring.generation()), Some(stat.version))
                }
            },
        };
        if generation.checked_add(1) != Some(ring.generation()) {
            let detail = format!("generation {} cannot follow generation {generation}", ring.generation());
            return Err(PortError::new(Failure::Conflict, detail));
        }
        // As long as its znode is there, nobody else is elected.
        let mut writer = client.new_check_writer(&format!("{PLANNERS}/{candidate}"), None).map_err(failed)?;
        match version {
            Some(version) => writer.add_set_data(RING, &record, Some(version)),
            None => writer.add_create(RING, &record, &shared.options.create(CreateMode::Persistent)),
        }
        .map_err(failed)?;
        match writer.commit().await {
            Ok(_) => return Ok(()),
            Err(CheckWriteError::CheckFailed { source: Error::NoNode }) => return fenced(),
            // Somebody has written meanwhile: what is there now decides.
            Err(CheckWriteError::OperationFailed {
                source: Error::BadVersion | Error::NodeExists | Error::NoNode,
                ..
            }) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// The candidacy of this handle that has been elected with this term.
fn elected(shared: &Shared, term: u64) -> Option<String> {
    let state = shared.lock();
    let members = state.own.values().filter(|own| own.phase == Phase::In);
    let mut candidacies = members.filter_map(|own| own.candidacy.as_ref());
    candidacies.find(|candidacy| candidacy.term == Some(term)).map(|candidacy| candidacy.child.clone())
}

async fn drain(shared: &Shared, client: &Client, name: &NodeName) -> Result<(), Error> {
    let durable = shared.options.create(CreateMode::Persistent);
    match client.create(&format!("{DRAINING}/{name}"), b"", &durable).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn remove(shared: &Shared, client: &Client, id: &NodeId) -> Result<(), Error> {
    let name = {
        let state = shared.lock();
        let node = state.tree.nodes.iter().find(|node| node.id == *id);
        node.map(|node| node.name.clone())
    };
    if let Some(name) = name {
        let path = format!("{MEMBERS}/{name}");
        if let Some((data, stat)) = read(client, &path).await?
            && holder(&name, &data).is_ok_and(|node| node.id == *id)
        {
            delete(client, &path, Some(&stat)).await?;
        }
    }
    for child in candidacy::of(&client.list_children(PLANNERS).await?, id) {
        delete(client, &format!("{PLANNERS}/{child}"), None).await?;
    }
    Ok(())
}

/// What became of an operation that ended like this.
pub(crate) fn failed(error: Error) -> PortError {
    let kind = match &error {
        // It was on its way, or may have been.
        Error::ConnectionLoss | Error::SessionExpired | Error::ClientClosed | Error::Custom(_) => {
            Failure::Unknown
        }
        Error::Throttled => Failure::Overloaded,
        Error::QuotaExceeded => Failure::Full,
        _ => Failure::NotApplied,
    };
    PortError::new(kind, error.to_string())
}
