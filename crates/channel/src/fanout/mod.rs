//! From a publication to everybody's outbox.
//!
//! [`home`] gives order, [`topic`] lays frames out once and hands them to the outboxes; [`inbox`] joins the shards.

pub(crate) mod append;
pub(crate) mod attendance;
pub(crate) mod forward;
pub(crate) mod home;
pub(crate) mod inbox;
pub(crate) mod join;
pub(crate) mod marking;
pub(crate) mod notices;
pub(crate) mod order;
pub(crate) mod receipts;
mod rules;
pub(crate) mod topic;
pub(crate) mod wheel;
