//! State when Redis dies, forgets, stands still, is full, or is set up badly.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use crate::rig::{self, Rig, runtime};
use xpush_core::ports::lease::{LEASE_MS, Lease};
use xpush_core::ports::message_log::{Appended, MessageLog, Page, Range};
use xpush_core::ports::online::{Movement, Online, State as Shown};
use xpush_core::ports::presence::{Delta, Outcome, Presence};
use xpush_core::ports::rate_limit::{Limit, RateLimit, Taken};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{Clock, Position, Retention};
use xpush_embedded::MemoryLastSeen;
use xpush_redis::{
    Connection, Options, RedisHosts, RedisLimits, RedisLog, RedisOnline, RedisPresence, State, check,
};
use xpush_testkit::sample::{app, channel, draft, draft_with, enters, leaves, member, node, user};
use xpush_testkit::service::redis::{Redis, RedisCluster, RedisSentinel, Reply};
use xpush_testkit::service::{PATIENCE, wait_until};
use xpush_testkit::suite::answer;

const ROOMY: Retention = Retention { count: 100_000, bytes: 1 << 30, age_ms: 86_400_000 };

fn on(server: &Redis) -> Rig {
    rig::rig(&[server.url()], ())
}

fn wait_for(connection: &Connection, wanted: impl Fn(&State) -> bool) {
    runtime().block_on(async {
        let mut states = connection.states();
        tokio::time::timeout(PATIENCE, states.wait_for(wanted)).await.expect("in time").unwrap();
    });
}

fn up(connection: &Connection) {
    wait_for(connection, |state| matches!(state, State::Up(_)));
}

fn down(connection: &Connection) {
    wait_for(connection, |state| matches!(state, State::Down(_)));
}

fn append(log: &RedisLog, ids: &[&str]) -> Result<Appended, PortError> {
    let drafts = ids.iter().map(|id| draft("ann", id)).collect();
    answer(|done| log.append(&channel("chat:a"), ROOMY, drafts, done))
}

fn all(log: &RedisLog) -> Page {
    answer(|done| log.read(&channel("chat:a"), Range::After(0), usize::MAX, done)).unwrap()
}

fn renew(presence: &RedisPresence) -> Lease {
    answer(|done| presence.renew(&node("n1"), done)).unwrap()
}

#[test]
fn presence_that_was_forgotten_is_restated() {
    let mut server = Redis::start(&[]);
    let rig = on(&server);
    let [presence, other] = rig.connections.clone().map(RedisPresence::new);
    let key = channel("chat:a");
    let enter = |of: &RedisPresence, by: &str, id: &str| {
        answer(|done| of.apply(&node(by), vec![enters(&key, id)], done)).unwrap()
    };
    renew(&presence);
    enter(&presence, "n1", "ann");
    enter(&other, "n2", "bob");
    assert_eq!(renew(&presence), Lease::Kept);

    server.kill();
    down(&rig.connections[0]);
    let unknown = answer(|done| presence.list(&key, 10, done)).unwrap_err();
    assert_eq!(unknown.kind, Failure::NotApplied, "unknown, and not empty");
    let refused = answer(|done| presence.apply(&node("n1"), vec![enters(&key, "cid")], done)).unwrap_err();
    assert_eq!(refused.kind, Failure::NotApplied);
    assert!(answer(|done| presence.renew(&node("n1"), done)).is_err());

    server.restart();
    rig.connections.iter().for_each(up);
    // It goes on before it knows what was lost.
    enter(&presence, "n1", "dee");
    assert_eq!(renew(&presence), Lease::Anew);
    let connections = ["ann", "dee"].map(member).to_vec();
    let delta = answer(|done| presence.restate(&node("n1"), &key, connections, done)).unwrap();
    assert_eq!(delta, Delta { users: 2, joined: vec![member("ann")], left: vec![] });
    assert_eq!(renew(&presence), Lease::Kept);
    let roster = answer(|done| other.list(&key, 10, done)).unwrap();
    assert_eq!(roster.members, ["dee", "ann"].map(member));
}

