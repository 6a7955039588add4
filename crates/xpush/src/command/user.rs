//! `xpush user`: accounts and what is known of users.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use xpush_core::ports::directory::{Key, Listing, Record, UserRecord};
use xpush_core::{App, Device, Role, User};

use xpush_session::administration::{Actor, Before, Wanted};
use xpush_session::erasure::Progress;

use super::{Installation, Told, app_name, columns, json as shown, now, terminal, user_name};
use crate::cli::Within;

const EXAMPLES: &str = "\
Examples:
  xpush user create ann --name Ann             asks for the password
  echo secret-phrase | xpush user create bob   or reads it from stdin
  xpush user list --app shop
  xpush user roles ann support                 from now on she has this role, and no other
  xpush user disable ann                       ends her connections, and lets her in no more
  xpush user revoke ann --device phone         logs out one device; without --device all of them
  xpush user delete ann                        and all that is kept of her: devices, logins, memberships, messages

A running server follows within 2 seconds.";

/// Users of an app, and their accounts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Users {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Who has an account, or is known otherwise.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Everything that is known of a user, as JSON; no secrets.
    Show { user: String },
    /// Make an account.
    Create {
        user: String,
        /// The name that others see.
        #[arg(long)]
        name: Option<String>,
        /// A role in the app; may be given several times.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Without a password: the user signs in elsewhere.
        #[arg(long)]
        no_password: bool,
    },
    /// Give an account another password; its logins end.
    Password { user: String },
    /// Set what a user is in the app; without any, nothing.
    Roles { user: String, roles: Vec<String> },
    /// Let a user in no more.
    Disable { user: String },
    /// Let a user in again.
    Enable { user: String },
    /// Make void what was issued to a user until now; its connections end.
    Revoke {
        user: String,
        /// Only on this device.
        #[arg(long)]
        device: Option<String>,
    },
    /// Remove a user and everything that is kept of it, its messages included; whether it has an account or not. Cut short, a running server goes on with it.
    Delete { user: String },
}

/// Runs the command.
pub(crate) fn run(users: &Users) -> Told {
    let (site, named) = (&users.within.site, users.within.app.as_deref());
    if let What::Create { user, name, roles, no_password } = &users.what {
        let installation = Installation::open_or_make(site)?;
        let app = installation.app(named)?;
        let account = UserRecord {
            name: name.as_deref().map(Into::into),
            roles: read_roles(roles)?,
            ..UserRecord::default()
        };
        return create(&installation, &app, user, account, !no_password);
    }
    let installation = Installation::open(site)?;
    let app = installation.app(named)?;
    match &users.what {
        What::List { json } => list(&installation, &app, *json),
        What::Show { user } => show(&installation, &app, &user_name(user)?),
        What::Create { .. } => Err("handled above".to_owned()),
        What::Password { user } => {
            let user = user_name(user)?;
            existing(&installation, &app, &user)?;
            let wanted = Wanted { password: Some(Some(digest()?)), ..Wanted::default() };
            change(&installation, &app, &user, &wanted, false)?;
            Ok(format!("{user} has another password, and is logged out everywhere\n"))
        }
        What::Roles { user, roles } => {
            let user = user_name(user)?;
            let roles = read_roles(roles)?;
            existing(&installation, &app, &user)?;
            let wanted = Wanted { roles: Some(roles.clone()), ..Wanted::default() };
            change(&installation, &app, &user, &wanted, false)?;
            let roles: Vec<_> = roles.iter().map(Role::as_str).collect();
            Ok(match roles.is_empty() {
                true => format!("{user} has no roles\n"),
                false => format!("{user}: {}\n", roles.join(" ")),
            })
        }
        What::Disable { user } => {
            let user = user_name(user)?;
            // Who comes with a token of the app's own back end has no entry before something is said of them.
            let wanted = Wanted { banned: Some(true), ..Wanted::default() };
            change(&installation, &app, &user, &wanted, true)?;
            Ok(format!("{user} may not connect\n"))
        }
        What::Enable { user } => {
            let user = user_name(user)?;
            existing(&installation, &app, &user)?;
            let wanted = Wanted { banned: Some(false), ..Wanted::default() };
            change(&installation, &app, &user, &wanted, false)?;
            Ok(format!("{user} may connect\n"))
        }
        What::Revoke { user, device } => revoke(&installation, &app, &user_name(user)?, device.as_deref()),
        What::Delete { user } => delete(&installation, &app, &user_name(user)?),
    }
}

