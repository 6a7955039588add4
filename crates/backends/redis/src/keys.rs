//! Names of keys: a hash tag in each, so that what belongs together lies in one slot of a Cluster, where one script can reach it.

use std::sync::Arc;

use xpush_core::{App, ChannelKey, User};

/// Makes keys that begin with the installation's prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// `prefix` holds no brace ([`Options::check`](crate::Options::check)).
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// `PREFIX:{APP:CHANNEL}:PART`. Neither an app's nor a channel's name holds a brace, and an app's name no colon: no two are alike.
    pub fn channel(&self, channel: &ChannelKey, part: &str) -> String {
        format!("{}:{{{}:{}}}:{part}", self.prefix, channel.app, channel.name)
    }

    /// `PREFIX:{APP:@USER}:PART`, in the slot of the user's own channel.
    pub fn user(&self, app: &App, user: &User, part: &str) -> String {
        self.channel(&ChannelKey::new(app.clone(), xpush_core::Channel::personal(user, None)), part)
    }

    /// `PREFIX:{TAG}:PART`. `tag` is ours: not empty and without braces.
    pub fn tagged(&self, tag: &str, part: &str) -> String {
        format!("{}:{{{tag}}}:{part}", self.prefix)
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_core::Channel;

    #[test]
    fn users_cannot_break_out_of_their_tag() {
        let keys = Keys::new("xpush");
        let app = App::new("demo").unwrap();
        let user = User::new("a}:{b").unwrap();
        assert_eq!(keys.user(&app, &user, "seen"), "xpush:{demo:@a%7D:%7Bb}:seen");
        let channel = ChannelKey::new(app, Channel::new("chat:a").unwrap());
        assert_eq!(keys.channel(&channel, "log"), "xpush:{demo:chat:a}:log");
    }
}