#[test]
fn a_change_whose_answer_was_late_is_counted_once() {
    let server = Redis::start(&[]);
    let mut options = Options::new(&[server.url()], None).unwrap();
    // It is given up early in the 6 s for which the change is asked for again.
    options.command_timeout = Duration::from_secs(1);
    let connection = Connection::open(options, runtime().handle());
    runtime().block_on(connection.ready(PATIENCE)).unwrap();
    let presence = RedisPresence::new(connection.clone());
    let key = channel("chat:a");
    // From here on the server knows the script: what it has not answered it will do.
    answer(|done| presence.apply(&node("n1"), vec![enters(&key, "bob"), leaves(&key, "bob")], done)).unwrap();
    server.freeze();
    let (sender, receiver) = mpsc::channel();
    presence.apply(
        &node("n1"),
        vec![enters(&key, "ann")],
        Box::new(move |result| sender.send(result).unwrap()),
    );
    // The command has timed out. The server has it, and does it as soon as it can.
    down(&connection);
    server.thaw();
    let told = receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told.unwrap(), [Outcome { transition: true, users: 1, connections: 1 }]);
    // The connection may still be on its way back: what is refused was not applied.
    let mut left = Vec::new();
    wait_until("the connection is back", || {
        let result = answer(|done| presence.apply(&node("n1"), vec![leaves(&key, "ann")], done));
        match result {
            Ok(outcomes) => left = outcomes,
            Err(error) => assert_eq!(error.kind, Failure::NotApplied),
        }
        !left.is_empty()
    });
    assert_eq!(left, [Outcome { transition: true, users: 0, connections: 0 }]);
}

/// The scripts that the server runs while `calls` are made, word by word as they came.
fn overheard(server: &Redis, calls: impl FnOnce()) -> Vec<Vec<String>> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    calls();
    server.command(&["ECHO", "the end"]);
    let heard = lines.take_while(|line| !line.contains("the end"));
    let words = heard.filter_map(|line| {
        let (_, words) = line.split_once("] \"EVALSHA\" \"")?;
        let words = words.strip_suffix('"')?.split("\" \"").map(str::to_owned);
        Some(std::iter::once("EVALSHA".to_owned()).chain(words).collect())
    });
    words.collect()
}

/// What a connection that was given up still had under way comes at last.
fn comes_late(server: &Redis, call: &[String]) {
    let words: Vec<&str> = call.iter().map(String::as_str).collect();
    let Reply::Error(error) = server.command(&words) else { panic!("it was done once more: {call:?}") };
    assert!(error.starts_with("STALE"), "{error}");
}

#[test]
fn a_change_that_comes_after_a_newer_one_is_not_counted() {
    let server = Redis::start(&[]);
    let rig = on(&server);
    let presence = RedisPresence::new(rig.connections[0].clone());
    let key = channel("chat:a");
    let apply = |changes| answer(|done| presence.apply(&node("n1"), changes, done)).unwrap();
    // From here on the server knows the script.
    apply(vec![enters(&key, "bob")]);
    let calls = overheard(&server, || drop(apply(vec![enters(&key, "ann")])));
    let [call] = &calls[..] else { panic!("{calls:?}") };
    apply(vec![leaves(&key, "ann")]);
    comes_late(&server, call);
    let roster = || answer(|done| presence.list(&key, 10, done)).unwrap().members;
    assert_eq!(roster(), [member("bob")]);
    // Nor when what was stated meanwhile is that nobody is there.
    server.command(&["FLUSHALL"]);
    answer(|done| presence.restate(&node("n1"), &key, vec![], done)).unwrap();
    comes_late(&server, call);
    assert_eq!(roster(), []);
}

