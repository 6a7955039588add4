//! `/socket.io/`: Engine.IO's requests.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::oneshot;
use xpush_core::Code;
use xpush_wire::engine::Version;
use xpush_wire::query;

use super::route::{self, Asking};
use super::{Verdict, handshake, origin, relay};
use crate::dialect::Wire;
use crate::fanout::inbox::Inbox;
use crate::node::Shared;
use crate::session::sid::Sid;
use crate::transport::polling::{Answer, Poll, Post};
use crate::transport::{By, Open, Probe};

/// The query of an Engine.IO request.
struct Parameters {
    version: Version,
    websocket: bool,
    sid: Option<Sid>,
    base64: bool,
    msgpack: bool,
    /// JSONP's callback number.
    callback: Option<u64>,
}

pub(super) async fn request(shared: &Arc<Shared>, asking: Asking) -> Verdict {
    let origin = asking.origin.clone();
    if asking.request.method() == Method::OPTIONS {
        return Verdict::Respond(preflight(&asking));
    }
    match answer(shared, asking).await {
        Ok(Verdict::Respond(mut response)) => {
            origin::allow(origin.as_ref(), response.headers_mut());
            Verdict::Respond(response)
        }
        Ok(take_over) => take_over,
        Err(code) => {
            shared.metrics.refused(code);
            Verdict::Respond(refusal(code, origin.as_ref()))
        }
    }
}

