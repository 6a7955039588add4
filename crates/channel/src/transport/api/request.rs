//! Requests of HTTP/1.1 (RFC 9112) as far as a shard reads them: to the API, with a body whose length is said, and nothing that changes the connection. Whatever
//! else comes is hyper's.

use std::mem::MaybeUninit;

use bytes::Bytes;
use httparse::{Header, ParserConfig, Status};
use xpush_core::ports::backend::PublishRequest;

/// Where the API is.
const API: &str = "/api/v1/";
/// Bodies there may be long, and come and go as streams.
const STREAMS: &str = "/api/v1/files";
/// To publish one message.
const PUBLISH: (&str, &str) = ("POST", "/api/v1/messages");
/// Headers of a request.
const HEADERS: usize = 64;

/// Room for a request's headers.
pub(super) type Room<'b> = [MaybeUninit<Header<'b>>; HEADERS];

/// Bytes that a request may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) head: usize,
    pub(super) body: usize,
}

/// What bytes begin with.
pub(super) enum Found<'h, 'b> {
    /// A request of which there is more to come.
    Part,
    Request(Request<'h, 'b>),
    /// What hyper is to read.
    Other,
}

/// A request, whole.
pub(super) struct Request<'h, 'b> {
    method: &'b str,
    target: &'b str,
    headers: &'h [Header<'b>],
    body: &'b [u8],
    /// Bytes of it all.
    pub(super) len: usize,
}

/// Room that is empty.
pub(super) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; HEADERS]
}

/// Whether a connection's first bytes are those of an app's back end that shows an API key.
pub(crate) fn is_for_shards(bytes: &[u8]) -> bool {
    let Some(line) = bytes.get(..24) else { return false };
    let of_api = line.windows(API.len() + 1).any(|at| at[0] == b' ' && at[1..] == *API.as_bytes());
    of_api && bytes.windows(4).any(|at| at == b" xk_")
}

/// Reads what `bytes` begin with.
pub(super) fn find<'h, 'b>(bytes: &'b [u8], room: &'h mut Room<'b>, bounds: Bounds) -> Found<'h, 'b> {
    let mut head = httparse::Request::new(&mut []);
    let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut head, bytes, room);
    let start = match parsed {
        Ok(Status::Complete(start)) if start <= bounds.head => start,
        Ok(Status::Partial) if bytes.len() <= bounds.head => return Found::Part,
        _ => return Found::Other,
    };
    let (Some(method), Some(target), Some(1)) = (head.method, head.path, head.version) else {
        return Found::Other;
    };
    let headers: &'h [Header<'b>] = head.headers;
    if !target.starts_with(API) || target.starts_with(STREAMS) {
        return Found::Other;
    }
    let Some(length) = body_length(method, headers).filter(|length| *length <= bounds.body) else {
        return Found::Other;
    };
    match bytes[start..].get(..length) {
        Some(body) => Found::Request(Request { method, target, headers, body, len: start + length }),
        None => Found::Part,
    }
}

/// The bytes that follow the head; `None` when another thing than the length says that, or when the connection does not stay as it is.
fn body_length(method: &str, headers: &[Header<'_>]) -> Option<usize> {
    if !matches!(method, "GET" | "POST" | "PUT" | "PATCH" | "DELETE") {
        return None;
    }
    let mut length = None;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let digits = !header.value.is_empty() && header.value.iter().all(u8::is_ascii_digit);
            let value = std::str::from_utf8(header.value).ok().filter(|_| digits && length.is_none())?;
            length = Some(value.parse().ok()?);
        } else if is("connection") {
            header.value.eq_ignore_ascii_case(b"keep-alive").then_some(())?;
        } else if is("transfer-encoding") || is("expect") || is("upgrade") || is("origin") {
            return None;
        }
    }
    Some(length.unwrap_or(0))
}

