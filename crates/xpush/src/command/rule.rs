//! `xpush rule`: an app's channel rules.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use xpush_core::ports::directory::{AppRecord, Entry, Key, MemberRecord, Record};
use xpush_core::{Channel, ChannelKey, Role, Rules, User};
use xpush_session::administration::{Question, preview};

use super::app::{change, known, read};
use super::{Installation, Told, columns, json as shown, user_name};
use crate::cli::Within;
use crate::config::{self, LiveApp};

const EXAMPLES: &str = "\
Examples:
  xpush rule list --app shop > rules.json      as JSON with --json; edit it, then:
  xpush rule set --app shop --file rules.json  a list of rules, or {\"rules\": […]}, or TOML with [[rules]]
  xpush rule test room:7 --app shop            which rule would hold, and who could do what
  xpush rule test room:7 --user ann            what ann could do there, and why
  xpush rule test room:7 --file draft.json     by rules that are not set

A running server follows within 2 seconds, and keeps every version: `xpush app versions`.";

/// An app's channel rules: the first whose pattern matches a channel holds.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RulesCommand {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The rules, in order.
    List {
        /// As JSON, as `set` takes it.
        #[arg(long)]
        json: bool,
    },
    /// Give the app other rules.
    Set {
        /// JSON or TOML; `-` is stdin.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// What would hold for a channel.
    Test {
        channel: String,
        /// For this user, too.
        #[arg(long)]
        user: Option<String>,
        /// As if the user had this role in the app; may be given several times.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// As a guest.
        #[arg(long)]
        guest: bool,
        /// By the rules in this file.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub(crate) fn run(rules: &RulesCommand) -> Told {
    let installation = match &rules.what {
        What::Set { .. } => Installation::open_or_make(&rules.within.site)?,
        _ => Installation::open(&rules.within.site)?,
    };
    let named = installation.app(rules.within.app.as_deref())?;
    let app = known(&installation, named.as_str())?;
    let record = installation.record(&app)?.unwrap_or_default();
    let from_file = |file: &PathBuf| -> Result<Rules, String> {
        let text = read(file)?;
        // A list alone is what `list --json` has told.
        let text = if text.trim_start().starts_with('[') && !text.trim_start().starts_with("[[") {
            format!("{{\"rules\": {text}}}")
        } else {
            text
        };
        let name = file.display().to_string();
        let live = LiveApp { name: &app, before: &record, file: Some((&name, &text)), set: &[] };
        live.read().map(|read| read.rules).map_err(|invalid| invalid.to_string())
    };
    match &rules.what {
        What::List { json } => list(&record, *json),
        What::Set { file } => {
            let wanted = from_file(file)?;
            change(&installation, &app, ("rules.change", None), |mut record| {
                record.rules = wanted.clone();
                Ok(record)
            })?;
            Ok(format!(
                "{app} has {} rules; a running server follows within 2 seconds\n",
                wanted.iter().count()
            ))
        }
        What::Test { channel, user, roles, guest, file, json } => {
            let channel = Channel::new(channel).map_err(|code| format!("`{channel}`: {}", code.text()))?;
            let user = user.as_deref().map(user_name).transpose()?;
            let drafted = file.as_ref().map(from_file).transpose()?;
            let rules = drafted.as_ref().unwrap_or(&record.rules);
            let roles: Vec<Role> = roles
                .iter()
                .map(|role| {
                    Role::new(role).map_err(|_| {
                        format!("a role has 1 to 32 letters, digits, `-` or `_`; `{role}` has not")
                    })
                })
                .collect::<Result<_, _>>()?;
            let (own_roles, member, blocked) = match user.as_ref().filter(|_| !guest) {
                Some(user) => known_of(&installation, &ChannelKey::new(app.clone(), channel.clone()), user)?,
                None => Default::default(),
            };
            let roles = if roles.is_empty() { own_roles } else { roles };
            let user = match (user, guest) {
                (None, true) => Some((user_name("guest")?, true)),
                (user, guest) => user.map(|user| (user, *guest)),
            };
            let draft = drafted.is_some();
            let answer = preview(&Question {
                app: &app,
                rules,
                draft,
                channel: &channel,
                user,
                roles,
                member,
                blocked,
            });
            Ok(if *json { shown(&answer) } else { told(&answer) })
        }
    }
}

/// The rules, in order.
fn list(record: &AppRecord, json: bool) -> Told {
    let written = config::written(record)["rules"].take();
    if json {
        return Ok(shown(&written));
    }
    let row = |(index, rule): (usize, &Value)| {
        let word = |key: &str| match &rule[key] {
            Value::String(text) => text.clone(),
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            _ => String::new(),
        };
        let said = |key: &str| format!("{key}: {}", word(key));
        vec![index.to_string(), word("channels"), word("history"), said("subscribe"), said("publish")]
    };
    Ok(columns(&written.as_array().into_iter().flatten().enumerate().map(row).collect::<Vec<_>>()))
}

/// A user's roles in the app, what it is in the channel, and whether the channel's owner has blocked it.
fn known_of(
    installation: &Installation,
    channel: &ChannelKey,
    user: &User,
) -> Result<(Vec<Role>, Option<MemberRecord>, bool), String> {
    let app = &channel.app;
    let roles = match installation.get(&Key::User(app.clone(), user.clone()))? {
        Some(Entry { record: Record::User(record), .. }) => record.roles,
        _ => Vec::new(),
    };
    let member = match installation.get(&Key::Member(channel.clone(), user.clone()))? {
        Some(Entry { record: Record::Member(member), .. }) => Some(member),
        _ => None,
    };
    let blocked = match channel.name.owner() {
        Some((owner, _)) => installation.get(&Key::Block(app.clone(), owner, user.clone()))?.is_some(),
        None => false,
    };
    Ok((roles, member, blocked))
}

/// The answer for people.
fn told(answer: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let Some(rule) = answer.get("rule") else { return format!("{}\n", text(&answer["reason"])) };
    let mut told = format!("rule {} holds: {}\n", rule["index"], text(&rule["channels"]));
    for shadowed in rule["shadowed"].as_array().into_iter().flatten() {
        told.push_str(&format!(
            "rule {} would match, too, and does not hold: {}\n",
            shadowed["index"],
            text(&shadowed["channels"])
        ));
    }
    let settings = answer["settings"].as_array().into_iter().flatten();
    let mut rows: Vec<Vec<String>> =
        settings.map(|one| vec![text(&one["name"]), text(&one["value"]), text(&one["reason"])]).collect();
    let everyone = answer["everyone"].as_object().into_iter().flatten();
    rows.extend(everyone.map(|(name, one)| vec![name.clone(), String::new(), text(&one["text"])]));
    told.push_str(&columns(&rows));
    if let Some(user) = answer.get("user") {
        told.push_str(&format!("{}:\n", text(&user["user"])));
        let may = user["may"].as_array().into_iter().flatten().map(|one| {
            let allowed = if one["allowed"] == json!(true) { "may" } else { "may not" };
            vec![allowed.to_owned(), text(&one["action"]), text(&one["reason"])]
        });
        told.push_str(&columns(&may.collect::<Vec<_>>()));
    }
    told
}
