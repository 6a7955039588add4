//! `xpush app key`: what an app's back end shows to the HTTP API.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use xpush_core::ports::directory::{ApiKeyRecord, Entry, Key, Listing, Record, Scope};
use xpush_core::{ApiKeyId, App, UnixMillis};

use super::{Installation, Told, columns, json as shown, note, now};

const EXAMPLES: &str = "\
Examples:
  xpush app key create shop --name orders --scope publish --scope read
  xpush app key list shop
  xpush app key rotate shop ID                 another secret; the old one is good for another day
  xpush app key revoke shop ID

The key is all that goes to stdout:
  key=$(xpush app key create shop --scope publish)
  curl http://127.0.0.1:8000/api/v1/messages -H \"authorization: Bearer $key\" \\
    -H 'content-type: application/json' -d '{\"channel\": \"chat:lobby\", \"data\": \"hello\"}'

The scopes: publish (messages out), read (histories, who is there), users (users, devices, members), admin (everything).
The API: docs/api.md, or /api/v1/openapi.json of a running server.";

/// What is told beside a key. The key is all that goes to stdout.
const SHOWN_ONCE: &str = "It is not shown again.";

/// Keys for the HTTP API, by which an app's back end publishes and asks.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// An app's keys; no secrets.
    List {
        app: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key, and print it: it is not shown again.
    Create {
        app: String,
        /// What it is for.
        #[arg(long)]
        name: Option<String>,
        /// What it opens: publish, read, users or admin; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE", value_parser = scope, required = true)]
        scopes: Vec<Scope>,
        /// After how many days it ends [default: never].
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: Option<u64>,
    },
    /// Give a key another secret, and print it.
    Rotate {
        app: String,
        id: String,
        /// For how many hours the secret before stays good.
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(0..=720))]
        grace: u64,
    },
    /// Let a key open nothing any more.
    Revoke { app: String, id: String },
}

impl Keys {
    /// Of which app.
    pub(super) fn app(&self) -> &str {
        match &self.what {
            What::List { app, .. }
            | What::Create { app, .. }
            | What::Rotate { app, .. }
            | What::Revoke { app, .. } => app,
        }
    }

    /// Runs the command for an app that there is.
    pub(super) fn run(&self, installation: &Installation, app: &App) -> Told {
        match &self.what {
            What::List { json, .. } => list(installation, app, *json),
            What::Create { name, scopes, days, .. } => {
                let expires_at = days.map(|days| now() + days * 86_400_000);
                create(installation, app, name.as_deref(), scopes, expires_at)
            }
            What::Rotate { id, grace, .. } => rotate(installation, app, id, grace * 3_600),
            What::Revoke { id, .. } => {
                let id = existing(installation, app, id)?;
                installation.administer(async |administration, actor| {
                    administration.revoke_api_key(&actor, app, &id).await
                })?;
                Ok(format!(
                    "the key {id} opens nothing any more; a running server knows it within 2 seconds\n"
                ))
            }
        }
    }
}

fn create(
    installation: &Installation,
    app: &App,
    name: Option<&str>,
    scopes: &[Scope],
    expires_at: Option<UnixMillis>,
) -> Told {
    let made = installation.administer(async |administration, actor| {
        administration.create_api_key(&actor, app, name.map(Into::into), scopes, expires_at).await
    })?;
    note(format_args!("{app} has the API key {}. {SHOWN_ONCE}", made.id));
    Ok(made.text + "\n")
}

fn rotate(installation: &Installation, app: &App, id: &str, grace: u64) -> Told {
    let key = existing(installation, app, id)?;
    let record = installation.get(&Key::ApiKey(app.clone(), key.clone()))?;
    if let Some(Entry { record: Record::ApiKey(record), .. }) = record
        && record.revoked_at.is_some()
    {
        return Err(format!("the key {id} is revoked: create another one"));
    }
    let made = installation.administer(async |administration, actor| {
        administration.rotate_api_key(&actor, app, &key, grace).await
    })?;
    note(format_args!("the key {id} has another secret. {SHOWN_ONCE}"));
    Ok(made.text + "\n")
}

fn list(installation: &Installation, app: &App, json: bool) -> Told {
    let keys = installation.all(&Listing::ApiKeys(app.clone()))?;
    let keys = keys.into_iter().filter_map(|entry| match entry {
        Entry { key: Key::ApiKey(_, id), record: Record::ApiKey(record), .. } => Some((id, record)),
        _ => None,
    });
    if json {
        let value = |(id, record): (ApiKeyId, Box<ApiKeyRecord>)| {
            json!({
                "id": id, "name": record.name, "scopes": record.scopes, "created_at": record.created_at,
                "rotated_at": record.rotated_at, "expires_at": record.expires_at,
                "revoked_at": record.revoked_at, "used_at": record.used_at,
            })
        };
        return Ok(shown(&keys.map(value).collect::<Value>()));
    }
    let row = |(id, record): (ApiKeyId, Box<ApiKeyRecord>)| {
        let scopes: Vec<_> = record.scopes.iter().map(|scope| scope.as_str()).collect();
        let state = match (record.revoked_at, record.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now() => "over",
            _ if record.used_at == 0 => "never used",
            _ => "in use",
        };
        vec![id.to_string(), state.to_owned(), scopes.join(" "), record.name.unwrap_or_default().into()]
    };
    Ok(columns(&keys.map(row).collect::<Vec<_>>()))
}

/// The id of a key that there is.
fn existing(installation: &Installation, app: &App, id: &str) -> Result<ApiKeyId, String> {
    let unknown = || format!("{app} has no API key `{id}`: `xpush app key list {app}`");
    let known = ApiKeyId::new(id).map_err(|_| unknown())?;
    match installation.get(&Key::ApiKey(app.clone(), known.clone()))? {
        Some(_) => Ok(known),
        None => Err(unknown()),
    }
}

fn scope(name: &str) -> Result<Scope, String> {
    Scope::parse(name).ok_or_else(|| "publish, read, users or admin".to_owned())
}
