//! Many clients publish into channels whose messages are acked when they are on disk.

use super::TURN;
use crate::{
    Target,
    client::Heard,
    disk, exposition,
    ledger::Faults,
    report::{Latencies, Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Many clients publish into channels with durable history.
///
/// Each client keeps `--window` publications under way, or all together send at `--rate`. Every ack must come. Beside it stands
/// what the disk does: 4 kB appends with an fdatasync each, right before the load. How many messages a commit holds is what the server's `/metrics` say.
#[derive(clap::Args, Debug)]
pub(crate) struct Durable {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Clients that publish
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Channels that they publish into
    #[arg(long, default_value_t = 16)]
    channels: usize,
    /// Publications of one client that are not acked yet, at most
    #[arg(long, default_value_t = 60)]
    window: usize,
    /// Messages a second, all clients together; 0: as fast as they are acked
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 200, value_parser = super::payload_len)]
    payload: usize,
    /// How long to publish
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// A folder on the server's disk, to measure fdatasync in
    #[arg(long, default_value = ".")]
    disk: PathBuf,
    /// How long to measure the disk
    #[arg(long, default_value_t = 1.0)]
    disk_seconds: f64,
}

/// One client's publications that are not acked yet.
#[derive(Default)]
struct UnderWay {
    /// The number of the first ack that is awaited.
    first: u32,
    /// When each was sent, from the first on; `None`: acked before an earlier one.
    sent: VecDeque<Option<u64>>,
}

/// How often the server's memory is read on the way; the second half is the last two parts.
const PARTS: u32 = 4;

struct Load<'a> {
    scenario: &'a Durable,
    swarm: Swarm,
    channels: Vec<String>,
    under_way: Vec<UnderWay>,
    latencies: Latencies,
    acked: u64,
    sent: u32,
    faults: Faults,
    trouble: Option<String>,
    progress: Instant,
}

impl Durable {
    pub(crate) fn run(&self) -> io::Result<Report> {
        self.run_in(&self.target.prefix)
    }

    /// The channels, whose names begin with `prefix`.
    pub(crate) fn channels(&self, prefix: &str) -> impl Iterator<Item = String> {
        (0..self.channels).map(move |n| format!("{prefix}durable-{n}"))
    }

    /// The same load into the channels of `prefix`.
    pub(crate) fn run_in(&self, prefix: &str) -> io::Result<Report> {
        let disk = disk::measure(&self.disk, Duration::from_secs_f64(self.disk_seconds))?;
        let mut swarm = Swarm::new(&self.target, self.payload)?;
        swarm.connect(self.clients, self.target.patience(), |_| None)?;
        let mut load = Load {
            scenario: self,
            swarm,
            channels: self.channels(prefix).collect(),
            under_way: (0..self.clients).map(|_| UnderWay::default()).collect(),
            latencies: Latencies::new(),
            acked: 0,
            sent: 0,
            faults: Faults::default(),
            trouble: None,
            progress: Instant::now(),
        };
        load.publish_for(self.seconds / 10.0)?;
        load.latencies = Latencies::new();
        let (sent, acked) = (load.sent, load.acked);
        let before = exposition::commits(&self.target)?;
        let rss =
            |target: &Target| target.server().map(|server| server.read().map(|read| read.rss_kb)).transpose();
        let watch = Watch::start(self.target.server())?;
        let mut memory = vec![rss(&self.target)?];
        for _ in 0..PARTS {
            load.publish_for(self.seconds / f64::from(PARTS))?;
            memory.push(rss(&self.target)?);
        }
        let seconds = watch.elapsed().as_secs_f64();
        load.faults.lost =
            load.under_way.iter().map(|client| client.sent.iter().flatten().count() as u64).sum();
        let acked = load.acked - acked;
        let sent = u64::from(load.sent - sent);
        let mut report = watch.stop("durable", &self.target.url, sent, acked, load.faults)?;
        report.settings = BTreeMap::from([
            ("clients", self.clients as f64),
            ("channels", self.channels as f64),
            ("window", self.window as f64),
            ("rate", self.rate),
            ("payload", self.payload as f64),
        ]);
        report.latency_us = load.latencies.percentiles();
        report.figures = BTreeMap::from([
            ("acks a second", acked as f64 / seconds),
            ("fdatasyncs a second", disk.syncs_a_second),
            ("fdatasync p50 ms", disk.p50_ms),
            ("fdatasync p99 ms", disk.p99_ms),
        ]);
        if let Some(latency) = report.latency_us {
            report.figures.insert("ack p99 ms", latency.p99 / 1000.0);
            report
                .figures
                .insert("ack p99 ms beyond 3 fdatasync p99", latency.p99 / 1000.0 - 3.0 * disk.p99_ms);
        }
        if let (Some(before), Some(after)) = (before, exposition::commits(&self.target)?) {
            report.figures.insert("commits a second", (after.count - before.count) / seconds);
            report.figures.insert("messages a commit", after.messages_each_since(before));
        }
        let memory: Option<Vec<u64>> = memory.into_iter().collect();
        if let Some([first, .., middle, _, last]) = memory.as_deref() {
            let grown = |from: u64| (*last as f64 - from as f64) / 1024.0;
            report.figures.insert("RSS MB grown", grown(*first));
            report.figures.insert("RSS MB grown in the second half", grown(*middle));
        }
        report.failures.extend(load.trouble);
        Ok(report)
    }
}

