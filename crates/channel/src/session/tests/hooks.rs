//! An app's back end that answers when the test lets it.

use std::sync::Mutex;

use xpush_core::ports::access::Decided;
use xpush_core::ports::hooks::{Ask, Called, Event, Hooks, Publishing, Route};
use xpush_core::{App, AppLimits, Channel, Code, Problem};

use super::*;

type Asked = (Publishing, Decided<Option<Bytes>>);

/// Is asked before anything is published in `open:*`, and keeps what it is asked and told.
#[derive(Default)]
struct LateHooks {
    asked: Mutex<Vec<Asked>>,
    called: Mutex<Vec<(Called, Decided<Bytes>)>>,
    told: Mutex<Vec<String>>,
    /// What is followed from the beginning beside `brief:lobby`.
    joined: Mutex<Vec<Channel>>,
}

impl Hooks for LateHooks {
    fn tell(&self, event: Event) {
        let told = match event {
            Event::Connected { grant, .. } => format!("+{}", grant.sender.user),
            Event::Disconnected { grant, .. } => format!("-{}", grant.sender.user),
            Event::Occupied(key) => format!("+{}", key.name),
            Event::Vacated(key) => format!("-{}", key.name),
            Event::Message { message, durable } => {
                format!("{}: {:?} {durable}", message.channel.name, message.payload.json)
            }
            Event::Status { .. } => return,
        };
        self.told.lock().unwrap().push(told);
    }

    fn asks(&self, _: &App, ask: Ask, channel: Option<&Channel>) -> bool {
        ask == Ask::Publish && channel.is_some_and(|channel| channel.as_str().starts_with("open:"))
    }

    fn publishing(&self, publishing: Publishing, done: Decided<Option<Bytes>>) {
        self.asked.lock().unwrap().push((publishing, done));
    }

    fn route(&self, _: &App, name: &str) -> Option<Route> {
        match name {
            "hello" => Some(Route::Publish { channel: Channel::new("brief:lobby").unwrap(), echo: true }),
            "compute" => Some(Route::Call),
            _ => None,
        }
    }

    fn joined(&self, _: &App) -> Vec<Channel> {
        let mut joined = vec![Channel::new("brief:lobby").unwrap(), Channel::new("members:a").unwrap()];
        joined.extend(self.joined.lock().unwrap().iter().cloned());
        joined
    }

    fn call(&self, called: Called, done: Decided<Bytes>) {
        self.called.lock().unwrap().push((called, done));
    }
}

impl LateHooks {
    /// Answers the only question that waits.
    fn answer(&self, answer: Result<Option<&str>, Problem>) -> Publishing {
        let (asked, done) = {
            let mut all = self.asked.lock().unwrap();
            assert_eq!(all.len(), 1, "one at a time");
            all.remove(0)
        };
        done(answer.map(|data| data.map(|data| Bytes::copy_from_slice(data.as_bytes()))));
        asked
    }

