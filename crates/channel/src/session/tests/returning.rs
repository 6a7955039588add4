//! Many who come back to a channel at once, as behind a server that has died: what they ask of the store.

use xpush_testkit::Trouble;

use super::{Client, Value, World, acked};

const CHANNEL: &str = "kept:a";

/// A world whose channel has messages 1 to `count`, and the epoch of it.
fn world(count: u64) -> (World, String) {
    let mut world = World::new();
    let mut writer = world.user("writer");
    let mut epoch = String::new();
    for number in 1..=count {
        let command = format!(r#"["publish",{{"channel":"{CHANNEL}","data":{number}}}]"#);
        let answer = world.ask(&mut writer, &command);
        assert_eq!(answer["ok"]["seq"], number, "{answer}");
        epoch = answer["ok"]["epoch"].as_str().unwrap().to_owned();
    }
    (world, epoch)
}

/// A guest that asks for what it has missed behind `seq`.
fn comes_back(world: &mut World, epoch: &str, seq: u64) -> Client {
    let mut guest = world.connect(None);
    world.receive(&mut guest);
    let since = format!(r#"{{"epoch":"{epoch}","seq":{seq}}}"#);
    world.send(&mut guest, &format!(r#"421["subscribe",{{"channel":"{CHANNEL}","since":{since}}}]"#));
    guest
}

/// Whether its subscription was answered, and with which messages.
fn heard(world: &mut World, client: &mut Client) -> Option<(Value, Vec<u64>)> {
    let packets = world.receive(client);
    let answer = packets.iter().find(|packet| packet.starts_with("431["))?;
    let pushes =
        packets.iter().filter_map(|packet| serde_json::from_str::<Value>(packet.strip_prefix("42")?).ok());
    let messages = pushes.filter(|push| push[0] == "message").map(|push| push[1]["seq"].as_u64().unwrap());
    Some((acked(answer), messages.collect()))
}

#[test]
fn one_of_them_reads_for_all_that_have_missed_no_more() {
    let (mut world, epoch) = world(5);
    world.ledger.hold();
    let mut guests: Vec<(u64, Client)> =
        [2, 2, 4, 5, 2, 0, 1].map(|seq| (seq, comes_back(&mut world, &epoch, seq))).into();
    // Behind 2, and behind 0: the rest is in those.
    assert_eq!(world.ledger.waiting(), 2);
    world.ledger.let_go();
    for (seq, guest) in &mut guests {
        let (answer, messages) = heard(&mut world, guest).unwrap();
        assert_eq!((&answer["ok"]["recovered"], &answer["ok"]["missed"]), (&true.into(), &(5 - *seq).into()));
        assert_eq!(messages, (*seq + 1..=5).collect::<Vec<_>>());
    }
}

#[test]
fn whoever_stands_where_the_others_stand_reads_nothing() {
    let (mut world, epoch) = world(5);
    let mut first = comes_back(&mut world, &epoch, 3);
    assert!(heard(&mut world, &mut first).is_some());
    world.ledger.hold();
    let mut second = comes_back(&mut world, &epoch, 5);
    let (answer, messages) = heard(&mut world, &mut second).unwrap();
    assert_eq!((&answer["ok"]["recovered"], &answer["ok"]["seq"]), (&true.into(), &5.into()));
    assert_eq!((messages, world.ledger.waiting()), (vec![], 0));
}

#[test]
fn a_reader_that_leaves_leaves_the_others_their_page() {
    let (mut world, epoch) = world(5);
    world.ledger.hold();
    let mut reader = comes_back(&mut world, &epoch, 2);
    let mut other = comes_back(&mut world, &epoch, 3);
    world.send(&mut reader, "1");
    assert!(heard(&mut world, &mut other).is_none());
    assert_eq!(world.ledger.waiting(), 1);
    world.ledger.let_go();
    assert_eq!(heard(&mut world, &mut other).unwrap().1, [4, 5]);
}

#[test]
fn whom_the_page_does_not_serve_reads_alone() {
    let (mut world, epoch) = world(5);
    world.ledger.hold();
    let mut reader = comes_back(&mut world, &epoch, 2);
    // It has heard of more than the log has: another history than it knew.
    let mut ahead = comes_back(&mut world, &epoch, 9);
    assert_eq!(world.ledger.waiting(), 1);
    world.ledger.let_go();
    assert_eq!(heard(&mut world, &mut reader).unwrap().1, [3, 4, 5]);
    let (answer, messages) = heard(&mut world, &mut ahead).unwrap();
    assert_eq!((&answer["ok"]["recovered"], messages), (&false.into(), vec![1, 2, 3, 4, 5]));
}

#[test]
fn all_who_wait_for_a_page_that_cannot_be_read_are_told() {
    let (mut world, epoch) = world(5);
    world.ledger.hold();
    world.ledger.set_trouble(Trouble { fails: 1.0, ..Trouble::NONE });
    let mut guests = [2, 3].map(|seq| comes_back(&mut world, &epoch, seq));
    world.ledger.let_go();
    for guest in &mut guests {
        let (answer, _) = heard(&mut world, guest).unwrap();
        assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
    }
}
