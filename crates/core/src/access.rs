//! Who a connection acts as and what it may do: decided by the app's rules, by what its token says, and by its membership.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::environment::UnixMillis;
use crate::error::{Code, Problem};
use crate::hooks::AppHooks;
use crate::message::Sender;
use crate::names::{App, Channel, Device, Login, Role, User};
use crate::rules::{Action, Rule, Rules, Who, matches};

/// An app's settings as they hold at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSettings {
    /// Its name.
    pub app: App,
    /// Whether connections without a token are welcome.
    pub guests: bool,
    /// Pages that may connect, as `scheme://host[:port]`, beside the server's own list; `*` allows every page.
    pub origins: Vec<Box<str>>,
    /// Its channels.
    pub rules: Arc<Rules>,
    /// Whether stock Socket.IO clients are offered connection state recovery.
    pub recovery: bool,
    /// What its back end is told and asked.
    pub hooks: Arc<AppHooks>,
    /// Its own limits.
    pub limits: AppLimits,
}

/// An app's own limits; what it does not say is as the server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AppLimits {
    /// Commands a second of one connection; 0: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u32>,
    /// Channels that one connection may follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels_per_connection: Option<usize>,
    /// Bytes of a message's data; the server's own limit holds, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<usize>,
    /// Bytes that all files of the app may have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

impl AppLimits {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All apps, and the one of connections that name none.
#[derive(Debug, Clone, Default)]
pub struct Apps {
    /// By name.
    pub by_name: HashMap<App, Arc<AppSettings>>,
    /// The app of a connection that names none.
    pub default: Option<App>,
}

/// What one was admitted as. Guests have one, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The app.
    pub app: App,
    /// The user, and the name that others are shown.
    pub sender: Sender,
    /// On which of the user's devices.
    pub device: Option<Device>,
    /// Without a token: the user is who says so.
    pub guest: bool,
    /// What the user is in the app.
    pub roles: Vec<Role>,
    /// What the token allows; when it says anything about channels, that alone decides.
    pub capabilities: Option<Capabilities>,
    /// When the token was issued: what is revoked is revoked by this time. 0 for guests.
    pub issued_at: UnixMillis,
    /// When the grant ends; `None` for guests.
    pub expires_at: Option<UnixMillis>,
    /// The login of a built-in account that it belongs to.
    pub login: Option<Login>,
    /// What the token tells about the user: a JSON object, shown to whoever asks for presence.
    pub info: Option<Arc<str>>,
}

/// The `channels` of a token: patterns and what they allow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities(Vec<(Box<str>, Actions)>);

/// A set of [`Action`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u8);

/// What somebody may do in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permission {
    /// What.
    pub actions: Actions,
    /// Until when, if it hangs by a channel's token.
    pub expires_at: Option<UnixMillis>,
}

/// What can be said of a permission without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This is it.
    Known(Permission),
    /// It hangs by membership, by a token for the channel, or by the owner of a personal channel: these are allowed in any case, the rest must be asked for.
    Ask(Actions),
}

impl Actions {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(0b11_1111);

    /// Each of them, in order.
    pub const EACH: [Action; 6] = [
        Action::Subscribe,
        Action::Publish,
        Action::History,
        Action::Presence,
        Action::Moderate,
        Action::Invite,
    ];

    /// With `action`.
    #[must_use]
    pub const fn with(self, action: Action) -> Self {
        Self(self.0 | bit(action))
    }

    /// Without `action`.
    #[must_use]
    pub const fn without(self, action: Action) -> Self {
        Self(self.0 & !bit(action))
    }

    /// Those of either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `action` is among them.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }
}

impl Permission {
    /// `actions`, for as long as the grant holds.
    pub const fn of(actions: Actions) -> Self {
        Self { actions, expires_at: None }
    }

    /// Whether `action` is allowed; the refusal otherwise.
    pub fn check(&self, action: Action) -> Result<(), Problem> {
        if self.actions.contains(action) {
            return Ok(());
        }
        let what = match action {
            Action::Subscribe => "subscribe to this channel",
            Action::Publish => "publish in this channel",
            Action::History => "read this channel's history",
            Action::Presence => "see who is in this channel",
            Action::Moderate => "change others' messages in this channel",
            Action::Invite => "change this channel's members",
        };
        Err(Problem::new(Code::Forbidden, format!("you may not {what}")))
    }
}

