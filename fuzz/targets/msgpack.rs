//! msgpack from a client: what is transcoded is JSON, not much larger than what came, and reads the same after another round.

use bytes::Bytes;
use xpush_wire::json;
use xpush_wire::msgpack::{Error, from_json, skip, to_json};

/// The first byte gives both limits; the rest is msgpack.
pub(crate) fn run(data: &[u8]) {
    let [limits, data @ ..] = data else { return };
    let (max_depth, max_attachments) = (usize::from(limits >> 2), usize::from(limits & 3));

    let mut rest = data;
    let (mut text, mut attachments) = (Vec::new(), Vec::new());
    let result = to_json(&mut rest, max_depth, max_attachments, &mut text, &mut attachments);
    let mut skipped = data;
    let skip_result = skip(&mut skipped, max_depth);
    assert!(attachments.len() <= max_attachments);
    assert!(attachments.iter().map(Bytes::len).sum::<usize>() <= data.len());
    assert!(text.len() <= 6 * data.len() + 64 * max_attachments + 64, "grown to {} bytes", text.len());

    match result {
        Err(Error::TooManyAttachments) => return,
        Err(error) => return assert_eq!(skip_result, Err(error)),
        Ok(()) => assert_eq!((skip_result, skipped), (Ok(()), rest)),
    }
    let text = json::validate_bytes(&text, max_depth).expect("JSON");
    assert!(json::placeholders_match(text, attachments.len()));

    let mut written = Vec::new();
    from_json(text, &attachments, &mut written);
    let mut input = &written[..];
    let (mut again, mut attachments_again) = (Vec::new(), Vec::new());
    let result = to_json(&mut input, max_depth, max_attachments, &mut again, &mut attachments_again);
    assert_eq!((result, input), (Ok(()), &b""[..]));
    assert_eq!(std::str::from_utf8(&again), Ok(text));
    assert_eq!(attachments_again, attachments);
}
