//! What operators see and do.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xpush_testkit::fleet::Said;
use xpush_testkit::service::{PATIENCE, wait_until};

use crate::world::{Server, World, members, read};

/// What a command for operators says; it must succeed.
fn xpush(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xpush"));
    command.current_dir(server.folder()).args(arguments).args(["--config", "xpush.toml"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn readiness(server: &Server) -> (u16, String) {
    let (status, body) = server.get("/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    (status, body["reason"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_server_is_not_ready_while_what_it_needs_does_not_work() {
    let mut world = World::start("ready", 2);
    let is = |server: &Server, what: &str, wanted: &dyn Fn(u16, &str) -> bool| {
        wait_until(what, || {
            let (status, reason) = readiness(server);
            wanted(status, &reason)
        });
    };
    let ready = |status: u16, _: &str| status == 200;
    for server in &world.servers {
        is(server, "ready", &ready);
    }
    world.redis.kill();
    is(&world.servers[0], "not ready without the bus", &|status, reason| {
        status == 503 && reason.starts_with("bus: ")
    });
    assert_eq!(world.servers[0].get("/livez").0, 200);
    world.redis.restart();
    is(&world.servers[0], "ready again", &ready);

    world.mongo.freeze();
    is(&world.servers[0], "not ready without history", &|status, reason| {
        status == 503 && reason.contains("durable history: ")
    });
    // Whoever asks is answered at once.
    let asked = Instant::now();
    readiness(&world.servers[0]);
    assert!(asked.elapsed() < PATIENCE / 4, "{:?}", asked.elapsed());
    world.mongo.thaw();
    is(&world.servers[0], "ready again", &ready);

    world.zookeeper.kill(0);
    is(&world.servers[0], "not ready without the cluster", &|status, reason| {
        status == 503 && reason.starts_with("membership: ")
    });
    world.zookeeper.restart();
    is(&world.servers[0], "ready again", &ready);
    world.gone();
}

#[test]
fn servers_that_are_configured_differently_are_told_of() {
    let mut world = World::start("drift", 2);
    assert!(!xpush(&world.servers[0], &["nodes"]).contains("configured differently"));
    let folder = world.add_with(&world.ways(), |config| {
        config.replacen("events_per_second = 0", "events_per_second = 7", 1).replacen(
            "[[apps.demo.rules]]",
            "[[apps.demo.keys]]\nid = 'k'\nalgorithm = 'HS256'\nsecret = 'a-secret-that-nobody-may-learn-of'\n\n[[apps.demo.rules]]",
            1,
        )
    });
    world.servers[2].launch().unwrap();
    world.settle();
    let table = xpush(&world.servers[0], &["nodes"]);
    for part in ["apps", "limits"] {
        let line =
            format!("servers are configured differently: [{part}] of push-1 and push-2, not as of push-3");
        assert!(table.contains(&line), "{table}");
    }
    wait_until("the alarm", || {
        let log = read(&world.servers[0].log());
        let (_, metrics) = world.servers[0].get("/metrics");
        log.contains("servers are configured differently") && metrics.contains("xpush_configuration_drift 2")
    });
    for place in [
        read(&world.servers[0].log()),
        xpush(&world.servers[0], &["nodes", "--json"]),
        read(&folder.join("log")),
    ] {
        assert!(!place.contains("nobody-may-learn"), "{place}");
    }
    world.servers[2].kill();
    wait_until("alike again", || !xpush(&world.servers[0], &["nodes"]).contains("configured differently"));
    world.gone();
}

#[test]
fn the_api_tells_of_all_servers_and_of_whom_it_could_not_reach() {
    let mut world = World::start("everywhere", 3);
    let views = world.views();
    let mut clients: Vec<_> = (0..6_usize)
        .map(|number| world.servers[number % 3].connect_as(&format!("user-{}", number % 4)).unwrap())
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask("subscribe", json!({"channel": format!("live:{}", number % 2)})).unwrap();
    }
    let channels = json!({"channels": [
        {"channel": "live:0", "subscribers": 3}, {"channel": "live:1", "subscribers": 3},
    ], "missing": []});
    for server in &world.servers {
        assert_eq!(server.ask("/channels?prefix=live:"), channels);
        let stats = server.ask("/stats");
        assert_eq!((&stats["users"], &stats["connections"]), (&json!(4), &json!(6)), "{stats}");
        assert_eq!(stats["nodes"].as_array().unwrap().len(), 3, "{stats}");
    }
    // One that stands still is named, and the others are told of all the same.
    world.servers[2].freeze();
    let asked = Instant::now();
    let stats = world.servers[0].ask("/stats");
    println!("without a server that does not answer: {:?}", asked.elapsed());
    assert_eq!((&stats["missing"], &stats["connections"]), (&json!(["push-3"]), &json!(4)), "{stats}");
    world.servers[2].kill();
    views.until("it is gone", |view| members(view) == ["push-1", "push-2"]);
    wait_until("nobody asks for it any more", || world.servers[0].ask("/stats")["missing"] == json!([]));
    world.gone();
}

#[test]
fn a_rebalance_shows_shares_and_has_clients_follow() {
    let world = World::start("rebalance", 2);
    // Everybody comes to the first server, which is more than its share.
    let (moved, told) = mpsc::channel();
    for number in 0..8 {
        let mut client = world.servers[0].connect_with(&format!("client {number}"), json!({"moves": "1"}));
        client.ask("subscribe", json!({"channel": format!("live:{number}")})).unwrap();
        let moved = moved.clone();
        thread::spawn(move || {
            while let Ok(said) = client.hear() {
                if let Said::Push(push) = said
                    && push["push"] == "moved"
                {
                    // The test may have ended.
                    let _ = moved.send(push);
                }
            }
        });
    }
    let table = xpush(&world.servers[0], &["rebalance", "--dry-run"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert!(table.contains("SHARE NOW") && words.contains(&"push-1") && words.contains(&"push-2"), "{table}");
    assert!(!table.contains("are asked to go"), "{table}");
    let table = xpush(&world.servers[1], &["rebalance"]);
    assert!(table.contains("clients that can are asked to go where their channels are"), "{table}");
    // They are told within half a minute.
    let push = told.recv_timeout(4 * PATIENCE).expect("somebody is asked to go");
    assert!(push["within_ms"].as_u64().unwrap() > 0, "{push}");
    world.gone();
}

#[test]
fn who_is_supervised_is_missed_at_once_and_comes_back() {
    let mut world = World::start("supervised", 1);
    let views = world.views();
    // Its session would last long: who misses it before has been told.
    world.add_with(&world.ways(), |config| {
        config.replacen("session_timeout = \"2000ms\"", "session_timeout = \"20s\"", 1)
    });
    let supervised = &world.servers[1];
    let stderr = std::fs::File::create(supervised.log()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xpush"));
    command.current_dir(supervised.folder()).args([
        "serve",
        "--supervised",
        "--config",
        "xpush.toml",
        "--data-dir",
        "data",
    ]);
    let mut parent = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let mut said = BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("://") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "{}", read(&supervised.log()));
    }
    let there = ["push-1", "push-2"];
    views.until("both", |view| members(view) == there);

    // It cannot come back before that is seen: its port is taken. On a busy machine it may be faster than we are, and is killed once more.
    let mut noticed = Vec::new();
    for _ in 0..20 {
        if noticed.len() == 5 {
            break;
        }
        let child = child_of(parent.id());
        kill_process(child, Signal::KILL).unwrap();
        let killed = Instant::now();
        let taken =
            until_some("its port, or another child", || match TcpListener::bind(supervised.address) {
                Ok(taken) => Some(Some(taken)),
                Err(_) => is_another_child(parent.id(), child).then_some(None),
            });
        if let Some(taken) = taken {
            views.until("it is missed", |view| members(view) == ["push-1"]);
            noticed.push(killed.elapsed().as_secs_f64());
            drop(taken);
        }
        views.until("it is back", |view| members(view) == there);
    }
    println!("a supervised server that was killed was missed after {noticed:.3?} s");
    let soonest = noticed.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(soonest <= 0.5, "{noticed:?}");
    assert_eq!(children(parent.id()).split_whitespace().count(), 1, "the dead are buried");

    // An orderly end is the end of both.
    kill_process(Pid::from_child(&parent), Signal::TERM).unwrap();
    assert!(parent.wait().unwrap().success());
    views.until("it has left", |view| members(view) == ["push-1"]);
    world.gone();
}

/// What there is as soon as there is something.
fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = look();
        found.is_some()
    });
    found.unwrap()
}

/// The children of a process, whichever of its threads has started them; also those that nobody has waited for.
fn children(parent: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    threads.map(|thread| read(&thread.unwrap().path().join("children"))).collect()
}

/// Whether a process has one child, and it is not this one.
fn is_another_child(parent: u32, child: Pid) -> bool {
    let children = children(parent);
    let mut children = children.split_whitespace().map(|id| id.parse().ok().and_then(Pid::from_raw));
    matches!(children.next(), Some(Some(other)) if other != child)
}

/// The one child of a process.
fn child_of(parent: u32) -> Pid {
    Pid::from_raw(children(parent).split_whitespace().next().unwrap().parse().unwrap()).unwrap()
}
