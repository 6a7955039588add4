//! What the search index costs those who publish, and how far it is behind.

use super::durable::Durable;
use crate::{
    caller::Caller,
    ledger::Faults,
    report::{Report, Watch},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// How often each is measured, by turns.
const TURNS: u32 = 2;
/// How long the index may take to catch up.
const CAUGHT_UP: Duration = Duration::from_secs(300);

/// Publishes into durable channels that are searched, beside such that are not.
///
/// By turns, twice each: as fast as it goes into channels that are not searched, the same into channels that are, and then nothing until the newest message is found. The
/// server needs a rule for the channels of `--searched` with durable history and `search = true`, and one for those of `--prefix` without.
#[derive(clap::Args, Debug)]
pub(crate) struct Search {
    #[command(flatten)]
    pub(crate) durable: Durable,
    /// What the names of searched channels start with
    #[arg(long, default_value = "found:")]
    searched: String,
}

impl Search {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let target = &self.durable.target;
        let watch = Watch::start(target.server())?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let (mut acked, mut taken) = (0, Duration::ZERO);
        let mut failures = Vec::new();
        for turn in 0..TURNS {
            let plain = self.durable.run()?;
            let searched = self.durable.run_in(&self.searched)?;
            taken += self.wait_until_found(turn)?;
            acked += searched.deliveries;
            for (report, rates) in [(&plain, &mut without), (&searched, &mut with)] {
                rates.extend(report.figures.get("acks a second"));
                failures.extend(report.failures.iter().cloned());
                if !report.faults.none() {
                    failures.push(format!("{:?}", report.faults));
                }
            }
        }
        let mut report = watch.stop("search", &target.url, acked, acked, Faults::default())?;
        let sum = |rates: &[f64]| rates.iter().sum::<f64>();
        report.failures = failures;
        report.figures = BTreeMap::from([
            ("acks a second without", sum(&without) / f64::from(TURNS)),
            ("acks a second with", sum(&with) / f64::from(TURNS)),
            ("with by without", sum(&with) / sum(&without)),
            ("found after s", taken.as_secs_f64() / f64::from(TURNS)),
            ("caught up a second", acked as f64 / taken.as_secs_f64()),
        ]);
        Ok(report)
    }

    /// Publishes a message of a word of its own into each searched channel, and waits until it is found there: the index takes a channel's messages in order.
    fn wait_until_found(&self, turn: u32) -> io::Result<Duration> {
        let mut caller = Caller::connect(&self.durable.target)?;
        let started = Instant::now();
        let word = format!("last{turn}of{}", std::process::id());
        let channels: Vec<_> = self.durable.channels(&self.searched).collect();
        for channel in &channels {
            caller.ask("publish", json!({"channel": channel, "data": word}))?;
        }
        for channel in &channels {
            while caller.ask("search", json!({"channel": channel, "query": word}))?["hits"] == json!([]) {
                if started.elapsed() > CAUGHT_UP {
                    return Err(io::Error::other(format!("nothing is found in {channel}")));
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        Ok(started.elapsed())
    }
}
