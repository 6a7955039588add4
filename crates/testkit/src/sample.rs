//! Names and records for tests, from as little text as possible. A text that is no such name panics.

use bytes::Bytes;
use xpush_core::ports::cluster::{Node, Roles};
use xpush_core::ports::message_log::Draft;
use xpush_core::ports::presence::{Change, Member};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, EventName, Kind, NodeId, NodeName, Payload, Sender, User,
};

/// An app.
pub fn app(name: &str) -> App {
    App::new(name).expect("an app")
}

/// A channel of the app `demo`.
pub fn channel(name: &str) -> ChannelKey {
    channel_of("demo", name)
}

/// A channel.
pub fn channel_of(app: &str, name: &str) -> ChannelKey {
    ChannelKey::new(self::app(app), Channel::new(name).expect("a channel"))
}

/// A node's id.
pub fn node(id: &str) -> NodeId {
    NodeId::new(id).expect("a node's id")
}

/// A server's name.
pub fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a server's name")
}

/// A server of all roles whose id is its name.
pub fn server(id: &str) -> Node {
    Node {
        id: node(id),
        name: name(id),
        installation: 0,
        url: format!("http://{id}:8000").into(),
        peer: None,
        peer_tls: false,
        capacity: 10_000,
        version: "0.0.0".into(),
        roles: Roles { session: true, channel: true },
        since: 1_767_225_600_000,
        configuration: Default::default(),
    }
}

/// A user's id.
pub fn user(id: &str) -> User {
    User::new(id).expect("a user's id")
}

/// A user without a display name.
pub fn member(id: &str) -> Member {
    Member { user: user(id), name: None }
}

/// A `message` whose data is its own id.
pub fn draft(from: &str, id: &str) -> Draft {
    draft_with(from, id, &format!("\"{id}\""))
}

/// A `message` with this data.
pub fn draft_with(from: &str, id: &str, json: &str) -> Draft {
    Draft {
        kind: Kind::Message,
        moderates: false,
        id: ClientId::new(id).expect("a client's id"),
        event: EventName::new("message").expect("an event's name"),
        payload: Payload { json: Bytes::copy_from_slice(json.as_bytes()), attachments: Vec::new() },
        from: Sender { user: user(from), name: None },
        at: 1_767_225_600_000,
    }
}

/// A connection of a user comes.
pub fn enters(channel: &ChannelKey, id: &str) -> Change {
    Change { channel: channel.clone(), member: member(id), enters: true }
}

/// A connection of a user goes.
pub fn leaves(channel: &ChannelKey, id: &str) -> Change {
    Change { channel: channel.clone(), member: member(id), enters: false }
}
