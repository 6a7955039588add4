//! Who is online: by all connections of a user, after a grace time, and as an ordered log.

use serde_json::{Value, json};
use xpush_testkit::Trouble;

use super::Stage;

fn states(stage: &Stage, person: usize) -> Vec<String> {
    let told = stage.heard(person, "message").into_iter();
    told.map(|push| format!("{} {}", push["data"]["user"], push["data"]["state"]).replace('"', "")).collect()
}

#[test]
fn a_user_is_as_present_as_its_most_present_connection() {
    let mut stage = Stage::new();
    let (ann, phone, bob) = (stage.connect("ann"), stage.connect("ann/phone"), stage.connect("bob"));
    let state = |stage: &mut Stage| {
        stage.pass(10);
        stage.ok(bob, "status", json!({"users": ["ann", "nobody"]}))["users"].clone()
    };
    let seen = state(&mut stage);
    assert_eq!(
        (&seen[0]["state"], &seen[0]["devices"]),
        (&json!("online"), &json!([{"device": "phone", "state": "online"}]))
    );
    assert_eq!(seen[1], json!({"user": "nobody", "state": "offline"}));
    stage.ok(ann, "status", json!({"state": "away"}));
    assert_eq!(state(&mut stage)[0]["state"], "online", "the phone is");
    stage.ok(phone, "status", json!({"state": "away"}));
    assert_eq!(state(&mut stage)[0]["state"], "away");
    stage.vanish(phone);
    stage.vanish(ann);
    assert_eq!(state(&mut stage)[0]["state"], "away", "the grace time is not over");
    stage.pass(7_000);
    let gone = state(&mut stage);
    assert_eq!(gone[0]["state"], "offline");
    assert!(gone[0]["last_seen"].is_u64() && gone[0].get("devices").is_none(), "{gone}");
}

#[test]
fn changes_are_written_in_order_though_the_store_fails() {
    let mut stage = Stage::new();
    let back = stage.connect("back");
    stage.ok(back, "subscribe", json!({"channel": "$presence"}));
    stage.ledger.set_trouble(Trouble { fails: 0.5, forgets: 0.5, ..Trouble::NONE });
    let mut expected = Vec::new();
    for name in ["ann", "bob", "cid", "dan", "eve"] {
        let person = stage.connect(name);
        expected.push(format!("{name} online"));
        stage.ask(person, "status", json!({"state": "away"}));
        expected.push(format!("{name} away"));
    }
    stage.ledger.set_trouble(Trouble::NONE);
    stage.pass(3_000);
    let page = stage.ok(back, "history", json!({"channel": "$presence", "limit": 100}));
    let written = page["messages"].as_array().unwrap().iter();
    let written: Vec<String> = written
        .map(|message: &Value| {
            format!("{} {}", message["data"]["user"], message["data"]["state"]).replace('"', "")
        })
        .collect();
    assert_eq!(written[1..], expected, "`back` came first of all");
    assert_eq!(states(&stage, back), expected, "and is told live");
    let ann = stage.connect("ann");
    let refused = stage.ask(ann, "subscribe", json!({"channel": "$presence"}));
    assert_eq!(stage.code(refused), Some("forbidden"));
}
