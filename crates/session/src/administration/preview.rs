//! What rules come to for one channel: which one holds, and who may do what there.

use serde_json::{Value, json};
use xpush_core::access::{Actions, Decision};
use xpush_core::message::Sender;
use xpush_core::ports::directory::MemberRecord;
use xpush_core::rules::matches;
use xpush_core::{Action, App, Channel, Grant, History, Permission, Role, Rule, Rules, User, Who};

/// What is asked.
pub struct Question<'a> {
    /// In which app.
    pub app: &'a App,
    /// By which rules.
    pub rules: &'a Rules,
    /// Whether they are only thought of.
    pub draft: bool,
    /// Of which channel.
    pub channel: &'a Channel,
    /// As whom; `.1`: a guest.
    pub user: Option<(User, bool)>,
    /// What the user is in the app.
    pub roles: Vec<Role>,
    /// What the user is in the channel, if it is a member.
    pub member: Option<MemberRecord>,
    /// Whether the owner of this personal channel has blocked the user.
    pub blocked: bool,
}

/// The answer, as a JSON object.
pub fn answer(question: &Question<'_>) -> Value {
    let Question { rules, channel, draft, .. } = question;
    let reaches = |rule: &Rule| {
        (!channel.is_system() || rule.pattern.starts_with('$')) && matches(&rule.pattern, channel.as_str())
    };
    let mut fitting = rules.iter().enumerate().filter(|(_, rule)| reaches(rule));
    let mut answer = json!({"channel": channel, "draft": draft, "settings": [], "everyone": {}});
    let Some((index, rule)) = fitting.next() else {
        answer["reason"] = if channel.is_system() {
            json!("no rule that begins with `$` covers it: the server's own channels are not covered by `*`")
        } else {
            json!("no rule covers it: it cannot be used")
        };
        return answer;
    };
    let shadowed: Vec<Value> =
        fitting.map(|(index, rule)| json!({"index": index, "channels": rule.pattern})).collect();
    answer["rule"] = json!({"index": index, "channels": rule.pattern, "shadowed": shadowed});
    answer["settings"] = settings(rule, channel);
    answer["everyone"] = everyone(rule, channel);
    if let Some((user, guest)) = &question.user {
        answer["user"] = of_user(question, rule, user, *guest);
    }
    answer
}

fn settings(rule: &Rule, channel: &Channel) -> Value {
    let (history, kept) = match rule.history {
        History::None => ("none", "nothing is kept, and messages have no seq".to_owned()),
        History::Recent(keep) => (
            "recent",
            format!("the newest {} messages, in memory, for {} s at most", keep.count, keep.age_ms / 1_000),
        ),
        History::Durable(keep) if keep.count == usize::MAX && keep.age_ms == u64::MAX => {
            ("durable", "every message, on disk, for good".to_owned())
        }
        History::Durable(_) => ("durable", "on disk, within the bounds of `keep`".to_owned()),
    };
    let from = |what: &str| format!("the rule \"{}\" says so: {what}", rule.pattern);
    let personal = channel.owner().is_some();
    let members = rule.has_members() && !personal && !channel.is_system();
    json!([
        {"name": "history", "value": history, "reason": from(&kept)},
        {"name": "presence", "value": rule.presence, "reason": from(
            if rule.presence { "subscribers are counted and listed" } else { "nobody is counted or listed" },
        )},
        {"name": "notify", "value": rule.notify, "reason": from(
            if rule.notify { "members who do not follow it hear of new messages" } else { "nobody hears of it who does not follow it" },
        )},
        {"name": "search", "value": rule.search, "reason": from(
            if rule.search { "whoever may read its history can search it" } else { "nobody searches it" },
        )},
        {"name": "members", "value": members, "reason": if personal {
            "it is a user's own channel".to_owned()
        } else if members {
            from("something in it is for members")
        } else {
            from("nothing in it is for members")
        }},
    ])
}

