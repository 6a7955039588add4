//! Some subscribers stop reading: they are cut off, the others do not notice.

use super::Audience;
use crate::{
    Target,
    ledger::Groups,
    report::{Percentiles, Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::BTreeMap,
    io,
    rc::Rc,
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
        let channel: Rc<str> = format!("{}slow", self.target.prefix).into();
        let mut swarm = Swarm::new(&self.target, self.payload)?;
        swarm.connect(subscribers + 1, self.target.patience(), |number| {
            (number < subscribers).then(|| channel.clone())
        })?;

        let mut audience =
            Audience::new(subscribers, Groups { listeners_each: subscribers, publishers_each: 1 });
        let watch = Watch::start(self.target.server())?;
        let quiet = self.publish(0, self.seconds / 4.0, &channel, &mut swarm, &mut audience)?;
        audience.wait_for(&mut swarm, u64::from(quiet) * subscribers as u64, self.target.patience())?;
        let before = audience.latencies.percentiles();
        let delivered = audience.ledger.deliveries;

        audience.measure_from_here();
        for client in 0..slow {
            swarm.pause(client)?;
            audience.ledger.excuse(client);
        }
        let sent = self.publish(quiet, self.seconds * 3.0 / 4.0, &channel, &mut swarm, &mut audience)?;
        let readers = (subscribers - slow) as u64;
        let goal = delivered + u64::from(sent - quiet) * readers;
        audience.wait_for(&mut swarm, goal, self.target.patience())?;
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

    /// Publishes at the pace for so long; returns the next number.
    fn publish(
        &self,
        first: u32,
        seconds: f64,
        channel: &str,
        swarm: &mut Swarm,
        audience: &mut Audience,
    ) -> io::Result<u32> {
        let gap = Duration::from_secs_f64(1.0 / self.rate);
        let started = Instant::now();
        let (mut due, mut next) = (started, first);
        while started.elapsed() < Duration::from_secs_f64(seconds) {
            while due <= Instant::now() {
                due += gap;
                swarm.publish(self.subscribers, channel, 0, next)?;
                swarm.flush(self.subscribers)?;
                next += 1;
            }
            audience.turn(swarm, due.saturating_duration_since(Instant::now()))?;
        }
        Ok(next)
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
