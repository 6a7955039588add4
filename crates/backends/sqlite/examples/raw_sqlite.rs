//! What the machine, SQLite alone, and the ledger on it can do in a folder, as JSON: `raw_sqlite FOLDER [SECONDS [MESSAGES]]`; or SQLite alone, so many messages at
//! so many a commit: `raw_sqlite FOLDER insert BATCH MESSAGES [CHANNELS]`.
//!
//! `fdatasync_per_s` of 4 kB appends; `raw` rows a second with nothing but prepared inserts, in the ledger's schema as anybody would write it: retries are found
//! by an index over fences; `bare` the same without that index, so that no retry is ever found; `ledger` the same
//! through `MessageLog::append`, one call a batch, and `apart` one call a message, in 100 channels; `acks_at_2000` how
//! long acks take at 2,000 messages a second, beside a single fdatasync; `newest_page_us` and `resume_ms`: reading 50 and 10,000 messages of `MESSAGES`.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use xpush_core::ports::Done;
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, Clock, EventName, Kind, Monotonic, Payload, Retention, Sender,
    UnixMillis, User,
};
use xpush_sqlite::{Ledger, Options, Store};

/// Bytes of a message's data.
const DATA: usize = 200;

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn wall(&self) -> UnixMillis {
        1_767_225_600_000 + self.monotonic().0
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    let mut arguments = arguments.peekable();
    let alone = arguments.next_if(|word| word == "insert").is_some();
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    if alone {
        let (batch, messages, channels) = (number(4000), number(500_000), number(16));
        return insert(Path::new(&folder), batch.max(1), messages, channels.max(1));
    }
    let patience = Duration::from_secs(number(3));
    let messages = number(100_000);
    let folder = Path::new(&folder).join(format!("raw-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let rates = [1000_u64, 4000].map(|batch| {
        let file = |name: &str| folder.join(format!("{name}-{batch}.db"));
        let mut raw_into = Raw::create(&file("raw"));
        let raw = rate(patience, || raw_into.commit(batch, 1));
        let batch = usize::try_from(batch).unwrap();
        let ledger = through_the_ledger(&file("ledger"), batch, patience);
        let apart = apart(&file("apart"), batch, patience);
        format!(r#"{{"batch":{batch},"raw":{raw:.0},"ledger":{ledger:.0},"apart":{apart:.0}}}"#)
    });
    let (page, resume) = reading(&folder.join("reading.db"), messages);
    let (median, late) = paced(&folder.join("paced.db"), patience);
    let (sync, late_sync) = sync_times(&folder.join("times"), patience);
    println!(
        r#"{{"fdatasync_per_s":{:.0},"fdatasync_ms":{{"p50":{sync:.2},"p99":{late_sync:.2}}},"acks_at_2000":{{"p50":{median:.2},"p99":{late:.2}}},"inserts_per_s":[{}],"messages":{messages},"newest_page_us":{:.0},"resume_ms":{:.1}}}"#,
        syncs(&folder.join("sync"), patience),
        rates.join(","),
        page.as_secs_f64() * 1e6,
        resume.as_secs_f64() * 1e3,
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What `step` comes to in a second, when it is done again and again.
fn rate(patience: Duration, mut step: impl FnMut() -> usize) -> f64 {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < patience {
        done += step();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn syncs(path: &Path, patience: Duration) -> f64 {
    let mut file = std::fs::File::create(path).unwrap();
    rate(patience, || {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        1
    })
}

/// The same number of messages as a server has taken, at as many a commit as it has put into one.
fn insert(folder: &Path, batch: u64, messages: u64, channels: u64) {
    let folder = folder.join(format!("raw-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let rates = [Raw::create, Raw::create_bare].map(|create| {
        let path = folder.join("raw.db");
        let mut raw = create(&path);
        let (start, mut rows) = (Instant::now(), 0);
        while (rows as u64) < messages {
            rows += raw.commit(batch, channels);
        }
        let rate = rows as f64 / start.elapsed().as_secs_f64();
        drop(raw);
        std::fs::remove_file(path).unwrap();
        rate
    });
    println!(r#"{{"batch":{batch},"raw":{:.0},"bare":{:.0}}}"#, rates[0], rates[1]);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// SQLite with the ledger's rows, and nothing but prepared inserts.
struct Raw {
    connection: Connection,
    data: Vec<u8>,
    users: [String; 64],
    message: u64,
}

impl Raw {
    /// SQLite's own index finds retries, as the ledger's first schema had it.
    fn create(path: &Path) -> Self {
        Self::with(path, include_str!("../src/migrations/0001_ledger.sql"))
    }

    /// Only rows: what the ledger does about retries elsewhere is left out.
    fn create_bare(path: &Path) -> Self {
        let schema = concat!(
            include_str!("../src/migrations/0001_ledger.sql"),
            include_str!("../src/migrations/0008_fences.sql")
        );
        Self::with(path, schema)
    }

    fn with(path: &Path, schema: &str) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", "FULL").unwrap();
        connection.execute_batch(schema).unwrap();
        let users = std::array::from_fn(|user| format!("g-user{user:07}"));
        Self { connection, data: data(), users, message: 0 }
    }

    /// One commit, spread over so many channels.
    fn commit(&mut self, batch: u64, channels: u64) -> usize {
        self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut insert = self
            .connection
            .prepare_cached(
                "INSERT INTO slots (slot, placed, counted, bytes, kind, fence, user, id, at, event, json)
                 VALUES (?1, 1767225600000, ?2, ?3, 0, ?4, ?5, ?6, 1767225600000, 'message', ?7)",
            )
            .unwrap();
        let mut rows = 0;
        for channel in 1..=channels {
            let turn =
                (self.message..self.message + batch).filter(|message| message % channels + 1 == channel);
            for message in turn {
                let seq = (message / channels + 1) as i64;
                // As spread out as a digest.
                let fence = u128::from(message + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);
                let (slot, fence) = ((channel as i64) << 36 | seq, fence.to_be_bytes());
                let user = &self.users[(message % 64) as usize];
                let (before, id) = (seq - 1, format!("{message:010}"));
                insert.execute(params![slot, before, before * 209, fence, user, id, &self.data]).unwrap();
                rows += 1;
            }
        }
        drop(insert);
        self.message += batch;
        self.connection.execute_batch("COMMIT").unwrap();
        rows
    }
}

fn ledger(path: &Path) -> Ledger {
    let store = Store::open(path, Options::default()).unwrap();
    Ledger::new(store, Arc::new(SystemClock(Instant::now()))).unwrap()
}

fn through_the_ledger(path: &Path, batch: usize, patience: Duration) -> f64 {
    let (ledger, mut next) = (ledger(path), 0);
    rate(patience, || {
        let drafts = drafts(next, batch);
        next += batch;
        let appended: Appended = wait(|done| ledger.append(&channel(), Retention::ENDLESS, drafts, done));
        appended.taken.len()
    })
}

fn apart(path: &Path, batch: usize, patience: Duration) -> f64 {
    let (ledger, mut next) = (ledger(path), 0);
    let channels: Vec<ChannelKey> = (0..100).map(|number| channel_of(&format!("chat:{number}"))).collect();
    rate(patience, || {
        let (sender, receiver) = mpsc::channel();
        for (draft, channel) in drafts(next, batch).into_iter().zip(channels.iter().cycle()) {
            let sender = sender.clone();
            let done = move |result: Result<Appended, _>| sender.send(result.unwrap()).unwrap();
            ledger.append(channel, Retention::ENDLESS, vec![draft], Box::new(done));
        }
        drop(sender);
        next += batch;
        receiver.iter().map(|appended| appended.taken.len()).sum()
    })
}

/// Median and 99th percentile in ms of the acks of 2,000 messages a second.
fn paced(path: &Path, patience: Duration) -> (f64, f64) {
    const GAP: Duration = Duration::from_micros(500);
    let ledger = ledger(path);
    let (sender, receiver) = mpsc::channel();
    let (start, mut number) = (Instant::now(), 0_u32);
    while start.elapsed() < patience {
        let due = start + GAP * number;
        while Instant::now() < due {
            std::thread::yield_now();
        }
        let sender = sender.clone();
        let done = move |result: Result<Appended, _>| {
            result.unwrap();
            sender.send(due.elapsed()).unwrap();
        };
        let channel = channel_of(&format!("chat:{}", number % 100));
        ledger.append(&channel, Retention::ENDLESS, drafts(number as usize, 1), Box::new(done));
        number += 1;
    }
    drop(sender);
    percentiles(receiver.iter().collect())
}

fn sync_times(path: &Path, patience: Duration) -> (f64, f64) {
    let mut file = std::fs::File::create(path).unwrap();
    let mut times = Vec::new();
    rate(patience, || {
        let start = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        times.push(start.elapsed());
        1
    });
    percentiles(times)
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let ms = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    (ms(50), ms(99))
}

fn reading(path: &Path, messages: u64) -> (Duration, Duration) {
    let ledger = ledger(path);
    let messages = usize::try_from(messages).unwrap();
    for start in (0..messages).step_by(4000) {
        let drafts = drafts(start, 4000);
        wait(|done: Done<Appended>| ledger.append(&channel(), Retention::ENDLESS, drafts, done));
    }
    let read = |range, limit| {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let start = Instant::now();
                let page: Page = wait(|done| ledger.read(&channel(), range, limit, done));
                assert_eq!(page.messages.len(), limit);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[10]
    };
    (read(Range::Newest, 50), read(Range::After(messages as u64 - 10_000), 10_000))
}

fn drafts(start: usize, count: usize) -> Vec<Draft> {
    let data = bytes::Bytes::from(data());
    let draft = |number: usize| Draft {
        kind: Kind::Message,
        moderates: false,
        id: ClientId::new(&format!("message-{number:012}")).unwrap(),
        event: EventName::new("message").unwrap(),
        payload: Payload { json: data.clone(), attachments: Vec::new() },
        from: Sender { user: User::new(&format!("user-{}", number % 100)).unwrap(), name: None },
        at: 1_767_225_600_000,
    };
    (start..start + count).map(draft).collect()
}

fn data() -> Vec<u8> {
    format!("\"{}\"", "x".repeat(DATA - 2)).into_bytes()
}

fn channel() -> ChannelKey {
    channel_of("chat:a")
}

fn channel_of(name: &str) -> ChannelKey {
    ChannelKey::new(App::new("demo").unwrap(), Channel::new(name).unwrap())
}

fn wait<T: Send + 'static>(start: impl FnOnce(Done<T>)) -> T {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap().unwrap()
}
