//! Clients that come back, and pages of long histories.

use crate::{
    Target,
    caller::Caller,
    ledger::Faults,
    meter::{Meter, Reading},
    report::{Latencies, Report, Watch},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io, time::Instant};

/// A client comes back and has missed much.
///
/// Fills a channel with `--missed` messages, then subscribes again and again, on a new connection each time, from before the first of them. Each message must
/// come once and in order.
#[derive(clap::Args, Debug)]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Messages that were missed
    #[arg(long, default_value_t = 10_000)]
    missed: u64,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 200, value_parser = super::payload_len)]
    payload: usize,
    /// How often to come back
    #[arg(long, default_value_t = 11)]
    times: u32,
}

/// The newest page of a long history.
#[derive(clap::Args, Debug)]
pub(crate) struct Page {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Messages in the channel
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages in the page
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 200, value_parser = super::payload_len)]
    payload: usize,
    /// How often to read it
    #[arg(long, default_value_t = 1_000)]
    times: u32,
}

/// Publications under way while a channel is filled.
const WINDOW: u64 = 60;

impl Resume {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let channel = format!("{}resume-{}", self.target.prefix, std::process::id());
        let mut filler = Caller::connect(&self.target)?;
        let begun = filler.ask("subscribe", json!({"channel": channel}))?;
        filler.ask("unsubscribe", json!({"channel": channel}))?;
        filler.fill(&channel, &"x".repeat(self.payload), self.missed, WINDOW)?;
        let since = json!({"epoch": begun["epoch"], "seq": begun["seq"]});

        let mut faults = Faults::default();
        let (mut answered, mut whole) = (Vec::new(), Latencies::new());
        let watch = Watch::start(self.target.server())?;
        for _ in 0..self.times {
            let mut client = Caller::connect(&self.target)?;
            let started = Instant::now();
            client.send("subscribe", json!({"channel": channel, "since": since}))?;
            let (_, answer) = client.answer()?;
            answered.push(started.elapsed().as_secs_f64() * 1000.0);
            faults.lost += u64::from(answer["recovered"] != true || answer["missed"] != self.missed);
            let mut next = begun["seq"].as_u64().unwrap_or_default() + 1;
            while next <= answer["seq"].as_u64().unwrap_or_default() {
                let said = client.hear()?;
                faults.misordered += u64::from(said["push"] != "message" || said["seq"] != next);
                next += 1;
            }
            whole.record(0, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        let times = u64::from(self.times);
        let mut report =
            watch.stop("resume", &self.target.url, times * self.missed, times * self.missed, faults)?;
        report.settings = BTreeMap::from([("missed", self.missed as f64), ("payload", self.payload as f64)]);
        report.latency_us = whole.percentiles();
        answered.sort_by(f64::total_cmp);
        report.figures.insert("answered ms", answered[answered.len() / 2]);
        if let Some(latency) = report.latency_us {
            report.figures.insert("last message ms", latency.p50 / 1000.0);
        }
        if let Some(server) = report.server {
            report.figures.insert("server CPU ms a resume", server.cpu_s * 1000.0 / times as f64);
        }
        Ok(report)
    }
}

impl Page {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let channel = format!("{}page-{}", self.target.prefix, self.messages);
        let mut client = Caller::connect(&self.target)?;
        let ask =
            |client: &mut Caller| client.ask("history", json!({"channel": channel, "limit": self.limit}));
        let head = |page: &Value| page["head"].as_u64().unwrap_or_default();
        // A second run finds it filled.
        let there = head(&ask(&mut client)?);
        client.fill(&channel, &"x".repeat(self.payload), self.messages.saturating_sub(there), WINDOW)?;

        let mut faults = Faults::default();
        let (mut latencies, mut read) = (Latencies::new(), 0);
        let server = self.target.server();
        let watch = Watch::start(server)?;
        let before = server.map(Meter::read).transpose()?;
        for _ in 0..self.times {
            let started = Instant::now();
            let page = ask(&mut client)?;
            latencies.record(0, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let messages = page["messages"].as_array().map_or(0, Vec::len) as u64;
            faults.lost += u64::from(messages != self.limit || head(&page) < self.messages);
            read += 1;
        }
        let spent = before.zip(server.map(Meter::read).transpose()?);
        let mut report = watch.stop("page", &self.target.url, read, read, faults)?;
        report.settings = BTreeMap::from([("messages", self.messages as f64), ("limit", self.limit as f64)]);
        report.latency_us = latencies.percentiles();
        if let Some(latency) = report.latency_us {
            report.figures.insert("page ms", latency.p50 / 1000.0);
        }
        let cpu = |(before, after): (Reading, Reading)| after.cpu.saturating_sub(before.cpu).as_secs_f64();
        if let Some(spent) = spent {
            report.figures.insert("server CPU ms a page", cpu(spent) * 1000.0 / read as f64);
        }
        Ok(report)
    }
}
