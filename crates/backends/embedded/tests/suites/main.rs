//! The embedded backends keep their ports' contracts. One program: what they are linked with is linked once.

#![allow(clippy::unwrap_used)]

mod bus;
mod cluster;
mod erasure;
mod hosts;
mod message_log;
mod online;
mod outbox;
mod presence;
mod rate_limit;
