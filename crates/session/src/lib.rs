//! The session server: tells clients which channel server to use.
//!
//! For now the two requests that XPUSH 0.1 clients make. Anybody's page may make them (CORS `*`): the answers say nothing that depends on who asks.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod accounts;
mod address;
mod admin;
pub mod administration;
pub mod api;
pub mod api_key;
pub mod assign;
mod backend;
pub mod devices;
pub mod erasure;
pub mod files;
mod me;
mod node;
mod oidc;
pub mod placement;
mod port;
pub mod setup;
mod store;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use xpush_core::NodeId;

pub use address::is_authority;
pub use admin::{HookDesk, Later, Watched};

use assign::Placement;

struct Session {
    /// Answers are numbered within it.
    node: NodeId,
    answers: AtomicU64,
    placement: Arc<dyn Placement>,
}

/// `GET /node/{app}/{channel}` and `GET /status/ping`.
pub fn router(node: NodeId, placement: Arc<dyn Placement>) -> Router {
    let session = Arc::new(Session { node, answers: AtomicU64::new(0), placement });
    Router::new()
        .route("/node/{app}/{channel}", get(node::choose))
        .route("/status/ping", get(ping))
        .layer(middleware::from_fn(open_to_every_page))
        .with_state(session)
}

async fn ping() -> Response {
    axum::Json(json!({"status": "ok", "result": {"message": "pong"}})).into_response()
}

/// CORS (Fetch standard, 3.2): every page may read the answers, and a preflight is granted.
async fn open_to_every_page(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        let grants = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        ];
        (StatusCode::NO_CONTENT, grants).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
