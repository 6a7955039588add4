//! The answers that begin a raw stream: RFC 6455, 4.2.2, and an event stream's head.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use xpush_core::{Code, Problem};
use xpush_wire::ws;

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade<B>(request: &Request<B>) -> bool {
    has_token(request, &header::UPGRADE, "websocket")
}

/// The `101` for a WebSocket handshake.
pub(super) fn response<B>(request: &Request<B>) -> Result<Bytes, Problem> {
    if request.method() != Method::GET
        || !is_upgrade(request)
        || !has_token(request, &header::CONNECTION, "upgrade")
        || request.version() != http::Version::HTTP_11
    {
        return Err(Problem::new(Code::BadRequest, "a WebSocket handshake is expected here (RFC 6455, 4.1)"));
    }
    if request.headers().get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Problem::new(Code::UnknownVersion, "Sec-WebSocket-Version: 13 is spoken here"));
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let key = key
        .filter(|key| key.len() == 24)
        .ok_or_else(|| Problem::new(Code::BadRequest, "Sec-WebSocket-Key is missing"))?;
    let accept = ws::accept_key(key);
    Ok(Bytes::from(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    )))
}

/// The head of an event stream; it ends with the connection.
pub(super) fn stream_head(origin: Option<&HeaderValue>) -> Bytes {
    let mut head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
                    x-accel-buffering: no\r\nconnection: close\r\n"
        .to_owned();
    if let Some(origin) = origin.and_then(|origin| origin.to_str().ok()) {
        head.push_str(&format!(
            "access-control-allow-origin: {origin}\r\naccess-control-allow-credentials: true\r\nvary: Origin\r\n"
        ));
    }
    head.push_str("\r\n");
    Bytes::from(head)
}

/// Whether a header that lists tokens has this one.
fn has_token<B>(request: &Request<B>, name: &header::HeaderName, token: &str) -> bool {
    let values = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}
