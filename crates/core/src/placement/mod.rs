//! Which server is to carry which channel: pure functions, the same answer on every node that has the same ring.
//!
//! ```text
//! loads ──► Planner ──► Ring ──► (the cluster publishes it) ──► Table ──► Assigner ──► a server, and why
//! ```

mod assign;
pub mod planner;
mod ring;
mod table;

pub use assign::{Assigner, Assignment, Host, Occupancy, Reason};
pub use planner::{NodeLoad, Planner, Standing};
pub use ring::{BadRing, Epsilon, Ring, RingNode, Weight};
pub use table::{Table, Walk, point};