#[test]
fn a_movement_that_comes_after_a_newer_one_is_not_counted() {
    let server = Redis::start(&[]);
    let rig = on(&server);
    let last_seen = std::sync::Arc::new(MemoryLastSeen::default());
    let online = RedisOnline::with_clock(rig.connections[0].clone(), 5_000, rig.clock(), last_seen);
    let moves = |from, to| {
        let movement = Movement { app: app("demo"), user: user("ann"), device: None, from, to };
        answer(|done| online.apply(&node("n1"), vec![movement], done)).unwrap()
    };
    moves(None, Some(Shown::Away));
    let calls = overheard(&server, || drop(moves(None, Some(Shown::Online))));
    let [call] = &calls[..] else { panic!("{calls:?}") };
    moves(Some(Shown::Online), None);
    comes_late(&server, call);
    let state = || answer(|done| online.status(&app("demo"), vec![user("ann")], done)).unwrap()[0].state;
    assert_eq!(state(), Shown::Away);
    server.command(&["FLUSHALL"]);
    answer(|done| online.restate(&node("n1"), vec![], done)).unwrap();
    comes_late(&server, call);
    assert_eq!(state(), Shown::Offline);
}

#[test]
fn a_server_that_dies_under_load_leaves_what_restating_puts_right() {
    let mut server = Redis::start(&["appendonly yes", "appendfsync always"]);
    let rig = on(&server);
    let presence = RedisPresence::new(rig.connections[0].clone());
    let key = channel("chat:a");
    renew(&presence);
    let (sender, receiver) = mpsc::channel();
    for round in 0..2_000 {
        let sender = sender.clone();
        let changes = vec![enters(&key, &format!("u{}", round % 50))];
        presence.apply(&node("n1"), changes, Box::new(move |result| sender.send(result).unwrap()));
        if round == 1_000 {
            // Some are answered, some under way, some wait.
            receiver.recv_timeout(PATIENCE).unwrap().unwrap();
            server.kill();
        }
    }
    drop(sender);
    let failed = receiver.iter().filter_map(Result::err).map(|error| error.kind);
    let failed: Vec<Failure> = failed.collect();
    assert!(
        !failed.is_empty()
            && failed.iter().all(|kind| matches!(kind, Failure::NotApplied | Failure::Unknown))
    );
    server.restart();
    up(&rig.connections[0]);
    assert_eq!(renew(&presence), Lease::Anew, "a server that was started again may have lost the latest");
    let connections = ["u3", "new", "u3"].map(member).to_vec();
    let delta = answer(|done| presence.restate(&node("n1"), &key, connections, done)).unwrap();
    assert_eq!(delta.users, 2);
    let told = answer(|done| presence.apply(&node("n1"), vec![leaves(&key, "u3"), leaves(&key, "u3")], done));
    let expected = [(false, 2, 2), (true, 1, 1)].map(|(transition, users, connections)| Outcome {
        transition,
        users,
        connections,
    });
    assert_eq!(told.unwrap(), expected);
}

#[test]
fn a_node_that_renews_no_more_lapses_until_it_is_evicted() {
    let server = Redis::start(&[]);
    let rig = on(&server);
    let [presence, other] = rig.connections.clone().map(|one| RedisPresence::with_clock(one, rig.clock()));
    let key = channel("chat:a");
    let lapsed = || answer(|done| other.lapsed(done)).unwrap();
    renew(&presence);
    answer(|done| presence.apply(&node("n1"), vec![enters(&key, "ann")], done)).unwrap();
    // This one has never renewed: its lease began with its first entry.
    answer(|done| presence.apply(&node("n2"), vec![enters(&key, "bob")], done)).unwrap();
    (rig.pass)(LEASE_MS - 1);
    assert_eq!(lapsed(), []);
    (rig.pass)(1);
    assert_eq!(lapsed(), ["n1", "n2"].map(node));
    let gone = answer(|done| other.evict(&node("n1"), done)).unwrap();
    assert_eq!(gone, [(key, Delta { users: 1, joined: vec![], left: vec![user("ann")] })]);
    assert_eq!(lapsed(), [node("n2")]);
    assert_eq!(renew(&presence), Lease::Anew, "it lives, and learns it");
}

