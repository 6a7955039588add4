//! A backup of MongoDB is put back, under the servers' feet.

use serde_json::{Value, json};
use xpush_core::ports::wait;
use xpush_testkit::fleet::{Connection, history};
use xpush_testkit::service::wait_until;

use crate::migrate::{ok, refused};
use crate::witness::Witness;
use crate::world::{World, read};

const NOTICED: &str = "MongoDB holds less than it did";

/// Publishes until it is acked: the store may be away.
fn publish(client: &mut Connection, number: u64) -> Value {
    let fields = json!({"channel": "kept:a", "data": number, "message_id": format!("p{number}")});
    let mut answer = Value::Null;
    wait_until("it is acked", || match client.ask("publish", fields.clone()) {
        Ok(acked) => {
            answer = acked;
            true
        }
        Err(refused) => {
            let refused = refused.to_string();
            assert!(refused.contains("unavailable") || refused.contains("outcome_unknown"), "{refused}");
            false
        }
    });
    answer
}

/// How far the ledgers' clock has come, as it is noted in the store.
fn clock(world: &World) -> u64 {
    let options = xpush_mongodb::Options::new(world.mongo.uri(), "xpush");
    let store = xpush_mongodb::Store::open(options).unwrap();
    wait(|done| store.origin_now(done)).unwrap().clock
}

#[test]
fn a_backup_that_is_put_back_is_noticed_and_a_new_epoch_hides_no_hole() {
    let mut world = World::start_durable("put-back", 2);
    let folder = world.servers[0].folder().to_owned();
    let ben = Witness::at(&world.servers[1], "ben", &["kept:a", "live:a"]);
    let mut ann = world.servers[0].connect("ann");
    (1..=5).for_each(|number| drop(publish(&mut ann, number)));
    let backup = world.mongo.back_up();
    let then = clock(&world);
    let mut ann = world.servers[0].connect("ann");
    let last = (6..=10).map(|number| publish(&mut ann, number)).last().unwrap();
    ben.until("the last one", 0, |push| push["seq"] == 10);
    assert_eq!(last["seq"], 10, "{last}");
    let since = |seq: u64| json!({"channel": "kept:a", "since": {"epoch": last["epoch"], "seq": seq}});
    let resumed = world.servers[1].connect("eve").ask("subscribe", since(3)).unwrap();
    assert_eq!((&resumed["recovered"], &resumed["missed"]), (&json!(true), &json!(7)), "{resumed}");
    // What is told the second time was confirmed the first time.
    wait_until("the clock has gone on", || clock(&world) > then);
    let told = clock(&world);
    wait_until("the clock has gone on again", || clock(&world) > told + 4_000);

    // The servers run on.
    world.mongo.put_back(&backup);
    for server in &world.servers {
        wait_until("it is noticed", || read(&server.log()).contains(NOTICED));
        let refused = server.connect("cid").ask("publish", json!({"channel": "kept:a", "data": "x"}));
        assert!(refused.unwrap_err().to_string().contains("unavailable"));
    }
    // What needs no store goes on.
    let live = json!({"channel": "live:a", "data": "still here"});
    world.servers[0].connect("ann").ask("publish", live).unwrap();
    ben.hears("live:a", "still here");
    // No place that ben has seen was given again.
    let seen: Vec<u64> = ben.heard().iter().filter_map(|push| push["seq"].as_u64()).collect();
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    let kept = history(&mut world.servers[0].connect("dan"), "kept:a", true).unwrap();
    assert_eq!((kept.head, kept.slots.len()), (5, 5));
    drop(ben);

    // Whoever starts again finds it, too, and an operator is told what to do.
    for server in &mut world.servers {
        server.kill();
    }
    let views = world.views();
    views.until("nobody is there", |view| view.nodes.is_empty());
    assert!(!world.servers[0].fail().status.success());
    let doctor = refused(&folder, "xpush.toml", &["doctor"]);
    assert!(doctor.contains(NOTICED) && doctor.contains("xpush epoch new"), "{doctor}");
    ok(&folder, "xpush.toml", &["epoch", "new"]);
    for server in &mut world.servers {
        server.launch().unwrap();
    }
    world.settle();

    // Whatever clients have seen: nobody is told that nothing is missing.
    for seq in [3, 5, 8, 10] {
        let resumed = world.servers[1].connect(&format!("at {seq}")).ask("subscribe", since(seq)).unwrap();
        assert_eq!(resumed["recovered"], false, "{resumed}");
        assert_ne!(resumed["epoch"], last["epoch"], "{resumed}");
    }
    let next = publish(&mut world.servers[0].connect("ann"), 11);
    assert_eq!(next["seq"], 6, "{next}");
    // What was acked and is lost can be published again: nothing in the store says that it is known.
    let again = publish(&mut world.servers[1].connect("ann"), 10);
    assert_eq!(again["seq"], 7, "{again}");
    world.gone();
}
