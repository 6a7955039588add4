//! JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, 3.1, read strictly: what is odd is refused. What the claims mean is in docs/protocol.md.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use xpush_core::access::{Actions, Capabilities};
use xpush_core::{Action, App, Channel, Code, Device, Login, Problem, Role, UnixMillis, User};

use super::guest::display_name;
use super::keys::{VerifyingKey, algorithm};

/// The largest token, in bytes.
const LARGEST: usize = 16 * 1024;
/// How far the clocks of those who issue tokens may be off, in ms.
pub(super) const LEEWAY: UnixMillis = 5_000;
/// The largest `info`, in bytes.
const LARGEST_INFO: usize = 4 * 1024;
/// How deep `info` may be nested.
const DEEPEST_INFO: usize = 16;
/// Roles a token may give.
const MOST_ROLES: usize = 64;

/// A token that has been read; whether anything in it is true only its signature tells.
pub(super) struct Token {
    text: Box<str>,
    /// Where the signature begins: what is before it and its dot has been signed.
    signature: usize,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Box<str>>,
    pub(super) claims: Claims,
}

/// What a token says.
pub(super) struct Claims {
    pub(super) user: User,
    pub(super) app: Option<App>,
    pub(super) issuer: Option<Box<str>>,
    audience: Option<Vec<String>>,
    pub(super) issued_at: UnixMillis,
    begins_at: UnixMillis,
    pub(super) expires_at: UnixMillis,
    pub(super) name: Option<Arc<str>>,
    pub(super) info: Option<Arc<str>>,
    pub(super) device: Option<Device>,
    pub(super) roles: Option<Vec<Role>>,
    pub(super) capabilities: Option<Capabilities>,
    /// Only XPUSH's own tokens have one; in others the claim is the issuer's own affair.
    pub(super) login: Option<Login>,
    /// What it is for, when it is for one channel alone.
    pub(super) channel: Option<ForChannel>,
}

/// What a subscription token allows.
pub(super) struct ForChannel {
    pub(super) channel: Channel,
    pub(super) actions: Actions,
}

/// JOSE header (RFC 7515, 4.1). A key that comes with the token, or is to be fetched from where the token says, proves nothing; `crit` asks for extensions, and
/// there are none here. Others (`typ`, `x5t`, …) are ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
    #[serde(default, deserialize_with = "is_there")]
    jku: bool,
    #[serde(default, deserialize_with = "is_there")]
    jwk: bool,
    #[serde(default, deserialize_with = "is_there")]
    x5u: bool,
    #[serde(default, deserialize_with = "is_there")]
    x5c: bool,
}

/// The claims as they are written. A name that comes twice is an error of the parser.
#[derive(Deserialize)]
struct Written {
    sub: Option<Value>,
    app: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    iat: Option<Value>,
    nbf: Option<Value>,
    exp: Option<Value>,
    name: Option<Value>,
    info: Option<Value>,
    device: Option<Value>,
    roles: Option<Value>,
    #[serde(default, deserialize_with = "patterns")]
    channels: Option<Patterns>,
    login: Option<Value>,
    channel: Option<Value>,
    actions: Option<Value>,
}

type Patterns = Vec<(Box<str>, Vec<String>)>;

impl Token {
    /// Reads a token.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        if text.len() > LARGEST {
            return Err(bad("it is larger than 16 KB"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("it is no signed JWT in compact form"));
        };
        let header: Header =
            object(header).ok_or_else(|| bad("its header is of no form that is known here"))?;
        if header.crit || header.jku || header.jwk || header.x5u || header.x5c {
            return Err(bad("crit, jku, jwk, x5u and x5c are not allowed in its header"));
        }
        let algorithm = algorithm(&header.alg).ok_or_else(|| bad("alg: HS256, RS256, ES256 or EdDSA"))?;
        let claims: Written = object(claims).ok_or_else(|| {
            bad("its claims are no JSON object, come twice, or channels is no object of arrays")
        })?;
        Ok(Self {
            signature: text.len() - signature.len(),
            text: text.into(),
            algorithm,
            key_id: header.kid.map(Into::into),
            claims: Claims::read(claims)?,
        })
    }

    /// Whether one of `keys` has signed it. Of each only its own algorithm counts.
    pub(super) fn is_signed_by<'a>(&self, keys: impl IntoIterator<Item = &'a VerifyingKey>) -> bool {
        let (signed, signature) = (&self.text[..self.signature - 1], &self.text[self.signature..]);
        let mut fitting = keys.into_iter().filter(|key| key.algorithm == self.algorithm);
        fitting.any(|key| key.verifies(signed, signature))
    }
}

impl Claims {
    fn read(written: Written) -> Result<Self, Problem> {
        let moment = |value, claim| Ok::<_, Problem>(seconds(value, claim)?.unwrap_or(0));
        let app = text(written.app, "app")?;
        let device = text(written.device, "device")?;
        let name = text(written.name, "name")?;
        Ok(Self {
            user: text(written.sub, "sub")?
                .and_then(|sub| User::new(&sub).ok())
                .ok_or_else(|| bad("sub: the user, 1 to 128 bytes without control characters"))?,
            app: app.map(|app| App::new(&app)).transpose().map_err(|_| bad("app: no app's name"))?,
            issuer: text(written.iss, "iss")?.map(Into::into),
            audience: written.aud.map(audience).transpose()?,
            issued_at: moment(written.iat, "iat")?,
            begins_at: moment(written.nbf, "nbf")?,
            expires_at: seconds(written.exp, "exp")?.ok_or_else(|| bad("exp: required"))?,
            name: (name.as_deref().map(display_name).transpose())
                .map_err(|_| bad("name: 1 to 64 characters, none of them a control character"))?,
            info: written.info.map(info).transpose()?,
            device: (device.as_deref().map(Device::new).transpose())
                .map_err(|_| bad("device: 1 to 64 bytes without control characters"))?,
            roles: written.roles.map(roles).transpose()?,
            capabilities: written.channels.map(capabilities).transpose()?,
            login: written.login.as_ref().and_then(Value::as_str).and_then(|login| Login::new(login).ok()),
            channel: written.channel.map(|channel| for_channel(channel, written.actions)).transpose()?,
        })
    }

