//! Everybody is dropped and comes back at once.

use super::{Audience, TURN};
use crate::{
    Target,
    client::Heard,
    ledger::Groups,
    report::{Latencies, Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::BTreeMap,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

/// What is published when everybody is back, to see that the subscriptions hold.
const PROOFS: u32 = 3;
const PAYLOAD: usize = 128;

/// Everybody is dropped and comes back at once.
///
/// All connections are dropped without a word, and all are dialed again at the same moment. The time ends when the last
/// one is connected and its subscription acked. Then a few messages prove that everybody hears again.
#[derive(clap::Args, Debug)]
pub(crate) struct Storm {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many come back
    #[arg(long, default_value_t = 5000)]
    clients: usize,
}

impl Storm {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let Self { clients, .. } = *self;
        let channel: Rc<str> = format!("{}storm", self.target.prefix).into();
        let mut swarm = Swarm::new(&self.target, PAYLOAD)?;
        swarm.connect(clients, self.target.patience(), |_| Some(channel.clone()))?;

        let watch = Watch::start(self.target.server())?;
        swarm.drop_all();
        let (latencies, mut failures) = self.come_back(&mut swarm, &channel)?;
        let all_back = watch.elapsed();
        let spent =
            watch.stop("storm", &self.target.url, clients as u64, swarm.len() as u64, Default::default())?;

        // One more connection, which only publishes.
        swarm.connect(1, self.target.patience(), |_| None)?;
        let mut audience = Audience::new(clients, Groups { listeners_each: clients, publishers_each: 1 });
        for seq in 0..PROOFS {
            swarm.publish(clients, &channel, 0, seq)?;
            swarm.flush(clients)?;
        }
        audience.wait_for(&mut swarm, u64::from(PROOFS) * clients as u64, self.target.patience())?;
        failures.extend(audience.trouble.take());
        let faults = audience.ledger.close(&[PROOFS]);
        let settings = BTreeMap::from([("clients", clients as f64)]);
        let figures = BTreeMap::from([("all back s", all_back.as_secs_f64())]);
        Ok(Report { faults, settings, figures, failures, latency_us: latencies.percentiles(), ..spent })
    }

    /// Dials all at once and waits for all; each one's latency is its time until it was back.
    fn come_back(&self, swarm: &mut Swarm, channel: &Rc<str>) -> io::Result<(Latencies, Vec<String>)> {
        let start_ns = swarm.now_ns();
        let clock = swarm.clock();
        let mut latencies = Latencies::new();
        let mut failures = Vec::new();
        let mut back = 0;
        let mut progress = Instant::now();
        while back < self.clients && failures.is_empty() && progress.elapsed() < self.target.patience() {
            // Answers are handled between dials, or the first ones would wait for the last one's dial.
            let missing = self.clients - swarm.len();
            for _ in 0..missing.min(DIALS_A_TURN) {
                swarm.dial(Some(channel.clone()))?;
            }
            let before = back;
            let wait = if swarm.len() < self.clients { Duration::ZERO } else { TURN };
            swarm.turn(wait, &mut |_, heard| match heard {
                Heard::Ready => {
                    back += 1;
                    latencies.record(start_ns, clock.now_ns());
                }
                Heard::Refused(why) | Heard::Gone(why) => failures.push(why),
                _ => {}
            })?;
            if back > before {
                progress = Instant::now();
            }
        }
        if back < self.clients {
            failures.push(format!("only {back} of {} came back", self.clients));
        }
        Ok((latencies, failures))
    }
}

const DIALS_A_TURN: usize = 64;
