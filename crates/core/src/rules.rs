//! Channel rules: what a channel is and who may use it, decided by its name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{Channel, Role};

/// What is kept of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Nothing: messages have no seq.
    None,
    /// The newest messages, in memory, within bounds.
    Recent(Retention),
    /// Every message that was acknowledged, on disk, within bounds.
    Durable(Retention),
}

/// Bounds of a kept history; the oldest leave first. Whichever is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Messages, at least 1.
    pub count: usize,
    /// Bytes of event names, data and attachments together.
    pub bytes: usize,
    /// Age in ms.
    pub age_ms: u64,
}

/// What one may do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Follow it: messages, signals, receipts.
    Subscribe,
    /// Publish messages and signals; edit and delete one's own.
    Publish,
    /// Read what was said before.
    History,
    /// See who is there.
    Presence,
    /// Edit and delete what others have published.
    Moderate,
    /// Add and remove members.
    Invite,
}

impl Action {
    /// How tokens and the API name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
            Self::Moderate => "moderate",
            Self::Invite => "invite",
        }
    }
}

/// Who may do something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// Everybody who may connect to the app.
    Anyone,
    /// Who has said by a token who it is: no guests.
    Users,
    /// The channel's members.
    Members,
    /// Who brings a token for this channel.
    Token,
    /// The application's back end: a token with the role `server`.
    Server,
    /// Who has this role, in the app or as a member of the channel.
    Role(Role),
}

/// What holds for the channels that its pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// A channel's name, in which each `*` stands for any run of characters.
    #[serde(rename = "channels")]
    pub pattern: Box<str>,
    /// What is kept.
    pub history: History,
    /// Whether subscribers are counted and listed.
    pub presence: bool,
    /// Whether members who do not follow the channel at the moment hear of new messages.
    pub notify: bool,
    /// Whether its messages can be found by their words; only of what is durable.
    #[serde(default)]
    pub search: bool,
    /// Who may do what: one of them is enough.
    pub permissions: Permissions,
}

/// Who may do each [`Action`]. `Server` is never named: it may everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Who may subscribe.
    pub subscribe: Vec<Who>,
    /// Who may publish.
    pub publish: Vec<Who>,
    /// Who may read history.
    pub history: Vec<Who>,
    /// Who may see who is there.
    pub presence: Vec<Who>,
    /// Who may change others' messages.
    pub moderate: Vec<Who>,
    /// Who may add and remove members.
    pub invite: Vec<Who>,
    /// Who may found a channel of members: add to one that has none yet, and become its owner.
    #[serde(default)]
    pub create: Vec<Who>,
}

/// The rules of an app: the first that matches holds. A channel that none matches cannot be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(Vec<Arc<Rule>>);

impl History {
    /// Its bounds, if anything is kept.
    pub const fn retention(&self) -> Option<Retention> {
        match self {
            Self::None => None,
            Self::Recent(retention) | Self::Durable(retention) => Some(*retention),
        }
    }

    /// Whether what was acknowledged outlives the process.
    pub const fn is_durable(&self) -> bool {
        matches!(self, Self::Durable(_))
    }
}

impl Retention {
    /// Everything is kept.
    pub const ENDLESS: Self = Self { count: usize::MAX, bytes: usize::MAX, age_ms: u64::MAX };
}

impl Rule {
    /// Whether its messages can be found by their words.
    pub fn is_searched(&self) -> bool {
        self.search && self.history.is_durable()
    }

    /// Whether it is for channels that have members.
    pub fn has_members(&self) -> bool {
        self.permissions.name_members()
    }
}

impl Permissions {
    /// Whether members may do what others may not.
    pub fn name_members(&self) -> bool {
        let Self { subscribe, publish, history, presence, .. } = self;
        [subscribe, publish, history, presence].into_iter().any(|who| who.contains(&Who::Members))
    }

    /// Who may do `action`.
    pub fn of(&self, action: Action) -> &[Who] {
        match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
            Action::History => &self.history,
            Action::Presence => &self.presence,
            Action::Moderate => &self.moderate,
            Action::Invite => &self.invite,
        }
    }

    /// `who` may subscribe, publish, and see history and presence; nobody moderates but the server, and in members' channels owners and moderators; nobody founds one but the server.
    pub fn all(who: Who) -> Self {
        let role = |name: &str| Role::new(name).ok().map(Who::Role);
        let staff: Vec<Who> = match who {
            Who::Members => [role("owner"), role("moderator")].into_iter().flatten().collect(),
            _ => Vec::new(),
        };
        let only = vec![who];
        Self {
            subscribe: only.clone(),
            publish: only.clone(),
            history: only.clone(),
            presence: only,
            moderate: staff.clone(),
            invite: staff,
            create: Vec::new(),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    /// `anyone`, `users`, `members`, `token`, `server`, `role:NAME`.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "anyone" => Self::Anyone,
            "users" => Self::Users,
            "members" => Self::Members,
            "token" => Self::Token,
            "server" => Self::Server,
            _ => match text.strip_prefix("role:").map(Role::new) {
                Some(Ok(role)) => Self::Role(role),
                _ => return Err("anyone, users, members, token, server or role:NAME".to_owned()),
            },
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Users => f.write_str("users"),
            Self::Members => f.write_str("members"),
            Self::Token => f.write_str("token"),
            Self::Server => f.write_str("server"),
            Self::Role(role) => write!(f, "role:{role}"),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Rules {
    /// In the order of their precedence.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self(rules.into_iter().map(Arc::new).collect())
    }

    /// The rule for a channel. The server's own (`$…`) are covered only by rules that begin as they do: `*` is not meant for them.
    pub fn find(&self, channel: &Channel) -> Option<&Arc<Rule>> {
        let reaches = |rule: &Rule| !channel.is_system() || rule.pattern.starts_with('$');
        self.0.iter().find(|rule| reaches(rule) && matches(&rule.pattern, channel.as_str()))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.0.iter()
    }
}

/// Whether `pattern`, in which `*` stands for any run of characters, matches all of `text`. Linear but for the last `*` being tried again: O(pattern × text) at worst.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("chat:*", "chat:lobby", true),
            ("chat:*", "chat:", true),
            ("chat:*", "chat", false),
            ("chat:*", "xchat:a", false),
            ("*", "", true),
            ("*:log", "a:b:log", true),
            ("*:log", "a:logs", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b", false),
            ("room", "room", true),
            ("room", "rooms", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let rule = |pattern: &str, presence| Rule {
            pattern: pattern.into(),
            history: History::None,
            presence,
            notify: false,
            search: false,
            permissions: Permissions::all(Who::Anyone),
        };
        let rules = Rules::new([rule("chat:vip", true), rule("chat:*", false)]);
        let presence = |name: &str| rules.find(&Channel::new(name).unwrap()).map(|rule| rule.presence);
        assert_eq!(presence("chat:vip"), Some(true));
        assert_eq!(presence("chat:a"), Some(false));
        assert_eq!(presence("other"), None);
        let rules = Rules::new([rule("*", false), rule("$presence", true)]);
        let presence = |name: &str| rules.find(&Channel::new(name).unwrap()).map(|rule| rule.presence);
        assert_eq!((presence("$presence"), presence("presence")), (Some(true), Some(false)));
        assert_eq!(presence("$else"), None, "a rule for everything covers nothing of the server's");
    }
}
