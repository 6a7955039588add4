//! `/api/v1`: accounts and devices over HTTP, as JSON.

mod pages;
mod refusal;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use xpush_core::ports::access::Access;
use xpush_core::ports::directory::{Accounts, AppRecord, Directory};
use xpush_core::ports::markers::Markers;
use xpush_core::{App, Clock, Code, Problem, Rules};

pub use pages::Pages;
pub(crate) use refusal::Refusal;
pub(crate) use request::{Bearer, Caller, Fields, Segment};

use crate::accounts::{Failures, Hashing};
use crate::fetch::Fetch;
use crate::store::Store;
use crate::{accounts, devices, me, oidc, setup};

/// The app of those who run this installation. It has accounts, made by the set-up link or the command line, and no channels.
pub const OPERATORS: &str = "xpush";

/// Everything that is known of an app, whether it was set up live or in the configuration file.
pub type FindApp = Arc<dyn Fn(&App) -> Option<Arc<AppRecord>> + Send + Sync>;

/// What the API stands on.
pub struct Parts {
    /// Who and what there is.
    pub directory: Arc<dyn Directory>,
    /// How far users have read, where anything keeps it: what an account leaves behind there goes with it.
    pub markers: Option<Arc<dyn Markers>>,
    /// Decides who somebody is.
    pub access: Arc<dyn Access>,
    /// Apps as they are set up now.
    pub find_app: FindApp,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which pages may ask, beside those of each app.
    pub pages: Pages,
    /// Where clients reach this server, as `https://host`; without it, where the one who asks has reached it.
    pub url: Option<Box<str>>,
}

/// What every request is answered with.
pub(crate) struct Api {
    pub(crate) parts: Parts,
    pub(crate) store: Store,
    pub(crate) hashing: Hashing,
    pub(crate) failures: Failures,
    pub(crate) providers: oidc::Providers,
    pub(crate) codes: oidc::Codes,
}

/// An answer: a JSON object, or a refusal.
pub(crate) type Answer = Result<Response, Refusal>;

impl Api {
    pub(crate) fn new(parts: Parts) -> std::io::Result<Self> {
        Ok(Self {
            store: Store::new(parts.directory.clone()),
            hashing: Hashing::start()?,
            failures: Failures::new(parts.clock.clone()),
            providers: oidc::Providers::new(Fetch::new(), parts.clock.clone()),
            codes: oidc::Codes::new(parts.clock.clone()),
            parts,
        })
    }

    /// The app of this name, the default one without, when pages like the caller's may use it.
    pub(crate) fn app(&self, name: Option<&str>, caller: &Caller) -> Result<(App, Arc<AppRecord>), Refusal> {
        let app = match name {
            Some(name) => App::new(name)?,
            None => self.parts.access.apps().find(None)?.app.clone(),
        };
        let record = (self.parts.find_app)(&app).or_else(|| operators(&app)).ok_or(Code::UnknownApp)?;
        caller.may_use(&record.origins)?;
        Ok((app, record))
    }
}

/// The routes of `/api/v1`, and the page for the set-up.
pub fn router(parts: Parts) -> std::io::Result<Router> {
    let api = Arc::new(Api::new(parts)?);
    let routes = Router::new()
        .merge(accounts::routes())
        .merge(devices::routes())
        .merge(me::routes())
        .merge(oidc::routes())
        .merge(setup::routes())
        .fallback(|| async { Refusal::from(Code::NotFound) })
        .method_not_allowed_fallback(|| async {
            Refusal::from(Problem::new(Code::NotFound, "there is nothing here by this method"))
        })
        .layer(middleware::from_fn_with_state(api.clone(), pages::admit))
        .layer(middleware::from_fn(never_stored))
        .with_state(api);
    Ok(Router::new().nest("/api/v1", routes).merge(setup::page()))
}

/// A JSON object as an answer.
pub(crate) fn ok(object: Value) -> Answer {
    Ok(axum::Json(object).into_response())
}

/// The operators' app, which need not be set up.
fn operators(app: &App) -> Option<Arc<AppRecord>> {
    let record = || AppRecord {
        guests: false,
        origins: Vec::new(),
        rules: Rules::default(),
        keys: Vec::new(),
        jwks_url: None,
        accounts: Accounts::Invited,
        oidc: Vec::new(),
        recovery: false,
    };
    (app.as_str() == OPERATORS).then(|| Arc::new(record()))
}

async fn never_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
