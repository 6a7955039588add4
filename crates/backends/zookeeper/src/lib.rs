//! Membership, election and the ring, kept by ZooKeeper 3.6 or newer.
//!
//! What is where, below the configured root:
//!
//! ```text
//! /cluster                 watched as a whole by everybody
//!   /members/NAME          a node (ephemeral); its data never changes: a change is another znode
//!   /draining/NAME         an operator wants this server drained
//!   /settings/NAME         what all nodes share; its version counts generations
//!   /ring                  the published ring
//!   /loads                 what all nodes carry, gathered by the holder of the first node
//! /loads/ID                what one node carries (ephemeral), read by who gathers
//! /planners/ID-SEQUENCE    who stands for planner (ephemeral); the lowest is elected, and the zxid that made it is its term
//! ```
//!
//! One task ([`keeper`]) holds the session and turns what members want into what ZooKeeper has, again and again: after each event, and after each reconnection
//! from the beginning. It never makes a new session as long as ZooKeeper has not said itself that the old one is over; until then the views are frozen.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod candidacy;
mod handle;
mod keeper;
mod loads;
mod operation;
mod options;
mod record;
mod registration;
mod state;
mod tree;

pub use handle::ZooKeeperCluster;
pub use options::{BadOptions, Credentials, Options, Tls};