impl Capabilities {
    /// In the order of the token.
    pub fn new(entries: impl IntoIterator<Item = (Box<str>, Actions)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// What all patterns that match allow together. Personal and the server's own channels are only reached by patterns that begin as they do: `*` alone is
    /// no key to other people's.
    pub fn of(&self, channel: &Channel) -> Actions {
        let name = channel.as_str();
        let reaches = |pattern: &str| !name.starts_with(['@', '$']) || pattern.get(..1) == name.get(..1);
        let matching = self.0.iter().filter(|(pattern, _)| reaches(pattern) && matches(pattern, name));
        matching.fold(Actions::NONE, |all, (_, actions)| all.and(*actions))
    }
}

impl Grant {
    /// What an app's own back end acts as.
    pub fn of_server(app: App, sender: Sender) -> Result<Self, Code> {
        Ok(Self {
            app,
            sender,
            device: None,
            guest: false,
            roles: vec![Role::new("server")?],
            capabilities: None,
            issued_at: 0,
            expires_at: None,
            login: None,
            info: None,
        })
    }

    /// The application's back end itself.
    pub fn is_server(&self) -> bool {
        self.roles.iter().any(|role| role.as_str() == "server")
    }

    /// What the grant allows under `rule`, as far as that can be said without asking.
    pub fn decide(&self, channel: &Channel, rule: &Rule) -> Decision {
        if self.is_server() {
            return Decision::Known(Permission::of(Actions::ALL));
        }
        if let Some(capabilities) = &self.capabilities {
            let actions = capabilities.of(channel);
            let anothers = channel.owner().is_some_and(|(owner, _)| owner != self.sender.user);
            // Its owner may have blocked whom the token lets publish there.
            return if anothers && actions.contains(Action::Publish) {
                Decision::Ask(actions.without(Action::Publish))
            } else {
                Decision::Known(Permission::of(actions))
            };
        }
        let mut allowed = Actions::NONE;
        let mut open = Actions::NONE;
        for action in Actions::EACH {
            for who in rule.permissions.of(action) {
                match who {
                    Who::Anyone => allowed = allowed.with(action),
                    Who::Users if !self.guest => allowed = allowed.with(action),
                    Who::Role(role) if self.roles.contains(role) => allowed = allowed.with(action),
                    // A channel's member may have a role there that it has nowhere else.
                    Who::Members | Who::Token | Who::Role(_) => open = open.with(action),
                    Who::Users | Who::Server => {}
                }
            }
        }
        if let Some((owner, device)) = channel.owner() {
            return self.decide_personal(&owner, device.as_ref(), allowed);
        }
        let undecided =
            Actions::EACH.iter().any(|action| open.contains(*action) && !allowed.contains(*action));
        if undecided { Decision::Ask(allowed) } else { Decision::Known(Permission::of(allowed)) }
    }

