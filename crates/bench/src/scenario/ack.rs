//! A publish and its ack, one at a time.

use super::TURN;
use crate::{
    Target,
    client::Heard,
    ledger::Faults,
    report::{Latencies, Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// A publish and its ack, one at a time.
///
/// Nobody is subscribed: it measures the way of one command through the server and back. The next request is sent when
/// the last one was acked, by the next client.
#[derive(clap::Args, Debug)]
pub(crate) struct Ack {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Clients that take turns
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 128, value_parser = super::payload_len)]
    payload: usize,
    /// How long to go on
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl Ack {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let mut swarm = Swarm::new(&self.target, self.payload)?;
        swarm.connect(self.clients, self.target.patience(), |_| None)?;
        let mut requests = Requests {
            swarm,
            latencies: Latencies::new(),
            faults: Faults::default(),
            refused: None,
            sent: 0,
        };
        self.ask_for(self.seconds / 10.0, &mut requests)?;
        requests.latencies = Latencies::new();
        let sent = requests.sent;
        let watch = Watch::start(self.target.server())?;
        self.ask_for(self.seconds, &mut requests)?;
        let sent = u64::from(requests.sent - sent);
        let mut report =
            watch.stop("ack", &self.target.url, sent, sent - requests.faults.lost, requests.faults)?;
        report.settings =
            BTreeMap::from([("clients", self.clients as f64), ("payload", self.payload as f64)]);
        report.latency_us = requests.latencies.percentiles();
        report.failures.extend(requests.refused);
        Ok(report)
    }

    fn ask_for(&self, seconds: f64, requests: &mut Requests) -> io::Result<()> {
        let started = Instant::now();
        let channel = format!("{}nobody", self.target.prefix);
        while started.elapsed() < Duration::from_secs_f64(seconds) && requests.faults.none() {
            requests.ask(requests.sent as usize % self.clients, &channel, self.target.patience())?;
        }
        Ok(())
    }
}

struct Requests {
    swarm: Swarm,
    latencies: Latencies,
    faults: Faults,
    refused: Option<String>,
    sent: u32,
}

impl Requests {
    /// One request and its ack, which must be the only thing that comes.
    fn ask(&mut self, client: usize, channel: &str, patience: Duration) -> io::Result<()> {
        let sent_ns = self.swarm.now_ns();
        let wanted = self.swarm.publish(client, channel, 0, self.sent)?;
        self.swarm.flush(client)?;
        self.sent += 1;
        let started = Instant::now();
        let mut acked = false;
        while !acked && self.faults.none() && started.elapsed() < patience {
            let Self { faults, refused, .. } = self;
            self.swarm.turn(TURN, &mut |who, heard| match heard {
                Heard::Acked(number) if who == client && number == wanted && !acked => acked = true,
                Heard::Acked(_) => faults.doubled += 1,
                Heard::Gone(why) => {
                    faults.cut += 1;
                    *refused = Some(why);
                }
                Heard::Refused(why) => *refused = Some(why),
                Heard::Message(_) | Heard::Damaged(_) | Heard::Ready => faults.stray += 1,
            })?;
        }
        self.latencies.record(sent_ns, self.swarm.now_ns());
        self.faults.lost += u64::from(!acked);
        Ok(())
    }
}
