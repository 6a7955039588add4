//! Published at one server, heard at others: what the way between servers takes.

use super::Audience;
use crate::{
    Target,
    ledger::Groups,
    report::{Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::BTreeMap,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

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
        let channel: Rc<str> = format!("{}across", self.target.prefix).into();
        let mut swarm = Swarm::new(&self.target, self.payload)?;
        for reader in &self.readers {
            swarm.go_to(reader)?;
            swarm.connect(self.subscribers, self.target.patience(), |_| Some(channel.clone()))?;
        }
        let listeners = swarm.len();
        swarm.go_to(&self.target.url)?;
        swarm.connect(1, self.target.patience(), |_| None)?;

        let mut audience = Audience::new(listeners, Groups { listeners_each: listeners, publishers_each: 1 });
        // A tenth of the time warms everything up.
        let warm = self.publish_for(self.seconds / 10.0, 0, &channel, &mut swarm, &mut audience)?;
        audience.measure_from_here();
        let delivered = audience.ledger.deliveries;
        let watch = Watch::start(self.target.server())?;
        let sent = self.publish_for(self.seconds, warm, &channel, &mut swarm, &mut audience)?;
        let deliveries = audience.ledger.deliveries - delivered;
        let faults = audience.ledger.close(&[sent]);
        let mut report = watch.stop("across", &self.target.url, (sent - warm).into(), deliveries, faults)?;
        report.settings = BTreeMap::from([
            ("rate", self.rate),
            ("servers", self.readers.len() as f64),
            ("subscribers", listeners as f64),
            ("payload", self.payload as f64),
        ]);
        report.latency_us = audience.latencies.percentiles();
        if let Some(latency) = report.latency_us {
            report.figures = BTreeMap::from([("p99 ms across", latency.p99 / 1_000.0)]);
        }
        report.failures.extend(audience.trouble);
        Ok(report)
    }

    /// Publishes for so long, from the message of this number on, and waits until everybody has everything. The number behind the last one.
    fn publish_for(
        &self,
        seconds: f64,
        first: u32,
        channel: &str,
        swarm: &mut Swarm,
        audience: &mut Audience,
    ) -> io::Result<u32> {
        let publisher = swarm.len() - 1;
        let (started, mut next) = (Instant::now(), first);
        let end = Duration::from_secs_f64(seconds);
        let due = |next: u32| Duration::from_secs_f64(f64::from(next - first) / self.rate);
        while due(next) < end {
            let before = next;
            while due(next) <= started.elapsed() && due(next) < end {
                swarm.publish(publisher, channel, 0, next)?;
                next += 1;
            }
            if next > before {
                swarm.flush(publisher)?;
            }
            audience.turn(swarm, due(next).saturating_sub(started.elapsed()))?;
        }
        let goal = u64::from(next) * audience.len as u64;
        audience.wait_for(swarm, goal, self.target.patience())?;
        Ok(next)
    }
}
