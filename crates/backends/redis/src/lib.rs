//! What nodes share through Redis 6.2 or newer: a single server, one watched by Sentinel, or a Cluster.
//!
//! [`Connection`] carries commands and scripts. It connects by itself, again and again, and says in a word how it stands ([`State`]). [`RedisBus`] is the bus
//! between nodes, over connections of its own. [`Emitters`] hears what other people's back ends publish for socket.io servers.
//!
//! State that need not last is kept by scripts, so that whatever is decided is decided once for all nodes: [`RedisPresence`], [`RedisOnline`], [`RedisHosts`],
//! [`RedisLimits`], and [`RedisLog`] for recent history. [`check`] says what of a server's settings endangers it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bus;
pub mod connection;
pub mod emitter;
pub mod keys;
pub mod options;

mod check;
mod failure;
mod hosts;
mod online;
mod partition;
mod presence;
mod rate_limit;
mod recent;
mod resp;
mod script;
mod server;
mod stream;

pub use bus::{BusCounters, RedisBus};
pub use check::{Finding, check};
pub use connection::{Connection, State};
pub use emitter::Emitters;
pub use hosts::RedisHosts;
pub use keys::Keys;
pub use online::RedisOnline;
pub use options::{Address, BadOptions, Deployment, Options, Secret, Tls};
pub use presence::RedisPresence;
pub use rate_limit::RedisLimits;
pub use recent::{MAX_MESSAGE, RedisLog};
pub use redis;
pub use script::Script;
pub use server::ConnectError;