    fn waiting(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn world() -> (World, Arc<LateHooks>) {
    let world = World::new();
    let hooks = Arc::new(LateHooks::default());
    world.shared.hook(hooks.clone());
    (world, hooks)
}

#[test]
fn who_is_asked_about_waits_in_order_and_nobody_else_does() {
    let (mut world, hooks) = world();
    let (mut ann, mut bob) = (world.user("ann/a"), world.user("bob/b"));
    for number in 1..=3 {
        world.send(&mut ann, &format!(r#"42{number}["publish",{{"channel":"open:a","data":{number}}}]"#));
    }
    world.send(&mut ann, r#"424["history",{"channel":"open:a"}]"#);
    assert!(world.receive(&mut ann).is_empty());
    assert_eq!(
        world.ask(&mut bob, r#"["publish",{"channel":"brief:x","data":0}]"#)["ok"]["channel"],
        "brief:x"
    );
    let asked = hooks.answer(Ok(None));
    assert_eq!((asked.grant.sender.user.as_str(), &asked.data[..]), ("ann", &b"1"[..]));
    world.turn();
    hooks.answer(Err(Problem::new(Code::Forbidden, "no twos")));
    world.turn();
    hooks.answer(Ok(Some(r#"{"three":3}"#)));
    let packets = world.receive(&mut ann);
    let ack = |number: u32| {
        let head = format!("43{number}[");
        acked(packets.iter().find(|packet| packet.starts_with(&head)).unwrap())
    };
    assert_eq!((&ack(1)["ok"]["seq"], &ack(3)["ok"]["seq"]), (&1.into(), &2.into()));
    assert_eq!(ack(2)["error"]["message"], "no twos");
    assert_eq!(hooks.waiting(), 0);
    let page = world.ask(&mut ann, r#"["history",{"channel":"open:a"}]"#);
    let data: Vec<_> =
        page["ok"]["messages"].as_array().unwrap().iter().map(|one| one["data"].to_string()).collect();
    assert_eq!(data, ["1", r#"{"three":3}"#]);
}

#[test]
fn what_cannot_be_sent_is_not() {
    let (mut world, hooks) = world();
    let mut ann = world.user("ann/a");
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    for bad in ["{", "", "1 2", &deep, "\u{1}"] {
        world.send(&mut ann, r#"421["publish",{"channel":"open:a","data":1}]"#);
        hooks.answer(Ok(Some(bad)));
        let packets = world.receive(&mut ann);
        assert_eq!(acked(&packets[0])["error"]["code"], "unavailable", "{bad}");
    }
    let page = world.ask(&mut ann, r#"["history",{"channel":"open:a"}]"#);
    assert_eq!(page["ok"]["head"], 0);
}

#[test]
fn who_has_gone_meanwhile_publishes_nothing() {
    let (mut world, hooks) = world();
    let mut ann = world.user("ann/a");
    world.send(&mut ann, r#"421["publish",{"channel":"open:a","data":1}]"#);
    world.send(&mut ann, r#"422["publish",{"channel":"open:a","data":2}]"#);
    world.send(&mut ann, "1");
    assert_eq!(world.sessions(), 0);
    hooks.answer(Ok(None));
    world.turn();
    assert_eq!(hooks.waiting(), 0, "what was behind it is not asked about");
    let mut bob = world.user("bob/b");
    let page = world.ask(&mut bob, r#"["history",{"channel":"open:a"}]"#);
    assert_eq!(page["ok"]["head"], 0);
}

#[test]
fn who_leaves_and_comes_again_on_the_same_connection_gets_no_old_answer() {
    let (mut world, hooks) = world();
    let mut ann = world.user("ann/a");
    world.send(&mut ann, r#"421["publish",{"channel":"open:a","data":1}]"#);
    world.send(&mut ann, "41");
    world.send(&mut ann, r#"40{"token":"ann/a"}"#);
    world.access.answer_all();
    world.receive(&mut ann);
    world.send(&mut ann, r#"422["publish",{"channel":"open:a","data":2}]"#);
    let (first, done) = hooks.asked.lock().unwrap().remove(0);
    assert_eq!(&first.data[..], b"1");
    done(Ok(None));
    assert!(world.receive(&mut ann).is_empty());
    hooks.answer(Ok(None));
    let packets = world.receive(&mut ann);
    assert!(packets.len() == 1 && packets[0].starts_with("432["), "{packets:?}");
}

#[test]
fn plain_clients_follow_from_the_beginning_what_they_may() {
    let (mut world, hooks) = world();
    let (mut ann, mut guest) = (world.user("ann/a"), world.connect(None));
    world.receive(&mut guest);
    world.send(&mut ann, r#"421["hello","you"]"#);
    let packets = world.receive(&mut ann);
    assert!(packets.contains(&r#"42["hello","you"]"#.to_owned()), "{packets:?}");
    let ack = packets.iter().find(|packet| packet.starts_with("431[")).unwrap();
    assert_eq!(acked(ack)["channel"], "brief:lobby", "without `ok` around it");
    assert_eq!(world.receive(&mut guest), [r#"42["hello","you"]"#]);
    // Whoever subscribes is given pushes instead, and after `unsubscribe` nothing.
    world.ask(&mut guest, r#"["subscribe",{"channel":"brief:lobby"}]"#);
    world.send(&mut ann, r#"42["hello"]"#);
    let packets = world.receive(&mut guest);
    let push = pushed(&packets, "message");
    assert_eq!(
        (packets.len(), &push["event"], &push["data"]),
        (1, &"hello".into(), &Value::Null),
        "{packets:?}"
    );
    world.ask(&mut guest, r#"["unsubscribe",{"channel":"brief:lobby"}]"#);
    world.send(&mut ann, r#"42["hello",1,2]"#);
    assert!(world.receive(&mut guest).is_empty());
    assert!(world.receive(&mut ann).contains(&r#"42["hello",[1,2]]"#.to_owned()));
    world.send(&mut ann, r#"42["nobody knows it",1]"#);
    assert_eq!(pushed(&world.receive(&mut ann), "rejected")["cmd"], "nobody knows it");
    for client in [&mut ann, &mut guest] {
        world.send(client, "1");
    }
    world.turn();
    let told = hooks.told.lock().unwrap().clone();
    let of_lobby: Vec<_> = told.iter().filter(|one| one.contains("lobby")).map(|one| &one[..1]).collect();
    assert_eq!(of_lobby, ["+", "b", "b", "b", "-"], "{told:?}");
    assert!(told.contains(&"+ann".to_owned()) && told.contains(&"-ann".to_owned()), "{told:?}");
    assert!(!told.iter().any(|one| one.contains("members")), "{told:?}");
}

#[test]
fn a_call_holds_up_nothing() {
    let (mut world, hooks) = world();
    let mut ann = world.user("ann/a");
    world.send(&mut ann, r#"421["compute",{"x":1}]"#);
    world.send(&mut ann, r#"422["call",{"name":"compute","data":[2]}]"#);
    assert!(world.ask(&mut ann, r#"["ping"]"#)["ok"]["at"].is_number());
    let called = std::mem::take(&mut *hooks.called.lock().unwrap());
    let data: Vec<_> = called.iter().map(|(called, _)| called.data.clone()).collect();
    assert_eq!(data, [&br#"{"x":1}"#[..], b"[2]"]);
    for ((_, done), answer) in called.into_iter().zip([r#"{"y":1}"#, "true"]) {
        done(Ok(Bytes::from_static(answer.as_bytes())));
    }
    assert_eq!(world.receive(&mut ann), [r#"431[{"y":1}]"#, r#"432[{"ok":true}]"#]);
}

#[test]
fn the_apps_own_limit_holds_for_what_is_published_by_a_route() {
    let (mut world, _) = world();
    world.access.set_limits(AppLimits { payload: Some(8), ..AppLimits::default() });
    let mut ann = world.user("ann/a");
    let (fits, large) = (r#""123456""#, r#""1234567""#);
    for (data, code) in [(fits, Value::Null), (large, "too_large".into())] {
        world.send(&mut ann, &format!(r#"421["hello",{data}]"#));
        let packets = world.receive(&mut ann);
        let ack = packets.iter().find(|packet| packet.starts_with("431[")).unwrap();
        assert_eq!(acked(ack)["error"]["code"], code, "{ack}");
        world.send(&mut ann, &format!(r#"422["call",{{"name":"hello","data":{data}}}]"#));
        let packets = world.receive(&mut ann);
        let ack = packets.iter().find(|packet| packet.starts_with("432[")).unwrap();
        assert_eq!(acked(ack)["error"]["code"], code, "{ack}");
    }
}

#[test]
fn plain_events_that_were_missed_are_not_said_to_be_recovered() {
    for (channel, recovers) in [("brief:x", true), ("kept:x", false)] {
        let (mut world, hooks) = world();
        hooks.joined.lock().unwrap().push(Channel::new(channel).unwrap());
        let pid = |world: &mut World, client: &mut Client| {
            world.access.answer_all();
            let packets = world.receive(client);
            let connect = packets.iter().find_map(|packet| packet.strip_prefix("40")).unwrap();
            let connect: Value = serde_json::from_str(connect).unwrap();
            connect["pid"].as_str().unwrap().to_owned()
        };
        let mut ann = world.connect(Some("ann/a"));
        let first = pid(&mut world, &mut ann);
        world.send(&mut ann, "1");
        let mut bob = world.user("bob/b");
        world.send(&mut bob, &format!(r#"421["publish",{{"channel":"{channel}","data":1}}]"#));
        let mut ann = world.open("", None);
        world.send(&mut ann, &format!(r#"40{{"token":"ann/a","pid":"{first}"}}"#));
        assert_eq!(pid(&mut world, &mut ann) == first, recovers, "{channel}");
    }
}
