//! A back end that is asked about every message of one channel, while others talk in another one.

use super::talk::Talk;
use crate::{
    Target,
    caller::Caller,
    report::{Percentiles, Report, Watch},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Questions to a back end, beside a fan-out that has nothing to do with them.
///
/// Measures the fan-out four times, by turns without and with `--calls` publishes a second about each of which the back end is asked. The back end is this program, on
/// `--receiver`: it allows everything. The server's app needs, beside [hooks] allow_private = true:
///
///   [[apps.demo.hooks]]
///   url = "http://127.0.0.1:9100/"
///   secret = "a secret of at least 24 bytes"
///   asks = ["publish"]
///   channels = ["hooked:*"]
///   concurrency = 64
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Hooks {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Where the back end listens
    #[arg(long, default_value = "127.0.0.1:9100")]
    receiver: SocketAddr,
    /// What the names of channels start with that the hook covers
    #[arg(long, default_value = "hooked:")]
    hooked: String,
    /// Questions a second
    #[arg(long, default_value_t = 2_000.0)]
    calls: f64,
    /// Clients that share them
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Subscribers of the fan-out
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Messages of the fan-out a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Bytes of data in its messages
    #[arg(long, default_value_t = 128, value_parser = super::payload_len)]
    payload: usize,
    /// How long each of the four parts takes
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl Hooks {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let calls: &'static AtomicU64 = Box::leak(Box::default());
        receive(TcpListener::bind(self.receiver)?, calls);
        let mut talk = Talk::begin(&self.target, "hooks", self.subscribers, self.payload)?;
        self.go_on(&mut talk, self.seconds / 10.0)?;
        let watch = Watch::start(self.target.server())?;
        let (mut quiet, mut loaded, mut asked, mut answered) = (Vec::new(), Vec::new(), 0, 0.0);
        for _ in 0..2 {
            quiet.extend(self.go_on(&mut talk, self.seconds)?);
            let (before, over) = (calls.load(Ordering::Relaxed), AtomicBool::new(false));
            let (started, with) = (
                Instant::now(),
                thread::scope(|scope| {
                    let clients: Vec<_> = (0..self.clients)
                        .map(|client| {
                            scope.spawn({
                                let over = &over;
                                move || self.publish(client, over)
                            })
                        })
                        .collect();
                    let with = self.go_on(&mut talk, self.seconds);
                    over.store(true, Ordering::Relaxed);
                    for client in clients {
                        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                    }
                    with
                })?,
            );
            loaded.extend(with);
            asked += calls.load(Ordering::Relaxed) - before;
            answered += started.elapsed().as_secs_f64();
        }
        let Talk { mut audience, sent, .. } = talk;
        let faults = audience.ledger.close(&[sent]);
        let mut report =
            watch.stop("hooks", &self.target.url, sent.into(), audience.ledger.deliveries, faults)?;
        report.settings = BTreeMap::from([
            ("calls", self.calls),
            ("clients", self.clients as f64),
            ("subscribers", self.subscribers as f64),
            ("rate", self.rate),
        ]);
        report.failures.extend(audience.trouble);
        let rate = asked as f64 / answered;
        if rate < 0.9 * self.calls {
            report.failures.push(format!("only {rate:.0} questions a second were asked"));
        }
        let mean =
            |parts: &[Percentiles]| parts.iter().map(|part| part.p99).sum::<f64>() / parts.len() as f64;
        let (without, with) = (mean(&quiet), mean(&loaded));
        report.figures = BTreeMap::from([
            ("questions a second", rate),
            ("p99 ms without", without / 1000.0),
            ("p99 ms with", with / 1000.0),
            ("p99 with by without", with / without),
        ]);
        Ok(report)
    }

    /// Talks for so long, and waits until everybody has everything: how long that took for each.
    fn go_on(&self, talk: &mut Talk, seconds: f64) -> io::Result<Option<Percentiles>> {
        talk.audience.measure_from_here();
        talk.publish_for(seconds, self.rate)?;
        talk.wait_for_all()?;
        Ok(talk.audience.latencies.percentiles())
    }

    /// Publishes this client's share, one by one, until it is over.
    fn publish(&self, client: usize, over: &AtomicBool) -> io::Result<()> {
        let mut caller = Caller::connect(&self.target)?;
        let message = json!({"channel": format!("{}{client}", self.hooked), "data": "x"});
        let (started, pause) = (Instant::now(), self.clients as f64 / self.calls);
        for count in 0_u32.. {
            let due = Duration::from_secs_f64(f64::from(count) * pause);
            while started.elapsed() < due {
                thread::park_timeout(due.saturating_sub(started.elapsed()));
            }
            if over.load(Ordering::Relaxed) {
                break;
            }
            caller.ask("publish", message.clone())?;
        }
        Ok(())
    }
}

/// Allows whatever is asked, on each connection in a thread of its own; for as long as the program runs.
fn receive(listener: TcpListener, calls: &'static AtomicU64) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A connection that breaks is the server's affair: it asks again, or says so.
            thread::spawn(move || _ = answer(stream, calls));
        }
    });
}

fn answer(stream: TcpStream, calls: &AtomicU64) -> io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"allow\":true}";
    stream.set_nodelay(true)?;
    let (mut reader, mut line) = (BufReader::new(stream), String::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        calls.fetch_add(1, Ordering::Relaxed);
        reader.get_mut().write_all(ANSWER)?;
    }
}
