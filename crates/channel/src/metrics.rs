//! What a channel server counts. Shards count for themselves, without sharing a cache line; the sum is made when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use xpush_core::ports::cluster::Drift;
use xpush_core::{ChannelKey, Code, UnixMillis};

/// A number that one shard writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

/// A shard's own numbers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ShardCounters {
    /// Connections at the moment.
    pub(crate) connections: Tally,
    /// Channels with subscribers at the moment.
    pub(crate) channels: Tally,
    /// Channels at home here.
    pub(crate) hosted: Tally,
    /// The longest turn of the last second, in ms.
    pub(crate) lag: Tally,
    /// Publications that wait for their places.
    pub(crate) unfinished: Tally,
    pub(crate) opened: Tally,
    pub(crate) closed: Tally,
    pub(crate) commands: Tally,
    /// Publications of this node's own clients and back ends that reached their home.
    pub(crate) published: Tally,
    /// Messages put into outboxes.
    pub(crate) deliveries: Tally,
    /// Publications given to their channels' hosts.
    pub(crate) forwarded: Tally,
    /// Publications taken from other nodes.
    pub(crate) guests: Tally,
    /// Forwards that the host did not answer, or declined.
    pub(crate) unanswered: Tally,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The server's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    refused: Family<Reason, Counter>,
    /// All of them together.
    refusals: AtomicU64,
    relayed: Counter,
    moved: Counter,
    ahead: Ahead,
    drift: Drifts,
}

/// In what servers are configured differently.
#[derive(Debug, Default)]
struct Drifts {
    parts: Gauge,
    known: Mutex<Vec<Drift>>,
}

/// Positions beyond what a durable log holds.
#[derive(Debug, Default)]
struct Ahead {
    seen: Counter,
    /// When it was logged, in minutes since 1970.
    said: AtomicU64,
}

#[derive(Debug)]
struct Sums(Vec<Arc<ShardCounters>>);

impl Tally {
    /// Only the owner writes, so a load and a store do.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    pub(crate) fn new(shards: &[Arc<ShardCounters>]) -> Self {
        let mut registry = Registry::with_prefix("xpush");
        let refused = Family::<Reason, Counter>::default();
        registry.register("refused", "Requests and connections refused, by error code", refused.clone());
        let relayed = Counter::default();
        registry.register("relayed", "Requests sent on to the node of their session", relayed.clone());
        let moved = Counter::default();
        registry.register("moved", "Clients asked to go on at another server", moved.clone());
        let ahead = Ahead::default();
        registry.register(
            "positions_ahead",
            "Positions of clients and of this server that are beyond what a durable channel holds: its store may have lost something",
            ahead.seen.clone(),
        );
        let drift = Drifts::default();
        registry.register(
            "configuration_drift",
            "Parts of the configuration in which servers of one release differ",
            drift.parts.clone(),
        );
        registry.register_collector(Box::new(Sums(shards.to_vec())));
        Self { registry, refused, refusals: AtomicU64::new(0), relayed, moved, ahead, drift }
    }

    /// One refusal more.
    pub(crate) fn refused(&self, code: Code) {
        self.refused.get_or_create(&Reason { reason: code.as_str() }).inc();
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Refusals so far, for whatever reason.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// One request more that another node answers.
    pub(crate) fn relayed(&self) {
        self.relayed.inc();
    }

    /// One client more that was asked to go.
    pub(crate) fn moved(&self) {
        self.moved.inc();
    }

    /// Somebody has seen more of a durable channel than its store holds, in the same epoch. It is logged once a minute at most: clients can say what they like.
    pub(crate) fn ahead(&self, who: &'static str, channel: &ChannelKey, now: UnixMillis) {
        self.ahead.seen.inc();
        let minute = now / 60_000;
        if self.ahead.said.swap(minute, Ordering::Relaxed) != minute {
            tracing::error!(
                %channel,
                "{who} has seen more of a channel than the store holds: if the store was restored from a backup, stop all servers and run `xpush epoch new`"
            );
        }
    }

    /// In what the servers that there are now are configured differently; it is logged when that changes.
    pub(crate) fn drifts(&self, drift: &[Drift]) {
        let mut known = self.drift.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == drift {
            return;
        }
        self.drift.parts.set(i64::try_from(drift.len()).unwrap_or(i64::MAX));
        for drift in drift.iter().filter(|one| !known.contains(one)) {
            tracing::error!(%drift, "servers are configured differently: every server needs the same file");
        }
        if drift.is_empty() {
            tracing::info!("servers are configured alike again");
        }
        drift.clone_into(&mut known);
    }

    /// The OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "cannot encode the metrics");
        }
        text
    }
}

impl Collector for Sums {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sum = |field: fn(&ShardCounters) -> &Tally| -> u64 {
            self.0.iter().map(|shard| field(shard).get()).sum()
        };
        let gauges = [
            ("connections", "Connections at the moment", sum(|shard| &shard.connections)),
            (
                "lag_milliseconds",
                "The longest turn of an event loop in the last second",
                self.0.iter().map(|shard| shard.lag.get()).max().unwrap_or(0),
            ),
            ("channels", "Channels with subscribers, by shard, at the moment", sum(|shard| &shard.channels)),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("opened", "Connections opened", sum(|shard| &shard.opened)),
            ("closed", "Connections closed", sum(|shard| &shard.closed)),
            ("commands", "Commands taken", sum(|shard| &shard.commands)),
            (
                "published",
                "Publications of this server's own clients and back ends",
                sum(|shard| &shard.published),
            ),
            ("deliveries", "Messages put into outboxes", sum(|shard| &shard.deliveries)),
            ("forwarded", "Publications given to their channels' hosts", sum(|shard| &shard.forwarded)),
            ("appended_for_others", "Publications taken as their channels' host", sum(|shard| &shard.guests)),
            ("forwards_unanswered", "Batches that a host did not answer", sum(|shard| &shard.unanswered)),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
