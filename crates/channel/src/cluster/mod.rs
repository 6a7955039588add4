//! What a node does because there are others: it says that it lives and what it carries, clears away what the dead leave behind, and says again who is here when
//! a store has forgotten it.
//!
//! | file | does |
//! |---|---|
//! | `peers` | where the other nodes are |
//! | `departures` | who has gone, and who of the living sees to it |
//! | `keeping` | once a second: leases, evictions, load; in one shard for the whole node |
//! | `recount` | who is here, said again: for channels, and for whoever is online |
//! | `inquiring` | what all nodes have to tell together |
//! | `hosting` | which channels this node carries, told to the registry |

pub(crate) mod departures;
pub(crate) mod hosting;
pub(crate) mod inquiring;
pub(crate) mod keeping;
pub(crate) mod peers;
#[cfg(test)]
mod presences;
pub(crate) mod recount;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) fn view_of(
    standing: xpush_core::ports::cluster::Standing,
    nodes: &[&str],
) -> xpush_core::ports::cluster::View {
    let nodes = nodes.iter().map(|name| xpush_testkit::sample::server(name)).collect();
    xpush_core::ports::cluster::View { standing, nodes, ..Default::default() }
}
