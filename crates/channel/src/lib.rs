//! The channel server. Folders follow a message:
//!
//! | folder | does |
//! |---|---|
//! | `front` | HTTP: accepts, judges origins and addresses, hands raw streams to shards |
//! | `transport` | sockets and long polling: bytes in with back-pressure, outboxes out |
//! | `session` | who a client is; heartbeats, rates, limits; the packets of each protocol |
//! | `command` | what a client can ask for, one file each |
//! | `fanout` | a channel's home gives order; topics lay frames out once for all subscribers |
//! | `dialect` | how each wire format says things |
//!
//! `shard` holds them together: a state machine that `driver` turns with epoll.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;

mod backend;
mod cluster;
mod command;
#[cfg(test)]
mod conversation;
mod dialect;
mod driver;
mod fanout;
mod front;
mod metrics;
mod node;
mod planted;
mod search;
mod session;
mod shard;
#[cfg(test)]
mod simulation;
mod transport;

pub use cluster::hosting::Hosting;
pub use fanout::forward::HostOf;
pub use front::tls::{PeerTrust, Tls, Unusable};
pub use node::{MakeBus, Node, Parts};
pub use session::moving::Assign;
pub use session::online::GRACE_MS;
