//! Publishes through the HTTP API beside the same ones over sockets, and many in one request.

use super::TURN;
use crate::{
    Target,
    client::Heard,
    http::{Http, Posts},
    ledger::Faults,
    report::{Latencies, Report, Watch},
    swarm::Swarm,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// How often each way is measured, by turns.
const TURNS: u32 = 3;

/// Publishes through the HTTP API.
///
/// `--clients` publish over sockets, each waiting for its ack before its next one; as many do over HTTP connections that are kept; by turns, three times each, into one channel,
/// as many bytes of data. They are so many that the server always has something to do: what is compared is its work, and not who wakes whom how fast. Then one publishes batches of `--batch` into a channel whose messages are answered when they are on disk. Every answer must be good, and every batch
/// whole and in order.
#[derive(clap::Args, Debug)]
pub(crate) struct Api {
    #[command(flatten)]
    pub(crate) target: Target,
    /// An API key with the scope `publish`: xpush app key create demo --scope publish
    #[arg(long, env = "XPUSH_API_KEY", hide_env_values = true)]
    key: String,
    /// Clients that publish at the same time
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 128, value_parser = super::payload_len)]
    payload: usize,
    /// How long to publish in each way, all turns together
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Messages of a batch
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
    /// The channel that batches go into: of a rule with durable history
    #[arg(long, default_value = "chat:bench")]
    durable: String,
}

/// What one way came to.
struct Published {
    count: u64,
    under_way: usize,
    seconds: f64,
    latencies: Latencies,
    /// The server's CPU time.
    cpu_s: Option<f64>,
}

impl Api {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let channel = format!("{}api", self.target.prefix);
        let data = "x".repeat(self.payload);
        let mut swarm = Swarm::new(&self.target, self.payload)?;
        swarm.connect(self.clients, self.target.patience(), |_| None)?;
        let text = json!({"channel": channel, "data": data}).to_string();
        let mut posts = Posts::open(&self.target, &self.key, "messages", &text, self.clients)?;
        self.over_sockets(&mut swarm, &channel, self.seconds / 10.0, &mut Published::new())?;
        self.over_http(&mut posts, self.seconds / 10.0, &mut Published::new())?;
        let (mut sockets, mut http) = (Published::new(), Published::new());
        let watch = Watch::start(self.target.server())?;
        for _ in 0..TURNS {
            let seconds = self.seconds / f64::from(TURNS);
            self.over_sockets(&mut swarm, &channel, seconds, &mut sockets)?;
            self.over_http(&mut posts, seconds, &mut http)?;
        }
        let count = sockets.count + http.count;
        let mut report = watch.stop("api", &self.target.url, count, count, Faults::default())?;
        let batches = self.batches(&data)?;
        report.settings = BTreeMap::from([
            ("clients", self.clients as f64),
            ("payload", self.payload as f64),
            ("batch", f64::from(self.batch)),
        ]);
        report.latency_us = http.latencies.percentiles();
        report.figures = BTreeMap::from([
            ("publishes a second over sockets", sockets.rate()),
            ("publishes a second over HTTP", http.rate()),
            ("HTTP by sockets", http.rate() / sockets.rate()),
            ("batches", batches.count as f64),
        ]);
        if let (Some(sockets), Some(http)) = (sockets.cpu_us(), http.cpu_us()) {
            report.figures.insert("server CPU µs over sockets", sockets);
            report.figures.insert("server CPU µs over HTTP", http);
        }
        if let Some(batch) = batches.latencies.percentiles() {
            report.figures.insert("batch p50 ms", batch.p50 / 1000.0);
            report.figures.insert("batch p99 ms", batch.p99 / 1000.0);
        }
        Ok(report)
    }

    /// Publishes over sockets for so long.
    fn over_sockets(
        &self,
        swarm: &mut Swarm,
        channel: &str,
        seconds: f64,
        published: &mut Published,
    ) -> io::Result<()> {
        let clock = swarm.clock();
        let mut sent = vec![0; self.clients];
        let mut acked: Vec<usize> = (0..self.clients).collect();
        self.for_so_long(seconds, published, |goes_on, published| {
            for client in acked.drain(..).filter(|_| goes_on) {
                sent[client] = clock.now_ns();
                swarm.publish(client, channel, 0, 0)?;
                swarm.flush(client)?;
                published.under_way += 1;
            }
            let mut trouble = None;
            swarm.turn(TURN, &mut |client, heard| match heard {
                Heard::Acked(_) => {
                    published.took(sent[client], clock.now_ns());
                    acked.push(client);
                }
                Heard::Refused(why) | Heard::Gone(why) => _ = trouble.get_or_insert(why),
                _ => {}
            })?;
            trouble.map_or(Ok(()), |why| Err(io::Error::other(why)))
        })
    }

    /// Publishes over HTTP for so long.
    fn over_http(&self, posts: &mut Posts, seconds: f64, published: &mut Published) -> io::Result<()> {
        let started = Instant::now();
        let mut sent = vec![0; self.clients];
        let mut answered: Vec<usize> = (0..self.clients).collect();
        self.for_so_long(seconds, published, |goes_on, published| {
            for client in answered.drain(..).filter(|_| goes_on) {
                sent[client] = nanoseconds(started);
                posts.send(client)?;
                published.under_way += 1;
            }
            posts.turn(TURN, &mut answered)?;
            for client in &answered {
                published.took(sent[*client], nanoseconds(started));
            }
            Ok(())
        })
    }

    /// Takes `turn`s until nothing is under way any more, while the server's CPU time is measured.
    fn for_so_long(
        &self,
        seconds: f64,
        published: &mut Published,
        mut turn: impl FnMut(bool, &mut Published) -> io::Result<()>,
    ) -> io::Result<()> {
        let server = self.target.server();
        let before = server.map(|server| server.read()).transpose()?;
        let started = Instant::now();
        let time = Duration::from_secs_f64(seconds);
        while started.elapsed() < time || published.under_way > 0 {
            turn(started.elapsed() < time, published)?;
            if started.elapsed() > time + self.target.patience() {
                return Err(io::Error::other(format!("{} were not answered", published.under_way)));
            }
        }
        published.seconds += started.elapsed().as_secs_f64();
        if let Some((before, server)) = before.zip(server) {
            *published.cpu_s.get_or_insert_default() += before.until(server.read()?).cpu_s;
        }
        Ok(())
    }

    /// Batches into the durable channel, one after the other.
    fn batches(&self, data: &str) -> io::Result<Published> {
        let mut http = Http::open(&self.target, Some(&self.key))?;
        let message = json!({"channel": self.durable, "data": data});
        let batch = json!({"messages": vec![message; usize::from(self.batch)]}).to_string();
        let mut published = Published::new();
        let started = Instant::now();
        while published.seconds < self.seconds {
            let sent = Instant::now();
            let answer = http.must_post("messages/batch", &batch)?;
            published.latencies.record(0, nanoseconds(sent));
            published.count += 1;
            published.seconds = started.elapsed().as_secs_f64();
            judge(&answer, usize::from(self.batch))?;
        }
        Ok(published)
    }
}

