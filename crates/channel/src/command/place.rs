//! The channel that a command is about, its rule, and what the command's sender may do there.

use std::sync::Arc;

use xpush_core::access::{Actions, Decision};
use xpush_core::ports::hooks::{Ask, Hooks};
use xpush_core::{Action, Channel, ChannelKey, Grant, Permission, Problem, Rule};

use super::fields::{Fields, bad};
use super::{Asked, Command, Request, publish};
use crate::fanout::inbox::Handle;
use crate::session::gate::covers;
use crate::session::identity::Identity;
use crate::session::online;
use crate::shard::Shard;

/// Where a command takes effect.
pub(crate) struct Place {
    pub(crate) key: ChannelKey,
    pub(crate) rule: Arc<Rule>,
    pub(crate) permission: Permission,
    /// ACCESS was asked for the permission, and has said all of it.
    pub(crate) asked: bool,
}

/// What is known of a command's place.
pub(crate) enum Found {
    /// The command is about no channel.
    Nowhere,
    Here(Place),
    /// Beyond these actions ACCESS must be asked.
    Ask(ChannelKey, Actions),
}

impl Request<'_> {
    /// The command's channel and its rule, if its sender may do `action` there.
    pub(crate) fn place(&self, action: Action) -> Result<(ChannelKey, Arc<Rule>), Problem> {
        let place = self.somewhere()?;
        place.permission.check(action)?;
        Ok((place.key.clone(), place.rule.clone()))
    }

    /// Whether its sender may do `action` in the command's channel.
    pub(crate) fn may(&self, action: Action) -> bool {
        self.place.as_ref().is_some_and(|place| place.permission.actions.contains(action))
    }

    /// The command's place, whatever its sender may do there.
    pub(crate) fn somewhere(&self) -> Result<&Place, Problem> {
        self.place.as_ref().ok_or_else(|| bad("channel", "a channel's name"))
    }
}

impl Command {
    /// What its sender may have to be allowed to.
    fn needs(self, fields: &Fields<'_>) -> Actions {
        let one = |action| Actions::NONE.with(action);
        match self {
            Self::Subscribe | Self::Recover | Self::Enlist => {
                let mut needed = one(Action::Subscribe);
                if fields.get("presence") == Some("true") {
                    needed = needed.with(Action::Presence);
                }
                if fields.get("since").is_some() {
                    needed = needed.with(Action::History);
                }
                needed
            }
            Self::Publish | Self::Signal => one(Action::Publish),
            // Whose message it is, only the log knows.
            Self::Read | Self::Delivered => one(Action::Subscribe),
            Self::Members => one(Action::Subscribe).with(Action::Invite),
            Self::Edit | Self::Delete => one(Action::Publish).with(Action::Moderate),
            Self::History | Self::Search => one(Action::History),
            Self::Presence => one(Action::Presence),
            // Of others; of oneself everybody may say and know it.
            Self::Status if fields.get("users").is_some() => one(Action::Presence),
            _ => Actions::NONE,
        }
    }
}

/// Finds a command's place. `asked_for`: what ACCESS has said for this very command.
pub(crate) fn find(
    shard: &mut Shard,
    handle: Handle,
    identity: &Identity,
    asked: Asked,
    fields: &Fields<'_>,
    asked_for: Option<Permission>,
) -> Result<Found, Problem> {
    let Some(channel) = target(asked.command, fields)? else { return Ok(Found::Nowhere) };
    let (key, rule) = identity.channel(channel)?;
    let (permission, asked) = match (asked_for, decide(shard.node.hooks(), &identity.grant, &key, &rule)) {
        (Some(permission), _) => (permission, true),
        (None, Decision::Known(permission)) => (permission, false),
        (None, Decision::Ask(allowed)) => {
            let by_token = asked.command.follows() && fields.get("token").is_some();
            if !by_token && covers(allowed, asked.command.needs(fields)) {
                (Permission::of(allowed), false)
            } else if !by_token && let Some(permission) = shard.remembered(handle, &key) {
                (permission, true)
            } else {
                return Ok(Found::Ask(key, allowed));
            }
        }
    };
    Ok(Found::Here(Place { key, rule, permission, asked }))
}

/// The channel that a command names, or whose it is.
fn target(command: Command, fields: &Fields<'_>) -> Result<Option<Channel>, Problem> {
    match command {
        Command::Subscribe
        | Command::Recover
        | Command::Enlist
        | Command::Unsubscribe
        | Command::Edit
        | Command::Delete
        | Command::Read
        | Command::Delivered
        | Command::Members
        | Command::Signal
        | Command::History
        | Command::Presence => fields.channel().map(Some),
        Command::Search if fields.get("channel").is_none() => Ok(None),
        Command::Search => fields.channel().map(Some),
        Command::Publish => publish::destination(fields).map(Some),
        Command::Status => Channel::new(online::CHANNEL).map(Some).map_err(Problem::from),
        Command::Connect
        | Command::Refresh
        | Command::Channels
        | Command::Call
        | Command::Ping
        | Command::Send
        | Command::Unknown => Ok(None),
    }
}

/// What can be said of a permission without asking anybody: neither ACCESS nor the app's back end.
pub(crate) fn decide(hooks: &dyn Hooks, grant: &Grant, key: &ChannelKey, rule: &Rule) -> Decision {
    if !grant.is_server() && hooks.asks(&key.app, Ask::Subscribe, Some(&key.name)) {
        return Decision::Ask(Actions::NONE);
    }
    grant.decide(&key.name, rule)
}

/// What an identity may do where nobody is asked: XPUSH 0.1 clients, whose names are mere claims, are no members and bring no tokens.
pub(crate) fn unasked(identity: &Identity, key: &ChannelKey, rule: &Rule) -> Permission {
    match identity.grant.decide(&key.name, rule) {
        Decision::Known(permission) => permission,
        Decision::Ask(allowed) => Permission::of(allowed),
    }
}
