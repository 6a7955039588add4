//! Bytes ⇄ packets, for every protocol that XPUSH speaks.
//!
//! Pure: no I/O, no clock, no threads. Every parser is linear in its input, and allocates by what has
//! arrived, never by a length that the peer declares.
//!
//! | module | document |
//! |---|---|
//! | [`ws`] | RFC 6455, the server's side |
//! | [`engine`] | Engine.IO protocol 3 and 4 |
//! | [`socket`] | Socket.IO protocol 4 (with Engine.IO 3) and 5 (with Engine.IO 4), JSON and msgpack parser |
//! | [`json`] | RFC 8259: validation, slicing and the few values that the server must read |
//! | [`msgpack`] | MessagePack ⇄ the canonical form (JSON with placeholders + attachments) |
//! | [`sse`] | server-sent events (WHATWG HTML, 9.2) |
//! | [`query`] | `application/x-www-form-urlencoded` |

pub mod engine;
pub mod json;
pub mod msgpack;
pub mod query;
pub mod socket;
pub mod sse;
pub mod ws;