#[test]
fn nobody_is_offline_because_redis_forgot() {
    let mut server = Redis::start(&[]);
    let rig = on(&server);
    let last_seen = std::sync::Arc::new(MemoryLastSeen::default());
    let online = RedisOnline::with_clock(rig.connections[0].clone(), 5_000, rig.clock(), last_seen);
    let arrival = || Movement {
        app: app("demo"),
        user: user("ann"),
        device: None,
        from: None,
        to: Some(Shown::Online),
    };
    answer(|done| online.renew(&node("n1"), done)).unwrap();
    assert_eq!(answer(|done| online.apply(&node("n1"), vec![arrival()], done)).unwrap().len(), 1);
    server.kill();
    down(&rig.connections[0]);
    assert!(answer(|done| online.status(&app("demo"), vec![user("ann")], done)).is_err());
    assert!(answer(|done| online.expire(done)).is_err());
    server.restart();
    up(&rig.connections[0]);
    (rig.pass)(60_000);
    assert_eq!(answer(|done| online.expire(done)).unwrap(), []);
    assert_eq!(answer(|done| online.renew(&node("n1"), done)), Ok(Lease::Anew));
    assert_eq!(answer(|done| online.restate(&node("n1"), vec![arrival()], done)).unwrap().len(), 1);
    let status = answer(|done| online.status(&app("demo"), vec![user("ann")], done)).unwrap();
    assert_eq!((status[0].state, status[0].last_seen), (Shown::Online, Some(rig.clock.wall())));
}

#[test]
fn a_server_that_has_forgotten_everything_begins_another_epoch() {
    let mut server = Redis::start(&[]);
    let rig = on(&server);
    let log = RedisLog::new(rig.connections[0].clone());
    append(&log, &["1", "2", "3"]).unwrap();
    let before = all(&log);
    server.kill();
    down(&rig.connections[0]);
    assert_eq!(append(&log, &["4"]).unwrap_err().kind, Failure::NotApplied);
    server.restart();
    up(&rig.connections[0]);
    let placed = append(&log, &["3"]).unwrap().taken.remove(0).unwrap();
    assert!(!placed.retry && placed.message.seq() == 1);
    let after = all(&log);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!((after.first, after.head), (1, 1));
}

#[test]
fn a_server_that_has_lost_the_newest_goes_on_under_another_epoch() {
    let mut server = Redis::start(&[]);
    let rig = on(&server);
    let log = RedisLog::new(rig.connections[0].clone());
    append(&log, &["1", "2", "3"]).unwrap();
    server.command(&["SAVE"]);
    append(&log, &["4", "5"]).unwrap();
    let before = all(&log);
    assert_eq!(before.head, 5);
    server.kill();
    down(&rig.connections[0]);
    server.restart();
    up(&rig.connections[0]);
    let heads = answer(|done| log.heads(vec![channel("chat:a")], done)).unwrap();
    assert_ne!(heads[0].epoch, before.epoch, "a head that is lower is never told under the same epoch");
    let placed = append(&log, &["3", "other"]).unwrap().taken;
    assert!(placed[0].as_ref().unwrap().retry, "what is left is known");
    let position = placed[1].as_ref().unwrap().message.position;
    assert_eq!(position, Some(Position { epoch: heads[0].epoch, seq: 4 }));
    assert_eq!(all(&log).messages.len(), 4);
    assert_eq!(all(&log).epoch, heads[0].epoch, "and stays");
}

