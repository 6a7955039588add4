//! What publishers and subscribers see of a store that is slow, fails, or is still writing when somebody goes.

use serde_json::{Value, json};
use xpush_testkit::Trouble;

use super::Stage;
use crate::fanout::inbox::Inbox;

#[test]
fn a_publisher_waits_two_seconds_and_finds_its_message_by_its_id() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ok(bob, "subscribe", json!({"channel": "live:a"}));
    stage.ledger.hold();
    let first = stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1, "id": "one"}));
    let second = stage.ask(ann, "publish", json!({"channel": "log:a", "data": 2, "id": "two"}));
    stage.pass(1_900);
    assert_eq!(stage.answer(first), None);
    stage.pass(150);
    assert_eq!(stage.code(first), Some("outcome_unknown"));
    assert_eq!(stage.code(second), Some("unavailable"), "it had no effect, and must not overtake");
    let third = stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1, "id": "one"}));
    assert_eq!(stage.code(third), Some("unavailable"), "at once");
    stage.ok(ann, "publish", json!({"channel": "live:a", "data": 0}));
    assert_eq!(stage.heard(bob, "message").len(), 1, "what is not stored goes on");
    stage.ledger.let_go();
    stage.pass(10);
    let heard: Vec<Value> = stage.heard(bob, "message").into_iter().cloned().collect();
    assert_eq!((&heard[1]["seq"], &heard[1]["data"]), (&json!(1), &json!(1)), "it took effect after all");
    let again = stage.ok(ann, "publish", json!({"channel": "log:a", "data": 1, "id": "one"}));
    assert_eq!(again["seq"], 1);
    assert_eq!(stage.ok(ann, "publish", json!({"channel": "log:a", "data": 2, "id": "two"}))["seq"], 2);
    assert_eq!(stage.heard(bob, "message").len(), 3, "each once");
}

#[test]
fn a_retry_brings_subscribers_what_its_first_append_did_not() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ledger.set_trouble(Trouble { forgets: 1.0, ..Trouble::NONE });
    let lost = stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1, "id": "one"}));
    assert_eq!(stage.code(lost), Some("outcome_unknown"));
    stage.ledger.set_trouble(Trouble::NONE);
    stage.ok(ann, "publish", json!({"channel": "log:a", "data": 1, "id": "one"}));
    assert_eq!(stage.heard(bob, "message").len(), 1);
}

#[test]
fn what_took_its_place_unknown_to_all_is_found_though_nobody_retries() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ledger.set_trouble(Trouble { forgets: 1.0, ..Trouble::NONE });
    stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1, "id": "one"}));
    stage.ledger.set_trouble(Trouble::NONE);
    stage.pass(6_000);
    assert_eq!(stage.heard(bob, "message").len(), 1);
}

#[test]
fn what_took_its_place_unknown_to_all_after_its_publisher_was_told_so_is_found() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ok(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ledger.set_trouble(Trouble { forgets: 1.0, ..Trouble::NONE });
    stage.ledger.hold();
    let lost = stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1}));
    stage.pass(2_050);
    assert_eq!(stage.code(lost), Some("outcome_unknown"));
    stage.ledger.set_trouble(Trouble::NONE);
    stage.ledger.let_go();
    stage.pass(6_000);
    assert_eq!(stage.heard(bob, "message").len(), 1);
}

#[test]
fn a_subscriber_waits_two_seconds_for_the_store() {
    let mut stage = Stage::new();
    let ann = stage.connect("ann");
    stage.ledger.hold();
    let asked = stage.ask(ann, "subscribe", json!({"channel": "log:a"}));
    stage.pass(2_050);
    assert_eq!(stage.code(asked), Some("unavailable"));
    stage.ledger.let_go();
    stage.pass(10);
    assert_eq!(stage.ok(ann, "subscribe", json!({"channel": "log:a"}))["seq"], 0);
}

#[test]
fn whatever_else_is_asked_is_answered_within_two_seconds_and_once() {
    let mut stage = Stage::new();
    let ann = stage.connect("ann");
    stage.ok(ann, "publish", json!({"channel": "log:a", "data": 1}));
    stage.ledger.hold();
    let asked = [
        ("history", json!({"channel": "log:a"}), "unavailable"),
        ("channels", json!({}), "unavailable"),
        ("read", json!({"channel": "log:a", "seq": 1}), "outcome_unknown"),
        ("delivered", json!({"channel": "log:a", "seq": 1}), "outcome_unknown"),
    ];
    let asked = asked.map(|(command, fields, code)| (stage.ask(ann, command, fields), code));
    stage.pass(1_900);
    for (ask, _) in asked {
        assert_eq!(stage.answer(ask), None);
    }
    stage.pass(150);
    for (ask, code) in asked {
        assert_eq!(stage.code(ask), Some(code));
    }
    stage.ledger.let_go();
    stage.pass(2_050);
    for (ask, code) in asked {
        assert_eq!(stage.code(ask), Some(code), "nothing comes behind it");
    }
    assert_eq!(stage.ok(ann, "history", json!({"channel": "log:a"}))["head"], 1);
    assert_eq!(stage.ok(ann, "read", json!({"channel": "log:a", "seq": 1}))["read"], 1);
}

#[test]
fn who_is_told_to_go_hears_first_what_became_of_its_messages() {
    let mut stage = Stage::new();
    let ann = stage.connect("ann");
    stage.ledger.hold();
    let asked = stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1}));
    stage.shared.post_all(|| Inbox::Drain { within_ms: 8_000 });
    stage.pass(500);
    assert_eq!(stage.heard(ann, "moved").len(), 1);
    assert!(stage.heard(ann, "closing").is_empty() && stage.unfinished() == 1);
    stage.ledger.let_go();
    stage.pass(10);
    assert_eq!(stage.answer(asked).unwrap()["ok"]["seq"], 1);
    assert_eq!((stage.heard(ann, "closing").len(), stage.unfinished()), (1, 0));
}

#[test]
fn who_subscribes_when_the_server_begins_to_drain_is_told_that_and_not_that_it_asked_twice() {
    let mut stage = Stage::new();
    let (ann, bob) = (stage.connect("ann"), stage.connect("bob"));
    stage.ledger.hold();
    let overtaken = stage.ask(bob, "subscribe", json!({"channel": "log:a"}));
    stage.ask(bob, "unsubscribe", json!({"channel": "log:a"}));
    stage.pass(10);
    assert_eq!(stage.code(overtaken), Some("cancelled"));
    let asked = stage.ask(ann, "subscribe", json!({"channel": "log:a"}));
    stage.shared.post_all(|| Inbox::Drain { within_ms: 8_000 });
    stage.pass(500);
    assert_eq!(stage.code(asked), Some("draining"));
}

#[test]
fn what_somebody_has_published_who_is_gone_is_waited_for() {
    let mut stage = Stage::new();
    let ann = stage.connect("ann");
    stage.ledger.hold();
    stage.ask(ann, "publish", json!({"channel": "log:a", "data": 1}));
    stage.vanish(ann);
    assert_eq!(stage.unfinished(), 1);
    stage.ledger.let_go();
    stage.pass(10);
    assert_eq!(stage.unfinished(), 0);
}

impl Stage {
    fn unfinished(&self) -> u64 {
        (0..super::SHARDS).map(|shard| self.shared.counters(shard).unfinished.get()).sum()
    }
}
