//! Latency from one node's bus to another's: `cargo run --release -p xpush-redis --example bus_load -- [URL…]`. Without a URL it starts a server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Topic};
use xpush_core::ports::presence::Delta;
use xpush_redis::{Options, RedisBus};
use xpush_testkit::sample::{channel, node};
use xpush_testkit::service::redis::Redis;

const SECONDS: u64 = 5;
const TOPICS: u64 = 100;

/// Notes how long each event took, by the moment of its publication, which is its number.
struct Follower {
    began: Instant,
    took: Mutex<Vec<Duration>>,
}

impl BusSink for Follower {
    fn receive(&self, inbound: Inbound) {
        if let Inbound::Envelope(Envelope { event: Event::Presence(_, delta), .. }) = inbound {
            let took = self.began.elapsed().saturating_sub(Duration::from_nanos(delta.users));
            self.took.lock().expect("a list").push(took);
        }
    }
}

struct Nobody;

impl BusSink for Nobody {
    fn receive(&self, _: Inbound) {}
}

#[expect(clippy::print_stdout, reason = "it is a report")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    let server = urls.is_empty().then(|| Redis::start(&[]));
    urls.extend(server.as_ref().map(Redis::url));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let options = Options::new(&urls, None)?;
    let follower = Arc::new(Follower { began: Instant::now(), took: Mutex::default() });
    let publisher = RedisBus::attach(options.clone(), node("a"), Arc::new(Nobody), runtime.handle())?;
    let listener = RedisBus::attach(options, node("b"), follower.clone(), runtime.handle())?;
    runtime.block_on(async {
        publisher.ready(Duration::from_secs(10)).await?;
        listener.ready(Duration::from_secs(10)).await
    })?;
    let topics: Vec<_> = (0..TOPICS).map(|number| channel(&format!("load:{number}"))).collect();
    for topic in &topics {
        let (sender, sure) = std::sync::mpsc::channel();
        let done = Box::new(move |result| sender.send(result).expect("a listener"));
        listener.follow(Topic::Channel(topic.clone()), done);
        sure.recv()??;
    }
    for rate in [1_000, 5_000] {
        follower.took.lock().expect("a list").clear();
        let published = runtime.block_on(publish(&publisher, &topics, &follower, rate));
        let mut took = std::mem::take(&mut *follower.took.lock().expect("a list"));
        took.sort_unstable();
        let at =
            |share: usize| took.get((took.len().max(1) - 1) * share / 1_000).copied().unwrap_or_default();
        println!(
            "{rate}/s: {} of {published} arrived, p50 {:?}, p99 {:?}, worst {:?}",
            took.len(),
            at(500),
            at(990),
            at(1_000)
        );
    }
    Ok(())
}

/// Publishes at `rate` each second, spread evenly over ticks of a millisecond; says how many there were.
async fn publish(bus: &RedisBus, topics: &[xpush_core::ChannelKey], follower: &Follower, rate: u64) -> u64 {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (began, mut published) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(SECONDS) {
        ticks.tick().await;
        let due = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX) * rate / 1_000_000;
        for (_, topic) in
            (published..due).zip(topics.iter().cycle().skip(usize::try_from(published % TOPICS).unwrap_or(0)))
        {
            let now = u64::try_from(follower.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let delta = Delta { users: now, ..Delta::default() };
            bus.publish(&Topic::Channel(topic.clone()), Event::Presence(topic.clone(), Arc::new(delta)));
        }
        published = due.max(published);
    }
    // What is under way may arrive.
    tokio::time::sleep(Duration::from_millis(500)).await;
    published
}
