//! Channel rules: what a channel is, decided by its name.

use std::sync::Arc;

use crate::names::Channel;

/// What is kept of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Nothing: messages have no seq.
    None,
    /// The newest messages, in memory, within bounds.
    Recent(Retention),
}

/// Bounds of a kept history; the oldest leave first. Whichever is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Messages, at least 1.
    pub count: usize,
    /// Bytes of event names, data and attachments together.
    pub bytes: usize,
    /// Age in ms.
    pub age_ms: u64,
}

/// Who may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// Everybody who may connect to the app.
    Anyone,
    /// Only the application's back end.
    Server,
}

/// What holds for the channels that its pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A channel's name, in which each `*` stands for any run of characters.
    pub pattern: Box<str>,
    /// What is kept.
    pub history: History,
    /// Whether subscribers are counted and listed.
    pub presence: bool,
    /// Who may publish.
    pub publish: Publish,
}

/// The rules of an app: the first that matches holds. A channel that none matches cannot be used.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Arc<Rule>>);

impl Rules {
    /// In the order of their precedence.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self(rules.into_iter().map(Arc::new).collect())
    }

    /// The rule for a channel.
    pub fn find(&self, channel: &Channel) -> Option<&Arc<Rule>> {
        self.0.iter().find(|rule| matches(&rule.pattern, channel.as_str()))
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
            publish: Publish::Anyone,
        };
        let rules = Rules::new([rule("chat:vip", true), rule("chat:*", false)]);
        let presence = |name: &str| rules.find(&Channel::new(name).unwrap()).map(|rule| rule.presence);
        assert_eq!(presence("chat:vip"), Some(true));
        assert_eq!(presence("chat:a"), Some(false));
        assert_eq!(presence("other"), None);
    }
}
