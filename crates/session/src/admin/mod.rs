//! `/api/v1/admin`: what the people who run an installation do with it. The contract is docs/administration.md; what is done is done by [`crate::administration`].

mod apps;
mod channels;
mod files;
mod keys;
mod log;
mod session;
mod snippets;
mod users;
mod watching;

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use serde_json::{Map, Value, json};
use xpush_core::ports::access::{Access as _, Credentials};
use xpush_core::ports::directory::{Key, Record, Scope, Via};
use xpush_core::{App, Code, Problem, User};

use crate::access::OPERATORS;
use crate::administration::{Actor, Complaint, Match, Refused};
use crate::api::openapi::Routes;
use crate::api::{Api, Asked, Body, Caller, Refusal, bearer, named, own_page, strict, whole, wrong};
use crate::api_key::PREFIX;
use crate::backend::{self, KeyHolder, Server};
use session::Cookie;

pub use watching::{HookDesk, Later, Watched};

/// Bytes of a request.
const LARGEST: usize = 1 << 20;

/// The header without which nothing is changed by cookie: no page of others can send it.
pub(crate) const GUARD: &str = "x-xpush-admin";

/// Characters of a note.
const LONGEST_NOTE: usize = 200;

/// Who is there.
pub(crate) enum Who {
    /// One who may everything.
    Operator { user: User, via: Via, cookie: Option<Cookie>, expires_at: Option<u64> },
    /// An API key of the scope `admin`.
    Key(KeyHolder),
}

/// An operator, on an installation's affairs.
pub(crate) struct Operator {
    pub(crate) actor: Actor,
}

/// An operator, or the app's own API key, on the affairs of one app.
pub(crate) struct Within {
    pub(crate) actor: Actor,
    pub(crate) app: App,
    /// Whether it is an operator.
    pub(crate) operates: bool,
    /// As what it acts in the app.
    pub(crate) server: Server,
    path: Vec<(Box<str>, Box<str>)>,
}

pub(crate) fn routes() -> Routes {
    Routes::new()
        .merge(session::routes())
        .merge(apps::routes())
        .merge(snippets::routes())
        .merge(keys::routes())
        .merge(users::routes())
        .merge(channels::routes())
        .merge(files::routes())
        .merge(watching::routes())
        .merge(log::routes())
}

// === who it is ===

impl FromRequestParts<Arc<Api>> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        own_page(api, &parts.headers)?;
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let shown = bearer(parts).ok_or(Code::Unauthenticated)?.to_owned();
            return match shown.starts_with(PREFIX) {
                true => by_key(api, &shown).await,
                false => by_token(api, shown, Caller::from_request_parts(parts, api).await?).await,
            };
        }
        let cookie = Cookie::of(api, &parts.headers).await?.ok_or(Code::Unauthenticated)?;
        if parts.method != Method::GET {
            guarded(&parts.headers)?;
        }
        cookie.admit(api).await
    }
}

/// Refuses what could have been sent by another page in the name of whoever has the cookie.
pub(super) fn guarded(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(GUARD).is_some_and(|value| value == "1") {
        true => Ok(()),
        false => Err(Problem::new(Code::Forbidden, "the header X-XPUSH-Admin: 1 is missing")),
    }
}

async fn by_key(api: &Arc<Api>, text: &str) -> Result<Who, Refusal> {
    let holder = backend::by_key(api, text).await?;
    match holder.scopes.contains(&Scope::Admin) {
        true => Ok(Who::Key(holder)),
        false => Err(Code::NotFound.into()),
    }
}

async fn by_token(api: &Arc<Api>, token: String, caller: Caller) -> Result<Who, Refusal> {
    let credentials = Credentials {
        app: Some(OPERATORS.to_owned()),
        token: Some(token),
        address: caller.address,
        ..Credentials::default()
    };
    let (decided, decision) = tokio::sync::oneshot::channel();
    api.parts.access.admit(credentials, Box::new(move |grant| drop(decided.send(grant))));
    let grant = decision.await.map_err(|_| Code::Unavailable)??;
    // What the token says of roles may be out of date, and whoever makes tokens for tests is no operator by that.
    match grant.login.is_some() && operates(api, &grant.sender.user).await? {
        true => Ok(Who::Operator {
            user: grant.sender.user,
            via: Via::Api,
            cookie: None,
            expires_at: grant.expires_at,
        }),
        false => Err(Code::NotFound.into()),
    }
}

/// Whether a user of the operators' app may operate.
async fn operates(api: &Api, user: &User) -> Result<bool, Problem> {
    let app = App::new(OPERATORS)?;
    let found = api.parts.access.remembered(&Key::User(app.clone(), user.clone())).await?;
    Ok(match found.as_deref() {
        Some(Record::User(record)) => crate::administration::is_operator(&app, record),
        _ => false,
    })
}