/// Engine.IO's form of an error: its number and its text, as the reference server has them.
pub(super) fn refusal(code: Code, allowed: Option<&HeaderValue>) -> Response<Body> {
    let (number, text, status) = match code {
        Code::UnknownTransport => (0, "Transport unknown", 400),
        Code::UnknownSession => (1, "Session ID unknown", 400),
        Code::BadOrder => (2, "Bad handshake method", 400),
        Code::UnknownVersion => (5, "Unsupported protocol version", 400),
        Code::OriginRefused | Code::TooManyConnections | Code::Draining => (4, code.text(), code.status()),
        Code::TooLarge => (3, code.text(), 413),
        _ => (3, "Bad request", 400),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = route::json(status, format!(r#"{{"code":{number},"message":"{text}"}}"#));
    origin::allow(allowed, response.headers_mut());
    response
}

async fn answer(shared: &Arc<Shared>, asking: Asking) -> Result<Verdict, Code> {
    let query = asking.request.uri().query().unwrap_or("").to_owned();
    let parameters = Parameters::read(&query)?;
    let sid = match parameters.sid {
        Some(sid) if sid.node == shared.digest && shared.has_shard(sid.handle.shard) => Some(sid),
        Some(sid) if sid.node == shared.digest || asking.relayed => return Err(Code::UnknownSession),
        Some(sid) => return elsewhere(shared, asking, &parameters, sid).await,
        None => None,
    };
    if parameters.websocket {
        return websocket(shared, &asking, &parameters, sid);
    }
    if handshake::is_upgrade(&asking.request) {
        return Err(Code::BadRequest);
    }
    let response = match (asking.request.method().clone(), sid) {
        (Method::GET, None) => {
            let permit = route::permit(shared, asking.peer)?;
            let (answer, answered) = oneshot::channel();
            let by = By::Polling { base64: parameters.base64, answer };
            let (query, opening) = asking.first_words();
            let open = Open { wire: parameters.wire(), query, opening, permit, by };
            shared.mailbox(shared.next_shard()).post(Inbox::Open(Box::new(open)));
            payload(answered.await, parameters.callback)?
        }
        (Method::GET, Some(sid)) => {
            let (answer, answered) = oneshot::channel();
            shared.mailbox(sid.handle.shard).post(Inbox::Poll(Poll { sid, answer }));
            payload(answered.await, parameters.callback)?
        }
        (Method::POST, Some(sid)) => post(shared, asking, &parameters, sid).await?,
        (_, None) => return Err(Code::BadOrder),
        (_, Some(_)) => return Err(Code::BadRequest),
    };
    Ok(Verdict::Respond(response))
}

/// A request of a session that another node has, as far as it makes sense.
async fn elsewhere(
    shared: &Arc<Shared>,
    asking: Asking,
    parameters: &Parameters,
    sid: Sid,
) -> Result<Verdict, Code> {
    let is_poll = matches!(*asking.request.method(), Method::GET | Method::POST);
    if !is_poll || handshake::is_upgrade(&asking.request) != parameters.websocket {
        return Err(Code::BadRequest);
    }
    relay::request(shared, asking, sid).await
}

fn websocket(
    shared: &Arc<Shared>,
    asking: &Asking,
    parameters: &Parameters,
    sid: Option<Sid>,
) -> Result<Verdict, Code> {
    let response = handshake::response(&asking.request).map_err(|problem| problem.code)?;
    let Some(sid) = sid else {
        let permit = route::permit(shared, asking.peer)?;
        let by = move |stream, early| By::WebSocket { stream, early, response };
        return Ok(Verdict::TakeOver(route::take_over(
            shared,
            parameters.wire(),
            asking.first_words(),
            permit,
            by,
        )));
    };
    let shared = shared.clone();
    Ok(Verdict::TakeOver(Box::new(move |stream, early| {
        let probe = Probe { sid, stream, early, response };
        shared.mailbox(sid.handle.shard).post(Inbox::Probe(Box::new(probe)));
    })))
}

async fn post(
    shared: &Arc<Shared>,
    asking: Asking,
    parameters: &Parameters,
    sid: Sid,
) -> Result<Response<Body>, Code> {
    let max = shared.config.limits.payload;
    let kind =
        asking.request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let (binary, form) = (kind == "application/octet-stream", parameters.callback.is_some());
    if binary && parameters.version == Version::V4 {
        return Err(Code::BadRequest);
    }
    // What is declared too large is not waited for.
    if asking.request.body().size_hint().lower() > max as u64 {
        return Err(Code::TooLarge);
    }
    let patience = Duration::from_millis(shared.config.limits.handshake_ms);
    let body = tokio::time::timeout(patience, Limited::new(asking.request.into_body(), max).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Code::TooLarge),
        Ok(Err(_)) => return Err(Code::BadRequest),
        // A body that trickles would hold its connection for as long as it likes.
        Err(_) => return Err(Code::HandshakeTimeout),
    };
    let body = if form { jsonp_body(&body)? } else { body };
    let (answer, answered) = oneshot::channel();
    shared.mailbox(sid.handle.shard).post(Inbox::Post(Box::new(Post { sid, body, binary, answer })));
    match answered.await {
        Ok(Answer::Taken) => {
            let mut response = Response::new(Body::from("ok"));
            // Not text/plain, for which Internet Explorer asks; so the reference server.
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Ok(response)
        }
        Ok(Answer::Refused(code)) => Err(code),
        Ok(Answer::Payload(..)) | Err(_) => Err(Code::UnknownSession),
    }
}

/// What a poll is answered; a session that ends drops its waiting poll.
fn payload(
    answered: Result<Answer, oneshot::error::RecvError>,
    callback: Option<u64>,
) -> Result<Response<Body>, Code> {
    let (body, binary) = match answered {
        Ok(Answer::Payload(payload)) => payload.collect(),
        Ok(Answer::Refused(code)) => return Err(code),
        Ok(Answer::Taken) | Err(_) => return Err(Code::UnknownSession),
    };
    let (body, kind) = match callback {
        Some(number) => (jsonp_answer(number, &body), "text/javascript; charset=UTF-8"),
        None if binary => (body, "application/octet-stream"),
        None => (body, "text/plain; charset=UTF-8"),
    };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn preflight(asking: &Asking) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    origin::allow(asking.origin.as_ref(), response.headers_mut());
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    if let Some(asked) = asking.request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

/// `___eio[N]("…");`: a script that a page of the last decade includes instead of asking across origins.
fn jsonp_answer(number: u64, body: &Bytes) -> Bytes {
    let mut script = format!("___eio[{number}](").into_bytes();
    xpush_wire::json::write_string(&String::from_utf8_lossy(body), &mut script);
    script.extend_from_slice(b");");
    // These end a string in JavaScript before ES2019.
    let script =
        String::from_utf8_lossy(&script).replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    Bytes::from(script)
}

/// The `d` of a form, in which line breaks are doubly escaped.
fn jsonp_body(body: &Bytes) -> Result<Bytes, Code> {
    let form = std::str::from_utf8(body).map_err(|_| Code::BadPacket)?;
    let data = query::single(form, "d").ok().flatten().ok_or(Code::BadPacket)?;
    let mut text = String::with_capacity(data.len());
    let mut rest = data.as_ref();
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (taken, put) = match rest.as_bytes().get(at + 1..) {
            Some([b'n', ..]) => (2, "\n"),
            Some([b'\\', b'n', ..]) => (3, "\\n"),
            _ => (1, "\\"),
        };
        text.push_str(put);
        rest = &rest[at + taken..];
    }
    text.push_str(rest);
    Ok(Bytes::from(text))
}

impl Parameters {
    /// Reads and checks a query: what is given twice, or unknown, is refused.
    fn read(query: &str) -> Result<Self, Code> {
        let single = |name| query::single(query, name).map_err(|_| Code::BadRequest);
        let websocket = match single("transport")?.as_deref() {
            Some("polling") => false,
            Some("websocket") => true,
            _ => return Err(Code::UnknownTransport),
        };
        let version = match single("EIO")?.as_deref() {
            Some("3") => Version::V3,
            Some("4") => Version::V4,
            _ => return Err(Code::UnknownVersion),
        };
        let sid = match single("sid")? {
            Some(sid) => Some(Sid::decode(&sid).ok_or(Code::UnknownSession)?),
            None => None,
        };
        let callback = match single("j")? {
            Some(number) => Some(number.parse().map_err(|_| Code::BadRequest)?),
            None => None,
        };
        let base64 =
            single("b64")?.is_some_and(|value| !value.is_empty() && value != "0") || callback.is_some();
        let msgpack = single("parser")?.as_deref() == Some("msgpack");
        Ok(Self { version, websocket, sid, base64, msgpack, callback })
    }

    fn wire(&self) -> Wire {
        let wire = match self.version {
            Version::V3 => Wire::Engine3,
            Version::V4 => Wire::Engine4,
        };
        if self.msgpack { wire.with_msgpack() } else { wire }
    }
}
