//! What an app has set up of hooks and calls. Its back end's developers read docs/hooks.md.

use serde::{Deserialize, Serialize};

use crate::names::{Channel, EventName};
use crate::rules::matches;

/// What can happen in an app that its back end may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookEvent {
    /// A connection acts as somebody.
    Connected,
    /// It does so no more.
    Disconnected,
    /// A channel has its first subscriber.
    Occupied,
    /// A channel has lost its last one.
    Vacated,
    /// A message was published, edited or deleted.
    Message,
    /// A user is online, or away.
    Online,
    /// A user is offline.
    Offline,
}

/// What an app's back end may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAsk {
    /// Whether a client may connect, and as whom.
    Connect,
    /// What a user may do in a channel.
    Subscribe,
    /// Whether a message may be published.
    Publish,
    /// What an event that is no command comes to.
    Call,
}

/// What holds when a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It may not happen: fail closed.
    #[default]
    Refuse,
    /// It may: fail open.
    Allow,
}

/// A hook: a URL of an app's back end. Not `Debug`: it holds secrets, and its URL may.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookRecord {
    /// What operators call it: 1 to 64 letters, digits, `-` or `_`; the app has no other one of this name.
    pub name: Box<str>,
    /// Where requests go.
    pub url: Box<str>,
    /// What requests are signed with: one secret, or two while one takes the other's place.
    pub secrets: Vec<Box<str>>,
    /// What it is told.
    #[serde(default)]
    pub events: Vec<HookEvent>,
    /// What it is asked.
    #[serde(default)]
    pub asks: Vec<HookAsk>,
    /// Patterns of the channels that it is about; without any, all but those of the server's own (`$…`).
    #[serde(default)]
    pub channels: Vec<Box<str>>,
    /// How long a question may take, in ms.
    pub timeout_ms: u64,
    /// Requests at the same time: of questions, and of events.
    pub concurrency: u32,
    /// What holds when a question is not answered.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether `publish` is asked of what the app's own back end publishes, too.
    #[serde(default)]
    pub api: bool,
}

/// An event of clients that is published as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRecord {
    /// The event's name.
    pub event: Box<str>,
    /// Where it is published.
    pub channel: Box<str>,
    /// To the sender's own connection, too.
    pub echo: bool,
    /// Every Socket.IO client follows the channel from the beginning.
    pub join: bool,
}

/// All of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppHooks {
    /// Hooks.
    pub hooks: Vec<HookRecord>,
    /// Events that are published as they are.
    pub calls: Vec<CallRecord>,
}

impl HookEvent {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
            Self::Message => "message",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }

    /// Each of them.
    pub const EACH: [Self; 7] = [
        Self::Connected,
        Self::Disconnected,
        Self::Occupied,
        Self::Vacated,
        Self::Message,
        Self::Online,
        Self::Offline,
    ];
}

impl HookAsk {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Call => "call",
        }
    }

    /// Each of them.
    pub const EACH: [Self; 4] = [Self::Connect, Self::Subscribe, Self::Publish, Self::Call];
}

impl HookRecord {
    /// Whether it is about this channel. The server's own channels are reached only by patterns that begin as they do.
    pub fn covers(&self, channel: &Channel) -> bool {
        let name = channel.as_str();
        let reaches = |pattern: &str| !channel.is_system() || pattern.starts_with('$');
        if self.channels.is_empty() {
            return !channel.is_system();
        }
        self.channels.iter().any(|pattern| reaches(pattern) && matches(pattern, name))
    }
}

impl CallRecord {
    /// Its channel, and the event's name, where both are good.
    pub fn names(&self) -> Option<(EventName, Channel)> {
        Some((EventName::new(&self.event).ok()?, Channel::new(&self.channel).ok()?))
    }
}

impl std::fmt::Debug for HookRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HookRecord {{ name: {:?}, … }}", self.name)
    }
}