/// Makes an account; refuses when there is one.
pub(super) fn create(
    installation: &Installation,
    app: &App,
    user: &str,
    account: UserRecord,
    with_password: bool,
) -> Told {
    let user = user_name(user)?;
    if user.is_reserved() {
        return Err(format!(
            "`{user}` is a name that the server gives: to guests, XPUSH 0.1 clients, or itself"
        ));
    }
    let key = Key::User(app.clone(), user.clone());
    let taken = || {
        format!(
            "there is a user `{user}` already: `xpush user password {user} --app {app}` changes its password"
        )
    };
    if installation.get(&key)?.is_some() {
        return Err(taken());
    }
    let password = if with_password { Some(digest()?) } else { None };
    let wanted = Wanted {
        name: Some(account.name),
        roles: Some(account.roles),
        password: Some(password),
        ..Wanted::default()
    };
    installation.administer(async |administration, actor| {
        administration.create_user(&actor, app, &user, &wanted, Before::Another).await
    })?;
    Ok(format!("{user} is a user of {app}\n"))
}

/// Takes a user out of everything, and shows how far that is.
fn delete(installation: &Installation, app: &App, user: &User) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let _within = runtime.enter();
    let parts = crate::backends::erased(&installation.settings, installation.kept.clone())?;
    let mut erased = 0;
    let told = |progress: Progress| match progress {
        Progress::Settling { ms, of } => terminal::progress("ending its connections", ms, of),
        Progress::Erasing(step) => {
            erased = step.erased;
            // What comes last is not in the count.
            let of = if step.ended { step.of } else { step.of.max(step.looked_at + 1) };
            terminal::progress("erasing its messages", step.looked_at, of);
        }
    };
    let (administration, actor) = (installation.administration(), Actor::command_line());
    let done = runtime.block_on(administration.erase_user_now(&actor, app, user, parts, told));
    done.map_err(|why| format!("{why}; begin again, or leave it to the server"))?;
    Ok(format!("{user} is gone, and {erased} messages with it\n"))
}

fn list(installation: &Installation, app: &App, json: bool) -> Told {
    let users = installation.all(&Listing::Users(app.clone()))?;
    let users = users.into_iter().filter_map(|entry| match (entry.key, entry.record) {
        (Key::User(_, user), Record::User(record)) => Some((user, *record)),
        _ => None,
    });
    if json {
        return Ok(shown(&users.map(|(user, record)| value(&user, &record)).collect()));
    }
    let row = |(user, record): (User, UserRecord)| {
        let roles: Vec<_> = record.roles.iter().map(Role::as_str).collect();
        let account = match (&record.password, record.disabled) {
            (_, true) => "disabled",
            (Some(_), _) => "password",
            (None, _) => "no password",
        };
        vec![user.to_string(), account.to_owned(), roles.join(" "), record.name.unwrap_or_default().into()]
    };
    Ok(columns(&users.map(row).collect::<Vec<_>>()))
}

