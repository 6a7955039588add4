//! What servers stand on fails, or one of them loses its way to it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xpush_core::ports::cluster::{Standing, View};
use xpush_testkit::fleet::Said;
use xpush_testkit::service::proxy::Proxy;
use xpush_testkit::service::wait_until;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::times;
use crate::witness::Witness;
use crate::world::{Server, Ways, World, fault, members, on_ring, plan, read, timed};

fn say(server: &Server, channel: &str, data: &str) {
    server.connect("speaker").ask("publish", json!({"channel": channel, "data": data})).unwrap();
}

/// By the ring, on a server that is known.
fn is_placed(server: &Server, channel: &str, known: &View) {
    let assigned = server.assign(channel);
    assert_ne!(assigned["reason"], "no_ring", "{assigned}");
    assert!(known.nodes.iter().any(|node| assigned["node"] == node.id.as_str()), "{assigned} of {known:?}");
}

#[test]
fn a_server_that_was_frozen_for_too_long_finds_its_way_back() {
    let mut world = World::start("frozen", 3);
    let views = world.views();
    let fleet = world.embark(&plan(2));
    for time in 0..times(2) {
        fleet.journal().wait_for_acks(200).unwrap();
        let victim = time % 3;
        let name = world.servers[victim].name.clone();
        fault(&fleet, "a server is frozen");
        world.servers[victim].freeze();
        timed("a frozen server was noticed", || {
            views.until("one less", |view| !members(view).contains(&name) && !on_ring(view).contains(&name));
        });
        fleet.journal().wait_for_acks(200).unwrap();
        world.servers[victim].thaw();
        timed("a frozen server was back", || world.settle());
    }
    fleet.journal().wait_for_acks(200).unwrap();
    world.judge(fleet);
}

#[test]
fn whoever_was_on_a_killed_server_leaves_unless_it_comes_back_elsewhere() {
    let mut world = World::start("ghosts", 2);
    let witness = Witness::at(&world.servers[0], "who looks on", &["seen:a"]);
    let joins = |secret: &str| {
        let heard = witness.heard().len();
        let guest = Witness::at(&world.servers[1], secret, &["seen:a"]);
        witness.until("somebody joins", heard, |push| push["joined"].is_array());
        let joined = &witness.heard()[heard..];
        let user = joined.iter().find_map(|push| push["joined"][0]["user"].as_str()).unwrap().to_owned();
        (guest, user)
    };
    let ((_faithful, stays), (_fickle, goes)) = (joins("who comes back"), joins("who stays away"));
    let left = |push: &Value, user: &str| {
        push["left"].as_array().is_some_and(|left| left.iter().any(|gone| gone["user"] == user))
    };
    world.servers[1].kill();
    let _back = Witness::at(&world.servers[0], "who comes back", &["seen:a"]);
    timed("who was on a killed server has left", || {
        witness.until("who stays away leaves", 0, |push| left(push, &goes));
    });
    assert!(!witness.heard().iter().any(|push| left(push, &stays)), "{:?}", witness.heard());
    let now = world.servers[0].connect("who asks").ask("presence", json!({"channel": "seen:a"})).unwrap();
    assert_eq!(now["count"], 2, "who looks on, and who came back: {now}");
    world.gone();
}

