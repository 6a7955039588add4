//! Bad days: whatever is done to what servers stand on, this is what clients see of it.

use serde_json::{Value, json};
use xpush_core::ports::cluster::Standing;
use xpush_testkit::service::wait_until;
use xpush_testkit::service::zookeeper::ZooKeeper;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::witness::Witness;
use crate::world::{Server, World, fault, members, plan, read, timed};

const KEPT: &str = "kept:a";
const LIVE: &str = "live:a";
const SEEN: &str = "seen:a";

/// A client at each server, who hears everything and is seen by the others.
struct Onlookers {
    all: Vec<Witness>,
}

impl Onlookers {
    fn at(world: &World) -> Self {
        let onlooker =
            |server: &Server| Witness::at(server, &format!("seen at {}", server.name), &[KEPT, LIVE, SEEN]);
        let all: Vec<_> = world.servers.iter().map(onlooker).collect();
        let these = Self { all };
        these.say(world, "at first");
        these
    }

    /// What is said at any server is heard at all, kept or not.
    fn say(&self, world: &World, when: &str) {
        for server in &world.servers {
            let said = format!("{when} by {}", server.name);
            let mut speaker = server.connect("speaker");
            for channel in [KEPT, LIVE] {
                speaker.ask("publish", json!({"channel": channel, "data": said})).unwrap();
                self.all.iter().for_each(|onlooker| onlooker.hears(channel, &said));
            }
        }
    }

    /// Nobody was told that somebody has left, or that something is missing; what is kept came once each, in one order.
    fn saw_nothing(&self) {
        let kept = |onlooker: &Witness| -> Vec<(u64, Value)> {
            let heard = onlooker.heard().into_iter().filter(|push| push["channel"] == KEPT);
            heard.filter_map(|push| Some((push["seq"].as_u64()?, push["data"].clone()))).collect()
        };
        let first = kept(&self.all[0]);
        for onlooker in &self.all {
            let heard = onlooker.heard();
            let bad = heard.iter().find(|push| {
                push["left"].as_array().is_some_and(|left| !left.is_empty())
                    || push["push"] == "gap"
                    || push["push"] == "moved"
            });
            assert_eq!(bad, None, "somebody was told of this");
            let kept = kept(onlooker);
            assert!(
                kept.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0),
                "one order, without holes: {kept:?}"
            );
            assert_eq!(kept.last(), first.last(), "everybody hears the same");
        }
    }
}

/// Somebody who may write into ZooKeeper, and should not.
fn vandalize(world: &World, path: &str, data: &[u8]) {
    let hosts = world.zookeeper.hosts();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let vandal = Client::connect(&hosts).await.unwrap();
        let whoever = CreateMode::Persistent.with_acls(Acls::anyone_all());
        if vandal.create(path, data, &whoever).await.is_err() {
            vandal.set_data(path, data, None).await.unwrap();
        }
    });
}

fn ring(world: &World) -> String {
    let hosts = world.zookeeper.hosts();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (data, _) = runtime.block_on(async {
        Client::connect(&hosts).await.unwrap().get_data("/xpush/cluster/ring").await.unwrap()
    });
    String::from_utf8(data).unwrap()
}

#[test]
fn a_second_server_of_the_same_name_is_refused_and_clients_of_the_first_see_nothing() {
    let world = World::start("same-name", 2);
    let onlookers = Onlookers::at(&world);
    let twin = world.furnish("twin", "push-1", &world.ways());
    let ended = twin.fail();
    let log = read(&twin.log());
    assert!(!ended.status.success(), "{log}");
    assert!(log.contains("cannot join the cluster as push-1: the name push-1 is that of node"), "{log}");
    onlookers.say(&world, "beside a twin");
    onlookers.saw_nothing();
    drop(onlookers);
    world.gone();
}

#[test]
fn garbage_and_impossible_weights_in_zookeeper_are_refused_and_clients_see_nothing() {
    let mut world = World::start("vandal", 2);
    let views = world.views();
    let onlookers = Onlookers::at(&world);
    let good = ring(&world);
    let line = good.lines().find(|line| line.starts_with("node push-1 ")).unwrap().to_owned();
    let weighing = |weight: &str| good.replace(&line, &format!("node push-1 {weight}"));
    for (path, data) in [
        ("/xpush/cluster/ring", "garbage".to_owned()),
        ("/xpush/cluster/ring", weighing("NaN")),
        ("/xpush/cluster/ring", weighing("-1")),
        ("/xpush/cluster/ring", weighing("1e308")),
        ("/xpush/cluster/ring", good.replace("node push-1", "node ../push-1")),
        ("/xpush/cluster/members/..x", "garbage".to_owned()),
        ("/xpush/cluster/loads", "{\"v\":1,\"loads\":{\"push-1\":[1e308,-1,0]}}".to_owned()),
    ] {
        let alarms =
            |server: &Server| read(&server.log()).matches("a record in ZooKeeper is no good").count();
        let before: Vec<usize> = world.servers.iter().map(alarms).collect();
        vandalize(&world, path, data.as_bytes());
        for (server, before) in world.servers.iter().zip(before) {
            wait_until(&format!("an alarm at {data}"), || alarms(server) > before);
            // Clients are still sent to servers that are there.
            let assigned = server.assign(LIVE);
            assert_ne!(assigned["reason"], "no_ring", "{data}: {assigned}");
            let known = views.last();
            assert!(
                known.nodes.iter().any(|node| assigned["node"] == node.id.as_str()),
                "{data}: {assigned}"
            );
        }
        onlookers.say(&world, &format!("beside {data}"));
    }
    onlookers.saw_nothing();
    drop(onlookers);
    world.gone();
}

