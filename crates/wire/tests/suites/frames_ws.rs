//! WebSocket frames against a model that knows nothing of the decoder: scripts of what clients send, cut anywhere.

#![allow(clippy::cast_possible_truncation)]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use xpush_wire::ws::{Decoder, Error, Message, Opcode, frames, write_frame};

const LIMIT: usize = 1 << 20;

/// What a client sends, or what the server understands.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// A message in fragments, each followed by control frames; or control frames alone.
#[derive(Debug, Clone)]
struct Step {
    message: Event,
    cuts: Vec<Index>,
    between: Vec<Event>,
}

impl Event {
    fn payload(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Text(text) => (1, text.clone().into()),
            Self::Binary(data) => (2, data.clone()),
            Self::Close(1005, _) => (8, Vec::new()),
            Self::Close(code, reason) => (8, [&code.to_be_bytes(), reason.as_bytes()].concat()),
            Self::Ping(data) => (9, data.clone()),
            Self::Pong(data) => (10, data.clone()),
        }
    }
}

impl From<Message<'_>> for Event {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(data) => Self::Binary(data.to_owned()),
            Message::Ping(data) => Self::Ping(data.to_owned()),
            Message::Pong(data) => Self::Pong(data.to_owned()),
            Message::Close(code, reason) => Self::Close(code, reason.to_owned()),
        }
    }
}

fn control() -> impl Strategy<Value = Event> {
    prop_oneof![
        vec(any::<u8>(), 0..=125).prop_map(Event::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Event::Pong),
        (prop_oneof![1000..=1003u16, 1007..=1014u16, 3000..=4999u16], "\\PC{0,30}")
            .prop_map(|(code, reason)| Event::Close(code, reason)),
        Just(Event::Close(1005, String::new())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let message = prop_oneof![
        3 => any::<String>().prop_map(Event::Text),
        1 => vec(any::<u8>(), 0..200).prop_map(Event::Binary),
        1 => vec(any::<u8>(), 120..70_000).prop_map(Event::Binary),
    ];
    (message, vec(any::<Index>(), 0..4), vec(control(), 0..4)).prop_map(|(message, cuts, between)| Step {
        message,
        cuts,
        between,
    })
}

/// The bytes of a script, and what they mean. The masks are taken from `masks` in turn.
fn encode(script: &[Step], masks: &[[u8; 4]]) -> (Vec<u8>, Vec<Event>) {
    let mut masks = masks.iter().cycle();
    let mut bytes = Vec::new();
    let mut meaning = Vec::new();
    let mut frame = |first: u8, payload: &[u8]| {
        let mask = masks.next().expect("endless");
        bytes.push(first);
        if payload.len() < 126 {
            bytes.push(128 + payload.len() as u8);
        } else if payload.len() < 65_536 {
            bytes.extend([254, (payload.len() >> 8) as u8, payload.len() as u8]);
        } else {
            bytes.push(255);
            bytes.extend((0..8).rev().map(|place| (payload.len() >> (8 * place)) as u8));
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    };
    for step in script {
        let (opcode, payload) = step.message.payload();
        let mut cuts: Vec<usize> = step.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(payload.len());
        let mut between = step.between.iter();
        let mut start = 0;
        for (number, end) in cuts.iter().enumerate() {
            let fin = if number + 1 == cuts.len() { 0x80 } else { 0 };
            frame(fin | if number == 0 { opcode } else { 0 }, &payload[start..*end]);
            start = *end;
            if fin != 0 {
                meaning.push(step.message.clone());
            }
            if let Some(control) = between.next() {
                let (opcode, payload) = control.payload();
                frame(0x80 | opcode, &payload);
                meaning.push(control.clone());
            }
        }
    }
    (bytes, meaning)
}

/// Cuts the bytes into pieces of these sizes, in turn, and decodes them up to the first error.
fn decode(mut bytes: Vec<u8>, sizes: &[usize], limit: usize) -> (Vec<Event>, Option<Error>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut rest = &mut bytes[..];
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = rest.len().min(*sizes.next().expect("endless"));
        let mut input = rest.split_off_mut(..size).expect("not more than there is");
        loop {
            match decoder.next(&mut input, limit) {
                Ok(Some(message)) => events.push(message.into()),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty());
    }
    (events, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn scripts_mean_the_same_however_they_are_cut(
        script in vec(step(), 1..6),
        masks in vec(any::<[u8; 4]>(), 1..8),
        sizes in vec(prop_oneof![1..20usize, 1..3000usize], 1..8),
    ) {
        let (bytes, meaning) = encode(&script, &masks);
        prop_assert_eq!(decode(bytes.clone(), &[usize::MAX], LIMIT), (meaning.clone(), None));
        prop_assert_eq!(decode(bytes, &sizes, LIMIT), (meaning, None));
    }

    #[test]
    fn damaged_scripts_fail_alike_however_they_are_cut(
        script in vec(step(), 1..4),
        masks in vec(any::<[u8; 4]>(), 1..4),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        sizes in vec(1..40usize, 1..8),
        limit in prop_oneof![Just(LIMIT), 0..400usize],
    ) {
        let (mut bytes, _) = encode(&script, &masks);
        for (at, byte) in damage {
            // rather at the front: most of a long message is payload
            let front = bytes.len().min(200);
            bytes[at.index(front)] = byte;
        }
        let whole = decode(bytes.clone(), &[usize::MAX], limit);
        prop_assert_eq!(decode(bytes.clone(), &sizes, limit), whole.clone());
        prop_assert_eq!(decode(bytes, &[1], limit), whole);
    }

    #[test]
    fn the_limit_is_exact(step in step(), masks in vec(any::<[u8; 4]>(), 1..4), sizes in vec(1..3000usize, 1..4)) {
        let (bytes, meaning) = encode(std::slice::from_ref(&step), &masks);
        let len = step.message.payload().1.len();
        prop_assert_eq!(decode(bytes.clone(), &sizes, len), (meaning.clone(), None));
        if let Some(less) = len.checked_sub(1) {
            let (events, error) = decode(bytes, &sizes, less);
            prop_assert_eq!(error, Some(Error::TooLarge));
            prop_assert!(meaning.starts_with(&events) && !events.contains(&step.message));
        }
    }

    #[test]
    fn written_frames_are_found_again(
        written in vec((any::<bool>(), prop_oneof![vec(any::<u8>(), 0..300), vec(any::<u8>(), 65_530..65_540)]), 0..5),
    ) {
        let mut chunk = Vec::new();
        let mut expected = Vec::new();
        for (text, payload) in written {
            let opcode = if text { Opcode::Text } else { Opcode::Binary };
            write_frame(opcode, &payload, &mut chunk);
            expected.push((opcode, Bytes::from(payload)));
        }
        let chunk = Bytes::from(chunk);
        prop_assert!(frames(&chunk).eq(expected));
    }
}