fn everyone(rule: &Rule, channel: &Channel) -> Value {
    let mut everyone = json!({});
    for action in Actions::EACH {
        let who = rule.permissions.of(action);
        let personal = channel.owner().is_some() && action != Action::Publish;
        let text = if personal {
            match action {
                Action::Moderate | Action::Invite => "the app's back end".to_owned(),
                _ => "its owner alone, and the app's back end".to_owned(),
            }
        } else {
            spoken(who)
        };
        everyone[action.as_str()] = json!({"who": words(who), "text": text});
    }
    let create = &rule.permissions.create;
    everyone["create"] = json!({"who": words(create), "text": spoken(create)});
    everyone
}

fn of_user(question: &Question<'_>, rule: &Rule, user: &User, guest: bool) -> Value {
    let grant = Grant {
        app: question.app.clone(),
        sender: Sender { user: user.clone(), name: None },
        device: None,
        guest,
        roles: question.roles.clone(),
        capabilities: None,
        issued_at: 0,
        expires_at: None,
        login: None,
        info: None,
    };
    let personal = question.channel.owner().is_some();
    let permission = match grant.decide(question.channel, rule) {
        Decision::Known(permission) => permission,
        // What ACCESS would find out.
        Decision::Ask(allowed) if personal => {
            Permission::of(if question.blocked { allowed } else { allowed.with(Action::Publish) })
        }
        Decision::Ask(allowed) => Permission::of(allowed.and(as_member(rule, question.member.as_ref()))),
    };
    let may: Vec<Value> = Actions::EACH
        .into_iter()
        .map(|action| {
            let allowed = permission.actions.contains(action);
            let reason = reason(question, rule, &grant, action, allowed);
            json!({"action": action.as_str(), "allowed": allowed, "reason": reason})
        })
        .collect();
    let mut told = json!({"user": user, "guest": guest, "roles": question.roles, "may": may});
    if let Some(member) = &question.member {
        told["member"] = json!({"role": member.role});
    }
    told
}

fn as_member(rule: &Rule, member: Option<&MemberRecord>) -> Actions {
    let Some(member) = member else { return Actions::NONE };
    let holds = |who: &Who| match who {
        Who::Members => true,
        Who::Role(role) => member.role.as_ref() == Some(role),
        _ => false,
    };
    let held = |action: &Action| rule.permissions.of(*action).iter().any(holds);
    Actions::EACH.into_iter().filter(held).fold(Actions::NONE, Actions::with)
}

/// Why somebody may do something, or may not.
fn reason(question: &Question<'_>, rule: &Rule, grant: &Grant, action: Action, allowed: bool) -> String {
    if grant.is_server() {
        return "the app's back end may everything".to_owned();
    }
    if let Some((owner, _)) = question.channel.owner() {
        let own = owner == grant.sender.user;
        return match (own, action) {
            (true, Action::Subscribe | Action::History | Action::Presence) if allowed => {
                "it is the user's own channel"
            }
            (false, Action::Publish) if question.blocked => "its owner has blocked the user",
            (_, Action::Publish) if allowed => "the rule lets the user publish in personal channels",
            (_, Action::Publish) => "the rule does not let the user publish in personal channels",
            (true, _) => "only the app's back end may",
            (false, _) => "it is another user's own channel",
        }
        .to_owned();
    }
    let who = rule.permissions.of(action);
    if !allowed {
        let token = if who.contains(&Who::Token) { "; a token for this channel would open it" } else { "" };
        return format!("it is for {}{token}", spoken(who));
    }
    let by = who.iter().find_map(|who| match who {
        Who::Anyone => Some("everybody may".to_owned()),
        Who::Users if !grant.guest => Some("every user may, who is no guest".to_owned()),
        Who::Role(role) if grant.roles.contains(role) => {
            Some(format!("the user has the role {role} in the app"))
        }
        Who::Members if question.member.is_some() => Some("the user is a member".to_owned()),
        Who::Role(role)
            if question.member.as_ref().is_some_and(|member| member.role.as_ref() == Some(role)) =>
        {
            Some(format!("the user has the role {role} in this channel"))
        }
        _ => None,
    });
    by.unwrap_or_default()
}