#[test]
fn ids_that_look_like_paths_are_names_or_refused_and_nobody_else_sees_anything() {
    let world = World::start("paths", 2);
    let onlookers = Onlookers::at(&world);
    let mut client = world.servers[0].connect("whoever");
    for odd in [
        "../../etc/passwd",
        "..",
        "/",
        "a/../b",
        "%2e%2e%2f",
        "a\u{0}b",
        "C:\\x",
        "*",
        "kept:*",
        "{demo}x",
        "@../x",
        "@%2e%2e",
    ] {
        // A name that is allowed is that name and no other; one that is not is refused.
        let kept = format!("kept:{odd}");
        let answer = client.ask("publish", json!({"channel": kept, "data": odd, "message_id": "../x"}));
        match answer {
            Ok(acked) => {
                assert_eq!((&acked["channel"], &acked["seq"]), (&json!(kept), &json!(1)), "{acked}");
                let page = client.ask("history", json!({"channel": kept, "after": 0, "limit": 10})).unwrap();
                assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
            }
            Err(error) => assert!(error.to_string().contains("bad_channel"), "{odd}: {error}"),
        }
        if let Err(error) = client.ask("subscribe", json!({"channel": odd})) {
            let error = error.to_string();
            assert!(["bad_channel", "forbidden"].iter().any(|code| error.contains(code)), "{odd}: {error}");
        }
    }
    for path in
        ["/api/v1/files/../../etc/passwd", "/api/v1/files/%2e%2e%2fxpush.toml", "/..%2f..%2fetc/passwd"]
    {
        let (status, body) = world.servers[0].get(path);
        assert!(status >= 400 && !body.contains("root:"), "{path}: {status} {body}");
    }
    onlookers.say(&world, "beside odd names");
    onlookers.saw_nothing();
    drop(onlookers);
    world.gone();
}

#[test]
fn redis_without_memory_keeps_nobody_from_what_is_kept() {
    let world = World::start("no-memory", 2);
    let fleet = world.embark(&plan(11));
    let onlookers = Onlookers::at(&world);
    fleet.journal().wait_for_acks(100).unwrap();
    fault(&fleet, "redis has no memory");
    world.redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    world.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    timed("presence became unknown", || {
        for onlooker in &onlookers.all {
            onlooker.told("presence is unknown", |push| push["unknown"] == true);
        }
    });
    fleet.journal().wait_for_acks(300).unwrap();
    onlookers.say(&world, "without memory");
    fault(&fleet, "redis has memory again");
    world.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    timed("presence was known again", || {
        for onlooker in &onlookers.all {
            onlooker
                .told("both are there", |push| push["users"].as_array().is_some_and(|all| all.len() == 2));
        }
    });
    onlookers.saw_nothing();
    drop(onlookers);
    fleet.journal().wait_for_acks(100).unwrap();
    world.judge(fleet);
}

/// One node cannot elect another: what servers see of a primary that steps down is that connections break, and for a while nobody takes writes.
#[test]
fn a_primary_that_steps_down_is_waited_for_and_nothing_acked_is_lost() {
    let mut world = World::start_durable("steps-down", 2);
    let fleet = world.embark(&plan(12));
    let onlookers = Onlookers::at(&world);
    for time in 0..3 {
        fleet.journal().wait_for_acks(100).unwrap();
        fault(&fleet, "the store's connections break");
        world.mongo.restart();
        fleet.journal().wait_for_acks(100).unwrap();
        wait_until("it takes writes", || {
            let mut speaker = world.servers[0].connect("speaker");
            speaker.ask("publish", json!({"channel": KEPT, "data": format!("again {time}")})).is_ok()
        });
        onlookers.say(&world, &format!("after election {time}"));
    }
    onlookers.saw_nothing();
    drop(onlookers);
    world.judge(fleet);
}

#[test]
fn without_a_majority_of_zookeeper_clients_are_served_and_placed_as_before() {
    let mut world = World::services("minority");
    world.zookeeper = ZooKeeper::ensemble();
    for _ in 0..2 {
        let ways = world.ways();
        world.add(&ways);
    }
    world.settle();
    let views = world.views();
    let fleet = world.embark(&plan(13));
    let onlookers = Onlookers::at(&world);
    fleet.journal().wait_for_acks(100).unwrap();
    fault(&fleet, "zookeeper has no majority");
    let survivor = world.zookeeper.leader();
    (0..3).filter(|index| *index != survivor).for_each(|index| world.zookeeper.kill(index));
    views.until("a frozen view", |view| view.standing != Standing::Live);
    let known = views.last();
    for server in &world.servers {
        let assigned = server.assign(LIVE);
        assert!(known.nodes.iter().any(|node| assigned["node"] == node.id.as_str()), "{assigned}");
    }
    onlookers.say(&world, "without a majority");
    fleet.journal().wait_for_acks(200).unwrap();
    world.zookeeper.restart();
    world.zookeeper.wait_until_whole();
    timed("the cluster was whole again", || world.settle());
    assert_eq!(members(&views.last()), ["push-1", "push-2"]);
    onlookers.say(&world, "with a majority");
    onlookers.saw_nothing();
    drop(onlookers);
    world.judge(fleet);
}
