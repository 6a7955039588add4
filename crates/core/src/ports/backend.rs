//! What an app's own back end may have done on a channel server: the HTTP API asks, a node does it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::access::Grant;
use crate::error::Problem;
use crate::message::{Kind, Sender};
use crate::names::{App, Channel, ChannelKey, ClientId, EventName, NodeId, User};
use crate::ports::access::Decided;
use crate::ports::inquiry::{Counters, Crowd};
use crate::ports::message_log::Range;

/// How long an answer may take. What has not been answered by then is `outcome_unknown`.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A JSON object of docs/protocol.md, as text: what a client would have got as `ok`.
pub type Object = String;

/// A message of an app's back end, on its own behalf or on a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where.
    pub channel: ChannelKey,
    /// What it is. An edit's data are the new ones; a deletion's are ignored.
    pub kind: Kind,
    /// The event's name.
    pub event: EventName,
    /// A JSON text, not yet checked; relayed as it is.
    pub data: Bytes,
    /// By which it is known again; without one, no publication is its retry.
    pub id: Option<ClientId>,
    /// Who publishes, as others are told.
    pub from: Sender,
}

/// What is told now and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// Where.
    pub channel: ChannelKey,
    /// The event's name.
    pub event: EventName,
    /// A JSON text, not yet checked.
    pub data: Bytes,
    /// For how many ms what it tells holds; 60,000 at most.
    pub ttl_ms: Option<u64>,
    /// Who tells it.
    pub from: Sender,
}

/// Who looks for words.
#[derive(Debug, Clone)]
pub enum SearchBy {
    /// An app's back end, in all of its app.
    App(App),
    /// A user, in the channels whose history it may read; without a channel, in those that it is in.
    User(Arc<Grant>),
    /// Somebody who was found to be allowed to read this channel's history, in this channel.
    Permitted(ChannelKey),
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searching {
    /// As [`crate::search::Query`] reads it.
    pub query: Box<str>,
    /// In this channel only.
    pub channel: Option<Channel>,
    /// Behind what the page before gave.
    pub before: Option<u64>,
    /// Hits, at most.
    pub limit: usize,
}

/// A channel that somebody follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveChannel {
    /// Which.
    pub channel: Channel,
    /// Connections that follow it.
    pub subscribers: u64,
}

/// What all servers have told, or all but some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Everywhere<T> {
    /// What they told.
    pub told: T,
    /// The names of those that did not answer in time: of what they have, nothing is told.
    pub missing: Vec<Box<str>>,
}

/// What there is on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: Box<str>,
    /// What it has counted.
    pub counters: Counters,
    /// The apps, in the order asked for.
    pub apps: Vec<Crowd>,
}

/// A request to publish one message, as an app's back end has sent it. Of a header that it has twice, the value is not here. Not `Debug`: it shows a key.
#[derive(Clone, Copy)]
pub struct PublishRequest<'a> {
    /// `Authorization`
    pub authorization: Option<&'a str>,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// `Idempotency-Key`
    pub idempotency_key: Option<&'a str>,
    /// The body, whole.
    pub body: &'a [u8],
}

/// Reads requests to publish for a node that answers them where it reads them.
///
/// - Nothing waits in it, and nothing is asked of anybody: what cannot be said at once the API is asked, which finds the same.
pub trait Intake: Send + Sync {
    /// What is to be published; `None` when the API must be asked: it is refused, or whose key it shows is not remembered at the moment.
    fn publication(&self, request: PublishRequest<'_>) -> Option<Publication>;
}

/// What is done on behalf of an app's back end, which may do everything in its app. Whoever calls has made sure that it is one, and of this app.
///
/// - A message enters at its channel's home like anybody's: the same order, the same fence on ids, the same answer when it is durable.
/// - Of a channel that no rule covers the answer is `not_found`; data that are no JSON, or nested deeper than a client's may be, are `bad_json`, larger ones
///   `too_large`. What is refused has had no effect.
/// - Each callback is called exactly once, or dropped when the node stops.
pub trait Backend: Send + Sync {
    /// Bytes that data may have.
    fn largest(&self) -> usize;
    /// Publishes messages: one answer each, in the order given. Those of one channel take their places in this order; when one cannot be stored, those of its
    /// channel behind it are refused, too.
    fn publish(&self, publications: Vec<Publication>, done: Decided<Vec<Result<Object, Problem>>>);
    /// Tells whoever follows a channel now.
    fn signal(&self, signal: Ephemeral, done: Decided<Object>);
    /// At most `limit` messages of a channel's history.
    fn history(&self, channel: &ChannelKey, range: Range, limit: usize, done: Decided<Object>);
    /// Who is in a channel with presence.
    fn presence(&self, channel: &ChannelKey, done: Decided<Object>);
    /// How users are seen, in the order asked for.
    fn status(&self, app: &App, users: Vec<User>, done: Decided<Object>);
    /// A user's channels with what is unread in them, the ones active last first, behind `after`: what the page before gave.
    fn conversations(&self, app: &App, user: &User, after: Option<&str>, limit: usize, done: Decided<Object>);
    /// Messages that hold the words of a query ([`crate::ports::search`]). `no_search` where that is not offered, `not_found` of a channel that one may not read.
    fn search(&self, by: SearchBy, asked: Searching, done: Decided<Object>);
    /// The channels of an app that are followed on any node, by name: at most `limit` of those that begin with `prefix` and come behind `after`. Other nodes are waited for
    /// for a second.
    fn live(
        &self,
        app: &App,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        done: Decided<Everywhere<Vec<LiveChannel>>>,
    );
    /// Lets the connections that a user has now, on every node, follow a channel, or follow it no more: as if each had asked for it, within what the user may.
    /// Each is told by a push. `not_found` when no rule covers the channel.
    fn enlist(&self, channel: &ChannelKey, user: &User, follows: bool) -> Result<(), Problem>;
    /// What there is of these apps on each node that carries connections, by name; they are waited for for a second.
    fn census(&self, apps: Vec<App>, done: Decided<Everywhere<Vec<Census>>>);
    /// The node's id.
    fn node(&self) -> &str;
}
