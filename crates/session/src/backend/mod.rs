//! The API for an app's own back end: everything in its app, by API keys or by tokens of the role `server`. For developers: docs/api.md.

pub(crate) mod channels;
mod intake;
mod keys;
mod messages;
mod search;
pub(crate) mod users;

use std::future::Future;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use xpush_core::message::Sender;
use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{Census, Everywhere, Object, PATIENCE};
use xpush_core::ports::directory::{ApiKeyRecord, Entry, Key, Record, Scope, Via};
use xpush_core::ports::inquiry::Crowd;
use xpush_core::{ApiKeyId, App, Channel, ChannelKey, Code, Grant, Problem, User};

use crate::administration::Actor;
use crate::api::openapi::{Needs, Operation, Routes, schema};
use crate::api::{Answer, Api, Asked, Bearer, Caller, Refusal, Segment, bearer, ok};
use crate::api_key::{self, Shown};

pub(crate) use intake::intake;

/// Who has published what a back end publishes on nobody's behalf: the same for all of its keys, so that a retry is known by whichever it is sent with.
const SENDER: &str = "server";

/// Bytes of a request beside its data.
const AROUND: usize = 65_536;

/// An app's own back end, whose key or token opens what the route needs.
pub(crate) struct Server {
    /// As what it acts.
    pub(crate) grant: Arc<Grant>,
    /// Who it is, for the audit log.
    pub(crate) actor: Actor,
}

/// Whoever has shown a good API key.
pub(crate) struct KeyHolder {
    pub(crate) app: App,
    pub(crate) id: ApiKeyId,
    pub(crate) scopes: Vec<Scope>,
    /// What the key is called.
    name: Option<Box<str>>,
}

impl KeyHolder {
    pub(crate) fn actor(&self, caller: &Caller) -> Actor {
        let (by, name) = (self.id.as_str().into(), self.name.clone());
        Actor { by, name, via: Via::Key, address: caller.address }
    }
}

pub(crate) fn routes() -> Routes {
    let node = schema::object(&[
        ("node", json!({"type": "string"}), true),
        ("name", json!({"type": "string"}), true),
        ("users", schema::number(0), true),
        ("connections", schema::number(0), true),
    ]);
    let stats = Operation::get("/stats", "stats", "What there is of the app")
        .tag("operations")
        .about("Over all servers, and of each: who is connected at several is one user. Servers that did not answer within a second are `missing`, and nothing of them is counted. Of more than 4,096 users at one server their number over all is 2 % off as a rule.")
        .server(Scope::Read)
        .ok(schema::object(&[
            ("node", json!({"type": "string"}), true),
            ("users", schema::number(0), true),
            ("connections", schema::number(0), true),
            ("nodes", schema::array(node), true),
            ("missing", missing(), true),
        ]));
    Routes::new()
        .merge(messages::routes())
        .merge(channels::routes())
        .merge(users::routes())
        .merge(keys::routes())
        .merge(search::routes())
        .on(stats, counted)
}

/// The servers that have not answered.
pub(crate) fn missing() -> Value {
    schema::array(json!({"type": "string"}))
}

async fn counted(server: Server, State(api): State<Arc<Api>>) -> Answer {
    let apps = vec![server.app().clone()];
    let Everywhere { told, missing } = decided(|done| api.parts.backend.census(apps, done)).await?;
    let nodes = told.iter().filter_map(|census| {
        let crowd = census.apps.first()?;
        let (users, connections) = (crowd.users, crowd.connections);
        Some(json!({"node": census.node, "name": census.name, "users": users, "connections": connections}))
    });
    let (users, connections) = together(&told, 0);
    ok(json!({
        "node": api.parts.backend.node(), "users": users, "connections": connections,
        "nodes": nodes.collect::<Value>(), "missing": missing,
    }))
}

/// How many users and connections servers have of the app that was asked about in this place.
pub(crate) fn together(census: &[Census], app: usize) -> (u64, u64) {
    let crowds = census.iter().filter_map(|census| census.apps.get(app));
    (Crowd::together(crowds.clone()), crowds.map(|crowd| crowd.connections).sum())
}

impl Server {
    pub(crate) fn app(&self) -> &App {
        &self.grant.app
    }

    pub(crate) fn channel(&self, path: &Segment) -> Result<ChannelKey, Problem> {
        Ok(self.key(path.named("channel", Channel::new)?))
    }

    pub(crate) fn key(&self, channel: Channel) -> ChannelKey {
        ChannelKey::new(self.app().clone(), channel)
    }

    pub(crate) fn user_key(&self, user: &User) -> Key {
        Key::User(self.app().clone(), user.clone())
    }
}

