//! Standing for planner: the candidate whose znode has the lowest number is elected, and its term is the transaction that made the znode. Each watches only
//! the one before it, so that an election wakes one node, and not all.

use std::sync::{Arc, Weak};

use tokio::task::AbortHandle;
use xpush_core::NodeId;
use zookeeper_client::{Client, CreateMode, Error, OneshotWatcher};

use crate::registration::delete;
use crate::state::{Phase, Shared};
use crate::tree::PLANNERS;

/// A member's candidacy.
pub(crate) struct Candidacy {
    /// The znode's name.
    pub(crate) child: String,
    /// While it is elected.
    pub(crate) term: Option<u64>,
    /// Something has happened to the znode that is watched.
    pub(crate) stale: bool,
    watch: AbortHandle,
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Sees to it that who wants to plan stands for it.
pub(crate) async fn stand(shared: &Arc<Shared>, client: &Client) -> Result<(), Error> {
    let wanting: Vec<(NodeId, Option<String>)> = {
        let state = shared.lock();
        let wanting = state.own.iter().filter(|(_, own)| {
            let settled = own.candidacy.as_ref().is_some_and(|candidacy| !candidacy.stale);
            own.campaigns && own.phase == Phase::In && !settled
        });
        let child = |candidacy: &Option<Candidacy>| candidacy.as_ref().map(|one| one.child.clone());
        wanting.map(|(id, own)| (id.clone(), child(&own.candidacy))).collect()
    };
    for (id, child) in wanting {
        let (child, term, watcher) = place(shared, client, &id, child).await?;
        let watch = tokio::spawn(look_again(Arc::downgrade(shared), id.clone(), watcher)).abort_handle();
        let candidacy = Candidacy { child, term, stale: false, watch };
        let mut state = shared.lock();
        if let Some(own) = state.own.get_mut(&id).filter(|own| own.phase == Phase::In) {
            let before = own.candidacy.replace(candidacy).and_then(|before| before.term);
            if before != term {
                state.announce();
            }
        }
    }
    Ok(())
}

/// Where the candidate `id` stands: its znode, its term if it is elected, and what tells when that may have changed.
async fn place(
    shared: &Shared,
    client: &Client,
    id: &NodeId,
    known: Option<String>,
) -> Result<(String, Option<u64>, OneshotWatcher), Error> {
    loop {
        let mut all = client.list_children(PLANNERS).await?;
        all.retain(|child| parse(child).is_some());
        all.sort_unstable_by_key(|child| parse(child).map(|(_, sequence)| sequence));
        let mut mine = None;
        for child in of(&all, id) {
            let path = format!("{PLANNERS}/{child}");
            let ours = client.check_stat(&path).await?;
            let ours = ours.is_some_and(|stat| stat.ephemeral_owner == client.session_id().0);
            if ours && (mine.is_none() || known.as_deref() == Some(child)) {
                mine = Some(child);
            } else if !ours {
                // Of a session that is over.
                delete(client, &path, None).await?;
            }
        }
        let Some(mine) = mine else {
            let sequential = shared.options.create(CreateMode::EphemeralSequential);
            client.create(&format!("{PLANNERS}/{id}-"), id.as_str().as_bytes(), &sequential).await?;
            continue;
        };
        let at = all.iter().position(|child| child == mine).unwrap_or_default();
        let watched = if at == 0 { mine } else { all[at - 1].as_str() };
        let (stat, watcher) = client.check_and_watch_stat(&format!("{PLANNERS}/{watched}")).await?;
        let Some(stat) = stat else { continue };
        let term = if at == 0 { u64::try_from(stat.czxid).ok() } else { None };
        return Ok((mine.to_owned(), term, watcher));
    }
}

async fn look_again(shared: Weak<Shared>, id: NodeId, watcher: OneshotWatcher) {
    watcher.changed().await;
    let Some(shared) = shared.upgrade() else { return };
    if let Some(candidacy) = shared.lock().own.get_mut(&id).and_then(|own| own.candidacy.as_mut()) {
        candidacy.stale = true;
    }
    shared.wake.notify_one();
}

/// The znodes among `children` by which the node `id` stands.
pub(crate) fn of<'a>(children: &'a [String], id: &NodeId) -> impl Iterator<Item = &'a str> {
    let id = id.clone();
    let its = move |child: &&str| parse(child).is_some_and(|(candidate, _)| candidate == id.as_str());
    children.iter().map(String::as_str).filter(its)
}

/// Whose candidacy it is, and its number.
fn parse(child: &str) -> Option<(&str, u64)> {
    let (id, sequence) = child.rsplit_once('-')?;
    let sequence = sequence.bytes().all(|byte| byte.is_ascii_digit()).then(|| sequence.parse().ok())??;
    NodeId::new(id).is_ok().then_some((id, sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidacy_names_its_node() {
        assert_eq!(parse("a-0000000012"), Some(("a", 12)));
        assert_eq!(parse("a-b-0000000003"), Some(("a-b", 3)));
        assert_eq!(parse("a-2147483648000"), Some(("a", 2_147_483_648_000)));
        for bad in ["", "a", "a-", "-1", "a--1", "a-+1", "a b-1", "a-99999999999999999999"] {
            assert_eq!(parse(bad).filter(|(id, _)| *id == "a" || id.is_empty()), None, "{bad:?}");
        }
        let children = ["a-1", "a-b-2", "b-3", "a-4"].map(str::to_owned);
        assert!(of(&children, &NodeId::new("a").unwrap()).eq(["a-1", "a-4"]));
    }
}