impl<'b> Request<'_, 'b> {
    /// What it asks to be published, if it is such a request.
    pub(super) fn publishes(&self) -> Option<PublishRequest<'b>> {
        if (self.method, self.target) != PUBLISH {
            return None;
        }
        Some(PublishRequest {
            authorization: self.one("authorization").ok()?,
            content_type: self.one("content-type").ok()?,
            idempotency_key: self.one("idempotency-key").ok()?,
            body: self.body,
        })
    }

    /// As the API reads it.
    pub(super) fn to_http(&self) -> Option<http::Request<axum::body::Body>> {
        let mut request = http::Request::builder().method(self.method).uri(self.target);
        for header in self.headers {
            request = request.header(header.name, header.value);
        }
        request.body(Bytes::copy_from_slice(self.body).into()).ok()
    }

    /// A header's value; an error when there are several, or it is no text.
    fn one(&self, name: &str) -> Result<Option<&'b str>, ()> {
        let mut values = self.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(header), None) => std::str::from_utf8(header.value).map(Some).map_err(|_| ()),
            (Some(_), Some(_)) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { head: 400, body: 100 };
    const WHOLE: &str = "POST /api/v1/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer xk_a.b.c\r\nContent-Length: 2\r\n\r\n{}";

    /// `Some(true)`: whole; `Some(false)`: more is to come; `None`: hyper's.
    fn whole(text: &str) -> Option<bool> {
        match find(text.as_bytes(), &mut room(), BOUNDS) {
            Found::Request(_) => Some(true),
            Found::Part => Some(false),
            Found::Other => None,
        }
    }

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        for end in 0..WHOLE.len() {
            assert_eq!(whole(&WHOLE[..end]), Some(false), "{end}");
        }
        let two = format!("{WHOLE}GET");
        let mut room = room();
        let Found::Request(request) = find(two.as_bytes(), &mut room, BOUNDS) else { panic!() };
        assert_eq!(request.len, WHOLE.len());
        let publishes = request.publishes().unwrap();
        assert_eq!((publishes.body, publishes.authorization), (&b"{}"[..], Some("Bearer xk_a.b.c")));
        assert_eq!((publishes.content_type, publishes.idempotency_key), (None, None));
        let http = request.to_http().unwrap();
        assert_eq!((http.uri().path(), http.headers().len()), ("/api/v1/messages", 3));
    }

    #[test]
    fn what_another_reads_is_left_to_it() {
        let with = |header: &str| WHOLE.replace("Host: a", header);
        for other in [
            WHOLE.replace("HTTP/1.1", "HTTP/1.0"),
            WHOLE.replace("/api/v1/messages", "/api/v1/files"),
            WHOLE.replace("/api/v1/messages", "/metrics"),
            WHOLE.replace("/api/v1/messages", "http://a/api/v1/messages"),
            WHOLE.replace("POST", "HEAD"),
            WHOLE.replace("Length: 2", "Length: 101"),
            with("Transfer-Encoding: chunked"),
            with("Expect: 100-continue"),
            with("Upgrade: websocket"),
            with("Origin: https://a"),
            with("Connection: close"),
            with("Content-Length: 2"),
            with("Content-Length: 3"),
            WHOLE.replace("Length: 2", "Length: +2"),
            WHOLE.replace("Length: 2", "Length: 2, 2"),
            WHOLE.replace("Length: 2", "Length: 99999999999999999999"),
            WHOLE.replace("Length: 2", "Length:"),
            WHOLE.replace("Host: a", &format!("Host: {}", "a".repeat(400))),
            WHOLE.replace("Host: a", " folded"),
            "\u{16}\u{3}\u{1}".into(),
        ] {
            assert_eq!(whole(&other), None, "{other}");
        }
        assert_eq!(whole(&with("Connection: Keep-Alive")), Some(true));
        let get = "GET /api/v1/stats HTTP/1.1\r\n\r\n";
        assert_eq!(whole(get), Some(true));
    }

    #[test]
    fn a_header_that_comes_twice_says_nothing() {
        let twice = WHOLE.replace("Host: a", "Authorization: Bearer xk_d.e.f");
        let mut room = room();
        let Found::Request(request) = find(twice.as_bytes(), &mut room, BOUNDS) else { panic!() };
        assert!(request.publishes().is_none());
    }

    #[test]
    fn back_ends_are_known_by_their_first_bytes() {
        assert!(is_for_shards(WHOLE.as_bytes()));
        assert!(is_for_shards(WHOLE.replace("POST /api/v1/messages", "DELETE /api/v1/keys/x").as_bytes()));
        for other in [&WHOLE[..20], "", &WHOLE.replace("xk_", "eyJ"), &WHOLE.replace("/api/v1", "/api/v2")] {
            assert!(!is_for_shards(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            find(&bytes, &mut room(), BOUNDS);
            is_for_shards(&bytes);
        }
    }
}
