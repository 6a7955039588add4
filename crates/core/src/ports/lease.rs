//! For how long a store believes that a node lives.

/// So long after the last renewal a node's lease is over, in ms. A backstop: nodes that die are evicted by those who see it in the cluster, much sooner.
pub const LEASE_MS: u64 = 30_000;

/// Every so many ms a node renews.
pub const RENEW_MS: u64 = 2_000;

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// What the node had entered is there.
    Kept,
    /// It is not, or may not be: this is the first renewal, the node was evicted meanwhile, or the store has lost its memory or a part of it. The node must
    /// say everything again.
    Anew,
}
