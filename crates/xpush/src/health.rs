//! Is it alive, is it ready, what does it count: `/livez`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

/// Gives the metrics as text (OpenMetrics, as `prometheus-client` encodes them).
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// So many probes of a path have to fail, one after the other, before the server is not ready because of it, and so many to succeed before it is again.
const FAILURES: u32 = 3;
const SUCCESSES: u32 = 2;

/// Whether new connections should be sent here. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    /// What the server needs, by what it is called.
    paths: Mutex<BTreeMap<&'static str, Path>>,
}

/// How it is with something that the server needs.
#[derive(Debug, Default)]
struct Path {
    /// Probes in a row that went otherwise than what is said of it.
    contrary: u32,
    /// Why it does not work.
    broken: Option<String>,
}

// 0: starting.
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// Everything works.
    pub(crate) fn ready(&self) {
        self.0.phase.store(READY, Ordering::Release);
    }

    /// About to stop, or to be emptied.
    pub(crate) fn draining(&self) {
        self.0.phase.store(DRAINING, Ordering::Release);
    }

    /// How a probe of a path went. One that fails now and then changes nothing.
    pub(crate) fn note(&self, path: &'static str, outcome: Result<(), String>) {
        let mut paths = self.0.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let known = paths.entry(path).or_default();
        let contrary = outcome.is_err() != known.broken.is_some();
        known.contrary = if contrary { known.contrary + 1 } else { 0 };
        match outcome {
            // The newest reason is the one that helps.
            Err(why) if known.broken.is_some() => known.broken = Some(why),
            Err(why) if known.contrary >= FAILURES => {
                tracing::warn!(path, "not ready: {why}");
                *known = Path { contrary: 0, broken: Some(why) };
            }
            Ok(()) if known.contrary >= SUCCESSES => {
                tracing::info!(path, "works again");
                *known = Path::default();
            }
            _ => {}
        }
    }

    /// What does not work, and why.
    fn broken(&self) -> Option<String> {
        let paths = self.0.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = |(path, state): (&&str, &Path)| Some(format!("{path}: {}", state.broken.as_ref()?));
        let broken: Vec<String> = paths.iter().filter_map(broken).collect();
        (!broken.is_empty()).then(|| broken.join("; "))
    }

    fn answer(&self) -> Response {
        let no = |reason: &str| {
            let body = json!({"status": "unavailable", "reason": reason});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        };
        match self.0.phase.load(Ordering::Acquire) {
            READY => match self.broken() {
                None => Json(json!({"status": "ok"})).into_response(),
                Some(why) => no(&why),
            },
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

/// Adds counters to metrics in OpenMetrics' text form: names without the platform's and `_total`, what they count, and how many.
pub(crate) fn add_counters(mut text: String, counters: &[(&str, &str, u64)]) -> String {
    text.truncate(text.trim_end().strip_suffix("# EOF").map_or(text.len(), str::len));
    for (name, help, count) in counters {
        text += &format!(
            "# HELP xpush_{name} {help}.\n# TYPE xpush_{name} counter\nxpush_{name}_total {count}\n"
        );
    }
    text + "# EOF\n"
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

    #[test]
    fn counters_come_before_the_end() {
        let text = add_counters("# TYPE a counter\na_total 1\n# EOF\n".into(), &[("b", "What b counts", 2)]);
        let b = "# HELP xpush_b What b counts.\n# TYPE xpush_b counter\nxpush_b_total 2\n";
        assert_eq!(text, format!("# TYPE a counter\na_total 1\n{b}# EOF\n"));
        assert_eq!(add_counters(text.clone(), &[]), text);
    }

    #[tokio::test]
    async fn readiness_says_why_not() {
        let readiness = Readiness::default();
        let router = router(readiness.clone(), Arc::new(|| "# EOF\n".to_owned()));
        let not = |reason: &str| (503, format!("{{\"reason\":\"{reason}\",\"status\":\"unavailable\"}}"));
        assert_eq!(get(&router, "/readyz").await, not("starting"));
        readiness.ready();
        assert_eq!(get(&router, "/readyz").await, (200, "{\"status\":\"ok\"}".to_owned()));
        // A path that fails for a while, and works again for a while.
        let ready = (200, "{\"status\":\"ok\"}".to_owned());
        let fails = || readiness.note("bus", Err("it is down".to_owned()));
        for _ in 0..2 {
            fails();
            fails();
            assert_eq!(get(&router, "/readyz").await, ready, "twice is not often enough");
            readiness.note("bus", Ok(()));
        }
        (0..3).for_each(|_| fails());
        assert_eq!(get(&router, "/readyz").await, not("bus: it is down"));
        readiness.note("bus", Ok(()));
        fails();
        readiness.note("bus", Ok(()));
        assert_eq!(get(&router, "/readyz").await, not("bus: it is down"), "once is not often enough");
        readiness.note("bus", Ok(()));
        assert_eq!(get(&router, "/readyz").await, ready);
        readiness.draining();
        assert_eq!(get(&router, "/readyz").await, not("draining"));
        assert_eq!(get(&router, "/livez").await.0, 200, "a draining server is alive");
        assert_eq!(get(&router, "/metrics").await, (200, "# EOF\n".to_owned()));
    }
}
