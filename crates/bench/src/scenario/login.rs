//! Everybody logs in by password at once, while others talk.

use crate::{
    Target,
    caller::{Caller, connect},
    ledger::Faults,
    report::{Latencies, Report, Watch},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
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
    /// How long to measure without, and then with
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
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
        let registered = self.post("register", &user)?;
        if !(200..300).contains(&registered) {
            return Err(io::Error::other(format!("cannot register: status {registered}")));
        }
        let mut talker = Caller::connect(&self.target)?;
        self.talk(&mut talker, self.seconds / 10.0)?;
        let watch = Watch::start(self.target.server())?;
        let without = self.talk(&mut talker, self.seconds)?;
        let over = AtomicBool::new(false);
        let (with, answers) = thread::scope(|scope| {
            let waves = scope.spawn(|| self.waves(&user, &over));
            let with = self.talk(&mut talker, self.seconds);
            over.store(true, Ordering::Relaxed);
            let answers = waves.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            io::Result::Ok((with?, answers?))
        })?;
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
    fn talk(&self, talker: &mut Caller, seconds: f64) -> io::Result<Latencies> {
        let channel = format!("{}login", self.target.prefix);
        let mut latencies = Latencies::new();
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
        Ok(latencies)
    }

    /// Wave after wave until it is over; at least one.
    fn waves(&self, user: &str, over: &AtomicBool) -> io::Result<Answers> {
        let mut answers = Answers::default();
        loop {
            let statuses: Vec<io::Result<u16>> = thread::scope(|scope| {
                let clients: Vec<_> =
                    (0..self.logins).map(|_| scope.spawn(|| self.post("login", user))).collect();
                let joined = |client: thread::ScopedJoinHandle<'_, _>| {
                    client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                clients.into_iter().map(joined).collect()
            });
            for status in statuses {
                match status? {
                    200..300 => answers.accepted += 1,
                    429 => answers.refused += 1,
                    other => _ = answers.wrong.get_or_insert(format!("status {other}")),
                }
            }
            if over.load(Ordering::Relaxed) {
                return Ok(answers);
            }
        }
    }

    /// The status of a request about an account.
    fn post(&self, what: &str, user: &str) -> io::Result<u16> {
        let body = json!({"app": self.app, "user": user, "password": PASSWORD}).to_string();
        let mut stream = connect(&self.target)?;
        write!(
            stream,
            "POST /api/v1/auth/{what} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.target.host()?,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::Error::other("no HTTP answer"))
    }
}
