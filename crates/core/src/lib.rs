//! The vocabulary of XPUSH, its error table, and the ports behind which databases and brokers stand.
//!
//! A leaf: no drivers, no runtime, no I/O. Ports are traits; their docs are the contract, and `xpush-testkit` has one conformance
//! suite a port that every backend passes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod environment;
pub mod error;
pub mod files;
pub mod hooks;
pub mod message;
pub mod names;
pub mod placement;
pub mod ports;
pub mod rules;
pub mod search;

mod codec;

pub use access::{AppLimits, AppSettings, Grant, Permission};
pub use environment::{Clock, Entropy, LedgerClock, Monotonic, UnixMillis};
pub use error::{Code, Problem, Retry};
pub use message::{Epoch, Kind, Message, Payload, Position, Revision, Sender};
pub use names::{
    ApiKeyId, App, Channel, ChannelKey, ClientId, Device, EventName, FileId, Login, NodeId, NodeName, Role,
    SettingName, User,
};
pub use rules::{Action, History, Permissions, Retention, Rule, Rules, Who};
