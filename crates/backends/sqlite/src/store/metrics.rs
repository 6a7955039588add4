//! What the writer counts.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Messages of one commit, up to the largest batch.
const MESSAGES: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 4000.0];

/// Seconds of one COMMIT.
const SECONDS: [f64; 12] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

pub(super) struct Metrics {
    registry: Registry,
    messages: Histogram,
    seconds: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("xpush_store");
        let messages = Histogram::new(MESSAGES);
        registry.register(
            "commit_messages",
            "Messages that one commit has put on disk; commits without any are not counted",
            messages.clone(),
        );
        let seconds = Histogram::new(SECONDS);
        registry.register_with_unit(
            "commit",
            "How long the disk took for one commit",
            Unit::Seconds,
            seconds.clone(),
        );
        Self { registry, messages, seconds }
    }

    /// One commit more, with so many messages in it.
    pub(super) fn committed(&self, messages: u64, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        if messages > 0 {
            self.messages.observe(messages as f64);
        }
    }

    /// Appends what is counted to other metrics, all in OpenMetrics' text form.
    pub(super) fn add_to(&self, mut text: String) -> String {
        text.truncate(text.trim_end().strip_suffix("# EOF").map_or(text.len(), str::len));
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}
