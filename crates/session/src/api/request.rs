//! What a request brings.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde_json::{Map, Value};
use tokio::time::timeout;
use xpush_core::ports::access::{Access, Credentials};
use xpush_core::{Code, Device, Grant, Problem, User};

use super::pages::{self, Origin};
use super::{Api, Refusal};

/// Bytes of a body.
const LARGEST: usize = 65_536;

/// How long a body may take: who sends it slowly must not hold a connection for long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a body that is too large that are taken in and thrown away.
const LINGER: usize = 16 << 20;

/// Characters of a name that others are shown.
const NAME: usize = 64;

/// A JSON object out of the body; without a body, an empty one. Not `Debug`: it may hold a password.
pub(crate) struct Fields(Map<String, Value>);

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The client's address, as far as the server in front knows.
    pub(crate) address: Option<IpAddr>,
    origin: Origin,
}

/// The one segment of the path that the route leaves open.
pub(crate) struct Segment(pub(crate) String);

/// The two segments of the path that the route leaves open.
pub(crate) struct Segments(pub(crate) String, pub(crate) String);

/// What the query asks for, in order.
pub(crate) struct Asked(Vec<(String, String)>);

/// One who has shown a token that is good.
pub(crate) struct Bearer(pub(crate) Arc<Grant>);

impl Caller {
    /// Refuses a page that may use other apps only.
    pub(crate) fn may_use(&self, origins: &[Box<str>]) -> Result<(), Code> {
        match &self.origin.limited {
            Some(origin) if !pages::named(origins, origin) => Err(Code::OriginRefused),
            _ => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // Whoever serves this router says by an extension from which address the request has come.
        let address = parts.extensions.get::<IpAddr>().copied();
        let origin = parts.extensions.get::<Origin>().cloned().unwrap_or_default();
        Ok(Self { address, origin })
    }
}

impl FromRequestParts<Arc<Api>> for Bearer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let token = bearer(parts).ok_or(Code::Unauthenticated)?.to_owned();
        let app = Asked::from_request_parts(parts, api).await?.one("app")?.map(str::to_owned);
        let caller = Caller::from_request_parts(parts, api).await?;
        let credentials =
            Credentials { app, token: Some(token), address: caller.address, ..Credentials::default() };
        let (decided, decision) = tokio::sync::oneshot::channel();
        api.parts.access.admit(credentials, Box::new(move |grant| drop(decided.send(grant))));
        let grant = decision.await.map_err(|_| Code::Unavailable)??;
        if let Some(app) = api.parts.access.app(&grant.app) {
            caller.may_use(&app.origins)?;
        }
        Ok(Self(Arc::new(grant)))
    }
}

impl Asked {
    /// A parameter's value, if it is given; nobody can mean two.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(given, _)| given == name);
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(wrong(name, "given twice"));
        }
        Ok(value)
    }

    /// A whole number, if it is given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        super::body::whole(text).ok_or_else(|| wrong(name, "must be a whole number")).map(Some)
    }

    /// How many things a page may have.
    pub(crate) fn limit(&self, default: usize, most: usize) -> Result<usize, Problem> {
        let Some(limit) = self.number("limit")? else { return Ok(default) };
        let limit = usize::try_from(limit).ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| wrong("limit", &format!("must be 1 to {most}")))
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(query) =
            Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| Code::BadRequest)?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = Path::from_request_parts(parts, state).await.map_err(|_| Code::BadRequest)?;
        Ok(Self(text))
    }
}

impl Segment {
    /// As a name, by the check of its kind.
    pub(crate) fn named<T>(&self, field: &str, new: impl Fn(&str) -> Result<T, Code>) -> Result<T, Problem> {
        named(&self.0, field, new)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path((first, second)) =
            Path::from_request_parts(parts, state).await.map_err(|_| Code::BadRequest)?;
        Ok(Self(first, second))
    }
}

