//! The backends on Redis keep their ports' contracts, on good days and bad ones. One program: what they are linked with is linked once.

#![allow(clippy::unwrap_used)]

mod bad_days;
mod bus;
mod bus_bad_days;
mod connection;
mod emitters;
mod erasure;
mod hosts;
mod message_log;
mod online;
mod presence;
mod rate_limit;
mod rig;
mod tls;
