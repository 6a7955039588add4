//! `xpush member`: who belongs to channels.

use clap::{Args, Subcommand};
use serde_json::json;
use xpush_core::ports::access::Enrolment;
use xpush_core::ports::directory::{Key, Listing, MemberRecord, Record};
use xpush_core::{App, Channel, ChannelKey, Role, User};

use super::{Installation, Told, columns, json as shown, user_name};
use crate::cli::Within;

const EXAMPLES: &str = "\
Examples:
  xpush member add room:kitchen ann --role owner
  xpush member add room:kitchen bob carl       several at once
  xpush member list room:kitchen
  xpush member remove room:kitchen bob         his subscriptions end

A running server follows within 2 seconds.";

/// Members of channels.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Members {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Who belongs to a channel.
    List {
        channel: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make users members; those who are get the role.
    Add {
        channel: String,
        #[arg(required = true)]
        users: Vec<String>,
        /// What they are there: owner, moderator, … [default: members without a role].
        #[arg(long)]
        role: Option<String>,
    },
    /// Make users members no more.
    Remove {
        channel: String,
        #[arg(required = true)]
        users: Vec<String>,
    },
}

/// Runs the command.
pub(crate) fn run(members: &Members) -> Told {
    let (site, named) = (&members.within.site, members.within.app.as_deref());
    match &members.what {
        What::List { channel, json } => {
            let installation = Installation::open(site)?;
            let key = channel_key(&installation, installation.app(named)?, channel)?;
            list(&installation, key, *json)
        }
        What::Add { channel, users, role } => {
            let installation = Installation::open_or_make(site)?;
            let key = channel_key(&installation, installation.app(named)?, channel)?;
            let role = role.as_deref().map(Role::new).transpose();
            let role = role.map_err(|_| "a role has 1 to 32 letters, digits, `-` or `_`".to_owned())?;
            let role = role.or_else(|| Role::new("member").ok());
            let named = role.as_ref().map_or("member", Role::as_str).to_owned();
            let change = Enrolment { add: user_names(users)?, role, ..Enrolment::default() };
            enrol(&installation, &key, &change)?;
            Ok(format!("{named} of {}: {}\n", key.name, users.join(" ")))
        }
        What::Remove { channel, users } => {
            let installation = Installation::open(site)?;
            let key = channel_key(&installation, installation.app(named)?, channel)?;
            enrol(&installation, &key, &Enrolment { remove: user_names(users)?, ..Enrolment::default() })?;
            Ok(format!("not in {}: {}\n", key.name, users.join(" ")))
        }
    }
}

fn list(installation: &Installation, channel: ChannelKey, json: bool) -> Told {
    let entries = installation.all(&Listing::Members(channel))?;
    let members = entries.into_iter().filter_map(|entry| match (entry.key, entry.record) {
        (Key::Member(_, user), Record::Member(record)) => Some((user, record)),
        _ => None,
    });
    if json {
        let value = |(user, record): (User, MemberRecord)| json!({"user": user, "role": record.role, "muted": record.muted, "since": record.since});
        return Ok(shown(&members.map(value).collect()));
    }
    let row = |(user, record): (User, MemberRecord)| {
        vec![user.to_string(), record.role.map_or("member".to_owned(), |role| role.to_string())]
    };
    Ok(columns(&members.map(row).collect::<Vec<_>>()))
}

fn enrol(installation: &Installation, channel: &ChannelKey, change: &Enrolment) -> Result<(), String> {
    installation.administer(async |administration, actor| {
        administration.change_members(&actor, channel, change).await
    })
}

/// A channel that can have members.
fn channel_key(installation: &Installation, app: App, channel: &str) -> Result<ChannelKey, String> {
    let name = Channel::new(channel).map_err(|code| code.text().to_owned())?;
    let record = installation.record(&app)?.unwrap_or_default();
    match record.rules.find(&name) {
        None => Err(format!("no rule of {app} is for channels such as `{channel}`")),
        Some(rule) if !rule.has_members() => {
            Err(format!("`{channel}` has no members: nothing in the rule \"{}\" is for them", rule.pattern))
        }
        Some(_) => Ok(ChannelKey::new(app, name)),
    }
}

fn user_names(users: &[String]) -> Result<Vec<User>, String> {
    users.iter().map(|user| user_name(user)).collect()
}