fn show(installation: &Installation, app: &App, user: &User) -> Told {
    let entry = installation.get(&existing(installation, app, user)?)?;
    let mut shown_user = value(user, &as_user(entry.map(|entry| entry.record)));
    let of = |listing: fn(App, User) -> Listing| installation.all(&listing(app.clone(), user.clone()));
    let devices = of(Listing::Devices)?.into_iter().filter_map(|entry| match (entry.key, entry.record) {
        (Key::Device(_, _, device), Record::Device(record)) => Some(json!({
            "device": device, "name": record.name, "platform": record.platform, "seen_at": record.seen_at,
        })),
        _ => None,
    });
    let logins = of(Listing::Logins)?.into_iter().filter_map(|entry| match (entry.key, entry.record) {
        (Key::Login(_, _, login), Record::Login(record)) => Some(json!({
            "login": login, "device": record.device, "created_at": record.created_at, "expires_at": record.expires_at,
        })),
        _ => None,
    });
    let channels =
        of(Listing::Memberships)?.into_iter().filter_map(|entry| match (entry.key, entry.record) {
            (Key::Member(channel, _), Record::Member(record)) => {
                Some(json!({"channel": channel.name.as_str(), "role": record.role, "muted": record.muted}))
            }
            _ => None,
        });
    let blocks = of(Listing::Blocks)?.into_iter().filter_map(|entry| match entry.key {
        Key::Block(_, _, other) => Some(json!(other)),
        _ => None,
    });
    let identities = of(Listing::Identities)?.into_iter().filter_map(|entry| match entry.key {
        Key::Identity(_, issuer, sub) => Some(json!({"issuer": issuer, "sub": sub})),
        _ => None,
    });
    for (name, values) in [
        ("devices", devices.collect::<Value>()),
        ("logins", logins.collect()),
        ("channels", channels.collect()),
        ("blocks", blocks.collect()),
        ("identities", identities.collect()),
    ] {
        shown_user[name] = values;
    }
    Ok(shown(&shown_user))
}

fn revoke(installation: &Installation, app: &App, user: &User, device: Option<&str>) -> Told {
    let named = device.map(Device::new).transpose().map_err(|_| "a device has 1 to 64 bytes".to_owned())?;
    if let Some(device) = &named
        && installation.get(&Key::Device(app.clone(), user.clone(), device.clone()))?.is_none()
    {
        return Err(format!("{user} has no device `{device}`: `xpush user show {user}` lists them"));
    }
    installation.administer(async |administration, actor| {
        administration.revoke(&actor, app, user, named.as_ref()).await
    })?;
    Ok(match named {
        Some(device) => format!("{user} is logged out on {device}\n"),
        None => format!("{user} is logged out everywhere\n"),
    })
}

/// The key of a user that there is.
fn existing(installation: &Installation, app: &App, user: &User) -> Result<Key, String> {
    let key = Key::User(app.clone(), user.clone());
    match installation.get(&key)? {
        Some(_) => Ok(key),
        None => Err(format!("there is no user `{user}` in {app}: `xpush user list --app {app}`")),
    }
}

fn change(
    installation: &Installation,
    app: &App,
    user: &User,
    wanted: &Wanted,
    or_make: bool,
) -> Result<(), String> {
    installation.administer(async |administration, actor| {
        administration.change_user(&actor, app, user, wanted, or_make).await.map(drop)
    })
}

fn as_user(record: Option<Record>) -> UserRecord {
    match record {
        Some(Record::User(user)) => *user,
        _ => UserRecord { created_at: now(), ..UserRecord::default() },
    }
}

fn value(user: &User, record: &UserRecord) -> Value {
    let info = record.info.as_deref().and_then(|info| serde_json::from_str::<Value>(info).ok());
    json!({
        "user": user, "name": record.name, "roles": record.roles, "info": info, "disabled": record.disabled,
        "password": record.password.is_some(), "created_at": record.created_at,
        "tokens_valid_from": record.tokens_valid_from,
    })
}

fn digest() -> Result<Box<str>, String> {
    terminal::new_password()?.digest().map_err(|problem| problem.message().to_owned())
}

fn read_roles(roles: &[String]) -> Result<Vec<Role>, String> {
    let read = |role: &String| {
        Role::new(role)
            .map_err(|_| format!("a role has 1 to 32 letters, digits, `-` or `_`; `{role}` has not"))
    };
    roles.iter().map(read).collect()
}

/// For whoever is no user of a configured app.
pub(super) fn operators() -> Result<App, String> {
    app_name(crate::config::OPERATORS)
}
