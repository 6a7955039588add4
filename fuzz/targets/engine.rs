//! A long-polling body: what is read can be written, and reads the same again (version 3: in ASCII).

use xpush_wire::engine::{Error, Kind, Packet, PayloadWriter, Version, read_payload};

#[derive(Debug, PartialEq)]
enum Owned {
    Text(Kind, String),
    Binary(Vec<u8>),
}

/// The first byte chooses version, form and packet limit; the rest is the body.
pub(crate) fn run(data: &[u8]) {
    let [choice, body @ ..] = data else { return };
    let version = if choice & 1 == 0 { Version::V3 } else { Version::V4 };
    let binary = choice & 2 != 0;
    let max_packets = usize::from(choice >> 2);

    let Ok(packets) = read(version, binary, body, max_packets) else { return };
    assert!((1..=max_packets).contains(&packets.len()));
    for base64 in [false, true] {
        let mut writer = PayloadWriter::new(version, base64);
        for packet in &packets {
            match packet {
                Owned::Text(kind, text) => writer.text(&format!("{}{text}", *kind as u8)),
                Owned::Binary(data) => writer.binary(data),
            }
        }
        let len = writer.len();
        let (written, is_binary) = writer.finish();
        assert_eq!(written.len(), len);
        assert!(!(is_binary && base64));

        let again = read(version, is_binary, &written, max_packets).expect("readable");
        assert_eq!(again.len(), packets.len());
        for pair in packets.iter().zip(&again) {
            match pair {
                (Owned::Text(kind, text), Owned::Text(again, escaped)) if version == Version::V3 => {
                    assert_eq!((kind, ascii(text)), (again, escaped.clone()));
                }
                (packet, again) => assert_eq!(packet, again),
            }
        }
    }
}

fn ascii(text: &str) -> String {
    let unit = |unit| match char::from_u32(u32::from(unit)) {
        Some(ascii) if ascii.is_ascii() => ascii.to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    text.encode_utf16().map(unit).collect()
}

fn read(version: Version, binary: bool, body: &[u8], max_packets: usize) -> Result<Vec<Owned>, Error> {
    let mut packets = Vec::new();
    read_payload(version, binary, body, max_packets, |packet| {
        packets.push(match packet {
            Packet::Text(kind, text) => Owned::Text(kind, text.to_owned()),
            Packet::Binary(data) => Owned::Binary(data.to_owned()),
        });
        Ok(())
    })
    .map(|()| packets)
}
