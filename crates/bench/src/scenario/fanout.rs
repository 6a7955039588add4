//! One publisher, many subscribers: what a delivery costs.

use super::{TURN, talk::Talk};
use crate::{
    Target,
    report::{Report, Watch},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::Duration,
};

/// One publisher, many subscribers.
///
/// `single` sends the next message only after everybody has the last one: each delivery costs the server a write of its
/// own. `saturated` sends `--burst` messages at once, and the next burst as soon as the last one begins to arrive: while
/// the server writes one burst, the next waits for it, but never more than that.
#[derive(clap::Args, Debug)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How the publisher paces itself
    #[arg(long, value_enum, default_value_t = Mode::Single)]
    mode: Mode,
    /// Subscribers of the one channel
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 128, value_parser = super::payload_len)]
    payload: usize,
    /// Messages sent at once in `saturated`
    #[arg(long, default_value_t = 4)]
    burst: usize,
    /// How long to publish
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Single,
    Saturated,
}

/// How many subscribers have each message that is under way.
struct UnderWay {
    /// The lowest number that somebody lacks.
    first: u32,
    arrivals: VecDeque<usize>,
    subscribers: usize,
}

impl Fanout {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let Self { subscribers, .. } = *self;
        let mut talk = Talk::begin(&self.target, "fanout", subscribers, self.payload)?;
        let burst = self.mode.burst(self.burst);
        let mut under_way = UnderWay { first: 0, arrivals: VecDeque::new(), subscribers };
        // A tenth of the time warms caches, buffers and compilers up.
        self.publish_for(self.seconds / 10.0, &mut talk, &mut under_way)?;
        talk.audience.measure_from_here();
        let (sent, delivered) = (talk.sent, talk.audience.ledger.deliveries);
        let watch = Watch::start(self.target.server())?;
        self.publish_for(self.seconds, &mut talk, &mut under_way)?;

        let Talk { mut audience, sent: published, .. } = talk;
        let deliveries = audience.ledger.deliveries - delivered;
        let faults = audience.ledger.close(&[published]);
        let name = if self.mode == Mode::Single { "fanout/single" } else { "fanout/saturated" };
        let mut report = watch.stop(name, &self.target.url, (published - sent).into(), deliveries, faults)?;
        report.settings = BTreeMap::from([
            ("subscribers", subscribers as f64),
            ("payload", self.payload as f64),
            ("burst", burst as f64),
        ]);
        report.latency_us = audience.latencies.percentiles();
        report.failures.extend(audience.trouble);
        Ok(report)
    }

    /// Publishes for so long, then waits until everybody has everything (or patience ends).
    fn publish_for(&self, seconds: f64, talk: &mut Talk, under_way: &mut UnderWay) -> io::Result<()> {
        let started = std::time::Instant::now();
        let mut progress = started;
        loop {
            let publishing = started.elapsed() < Duration::from_secs_f64(seconds);
            if publishing && self.mode.may_send(self.burst, under_way) {
                for _ in 0..self.mode.burst(self.burst) {
                    talk.publish()?;
                    under_way.arrivals.push_back(0);
                }
                talk.flush()?;
            }
            let Talk { swarm, audience, .. } = &mut *talk;
            let before = audience.ledger.deliveries;
            swarm.turn(TURN, &mut |client, heard| {
                if let Some(seq) = audience.hear(client, heard) {
                    under_way.arrived(seq);
                }
            })?;
            if audience.ledger.deliveries > before {
                progress = std::time::Instant::now();
            }
            let finished = !publishing && under_way.arrivals.is_empty();
            if finished || progress.elapsed() > self.target.patience() {
                return Ok(());
            }
        }
    }
}

impl Mode {
    /// How many messages leave at once.
    fn burst(self, burst: usize) -> usize {
        match self {
            Self::Single => 1,
            Self::Saturated => burst,
        }
    }

    /// Whether the next ones may leave.
    fn may_send(self, burst: usize, under_way: &UnderWay) -> bool {
        let UnderWay { arrivals, .. } = under_way;
        match self {
            Self::Single => arrivals.is_empty(),
            Self::Saturated => arrivals.len() <= burst && arrivals.back() != Some(&0),
        }
    }
}

impl UnderWay {
    fn arrived(&mut self, seq: u32) {
        let place = seq.wrapping_sub(self.first) as usize;
        if let Some(count) = self.arrivals.get_mut(place) {
            *count += 1;
        }
        while self.arrivals.front() == Some(&self.subscribers) {
            self.arrivals.pop_front();
            self.first += 1;
        }
    }
}
