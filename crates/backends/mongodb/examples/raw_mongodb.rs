//! What a server takes by the driver alone, and by the ledger on it, as JSON: `raw_mongodb URI [SECONDS [BATCH]]`.
//!
//! `raw`: slots a second by `insertMany` into a collection with the ledger's indexes, one batch at a time, `w: majority, j: true`. `ledger`: messages a second by
//! `MessageLog::append`, one batch a call and one call at a time. `lanes`: the same of both, with eight at a time in as many channels. Each in a database of its own, which stays.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Collection};
use tokio::sync::oneshot;
use xpush_core::ports::message_log::{Appended, Draft, MessageLog};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, Clock, EventName, Kind, Monotonic, Payload, Retention, Sender,
    UnixMillis, User,
};
use xpush_mongodb::{Ledger, Options, Store};

/// Bytes of a message's data.
const DATA: usize = 200;

/// Channels that are written at the same time.
const LANES: usize = 8;

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn wall(&self) -> UnixMillis {
        1_767_225_600_000 + self.monotonic().0
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().expect("a connection string");
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let patience = Duration::from_secs(number(5));
    let batch = usize::try_from(number(100)).unwrap();
    let name = format!("xpush_raw_{}", std::process::id());
    let slots = collection(&uri, &format!("{name}_driver")).await;
    let store = Store::open(Options::new(uri, format!("{name}_ledger"))).unwrap();
    let ledger = Ledger::new(store, Arc::new(SystemClock(Instant::now())));
    let mut rates = Vec::new();
    for lanes in [1, LANES] {
        let raw = together(patience, lanes, |lane| driver(&slots, lanes * 100 + lane, batch, patience)).await;
        let through =
            together(patience, lanes, |lane| appends(&ledger, lanes * 100 + lane, batch, patience)).await;
        rates.push(format!(
            r#"{{"lanes":{lanes},"raw":{raw:.0},"ledger":{through:.0},"share":{:.2}}}"#,
            through / raw
        ));
    }
    println!(r#"{{"batch":{batch},"data":{DATA},"rates":[{}]}}"#, rates.join(","));
}

async fn together<F: Future<Output = usize>>(
    patience: Duration,
    lanes: usize,
    lane: impl Fn(usize) -> F,
) -> f64 {
    let counts = join_all((0..lanes).map(lane)).await;
    counts.into_iter().sum::<usize>() as f64 / patience.as_secs_f64()
}

/// Made by the store itself, so that it has the indexes that the ledger's has.
async fn collection(uri: &str, name: &str) -> Collection<Document> {
    drop(Store::open(Options::new(uri.to_owned(), name.to_owned())).unwrap());
    Client::with_uri_str(uri).await.unwrap().database(name).collection("slots")
}

async fn driver(slots: &Collection<Document>, lane: usize, batch: usize, patience: Duration) -> usize {
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let binary = |bytes: Vec<u8>| Binary { subtype: BinarySubtype::Generic, bytes };
    let channel = binary(vec![u8::try_from(lane % 256).unwrap(); 16]);
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < patience {
        let document = |place| {
            let seq = i64::try_from(count + place + 1).unwrap();
            // As spread out as a digest.
            let fence =
                u128::from(seq.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);
            doc! {
                "_id": binary([&*channel.bytes, &seq.to_be_bytes()].concat()),
                "c": channel.clone(), "s": seq, "h": binary(fence.to_be_bytes().to_vec()), "k": 0, "u": "ann", "i": seq.to_string(), "at": seq, "p": seq, "w": seq,
                "n": seq, "b": seq, "o": seq, "f": 1_i64, "g": i64::MAX, "l": seq, "e": "message", "j": binary(vec![b'1'; DATA]),
            }
        };
        let documents: Vec<Document> = (0..batch).map(document).collect();
        slots.insert_many(documents).ordered(true).write_concern(concern.clone()).await.unwrap();
        count += batch;
    }
    count
}

async fn appends(ledger: &Ledger, lane: usize, batch: usize, patience: Duration) -> usize {
    let app = App::new("demo").unwrap();
    let key = ChannelKey::new(app, Channel::new(&format!("raw:{lane}")).unwrap());
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < patience {
        let drafts = (0..batch).map(|place| draft(count + place)).collect();
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        ledger.append(&key, Retention::ENDLESS, drafts, done);
        let Appended { taken, failure } = receiver.await.unwrap().unwrap();
        assert_eq!((taken.len(), failure), (batch, None));
        count += batch;
    }
    count
}

fn draft(id: usize) -> Draft {
    Draft {
        kind: Kind::Message,
        moderates: false,
        id: ClientId::new(&id.to_string()).unwrap(),
        event: EventName::new("message").unwrap(),
        payload: Payload { json: Bytes::from(vec![b'1'; DATA]), attachments: Vec::new() },
        from: Sender { user: User::new("ann").unwrap(), name: None },
        at: 1_767_225_600_000,
    }
}