impl Who {
    fn actor(&self, caller: &Caller) -> Actor {
        match self {
            Self::Operator { user, via, .. } => Actor::user(user, *via, caller),
            Self::Key(holder) => holder.actor(caller),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let who = Who::from_request_parts(parts, api).await?;
        let caller = Caller::from_request_parts(parts, api).await?;
        match &who {
            Who::Operator { .. } => Ok(Self { actor: who.actor(&caller) }),
            Who::Key(_) => Err(Code::NotFound.into()),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Within {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let who = Who::from_request_parts(parts, api).await?;
        let caller = Caller::from_request_parts(parts, api).await?;
        let params = RawPathParams::from_request_parts(parts, api).await.map_err(|_| Code::BadRequest)?;
        let path: Vec<(Box<str>, Box<str>)> =
            params.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let name = path.iter().find(|(name, _)| &**name == "app").map(|(_, value)| &**value);
        let app = App::new(name.unwrap_or_default()).map_err(|_| Code::NotFound)?;
        let operates = match &who {
            Who::Operator { .. } => true,
            Who::Key(holder) if holder.app == app => false,
            Who::Key(_) => return Err(Code::NotFound.into()),
        };
        if app.as_str() != OPERATORS && api.administration.find(&app).await?.is_none() {
            return Err(Code::NotFound.into());
        }
        let actor = who.actor(&caller);
        let server = Server { grant: Arc::new(backend::acting(app.clone())?), actor: actor.clone() };
        Ok(Self { actor, app, operates, server, path })
    }
}

impl Within {
    /// A segment of the path.
    fn segment(&self, name: &str) -> &str {
        self.path.iter().find(|(known, _)| &**known == name).map_or("", |(_, value)| value)
    }

    /// A segment of the path as a name, by the check of its kind.
    fn named<T>(&self, name: &str, new: impl Fn(&str) -> Result<T, Code>) -> Result<T, Problem> {
        named(self.segment(name), name, new)
    }

    /// For operators alone.
    fn only_operators(&self) -> Result<(), Code> {
        if self.operates { Ok(()) } else { Err(Code::NotFound) }
    }
}

// === what is asked ===

/// The whole body, a JSON object.
async fn object(request: Request) -> Result<Map<String, Value>, Refusal> {
    Ok(strict::object(Body::read(request, LARGEST).await?.bytes())?)
}

/// Which revision is meant (RFC 9110, section 13.1.1).
fn wanted(headers: &HeaderMap) -> Result<Match, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).into_iter();
    let bad = || wrong("If-Match", "must be the revision that was read, or *");
    let (Some(value), None) = (values.next(), values.next()) else { return Err(bad()) };
    let text = value.to_str().map_err(|_| bad())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match text {
        "*" => Ok(Match::Any),
        text => whole(text).map(Match::Revision).ok_or_else(bad),
    }
}

/// The schema of a note.
fn note_schema() -> Value {
    json!({"type": "string", "maxLength": LONGEST_NOTE, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"})
}

/// Words of the query, if they are given and not too many.
fn short<'a>(asked: &'a Asked, name: &str, longest: usize) -> Result<Option<&'a str>, Problem> {
    match asked.one(name)?.filter(|text| !text.is_empty()) {
        Some(text) if text.chars().count() > longest => {
            Err(wrong(name, &format!("must have at most {longest} characters")))
        }
        text => Ok(text),
    }
}

/// Why something is changed, if that is said.
fn note(asked: &Asked) -> Result<Option<&str>, Problem> {
    let Some(note) = asked.one("note")? else { return Ok(None) };
    if note.chars().count() > LONGEST_NOTE || note.chars().any(char::is_control) {
        return Err(wrong("note", "must have at most 200 characters, none of them a control character"));
    }
    Ok(Some(note).filter(|note| !note.trim().is_empty()))
}

/// A text, if it is given.
fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, Problem> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(field, "must be text")),
    }
}

/// A text that must be given.
fn needed<'a>(object: &'a Map<String, Value>, field: &str) -> Result<&'a str, Problem> {
    text(object, field)?.ok_or_else(|| wrong(field, "is missing"))
}

/// True or false, if it is given.
fn flag(object: &Map<String, Value>, field: &str) -> Result<Option<bool>, Problem> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(wrong(field, "must be true or false")),
    }
}

/// Texts, if they are given, each read by the check of its kind.
fn texts<T>(
    object: &Map<String, Value>,
    field: &str,
    new: impl Fn(&str) -> Result<T, Code>,
) -> Result<Option<Vec<T>>, Problem> {
    let items = match object.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) if items.len() <= 1_000 => items,
        Some(_) => return Err(wrong(field, "must be a list of at most 1,000 texts")),
    };
    let read = |item: &Value| match item.as_str() {
        Some(text) => named(text, field, &new),
        None => Err(wrong(field, "must hold texts")),
    };
    items.iter().map(read).collect::<Result<_, _>>().map(Some)
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Problem(problem) => problem.into(),
            Refused::Store(error) => error.into(),
            Refused::Complaints(complaints) => {
                let first = complaints.first().map(|first| first.message.clone()).unwrap_or_default();
                let list =
                    |Complaint { path, message }: &Complaint| json!({"path": path, "message": message});
                let list: Value = complaints.iter().map(list).collect();
                Self { more: Some(("complaints", list)), ..Problem::new(Code::BadField, first).into() }
            }
            Refused::Overtaken(_) => Code::Conflict.into(),
        }
    }
}

/// A refusal for whoever changes an app: who was overtaken is shown what there is now.
fn told(api: &Api, refused: Refused) -> Refusal {
    match refused {
        Refused::Overtaken(found) => {
            let detail =
                format!("somebody else has changed it first: its revision is {} now", found.revision);
            let current = apps::shown(api, &found);
            Refusal { more: Some(("current", current)), ..Problem::new(Code::Conflict, detail).into() }
        }
        refused => refused.into(),
    }
}
