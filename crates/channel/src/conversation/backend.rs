//! What an app's own back end has done, without a connection.

use std::sync::mpsc;

use serde_json::{Value, json};
use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{Backend, Ephemeral, Publication};
use xpush_core::ports::message_log::Range;
use xpush_core::{App, Channel, ChannelKey, ClientId, Code, EventName, Kind, Problem, Sender, User};

use super::Stage;
use crate::backend::Behalf;

fn behalf(stage: &Stage) -> Behalf {
    Behalf(stage.shared.clone())
}

fn app(stage: &Stage) -> App {
    stage.shared.access().apps().default.clone().unwrap()
}

fn key(stage: &Stage, channel: &str) -> ChannelKey {
    ChannelKey::new(app(stage), Channel::new(channel).unwrap())
}

fn message(stage: &Stage, channel: &str, data: &str, id: Option<&str>) -> Publication {
    Publication {
        channel: key(stage, channel),
        kind: Kind::Message,
        event: EventName::new("message").unwrap(),
        data: data.to_owned().into(),
        id: id.map(|id| ClientId::new(id).unwrap()),
        from: Sender { user: User::new("server").unwrap(), name: None },
    }
}

/// Starts something; what it comes to, once it has.
fn begin<T: Send + 'static>(start: impl FnOnce(Decided<T>)) -> mpsc::Receiver<Result<T, Problem>> {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| drop(sender.send(result))));
    receiver
}

fn publish(
    stage: &Stage,
    publications: Vec<Publication>,
) -> mpsc::Receiver<Result<Vec<Result<String, Problem>>, Problem>> {
    begin(|done| behalf(stage).publish(publications, done))
}

fn object(result: &Result<String, Problem>) -> Value {
    serde_json::from_str(result.as_ref().unwrap()).unwrap()
}

#[test]
fn a_back_ends_messages_take_their_places_among_all_others() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ok(ann, "publish", json!({"channel": "log:a", "data": 0}));
    let data = ["[ 1,\t2 ]", "\"\\u00e9\"", "{\"a\":1,\"a\":2}"];
    let messages = data.map(|data| message(&stage, "log:a", data, None)).to_vec();
    let answer = publish(&stage, messages);
    stage.go_on();
    let answer = answer.try_recv().unwrap().unwrap();
    let seqs: Vec<_> = answer.iter().map(|one| object(one)["seq"].clone()).collect();
    assert_eq!(seqs, [json!(2), json!(3), json!(4)]);
    let heard: Vec<_> = stage.heard(bob, "message").iter().map(|push| push["seq"].clone()).collect();
    assert_eq!(heard, [1, 2, 3, 4]);
    let page = begin(|done| behalf(&stage).history(&key(&stage, "log:a"), Range::After(1), 10, done));
    stage.go_on();
    let page = page.try_recv().unwrap().unwrap();
    for data in data {
        assert!(page.contains(&format!("\"data\":{data}")), "{page}");
    }
}

#[test]
fn the_same_id_is_stored_once() {
    let mut stage = Stage::new();
    let bob = stage.connect("bob");
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    let mut answers = Vec::new();
    for data in ["1", "2"] {
        let answer = publish(&stage, vec![message(&stage, "log:a", data, Some("once"))]);
        stage.go_on();
        answers.push(object(&answer.try_recv().unwrap().unwrap()[0]));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(stage.heard(bob, "message").len(), 1);
}

#[test]
fn each_message_of_a_batch_has_its_own_answer() {
    let mut stage = Stage::new();
    let bob = stage.connect("bob");
    stage.ok(bob, "subscribe", json!({"channel": "live:a"}));
    let deep = format!("{}{}", "[".repeat(31), "]".repeat(31));
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    let mut reserved = message(&stage, "log:a", "1", None);
    reserved.event = EventName::new("disconnect").unwrap();
    let mut edit = message(&stage, "log:a", "1", None);
    edit.kind = Kind::Edit { target: 99 };
    let mut no_history = message(&stage, "live:a", "1", None);
    no_history.kind = Kind::Delete { target: 1 };
    let messages = vec![
        message(&stage, "log:a", "1", None),
        message(&stage, "nowhere", "1", None),
        message(&stage, "$presence", "1", None),
        message(&stage, "log:a", &deep, None),
        message(&stage, "log:a", &deep[1..61], None),
        message(&stage, "log:a", "{", None),
        message(&stage, "log:a", &large, None),
        reserved,
        edit,
        no_history,
        message(&stage, "live:a", "2", None),
    ];
    let answer = publish(&stage, messages);
    stage.go_on();
    let answer = answer.try_recv().unwrap().unwrap();
    let codes: Vec<_> = answer.iter().map(|one| one.as_ref().err().map(|problem| problem.code)).collect();
    let expected = [
        None,
        Some(Code::NotFound),
        Some(Code::Forbidden),
        Some(Code::BadJson),
        None,
        Some(Code::BadJson),
        Some(Code::TooLarge),
        Some(Code::BadEvent),
        Some(Code::UnknownMessage),
        Some(Code::NoHistory),
        None,
    ];
    assert_eq!(codes, expected);
    assert_eq!((&object(&answer[4])["seq"], stage.heard(bob, "message").len()), (&json!(2), 1));
    let none = publish(&stage, Vec::new());
    assert_eq!(none.try_recv().unwrap().unwrap().len(), 0);
}

#[test]
fn a_back_end_changes_everybodys_messages() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ok(ann, "publish", json!({"channel": "log:a", "data": "rude"}));
    let mut delete = message(&stage, "log:a", "", None);
    delete.kind = Kind::Delete { target: 1 };
    let answer = publish(&stage, vec![delete]);
    stage.go_on();
    assert_eq!(object(&answer.try_recv().unwrap().unwrap()[0])["target"], 1);
    assert_eq!(stage.heard(bob, "delete")[0]["target"], 1);
}

