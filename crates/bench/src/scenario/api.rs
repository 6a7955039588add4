//! Publishes through the HTTP API beside the same ones over sockets, and many in one request.

use crate::{
    Target,
    caller::{Caller, connect},
    ledger::Faults,
    report::{Latencies, Report, Watch},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Publishes through the HTTP API.
///
/// First `--clients` publish over `/ws`, each waiting for its ack; then as many over HTTP connections that are kept; then one publishes batches of `--batch` into a channel whose
/// messages are answered when they are on disk. Every answer must be good, and every batch whole and in order.
#[derive(clap::Args, Debug)]
pub(crate) struct Api {
    #[command(flatten)]
    pub(crate) target: Target,
    /// An API key with the scope `publish`: xpush app key create demo --scope publish
    #[arg(long, env = "XPUSH_API_KEY", hide_env_values = true)]
    key: String,
    /// Clients that publish at the same time
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Bytes of data in a message
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How long to publish in each way
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
    seconds: f64,
    latencies: Latencies,
}

/// An HTTP/1.1 connection that is kept.
struct Http {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Api {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let channel = format!("{}api", self.target.prefix);
        let data = "x".repeat(self.payload);
        let body = json!({"channel": channel, "data": data});
        let over_sockets = |seconds| {
            self.together(seconds, || {
                let mut caller = Caller::connect(&self.target)?;
                let message = body.clone();
                Ok(move || caller.ask("publish", message.clone()).map(drop))
            })
        };
        let text = body.to_string();
        let over_http = |seconds| {
            self.together(seconds, || {
                let mut http = self.open()?;
                let text = text.clone();
                Ok(move || http.post("messages", &text).map(drop))
            })
        };
        over_sockets(self.seconds / 10.0)?;
        let sockets = over_sockets(self.seconds)?;
        over_http(self.seconds / 10.0)?;
        let watch = Watch::start(self.target.server())?;
        let http = over_http(self.seconds)?;
        let mut report = watch.stop("api", &self.target.url, http.count, http.count, Faults::default())?;
        let batches = self.batches(&data)?;
        report.settings = BTreeMap::from([
            ("clients", self.clients as f64),
            ("payload", self.payload as f64),
            ("batch", f64::from(self.batch)),
        ]);
        report.latency_us = http.latencies.percentiles();
        let rate = |published: &Published| published.count as f64 / published.seconds;
        report.figures = BTreeMap::from([
            ("publishes a second over sockets", rate(&sockets)),
            ("publishes a second over HTTP", rate(&http)),
            ("HTTP by sockets", rate(&http) / rate(&sockets)),
            ("batches", batches.count as f64),
        ]);
        if let Some(batch) = batches.latencies.percentiles() {
            report.figures.insert("batch p50 ms", batch.p50 / 1000.0);
            report.figures.insert("batch p99 ms", batch.p99 / 1000.0);
        }
        Ok(report)
    }

    /// Lets as many clients as there are publish one by one for so long.
    fn together<P: FnMut() -> io::Result<()>>(
        &self,
        seconds: f64,
        client: impl Fn() -> io::Result<P> + Sync,
    ) -> io::Result<Published> {
        let one = || -> io::Result<Vec<u64>> {
            let mut publish = client()?;
            let (started, mut taken) = (Instant::now(), Vec::new());
            while started.elapsed() < Duration::from_secs_f64(seconds) {
                let sent = Instant::now();
                publish()?;
                taken.push(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            Ok(taken)
        };
        let started = Instant::now();
        let each: Vec<io::Result<Vec<u64>>> = thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(one)).collect();
            let joined = |client: thread::ScopedJoinHandle<'_, _>| {
                client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            clients.into_iter().map(joined).collect()
        });
        let mut published =
            Published { count: 0, seconds: started.elapsed().as_secs_f64(), latencies: Latencies::new() };
        for taken in each {
            for nanoseconds in taken? {
                published.count += 1;
                published.latencies.record(0, nanoseconds);
            }
        }
        Ok(published)
    }

    /// Batches into the durable channel, one after the other.
    fn batches(&self, data: &str) -> io::Result<Published> {
        let mut http = self.open()?;
        let message = json!({"channel": self.durable, "data": data});
        let batch = json!({"messages": vec![message; usize::from(self.batch)]}).to_string();
        let mut published = Published { count: 0, seconds: 0.0, latencies: Latencies::new() };
        let started = Instant::now();
        while published.seconds < self.seconds {
            let sent = Instant::now();
            let answer = http.post("messages/batch", &batch)?;
            published.latencies.record(0, u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
            published.count += 1;
            published.seconds = started.elapsed().as_secs_f64();
            judge(&answer, usize::from(self.batch))?;
        }
        Ok(published)
    }

    fn open(&self) -> io::Result<Http> {
        let head = format!(
            "HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.target.host()?,
            self.key
        );
        Ok(Http { stream: BufReader::new(connect(&self.target)?), head })
    }
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

impl Http {
    /// Asks and waits for the answer, which must be a good one.
    fn post(&mut self, path: &str, body: &str) -> io::Result<Value> {
        let request =
            format!("POST /api/v1/{path} {}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut line) = (None, 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server has closed the connection"));
            }
            let header = line.trim_end();
            if status.is_none() {
                status = header.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            } else if header.is_empty() {
                break;
            } else if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        match status {
            Some(200) => Ok(serde_json::from_slice(&answer)?),
            _ => Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(&answer)))),
        }
    }
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
