//! What one may do in a channel, when ACCESS must be asked for it.

use xpush_core::Clock;

use super::*;

#[test]
fn members_are_asked_for_once_and_commands_stay_in_order() {
    let mut world = World::new();
    world.access.enter("members:a", "ann");
    let mut ann = world.user("ann");
    world.send(&mut ann, r#"421["subscribe",{"channel":"members:a"}]"#);
    world.send(&mut ann, r#"422["publish",{"channel":"open:a","data":1}]"#);
    world.send(&mut ann, r#"423["publish",{"channel":"members:a","data":2}]"#);
    assert_eq!((world.receive(&mut ann).len(), world.access.waiting()), (0, 1));
    world.access.answer_all();
    let packets = world.receive(&mut ann);
    let acks: Vec<_> = packets.iter().filter(|packet| packet.starts_with("43")).cloned().collect();
    assert_eq!(acks.len(), 3, "{packets:?}");
    assert!(acks.iter().all(|ack| acked(ack)["ok"].is_object()), "{packets:?}");
    // From now on it is known.
    assert!(world.ask(&mut ann, r#"["history",{"channel":"members:a"}]"#)["ok"].is_object());
    assert_eq!(world.access.waiting(), 0);
}

#[test]
fn strangers_may_do_nothing_in_a_members_channel() {
    let mut world = World::new();
    let mut eve = world.user("eve");
    for command in [
        r#"["subscribe",{"channel":"members:a"}]"#,
        r#"["publish",{"channel":"members:a","data":1}]"#,
        r#"["edit",{"channel":"members:a","seq":1,"data":1}]"#,
        r#"["delete",{"channel":"members:a","seq":1}]"#,
        r#"["signal",{"channel":"members:a"}]"#,
        r#"["history",{"channel":"members:a"}]"#,
        r#"["presence",{"channel":"members:a"}]"#,
        r#"["subscribe",{"channel":"token:a"}]"#,
        r#"["subscribe",{"channel":"@ann"}]"#,
        r#"["subscribe",{"channel":"no-rule"}]"#,
    ] {
        world.send(&mut eve, &format!("421{command}"));
        world.access.answer_all();
        let packets = world.receive(&mut eve);
        assert_eq!(acked(&packets[0])["error"]["code"], "forbidden", "{command}: {packets:?}");
    }
}

/// The CONNECT of an XPUSH 0.1 client that calls itself `ann`.
pub(super) fn old(channel: &str) -> String {
    format!(r#"40/channel,{{"A":"demo","C":"{channel}","U":"ann"}}"#)
}

#[test]
fn an_old_client_is_a_member_of_nothing_whatever_it_claims() {
    let mut world = World::new();
    world.access.enter("members:a", "0.1:ann");
    let mut ann = world.open("", None);
    world.send(&mut ann, &old("members:a"));
    let packets = world.receive(&mut ann);
    assert!(packets[0].starts_with("44/channel"), "{packets:?}");
    assert_eq!(world.access.waiting(), 0);
    world.send(&mut ann, &old("open:a"));
    let packets = world.receive(&mut ann);
    assert!(packets[0].starts_with("40/channel"), "{packets:?}");
}

#[test]
fn a_lost_membership_ends_the_subscription_and_the_right_to_publish() {
    let mut world = World::new();
    world.access.enter("members:a", "ann");
    let (mut ann, mut other) = (world.user("ann"), world.user("ann"));
    for client in [&mut ann, &mut other] {
        world.send(client, r#"421["subscribe",{"channel":"members:a"}]"#);
        world.access.answer_all();
        assert!(acked(&world.receive(client)[0])["ok"].is_object());
    }
    world.access.leave("members:a", "ann");
    // While ACCESS is asked anew, the old answer is good for nothing.
    world.send(&mut ann, r#"421["publish",{"channel":"members:a","data":1}]"#);
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.access.answer_all();
    world.turn();
    world.access.answer_all();
    let packets = world.receive(&mut ann);
    assert_eq!(pushed(&packets, "unsubscribed")["error"]["code"], "forbidden");
    let ack = packets.iter().find(|packet| packet.starts_with("43")).unwrap();
    assert_eq!(acked(ack)["error"]["code"], "forbidden", "{packets:?}");
    assert_eq!(pushed(&world.receive(&mut other), "unsubscribed")["channel"], "members:a");
}

#[test]
fn a_change_while_access_is_being_asked_asks_again() {
    let mut world = World::new();
    world.access.enter("members:a", "ann");
    let mut ann = world.user("ann");
    world.send(&mut ann, r#"421["publish",{"channel":"members:a","data":1}]"#);
    // The answer is under way when the membership is lost.
    world.access.answer_all();
    world.access.leave("members:a", "ann");
    let mut late = world.user("bob");
    world.access.enter("members:a", "bob");
    world.send(&mut late, r#"421["publish",{"channel":"members:a","data":1}]"#);
    world.access.leave("members:a", "bob");
    world.turn();
    world.access.answer_all();
    world.turn();
    world.access.answer_all();
    assert_eq!(acked(&world.receive(&mut late)[0])["error"]["code"], "forbidden");
}

#[test]
fn a_channels_token_is_good_until_it_expires() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    let until = world.clock.wall() + 30_000;
    world.send(&mut ann, &format!(r#"421["subscribe",{{"channel":"token:a","token":"{until}"}}]"#));
    world.access.answer_all();
    assert!(acked(&world.receive(&mut ann)[0])["ok"].is_object());
    world.send(&mut ann, r#"421["publish",{"channel":"token:a","data":1}]"#);
    assert!(acked(&world.receive(&mut ann)[0])["ok"].is_object());
    world.advance(29_000);
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.advance(1_100);
    let ended = pushed(&world.receive(&mut ann), "unsubscribed");
    assert_eq!(ended["error"]["code"], "token_expired");
    world.send(&mut ann, r#"421["publish",{"channel":"token:a","data":1}]"#);
    world.access.answer_all();
    assert_eq!(acked(&world.receive(&mut ann)[0])["error"]["code"], "forbidden");
}

#[test]
fn who_may_not_read_history_resumes_with_a_hole_that_is_told() {
    let mut world = World::new();
    let mut only = rule("open:*", Who::Anyone);
    only.permissions.history = vec![Who::Server];
    world.access.set_app(true, &[], vec![only]);
    let mut guest = world.connect(None);
    world.receive(&mut guest);
    let begun = world.ask(&mut guest, r#"["subscribe",{"channel":"open:a"}]"#);
    let epoch = begun["ok"]["epoch"].as_str().unwrap().to_owned();
    world.send(&mut guest, r#"42["publish",{"channel":"open:a","data":1}]"#);
    world.receive(&mut guest);
    let since = format!(r#"["subscribe",{{"channel":"open:a","since":{{"epoch":"{epoch}","seq":0}}}}]"#);
    let resumed = world.ask(&mut guest, &since);
    assert_eq!((&resumed["ok"]["recovered"], &resumed["ok"]["missed"]), (&false.into(), &0.into()));
    assert_eq!(world.ask(&mut guest, r#"["history",{"channel":"open:a"}]"#)["error"]["code"], "forbidden");
}
