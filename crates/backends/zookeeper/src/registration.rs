//! Getting members into ZooKeeper, and out of it.

use zookeeper_client::{Client, CreateMode, Error, Stat};

use xpush_core::ports::cluster::Node;
use xpush_core::{NodeId, NodeName};

use crate::record::encode_node;
use crate::state::{Leaving, Phase, Shared};
use crate::tree::{MEMBERS, OWN_LOADS, PLANNERS, holder, read};
use crate::{candidacy, record::BadRecord};

/// What is to become of a name that somebody has.
enum Verdict {
    /// It is ours, as it should be.
    Ours,
    /// What is there is over: ours takes its place.
    Replace,
    /// It is another node's.
    Taken(String),
}

/// Takes everybody out who leaves.
pub(crate) async fn take_out(shared: &Shared, client: &Client) -> Result<(), Error> {
    loop {
        let next = shared.lock().leaving.first().map(|leaving| (leaving.id.clone(), leaving.name.clone()));
        let Some((id, name)) = next else { return Ok(()) };
        if let Some(name) = &name {
            let path = format!("{MEMBERS}/{name}");
            if let Some((data, stat)) = read(client, &path).await?
                && holder(name, &data).is_ok_and(|node| node.id == id)
            {
                delete(client, &path, Some(&stat)).await?;
            }
            delete(client, &format!("{OWN_LOADS}/{id}"), None).await?;
        }
        for child in candidacy::of(&client.list_children(PLANNERS).await?, &id) {
            delete(client, &format!("{PLANNERS}/{child}"), None).await?;
        }
        let mut state = shared.lock();
        let Leaving { done, .. } = state.leaving.remove(0);
        if let Some(name) = &name {
            let before = state.tree.nodes.clone();
            state.tree.drop_member(name, &id);
            if before != state.tree.nodes {
                state.announce();
            }
        }
        drop(state);
        if let Some(done) = done {
            done(Ok(()));
        }
    }
}

/// Lets everybody in who is not.
pub(crate) async fn let_in(shared: &Shared, client: &Client) -> Result<(), Error> {
    let waiting: Vec<(Node, bool)> = {
        let state = shared.lock();
        let free = |name: &NodeName, id: &NodeId| state.tree.member(name).is_none_or(|node| node.id == *id);
        let out = state.own.values().filter(|own| own.phase != Phase::In);
        // Who was in before waits until its name is free.
        let ready = out.filter(|own| !own.registered || free(&own.node.name, &own.node.id));
        ready.map(|own| (own.node.clone(), own.registered)).collect()
    };
    for (node, registered) in waiting {
        register(shared, client, &node, registered).await?;
    }
    Ok(())
}

async fn register(shared: &Shared, client: &Client, node: &Node, registered: bool) -> Result<(), Error> {
    let path = format!("{MEMBERS}/{}", node.name);
    let data = encode_node(node);
    let ephemeral = shared.options.create(CreateMode::Ephemeral);
    loop {
        match client.create(&path, &data, &ephemeral).await {
            Ok(_) => break,
            Err(Error::NodeExists) => {}
            Err(error) => return Err(error),
        }
        let Some((found, stat)) = read(client, &path).await? else { continue };
        let ours = stat.ephemeral_owner == client.session_id().0;
        match judge(node, registered, ours && found == data, holder(&node.name, &found)) {
            Verdict::Ours => break,
            Verdict::Taken(why) => {
                shared.refused(node, why);
                return Ok(());
            }
            Verdict::Replace => {
                let mut writer = client.new_multi_writer();
                writer.add_delete(&path, Some(stat.version))?;
                writer.add_create(&path, &data, &ephemeral)?;
                match writer.commit().await.map_err(Error::from) {
                    Ok(_) => break,
                    // Somebody else was quicker: look again.
                    Err(Error::NoNode | Error::BadVersion | Error::NodeExists) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    shared.registered(node);
    Ok(())
}

fn judge(node: &Node, registered: bool, ours: bool, there: Result<Node, BadRecord>) -> Verdict {
    match there {
        _ if ours => Verdict::Ours,
        Ok(there) if there.id == node.id => Verdict::Replace,
        // A later start has come: it is not for the earlier one to take the name back.
        Ok(there) if node.installation != 0 && there.installation == node.installation && !registered => {
            Verdict::Replace
        }
        Ok(there) => {
            Verdict::Taken(format!("the name {} is that of node {}, which lives", node.name, there.id))
        }
        Err(why) => {
            Verdict::Taken(format!("the name {} is held by a record that is no good: {why}", node.name))
        }
    }
}

/// Deletes a znode, if it is still the one that was read.
pub(crate) async fn delete(client: &Client, path: &str, read: Option<&Stat>) -> Result<(), Error> {
    match client.delete(path, read.map(|stat| stat.version)).await {
        Err(Error::NoNode | Error::BadVersion) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}
