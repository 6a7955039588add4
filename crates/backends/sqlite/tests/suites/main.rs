//! The backends on SQLite keep their ports' contracts, on good days and bad ones. One program: what they are linked with is linked once.

#![allow(clippy::unwrap_used)]

mod backup;
mod directory;
mod erasure;
mod failures;
mod files;
mod markers;
mod message_log;
mod model;
mod outbox;
mod search;
