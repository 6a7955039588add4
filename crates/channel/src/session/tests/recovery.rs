//! Connection state recovery as a stock Socket.IO client asks for it: who gets back what, and who is told that nothing was.

use proptest::prelude::*;
use xpush_core::Clock;

use super::*;
use crate::session::recovery::Claim;

const KEPT_MS: u64 = 120_000;

/// What stock clients remember of their connections.
struct Memory {
    /// What it says of itself: JSON members.
    auth: &'static str,
    client: Client,
    pid: Option<String>,
    offset: Option<String>,
    /// What the last CONNECT came to.
    recovered: bool,
    /// The messages since, as `CHANNEL DATA`.
    messages: Vec<String>,
    /// Other pushes since, by name.
    pushes: Vec<String>,
}

fn follow(world: &mut World, memory: &mut Memory, channel: &str) {
    let command = format!(r#"421["subscribe",{{"channel":"{channel}"}}]"#);
    world.send(&mut memory.client, &command);
    world.access.answer_all();
    take(world, memory);
}

fn publish(world: &mut World, channel: &str, data: std::ops::RangeInclusive<u32>) {
    let mut writer = world.user("writer");
    for data in data {
        world.ask(&mut writer, &format!(r#"["publish",{{"channel":"{channel}","data":{data}}}]"#));
    }
    world.send(&mut writer, "1");
}

/// What came, as socket.io-client 4.8 takes it.
fn take(world: &mut World, memory: &mut Memory) {
    for packet in world.receive(&mut memory.client) {
        if let Some(connect) = packet.strip_prefix("40") {
            let connect: Value = serde_json::from_str(connect).unwrap();
            let pid = connect["pid"].as_str().map(str::to_owned);
            memory.recovered = pid.is_some() && pid == memory.pid;
            memory.pid = pid;
            assert!(memory.messages.is_empty(), "before CONNECT's answer: {:?}", memory.messages);
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Vec<Value> = serde_json::from_str(event).unwrap();
            let name = event[0].as_str().unwrap();
            if name == "message" {
                let message = format!("{} {}", event[1]["channel"].as_str().unwrap(), event[1]["data"]);
                memory.messages.push(message);
            } else {
                memory.pushes.push(name.to_owned());
            }
            if let Some(offset) = event.last().and_then(Value::as_str)
                && event.len() > 1
            {
                memory.offset = Some(offset.to_owned());
            }
        }
    }
}

fn connect(world: &mut World, auth: &'static str) -> Memory {
    let client = world.open("", None);
    let (pid, offset) = (None, None);
    let (messages, pushes) = (Vec::new(), Vec::new());
    let mut memory = Memory { auth, client, pid, offset, recovered: false, messages, pushes };
    say_connect(world, &mut memory);
    world.access.answer_all();
    take(world, &mut memory);
    assert!(memory.pid.is_some() && !memory.recovered);
    memory
}

fn say_connect(world: &mut World, memory: &mut Memory) {
    let mut members: Vec<String> = Vec::new();
    if let Some(pid) = &memory.pid {
        members.push(format!(r#""pid":"{pid}""#));
        members.extend(memory.offset.as_ref().map(|offset| format!(r#""offset":"{offset}""#)));
    }
    if !memory.auth.is_empty() {
        members.push(memory.auth.to_owned());
    }
    world.send(&mut memory.client, &format!("40{{{}}}", members.join(",")));
}

/// The engine closes: what a lost connection comes to.
fn cut(world: &mut World, memory: &mut Memory) {
    world.send(&mut memory.client, "1");
}

/// Comes again without waiting for ACCESS.
fn begin(world: &mut World, memory: &mut Memory) {
    memory.client = world.open("", None);
    memory.messages.clear();
    memory.pushes.clear();
    say_connect(world, memory);
}

fn again(world: &mut World, memory: &mut Memory) -> bool {
    begin(world, memory);
    while world.access.waiting() > 0 {
        world.access.answer_all();
        world.turn();
    }
    take(world, memory);
    assert!(memory.pushes.contains(&"welcome".to_owned()), "{:?}", memory.pushes);
    memory.recovered
}

fn numbered(channel: &str, data: std::ops::RangeInclusive<u32>) -> Vec<String> {
    data.map(|data| format!("{channel} {data}")).collect()
}

const ANN: &str = r#""token":"ann""#;

#[test]
fn what_was_missed_comes_once_in_order_and_before_what_is_new() {
    for auth in [ANN, "", r#""guest":"0123456789abcdef""#] {
        let mut world = World::new();
        let mut memory = connect(&mut world, auth);
        for channel in ["open:a", "brief:a", "brief:b"] {
            follow(&mut world, &mut memory, channel);
        }
        publish(&mut world, "open:a", 1..=3);
        take(&mut world, &mut memory);
        assert_eq!(memory.messages, numbered("open:a", 1..=3));
        for round in 0..3 {
            let first = 4 + round * 20;
            cut(&mut world, &mut memory);
            publish(&mut world, "open:a", first..=first + 9);
            publish(&mut world, "brief:a", 1..=5);
            assert!(again(&mut world, &mut memory), "{auth}");
            assert_eq!(memory.messages, numbered("open:a", first..=first + 9));
            memory.messages.clear();
            publish(&mut world, "open:a", first + 10..=first + 19);
            publish(&mut world, "brief:b", 7..=7);
            take(&mut world, &mut memory);
            let live = [numbered("open:a", first + 10..=first + 19), numbered("brief:b", 7..=7)].concat();
            assert_eq!(memory.messages, live);
        }
    }
}

#[test]
fn a_guest_without_a_secret_is_the_same_guest() {
    let mut world = World::new();
    let mut memory = connect(&mut world, "");
    let name = |world: &mut World, memory: &mut Memory| {
        let command = r#"["publish",{"channel":"open:name","data":1}]"#;
        world.ask(&mut memory.client, command);
        let mut reader = world.user("reader");
        let page = world.ask(&mut reader, r#"["history",{"channel":"open:name"}]"#);
        page["ok"]["messages"].as_array().unwrap().last().unwrap()["from"]["user"].clone()
    };
    let before = name(&mut world, &mut memory);
    cut(&mut world, &mut memory);
    assert!(again(&mut world, &mut memory));
    assert_eq!(name(&mut world, &mut memory), before);
}

#[test]
fn without_any_message_it_goes_on_where_it_began() {
    let mut world = World::new();
    publish(&mut world, "open:a", 1..=5);
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    for round in 0..3 {
        cut(&mut world, &mut memory);
        // What comes back is lost once more, before the client has seen anything of it.
        begin(&mut world, &mut memory);
        world.access.answer_all();
        cut(&mut world, &mut memory);
        publish(&mut world, "open:a", 6 + round..=6 + round);
    }
    assert!(again(&mut world, &mut memory));
    assert_eq!(memory.messages, numbered("open:a", 6..=8));
}

#[test]
fn an_offset_from_before_the_subscription_does_not_count() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    publish(&mut world, "open:a", 1..=3);
    take(&mut world, &mut memory);
    world.ask(&mut memory.client, r#"["unsubscribe",{"channel":"open:a"}]"#);
    publish(&mut world, "open:a", 4..=6);
    follow(&mut world, &mut memory, "open:a");
    cut(&mut world, &mut memory);
    publish(&mut world, "open:a", 7..=8);
    assert!(again(&mut world, &mut memory));
    assert_eq!(memory.messages, numbered("open:a", 7..=8));
    // Nor does one of another channel.
    world.ask(&mut memory.client, r#"["unsubscribe",{"channel":"open:a"}]"#);
    follow(&mut world, &mut memory, "open:b");
    cut(&mut world, &mut memory);
    publish(&mut world, "open:b", 1..=2);
    assert!(again(&mut world, &mut memory));
    assert_eq!(memory.messages, numbered("open:b", 1..=2));
}

#[test]
fn two_channels_with_history_are_not_recovered_and_one_of_them_only_if_the_offset_tells_of_it() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    let (a, b) = ("open:a", "open:b");
    follow(&mut world, &mut memory, a);
    follow(&mut world, &mut memory, b);
    publish(&mut world, a, 1..=1);
    publish(&mut world, b, 1..=1);
    take(&mut world, &mut memory);
    cut(&mut world, &mut memory);
    assert!(!again(&mut world, &mut memory));
    publish(&mut world, a, 2..=2);
    take(&mut world, &mut memory);
    assert_eq!(memory.messages, Vec::<String>::new(), "nothing is followed");

    for (last, other, recovers) in [(a, b, true), (b, a, false)] {
        follow(&mut world, &mut memory, a);
        follow(&mut world, &mut memory, b);
        publish(&mut world, other, 10..=10);
        publish(&mut world, last, 11..=11);
        take(&mut world, &mut memory);
        world.ask(&mut memory.client, r#"["unsubscribe",{"channel":"open:b"}]"#);
        cut(&mut world, &mut memory);
        publish(&mut world, a, 12..=12);
        assert_eq!(again(&mut world, &mut memory), recovers, "{last} was last");
        assert_eq!(memory.messages, if recovers { numbered(a, 12..=12) } else { Vec::new() });
    }
}

#[test]
fn a_pid_is_good_for_its_user_alone_and_nothing_else_is_one() {
    let mut world = World::new();
    let mut ann = connect(&mut world, ANN);
    follow(&mut world, &mut ann, "open:a");
    let alive = ann.pid.clone();
    for state in ["alive", "gone"] {
        for auth in [r#""token":"eve""#, "", r#""guest":"0123456789abcdef""#] {
            let mut eve = connect(&mut world, auth);
            (eve.pid, eve.offset) = (alive.clone(), None);
            publish(&mut world, "open:a", 1..=1);
            assert!(!again(&mut world, &mut eve), "{state} {auth}");
            assert_ne!(eve.pid, alive);
            assert!(eve.messages.is_empty());
        }
        if state == "alive" {
            take(&mut world, &mut ann);
            assert_eq!(ann.messages.len(), 3, "nobody has taken it over");
            cut(&mut world, &mut ann);
        }
    }
    let good = ann.pid.clone().unwrap();
    let other = if good.ends_with('A') { "Q" } else { "A" };
    for bad in ["", "x", &"A".repeat(30), &format!("{}{other}", &good[..29]), &format!("{good}A")] {
        let mut client = connect(&mut world, ANN);
        client.pid = Some(bad.to_owned());
        assert!(!again(&mut world, &mut client), "{bad}");
    }
    for bad in ["x", "..", "1.2", "1.2.", "1.x.open:a", "1.-1.open:a", "1.99999999999999999999.open:a", "☃"]
    {
        let mut client = connect(&mut world, ANN);
        (client.pid, client.offset) = (Some(good.clone()), Some(bad.to_owned()));
        assert!(!again(&mut world, &mut client), "{bad}");
    }
    assert!(again(&mut world, &mut ann), "it is still there for whom it is");
    assert_eq!(ann.messages.len(), 3);
}

#[test]
fn an_offset_that_was_altered_gives_nothing_that_is_not_ones_own() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    publish(&mut world, "open:a", 1..=3);
    take(&mut world, &mut memory);
    let epoch = memory.offset.as_ref().unwrap().split('.').next().unwrap().to_owned();
    cut(&mut world, &mut memory);
    publish(&mut world, "open:a", 4..=4);
    // Of a channel that it does not follow: as good as none.
    memory.offset = Some(format!("{epoch}.0.members:a"));
    assert!(again(&mut world, &mut memory));
    assert_eq!(memory.messages, numbered("open:a", 1..=4));
    // Beyond what there is.
    for seq in ["99", "9007199254740991", "18446744073709551615"] {
        cut(&mut world, &mut memory);
        memory.offset = Some(format!("{epoch}.{seq}.open:a"));
        assert!(!again(&mut world, &mut memory), "{seq}");
        assert!(memory.messages.is_empty());
        follow(&mut world, &mut memory, "open:a");
    }
}

#[test]
fn two_minutes_it_is_kept_and_not_longer() {
    for (away, recovers) in [(KEPT_MS - 1_000, true), (KEPT_MS + 1_000, false)] {
        let mut world = World::new();
        let mut memory = connect(&mut world, ANN);
        follow(&mut world, &mut memory, "open:a");
        cut(&mut world, &mut memory);
        world.advance(away / 2);
        publish(&mut world, "open:a", 1..=1);
        world.advance(away - away / 2);
        assert_eq!(again(&mut world, &mut memory), recovers);
        assert_eq!(memory.messages.len(), usize::from(recovers));
    }
}

#[test]
fn what_the_history_no_longer_has_is_not_recovered() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    publish(&mut world, "open:a", 1..=1);
    take(&mut world, &mut memory);
    cut(&mut world, &mut memory);
    // 1,000 are kept.
    publish(&mut world, "open:a", 2..=1_100);
    assert!(!again(&mut world, &mut memory));
    assert!(memory.messages.is_empty());
}

#[test]
fn who_leaves_by_itself_leaves_nothing() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    world.send(&mut memory.client, "41");
    let old = memory.pid.clone();
    say_connect(&mut world, &mut memory);
    world.access.answer_all();
    take(&mut world, &mut memory);
    assert!(!memory.recovered && memory.pid != old);
    cut(&mut world, &mut memory);
    memory.pid = old;
    assert!(!again(&mut world, &mut memory));
}

#[test]
fn a_connection_that_hangs_is_taken_over() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    for round in 1..=3 {
        // The server has not noticed that the old one is gone.
        publish(&mut world, "open:a", round..=round);
        assert!(again(&mut world, &mut memory));
        assert_eq!(memory.messages, numbered("open:a", round..=round));
        assert_eq!(world.sessions(), 1);
    }
}

#[test]
fn permissions_are_asked_for_anew_and_commands_wait() {
    let mut world = World::new();
    for channel in ["members:a", "members-brief:a"] {
        world.access.enter(channel, "ann");
    }
    let mut memory = connect(&mut world, ANN);
    for channel in ["members-brief:a", "members:a", "brief:a"] {
        follow(&mut world, &mut memory, channel);
    }
    cut(&mut world, &mut memory);
    begin(&mut world, &mut memory);
    world.send(&mut memory.client, r#"427["publish",{"channel":"members-brief:a","data":1}]"#);
    world.access.answer(0);
    world.turn();
    // It breaks once more while the permission is asked for.
    cut(&mut world, &mut memory);
    world.access.answer_all();
    begin(&mut world, &mut memory);
    world.send(&mut memory.client, r#"427["publish",{"channel":"members-brief:a","data":2}]"#);
    while world.access.waiting() > 0 {
        take(&mut world, &mut memory);
        assert!(memory.messages.is_empty());
        world.access.answer(0);
        world.turn();
    }
    take(&mut world, &mut memory);
    assert!(memory.recovered);
    assert_eq!(memory.messages, ["members-brief:a 2"], "it is followed again before the command runs");

    // One that is lost in a channel without history ends that subscription; in the other, nothing is recovered.
    cut(&mut world, &mut memory);
    world.access.leave("members-brief:a", "ann");
    assert!(again(&mut world, &mut memory));
    assert!(memory.pushes.contains(&"unsubscribed".to_owned()), "{:?}", memory.pushes);
    publish(&mut world, "brief:a", 3..=3);
    take(&mut world, &mut memory);
    assert_eq!(memory.messages, ["brief:a 3"]);
    cut(&mut world, &mut memory);
    world.access.leave("members:a", "ann");
    assert!(!again(&mut world, &mut memory));
}

#[test]
fn whoever_was_revoked_is_refused() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    world.access.revoke("ann", 1);
    world.turn();
    assert_eq!(world.sessions(), 1, "it says good-bye");
    memory.client = world.open("", None);
    say_connect(&mut world, &mut memory);
    world.access.answer_all();
    let packets = world.receive(&mut memory.client);
    assert!(packets.len() == 1 && packets[0].starts_with("44"), "{packets:?}");
}

#[test]
fn who_comes_with_a_new_token_goes_on_by_that() {
    for alive in [false, true] {
        let mut world = World::new();
        let end = world.clock.wall() + 60_000;
        let token = |issued, ends| -> &'static str {
            Box::leak(format!(r#""token":"ann/{issued}/{ends}""#).into_boxed_str())
        };
        let mut memory = connect(&mut world, token(end - 120_000, end));
        follow(&mut world, &mut memory, "open:a");
        if !alive {
            // The token's end ends the connection.
            world.advance(70_000);
            publish(&mut world, "open:a", 1..=1);
        }
        memory.auth = token(end, end + 300_000);
        assert!(again(&mut world, &mut memory));
        assert_eq!(memory.messages.len(), usize::from(!alive));
        world.advance(70_000);
        assert!(world.ask(&mut memory.client, r#"["ping"]"#)["ok"].is_object(), "alive {alive}");
    }
}

#[test]
fn a_guest_without_a_secret_comes_back_only_while_it_is_welcome() {
    let mut world = World::new();
    let mut memory = connect(&mut world, "");
    follow(&mut world, &mut memory, "open:a");
    world.ask(&mut memory.client, r#"["publish",{"channel":"open:name","data":1}]"#);
    let mut reader = world.user("reader");
    let page = world.ask(&mut reader, r#"["history",{"channel":"open:name"}]"#);
    let name = page["ok"]["messages"][0]["from"]["user"].as_str().unwrap().to_owned();
    world.access.revoke(&name, 1);
    world.turn();
    // A minute later, the shards have forgotten it.
    world.advance(70_000);
    world.access.revoke("bob", 1);
    world.turn();
    begin(&mut world, &mut memory);
    world.access.answer_all();
    let packets = world.receive(&mut memory.client);
    assert!(packets.len() == 1 && packets[0].starts_with("44"), "{packets:?}");
    assert!(packets[0].contains(r#""code":"revoked""#), "{packets:?}");
}

#[test]
fn an_unanswered_subscription_is_not_forgotten_in_silence() {
    let mut world = World::new();
    let mut memory = connect(&mut world, ANN);
    follow(&mut world, &mut memory, "open:a");
    world.send(&mut memory.client, r#"421["subscribe",{"channel":"members:a"}]"#);
    assert_eq!(world.access.waiting(), 1);
    cut(&mut world, &mut memory);
    assert!(!again(&mut world, &mut memory), "the client asks again for both");
}

proptest! {
    #[test]
    fn whatever_a_client_claims_is_read_or_not(pid in "\\PC*", offset in "\\PC*", like in "[0-9a-f]{1,20}\\.[0-9]{1,25}\\..{0,200}") {
        for offset in [offset, like] {
            let object = serde_json::json!({"pid": pid, "offset": offset}).to_string();
            let members = xpush_wire::json::members(&object).into_iter().flatten();
            prop_assert!(Claim::read(members).is_none());
            let object = serde_json::json!({"pid": "A".repeat(30), "offset": offset}).to_string();
            let members = xpush_wire::json::members(&object).into_iter().flatten();
            let _ = Claim::read(members);
        }
    }
}