    /// Whether they hold at `now`.
    pub(super) fn check_time(&self, now: UnixMillis) -> Result<(), Problem> {
        if now >= self.expires_at.saturating_add(LEEWAY) {
            return Err(Code::TokenExpired.into());
        }
        if now.saturating_add(LEEWAY) < self.begins_at.max(self.issued_at) {
            return Err(bad("it is from the future (nbf, iat)"));
        }
        Ok(())
    }

    /// Whether they are for `app`.
    pub(super) fn check_app(&self, app: &App) -> Result<(), Problem> {
        if self.app.as_ref().is_some_and(|named| named != app) {
            return Err(bad("it is for another app"));
        }
        let meant = |audience: &String| audience == "xpush" || audience == app.as_str();
        if self.audience.as_ref().is_some_and(|audience| !audience.iter().any(meant)) {
            return Err(bad("aud: neither xpush nor the app"));
        }
        Ok(())
    }
}

/// The refusal of a token. What it says is for the developer; nothing of the token's content is in it.
pub(super) fn bad(why: &str) -> Problem {
    Problem::new(Code::Unauthenticated, format!("token: {why}"))
}

/// A part of a token: base64url of a JSON object. serde would take an array for a struct, too.
fn object<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(&json).ok()).flatten()
}

fn text(value: Option<Value>, claim: &str) -> Result<Option<String>, Problem> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(&format!("{claim}: a string"))),
    }
}

/// A NumericDate (RFC 7519, 2), which may have a fraction, in ms.
fn seconds(value: Option<Value>, claim: &str) -> Result<Option<UnixMillis>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let seconds = seconds.ok_or_else(|| bad(&format!("{claim}: a number of seconds since 1970")))?;
    // Saturates far behind the year 10,000.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(Some((seconds * 1000.0).round() as UnixMillis))
}

fn audience(value: Value) -> Result<Vec<String>, Problem> {
    let one_or_more = match value {
        Value::String(one) => Some(vec![one]),
        more => strings(more),
    };
    one_or_more.ok_or_else(|| bad("aud: a string or an array of strings"))
}

fn strings(value: Value) -> Option<Vec<String>> {
    let Value::Array(values) = value else { return None };
    values.into_iter().map(|value| if let Value::String(text) = value { Some(text) } else { None }).collect()
}

fn info(value: Value) -> Result<Arc<str>, Problem> {
    let json = value.to_string();
    if value.is_object() && json.len() <= LARGEST_INFO && depth(&value) <= DEEPEST_INFO {
        return Ok(Arc::from(json));
    }
    Err(bad("info: a JSON object of at most 4 KB, nested 16 levels at most"))
}

/// The parser has bounded it: 128 levels.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn roles(value: Value) -> Result<Vec<Role>, Problem> {
    let names = strings(value).filter(|names| names.len() <= MOST_ROLES);
    let roles = names.and_then(|names| names.iter().map(|name| Role::new(name).ok()).collect());
    roles.ok_or_else(|| {
        bad("roles: an array of at most 64 names of a-z A-Z 0-9 - _, each of 1 to 32 characters")
    })
}

fn capabilities(patterns: Patterns) -> Result<Capabilities, Problem> {
    let entries = patterns.into_iter().map(|(pattern, names)| Ok((pattern, actions(&names)?)));
    Ok(Capabilities::new(entries.collect::<Result<Vec<_>, Problem>>()?))
}

fn for_channel(channel: Value, allowed: Option<Value>) -> Result<ForChannel, Problem> {
    let channel = channel.as_str().and_then(|name| Channel::new(name).ok());
    let channel = channel.ok_or_else(|| bad("channel: a channel's name"))?;
    let actions = match allowed {
        None => [Action::Subscribe, Action::History, Action::Presence, Action::Publish]
            .into_iter()
            .fold(Actions::NONE, Actions::with),
        Some(value) => actions(&strings(value).ok_or_else(|| bad("actions: an array of names"))?)?,
    };
    Ok(ForChannel { channel, actions })
}

fn actions(names: &[String]) -> Result<Actions, Problem> {
    names.iter().try_fold(Actions::NONE, |actions, name| {
        if name == "*" {
            return Ok(Actions::ALL);
        }
        let named = Actions::EACH.into_iter().find(|action| action.as_str() == name);
        // An action that is misspelt would be missed much later.
        let unknown = || bad("actions: subscribe, publish, history, presence, moderate, invite or *");
        Ok(actions.with(named.ok_or_else(unknown)?))
    })
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|IgnoredAny| true)
}

/// `null` is an error here, and so is a pattern that comes twice: whether either allows much or nothing nobody could say.
fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Patterns>, D::Error> {
    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = Patterns;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of arrays")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
            let mut patterns = Patterns::new();
            let mut seen = std::collections::HashSet::new();
            while let Some((pattern, actions)) = map.next_entry::<Box<str>, Vec<String>>()? {
                if !seen.insert(pattern.clone()) {
                    return Err(serde::de::Error::custom("a pattern comes twice"));
                }
                patterns.push((pattern, actions));
            }
            Ok(patterns)
        }
    }

    deserializer.deserialize_map(Reader).map(Some)
}
