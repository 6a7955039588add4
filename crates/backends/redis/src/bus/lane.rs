//! A lane: one connection with one server, made anew whenever it breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::Core;
use super::traffic::Traffic;
use crate::options::{Address, Deployment};
use crate::server::{Backoff, ConnectError, master};
use crate::stream::Socket;

/// Serves a lane until it is aborted.
pub(super) async fn run(core: Arc<Core>, lane: u32) {
    let mut backoff = Backoff::default();
    loop {
        let Some((address, wake)) = core.state().lane_ends(lane) else { return };
        let (why, under_way) = match connect(&core, address).await {
            Ok(socket) => {
                core.counters.connections.fetch_add(1, Ordering::Relaxed);
                let sharded = socket.greeting.shards_channels();
                let traffic = Traffic::new(core.clone(), lane, socket.address.clone(), sharded, wake);
                let why = traffic.carry(socket).await;
                if traffic.worked() {
                    backoff = Backoff::default();
                }
                (why, traffic.under_way())
            }
            Err(why) => (why, Vec::new()),
        };
        backoff.tell("the bus on redis", &why);
        core.change(|state| {
            let mut effects = state.lane_down(lane, why, under_way);
            // In a Cluster it may be that somebody else has taken over.
            effects.moved = true;
            effects
        });
        sleep(backoff.next()).await;
    }
}

/// To `address`, or to whoever the options name.
async fn connect(core: &Core, address: Option<Address>) -> Result<Socket, ConnectError> {
    let options = &core.options;
    let socket = match (&options.deployment, address) {
        (_, Some(address)) => return Socket::open(options, &address).await,
        (Deployment::Single(address), None) => Socket::open(options, address).await?,
        (Deployment::Sentinel { .. }, None) => {
            let master = master(options).await?;
            let socket = Socket::open(options, &master).await?;
            if socket.greeting.role != "master" {
                return Err(ConnectError::new(format!("{master}: is no master yet")));
            }
            socket
        }
        // An old Cluster sends everything everywhere: any node will do.
        (Deployment::Cluster(nodes), None) => {
            let mut trouble = ConnectError::silent();
            for address in nodes {
                match Socket::open(options, address).await {
                    Ok(socket) => return Ok(socket),
                    Err(error) => trouble = error,
                }
            }
            return Err(trouble);
        }
    };
    if socket.greeting.mode == "cluster" {
        let text = format!("{} is a node of a Cluster: name two of its nodes or more", socket.address);
        return Err(ConnectError::new(text));
    }
    Ok(socket)
}
