//! WebSockets that probe for a polling session: what they may do, and for how long.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::*;
use crate::transport::Probe;

/// What a probe's hanging poll may take, and the precision of timers, in ms.
const ROUND: u64 = 100 + 16;
const TEXT: u8 = 0x81;
const PONG: u8 = 0x8a;

/// The client's end of a probe for its session.
fn probe(world: &mut World, client: &Client) -> TcpStream {
    let (stream, socket) = streams();
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let probe = Probe { sid: client.sid, stream, early: Bytes::new(), response: Bytes::new() };
    world.shared.mailbox(client.shard).post(Inbox::Probe(Box::new(probe)));
    world.turn();
    socket
}

/// What the server says to that on the probe; nothing when it closes it.
fn say(world: &mut World, client: &Client, mut socket: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    socket.write_all(bytes).unwrap();
    let mut said = [0; 64];
    for _ in 0..1_000 {
        hear(world, client);
        match socket.read(&mut said) {
            Ok(n) => return said[..n].to_vec(),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it says nothing")
}

/// As when epoll says that the probe is readable.
fn hear(world: &mut World, client: &Client) {
    let shard = &mut world.shards[usize::from(client.shard)];
    shard.take_unread();
    shard.read_probe(client.sid.handle);
    world.turn();
}

fn ping(world: &mut World, client: &Client, socket: &TcpStream) {
    assert_eq!(say(world, client, socket, &frame(TEXT, "2probe")), b"\x81\x063probe");
}

/// The client goes without a word.
fn end(world: &mut World, client: &Client, socket: &TcpStream) {
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(say(world, client, socket, b""), b"");
}

/// What the hanging poll got.
fn got(client: &mut Client) -> Vec<String> {
    client.take();
    std::mem::take(&mut client.packets)
}

#[test]
fn a_hanging_poll_is_ended_once_a_round() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    let socket = probe(&mut world, &ann);
    ping(&mut world, &ann, &socket);
    assert_eq!(world.receive(&mut ann), ["6"]);
    for _ in 0..3 {
        world.advance(ROUND);
        assert_eq!(got(&mut ann), ["6"]);
        assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    }
}

#[test]
fn a_poll_that_was_given_up_is_not_ended() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    ann.poll = None;
    let socket = probe(&mut world, &ann);
    ping(&mut world, &ann, &socket);
    (0..5).for_each(|_| world.advance(ROUND));
    assert_eq!(world.receive(&mut ann), [] as [String; 0]);
    world.advance(ROUND);
    assert_eq!(got(&mut ann), ["6"]);
}

#[test]
fn a_second_ping_ends_the_probe_and_the_session_goes_on() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    for both in [false, true] {
        let socket = probe(&mut world, &ann);
        let mut pings = frame(TEXT, "2probe");
        if both {
            pings.extend(frame(TEXT, "2probe"));
        } else {
            ping(&mut world, &ann, &socket);
        }
        assert_eq!(say(&mut world, &ann, &socket, &pings), b"");
    }
    world.receive(&mut ann);
    assert!(world.ask(&mut ann, r#"["ping",{}]"#)["ok"].is_object());
    // And may be upgraded.
    let socket = probe(&mut world, &ann);
    ping(&mut world, &ann, &socket);
}

#[test]
fn a_probe_is_not_woken_by_an_earlier_ones_timers() {
    let mut world = World::new();
    let mut ann = world.user("ann");
    let first = probe(&mut world, &ann);
    ping(&mut world, &ann, &first);
    world.receive(&mut ann);
    end(&mut world, &ann, &first);

    world.advance(9_000);
    world.receive(&mut ann);
    let second = probe(&mut world, &ann);
    (0..3).for_each(|_| world.advance(ROUND));
    assert_eq!(got(&mut ann), [] as [String; 0], "the second one has not pinged");
    // The first one's time is over, not the second one's.
    world.advance(1_000);
    ping(&mut world, &ann, &second);
    world.advance(9_000);
    assert_eq!(say(&mut world, &ann, &second, b""), b"");
}

#[test]
fn a_probe_that_floods_gets_no_more_than_its_share_of_a_turn() {
    let mut world = World::new();
    let ann = world.user("ann");
    let mut socket = probe(&mut world, &ann);
    let shard = usize::from(ann.shard);
    world.shards[shard].buffer = vec![0; 64];
    let flood = [frame(PONG, "").repeat(1_000), frame(TEXT, "2probe")].concat();
    socket.write_all(&flood).unwrap();
    for _ in 0..1_000 {
        world.shards[shard].read_probe(ann.sid.handle);
        if !world.shards[shard].unread.is_empty() {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(world.shards[shard].unread, [ann.sid.handle]);
    // What is left is read in the turns that follow, though epoll tells of nothing new.
    let mut turns = 0;
    while !world.shards[shard].unread.is_empty() {
        world.shards[shard].take_unread();
        turns += 1;
    }
    let mut said = [0; 8];
    socket.read_exact(&mut said).unwrap();
    assert!(said == *b"\x81\x063probe" && turns >= flood.len() / 256, "{turns}");
}
