//! Which server is to carry which channel: pure functions, the same answer on every node that has the same ring.

mod ring;

pub use ring::{BadRing, Epsilon, Ring, RingNode, Weight};
