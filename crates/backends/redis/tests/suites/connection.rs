//! Commands on good days and bad ones, on real servers.

use std::time::Duration;

use redis::cmd;
use tokio::runtime::Runtime;
use xpush_core::ports::{Failure, PortError};
use xpush_redis::{Connection, Options, Script, State, redis};
use xpush_testkit::service::PATIENCE;
use xpush_testkit::service::redis::{Redis, RedisCluster, RedisSentinel};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn open(runtime: &Runtime, urls: &[String], sentinel_master: Option<&str>) -> Connection {
    Connection::open(Options::new(urls, sentinel_master).expect("good options"), runtime.handle())
}

async fn until(connection: &Connection, wanted: impl Fn(&State) -> bool) -> State {
    let mut states = connection.states();
    let state =
        tokio::time::timeout(PATIENCE, states.wait_for(wanted)).await.expect("in time").expect("a state");
    state.clone()
}

async fn set(connection: &Connection, key: &str) -> Result<String, PortError> {
    connection.query(cmd("SET").arg(key).arg("value")).await
}

#[test]
fn a_server_that_dies_is_found_again_and_nobody_waits_meanwhile() {
    let (runtime, mut server) = (runtime(), Redis::start(&[]));
    let connection = open(&runtime, &[server.url()], None);
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        assert_eq!(set(&connection, "a").await.unwrap(), "OK");
        let State::Up(first) = until(&connection, |state| matches!(state, State::Up(_))).await else {
            panic!("up")
        };
        server.kill();
        until(&connection, |state| matches!(state, State::Down(_))).await;
        let error = set(&connection, "a").await.unwrap_err();
        assert_eq!(error.kind, Failure::NotApplied, "{error}");
        server.restart();
        until(&connection, |state| matches!(state, State::Up(number) if *number > first)).await;
        assert_eq!(set(&connection, "a").await.unwrap(), "OK");
    });
}

#[test]
fn a_server_that_stands_still_is_given_up() {
    let (runtime, server) = (runtime(), Redis::start(&[]));
    let connection = open(&runtime, &[server.url()], None);
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        server.freeze();
        let error = set(&connection, "a").await.unwrap_err();
        assert_eq!(error.kind, Failure::Unknown, "{error}");
        until(&connection, |state| matches!(state, State::Down(_))).await;
        assert_eq!(set(&connection, "a").await.unwrap_err().kind, Failure::NotApplied);
        server.thaw();
        until(&connection, |state| matches!(state, State::Up(_))).await;
        assert_eq!(set(&connection, "a").await.unwrap(), "OK");
    });
}

#[test]
fn a_script_travels_once_and_is_brought_again_when_it_is_forgotten() {
    let (runtime, server) = (runtime(), Redis::start(&[]));
    let connection = open(&runtime, &[server.url()], None);
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let keys = [connection.keys().tagged("test", "count")];
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        assert_eq!(connection.invoke::<i64>(&script, &keys, &[2]).await.unwrap(), 2);
        assert_eq!(connection.invoke::<i64>(&script, &keys, &[3]).await.unwrap(), 5);
        server.command(&["SCRIPT", "FLUSH"]);
        assert_eq!(connection.invoke::<i64>(&script, &keys, &[4]).await.unwrap(), 9);
    });
    let calls = server.command(&["INFO", "commandstats"]);
    let evals = calls.text().lines().find(|line| line.starts_with("cmdstat_eval:")).expect("EVAL was sent");
    assert!(evals.contains("calls=2,"), "{evals}");
}

#[test]
fn a_full_server_says_so() {
    let (runtime, server) = (runtime(), Redis::start(&["maxmemory 1", "maxmemory-policy noeviction"]));
    let connection = open(&runtime, &[server.url()], None);
    let script = Script::new("return redis.call('SET', KEYS[1], 'value')");
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        let error = set(&connection, "a").await.unwrap_err();
        assert_eq!(error.kind, Failure::Full, "{error}");
        let error = connection.invoke::<String>(&script, &["a".into()], &[0]).await.unwrap_err();
        assert_eq!(error.kind, Failure::Full, "{error}");
    });
}

