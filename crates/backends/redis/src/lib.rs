//! What nodes share through Redis 6.2 or newer: a single server, one watched by Sentinel, or a Cluster.
//!
//! [`Connection`] carries commands and scripts. It connects by itself, again and again, and says in a word how it stands ([`State`]).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod connection;
pub mod keys;
pub mod options;

mod failure;
mod script;
mod server;

pub use connection::{Connection, State};
pub use keys::Keys;
pub use options::{Address, BadOptions, Deployment, Options, Secret, Tls};
pub use redis;
pub use script::Script;
pub use server::ConnectError;
