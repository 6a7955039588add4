//! The API for an app's own back end: everything in its app, by API keys or by tokens of the role `server`. For developers: docs/api.md.

pub(crate) mod channels;
mod keys;
mod messages;
mod search;
pub(crate) mod users;

use std::future::Future;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use xpush_core::message::Sender;
use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{Object, PATIENCE};
use xpush_core::ports::directory::{Entry, Key, Record, Scope, Via};
use xpush_core::{App, Channel, ChannelKey, Code, Grant, Problem, User};

use crate::administration::Actor;
use crate::api::openapi::{Needs, Operation, Routes, schema};
use crate::api::{Answer, Api, Asked, Bearer, Caller, Refusal, Segment, bearer, ok};
use crate::api_key::{self, Shown};

/// Who has published what a back end publishes on nobody's behalf: the same for all of its keys, so that a retry is known by whichever it is sent with.
const SENDER: &str = "server";

/// Bytes of a request beside its data.
const AROUND: usize = 65_536;

/// An app's own back end, whose key or token opens what the route needs.
pub(crate) struct Server {
    /// As what it acts.
    pub(crate) grant: Arc<Grant>,
    /// By which API key, if by one.
    pub(crate) key: Option<Box<str>>,
}

pub(crate) fn routes() -> Routes {
    let stats = Operation::get("/stats", "stats", "What there is of the app on this server")
        .tag("operations")
        .about("In a cluster each server tells of itself: ask each of them, or read `/metrics`.")
        .server(Scope::Read)
        .ok(schema::object(&[
            ("node", json!({"type": "string"}), true),
            ("users", schema::number(0), true),
            ("connections", schema::number(0), true),
        ]));
    Routes::new()
        .merge(messages::routes())
        .merge(channels::routes())
        .merge(users::routes())
        .merge(keys::routes())
        .merge(search::routes())
        .on(stats, async |server: Server, api: axum::extract::State<Arc<Api>>| {
            let census = api.parts.backend.census(server.app());
            let (users, connections) = (census.users, census.connections);
            ok(json!({"node": api.parts.backend.node(), "users": users, "connections": connections}))
        })
}

impl Server {
    pub(crate) fn app(&self) -> &App {
        &self.grant.app
    }

    /// Who it is, for the audit log.
    pub(crate) fn actor(&self, caller: &Caller) -> Actor {
        let by = self.key.clone().unwrap_or_else(|| self.grant.sender.user.as_str().into());
        Actor { by, via: Via::Key, address: caller.address }
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
            return match grant.is_server() {
                true => Ok(Self { grant, key: None }),
                false => Err(Problem::new(Code::Forbidden, "this is for the app's own back end").into()),
            };
        }
        let shown = shown.to_owned();
        let (app, scopes) = by_key(api, &shown).await?;
        let caller = Caller::from_request_parts(parts, api).await?;
        let settings = api.parts.access.app(&app).ok_or(Code::Unauthenticated)?;
        caller.may_use(&settings.origins)?;
        if Asked::from_request_parts(parts, api).await?.one("app")?.is_some_and(|named| named != app.as_str())
        {
            return Err(Code::UnknownApp.into());
        }
        if !scopes.iter().any(|scope| [needed, Scope::Admin].contains(scope)) {
            let needed = needed.as_str();
            return Err(Problem::new(Code::Forbidden, format!("this needs the scope {needed}")).into());
        }
        let key = Shown::read(&shown).map(|shown| shown.id.as_str().into());
        Ok(Self { grant: Arc::new(acting(app)?), key })
    }
}

/// Whose key it is, and what it opens. Nobody learns whether it is unknown, wrong, revoked or over.
pub(crate) async fn by_key(api: &Arc<Api>, text: &str) -> Result<(App, Vec<Scope>), Refusal> {
    let refused = || Problem::new(Code::Unauthenticated, "this API key is not good (any more)");
    let shown = Shown::read(text).ok_or_else(refused)?;
    let key = Key::ApiKey(shown.app.clone(), shown.id.clone());
    let found = api.parts.access.remembered(&key).await?;
    let record = match found.as_deref() {
        Some(Record::ApiKey(record)) => Some(&**record),
        _ => None,
    };
    let now = api.parts.clock.wall();
    let (Some(record), true) = (record, shown.is_good(record, now)) else { return Err(refused().into()) };
    if now.saturating_sub(record.used_at) >= api_key::EXACTNESS {
        let api = api.clone();
        tokio::spawn(async move { note_use(&api, &key).await });
    }
    Ok((shown.app.clone(), record.scopes.clone()))
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
