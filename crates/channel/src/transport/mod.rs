//! Bytes in, bytes out: sockets that were taken over from HTTP, and long polling, which stays there.

pub(crate) mod api;
pub(crate) mod io;
pub(crate) mod polling;
pub(crate) mod stream;
pub(crate) mod upgrade;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use xpush_core::Position;

use crate::command::place::Place;
use crate::dialect::Wire;
use crate::front::address::Permit;
use crate::session::gate::Opening;
use crate::session::identity::Identity;
use crate::transport::io::Io;
use crate::transport::polling::Answer;

/// A new client, as the HTTP front gives it to a shard.
pub(crate) struct Open {
    pub(crate) wire: Wire,
    /// Without a token: that is in `opening`.
    pub(crate) query: Box<str>,
    pub(crate) opening: Option<Opening>,
    pub(crate) permit: Permit,
    pub(crate) by: By,
}

/// How the client comes.
pub(crate) enum By {
    /// A WebSocket handshake that is to be answered: the raw stream, the bytes that came behind the request, the answer.
    WebSocket { stream: Io, early: Bytes, response: Bytes },
    /// An event stream that is to be answered.
    Events {
        stream: Io,
        response: Bytes,
        identity: Arc<Identity>,
        channels: Vec<(Place, Option<Position>)>,
        /// What its ids begin with.
        credential: Box<str>,
    },
    /// A first polling request.
    Polling { base64: bool, answer: oneshot::Sender<Answer> },
}

/// A WebSocket handshake that names a polling session.
pub(crate) struct Probe {
    pub(crate) sid: crate::session::sid::Sid,
    pub(crate) stream: Io,
    pub(crate) early: Bytes,
    pub(crate) response: Bytes,
}