#[test]
fn a_failover_begins_another_epoch_and_another_lease() {
    let mut servers = RedisSentinel::start();
    let rig = {
        let mut options = Options::new(&[servers.sentinel.url()], Some(RedisSentinel::MASTER)).unwrap();
        options.prefix = "test".into();
        Connection::open(options, runtime().handle())
    };
    runtime().block_on(rig.ready(PATIENCE)).unwrap();
    let (log, presence) = (RedisLog::new(rig.clone()), RedisPresence::new(rig.clone()));
    append(&log, &["1", "2"]).unwrap();
    renew(&presence);
    assert_eq!(renew(&presence), Lease::Kept);
    let before = all(&log);
    servers.wait_for_replica();
    servers.master.kill();
    servers.wait_for_failover();
    wait_for(&rig, |state| matches!(state, State::Up(number) if *number > 1));
    assert_eq!(renew(&presence), Lease::Anew);
    assert_eq!(renew(&presence), Lease::Kept);
    let after = all(&log);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!((after.head, after.messages.len()), (2, 2), "the replica had both");
}

#[test]
fn a_master_of_a_cluster_that_dies_takes_nothing_away_in_silence() {
    let mut cluster = RedisCluster::start(3, 1);
    let rig = rig::rig(&cluster.urls(), ());
    let (log, presence) =
        (RedisLog::new(rig.connections[0].clone()), RedisPresence::new(rig.connections[0].clone()));
    let channels: Vec<_> = (0..30).map(|number| channel(&format!("chat:{number}"))).collect();
    let heads = || answer(|done| log.heads(channels.clone(), done));
    renew(&presence);
    for key in &channels {
        let drafts = vec![draft("ann", "1"), draft("ann", "2")];
        assert_eq!(answer(|done| log.append(key, ROOMY, drafts, done)).unwrap().taken.len(), 2);
        answer(|done| presence.apply(&node("n1"), vec![enters(key, "ann")], done)).unwrap();
    }
    assert_eq!(renew(&presence), Lease::Kept);
    let before = heads().unwrap();

    cluster.nodes[0].kill();
    cluster.wait_until_dead(0);
    cluster.wait_until_whole();
    wait_until("all slots are served again", || heads().is_ok());
    let after = heads().unwrap();
    let same = |(before, after): (&Position, &Position)| before == after;
    assert!(before.iter().zip(&after).all(|pair| same(pair) || pair.0.epoch != pair.1.epoch));
    let kept = before.iter().zip(&after).filter(|pair| same(*pair)).count();
    assert!(kept > 0 && kept < 30, "{kept} of the channels lie on the two masters that live");
    let mut lease = None;
    wait_until("the lease can be renewed", || {
        lease = answer(|done| presence.renew(&node("n1"), done)).ok();
        lease.is_some()
    });
    assert_eq!(lease, Some(Lease::Anew));
    for key in &channels {
        let stated = || answer(|done| presence.restate(&node("n1"), key, vec![member("ann")], done));
        assert_eq!(stated().unwrap().users, 1);
        assert_eq!(stated().unwrap(), Delta { users: 1, ..Delta::default() });
    }
}

#[test]
fn a_full_server_refuses_and_loses_nothing() {
    let server = Redis::start(&["maxmemory-policy noeviction"]);
    let rig = on(&server);
    let log = RedisLog::new(rig.connections[0].clone());
    let presence = RedisPresence::new(rig.connections[0].clone());
    append(&log, &["1", "2"]).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let large = vec![draft_with("ann", "3", &"1".repeat(1_000))];
    let error = answer(|done| log.append(&channel("chat:a"), ROOMY, large.clone(), done)).unwrap_err();
    assert_eq!(error.kind, Failure::Full, "{error}");
    let changes = vec![enters(&channel("chat:a"), "ann")];
    let error = answer(|done| presence.apply(&node("n1"), changes.clone(), done)).unwrap_err();
    assert_eq!(error.kind, Failure::Full, "{error}");
    assert_eq!(all(&log).head, 2, "reading goes on");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(answer(|done| log.append(&channel("chat:a"), ROOMY, large, done)).unwrap().taken.len(), 1);
    let told = answer(|done| presence.apply(&node("n1"), changes, done)).unwrap();
    assert_eq!(told, [Outcome { transition: true, users: 1, connections: 1 }], "nothing was half done");
    assert_eq!(all(&log).head, 3);
}