#[test]
fn what_is_under_way_is_bounded() {
    let (runtime, server) = (runtime(), Redis::start(&[]));
    let options = Options { queue_bytes: 10_000, ..Options::new(&[server.url()], None).unwrap() };
    let connection = Connection::open(options, runtime.handle());
    runtime.block_on(connection.ready(PATIENCE)).unwrap();
    server.freeze();
    let (sender, answers) = std::sync::mpsc::channel();
    for bytes in [9_000, 9_000] {
        let sender = sender.clone();
        let done = Box::new(move |result: Result<String, PortError>| sender.send(result).unwrap());
        connection.start(bytes, done, |redis| async move { set(&redis, "a").await });
    }
    let kinds = [(); 2].map(|()| answers.recv_timeout(PATIENCE).unwrap().unwrap_err().kind);
    assert_eq!(kinds, [Failure::Overloaded, Failure::Unknown]);
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let runtime = runtime();
    let server = Redis::start(&["requirepass hunter2", "user bob on >pw ~* +@connection"]);
    let why = |url: String| {
        let connection = open(&runtime, &[url], None);
        let error = runtime.block_on(async {
            let State::Down(error) = until(&connection, |state| matches!(state, State::Down(_))).await else {
                panic!("down")
            };
            set(&connection, "a").await.unwrap_err();
            error.to_string()
        });
        assert!(!error.contains("hunter"), "{error}");
        error
    };
    let address = server.address();
    assert!(why(format!("redis://{address}")).contains("password"));
    assert!(why(format!("redis://:hunter3@{address}")).contains("refuses this user and password"));
    let bob = open(&runtime, &[format!("redis://bob:pw@{address}")], None);
    runtime.block_on(async {
        bob.ready(PATIENCE).await.unwrap();
        let error = set(&bob, "a").await.unwrap_err();
        assert_eq!(error.kind, Failure::NotApplied);
        assert!(error.detail.contains("permissions") || error.detail.contains("NoPerm"), "{error}");
    });
    let cluster = RedisCluster::start(3, 0);
    let as_single = Options::new(&[cluster.nodes[0].url()], None).unwrap();
    let connection = Connection::open(as_single, runtime.handle());
    let error = runtime.block_on(connection.ready(Duration::from_secs(1))).unwrap_err();
    assert!(error.to_string().contains("Cluster"), "{error}");
}

#[test]
fn a_cluster_is_one_store() {
    let (runtime, mut cluster) = (runtime(), RedisCluster::start(3, 0));
    let connection = open(&runtime, &cluster.urls()[..2], None);
    let script = Script::new("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[2])");
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        for number in 0..30 {
            let tag = format!("tag-{number}");
            let keys = ["one", "one"].map(|part| connection.keys().tagged(&tag, part));
            assert_eq!(connection.invoke::<u32>(&script, &keys, &[number]).await.unwrap(), number);
        }
        // Without all its slots it is down; and comes back.
        cluster.nodes[2].kill();
        until(&connection, |state| matches!(state, State::Down(_))).await;
    });
}

#[test]
fn a_failover_is_followed() {
    let (runtime, mut watched) = (runtime(), RedisSentinel::start());
    let connection = open(&runtime, &[watched.sentinel.url()], Some(RedisSentinel::MASTER));
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        assert_eq!(set(&connection, "a").await.unwrap(), "OK");
        watched.master.kill();
        until(&connection, |state| matches!(state, State::Down(_))).await;
        watched.wait_for_failover();
        until(&connection, |state| matches!(state, State::Up(_))).await;
        assert_eq!(set(&connection, "b").await.unwrap(), "OK");
        assert_eq!(watched.replica.command(&["EXISTS", "b"]).text(), "1");
    });
}

#[test]
fn sentinels_that_do_not_answer_cost_nothing() {
    let (runtime, watched) = (runtime(), RedisSentinel::start());
    // The kernel accepts for it, and that is all.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = [format!("redis://{}", dead.local_addr().unwrap()), watched.sentinel.url()];
    let connection = open(&runtime, &urls, Some(RedisSentinel::MASTER));
    runtime.block_on(async {
        connection.ready(PATIENCE).await.unwrap();
        let mut states = connection.states();
        states.borrow_and_update();
        // Longer than it would take to give a server up.
        let mut stays = async || {
            let news = tokio::time::timeout(Duration::from_secs(5), states.changed()).await;
            assert!(news.is_err(), "{connection:?}");
        };
        stays().await;
        watched.sentinel.freeze();
        stays().await;
        watched.sentinel.thaw();
        // Who answers is heard nevertheless.
        let (other, name) = (Redis::start(&[]), RedisSentinel::MASTER);
        let port = other.address().port().to_string();
        watched.sentinel.command(&["SENTINEL", "REMOVE", name]);
        watched.sentinel.command(&["SENTINEL", "MONITOR", name, "127.0.0.1", &port, "1"]);
        until(&connection, |state| matches!(state, State::Up(number) if *number > 1)).await;
        assert_eq!(set(&connection, "a").await.unwrap(), "OK");
        assert_eq!(other.command(&["EXISTS", "a"]).text(), "1");
    });
}
