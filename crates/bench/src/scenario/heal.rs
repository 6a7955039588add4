//! One of several servers is killed: how long its clients are without one.

use super::TURN;
use crate::{
    Target,
    client::Heard,
    report::{Latencies, Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

const PAYLOAD: usize = 128;
/// A client waits for up to so long before it tries another server, and up to twice as long each time that this fails.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How often it is looked who is to try again.
const LOOK: Duration = Duration::from_millis(10);

/// One of several servers is killed: how long its clients are without one.
///
/// Clients are spread over `--url` and every `--server`. The process `--kill`, which is the one at `--url`, is killed by SIGKILL; whoever was there goes on at another
/// server, after a pause that differs from client to client, and longer each time it fails. Each one's latency is from the kill until it is subscribed again. Then a message
/// proves that everybody hears.
#[derive(clap::Args, Debug)]
pub(crate) struct Heal {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Another server's WebSocket address (several may be given)
    #[arg(long = "server", value_name = "URL", required = true)]
    servers: Vec<String>,
    /// The process to kill
    #[arg(long, value_name = "PID")]
    kill: u32,
    /// Clients, at all servers together
    #[arg(long, default_value_t = 2000)]
    clients: usize,
}

/// Who is to come back.
#[derive(Default)]
struct Returning {
    /// By the number of the newest connection: how often it has tried.
    trying: HashMap<usize, u32>,
    /// When to try next, and how often that was done.
    waiting: Vec<(Instant, u32)>,
    back: usize,
    lost: usize,
}

impl Heal {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let channel: Rc<str> = format!("{}heal", self.target.prefix).into();
        let mut swarm = Swarm::new(&self.target, PAYLOAD)?;
        let servers = self.servers.len() + 1;
        for (at, url) in std::iter::once(&self.target.url).chain(&self.servers).enumerate() {
            swarm.go_to(url)?;
            let share = self.clients / servers + usize::from(at < self.clients % servers);
            swarm.connect(share, self.target.patience(), |_| Some(channel.clone()))?;
        }
        let watch = Watch::start(None)?;
        let start_ns = swarm.now_ns();
        let killed = Command::new("kill").args(["-KILL", &self.kill.to_string()]).status()?;
        if !killed.success() {
            return Err(io::Error::other(format!("process {} cannot be killed", self.kill)));
        }
        let mut latencies = Latencies::new();
        let returning = self.come_back(&mut swarm, &channel, start_ns, &mut latencies)?;
        let healed = watch.elapsed();
        let Returning { back, lost, .. } = returning;
        let mut report =
            watch.stop("heal", &self.target.url, lost as u64, back as u64, Default::default())?;
        report.settings = BTreeMap::from([("clients", self.clients as f64), ("servers", servers as f64)]);
        report.figures = BTreeMap::from([("cut off", lost as f64), ("all back s", healed.as_secs_f64())]);
        report.latency_us = latencies.percentiles();
        if let Some(latency) = report.latency_us {
            report.figures.insert("p99 s until healed", latency.p99 / 1e6);
        }
        if lost == 0 {
            report.failures.push("nobody was at the server that was killed".into());
        }
        if back < lost {
            report.failures.push(format!("only {back} of {lost} came back"));
        }
        let heard = self.prove(&mut swarm, &channel)?;
        if heard != self.clients {
            report.failures.push(format!("{heard} of {} heard the proof", self.clients));
        }
        Ok(report)
    }

    fn come_back(
        &self,
        swarm: &mut Swarm,
        channel: &Rc<str>,
        start_ns: u64,
        latencies: &mut Latencies,
    ) -> io::Result<Returning> {
        let clock = swarm.clock();
        let mut returning = Returning::default();
        let mut progress = Instant::now();
        while progress.elapsed() < self.target.patience() {
            let before = (returning.back, returning.lost);
            swarm.turn(LOOK, &mut |client, heard| match heard {
                Heard::Ready => {
                    returning.trying.remove(&client);
                    returning.back += 1;
                    latencies.record(start_ns, clock.now_ns());
                }
                Heard::Gone(_) | Heard::Refused(_) => {
                    let tries = returning.trying.remove(&client);
                    returning.lost += usize::from(tries.is_none());
                    returning.wait(client, tries.unwrap_or(0));
                }
                _ => {}
            })?;
            if (returning.back, returning.lost) != before {
                progress = Instant::now();
            } else if returning.lost > 0 && returning.back == returning.lost {
                // Whoever is cut off hears of it at once: this server ran on the same machine.
                return Ok(returning);
            }
            let now = Instant::now();
            let waiting = std::mem::take(&mut returning.waiting);
            let (due, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _)| *at <= now);
            returning.waiting = waiting;
            for (number, (_, tries)) in due.into_iter().enumerate() {
                swarm.go_to(&self.servers[(number + tries as usize) % self.servers.len()])?;
                let client = swarm.dial(Some(channel.clone()))?;
                returning.trying.insert(client, tries + 1);
            }
        }
        Ok(returning)
    }

    /// How many hear a message.
    fn prove(&self, swarm: &mut Swarm, channel: &Rc<str>) -> io::Result<usize> {
        swarm.go_to(&self.servers[0])?;
        swarm.connect(1, self.target.patience(), |_| None)?;
        let publisher = swarm.len() - 1;
        swarm.publish(publisher, channel, 0, 0)?;
        swarm.flush(publisher)?;
        let (mut heard, started) = (HashSet::new(), Instant::now());
        while heard.len() < self.clients && started.elapsed() < self.target.patience() {
            swarm.turn(TURN, &mut |client, said| {
                if matches!(said, Heard::Message(_)) {
                    heard.insert(client);
                }
            })?;
        }
        Ok(heard.len())
    }
}

impl Returning {
    /// Another client, another pause: spread evenly over the second half of the longest.
    fn wait(&mut self, client: usize, tries: u32) {
        let longest = (FIRST_PAUSE * 2_u32.saturating_pow(tries)).min(LONGEST_PAUSE);
        let share = (client * 7_919 % 1_000) as f64 / 1_000.0;
        self.waiting.push((Instant::now() + longest.mul_f64(0.5 + share / 2.0), tries));
    }
}