impl FromRequestParts<Arc<Api>> for Server {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let Some(Needs(needed)) = parts.extensions.get::<Needs>().copied() else {
            return Err(Code::Internal.into());
        };
        let shown = bearer(parts).ok_or(Code::Unauthenticated)?;
        if !shown.starts_with(api_key::PREFIX) {
            let Bearer(grant) = Bearer::from_request_parts(parts, api).await?;
            let caller = Caller::from_request_parts(parts, api).await?;
            let actor = Actor::user(&grant.sender.user, Via::Key, &caller);
            return match grant.is_server() {
                true => Ok(Self { grant, actor }),
                false => Err(Problem::new(Code::Forbidden, "this is for the app's own back end").into()),
            };
        }
        let shown = shown.to_owned();
        let holder = by_key(api, &shown).await?;
        let (app, scopes) = (&holder.app, &holder.scopes);
        let caller = Caller::from_request_parts(parts, api).await?;
        let settings = api.parts.access.app(app).ok_or(Code::Unauthenticated)?;
        caller.may_use(&settings.origins)?;
        if Asked::from_request_parts(parts, api).await?.one("app")?.is_some_and(|named| named != app.as_str())
        {
            return Err(Code::UnknownApp.into());
        }
        if !scopes.iter().any(|scope| [needed, Scope::Admin].contains(scope)) {
            let needed = needed.as_str();
            return Err(Problem::new(Code::Forbidden, format!("this needs the scope {needed}")).into());
        }
        Ok(Self { actor: holder.actor(&caller), grant: Arc::new(acting(holder.app)?) })
    }
}

/// Whose key it is, and what it opens. Nobody learns whether it is unknown, wrong, revoked or over.
pub(crate) async fn by_key(api: &Arc<Api>, text: &str) -> Result<KeyHolder, Refusal> {
    let refused = || Problem::new(Code::Unauthenticated, "this API key is not good (any more)");
    let shown = Shown::read(text).ok_or_else(refused)?;
    let key = Key::ApiKey(shown.app.clone(), shown.id.clone());
    let found = api.parts.access.remembered(&key).await?;
    let record = good(api, &shown, found.as_deref(), &Handle::current()).ok_or_else(refused)?;
    let (scopes, name) = (record.scopes.clone(), record.name.clone());
    Ok(KeyHolder { app: shown.app.clone(), id: shown.id.clone(), scopes, name })
}

/// A key's entry, if it is good. That it was used is noted.
fn good<'a>(
    api: &Arc<Api>,
    shown: &Shown<'_>,
    found: Option<&'a Record>,
    runtime: &Handle,
) -> Option<&'a ApiKeyRecord> {
    let record = match found {
        Some(Record::ApiKey(record)) => Some(&**record),
        _ => None,
    };
    let now = api.parts.clock.wall();
    // Also without a record: the time tells nothing.
    let is_good = shown.is_good(record, now);
    let record = record.filter(|_| is_good)?;
    if now.saturating_sub(record.used_at) >= api_key::EXACTNESS {
        let (api, key) = (api.clone(), Key::ApiKey(shown.app.clone(), shown.id.clone()));
        runtime.spawn(async move { note_use(&api, &key).await });
    }
    Some(record)
}

async fn note_use(api: &Api, key: &Key) {
    let now = api.parts.clock.wall();
    let noted = api.store.change(key, |record| match record {
        Some(Record::ApiKey(record)) if now.saturating_sub(record.used_at) >= api_key::EXACTNESS => {
            let mut record = record.clone();
            record.used_at = now;
            Some(Record::ApiKey(record))
        }
        _ => None,
    });
    if let Err(error) = noted.await {
        tracing::debug!(%error, "the use of an API key was not noted");
    }
}

/// What a key's holder acts as.
pub(crate) fn acting(app: App) -> Result<Grant, Problem> {
    Ok(Grant::of_server(app, Sender { user: User::new(SENDER)?, name: None })?)
}

/// Starts something on a node; the future waits for what comes of it.
pub(crate) fn decided<T: Send + 'static>(
    start: impl FnOnce(Decided<T>),
) -> impl Future<Output = Result<T, Problem>> + Send + 'static {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |result| {
        // Who asked has given up when nobody listens any more.
        let _ = sender.send(result);
    }));
    async move {
        match timeout(PATIENCE, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Code::OutcomeUnknown.into()),
        }
    }
}

/// An object that is text already.
pub(crate) fn written(object: Object) -> Answer {
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], object).into_response())
}

/// 201, with what was made.
pub(crate) fn created(object: Value) -> Answer {
    Ok((axum::http::StatusCode::CREATED, axum::Json(object)).into_response())
}

/// Behind what a page goes on, when it is full.
fn last(entries: &[Entry], limit: usize) -> Option<&str> {
    let last = entries.last().filter(|_| entries.len() == limit)?;
    match &last.key {
        Key::User(_, user) | Key::Member(_, user) | Key::Block(_, _, user) => Some(user.as_str()),
        Key::ApiKey(_, id) => Some(id.as_str()),
        _ => None,
    }
}

/// Entries of a page and, when there may be more, where the next one begins.
fn page(name: &str, items: Vec<Value>, after: Option<&str>) -> Answer {
    let mut page = json!({});
    if let Some(after) = after {
        page["after"] = after.into();
    }
    page[name] = items.into();
    ok(page)
}