fn words(who: &[Who]) -> Vec<String> {
    who.iter().map(ToString::to_string).collect()
}

/// For people: "members of the channel, or who has the role support".
fn spoken(who: &[Who]) -> String {
    let one = |who: &Who| match who {
        Who::Anyone => "everybody who may connect".to_owned(),
        Who::Users => "users, not guests".to_owned(),
        Who::Members => "members of the channel".to_owned(),
        Who::Token => "who brings a token for this channel".to_owned(),
        Who::Server => "the app's back end".to_owned(),
        Who::Role(role) => format!("who has the role {role}, in the app or in the channel"),
    };
    match who {
        [] => "the app's back end alone".to_owned(),
        who => who.iter().map(one).collect::<Vec<_>>().join(", or "),
    }
}

#[cfg(test)]
mod tests {
    use xpush_core::Permissions;

    use super::*;

    fn rule(pattern: &str, permissions: Permissions) -> Rule {
        Rule {
            pattern: pattern.into(),
            history: History::None,
            presence: true,
            notify: false,
            search: false,
            permissions,
        }
    }

    fn ask(rules: &Rules, channel: &str, user: Option<(&str, bool)>, member: Option<MemberRecord>) -> Value {
        answer(&Question {
            app: &App::new("demo").unwrap(),
            rules,
            draft: true,
            channel: &Channel::new(channel).unwrap(),
            user: user.map(|(name, guest)| (User::new(name).unwrap(), guest)),
            roles: vec![Role::new("support").unwrap()],
            member,
            blocked: false,
        })
    }

    fn may(answer: &Value, action: &str) -> bool {
        let may = answer["user"]["may"].as_array().unwrap();
        may.iter().find(|one| one["action"] == action).unwrap()["allowed"].as_bool().unwrap()
    }

    #[test]
    fn the_first_rule_holds_and_the_others_are_named() {
        let rules = Rules::new([
            rule("room:*", Permissions::all(Who::Members)),
            rule("*", Permissions::all(Who::Anyone)),
        ]);
        let room = ask(&rules, "room:1", Some(("ann", false)), None);
        assert_eq!((&room["rule"]["index"], &room["rule"]["shadowed"][0]["index"]), (&json!(0), &json!(1)));
        assert!(!may(&room, "subscribe"));
        let inside = ask(&rules, "room:1", Some(("ann", false)), Some(MemberRecord::default()));
        assert!(may(&inside, "subscribe") && !may(&inside, "moderate"));
        let owner = MemberRecord { role: Role::new("owner").ok(), ..MemberRecord::default() };
        assert!(may(&ask(&rules, "room:1", Some(("ann", false)), Some(owner)), "moderate"));
        assert_eq!(ask(&rules, "other", None, None)["rule"]["index"], 1);
        assert!(
            ask(&rules, "$presence", None, None).get("rule").is_none(),
            "`*` is not for the server's own"
        );
    }

    #[test]
    fn users_roles_and_owners() {
        let role = Who::Role(Role::new("support").unwrap());
        let rules = Rules::new([
            rule("help:*", Permissions::all(role)),
            rule("u:*", Permissions::all(Who::Users)),
            rule("@*", Permissions::all(Who::Users)),
        ]);
        assert!(may(&ask(&rules, "help:1", Some(("ann", false)), None), "publish"));
        assert!(may(&ask(&rules, "u:1", Some(("ann", false)), None), "publish"));
        assert!(!may(&ask(&rules, "u:1", Some(("g-1", true)), None), "publish"));
        assert!(may(&ask(&rules, "@ann", Some(("ann", false)), None), "subscribe"));
        let other = ask(&rules, "@bob", Some(("ann", false)), None);
        assert!(may(&other, "publish") && !may(&other, "subscribe"));
    }
}
