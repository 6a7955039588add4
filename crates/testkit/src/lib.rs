//! What tests of ports and nodes stand on: time and chance that a test decides, a bus that behaves as badly as it may, one
//! conformance suite a port, and a judge of what clients saw while servers died ([`checker`]).
//!
//! A backend shows that it keeps a port's contract by one line in its `tests/`, such as `xpush_testkit::bus_suite!(fixture);`, where
//! `fixture` makes a new, empty store with two handles on it, as two nodes would have. Each property is a function in [`suite`] and becomes a test.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod checker;
pub mod environment;
pub mod fleet;
pub mod hostile;
pub mod ledger;
pub mod sample;
pub mod service;
pub mod suite;

mod daemon;

pub use access::OpenAccess;
pub use environment::{ManualClock, SeededEntropy};
pub use hostile::{HostileHub, Hostility};
pub use ledger::{HostileLedger, MemoryLedger, Trouble};
