//! What an app has set up of files.

use serde::{Deserialize, Serialize};

use crate::names::Channel;
use crate::rules::matches;

/// Which files may be uploaded into the channels that a pattern matches. Who may: who may publish there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// A channel's name, in which each `*` stands for any run of characters.
    pub channels: Box<str>,
    /// Bytes of one file.
    pub size: u64,
    /// Media types, or the first half of them: `image/*`; `*/*` is every one.
    pub types: Vec<Box<str>>,
    /// For how long one is kept, in ms; `None`: until it is deleted.
    #[serde(default)]
    pub keep_ms: Option<u64>,
    /// Bytes that one user may upload in 24 hours; `None`: any.
    #[serde(default)]
    pub per_day: Option<u64>,
}

impl FileRule {
    /// The rule for a channel: the first one that matches. The server's own channels (`$…`) have files only by rules that begin as they do.
    pub fn find<'a>(rules: &'a [Self], channel: &Channel) -> Option<&'a Self> {
        let reaches = |rule: &Self| !channel.is_system() || rule.channels.starts_with('$');
        rules.iter().find(|rule| reaches(rule) && matches(&rule.channels, channel.as_str()))
    }

    /// Whether files of this media type are taken.
    pub fn takes(&self, kind: &str) -> bool {
        self.types.iter().any(|given| match given.strip_suffix("/*") {
            Some("*") => true,
            Some(half) => kind.split_once('/').is_some_and(|(first, _)| first == half),
            None => **given == *kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(channels: &str, types: &[&str]) -> FileRule {
        let types = types.iter().map(|kind| Box::from(*kind)).collect();
        FileRule { channels: channels.into(), size: 1, types, keep_ms: None, per_day: None }
    }

    #[test]
    fn types_are_whole_or_halves() {
        let images = rule("*", &["image/*", "application/pdf"]);
        for (kind, taken) in [("image/png", true), ("application/pdf", true), ("application/zip", false)] {
            assert_eq!(images.takes(kind), taken, "{kind}");
        }
        assert!(!rule("*", &["image/*"]).takes("imagery/png") && rule("*", &["*/*"]).takes("a/b"));
        assert!(!rule("*", &[]).takes("image/png"));
    }

    #[test]
    fn the_first_rule_holds_and_none_reaches_the_servers_channels_by_chance() {
        let rules = [rule("chat:vip", &[]), rule("*", &["*/*"])];
        let find = |name: &str| FileRule::find(&rules, &Channel::new(name).unwrap());
        assert_eq!(find("chat:vip").map(|rule| &*rule.channels), Some("chat:vip"));
        assert_eq!(find("other").map(|rule| &*rule.channels), Some("*"));
        assert_eq!(find("$presence"), None);
    }
}
