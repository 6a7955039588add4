//! Is it alive, is it ready, what does it count: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

/// Gives the metrics as text (OpenMetrics, as `prometheus-client` encodes them).
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Whether new connections should be sent here. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicU8>);

// 0: starting.
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// Everything works.
    pub(crate) fn ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    /// About to stop, or to be emptied.
    pub(crate) fn draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    fn answer(&self) -> Response {
        let no = |reason: &str| {
            let body = json!({"status": "unavailable", "reason": reason});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        };
        match self.0.load(Ordering::Acquire) {
            READY => Json(json!({"status": "ok"})).into_response(),
            DRAINING => no("draining"),
            _ => no("starting"),
        }
    }
}

/// The three routes.
pub(crate) fn router(readiness: Readiness, metrics: Metrics) -> Router {
    let live = || async { Json(json!({"status": "ok"})) };
    let ready = |State(readiness): State<Readiness>| async move { readiness.answer() };
    let text = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async move { (text, metrics()) }))
        .with_state(readiness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn get(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 4_096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_why_not() {
        let readiness = Readiness::default();
        let router = router(readiness.clone(), Arc::new(|| "# EOF\n".to_owned()));
        let not = |reason: &str| (503, format!("{{\"reason\":\"{reason}\",\"status\":\"unavailable\"}}"));
        assert_eq!(get(&router, "/readyz").await, not("starting"));
        readiness.ready();
        assert_eq!(get(&router, "/readyz").await, (200, "{\"status\":\"ok\"}".to_owned()));
        readiness.draining();
        assert_eq!(get(&router, "/readyz").await, not("draining"));
        assert_eq!(get(&router, "/livez").await.0, 200, "a draining server is alive");
        assert_eq!(get(&router, "/metrics").await, (200, "# EOF\n".to_owned()));
    }
}