#[test]
fn redis_may_go_and_come_back_empty() {
    let mut world = World::start("redis", 3);
    let fleet = world.embark(&plan(3));
    let witnesses: Vec<_> = world
        .servers
        .iter()
        .map(|server| Witness::at(server, &format!("seen at {}", server.name), &["seen:a", "live:a"]))
        .collect();
    let is_whole = |push: &Value| {
        push["push"] == "presence" && push["users"].as_array().is_some_and(|all| all.len() == 3)
    };
    for time in 0..times(1) {
        fleet.journal().wait_for_acks(200).unwrap();
        fault(&fleet, "redis is killed");
        world.redis.kill();
        timed("presence became unknown", || {
            for witness in &witnesses {
                witness.told("presence is unknown", |push| push["unknown"] == true);
            }
        });
        // Durable publishes go on, and so does everything on one server.
        fleet.journal().wait_for_acks(300).unwrap();
        let alone = format!("alone {time}");
        say(&world.servers[0], "live:a", &alone);
        witnesses[0].hears("live:a", &alone);
        world.redis.restart();
        timed("presence was known again", || {
            witnesses.iter().for_each(|witness| witness.told("all three are there", is_whole));
        });
        let together = format!("together {time}");
        say(&world.servers[1], "live:a", &together);
        witnesses.iter().for_each(|witness| witness.hears("live:a", &together));
    }
    for witness in &witnesses {
        let heard = witness.heard();
        let left = heard.iter().find(|push| push["left"].as_array().is_some_and(|left| !left.is_empty()));
        assert_eq!(left, None, "nobody has left");
    }
    fleet.journal().wait_for_acks(200).unwrap();
    world.judge(fleet);
}

#[test]
fn zookeeper_may_go_and_everything_stays_as_it_is() {
    let mut world = World::start("zookeeper", 3);
    let views = world.views();
    let fleet = world.embark(&plan(4));
    for _ in 0..times(1) {
        fleet.journal().wait_for_acks(200).unwrap();
        fault(&fleet, "zookeeper is killed");
        world.zookeeper.kill(0);
        views.until("a frozen view", |view| view.standing != Standing::Live);
        fleet.journal().wait_for_acks(300).unwrap();
        let known = views.last();
        for server in &world.servers {
            (0..5).for_each(|number| is_placed(server, &format!("live:{number}"), &known));
        }
        world.zookeeper.restart();
        timed("the cluster was whole again", || world.settle());
    }
    fleet.journal().wait_for_acks(200).unwrap();
    world.judge(fleet);
}

#[test]
fn while_mongodb_is_frozen_durable_publishes_are_refused_and_the_rest_goes_on() {
    let world = World::start("mongodb", 2);
    let fleet = world.embark(&plan(5));
    let witness = Witness::at(&world.servers[0], "witness", &["live:a"]);
    for time in 0..times(1) {
        fleet.journal().wait_for_acks(200).unwrap();
        let [mut client, mut speaker] =
            ["a client", "speaker"].map(|secret| world.servers[1].connect(secret));
        fault(&fleet, "mongodb is frozen");
        world.mongo.freeze();
        let asked =
            client.send("publish", json!({"channel": "kept:0", "data": 0, "message_id": "x"})).unwrap();
        let error = timed("a durable publish was refused", || {
            loop {
                match client.hear().unwrap() {
                    Said::Error(id, error) if id == asked => break error,
                    Said::Ok(id, answer) if id == asked => panic!("{answer}"),
                    _ => {}
                }
            }
        });
        println!("{error}");
        assert_ne!(error["retry"], "no", "{error}");
        let ephemeral = format!("not kept {time}");
        speaker.ask("publish", json!({"channel": "live:a", "data": ephemeral})).unwrap();
        witness.hears("live:a", &ephemeral);
        newcomers(&world.servers[0], &witness, time);
        world.mongo.thaw();
    }
    fleet.journal().wait_for_acks(300).unwrap();
    world.judge(fleet);
}

/// While the store is away: whoever comes anew, as a guest or with a token of the app, uses what needs no store, and is soon refused what does.
fn newcomers(server: &Server, witness: &Witness, time: usize) {
    let guest = timed("a new guest was admitted", || server.connect(&format!("a new guest {time}")));
    let user = timed("a new user was admitted", || server.connect_as(&format!("ann-{time}")).unwrap());
    for (who, mut newcomer) in [("guest", guest), ("user", user)] {
        newcomer.ask("subscribe", json!({"channel": "live:a"})).unwrap();
        let data = format!("from a new {who}, {time}");
        newcomer.ask("publish", json!({"channel": "live:a", "data": data})).unwrap();
        witness.hears("live:a", &data);
        for (command, fields) in [
            ("subscribe", json!({"channel": format!("kept:by {who} {time}").replace(' ', "-")})),
            ("history", json!({"channel": "kept:1", "after": 0, "limit": 1})),
            ("publish", json!({"channel": "kept:1", "data": 0, "message_id": "y"})),
        ] {
            let asked = Instant::now();
            let refused = newcomer.ask(command, fields).unwrap_err().to_string();
            let retryable = ["unavailable", "outcome_unknown"].iter().any(|code| refused.contains(code));
            assert!(retryable, "{command} of a {who}: {refused}");
            // Two seconds, and what a busy machine adds: not as long as the store is away.
            assert!(asked.elapsed() < Duration::from_secs(10), "{command} took {:?}", asked.elapsed());
        }
    }
}

