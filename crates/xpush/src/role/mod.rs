//! What a process can be, one file a role. `xpush serve` is all of them.

pub(crate) mod channel;
pub(crate) mod session;
