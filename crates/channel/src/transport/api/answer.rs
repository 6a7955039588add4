//! Answers of HTTP/1.1 as bytes.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{StatusCode, header, response};
use xpush_core::UnixMillis;

/// The `Date` of answers (RFC 9110, section 6.6.1), made once a second.
#[derive(Default)]
pub(crate) struct Date {
    second: u64,
    text: String,
}

impl Date {
    pub(super) fn at(&mut self, now: UnixMillis) -> &str {
        if self.second != now / 1_000 || self.text.is_empty() {
            self.second = now / 1_000;
            self.text = date(now);
        }
        &self.text
    }
}

fn date(now: UnixMillis) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now))
}

/// An object, with the headers that the API gives to each.
pub(super) fn object(status: StatusCode, object: &str, date: &str, out: &mut Vec<u8>) {
    out.reserve(192 + object.len());
    begin(status, out);
    out.extend_from_slice(
        b"content-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n",
    );
    end(object.as_bytes(), true, date, out);
}

/// What the API has answered.
pub(crate) fn whole(head: &response::Parts, body: &Bytes, now: UnixMillis) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + body.len());
    begin(head.status, &mut out);
    for (name, value) in &head.headers {
        if name != header::CONTENT_LENGTH && name != header::DATE {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    // RFC 9110, section 8.6.
    let has_length = head.status != StatusCode::NO_CONTENT && head.status != StatusCode::NOT_MODIFIED;
    end(body, has_length, &date(now), &mut out);
    out
}

fn begin(status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn end(body: &[u8], has_length: bool, date: &str, out: &mut Vec<u8>) {
    if has_length {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_as_http_has_them() {
        let mut date = Date::default();
        let mut out = Vec::new();
        object(StatusCode::OK, "{}", date.at(784_111_777_000), &mut out);
        let expected = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
            content-length: 2\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(date.at(784_111_778_999), "Sun, 06 Nov 1994 08:49:38 GMT");
        let response = http::Response::builder().status(204).header("x-a", "b").body(()).unwrap();
        let (head, ()) = response.into_parts();
        let text = String::from_utf8(whole(&head, &Bytes::new(), 784_111_777_000)).unwrap();
        assert_eq!(text, "HTTP/1.1 204 No Content\r\nx-a: b\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n");
    }
}
