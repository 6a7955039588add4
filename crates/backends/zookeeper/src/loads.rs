//! What nodes carry. Each writes its own znode, which nobody watches; the holder of the first node of the view gathers them into one record, which everybody
//! watches: with a thousand nodes it is a thousand small writes and reads in some seconds, instead of a million notifications.

use std::collections::BTreeMap;

use xpush_core::NodeId;
use xpush_core::ports::cluster::Load;
use zookeeper_client::{Client, CreateMode, Error};

use crate::record::{decode_loads, encode_loads};
use crate::state::{Phase, Shared};
use crate::tree::{LOADS, OWN_LOADS, read_each};

/// With so many nodes loads are gathered every second, with twice as many every two seconds.
const GATHERED_A_SECOND: usize = 200;

/// Once a second: writes what the members carry, and gathers what all carry.
pub(crate) async fn tick(shared: &Shared, client: &Client, count: u64) -> Result<(), Error> {
    report(shared, client).await?;
    let nodes = {
        let state = shared.lock();
        let first = state.tree.nodes.first().map(|node| &node.id);
        let gathers = first.and_then(|id| state.own.get(id)).is_some_and(|own| own.phase == Phase::In);
        if gathers { state.tree.nodes.len() } else { 0 }
    };
    let every = nodes.div_ceil(GATHERED_A_SECOND) as u64;
    if every != 0 && count.is_multiple_of(every) { gather(shared, client).await } else { Ok(()) }
}

async fn report(shared: &Shared, client: &Client) -> Result<(), Error> {
    let news: Vec<(NodeId, Load)> = {
        let state = shared.lock();
        let own = state.own.iter().filter(|(_, own)| own.phase == Phase::In && own.load != own.written);
        own.filter_map(|(id, own)| Some((id.clone(), own.load?))).collect()
    };
    for (id, load) in news {
        let data = encode_loads(&BTreeMap::from([(id.clone(), load)]));
        write(shared, client, &format!("{OWN_LOADS}/{id}"), &data, CreateMode::Ephemeral).await?;
        if let Some(own) = shared.lock().own.get_mut(&id) {
            own.written = Some(load);
        }
    }
    Ok(())
}

async fn gather(shared: &Shared, client: &Client) -> Result<(), Error> {
    let children = client.list_children(OWN_LOADS).await?;
    let found = read_each(client, OWN_LOADS, &children).await?;
    let mut all = BTreeMap::new();
    let known = {
        let mut state = shared.lock();
        for (child, data) in &found {
            let Some((data, stat)) = data else { continue };
            match decode_loads(data) {
                Ok(loads) => all.extend(loads.into_iter().filter(|(id, _)| id.as_str() == child)),
                Err(why) => state.tree.refuse(&format!("{OWN_LOADS}/{child}"), stat.mzxid, &why),
            }
        }
        all.retain(|id, _| state.tree.nodes.binary_search_by(|node| node.id.cmp(id)).is_ok());
        state.tree.loads.clone()
    };
    if *known == all {
        return Ok(());
    }
    write(shared, client, LOADS, &encode_loads(&all), CreateMode::Persistent).await
}

async fn write(
    shared: &Shared,
    client: &Client,
    path: &str,
    data: &[u8],
    mode: CreateMode,
) -> Result<(), Error> {
    loop {
        match client.set_data(path, data, None).await {
            Err(Error::NoNode) => {}
            ended => return ended.map(drop),
        }
        match client.create(path, data, &shared.options.create(mode)).await {
            Err(Error::NodeExists) => {}
            ended => return ended.map(drop),
        }
    }
}
