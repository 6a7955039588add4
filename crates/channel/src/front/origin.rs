//! Which pages may connect: the defence against cross-site WebSocket hijacking, and CORS for polling.

use http::{HeaderMap, HeaderValue, header};
use xpush_core::access::Apps;
use xpush_core::{AppSettings, Code};

use crate::config::Origins;

/// Where a request comes from.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The origin to be allowed by CORS, if there is one.
    pub(crate) origin: Option<HeaderValue>,
    /// It is only some app that welcomes it: whether it is the one that is meant, is to be seen when that is known.
    pub(crate) by_app: bool,
}

/// Judges a request's Origin, by the server's list and by those of `apps`.
pub(crate) fn judge(origins: &Origins, apps: &Apps, headers: &HeaderMap) -> Result<Page, Code> {
    let mut values = headers.get_all(header::ORIGIN).into_iter();
    let Some(origin) = values.next() else {
        return Ok(Page::default()); // no page, but a program: it can say what it likes anyway
    };
    if values.next().is_some() {
        return Err(Code::OriginRefused);
    }
    let text = origin.to_str().map_err(|_| Code::OriginRefused)?;
    let allowed = origins.allowed.iter().any(|allowed| &**allowed == "*" || **allowed == *text)
        || (origins.loopback && is_loopback(text))
        || is_same(text, headers);
    let by_app = || apps.by_name.values().any(|app| welcomes(app, text));
    if allowed || by_app() {
        Ok(Page { origin: Some(origin.clone()), by_app: !allowed })
    } else {
        Err(Code::OriginRefused)
    }
}

/// Whether an app welcomes a page.
pub(crate) fn welcomes(app: &AppSettings, origin: &str) -> bool {
    app.origins.iter().any(|allowed| &**allowed == "*" || **allowed == *origin)
}

/// `Access-Control-…` for an allowed origin.
pub(crate) fn allow(origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// A page that this server itself sent.
fn is_same(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    // Only by an address: a name may be a stranger's that points here (DNS rebinding).
    host.zip(page)
        .is_some_and(|(host, page)| host == page && host_part(host).parse::<std::net::IpAddr>().is_ok())
}

fn is_loopback(origin: &str) -> bool {
    let page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    page.is_some_and(|page| matches!(host_part(page), "localhost" | "127.0.0.1" | "::1"))
}

/// `host` of `host:port`, without the brackets of an IPv6 address. Whatever is no port makes it no host.
fn host_part(authority: &str) -> &str {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some("0"))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("0")),
        },
    };
    match port {
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(origins: &Origins, origin: Option<&str>, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        judge(origins, &Apps::default(), &headers).is_ok()
    }

    #[test]
    fn pages_of_strangers_are_refused() {
        let origins = Origins { allowed: vec!["https://app.example".into()], loopback: false };
        assert!(ask(&origins, None, "x"));
        assert!(ask(&origins, Some("https://app.example"), "x"));
        for stranger in [
            "null",
            "http://app.example",
            "https://app.example.evil",
            "https://app.example:444",
            "https://evil.app.example",
            "https://APP.example",
            "http://localhost:3000",
            "",
        ] {
            assert!(!ask(&origins, Some(stranger), "app.example"), "{stranger}");
        }
    }

    #[test]
    fn on_loopback_every_loopback_page_is_welcome_and_no_look_alike() {
        let origins = Origins { allowed: Vec::new(), loopback: true };
        for page in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443", "http://localhost"] {
            assert!(ask(&origins, Some(page), "x"), "{page}");
        }
        for stranger in [
            "null",
            "http://localhost.evil",
            "http://127.0.0.1.evil:80",
            "http://localhost:80.evil",
            "http://localhost@evil",
            "file://",
            "http://evil/localhost",
        ] {
            assert!(!ask(&origins, Some(stranger), "x"), "{stranger}");
        }
    }

    #[test]
    fn a_page_of_this_very_server_by_its_address() {
        let origins = Origins::default();
        assert!(ask(&origins, Some("http://10.0.0.5:8000"), "10.0.0.5:8000"));
        assert!(!ask(&origins, Some("http://10.0.0.5:8000"), "10.0.0.6:8000"));
        // The name may be a stranger's that points here.
        assert!(!ask(&origins, Some("http://rebound.evil:8000"), "rebound.evil:8000"));
    }
}