    /// A personal channel is followed by its owner alone; others may publish there if the rule lets them and the owner has not blocked them.
    fn decide_personal(&self, owner: &User, device: Option<&Device>, allowed: Actions) -> Decision {
        let publish = |actions: Actions| {
            if allowed.contains(Action::Publish) { actions.with(Action::Publish) } else { actions }
        };
        if *owner != self.sender.user {
            return if allowed.contains(Action::Publish) {
                Decision::Ask(Actions::NONE)
            } else {
                Decision::Known(Permission::default())
            };
        }
        if device.is_some() && device != self.device.as_ref() {
            return Decision::Known(Permission::of(publish(Actions::NONE)));
        }
        let own = Actions::NONE.with(Action::Subscribe).with(Action::History).with(Action::Presence);
        Decision::Known(Permission::of(publish(own)))
    }
}

impl Apps {
    /// The app of this name; without a name, the default one.
    pub fn find(&self, name: Option<&str>) -> Result<&Arc<AppSettings>, Problem> {
        let app = match name {
            Some(name) => App::new(name).map_err(Problem::from)?,
            None => (self.default.clone())
                .ok_or_else(|| Problem::new(Code::UnknownApp, "app: must be given here"))?,
        };
        self.by_name.get(&app).ok_or_else(|| Code::UnknownApp.into())
    }
}

const fn bit(action: Action) -> u8 {
    match action {
        Action::Subscribe => 1,
        Action::Publish => 2,
        Action::History => 4,
        Action::Presence => 8,
        Action::Moderate => 16,
        Action::Invite => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{History, Permissions};

    fn grant(user: &str, guest: bool, roles: &[&str]) -> Grant {
        Grant {
            app: App::new("demo").unwrap(),
            sender: Sender { user: User::new(user).unwrap(), name: None },
            device: None,
            guest,
            roles: roles.iter().map(|role| Role::new(role).unwrap()).collect(),
            capabilities: None,
            issued_at: 0,
            expires_at: None,
            login: None,
            info: None,
        }
    }

    fn rule(permissions: Permissions) -> Rule {
        Rule {
            pattern: "*".into(),
            history: History::None,
            presence: true,
            notify: false,
            search: false,
            permissions,
        }
    }

    fn decide(grant: &Grant, rule: &Rule, channel: &str) -> Decision {
        grant.decide(&Channel::new(channel).unwrap(), rule)
    }

    fn may(decision: Decision, action: Action) -> Option<bool> {
        match decision {
            Decision::Known(permission) => Some(permission.check(action).is_ok()),
            Decision::Ask(allowed) => allowed.contains(action).then_some(true),
        }
    }

    #[test]
    fn open_channels_need_no_question() {
        let open = rule(Permissions::all(Who::Anyone));
        let decision = decide(&grant("g", true, &[]), &open, "a");
        assert_eq!(may(decision, Action::Publish), Some(true));
        assert_eq!(may(decision, Action::Moderate), Some(false));
        let users = rule(Permissions::all(Who::Users));
        assert_eq!(may(decide(&grant("g", true, &[]), &users, "a"), Action::Subscribe), Some(false));
        assert_eq!(may(decide(&grant("u", false, &[]), &users, "a"), Action::Subscribe), Some(true));
    }

    #[test]
    fn members_and_tokens_are_asked_for() {
        for who in [Who::Members, Who::Token, Who::Role(Role::new("support").unwrap())] {
            let rule = rule(Permissions::all(who));
            assert_eq!(decide(&grant("u", false, &[]), &rule, "a"), Decision::Ask(Actions::NONE));
        }
        let role = rule(Permissions::all(Who::Role(Role::new("support").unwrap())));
        assert_eq!(may(decide(&grant("u", false, &["support"]), &role, "a"), Action::Publish), Some(true));
    }

    #[test]
    fn the_server_may_everything_and_nobody_else_what_is_the_servers() {
        let server = rule(Permissions::all(Who::Server));
        assert_eq!(may(decide(&grant("u", false, &["server"]), &server, "a"), Action::Moderate), Some(true));
        assert_eq!(may(decide(&grant("u", false, &["admin"]), &server, "a"), Action::Subscribe), Some(false));
    }

    #[test]
    fn what_a_token_says_of_channels_alone_decides() {
        let mut grant = grant("u", false, &[]);
        let entries = [
            ("room:*".into(), Actions::NONE.with(Action::Subscribe)),
            ("room:1".into(), Actions::NONE.with(Action::Publish)),
        ];
        grant.capabilities = Some(Capabilities::new(entries));
        let members = rule(Permissions::all(Who::Members));
        let open = rule(Permissions::all(Who::Anyone));
        assert_eq!(may(decide(&grant, &members, "room:2"), Action::Subscribe), Some(true));
        assert_eq!(may(decide(&grant, &members, "room:2"), Action::Publish), Some(false));
        assert_eq!(may(decide(&grant, &members, "room:1"), Action::Publish), Some(true));
        assert_eq!(may(decide(&grant, &open, "other"), Action::Subscribe), Some(false));
    }

    #[test]
    fn a_pattern_for_everything_is_no_key_to_personal_and_system_channels() {
        let all = |pattern: &str| {
            let mut grant = grant("u", false, &[]);
            grant.capabilities = Some(Capabilities::new([(pattern.into(), Actions::ALL)]));
            grant
        };
        let open = rule(Permissions::all(Who::Anyone));
        for channel in ["@bob", "@bob/phone", "$presence"] {
            assert_eq!(may(decide(&all("*"), &open, channel), Action::Subscribe), Some(false), "{channel}");
        }
        assert_eq!(may(decide(&all("$*"), &open, "$presence"), Action::Subscribe), Some(true));
        let named = Rule { pattern: "$presence".into(), ..open.clone() };
        assert_eq!(may(decide(&grant("u", false, &[]), &named, "$presence"), Action::Subscribe), Some(true));
        // Bob may have blocked whom his app lets write to everybody.
        let Decision::Ask(actions) = decide(&all("@*"), &open, "@bob") else { panic!("bob is not asked") };
        assert!(actions.contains(Action::Subscribe) && !actions.contains(Action::Publish));
        assert_eq!(may(decide(&all("@*"), &open, "@u"), Action::Publish), Some(true));
    }

    #[test]
    fn a_personal_channel_is_its_owners() {
        let open = rule(Permissions::all(Who::Anyone));
        let mut ann = grant("ann", false, &[]);
        assert_eq!(may(decide(&ann, &open, "@ann"), Action::Subscribe), Some(true));
        assert_eq!(may(decide(&ann, &open, "@ann/phone"), Action::Subscribe), Some(false));
        ann.device = Some(Device::new("phone").unwrap());
        assert_eq!(may(decide(&ann, &open, "@ann/phone"), Action::Subscribe), Some(true));
        // Bob may have been blocked.
        assert_eq!(decide(&grant("bob", false, &[]), &open, "@ann"), Decision::Ask(Actions::NONE));
        let closed = rule(Permissions::all(Who::Server));
        assert_eq!(may(decide(&grant("bob", false, &[]), &closed, "@ann"), Action::Publish), Some(false));
        assert_eq!(may(decide(&ann, &closed, "@ann"), Action::Subscribe), Some(true));
        assert_eq!(may(decide(&ann, &closed, "@ann"), Action::Publish), Some(false));
    }
}