impl Published {
    fn new() -> Self {
        Self { count: 0, under_way: 0, seconds: 0.0, latencies: Latencies::new(), cpu_s: None }
    }

    fn took(&mut self, sent_ns: u64, now_ns: u64) {
        self.latencies.record(sent_ns, now_ns);
        self.count += 1;
        self.under_way -= 1;
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// Of the server, for each.
    fn cpu_us(&self) -> Option<f64> {
        self.cpu_s.map(|seconds| seconds * 1e6 / self.count as f64)
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Whether each message of a batch has its place, one behind the other.
fn judge(answer: &Value, expected: usize) -> io::Result<()> {
    let wrong = |what: String| Err(io::Error::other(what));
    let Some(results) = answer["results"].as_array().filter(|results| results.len() == expected) else {
        return wrong(format!("a batch was answered: {answer}"));
    };
    let Some(first) = results.first().and_then(|first| first["ok"]["seq"].as_u64()) else {
        return wrong(format!("a message of a batch was answered: {}", results[0]));
    };
    for (seq, result) in (first..).zip(results) {
        if result["ok"]["seq"].as_u64() != Some(seq) {
            return wrong(format!("place {seq} was expected, not {result}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_whole_and_in_order() {
        let ok = |seq: u64| json!({"ok": {"seq": seq}});
        assert!(judge(&json!({"results": [ok(3), ok(4)]}), 2).is_ok());
        for wrong in [
            json!({"results": [ok(3)]}),
            json!({"results": [ok(3), ok(5)]}),
            json!({"results": [ok(4), ok(3)]}),
            json!({"results": [ok(3), {"error": {"code": "full"}}]}),
            json!({"error": {}}),
        ] {
            assert!(judge(&wrong, 2).is_err(), "{wrong}");
        }
    }
}
