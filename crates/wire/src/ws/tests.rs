#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use super::*;

const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMIT: usize = 1 << 20;

/// A message with its own storage.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

impl From<Message<'_>> for Got {
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

/// A masked frame whose header says `first`, whatever that is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What the pieces decode to, up to the first error.
fn decode(pieces: &[&[u8]], max: usize) -> (Vec<Got>, Option<Error>) {
    let mut decoder = Decoder::new();
    let mut got = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next(&mut input, max) {
                Ok(Some(message)) => got.push(message.into()),
                Ok(None) => break,
                Err(error) => return (got, Some(error)),
            }
        }
        assert!(input.is_empty(), "`None` means used up");
    }
    (got, None)
}

fn decode_whole(bytes: &[u8]) -> (Vec<Got>, Option<Error>) {
    decode(&[bytes], LIMIT)
}

fn refused(bytes: &[u8]) -> Error {
    let (got, error) = decode_whole(bytes);
    assert_eq!(got, []);
    error.expect("refused")
}

mod decoding {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6455, 5.7, those that a client may send
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode_whole(&hello), (vec![Got::Text("Hello".into())], None));
        let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode_whole(&pong), (vec![Got::Pong(b"Hello".into())], None));
    }

    #[test]
    fn a_whole_frame_is_not_copied_and_leaves_no_buffer() {
        let mut bytes = frame(FIN | 1, b"in place");
        let range = bytes.as_ptr_range();
        let mut input = &mut bytes[..];
        let mut decoder = Decoder::new();
        let Ok(Some(Message::Text(text))) = decoder.next(&mut input, LIMIT) else { panic!("a text") };
        assert_eq!(text, "in place");
        assert!(range.contains(&text.as_ptr()));
        assert!(decoder.is_idle());
    }

    #[test]
    fn an_idle_decoder_is_one_pointer() {
        assert_eq!(size_of::<Decoder>(), size_of::<usize>());
    }

    #[test]
    fn whatever_was_stored_is_freed_when_the_message_has_been_read() {
        let mut bytes = [frame(1, b"Hel"), frame(FIN | 9, b"?"), frame(FIN, b"lo")].concat();
        for cut in 1..bytes.len() {
            let mut bytes = bytes.clone();
            let (mut front, mut back) = bytes.split_at_mut(cut);
            let mut decoder = Decoder::new();
            while decoder.next(&mut front, LIMIT).unwrap().is_some() {}
            assert!(!decoder.is_idle(), "cut at {cut}");
            while decoder.next(&mut back, LIMIT).unwrap().is_some() {}
            assert!(decoder.is_idle(), "cut at {cut}");
        }
        let mut decoder = Decoder::new();
        let mut input = &mut bytes[..];
        while decoder.next(&mut input, LIMIT).unwrap().is_some() {}
        assert!(decoder.is_idle());
    }

    #[test]
    fn every_length_and_every_phase_of_the_mask() {
        for len in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let bytes = frame(FIN | 2, &payload);
            let expected = (vec![Got::Binary(payload)], None);
            assert_eq!(decode_whole(&bytes), expected);
            for cut in (0..bytes.len().min(40)).chain(bytes.len() - 1..bytes.len()) {
                assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]], LIMIT), expected, "{len} cut at {cut}");
            }
        }
    }

    #[test]
    fn fragments_are_joined_and_control_frames_come_between() {
        let bytes = [
            frame(1, "Grü".as_bytes()),
            frame(FIN | 9, b"1"),
            frame(0, &"ße".as_bytes()[..1]),
            frame(0, b""),
            frame(FIN | 10, b""),
            frame(FIN, &"ße".as_bytes()[1..]),
            frame(FIN | 2, b"next"),
        ]
        .concat();
        let expected = vec![
            Got::Ping(b"1".into()),
            Got::Pong(b"".into()),
            Got::Text("Grüße".into()),
            Got::Binary(b"next".into()),
        ];
        assert_eq!(decode_whole(&bytes), (expected.clone(), None));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single, LIMIT), (expected, None));
    }

    #[test]
    fn close_frames() {
        let close = |payload: &[u8]| decode_whole(&frame(FIN | 8, payload));
        assert_eq!(close(b""), (vec![Got::Close(1005, String::new())], None));
        assert_eq!(close(b"\x03\xe8bye"), (vec![Got::Close(1000, "bye".into())], None));
        for code in 0..=u16::MAX {
            let allowed = (1000..=1003).contains(&code)
                || (1007..=1014).contains(&code)
                || (3000..=4999).contains(&code);
            let expected = if allowed {
                (vec![Got::Close(code, String::new())], None)
            } else {
                (vec![], Some(Error::Protocol))
            };
            assert_eq!(close(&code.to_be_bytes()), expected, "{code}");
        }
    }
}

