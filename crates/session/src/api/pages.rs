//! Which pages may use the API from a browser: CORS (Fetch standard, section 3.2).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use xpush_core::Code;
use xpush_core::ports::access::Access;

use super::{Api, Refusal};

/// Pages that may ask for any app.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// As `scheme://host[:port]`; `*` allows every page.
    pub allowed: Vec<Box<str>>,
    /// Every page of this machine may, as nobody else can reach the server.
    pub loopback: bool,
}

/// Where a request comes from, when a page has sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The page's origin; `None` for programs, and for pages that may ask for any app.
    pub(super) limited: Option<Box<str>>,
}

impl Pages {
    fn allows(&self, origin: &str) -> bool {
        named(&self.allowed, origin) || (self.loopback && is_loopback(origin))
    }
}

/// Whether a list of origins has this one.
pub(super) fn named(list: &[Box<str>], origin: &str) -> bool {
    list.iter().any(|allowed| &**allowed == "*" || **allowed == *origin)
}

/// Lets through what comes from programs and from pages that may use any app or some; which one, [`super::Caller::may_use`] asks.
pub(super) async fn admit(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let origin = match judge(&api, request.headers()) {
        Ok(origin) => origin,
        Err(code) => return Refusal::from(code).into_response(),
    };
    let Some((origin, limited)) = origin else {
        request.extensions_mut().insert(Origin::default());
        return next.run(request).await;
    };
    let mut response = if request.method() == Method::OPTIONS {
        let grants = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        (StatusCode::NO_CONTENT, grants).into_response()
    } else {
        request.extensions_mut().insert(limited);
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("retry-after, content-disposition, content-range, etag"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    response
}

/// The request's origin, if it has one and that is welcome in some app.
fn judge(api: &Api, headers: &HeaderMap) -> Result<Option<(HeaderValue, Origin)>, Code> {
    let mut values = headers.get_all(header::ORIGIN).into_iter();
    let Some(origin) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Code::OriginRefused);
    }
    let text = origin.to_str().map_err(|_| Code::OriginRefused)?;
    if api.parts.pages.allows(text) || is_same(text, headers) {
        return Ok(Some((origin.clone(), Origin::default())));
    }
    let apps = api.parts.access.apps();
    if apps.by_name.values().any(|app| named(&app.origins, text)) {
        return Ok(Some((origin.clone(), Origin { limited: Some(text.into()) })));
    }
    Err(Code::OriginRefused)
}

/// A page of this very server. By its name, too, although a stranger's name may point here (DNS rebinding): nothing in this API is given for being near,
/// all of it for what is shown.
fn is_same(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| authority(origin) == Some(host))
}

/// Refuses whatever a page has sent that is not of this very server.
pub(crate) fn own_page(api: &Api, headers: &HeaderMap) -> Result<(), Code> {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    let own = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        is_same(origin, headers)
            || api.parts.url.as_deref().is_some_and(|url| url.trim_end_matches('/') == origin)
    };
    let (first, second) = (origins.next(), origins.next());
    // What the browser says of who asks (Fetch Metadata): other pages of the same site are others, too.
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok()).unwrap_or("none");
    if first.is_some_and(|origin| !own(origin)) || second.is_some() || !matches!(site, "none" | "same-origin")
    {
        return Err(Code::OriginRefused);
    }
    Ok(())
}

fn is_loopback(origin: &str) -> bool {
    let Some(authority) = authority(origin).filter(|authority| crate::is_authority(authority)) else {
        return false;
    };
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authority(origin: &str) -> Option<&str> {
    origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))
}
