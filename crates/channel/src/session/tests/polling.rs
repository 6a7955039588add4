//! Polls that are given up before they are answered, and after.

use super::*;

fn publish(world: &mut World, writer: &mut Client, data: u32) {
    world.ask(writer, &format!(r#"["publish",{{"channel":"open:a","data":{data}}}]"#));
}

/// Whoever follows `open:a` with a poll that hangs, and somebody who publishes there.
fn follow(world: &mut World) -> (Client, Client) {
    let mut reader = world.user("ann");
    assert!(world.ask(&mut reader, r#"["subscribe",{"channel":"open:a"}]"#)["ok"].is_object());
    assert!(reader.poll.is_some());
    (reader, world.user("writer"))
}

fn messages(packets: &[String]) -> usize {
    packets.iter().filter(|packet| packet.starts_with(r#"42["message","#)).count()
}

#[test]
fn what_a_poll_would_have_got_that_was_given_up_is_the_next_ones() {
    let mut world = World::new();
    let (mut reader, mut writer) = follow(&mut world);
    publish(&mut world, &mut writer, 1);
    assert_eq!(messages(&world.receive(&mut reader)), 1);
    reader.poll = None;
    (2..=4).for_each(|data| publish(&mut world, &mut writer, data));
    let packets = world.receive(&mut reader);
    assert_eq!(messages(&packets), 3, "{packets:?}");
    for (data, packet) in (2..).zip(&packets) {
        assert!(packet.contains(&format!(r#""data":{data}"#)), "{packets:?}");
    }
    // And so on.
    publish(&mut world, &mut writer, 5);
    assert_eq!(messages(&world.receive(&mut reader)), 1);
}

#[test]
fn who_polls_again_without_the_last_answer_is_to_connect_anew() {
    let mut world = World::new();
    let (mut reader, mut writer) = follow(&mut world);
    publish(&mut world, &mut writer, 1);
    // Its answer is under way, and its connection is gone.
    reader.poll = None;
    publish(&mut world, &mut writer, 2);
    let mut again = world.poll(&reader);
    let answer = again.try_recv();
    assert!(matches!(answer, Ok(Answer::Refused(xpush_core::Code::UnknownSession))), "{answer:?}");
    assert_eq!(world.sessions(), 1, "the writer's");
}