mod refusing {
    use super::*;

    #[test]
    fn reserved_bits_and_opcodes() {
        for first in 0..=u8::MAX {
            let opcode_exists = matches!(first & 0x0f, 0 | 1 | 2 | 8 | 9 | 10);
            let is_reserved = first & 0x70 != 0 || !opcode_exists;
            let is_refused_for_it = decode_whole(&frame(first, b"")).1 == Some(Error::Reserved);
            assert_eq!(is_refused_for_it, is_reserved, "{first:#x}");
            // known from the first byte
            assert_eq!(decode_whole(&[first]).1 == Some(Error::Reserved), is_reserved, "{first:#x}");
        }
    }

    #[test]
    fn a_frame_without_a_mask() {
        assert_eq!(refused(b"\x81\x05Hello"), Error::Unmasked);
        assert_eq!(refused(b"\x88\x00"), Error::Unmasked);
    }

    #[test]
    fn control_frames_that_are_long_or_fragmented() {
        for opcode in [8, 9, 10] {
            assert_eq!(refused(&frame(opcode, b"")), Error::Protocol);
            assert_eq!(refused(&frame(FIN | opcode, &[b'x'; 126])), Error::Protocol);
        }
        assert_eq!(decode_whole(&frame(FIN | 9, &[7; 125])).0, [Got::Ping(vec![7; 125])]);
    }

    #[test]
    fn continuations_of_nothing_and_messages_within_messages() {
        assert_eq!(refused(&frame(FIN, b"x")), Error::Protocol);
        assert_eq!(refused(&frame(0, b"x")), Error::Protocol);
        assert_eq!(refused(&[frame(1, b"x"), frame(FIN | 1, b"y")].concat()), Error::Protocol);
        assert_eq!(refused(&[frame(2, b"x"), frame(1, b"y")].concat()), Error::Protocol);
        let after_the_end = [frame(1, b"x"), frame(FIN, b"y"), frame(FIN, b"z")].concat();
        assert_eq!(decode_whole(&after_the_end), (vec![Got::Text("xy".into())], Some(Error::Protocol)));
    }

