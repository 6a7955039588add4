//! The web pages, embedded in the binary.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// `web/dist`, as it was when the binary was built; it may be missing then.
#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Pages;

/// The texts of `docs/` and their pictures, which the page at `/docs/` shows.
#[derive(RustEmbed)]
#[folder = "../../docs"]
#[include = "*.md"]
#[include = "placement/*.svg"]
#[include = "screenshots/admin-*.webp"]
struct Texts;

/// Nothing but our own files, no inline script or style, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; \
     font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves the pages: to be the fallback behind every other route.
pub(crate) fn router() -> Router {
    Router::new().fallback(get(answer)).layer(map_response(protect))
}

async fn answer(uri: Uri, headers: HeaderMap) -> Response {
    match uri.path() {
        "/docs" => return Redirect::permanent("/docs/").into_response(),
        "/admin" => return Redirect::permanent("/admin/").into_response(),
        _ => {}
    }
    match find(uri.path()) {
        Some((name, file)) => page(&name, file, &headers),
        None if uri.path() == "/" => {
            (StatusCode::NOT_FOUND, "This binary was built without its pages (web/dist).\n").into_response()
        }
        None => (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response(),
    }
}

/// The file of a path; a folder's is its `index.html`. What is not there is never answered by another page.
fn find(path: &str) -> Option<(String, EmbeddedFile)> {
    let name = path.strip_prefix('/')?;
    let name =
        if name.is_empty() || name.ends_with('/') { format!("{name}index.html") } else { name.to_owned() };
    let text = || Texts::get(name.strip_prefix("docs/")?);
    Pages::get(&name).or_else(text).map(|file| (name, file))
}

fn page(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let tag: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    // File names carry no hash, so that browsers must ask each time whether theirs is the newest.
    let caching = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if asked.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, &tag)) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, content_type(name))], file.data).into_response()
}

/// Whether an If-None-Match header names the tag (RFC 9110, section 13.1.2: weak comparison).
fn names(tags: &HeaderValue, tag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    tags.split(',')
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        // RFC 7763.
        "md" => "text/markdown; charset=utf-8",
        _ => "application/octet-stream",
    }
}

async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
