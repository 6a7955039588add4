//! What hooks count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    app: String,
    hook: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Which {
    app: String,
    hook: String,
}

/// Counts of all hooks.
#[derive(Clone)]
pub(crate) struct Metrics {
    events: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    asks: Family<Labels, Counter>,
    open: Family<Which, Gauge>,
}

/// Those of one.
pub(crate) struct Counts {
    metrics: Metrics,
    app: String,
    hook: String,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Family::default(),
            requests: Family::default(),
            asks: Family::default(),
            open: Family::default(),
        };
        registry.register(
            "xpush_hook_events",
            "Events of hooks: queued, delivered, failed (an attempt of some), dead (given up), lost (never queued)",
            metrics.events.clone(),
        );
        registry.register(
            "xpush_hook_requests",
            "Requests that told events: ok, failed",
            metrics.requests.clone(),
        );
        registry.register(
            "xpush_hook_asks",
            "Questions and calls: allowed, refused, failed (not answered), busy, open (not asked)",
            metrics.asks.clone(),
        );
        registry.register("xpush_hook_breaker_open", "Whether a hook is left alone", metrics.open.clone());
        metrics
    }

    pub(crate) fn of(&self, app: &str, hook: &str) -> Counts {
        Counts { metrics: self.clone(), app: app.to_owned(), hook: hook.to_owned() }
    }
}

impl Counts {
    fn labels(&self, outcome: &'static str) -> Labels {
        Labels { app: self.app.clone(), hook: self.hook.clone(), outcome }
    }

    pub(crate) fn events(&self, outcome: &'static str, count: usize) {
        self.metrics.events.get_or_create(&self.labels(outcome)).inc_by(count as u64);
    }

    pub(crate) fn request(&self, outcome: &'static str) {
        self.metrics.requests.get_or_create(&self.labels(outcome)).inc();
    }

    pub(crate) fn ask(&self, outcome: &'static str) {
        self.metrics.asks.get_or_create(&self.labels(outcome)).inc();
    }

    pub(crate) fn open(&self, open: bool) {
        let which = Which { app: self.app.clone(), hook: self.hook.clone() };
        self.metrics.open.get_or_create(&which).set(i64::from(open));
    }
}