#[test]
fn a_server_whose_messages_get_lost_in_one_direction_is_healed() {
    let mut world = World::services("partition");
    let direct = world.ways();
    world.add(&direct);
    world.add(&direct);
    let redis = Proxy::start(world.redis.address());
    let zookeeper = Proxy::start(world.zookeeper.address(0));
    world.add(&Ways { zookeeper: zookeeper.address().to_string(), redis: redis.address() });
    world.settle();
    let views = world.views();
    let fleet = world.embark(&plan(6));
    let witness = Witness::at(&world.servers[2], "cut off", &["seen:a", "live:a"]);
    let out_of_reach =
        |world: &World| read(&world.servers[2].log()).matches("ZooKeeper is out of reach").count();
    let stalls: [fn(&Proxy); 2] = [Proxy::stall_there, Proxy::stall_back];
    for (time, stall) in stalls.into_iter().cycle().take(2 * times(1)).enumerate() {
        fleet.journal().wait_for_acks(100).unwrap();
        fault(&fleet, "one server's way to redis is cut in one direction");
        stall(&redis);
        timed("a lost way to redis was noticed", || {
            witness.told("presence is unknown", |push| push["unknown"] == true);
        });
        fleet.journal().wait_for_acks(100).unwrap();
        redis.pass();
        timed("the way to redis was found", || {
            witness.told("presence is known", |push| push["users"].is_array());
        });

        fault(&fleet, "one server's way to zookeeper is cut in one direction");
        let before = out_of_reach(&world);
        stall(&zookeeper);
        timed("a lost way to zookeeper was noticed", || {
            wait_until("the server finds out", || out_of_reach(&world) > before);
            // In the other direction its signs of life arrive: it is no member less, and goes on with what it knows.
            if time % 2 == 0 {
                views.until("one less", |view| !members(view).contains(&"push-3".to_owned()));
            }
        });
        fleet.journal().wait_for_acks(100).unwrap();
        zookeeper.pass();
        timed("the way to zookeeper was found", || {
            wait_until("the server is back", || {
                let log = read(&world.servers[2].log());
                log.rfind("the cluster is known") > log.rfind("ZooKeeper is out of reach")
            });
            world.settle();
        });
    }
    world.judge(fleet);
}

#[test]
fn garbage_in_the_place_of_the_ring_is_refused_and_the_old_one_kept() {
    let mut world = World::start("garbage", 2);
    let views = world.views();
    let good = views.last().ring.clone().unwrap();
    let hosts = world.zookeeper.hosts();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let vandal = Client::connect(&hosts).await.unwrap();
        let whoever = CreateMode::Persistent.with_acls(Acls::anyone_all());
        assert!(vandal.create("/xpush/cluster/ring", b"garbage", &whoever).await.is_err(), "there is a ring");
        vandal.set_data("/xpush/cluster/ring", b"garbage", None).await.unwrap();
    });
    for server in &world.servers {
        wait_until("an alarm", || read(&server.log()).contains("a record in ZooKeeper is no good"));
        is_placed(server, "live:a", &views.last());
    }
    assert!(views.last().ring.as_ref().is_some_and(|ring| ring.generation() >= good.generation()));
    // The next ring takes its place.
    world.servers[1].kill();
    world.settle();
    assert!(views.last().ring.as_ref().unwrap().generation() > good.generation());
    world.gone();
}
