//! Socket.IO packets from a client: what is read can be written, and reads the same.

use xpush_wire::engine::Version;
use xpush_wire::json;
use xpush_wire::socket::{Error, Kind, Packet, Unpacked, read, read_msgpack, write_head, write_msgpack};

/// The first byte gives the limit, and with its highest bit the protocol; the rest is a packet, as text and as msgpack.
pub(crate) fn run(data: &[u8]) {
    let [settings, data @ ..] = data else { return };
    let version = if settings & 0x80 == 0 { Version::V3 } else { Version::V4 };
    let max_attachments = usize::from(settings & 0x7f);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(packet) = read(version, text, max_attachments)
    {
        text_packet(version, packet, max_attachments);
    }
    if let Ok(packet) = read_msgpack(data, max_attachments) {
        msgpack_packet(&packet, max_attachments);
    }
}

fn text_packet(version: Version, packet: Packet<'_>, max_attachments: usize) {
    let Packet { kind, attachments, namespace, query, id, data } = packet;
    assert!(attachments <= max_attachments);
    assert_eq!(attachments > 0, matches!(kind, Kind::BinaryEvent | Kind::BinaryAck));
    assert!(namespace.starts_with('/') && !namespace.contains(','));
    assert!(query.is_empty() || version == Version::V3);
    assert!(id.is_none_or(|id| id < 10_u64.pow(15)));
    shape(kind, data);
    assert!(json::placeholders_match(data, attachments));

    let full_name = if query.is_empty() { namespace.to_owned() } else { format!("{namespace}?{query}") };
    let mut written = Vec::new();
    write_head(kind, attachments, &full_name, id, &mut written);
    written.extend_from_slice(data.as_bytes());
    let written = String::from_utf8(written).expect("UTF-8");
    assert_eq!(read(version, &written, max_attachments), Ok(packet));

    let parts = vec![bytes::Bytes::new(); attachments];
    let mut written = Vec::new();
    write_msgpack(kind, namespace, id, data, &parts, &mut written);
    match read_msgpack(&written, max_attachments) {
        Ok(read) => {
            assert_eq!(
                (read.namespace.as_str(), read.id, read.attachments.len()),
                (namespace, id, attachments)
            );
        }
        // Plain data with the key `_placeholder`: they can be sent so, but not come so.
        Err(error) => assert!(error == Error::Malformed && attachments == 0 && data.contains(['_', '\\'])),
    }
}

fn msgpack_packet(packet: &Unpacked, max_attachments: usize) {
    let Unpacked { kind, namespace, id, data, attachments } = packet;
    assert!(!matches!(kind, Kind::BinaryEvent | Kind::BinaryAck));
    assert!(attachments.len() <= max_attachments);
    assert!(id.is_none_or(|id| id < 10_u64.pow(15)));
    shape(*kind, data);
    assert!(json::placeholders_match(data, attachments.len()));

    let mut written = Vec::new();
    write_msgpack(*kind, namespace, *id, data, attachments, &mut written);
    assert_eq!(read_msgpack(&written, max_attachments).as_ref(), Ok(packet));
}

fn shape(kind: Kind, data: &str) {
    assert!(data.is_empty() || json::validate(data) == Ok(()));
    match kind {
        Kind::Connect => assert!(data.is_empty() || json::members(data).is_some()),
        Kind::Disconnect => assert!(data.is_empty()),
        Kind::Event | Kind::BinaryEvent => {
            let name = json::elements(data).and_then(|mut elements| elements.next());
            assert!(name.and_then(json::string).is_some());
        }
        Kind::Ack | Kind::BinaryAck => assert!(json::elements(data).is_some()),
        Kind::ConnectError => {
            assert!(data.is_empty() || json::members(data).is_some() || json::string(data).is_some());
        }
    }
}
