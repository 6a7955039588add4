//! Recent history is rid of users as the port's contract says, on one server and on a Cluster.

use std::sync::Arc;

use crate::rig::{self, Rig, runtime};
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::message_log::{Draft, MessageLog, Range};
use xpush_core::{Kind, Retention};
use xpush_redis::{Connection, RedisLog, State};
use xpush_testkit::sample::{app, channel, draft, draft_with, user};
use xpush_testkit::service::PATIENCE;
use xpush_testkit::service::redis::Redis;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::erasure::ErasureStore;

fn store(rig: Rig) -> ErasureStore {
    let logs =
        rig.connections.clone().map(|connection| Arc::new(RedisLog::with_clock(connection, rig.clock())));
    ErasureStore {
        handles: logs.each_ref().map(|log| Arc::clone(log) as Arc<dyn Erasure>),
        logs: logs.each_ref().map(|log| Arc::clone(log) as Arc<dyn MessageLog>),
        markers: None,
        keeps: Box::new(rig.pass),
    }
}

mod single {
    fn store() -> xpush_testkit::suite::erasure::ErasureStore {
        super::store(crate::rig::single())
    }
    xpush_testkit::erasure_suite!(store);
}

mod cluster {
    fn store() -> xpush_testkit::suite::erasure::ErasureStore {
        super::store(crate::rig::cluster())
    }
    xpush_testkit::erasure_suite!(store);
}

const ROOMY: Retention = Retention { count: 100_000, bytes: 1 << 30, age_ms: 86_400_000 };

/// In whatever the user says, is called by, and has.
const CANARY: &str = "canary-4711";

fn append(log: &RedisLog, name: &str, drafts: Vec<Draft>) {
    let appended = answer(|done| log.append(&channel(name), ROOMY, drafts, done)).unwrap();
    assert!(appended.failure.is_none() && appended.taken.iter().all(Result::is_ok));
}

fn begin(log: &RedisLog, name: &str) {
    answer(|done| log.begin(&app("demo"), &user(name), 7, done)).unwrap();
}

fn step(log: &RedisLog, name: &str) -> bool {
    answer(|done| log.step(&app("demo"), &user(name), done)).unwrap().ended
}

/// Keys that have the text in their names or in what they hold.
fn holding(connection: &Connection, text: &str) -> Vec<String> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    runtime().block_on(async {
        let mut all = xpush_redis::redis::cmd("KEYS");
        all.arg("*");
        let mut held = Vec::new();
        for key in connection.query::<Vec<String>>(&all).await.unwrap() {
            let mut get = xpush_redis::redis::cmd("HGETALL");
            get.arg(&key);
            let fields: Vec<(Vec<u8>, Vec<u8>)> = connection.query(&get).await.unwrap();
            if holds(key.as_bytes()) || fields.iter().any(|(name, value)| holds(name) || holds(value)) {
                held.push(key);
            }
        }
        held
    })
}

#[test]
fn nothing_of_the_user_is_left_in_any_key() {
    let server = Redis::start(&[]);
    let rig = rig::rig(&[server.url()], ());
    let log = RedisLog::with_clock(rig.connections[0].clone(), rig.clock());
    let said = |id: &str| draft_with(CANARY, id, &format!("\"{CANARY}\""));
    append(&log, "chat:a", vec![draft("bob", "1"), said(CANARY)]);
    append(
        &log,
        "chat:a",
        vec![
            Draft { kind: Kind::Edit { target: 2 }, ..said("2") },
            Draft { kind: Kind::Edit { target: 2 }, ..said("3") },
            Draft { kind: Kind::Edit { target: 1 }, moderates: true, ..said("4") },
        ],
    );
    append(&log, &format!("@{CANARY}"), vec![draft("bob", "1")]);
    append(&log, "$presence", vec![draft_with("$", "1", &format!("{{\"user\":\"{CANARY}\"}}"))]);
    begin(&log, CANARY);
    assert_eq!(holding(&rig.connections[1], CANARY).len(), 7);
    while !step(&log, CANARY) {}
    answer(|done| log.end(&app("demo"), &user(CANARY), done)).unwrap();
    assert_eq!(holding(&rig.connections[1], CANARY), Vec::<String>::new());
    let page = answer(|done| log.read(&channel("chat:a"), Range::After(0), 9, done)).unwrap();
    assert_eq!((page.first, page.head, page.messages.len()), (1, 5, 5));
}

#[test]
fn a_server_that_was_started_again_is_looked_through_anew() {
    let mut server = Redis::start(&["appendonly yes", "appendfsync always"]);
    let rig = rig::rig(&[server.url()], ());
    let log = RedisLog::with_clock(rig.connections[0].clone(), rig.clock());
    for number in 0..400 {
        append(&log, &format!("chat:{number}"), (0..3).map(|id| draft("ann", &id.to_string())).collect());
    }
    begin(&log, "ann");
    assert!(!step(&log, "ann"));
    server.restart();
    runtime().block_on(async {
        let mut states = rig.connections[0].states();
        let up = states.wait_for(|state| matches!(state, State::Up(2..)));
        tokio::time::timeout(PATIENCE, up).await.expect("in time").unwrap();
    });
    while !step(&log, "ann") {}
    for number in 0..400 {
        let name = channel(&format!("chat:{number}"));
        let page = answer(|done| log.read(&name, Range::After(0), 9, done)).unwrap();
        let left = page.messages.iter().filter(|message| message.from.user == user("ann")).count();
        assert_eq!((left, page.messages.len()), (0, 3), "{name}");
    }
}