impl Load<'_> {
    /// Publishes for so long, then waits until everything is acked (or patience ends).
    fn publish_for(&mut self, seconds: f64) -> io::Result<()> {
        let (started, before) = (Instant::now(), self.sent);
        self.progress = started;
        loop {
            let elapsed = started.elapsed().as_secs_f64();
            let publishing = elapsed < seconds;
            if publishing {
                let due = match self.scenario.rate {
                    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                    rate if rate > 0.0 => (elapsed * rate) as u32,
                    _ => u32::MAX,
                };
                self.send(due.saturating_sub(self.sent - before))?;
            }
            // At an even pace a millisecond is late already.
            let wait = if publishing && self.scenario.rate > 0.0 { Duration::from_millis(1) } else { TURN };
            self.hear(wait)?;
            let idle = self.under_way.iter().all(|client| client.sent.is_empty());
            if (!publishing && idle) || self.progress.elapsed() > self.scenario.target.patience() {
                return Ok(());
            }
        }
    }

    /// Sends as many messages as may leave: client by client, each up to its window.
    fn send(&mut self, mut due: u32) -> io::Result<()> {
        let clients = self.under_way.len();
        let first = self.sent as usize % clients;
        for client in (0..clients).map(|offset| (first + offset) % clients) {
            let room = self.scenario.window.saturating_sub(self.under_way[client].sent.len());
            // At a given rate the clients take turns.
            let most = if self.scenario.rate > 0.0 { 1 } else { u32::MAX };
            let count = u32::try_from(room).unwrap_or(u32::MAX).min(due).min(most);
            for _ in 0..count {
                let channel = &self.channels[client % self.channels.len()];
                self.under_way[client].sent.push_back(Some(self.swarm.now_ns()));
                self.swarm.publish(client, channel, 0, self.sent)?;
                self.sent = self.sent.wrapping_add(1);
            }
            if count > 0 {
                self.swarm.flush(client)?;
            }
            due -= count;
        }
        Ok(())
    }

    fn hear(&mut self, wait: Duration) -> io::Result<()> {
        let now = self.swarm.clock();
        let Self { swarm, under_way, latencies, acked, faults, trouble, progress, .. } = self;
        swarm.turn(wait, &mut |client, heard| match heard {
            Heard::Acked(number) => match under_way[client].acked(number) {
                Some(sent_ns) => {
                    latencies.record(sent_ns, now.now_ns());
                    *acked += 1;
                    *progress = Instant::now();
                }
                None => faults.doubled += 1,
            },
            Heard::Refused(why) => _ = trouble.get_or_insert(why),
            Heard::Gone(why) => {
                faults.cut += 1;
                trouble.get_or_insert(why);
            }
            Heard::Message(_) | Heard::Damaged(_) | Heard::Ready => faults.stray += 1,
        })
    }
}

impl UnderWay {
    /// When the publication of that number was sent; `None` when it was acked before, or never sent.
    fn acked(&mut self, number: u32) -> Option<u64> {
        let index = number.checked_sub(self.first)? as usize;
        let sent = self.sent.get_mut(index)?.take();
        while self.sent.front() == Some(&None) {
            self.sent.pop_front();
            self.first += 1;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_in_any_order_are_told_apart() {
        let mut under_way = UnderWay { first: 3, sent: [Some(30), Some(40), Some(50)].into() };
        assert_eq!(under_way.acked(4), Some(40));
        assert_eq!(under_way.acked(4), None, "twice");
        assert_eq!(under_way.acked(3), Some(30));
        assert_eq!((under_way.first, under_way.sent.len()), (5, 1));
        assert_eq!(under_way.acked(3), None, "long ago");
        assert_eq!(under_way.acked(9), None, "never sent");
        assert_eq!(under_way.acked(5), Some(50));
    }
}
