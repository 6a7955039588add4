//! What servers of adjacent releases say to each other: bytes that a release has written are read by every later one, until their version is given up.
//!
//! A fixture is never changed. A release that writes another version adds a file, and goes on reading the one before.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use xpush_core::message::RecordError;
use xpush_core::placement::{Epsilon, Ring, RingNode, Weight};
use xpush_core::ports::bus::{Enlisting, Envelope, Event, Moved, Signal};
use xpush_core::ports::markers::Mark;
use xpush_core::ports::presence::{Delta, Member};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, Epoch, EventName, Kind, Message, NodeId, NodeName, Payload, Position,
    Revision, Sender, User,
};

fn channel() -> ChannelKey {
    ChannelKey::new(App::new("demo").unwrap(), Channel::new("chat:a").unwrap())
}

fn user(name: &str) -> User {
    User::new(name).unwrap()
}

fn message(kind: Kind) -> Message {
    Message {
        kind,
        channel: channel(),
        position: Some(Position { epoch: Epoch(0xfeed_f00d_dead_beef), seq: 300 }),
        id: ClientId::new("m-1").unwrap(),
        event: EventName::new("message").unwrap(),
        payload: Payload {
            json: Bytes::from_static(br#"{"text":"hi","file":{"_placeholder":true,"num":0}}"#),
            attachments: vec![Bytes::from_static(b"\x00\xff")],
        },
        from: Sender { user: user("ann"), name: Some("Ann".into()) },
        at: 1_767_225_600_000,
        revision: None,
    }
}

/// One of everything that goes over the bus, by the name that its fixture has.
fn events() -> Vec<(&'static str, Event)> {
    let moved = Arc::new(Moved { channel: channel(), user: user("ann"), mark: Mark::Read, seq: 300 });
    let revised = Message {
        revision: Some(Revision { seq: 301, at: 1_767_225_600_001, deleted: false }),
        ..message(Kind::Message)
    };
    let joined = vec![Member { user: user("ben"), name: Some("Ben".into()) }];
    let delta = Delta { users: 2, joined, left: vec![user("eve")] };
    let signal =
        Signal { message: Message { position: None, ..message(Kind::Message) }, ttl_ms: Some(3_000) };
    let enlisting = Enlisting { channel: channel(), user: user("ann"), follows: true };
    vec![
        ("message", Event::Message(Arc::new(message(Kind::Message)))),
        ("silent", Event::Message(Arc::new(message(Kind::Silent)))),
        ("edit", Event::Message(Arc::new(message(Kind::Edit { target: 7 })))),
        ("delete", Event::Message(Arc::new(message(Kind::Delete { target: 7 })))),
        ("revised", Event::Message(Arc::new(revised))),
        ("signal", Event::Signal(Arc::new(signal))),
        ("presence", Event::Presence(channel(), Arc::new(delta))),
        ("marker", Event::Marker(moved.clone())),
        ("own-marker", Event::OwnMarker(moved)),
        ("notify", Event::Notify(Arc::new(message(Kind::Message)))),
        ("enlist", Event::Enlist(Arc::new(enlisting))),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn envelopes_of_version_2_are_read_and_written() {
    let released = include_str!("released/envelopes-2.txt");
    let envelope = |event| Envelope { origin: NodeId::new("node-1").unwrap(), event };
    let line = |(name, event)| format!("{name} {}\n", hex(&envelope(event).encode()));
    let written: String = events().into_iter().map(line).collect();
    assert!(written == released, "{written}\nwhat is written changes with its version only");
    for ((_, event), line) in events().into_iter().zip(released.lines()) {
        let (_, bytes) = line.split_once(' ').unwrap();
        assert_eq!(Envelope::decode(&unhex(bytes)), Ok(envelope(event)), "{line}");
    }
}

#[test]
fn an_envelope_of_a_later_version_is_refused_as_such() {
    // Who is told so goes on by comparing heads: nothing durable is missed.
    let released = include_str!("released/envelopes-2.txt");
    for line in released.lines() {
        let mut later = unhex(line.split(' ').nth(1).unwrap()).to_vec();
        later[0] = 5;
        later.extend(b"what nobody knows yet");
        assert_eq!(Envelope::decode(&Bytes::from(later)), Err(RecordError::Version(5)));
    }
}

#[test]
fn a_ring_of_version_1_is_read_and_written() {
    let released = include_bytes!("released/ring-1.txt");
    let node = |name: &str, points| RingNode {
        name: NodeName::new(name).unwrap(),
        weight: Weight::new(points).unwrap(),
    };
    let scale = NonZeroU64::new(10_000).unwrap();
    let nodes = vec![node("push-1", 4_000), node("push-2", 400), node("push-3", 0)];
    let ring = Ring::new(12, 3, Epsilon::default(), scale, nodes).unwrap();
    assert_eq!(Ring::decode(released).as_ref(), Ok(&ring), "{}", String::from_utf8_lossy(&ring.encode()));
    assert_eq!(&ring.encode()[..], released);
}
