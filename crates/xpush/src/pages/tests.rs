use super::*;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use tower::ServiceExt;

async fn send(method: Method, path: &str, headers: &[(&str, &str)]) -> (Response<()>, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (Response::from_parts(parts, ()), to_bytes(body, 1 << 24).await.unwrap().to_vec())
}

type Response<T> = axum::http::Response<T>;

/// Every page that is embedded; a build without pages has none to show.
fn every_page() -> Vec<String> {
    Pages::iter().map(|name| format!("/{name}")).collect()
}

#[tokio::test]
async fn pages_come_with_their_type_and_tag() {
    for path in every_page() {
        let (response, body) = send(Method::GET, &path, &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(body, &*Pages::get(&path[1..]).unwrap().data, "{path}");
        let headers = response.headers();
        assert_ne!(headers["content-type"], "application/octet-stream", "{path} has no known type");
        assert_eq!(headers["cache-control"], "no-cache");
        let tag = headers["etag"].to_str().unwrap().to_owned();

        for tags in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
            let (response, body) = send(Method::GET, &path, &[("if-none-match", &tags)]).await;
            assert_eq!((response.status().as_u16(), body.len()), (304, 0), "{path} {tags}");
            assert_eq!(response.headers()["etag"], tag.as_str());
        }
        let (response, _) = send(Method::GET, &path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(response.status(), 200);

        let (head, nothing) = send(Method::HEAD, &path, &[]).await;
        assert_eq!((head.status().as_u16(), nothing.len()), (200, 0));
        assert_eq!(head.headers()["content-length"], body.len().to_string().as_str(), "{path}");
        assert_eq!(head.headers()["etag"], tag.as_str());
    }
}

#[tokio::test]
async fn a_folder_is_its_index() {
    if Pages::get("index.html").is_some() {
        assert_eq!(send(Method::GET, "/", &[]).await.1, send(Method::GET, "/index.html", &[]).await.1);
    }
}

#[tokio::test]
async fn a_folder_without_its_slash_leads_to_it() {
    for (path, folder) in [("/docs", "/docs/"), ("/admin", "/admin/")] {
        let (response, _) = send(Method::GET, path, &[]).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["location"].as_bytes()),
            (308, folder.as_bytes())
        );
    }
}

#[tokio::test]
async fn what_is_missing_is_not_the_page() {
    for path in
        ["/nothing.js", "/nothing", "/index.html/", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "//", "/assets/"]
    {
        assert_eq!(send(Method::GET, path, &[]).await.0.status(), 404, "{path}");
    }
    let (response, _) = send(Method::POST, "/", &[]).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET,HEAD");
}

#[tokio::test]
async fn every_answer_is_protected() {
    for (method, path) in [(Method::GET, "/"), (Method::GET, "/nothing"), (Method::POST, "/")] {
        let (response, _) = send(method, path, &[]).await;
        let headers = response.headers();
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        assert_eq!(headers["content-security-policy"], policy);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
    }
}

#[tokio::test]
async fn the_texts_are_there_to_be_read() {
    for name in Texts::iter().filter(|name| name.ends_with(".md")) {
        let (response, body) = send(Method::GET, &format!("/docs/{name}"), &[]).await;
        assert_eq!(response.status(), 200, "{name}");
        assert_eq!(response.headers()["content-type"], "text/markdown; charset=utf-8");
        assert!(body.starts_with(b"# "), "{name}");
    }
    let (response, _) = send(Method::GET, "/docs/placement/spread.svg", &[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &HeaderValue::from_static("image/svg+xml"))
    );
    // What the page names, the binary has.
    let named = include_str!("../../../../web/docs/place.ts");
    let named: Vec<_> =
        named.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()).collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        assert!(Texts::get(&format!("{name}.md")).is_some(), "{name}");
    }
    for path in
        ["/docs/nothing.md", "/docs/screenshots/start-1280-dark.webp", "/docs/../README.md", "/protocol.md"]
    {
        assert_eq!(send(Method::GET, path, &[]).await.0.status(), 404, "{path}");
    }
}