    #[test]
    fn lengths_that_are_longer_than_they_need_be() {
        assert_eq!(refused(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0]), Error::Protocol);
        assert_eq!(refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Error::Protocol);
    }

    #[test]
    fn lengths_near_2_to_the_63() {
        let header = |len: u64| [&[0x82, 0xff][..], &len.to_be_bytes()].concat();
        assert_eq!(refused(&header((1 << 63) - 1)), Error::TooLarge);
        assert_eq!(refused(&header(1 << 63)), Error::Protocol);
        assert_eq!(refused(&header(u64::MAX)), Error::Protocol);
        // the sum with what is stored does not overflow either
        let second =
            [frame(2, b"x"), [&[0x80, 0xff][..], &((1u64 << 63) - 1).to_be_bytes()].concat()].concat();
        assert_eq!(decode(&[&second], usize::MAX >> 1), (vec![], Some(Error::TooLarge)));
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let mut bytes = [&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &MASK, b"few"].concat();
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut &mut bytes[..], usize::MAX), Ok(None));
        let stored = decoder.buffer().unwrap();
        assert_eq!((stored.len(), stored.capacity()), (3, 3));
    }

    #[test]
    fn the_buffer_is_at_most_twice_what_arrived_and_never_over_the_limit() {
        const MAX: usize = 1000;
        let mut decoder = Decoder::new();
        let mut sizes = Vec::new();
        for number in 0..MAX {
            let mut bytes = frame(if number == 0 { 2 } else { 0 }, b"x");
            assert_eq!(decoder.next(&mut &mut bytes[..], MAX), Ok(None));
            let buffer = decoder.buffer().unwrap();
            assert!(buffer.capacity() <= MAX.min(2 * buffer.len()), "{} for {number}", buffer.capacity());
            sizes.push(buffer.capacity());
        }
        sizes.dedup();
        assert!(sizes.len() <= 11, "it doubles, or the time would be quadratic: {sizes:?}");
        assert_eq!(decoder.next(&mut &mut frame(0, b"x")[..], MAX), Err(Error::TooLarge));
    }

    #[test]
    fn a_limit_that_is_lowered_within_a_message() {
        let mut bytes = [frame(2, b"123456"), frame(FIN, b"")].concat();
        let (mut front, mut back) = bytes.split_at_mut(9);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut front, 6), Ok(None));
        assert_eq!(decoder.next(&mut back, 1), Ok(Some(Message::Binary(b"123456"))));
    }

    #[test]
    fn a_message_over_the_limit_is_known_by_its_header() {
        let too_large = frame(FIN | 1, &[b'x'; 11]);
        assert_eq!(decode(&[&too_large[..2]], 10), (vec![], Some(Error::TooLarge)));
        assert_eq!(decode(&[&frame(FIN | 1, &[b'x'; 10])], 10).1, None);
        // over all fragments; a control frame between them does not count
        let fragments = [frame(1, b"12345"), frame(FIN | 9, &[0; 100]), frame(FIN, b"123456")].concat();
        assert_eq!(decode(&[&fragments], 11).1, None);
        assert_eq!(decode(&[&fragments], 10), (vec![Got::Ping(vec![0; 100])], Some(Error::TooLarge)));
    }

    #[test]
    fn fragments_without_end() {
        let endless = [frame(1, b""), frame(0, b"xxxx").repeat(300)].concat();
        assert_eq!(decode(&[&endless], 1000), (vec![], Some(Error::TooLarge)));
    }

    #[test]
    fn text_that_is_not_utf8() {
        // overlong, surrogate, above U+10FFFF, stray continuation, truncated
        for bad in [&b"\xc0\x80"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"ok\xe2\x82"] {
            let bytes = frame(FIN | 1, bad);
            assert_eq!(refused(&bytes), Error::Utf8, "{bad:x?}");
            for cut in 1..bytes.len() {
                assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]], LIMIT), (vec![], Some(Error::Utf8)));
            }
        }
        assert_eq!(decode_whole(&frame(FIN | 2, b"\xff")).1, None);
    }

    #[test]
    fn text_that_cannot_become_utf8_fails_before_its_end() {
        let bytes = [frame(1, "日本".as_bytes()), frame(0, b"\xe6\x97"), frame(0, b"x")].concat();
        assert_eq!(decode_whole(&bytes[..bytes.len() - 7]).1, None);
        assert_eq!(decode_whole(&bytes).1, Some(Error::Utf8));
        let unfinished = frame(FIN | 1, b"\xff and more");
        assert_eq!(decode_whole(&unfinished[..7]).1, Some(Error::Utf8));
    }

    #[test]
    fn close_frames_that_are_malformed() {
        assert_eq!(refused(&frame(FIN | 8, b"\x03")), Error::Protocol);
        assert_eq!(refused(&frame(FIN | 8, b"\x03\xe8\xff")), Error::Utf8);
        assert_eq!(refused(&frame(FIN | 8, b"\x03\xe8\xe2\x82")), Error::Utf8);
    }

    #[test]
    fn the_close_code_says_why() {
        let codes = [
            (Error::Reserved, 1002),
            (Error::Unmasked, 1002),
            (Error::Protocol, 1002),
            (Error::Utf8, 1007),
            (Error::TooLarge, 1009),
        ];
        for (error, code) in codes {
            assert_eq!(error.close_code(), code);
        }
    }
}

mod encoding {
    use super::*;
    use bytes::Bytes;

    fn header(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(Opcode::Binary, len, &mut out);
        out
    }

    #[test]
    fn headers_have_the_shortest_length() {
        // RFC 6455, 5.7
        assert_eq!(header(256), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(header(65_536), [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(header(0), [0x82, 0]);
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(65_535), [0x82, 126, 0xff, 0xff]);
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(1008, &"é".repeat(100), &mut out);
        assert_eq!(out[..4], [0x88, 2 + 122, 0x03, 0xf0]);
        assert_eq!(str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    }

    #[test]
    fn what_was_written_is_found_again() {
        let mut out = Vec::new();
        let payloads = [vec![], vec![1; 125], vec![2; 126], vec![3; 65_535], vec![4; 65_536]];
        for payload in &payloads {
            write_frame(Opcode::Binary, payload, &mut out);
        }
        write_frame(Opcode::Text, b"2", &mut out);
        let chunk = Bytes::from(out);
        let mut expected: Vec<(Opcode, Vec<u8>)> = payloads.map(|payload| (Opcode::Binary, payload)).into();
        expected.push((Opcode::Text, b"2".to_vec()));
        let found: Vec<(Opcode, Vec<u8>)> =
            frames(&chunk).map(|(opcode, payload)| (opcode, payload.to_vec())).collect();
        assert_eq!(found, expected);
        let range = chunk.as_ptr_range();
        assert!(frames(&chunk).all(|(_, payload)| payload.is_empty() || range.contains(&payload.as_ptr())));
    }

    #[test]
    fn the_accept_key_of_the_rfc() {
        // RFC 6455, 1.3
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
