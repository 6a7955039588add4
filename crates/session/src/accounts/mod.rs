//! Built-in accounts.

pub mod password;
