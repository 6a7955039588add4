//! Some subscribers stop reading: they are cut off, the others do not notice.

use super::{Audience, talk::Talk};
use crate::{
    Target,
    report::{Percentiles, Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// Some subscribers stop reading.
///
/// First all read (a quarter of the time), then `--percent` of them stop. The others must get everything as fast as
/// before. At the end the slow ones read on: each must find that the server has cut it off, after messages in order.
#[derive(clap::Args, Debug)]
pub(crate) struct Slow {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Subscribers of the one channel
    #[arg(long, default_value_t = 200)]
    subscribers: usize,
    /// How many of a hundred stop reading
    #[arg(long, default_value_t = 5)]
    percent: usize,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 4096, value_parser = super::payload_len)]
    payload: usize,
    /// Messages a second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// How long to publish; a server that waits for a slow client should be done with it by then
    #[arg(long, default_value_t = 24.0)]
    seconds: f64,
}

impl Slow {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let Self { subscribers, .. } = *self;
        let slow = (subscribers * self.percent).div_ceil(100);
        let mut talk = Talk::begin(&self.target, "slow", subscribers, self.payload)?;
        let watch = Watch::start(self.target.server())?;
        talk.publish_for(self.seconds / 4.0, self.rate)?;
        talk.wait_for_all()?;
        let before = talk.audience.latencies.percentiles();
        let (quiet, delivered) = (talk.sent, talk.audience.ledger.deliveries);

        talk.audience.measure_from_here();
        for client in 0..slow {
            talk.swarm.pause(client)?;
            talk.audience.ledger.excuse(client);
        }
        talk.publish_for(self.seconds * 3.0 / 4.0, self.rate)?;
        let readers = (subscribers - slow) as u64;
        talk.wait_for(delivered + u64::from(talk.sent - quiet) * readers)?;
        let Talk { mut audience, mut swarm, sent, .. } = talk;
        let during = audience.latencies.percentiles();
        let deliveries = audience.ledger.deliveries;
        // Whoever was cut off until here was reading.
        let cut = audience.ledger.faults.cut;
        let failures = audience.trouble.take().into_iter().collect();
        let report = watch.stop("slow", &self.target.url, sent.into(), deliveries, audience.ledger.faults)?;

        for client in 0..slow {
            swarm.resume(client)?;
        }
        self.wait_for_cuts(cut + slow as u64, &mut swarm, &mut audience)?;
        let slow_cut = audience.ledger.faults.cut - cut;
        let mut faults = audience.ledger.close(&[sent]);
        faults.cut = cut;
        Ok(self.judge(Report { faults, failures, latency_us: during, ..report }, before, slow, slow_cut))
    }

    fn wait_for_cuts(&self, goal: u64, swarm: &mut Swarm, audience: &mut Audience) -> io::Result<()> {
        audience.progress = Instant::now();
        while audience.ledger.faults.cut < goal && audience.progress.elapsed() < SETTLED {
            audience.turn(swarm, Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn judge(&self, mut report: Report, before: Option<Percentiles>, slow: usize, slow_cut: u64) -> Report {
        let p99_ms =
            |percentiles: Option<Percentiles>| percentiles.map_or(f64::NAN, |some| some.p99 / 1000.0);
        report.settings = BTreeMap::from([
            ("subscribers", self.subscribers as f64),
            ("slow", slow as f64),
            ("payload", self.payload as f64),
            ("rate", self.rate),
        ]);
        report.figures = BTreeMap::from([
            ("p99 ms, all reading", p99_ms(before)),
            ("p99 ms of the others", p99_ms(report.latency_us)),
            ("slow ones cut off", slow_cut as f64),
        ]);
        if slow_cut < slow as u64 {
            report.failures.push(format!("{slow_cut} of {slow} slow clients were cut off"));
        }
        report
    }
}

/// Nothing more arrives at the slow ones, not even an end.
const SETTLED: Duration = Duration::from_secs(2);