/// A text as a name, by the check of its kind.
pub(crate) fn named<T>(text: &str, field: &str, new: impl Fn(&str) -> Result<T, Code>) -> Result<T, Problem> {
    new(text).map_err(|code| Problem::new(code, format!("{field}: {}", code.text())))
}

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = read(request.into_body(), PATIENCE, LARGEST).await?;
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        // What serde says of an error may repeat a value, which may be a password.
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Problem::new(Code::BadRequest, "the body must be a JSON object").into()),
            Err(_) => Err(Code::BadJson.into()),
        }
    }
}

impl Fields {
    /// A text, if it is given; `null` is as good as absent.
    pub(crate) fn text(&self, field: &str) -> Result<Option<&str>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(field, "must be text")),
        }
    }

    /// A text that must be given.
    pub(crate) fn needed(&self, field: &str) -> Result<&str, Problem> {
        self.text(field)?.ok_or_else(|| wrong(field, "is missing"))
    }

    /// True or false, if it is given.
    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(wrong(field, "must be true or false")),
        }
    }

    /// Whether a field is there, if only as `null`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// An object, if it is given.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Self>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields.clone()))),
            Some(_) => Err(wrong(field, "must be an object")),
        }
    }

    /// A user's id.
    pub(crate) fn user(&self, field: &str) -> Result<User, Problem> {
        User::new(self.needed(field)?).map_err(|code| Problem::new(code, format!("{field}: {}", code.text())))
    }

    /// A device's id.
    pub(crate) fn device(&self, field: &str) -> Result<Device, Problem> {
        Device::new(self.needed(field)?)
            .map_err(|_| wrong(field, "must have 1 to 64 bytes, without control characters"))
    }

    /// A name that others are shown, if it is given.
    pub(crate) fn name(&self, field: &str) -> Result<Option<Box<str>>, Problem> {
        self.text(field)?.map(|name| display_name(field, name)).transpose()
    }
}

/// A name that others are shown, if an object has it.
pub(crate) fn display_name_of(object: &Map<String, Value>, field: &str) -> Result<Option<Box<str>>, Problem> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => display_name(field, name).map(Some),
        Some(_) => Err(wrong(field, "must be text")),
    }
}

/// A name that others are shown.
pub(super) fn display_name(field: &str, name: &str) -> Result<Box<str>, Problem> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
        return Err(wrong(field, "must have 1 to 64 characters, none of them a control character"));
    }
    Ok(name.into())
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, section 2.1), when there is exactly one such header.
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).into_iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    token_of(value.to_str().ok()?)
}

/// The same of the header's value.
pub(crate) fn token_of(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.trim())
}

pub(super) async fn read(body: Body, patience: Duration, largest: usize) -> Result<Bytes, Problem> {
    let late = || Problem::new(Code::HandshakeTimeout, "the request did not arrive in time");
    timeout(patience, collect(body, largest)).await.map_err(|_| late())?
}

/// What goes beyond `largest` is taken in, too, and thrown away, as far as [`LINGER`]: who is still sending when the connection is closed may not see the answer.
async fn collect(mut body: Body, largest: usize) -> Result<Bytes, Problem> {
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Problem::new(Code::BadRequest, "the request did not arrive whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= largest {
            kept.extend_from_slice(&data);
        } else if seen > largest + LINGER {
            break;
        } else {
            kept = Vec::new();
        }
    }
    if seen > largest {
        return Err(Problem::new(Code::TooLarge, format!("this request has at most {largest} bytes")));
    }
    Ok(kept.into())
}

pub(crate) fn wrong(field: &str, what: &str) -> Problem {
    Problem::new(Code::BadField, format!("{field}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::task::{Context, Poll};

    use axum::body::HttpBody;

    /// Never comes to its end.
    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let late = read(Body::new(Endless), Duration::from_millis(10), LARGEST).await.unwrap_err();
        assert_eq!(late.code, Code::HandshakeTimeout);
        let whole = read(Body::from("x".repeat(LARGEST)), PATIENCE, LARGEST).await.unwrap();
        assert_eq!(whole.len(), LARGEST);
        let large = read(Body::from("x".repeat(LARGEST + 1)), PATIENCE, LARGEST).await.unwrap_err();
        assert_eq!(large.code, Code::TooLarge);
    }
}