#[test]
fn who_waits_for_a_store_that_does_not_answer_is_told_so() {
    let mut stage = Stage::new();
    stage.ledger.hold();
    let messages = (0..3).map(|_| message(&stage, "log:a", "1", None)).collect();
    let answer = publish(&stage, messages);
    stage.pass(1_900);
    assert!(answer.try_recv().is_err());
    stage.pass(200);
    let answer = answer.try_recv().unwrap().unwrap();
    let codes: Vec<_> = answer.iter().map(|one| one.as_ref().unwrap_err().code).collect();
    assert_eq!(codes, [Code::OutcomeUnknown; 3]);
    let next = publish(&stage, vec![message(&stage, "log:a", "1", None)]);
    stage.go_on();
    assert_eq!(next.try_recv().unwrap().unwrap()[0].as_ref().unwrap_err().code, Code::Unavailable);
}

#[test]
fn a_node_that_stops_leaves_nobody_without_an_answer() {
    let mut stage = Stage::new();
    stage.ledger.hold();
    let answer = publish(&stage, vec![message(&stage, "log:a", "1", None)]);
    stage.go_on();
    stage.shards.clear();
    let answer = answer.try_recv().unwrap().unwrap();
    assert_eq!(answer[0].as_ref().unwrap_err().code, Code::OutcomeUnknown);
}

#[test]
fn signals_are_told_and_channels_counted() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    for (person, channel) in [(ann, "live:a"), (bob, "live:a"), (bob, "live:b"), (bob, "log:c")] {
        stage.ok(person, "subscribe", json!({ "channel": channel }));
    }
    let signal = |ttl_ms| Ephemeral {
        channel: key(&stage, "live:a"),
        event: EventName::new("tick").unwrap(),
        data: "7".into(),
        ttl_ms,
        from: Sender { user: User::new("server").unwrap(), name: None },
    };
    let told = begin(|done| behalf(&stage).signal(signal(Some(60_000)), done));
    let refused = begin(|done| behalf(&stage).signal(signal(Some(60_001)), done));
    assert_eq!(told.try_recv().unwrap().unwrap(), r#"{"channel":"live:a"}"#);
    assert_eq!(refused.try_recv().unwrap().unwrap_err().code, Code::BadField);
    stage.go_on();
    assert_eq!(
        (stage.heard(ann, "signal").len(), &stage.heard(bob, "signal")[0]["ttl"]),
        (1, &json!(60_000))
    );
    let of = app(&stage);
    let mut count = |prefix: &str, after: Option<&str>, limit| {
        let live = begin(|done| behalf(&stage).live(&of, prefix, after, limit, done));
        stage.go_on();
        let live = live.try_recv().unwrap().unwrap();
        assert_eq!(live.missing, [] as [Box<str>; 0]);
        live.told
            .into_iter()
            .map(|one| (one.channel.as_str().to_owned(), one.subscribers))
            .collect::<Vec<_>>()
    };
    assert_eq!(count("", None, 9), [("live:a".into(), 2), ("live:b".into(), 1), ("log:c".into(), 1)]);
    assert_eq!(count("live:", Some("live:a"), 9), [("live:b".into(), 1)]);
    assert_eq!(count("", None, 1), [("live:a".into(), 2)]);
    let census = begin(|done| behalf(&stage).census(vec![of], done));
    stage.go_on();
    let census = census.try_recv().unwrap().unwrap().told.remove(0);
    assert_eq!((census.apps[0].users, census.apps[0].connections), (2, 2));
    assert_eq!((census.counters.connections, census.node.as_str()), (2, behalf(&stage).node()));
}

#[test]
fn a_users_connections_follow_what_its_server_says_within_what_it_may() {
    let mut stage = Stage::new();
    let (phone, laptop, bob) =
        (stage.connect("ann/phone"), stage.connect("ann/laptop"), stage.connect("bob"));
    stage.ok(phone, "subscribe", json!({"channel": "live:a"}));
    let ann = User::new("ann").unwrap();
    let enlist = |stage: &mut Stage, channel: &str, follows| {
        let result = behalf(stage).enlist(&key(stage, channel), &ann, follows);
        stage.go_on();
        result
    };
    enlist(&mut stage, "live:a", true).unwrap();
    assert_eq!(stage.heard(phone, "subscribed").len(), 0, "it follows already");
    assert_eq!(stage.heard(laptop, "subscribed")[0], &json!({"channel": "live:a", "history": false}));
    stage.ok(bob, "publish", json!({"channel": "live:a", "data": 1}));
    assert_eq!((stage.heard(phone, "message").len(), stage.heard(laptop, "message").len()), (1, 1));
    enlist(&mut stage, "team:x", true).unwrap();
    enlist(&mut stage, "$presence", true).unwrap();
    assert_eq!((stage.heard(laptop, "subscribed").len(), stage.heard(laptop, "rejected").len()), (1, 0));
    assert_eq!(enlist(&mut stage, "nowhere", true).unwrap_err().code, Code::NotFound);
    enlist(&mut stage, "live:a", false).unwrap();
    assert_eq!(stage.heard(phone, "unsubscribed")[0]["channel"], "live:a");
    stage.ok(bob, "publish", json!({"channel": "live:a", "data": 2}));
    assert_eq!((stage.heard(phone, "message").len(), stage.heard(laptop, "message").len()), (1, 1));
    for count in 0..200 {
        enlist(&mut stage, "live:b", count % 2 == 0).unwrap();
    }
    assert_eq!(
        stage.ok(phone, "publish", json!({"channel": "live:b", "data": 1}))["channel"],
        "live:b",
        "it is read on"
    );
}
