//! `xpush token`: a connection token, as the application's back end would make it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use xpush_core::ports::directory::{AppRecord, Key, KeyRecord, Record};
use xpush_core::{App, Device, Role};

use super::{Installation, Told, chance, now, user_name};
use crate::cli::Site;
use crate::config::duration;

const EXAMPLES: &str = "\
Examples:
  xpush token --user ann                       an hour as ann, in the default app
  xpush token --app shop --user ann --device phone --ttl 5m
  xpush token --user back-end --role server    what your back end may: everything
  xpush token --user ann --channels '{\"room:*\": [\"subscribe\", \"history\"]}'
  curl -N -H \"Authorization: Bearer $(xpush token --user ann)\" 'http://127.0.0.1:8000/sse?channel=@ann'

It is signed with the app's HS256 key, or with this installation's own when the app has none.
The token is all that goes to stdout. Who has it is that user until it ends.";

/// Names of what a token may allow.
const ACTIONS: &[&str] = &["subscribe", "publish", "history", "presence", "moderate", "invite", "*"];

/// What the installation's own key is named by; see `Key::Secret`.
const OWN: &str = "xpush";

/// Print a connection token.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Token {
    /// For which user.
    #[arg(long)]
    user: String,
    /// For which app [default: the server's default app].
    #[arg(long)]
    app: Option<String>,
    /// How long it is good.
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: u64,
    /// What the user may do, and nothing else: patterns and lists of subscribe, publish, history, presence, moderate, invite, or "*" for all.
    #[arg(long, value_name = "JSON", value_parser = channels)]
    channels: Option<Value>,
    /// What the user is in the app; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// On which device.
    #[arg(long)]
    device: Option<String>,
    /// The name that others see.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    site: Site,
}

/// Runs the command.
pub(crate) fn run(token: &Token) -> Told {
    let installation = Installation::open_or_make(&token.site)?;
    let app = installation.app(token.app.as_deref())?;
    let record = installation.record(&app)?.unwrap_or_default();
    let claims = claims(token, &app)?;
    let signed = match hmac_key(&record) {
        Some(key) => sign(&key.id, &EncodingKey::from_secret(key.material.as_bytes()), claims),
        None => {
            let mut claims = claims;
            claims.insert("iss".to_owned(), json!(OWN));
            sign(OWN, &EncodingKey::from_secret(&own_secret(&installation)?), claims)
        }
    }?;
    Ok(signed + "\n")
}

/// 32 bytes as text.
pub(super) fn fresh_secret() -> Result<String, String> {
    Ok(URL_SAFE_NO_PAD.encode(chance::<32>()?))
}

fn claims(token: &Token, app: &App) -> Result<Map<String, Value>, String> {
    let user = user_name(&token.user)?;
    if user.is_reserved() {
        return Err(format!(
            "`{user}` is a name that the server gives: to guests, XPUSH 0.1 clients, or itself"
        ));
    }
    let issued = now();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(user));
    claims.insert("app".to_owned(), json!(app));
    // With its milliseconds: what is issued right after a revocation is not revoked. Exact for the next 285,000 years.
    #[expect(clippy::cast_precision_loss)]
    claims.insert("iat".to_owned(), json!(issued as f64 / 1_000.0));
    claims.insert("exp".to_owned(), json!((issued + token.ttl).div_ceil(1_000)));
    if let Some(device) = &token.device {
        let device = Device::new(device).map_err(|_| "a device has 1 to 64 bytes".to_owned())?;
        claims.insert("device".to_owned(), json!(device));
    }
    if let Some(name) = &token.name {
        claims.insert("name".to_owned(), json!(name));
    }
    if !token.roles.is_empty() {
        let roles: Result<Vec<_>, _> = token.roles.iter().map(|role| Role::new(role)).collect();
        let roles = roles.map_err(|_| "a role has 1 to 32 letters, digits, `-` or `_`".to_owned())?;
        claims.insert("roles".to_owned(), json!(roles));
    }
    if let Some(channels) = &token.channels {
        claims.insert("channels".to_owned(), channels.clone());
    }
    Ok(claims)
}

fn hmac_key(record: &AppRecord) -> Option<&KeyRecord> {
    record.keys.iter().find(|key| &*key.algorithm == "HS256")
}

/// The installation's own secret, made when there is none.
fn own_secret(installation: &Installation) -> Result<Box<[u8]>, String> {
    let key = || Key::Secret("accounts".into());
    if installation.get(&key())?.is_none() {
        // Somebody else may make it at the same moment; then theirs is the one.
        installation.make(key(), Record::Secret(Box::new(chance::<32>()?)))?;
    }
    match installation.get(&key())?.map(|entry| entry.record) {
        Some(Record::Secret(secret)) => Ok(secret),
        _ => Err("the installation's secret cannot be read".to_owned()),
    }
}

fn sign(id: &str, key: &EncodingKey, claims: Map<String, Value>) -> Told {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(id.to_owned());
    jsonwebtoken::encode(&header, &claims, key).map_err(|error| format!("cannot sign: {error}"))
}

fn ttl(text: &str) -> Result<u64, String> {
    const YEAR: u64 = 365 * 86_400_000;
    duration(text, 1_000..=10 * YEAR)
}

fn channels(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let form = || "an object is asked for, such as {\"room:*\": [\"subscribe\"]}".to_owned();
    for (pattern, actions) in value.as_object().ok_or_else(form)? {
        for action in actions.as_array().ok_or_else(form)? {
            let action = action.as_str().ok_or_else(form)?;
            if !ACTIONS.contains(&action) {
                return Err(format!("{pattern}: there is no `{action}`, only {}", ACTIONS.join(", ")));
            }
        }
    }
    Ok(value)
}
