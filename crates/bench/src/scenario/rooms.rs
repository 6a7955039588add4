//! Many small rooms, everybody talking.

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

/// Many small rooms, everybody talking.
///
/// Every member publishes to its room in turn, at an even pace that does not wait for the server; everybody in the
/// room, the sender too, receives it.
#[derive(clap::Args, Debug)]
pub(crate) struct Rooms {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Members of each
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 128, value_parser = super::payload_len)]
    payload: usize,
    /// Messages a second, all members together
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// How long to talk
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl Rooms {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let Self { rooms, members, .. } = *self;
        let clients = rooms * members;
        let room = |number: usize| format!("{}room-{}", self.target.prefix, number / members).into();
        let channels: Vec<Rc<str>> = (0..clients).map(room).collect();
        let mut swarm = Swarm::new(&self.target, self.payload)?;
        swarm.connect(clients, self.target.patience(), |number| Some(channels[number].clone()))?;

        let mut audience =
            Audience::new(clients, Groups { listeners_each: members, publishers_each: members });
        let mut sent = vec![0; clients];
        // First one member of every room, then the next of every room, and so on: neighbours in time are strangers.
        let mut turns =
            (0..members).flat_map(|member| (0..rooms).map(move |room| room * members + member)).cycle();
        self.talk_for(self.seconds / 10.0, &mut turns, &channels, &mut sent, &mut swarm, &mut audience)?;
        audience.measure_from_here();
        let (sent_before, delivered) = (total(&sent), audience.ledger.deliveries);
        let watch = Watch::start(self.target.server())?;
        self.talk_for(self.seconds, &mut turns, &channels, &mut sent, &mut swarm, &mut audience)?;

        let faults = audience.ledger.close(&sent);
        let deliveries = audience.ledger.deliveries - delivered;
        let mut report =
            watch.stop("rooms", &self.target.url, total(&sent) - sent_before, deliveries, faults)?;
        report.settings = BTreeMap::from([
            ("rooms", rooms as f64),
            ("members", members as f64),
            ("payload", self.payload as f64),
            ("rate", self.rate),
        ]);
        report.latency_us = audience.latencies.percentiles();
        report.failures.extend(audience.trouble);
        Ok(report)
    }

    /// Talks for so long, then waits until everybody has everything (or patience ends).
    fn talk_for(
        &self,
        seconds: f64,
        turns: &mut impl Iterator<Item = usize>,
        channels: &[Rc<str>],
        sent: &mut [u32],
        swarm: &mut Swarm,
        audience: &mut Audience,
    ) -> io::Result<()> {
        let gap = Duration::from_secs_f64(1.0 / self.rate);
        let started = Instant::now();
        let mut due = started;
        while started.elapsed() < Duration::from_secs_f64(seconds) {
            while due <= Instant::now() {
                due += gap;
                let Some(client) = turns.next() else { break };
                swarm.publish(
                    client,
                    &channels[client],
                    u32::try_from(client).unwrap_or(u32::MAX),
                    sent[client],
                )?;
                swarm.flush(client)?;
                sent[client] += 1;
            }
            audience.turn(swarm, due.saturating_duration_since(Instant::now()))?;
        }
        audience.wait_for(swarm, total(sent) * self.members as u64, self.target.patience())
    }
}

fn total(sent: &[u32]) -> u64 {
    sent.iter().copied().map(u64::from).sum()
}
