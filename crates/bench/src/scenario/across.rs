//! Published at one server, heard at others: what the way between servers takes.

use super::talk::Talk;
use crate::{
    Target,
    report::{Report, Watch},
};
use std::{collections::BTreeMap, io};

/// Published at one server, heard at others.
///
/// The publisher is at `--url`, and the subscribers are at every `--reader`. Messages leave evenly, at `--rate` a second, whether the ones before have arrived or
/// not; the latency is from each one's sending until a subscriber has read it.
#[derive(clap::Args, Debug)]
pub(crate) struct Across {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Another server's WebSocket address (several may be given)
    #[arg(long = "reader", value_name = "URL", required = true)]
    readers: Vec<String>,
    /// Subscribers at each of them
    #[arg(long, default_value_t = 1)]
    subscribers: usize,
    /// Messages a second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 128, value_parser = super::payload_len)]
    payload: usize,
    /// How long to publish
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

impl Across {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let readers = self.readers.iter().map(String::as_str);
        let mut talk = Talk::begin_at(&self.target, readers, "across", self.subscribers, self.payload)?;
        // A tenth of the time warms everything up.
        talk.publish_for(self.seconds / 10.0, self.rate)?;
        talk.wait_for_all()?;
        talk.audience.measure_from_here();
        let (warm, delivered) = (talk.sent, talk.audience.ledger.deliveries);
        let watch = Watch::start(self.target.server())?;
        talk.publish_for(self.seconds, self.rate)?;
        talk.wait_for_all()?;
        let Talk { mut audience, sent, .. } = talk;
        let deliveries = audience.ledger.deliveries - delivered;
        let faults = audience.ledger.close(&[sent]);
        let mut report = watch.stop("across", &self.target.url, (sent - warm).into(), deliveries, faults)?;
        report.settings = BTreeMap::from([
            ("rate", self.rate),
            ("servers", self.readers.len() as f64),
            ("subscribers", audience.len as f64),
            ("payload", self.payload as f64),
        ]);
        report.latency_us = audience.latencies.percentiles();
        if let Some(latency) = report.latency_us {
            report.figures = BTreeMap::from([("p99 ms across", latency.p99 / 1_000.0)]);
        }
        report.failures.extend(audience.trouble);
        Ok(report)
    }
}
