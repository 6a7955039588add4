//! How a client reached us: the URL to send it back to when none is configured.

use std::net::Ipv6Addr;

use axum::http::{HeaderMap, Uri, header};

/// `http://host[:port]` as the client wrote it. The scheme is what a proxy in front says (`X-Forwarded-Proto`); like `Host` it is the asking client's own word, and only
/// that client is told what follows from it.
pub(crate) fn reached_at(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    // An absolute request target overrules Host (RFC 9112, section 3.2.2).
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    let forwarded = headers.get("x-forwarded-proto").and_then(|scheme| scheme.to_str().ok());
    let scheme = match forwarded.map(|schemes| schemes.split(',').next().unwrap_or_default().trim()) {
        Some("https") => "https",
        _ => "http",
    };
    is_authority(authority).then(|| format!("{scheme}://{authority}"))
}

/// Whether `text` is `host` or `host:port`: a name, an IPv4 address or `[…]` with an IPv6 address (RFC 3986, section 3.2.2, without user
/// information and percent-encoding).
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("", port),
            _ => return false,
        },
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            if host.is_empty() {
                return false;
            }
            (host, port)
        }
    };
    let letters = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let port = match port.strip_prefix(':') {
        Some(port) => {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => port.is_empty(),
    };
    letters && host.len() <= 253 && port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in
            ["localhost", "localhost:8000", "a.example", "127.0.0.1:1", "[::1]", "[::1]:65535", "my_host"]
        {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:8 0",
            "a b",
            "a/b",
            "user@a",
            "a?b",
            "a#b",
            "[::1",
            "[x]",
            "[::1]x",
            "[]",
            "a:1:2",
            "a\"",
            "<a>",
            "ä",
            "a%41",
            &"x".repeat(254),
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
    }
}
