//! What a run found, as a table for people and as JSON for programs.

use crate::{
    ledger::Faults,
    meter::{Meter, Reading, Spent},
};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    io,
    time::{Duration, Instant},
};

/// The result of one scenario.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) url: String,
    /// What was asked for, in the order of the command line.
    pub(crate) settings: BTreeMap<&'static str, f64>,
    pub(crate) seconds: f64,
    /// Messages, or requests, that were sent.
    pub(crate) sent: u64,
    /// Messages, or acks, that arrived.
    pub(crate) deliveries: u64,
    pub(crate) faults: Faults,
    pub(crate) latency_us: Option<Percentiles>,
    /// Needs `--server-pid`.
    pub(crate) server: Option<Spent>,
    pub(crate) server_cpu_us_per_delivery: Option<f64>,
    pub(crate) load: Spent,
    /// What only this scenario finds.
    pub(crate) figures: BTreeMap<&'static str, f64>,
    /// Why the run is not good, if it is not.
    pub(crate) failures: Vec<String>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    p90: f64,
    pub(crate) p99: f64,
    p999: f64,
    max: f64,
}

/// Collects latencies.
pub(crate) struct Latencies(Histogram<u64>);

/// A measurement under way.
pub(crate) struct Watch {
    server: Option<(Meter, Reading)>,
    load: Reading,
    started: Instant,
}

impl Report {
    /// Everything was as it must be.
    pub(crate) fn is_good(&self) -> bool {
        self.faults.none() && self.failures.is_empty()
    }
}

impl Watch {
    pub(crate) fn start(server: Option<Meter>) -> io::Result<Self> {
        let load = Meter::oneself().read()?;
        let server = server.map(|meter| Ok::<_, io::Error>((meter, meter.read()?))).transpose()?;
        Ok(Self { server, load, started: Instant::now() })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the measurement. Call it when nothing is under way any more.
    pub(crate) fn stop(
        self,
        scenario: &str,
        url: &str,
        sent: u64,
        deliveries: u64,
        faults: Faults,
    ) -> io::Result<Report> {
        let seconds = self.started.elapsed().as_secs_f64();
        let server =
            self.server.map(|(meter, start)| Ok::<_, io::Error>(start.until(meter.read()?))).transpose()?;
        let load = self.load.until(Meter::oneself().read()?);
        let each = |spent: Spent| spent.cpu_s * 1e6 / deliveries as f64;
        Ok(Report {
            scenario: scenario.into(),
            url: url.into(),
            settings: BTreeMap::new(),
            seconds,
            sent,
            deliveries,
            faults,
            latency_us: None,
            server,
            server_cpu_us_per_delivery: server.filter(|_| deliveries > 0).map(each),
            load,
            figures: BTreeMap::new(),
            failures: Vec::new(),
        })
    }
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order"))
    }

    pub(crate) fn record(&mut self, sent_ns: u64, now_ns: u64) {
        self.0.saturating_record(now_ns.saturating_sub(sent_ns).max(1));
    }

    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        let some = !self.0.is_empty();
        some.then(|| Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(self.0.max()),
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(f, "{} · {} · {}", self.scenario, self.url, settings.join(", "))?;
        let rate = self.deliveries as f64 / self.seconds;
        row(
            f,
            "arrived",
            format_args!("{} of {} sent, in {:.2} s ({rate:.0}/s)", self.deliveries, self.sent, self.seconds),
        )?;
        let Faults { lost, doubled, misordered, stray, cut } = self.faults;
        let faults = format_args!(
            "lost {lost}   doubled {doubled}   misordered {misordered}   stray {stray}   cut {cut}"
        );
        row(f, "faults", faults)?;
        if let Some(Percentiles { p50, p90, p99, p999, max }) = self.latency_us {
            let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(span);
            row(f, "latency", format_args!("p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p999}   max {max}"))?;
        }
        if let Some(server) = self.server {
            let each = self.server_cpu_us_per_delivery.unwrap_or_default();
            row(f, "server", format_args!("{each:.2} µs CPU each   {server}"))?;
        }
        row(f, "load", format_args!("{}", self.load))?;
        for (name, value) in &self.figures {
            row(f, name, format_args!("{value:.3}"))?;
        }
        for failure in &self.failures {
            row(f, "FAILED", format_args!("{failure}"))?;
        }
        Ok(())
    }
}

impl Display for Spent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { busy, user_share, rss_kb, .. } = *self;
        write!(f, "{:.0} % busy ({:.0} % of it user)   RSS {rss_kb} kB", busy * 100.0, user_share * 100.0)
    }
}

fn row(f: &mut Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<10} {value}")
}

fn span(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}
