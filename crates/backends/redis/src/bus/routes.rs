//! Where channels lie in a Cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Core, lane};
use crate::options::{Address, Deployment};
use crate::resp::Frame;
use crate::server::{Backoff, ConnectError};
use crate::stream::Socket;

/// Slots of a Cluster.
pub(super) const SLOTS: usize = 16_384;
/// How often servers are asked without a reason.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait at least before they are asked again: what has just moved has no owner for a moment.
const AT_LEAST: Duration = Duration::from_millis(100);

/// Keeps lanes to where channels lie, until it is aborted.
pub(super) async fn keep(core: Arc<Core>) {
    let mut backoff = Backoff::default();
    let mut asker: Option<Socket> = None;
    loop {
        match refresh(&core, &mut asker).await {
            Ok(true) => {
                backoff = Backoff::default();
                sleep(AT_LEAST).await;
                let _ = timeout(INTERVAL, core.moved.notified()).await;
            }
            // An old Cluster: one lane is enough, wherever things lie.
            Ok(false) => return,
            Err(error) => {
                asker = None;
                backoff.tell("the Cluster of redis", &error);
                core.change(|state| state.no_routes(error));
                sleep(backoff.next()).await;
            }
        }
    }
}

/// Asks where the slots are. False: channels are not sharded here.
async fn refresh(core: &Arc<Core>, asker: &mut Option<Socket>) -> Result<bool, ConnectError> {
    let mut socket = match asker.take() {
        Some(socket) => socket,
        None => any_node(core).await?,
    };
    if !socket.greeting.shards_channels() {
        let id = core.state().add_lane(None);
        start(core, id);
        return Ok(false);
    }
    let asked = timeout(core.options.command_timeout, socket.ask(&[b"CLUSTER", b"SLOTS"]));
    let answer = asked.await.unwrap_or_else(|_| Err(ConnectError::silent()))?;
    let owners = owners(&answer, &socket.address)
        .ok_or_else(|| ConnectError::new(format!("{}: cannot say where slots are", socket.address)))?;
    let mut new = Vec::new();
    core.change(|state| {
        let (lanes, effects) = state.reroute(&owners);
        new = lanes;
        effects
    });
    new.into_iter().for_each(|id| start(core, id));
    *asker = Some(socket);
    Ok(true)
}

fn start(core: &Arc<Core>, id: u32) {
    let task = tokio::spawn(lane::run(core.clone(), id)).abort_handle();
    core.state().set_task(id, task);
}

/// The first node that answers: of those that have lanes, then of those that the options name.
async fn any_node(core: &Core) -> Result<Socket, ConnectError> {
    let mut nodes = core.state().addresses();
    if let Deployment::Cluster(named) = &core.options.deployment {
        nodes.extend(named.iter().cloned());
    }
    let mut trouble = ConnectError::silent();
    for address in nodes {
        match Socket::open(&core.options, &address).await {
            Ok(socket) if socket.greeting.mode == "cluster" => return Ok(socket),
            Ok(_) => trouble = ConnectError::new(format!("{address} is no node of a Cluster")),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

/// The master of each slot, from the answer to `CLUSTER SLOTS`: `[first, last, [host, port, …], replicas…]` for each run of slots. A host that a node
/// does not know is the one under which it was asked.
fn owners(answer: &Frame, asked: &Address) -> Option<Vec<Option<Address>>> {
    let Frame::Array(runs) = answer else { return None };
    let mut owners = vec![None; SLOTS];
    for run in runs {
        let Frame::Array(parts) = run else { return None };
        let [Frame::Integer(first), Frame::Integer(last), Frame::Array(master), ..] = &parts[..] else {
            return None;
        };
        let host = master.first()?.text().filter(|host| !host.is_empty() && *host != "?");
        let Some(Frame::Integer(port)) = master.get(1) else { return None };
        let port = u16::try_from(*port).ok()?;
        let address = Address::new(host.unwrap_or(&asked.host), port);
        let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
        owners.get_mut(first..=last.max(first))?.fill(Some(address));
    }
    Some(owners)
}

/// The slot of a key or a sharded channel: of what stands between the first `{` and the next `}`, unless that is nothing; otherwise of all of it.
pub(super) fn slot_of(name: &[u8]) -> u16 {
    let tag = name.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0)?;
        Some(&rest[..close])
    });
    crc16(tag.unwrap_or(name)) % 16_384
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let mut crc = crc ^ (u16::from(*byte) << 8);
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // CRC16("123456789") and the slots stand in the specification of Redis Cluster; the others were asked of a server.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"123456789"), 12_739);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16_384);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_none() {
        let asked = Address::new("a", 7);
        let master = |host: &str| Frame::Array(vec![Frame::Text(host.to_owned().into()), Frame::Integer(7)]);
        let run = |first, last, master| {
            Frame::Array(vec![Frame::Array(vec![Frame::Integer(first), Frame::Integer(last), master])])
        };
        let whole = owners(&run(0, 16_383, master("")), &asked).unwrap();
        assert!(whole.iter().all(|owner| *owner == Some(asked.clone())));
        assert!(owners(&run(0, 16_384, master("b")), &asked).is_none());
        assert!(owners(&run(-1, 5, master("b")), &asked).is_none());
        assert!(owners(&run(0, 5, Frame::Null), &asked).is_none());
        assert!(owners(&Frame::Null, &asked).is_none());
    }
}
