//! Everybody logs in by password at once, while others talk.

use crate::{
    Target,
    caller::Caller,
    http::Http,
    ledger::Faults,
    report::{Latencies, Report, Watch},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Password log-ins, all at once.
///
/// Registers one account, then lets `--logins` clients log in to it at the same moment, wave after wave, and measures the publishes of
/// somebody who has nothing to do with it, with and without. What is too much must be refused with 429, and nothing else may fail.
#[derive(clap::Args, Debug)]
pub(crate) struct Login {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Clients that log in at once
    #[arg(long, default_value_t = 200)]
    logins: usize,
    /// The app, which must let people register
    #[arg(long, default_value = "demo")]
    app: String,
    /// How long to measure without and with, each
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// In how many turns of each: what else the machine does at times then meets both alike
    #[arg(long, default_value_t = 5)]
    turns: u32,
    /// Publishes a second of the one who is measured
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
}

/// What became of the log-ins.
#[derive(Default)]
struct Answers {
    accepted: u64,
    refused: u64,
    /// The first other answer.
    wrong: Option<String>,
}

const PASSWORD: &str = "correct horse battery staple";

impl Login {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let user = format!("bench-{}", std::process::id());
        let (registered, _) = Http::open(&self.target, None)?.post("auth/register", &self.body(&user))?;
        if !(200..300).contains(&registered) {
            return Err(io::Error::other(format!("cannot register: status {registered}")));
        }
        let mut talker = Caller::connect(&self.target)?;
        // The clients that log in share its core: what is measured is not how long it waits for them.
        xpush_sched::ask_for_slice(xpush_sched::SHORTEST)?;
        self.talk(&mut talker, self.seconds / 10.0, &mut Latencies::new())?;
        let watch = Watch::start(self.target.server())?;
        let (mut without, mut with, mut answers) = (Latencies::new(), Latencies::new(), Answers::default());
        let seconds = self.seconds / f64::from(self.turns);
        for _ in 0..self.turns {
            self.talk(&mut talker, seconds, &mut without)?;
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let waves = scope.spawn(|| self.waves(&user, &over, &mut answers));
                let talked = self.talk(&mut talker, seconds, &mut with);
                over.store(true, Ordering::Relaxed);
                waves.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(talked)
            })?;
        }
        let asked = answers.accepted + answers.refused;
        let mut report = watch.stop("login", &self.target.url, asked, asked, Faults::default())?;
        report.settings = BTreeMap::from([("logins", self.logins as f64), ("rate", self.rate)]);
        report.latency_us = with.percentiles();
        report.failures.extend(answers.wrong.map(|wrong| format!("a log-in was answered: {wrong}")));
        if answers.accepted == 0 {
            report.failures.push("nobody could log in".into());
        }
        report.figures =
            BTreeMap::from([("accepted", answers.accepted as f64), ("refused", answers.refused as f64)]);
        if let (Some(with), Some(without)) = (with.percentiles(), without.percentiles()) {
            report.figures.insert("p99 ms without", without.p99 / 1000.0);
            report.figures.insert("p99 ms with", with.p99 / 1000.0);
            report.figures.insert("p99 with by without", with.p99 / without.p99);
        }
        Ok(report)
    }

    /// Publishes at an even pace and waits for each ack.
    fn talk(&self, talker: &mut Caller, seconds: f64, latencies: &mut Latencies) -> io::Result<()> {
        let channel = format!("{}login", self.target.prefix);
        let started = Instant::now();
        for count in 0_u32.. {
            let due = Duration::from_secs_f64(f64::from(count) / self.rate);
            if due.as_secs_f64() > seconds {
                break;
            }
            while started.elapsed() < due {
                thread::park_timeout(due.saturating_sub(started.elapsed()));
            }
            let sent = Instant::now();
            talker.ask("publish", json!({"channel": channel, "data": count}))?;
            latencies.record(0, u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Wave after wave until it is over; at least one.
    fn waves(&self, user: &str, over: &AtomicBool, answers: &mut Answers) -> io::Result<()> {
        // Theirs is not the time that is measured: they must not keep the talker from its core. On Linux it is about this thread.
        xpush_sched::ask_for_slice(100 * xpush_sched::SHORTEST)?;
        rustix::process::setpriority_process(None, 19)?;
        let (path, body) = ("auth/login", self.body(user));
        loop {
            let mut clients = Vec::with_capacity(self.logins);
            for _ in 0..self.logins {
                clients.push(Http::open(&self.target, None)?);
            }
            for client in &mut clients {
                client.send(path, &body)?;
            }
            for client in &mut clients {
                match client.answer()?.0 {
                    200..300 => answers.accepted += 1,
                    429 => answers.refused += 1,
                    other => _ = answers.wrong.get_or_insert(format!("status {other}")),
                }
            }
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn body(&self, user: &str) -> String {
        json!({"app": self.app, "user": user, "password": PASSWORD}).to_string()
    }
}
