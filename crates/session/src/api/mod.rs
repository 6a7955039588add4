//! `/api/v1`: accounts, devices and where to connect, over HTTP, as JSON.

mod body;
pub(crate) mod openapi;
mod pages;
mod refusal;
mod request;
pub(crate) mod strict;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::OnceCell;
use xpush_core::ports::access::Access;
use xpush_core::ports::backend::{Backend, Intake};
use xpush_core::ports::directory::AppRecord;
use xpush_core::{App, Clock, Code};

pub(crate) use body::{Body, Members, says_json, whole};
pub use pages::Pages;
pub(crate) use pages::own_page;
pub(crate) use refusal::Refusal;
pub(crate) use request::{
    Asked, Bearer, Caller, Fields, Segment, Segments, bearer, display_name_of, named, token_of, wrong,
};

use crate::access::DirectoryAccess;
use crate::accounts::{Failures, Hashing};
use crate::administration::Administration;
use crate::assign::Placement;
use crate::erasure::Eraser;
use crate::files::Filing;
use crate::store::Store;
use crate::{accounts, admin, assign, backend, devices, files, me, oidc, setup};
use xpush_fetch::Fetch;

/// What the API stands on.
pub struct Parts {
    /// Decides who somebody is, and knows the apps and the directory.
    pub access: DirectoryAccess,
    /// Does on a channel server what apps' own back ends ask for.
    pub backend: Arc<dyn Backend>,
    /// Decides where clients connect.
    pub placement: Arc<dyn Placement>,
    /// Takes out whoever goes.
    pub eraser: Eraser,
    /// Changes apps, keys and users, with versions and the audit log.
    pub administration: Administration,
    /// What operators can watch.
    pub watched: admin::Watched,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which pages may ask, beside those of each app.
    pub pages: Pages,
    /// Files; `None`: there is no store for them.
    pub files: Option<Arc<Filing>>,
    /// Where clients reach this server, as `https://host`; without it, where the one who asks has reached it.
    pub url: Option<Box<str>>,
}

/// What every request is answered with.
pub(crate) struct Api {
    pub(crate) parts: Parts,
    pub(crate) store: Store,
    pub(crate) administration: Administration,
    pub(crate) hashing: Hashing,
    pub(crate) failures: Arc<Failures>,
    pub(crate) providers: oidc::Providers,
    pub(crate) codes: oidc::Codes,
    /// What operators' cookies are called, once it is known.
    pub(crate) cookie_name: OnceCell<Box<str>>,
}

/// An answer: a JSON object, or a refusal.
pub(crate) type Answer = Result<Response, Refusal>;

impl Api {
    fn new(parts: Parts, hashing: Hashing) -> Self {
        Self {
            store: Store::new(parts.access.directory()),
            administration: parts.administration.clone(),
            hashing,
            failures: Arc::new(Failures::new(parts.clock.clone())),
            providers: oidc::Providers::new(Fetch::new(), parts.clock.clone()),
            codes: oidc::Codes::new(parts.clock.clone()),
            cookie_name: OnceCell::new(),
            parts,
        }
    }

    /// The app of this name, the default one without, when pages like the caller's may use it.
    pub(crate) fn app(&self, name: Option<&str>, caller: &Caller) -> Result<(App, Arc<AppRecord>), Refusal> {
        let app = match name {
            Some(name) => App::new(name)?,
            None => self.parts.access.apps().find(None)?.app.clone(),
        };
        let record = self.parts.access.app(&app).ok_or(Code::UnknownApp)?;
        caller.may_use(&record.origins)?;
        Ok((app, record))
    }
}

/// The routes of `/api/v1`, and the page for the set-up; and what reads requests to publish that take no such route. To be called on the runtime that serves them.
pub fn router(parts: Parts) -> std::io::Result<(Router, Arc<dyn Intake>)> {
    let api = Arc::new(Api::new(parts, Hashing::start()?));
    Ok((routes(api.clone()), backend::intake(api)))
}

fn routes(api: Arc<Api>) -> Router {
    let routes = openapi::Routes::new()
        .merge(backend::routes())
        .merge(accounts::routes())
        .merge(assign::routes())
        .merge(devices::routes())
        .merge(files::routes())
        .merge(me::routes())
        .merge(oidc::routes())
        .merge(setup::routes())
        .merge(admin::routes())
        .described()
        .fallback(|| async { Refusal::from(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Refusal::from(Code::MethodNotAllowed) })
        .layer(middleware::from_fn_with_state(api.clone(), pages::admit))
        .layer(middleware::from_fn(never_stored))
        .with_state(api);
    Router::new().nest("/api/v1", routes).merge(setup::page())
}

/// A JSON object as an answer.
pub(crate) fn ok(object: Value) -> Answer {
    Ok(axum::Json(object).into_response())
}

async fn never_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // But for what says something else: files.
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
