//! What was decided and holds no more.

use std::collections::HashSet;

use xpush_core::ports::access::Changed;
use xpush_core::{App, Clock};

use super::permissions::old;
use super::*;

#[test]
fn a_revoked_user_is_closed_everywhere_and_nobody_else() {
    let mut world = World::new();
    let now = world.clock.wall();
    let mut old: Vec<_> = (0..4).map(|_| world.user(&format!("ann/{now}/{}", now + 900_000))).collect();
    let mut new = world.user(&format!("ann/{}/{}", now + 10, now + 900_000));
    let mut bob = world.user(&format!("bob/{now}/{}", now + 900_000));
    world.access.revoke("ann", now + 5);
    for client in &mut old {
        let packets = world.receive(client);
        assert_eq!(pushed(&packets, "closing")["error"]["code"], "revoked");
    }
    for client in [&mut new, &mut bob] {
        assert!(world.ask(client, r#"["ping"]"#)["ok"].is_object());
    }
}

#[test]
fn a_revocation_that_overtakes_an_admission_holds() {
    let mut world = World::new();
    let now = world.clock.wall();
    let mut ann = world.connect(Some(&format!("ann/{now}/{}", now + 900_000)));
    world.send(&mut ann, r#"421["publish",{"channel":"open:a","data":1}]"#);
    // Decided before, told after.
    world.access.revoke("ann", now + 5);
    world.turn();
    world.access.answer_all();
    let packets = world.receive(&mut ann);
    assert!(packets.len() == 1 && packets[0].contains(r#""code":"revoked""#), "{packets:?}");
}

#[test]
fn when_everything_may_have_changed_every_grant_is_looked_at_again() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    // The news was lost.
    world.access.revoke("ann", 0);
    world.access.tell(Changed::Everything);
    world.turn();
    world.access.answer_all();
    assert_eq!(pushed(&world.receive(&mut ann), "closing")["error"]["code"], "revoked");
    assert!(world.ask(&mut bob, r#"["ping"]"#)["ok"].is_object());
}

#[test]
fn other_rules_end_the_subscriptions_that_they_concern() {
    let mut world = World::new();
    let mut guest = world.connect(None);
    world.receive(&mut guest);
    for channel in ["open:a", "open:b"] {
        let command = format!(r#"["subscribe",{{"channel":"{channel}"}}]"#);
        assert!(world.ask(&mut guest, &command)["ok"].is_object());
    }
    let mut changed = rules();
    changed.insert(0, Rule { history: History::None, ..rule("open:b", Who::Anyone) });
    world.access.set_app(true, &[], changed);
    world.access.tell(Changed::App(App::new("demo").unwrap()));
    let ended = pushed(&world.receive(&mut guest), "unsubscribed");
    assert_eq!((&ended["channel"], &ended["error"]["code"]), (&"open:b".into(), &"unavailable".into()));
    let again = world.ask(&mut guest, r#"["subscribe",{"channel":"open:b"}]"#);
    assert_eq!(again["ok"]["history"], false, "{again}");

    world.access.set_app(false, &[], rules());
    world.access.tell(Changed::App(App::new("demo").unwrap()));
    assert_eq!(pushed(&world.receive(&mut guest), "closing")["error"]["code"], "unauthenticated");
}

#[test]
fn what_waits_for_a_place_when_nothing_is_kept_any_more_is_refused_and_nothing_is_stuck() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    let publish = r#"["publish",{"channel":"kept:a","data":1}]"#;
    let brief = || {
        let mut rules = rules();
        rules.insert(0, Rule { history: History::None, ..rule("kept:*", Who::Anyone) });
        rules
    };
    let change = |world: &mut World, rules| {
        world.access.set_app(true, &[], rules);
        world.access.tell(Changed::App(App::new("demo").unwrap()));
        world.turn();
    };
    // One is under way, one waits.
    world.ledger.hold();
    world.send(&mut ann, &format!("421{publish}"));
    world.send(&mut ann, &format!("422{publish}"));
    change(&mut world, brief());
    world.ledger.let_go();
    let packets = world.receive(&mut ann);
    let ack = |packets: &[String], number| {
        let head = format!("43{number}[");
        acked(
            packets.iter().find(|packet| packet.starts_with(&head)).unwrap_or_else(|| panic!("{packets:?}")),
        )
    };
    assert_eq!(ack(&packets, 1)["ok"]["seq"], 1);
    assert_eq!(ack(&packets, 2)["error"]["code"], "unavailable");
    assert!(world.ask(&mut ann, publish)["ok"]["seq"].is_null());
    change(&mut world, rules());
    assert_eq!(world.ask(&mut ann, publish)["ok"]["seq"], 2);

    // The channel is at home here, and its home has not heard what a publisher has.
    change(&mut world, brief());
    world.ask(&mut ann, r#"["subscribe",{"channel":"kept:a"}]"#);
    world.access.set_app(true, &[], rules());
    let mut bob = world.user("bob");
    assert_eq!(world.ask(&mut bob, publish)["error"]["code"], "unavailable");
    world.access.tell(Changed::App(App::new("demo").unwrap()));
    world.turn();
    assert_eq!(world.ask(&mut bob, publish)["ok"]["seq"], 3);
}

#[test]
fn an_app_that_is_gone_has_no_connections() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    let mut legacy = world.open("", None);
    world.send(&mut legacy, &old("open:a"));
    world.receive(&mut legacy);
    world.access.remove_apps();
    world.access.tell(Changed::App(App::new("demo").unwrap()));
    assert_eq!(pushed(&world.receive(&mut ann), "closing")["error"]["code"], "unknown_app");
    assert_eq!(world.receive(&mut legacy).last().map(String::as_str), Some("1"));
}

fn below(random: &mut SeededEntropy, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

/// Clients that hurry, an ACCESS that answers in any order, members and users that come and go.
fn hurry(seed: u64) {
    let mut world = World::new();
    let mut random = SeededEntropy::new(seed);
    let mut observer = world.connect(None);
    world.receive(&mut observer);
    assert!(world.ask(&mut observer, r#"["subscribe",{"channel":"open:all"}]"#)["ok"].is_object());
    let mut clients: Vec<(String, Client)> = Vec::new();
    let mut admitted: HashSet<String> = HashSet::new();
    let mut revoked: HashSet<String> = HashSet::new();
    for step in 0..200 {
        let chosen = below(&mut random, clients.len().max(1));
        match random.below(8) {
            0 => {
                let user = format!("u{step}");
                // Each is another user, so that it is known whose message it is.
                let client = world.connect(Some(&user));
                clients.push((user, client));
            }
            1 if world.access.waiting() > 0 => {
                let index = below(&mut random, world.access.waiting());
                world.access.answer(index);
            }
            2 if random.chance(0.2) && !clients.is_empty() => {
                let user = clients[chosen].0.clone();
                world.access.revoke(&user, 1);
                world.turn();
                revoked.insert(user);
            }
            _ if !clients.is_empty() => {
                let (user, client) = &mut clients[chosen];
                let text = format!("{user}/{}", revoked.contains(user));
                world.send(client, &format!(r#"42["publish",{{"channel":"open:all","data":"{text}"}}]"#));
            }
            _ => {}
        }
        for (user, client) in &mut clients {
            if world.receive(client).iter().any(|packet| packet.contains("welcome")) {
                admitted.insert(user.clone());
                assert!(!revoked.contains(user), "{user} was let in after it was revoked");
            }
        }
        for packet in world.receive(&mut observer) {
            let data: Value = serde_json::from_str(&packet[2..]).unwrap();
            let (user, late) = data[1]["data"].as_str().unwrap().split_once('/').unwrap();
            assert!(admitted.contains(user), "a command of {user} ran before its admission");
            assert_eq!(late, "false", "a command of {user} ran after its revocation");
        }
    }
    assert!(admitted.len() > 3 && !revoked.is_empty() || seed > 0, "the simulation did something");
}

#[test]
fn no_command_runs_before_admission_and_none_after_revocation() {
    for seed in 0..20 {
        hurry(seed);
    }
}
