//! Where the other nodes are, by the digest that their sids begin with.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use xpush_core::NodeId;
use xpush_core::ports::cluster::{Node, Standing, View};

/// The addresses of the newest view that could be trusted.
#[derive(Debug)]
pub(crate) struct Peers {
    addresses: RwLock<HashMap<u32, Peer>>,
    changes: watch::Sender<()>,
}

/// Where another node answers nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// `host:port`.
    pub(crate) authority: Arc<str>,
    /// By TLS.
    pub(crate) tls: bool,
}

impl Peer {
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self { addresses: RwLock::default(), changes: watch::Sender::new(()) }
    }
}

impl Peers {
    /// Takes a view of the node `own`. One that is frozen or has expired says nothing of who has gone.
    pub(crate) fn see(&self, view: &View, own: &NodeId) {
        if view.standing != Standing::Live {
            return;
        }
        let others = view.nodes.iter().filter(|node| node.id != *own);
        let peer =
            |node: &Node| Some(Peer { authority: Arc::from(node.peer.as_deref()?), tls: node.peer_tls });
        let addresses = others.filter_map(|node| Some((digest(&node.id), peer(node)?))).collect();
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
        self.changes.send_replace(());
    }

    /// Where the node of this digest answers other nodes, while it lives.
    pub(crate) fn peer(&self, node: u32) -> Option<Peer> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Tells whenever addresses may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

/// 32 bits of FNV-1a: enough to tell this start of this node from others.
pub(crate) fn digest(node: &NodeId) -> u32 {
    node.as_str().bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use xpush_testkit::sample;

    use super::*;

    fn view(standing: Standing, nodes: &[(&str, Option<&str>)]) -> View {
        let node =
            |(id, peer): &(&str, Option<&str>)| Node { peer: peer.map(Into::into), ..sample::server(id) };
        View { standing, nodes: nodes.iter().map(node).collect(), ..View::default() }
    }

    #[test]
    fn the_living_others_are_known() {
        let peers = Peers::default();
        let id = |name: &str| NodeId::new(name).unwrap();
        let address = |name: &str| peers.peer(digest(&id(name))).map(|peer| peer.to_string());
        let all = [("a", Some("10.0.0.1:8001")), ("b", Some("10.0.0.2:8001")), ("c", None)];
        peers.see(&view(Standing::Live, &all), &id("a"));
        assert_eq!(address("b").as_deref(), Some("http://10.0.0.2:8001"));
        assert_eq!((address("a"), address("c")), (None, None));
        peers.see(&view(Standing::Frozen, &[]), &id("a"));
        assert!(address("b").is_some());
        peers.see(&view(Standing::Live, &all[..1]), &id("a"));
        assert_eq!(address("b"), None);
    }
}