#[test]
fn a_long_history_shrinks_by_steps() {
    let server = Redis::start(&[]);
    let rig = on(&server);
    let log = RedisLog::new(rig.connections[0].clone());
    let key = channel("chat:a");
    let drafts = (0..3_000).map(|id| draft("ann", &id.to_string())).collect();
    let appended = answer(|done| log.append(&key, ROOMY, drafts, done)).unwrap();
    assert_eq!(appended.taken.len(), 3_000);
    let page = all(&log);
    assert!(page.messages.iter().map(|message| message.seq()).eq(1..=3_000), "in several answers");
    let short = Retention { count: 10, ..ROOMY };
    let mut first = 1;
    for round in 0..10 {
        let more = vec![draft("ann", &format!("more-{round}"))];
        answer(|done| log.append(&key, short, more, done)).unwrap();
        let page = answer(|done| log.read(&key, Range::Newest, 5, done)).unwrap();
        assert!(page.first - first <= 500, "a bounded step");
        first = page.first;
    }
    assert_eq!(first, 3_001);
    assert_eq!(all(&log).messages.len(), 10);
}

#[test]
fn limits_are_open_when_redis_is_lost() {
    let mut server = Redis::start(&[]);
    let rig = on(&server);
    let limits = RedisLimits::new(rig.connections[0].clone());
    let limit = Limit { tokens: 1, per_ms: 3_600_000, burst: 1 };
    let take = || answer(|done| limits.take("a", 1, limit, done));
    assert_eq!(take(), Ok(Taken::Allowed));
    assert!(matches!(take(), Ok(Taken::RetryAfter(_))));
    server.kill();
    down(&rig.connections[0]);
    assert_eq!((take(), take()), (Ok(Taken::Allowed), Ok(Taken::Allowed)));
    let never = answer(|done| limits.take("a", 2, limit, done)).unwrap_err();
    assert_eq!(never.kind, Failure::Invalid);
}

#[test]
fn a_registry_that_was_forgotten_is_told_again() {
    use xpush_core::ports::hosts::Hosts;
    use xpush_testkit::sample::name;

    let mut server = Redis::start(&[]);
    let rig = on(&server);
    let hosts = RedisHosts::new(rig.connections[0].clone());
    let renew = || answer(|done| hosts.renew(&name("s1"), done));
    renew().unwrap();
    answer(|done| hosts.report(&name("s1"), vec![(channel("chat:a"), 3)], done)).unwrap();
    assert_eq!(renew(), Ok(Lease::Kept));
    server.kill();
    down(&rig.connections[0]);
    assert!(answer(|done| hosts.find(vec![channel("chat:a")], done)).is_err());
    server.restart();
    up(&rig.connections[0]);
    assert_eq!(renew(), Ok(Lease::Anew));
}

#[test]
fn settings_that_throw_our_state_away_are_found() {
    let server = Redis::start(&["maxmemory 100mb", "maxmemory-policy noeviction"]);
    let rig = on(&server);
    let findings = || runtime().block_on(check(&rig.connections[0])).unwrap();
    assert_eq!(findings(), []);
    for policy in ["allkeys-lru", "volatile-ttl"] {
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let found = findings();
        assert!(found.len() == 1 && found[0].serious && found[0].text.contains(policy), "{found:?}");
    }
    server.command(&["CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction"]);
    let found = findings();
    assert!(found.len() == 1 && !found[0].serious, "{found:?}");
    server.command(&["ACL", "SETUSER", "default", "-config"]);
    let found = findings();
    assert!(found.len() == 1 && !found[0].serious && found[0].text.contains("CONFIG GET"), "{found:?}");
}
