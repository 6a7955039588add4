//! Who is let in, and what happens to what they send before that is known.

use std::io::Read;

use xpush_core::{AppLimits, Clock};

use super::permissions::old;
use super::*;

#[test]
fn a_guest_is_welcome_at_once_and_nobody_is_asked() {
    let mut world = World::new();
    let mut guest = world.connect(None);
    let packets = world.receive(&mut guest);
    assert_eq!(pushed(&packets, "welcome")["guest"], true);
    assert!(world.shards.iter_mut().all(|shard| {
        let handles = shard.sessions.handles();
        handles.into_iter().all(|handle| shard.sessions.get(handle).is_none_or(|one| one.gate.is_none()))
    }));
    assert_eq!(world.access.waiting(), 0);
}

#[test]
fn who_is_welcome_is_told_how_much_it_may_send() {
    let mut world = World::with(Limits { events_per_second: 30, ..Limits::default() });
    for (own, rate) in [(None, 30), (Some(7), 7), (Some(0), 0)] {
        world.access.set_limits(AppLimits { events_per_second: own, ..AppLimits::default() });
        let mut guest = world.connect(None);
        assert_eq!(pushed(&world.receive(&mut guest), "welcome")["rate"], rate);

        let (stream, mut socket) = streams();
        let connect = frame(0x81, r#"{"id":1,"cmd":"connect"}"#).into();
        let by = By::WebSocket { stream, early: connect, response: Bytes::new() };
        world.come(Wire::Plain, "", None, by);
        let mut answer = [0; 256];
        let n = socket.read(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer[2..n]).unwrap();
        assert_eq!(answer["ok"]["rate"], rate, "{answer}");
    }
}

#[test]
fn commands_wait_for_admission_and_then_run_in_order() {
    let mut world = World::new();
    let mut ann = world.connect(Some("ann"));
    world.send(&mut ann, r#"421["subscribe",{"channel":"open:a"}]"#);
    for number in 2..10 {
        world.send(&mut ann, &format!(r#"42{number}["publish",{{"channel":"open:a","data":{number}}}]"#));
    }
    assert_eq!(world.receive(&mut ann), [] as [String; 0], "neither CONNECT nor anything else is answered");
    let mut guest = world.connect(None);
    world.receive(&mut guest);
    let page = world.ask(&mut guest, r#"["history",{"channel":"open:a"}]"#);
    assert_eq!(page["ok"]["head"], 0, "nothing has run: {page}");

    world.access.answer_all();
    let packets = world.receive(&mut ann);
    assert!(packets[0].starts_with("40{") && packets[1].contains(r#""guest":false"#), "{packets:?}");
    let seen: Vec<_> =
        packets.iter().filter(|packet| packet.starts_with(r#"42["message""#)).cloned().collect();
    assert_eq!(seen.len(), 8);
    for (number, message) in (2..10).zip(seen) {
        assert!(message.contains(&format!(r#""data":{number}"#)), "{message}");
    }
}

#[test]
fn who_is_refused_has_done_nothing() {
    let mut world = World::new();
    let mut stranger = world.connect(Some("-eve"));
    world.send(&mut stranger, r#"421["publish",{"channel":"open:a","data":1}]"#);
    world.access.answer_all();
    let packets = world.receive(&mut stranger);
    assert!(packets.len() == 1 && packets[0].starts_with("44{"), "{packets:?}");
    assert!(packets[0].contains(r#""code":"unauthenticated""#), "{packets:?}");
    let mut guest = world.connect(None);
    world.receive(&mut guest);
    assert_eq!(world.ask(&mut guest, r#"["history",{"channel":"open:a"}]"#)["ok"]["head"], 0);
    // The connection may try again, as somebody else.
    world.send(&mut stranger, r#"40{"token":"ann"}"#);
    world.access.answer_all();
    assert_eq!(pushed(&world.receive(&mut stranger), "welcome")["user"], "ann");
}

#[test]
fn an_admission_that_is_over_admits_nobody() {
    let mut world = World::new();
    let mut ann = world.connect(Some("ann"));
    // Gone from the namespace, and back as somebody else, before the first answer.
    world.send(&mut ann, "41");
    world.send(&mut ann, r#"40{"token":"bob"}"#);
    world.access.answer(0);
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.access.answer(0);
    assert_eq!(pushed(&world.receive(&mut ann), "welcome")["user"], "bob");
}

#[test]
fn what_is_held_is_bounded() {
    let mut world = World::with(Limits { events_per_second: 0, payload: 10_000, ..Limits::default() });
    let mut ann = world.connect(Some("ann"));
    let filler = "x".repeat(9_000);
    for number in 1..20 {
        let command = format!(r#"42{number}["publish",{{"channel":"open:a","data":"{filler}"}}]"#);
        world.send(&mut ann, &command);
    }
    let packets = world.receive(&mut ann);
    assert_eq!(packets.len(), 16, "{packets:?}");
    assert!(packets.iter().all(|packet| packet.contains(r#""code":"overloaded""#)));
    world.access.answer_all();
    let packets = world.receive(&mut ann);
    assert_eq!(packets.iter().filter(|packet| packet.contains(r#"[{"ok":"#)).count(), 3, "{packets:?}");
}

#[test]
fn who_waits_for_admission_for_too_long_is_cut_off() {
    let mut world = World::new();
    let mut ann = world.connect(Some("ann"));
    let mut silent = world.open("", None);
    world.advance(10_100);
    for client in [&mut ann, &mut silent] {
        let packets = world.receive(client);
        assert_eq!(packets.last().map(String::as_str), Some("1"), "{packets:?}");
    }
    world.advance(10_000);
    assert_eq!(world.sessions(), 0);
    world.access.answer_all();
    world.turn();
}

#[test]
fn a_token_in_the_query_is_shown_once_and_forgotten() {
    let mut world = World::new();
    let opening = Opening { token: Some("ann".into()), origin: None };
    let mut ann = world.open("EIO=4", Some(opening));
    world.send(&mut ann, "40");
    world.access.answer_all();
    assert_eq!(pushed(&world.receive(&mut ann), "welcome")["user"], "ann");
    world.send(&mut ann, "41");
    world.send(&mut ann, "40");
    assert_eq!(pushed(&world.receive(&mut ann), "welcome")["guest"], true);
    assert_eq!(*world.access.tokens.lock().unwrap(), ["ann"]);
}

#[test]
fn a_page_that_only_an_app_welcomes_may_come_to_that_app() {
    let mut world = World::new();
    world.access.set_app(true, &["https://shop.example"], rules());
    for (origin, welcome) in [("https://shop.example", true), ("https://evil.example", false)] {
        let opening = Opening { token: None, origin: Some(origin.into()) };
        let mut page = world.open("", Some(opening));
        world.send(&mut page, "40");
        let packets = world.receive(&mut page);
        assert_eq!(packets[0].starts_with("40{"), welcome, "{packets:?}");
        assert_eq!(packets[0].contains("origin_refused"), !welcome, "{packets:?}");
        world.send(&mut page, &old("open:a"));
        let packets = world.receive(&mut page);
        assert_eq!(packets[0].starts_with("40/channel"), welcome, "{packets:?}");
    }
}

#[test]
fn a_token_that_expires_is_told_renewed_and_ended() {
    let mut world = World::new();
    let now = world.clock.wall();
    let token = |user: &str, left: u64| format!("{user}/{now}/{}", now + left);
    let mut ann = world.user(&token("ann", 600_000));
    world.advance(539_900);
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.advance(200);
    assert_eq!(pushed(&world.receive(&mut ann), "token_expiring")["expires_at"], now + 600_000);

    for other in [token("bob", 900_000), "-".to_owned()] {
        world.send(&mut ann, &format!(r#"421["refresh",{{"token":"{other}"}}]"#));
        world.access.answer_all();
        let refused = acked(&world.receive(&mut ann)[0]);
        assert!(refused["error"]["code"].is_string(), "{refused}");
    }
    world.send(&mut ann, &format!(r#"422["refresh",{{"token":"{}"}}]"#, token("ann", 900_000)));
    world.access.answer_all();
    assert_eq!(acked(&world.receive(&mut ann)[0])["ok"]["expires_at"], now + 900_000);
    // The old token's end is no end.
    world.advance(100_000);
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.advance(201_000);
    assert_eq!(pushed(&world.receive(&mut ann), "token_expiring")["expires_at"], now + 900_000);
    world.advance(60_000);
    assert_eq!(pushed(&world.receive(&mut ann), "closing")["error"]["code"], "token_expired");
}

#[test]
fn a_short_token_is_told_halfway() {
    let mut world = World::new();
    let now = world.clock.wall();
    let mut ann = world.user(&format!("ann/{now}/{}", now + 20_000));
    world.advance(9_900);
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.advance(200);
    pushed(&world.receive(&mut ann), "token_expiring");
}
