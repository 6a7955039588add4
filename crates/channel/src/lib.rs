//! The channel server: transports → sessions → commands → fan-out.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
