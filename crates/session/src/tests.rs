use super::*;

use axum::body::{Body, to_bytes};
use serde_json::Value;
use tower::ServiceExt;
use xpush_core::ports::cluster::{ClusterSink, Node, Standing, View};
use xpush_embedded::LocalHosts;
use xpush_testkit::{ManualClock, sample};

use crate::placement::ByRing;

/// Places channels over the nodes of `view`.
pub(crate) fn placed_over(view: Arc<View>) -> ByRing {
    let placement = ByRing::new(Arc::new(LocalHosts::new(Arc::new(ManualClock::new()))));
    placement.view(view);
    placement
}

fn session(urls: &[&str]) -> Router {
    let node = |(number, url): (usize, &&str)| Node {
        url: Box::from(*url),
        ..sample::server(&format!("node-{number}"))
    };
    let nodes = urls.iter().enumerate().map(node).collect();
    let view = Arc::new(View { standing: Standing::Live, nodes, ..View::default() });
    router(NodeId::new("node-0").unwrap(), Arc::new(placed_over(view)))
}

async fn send(router: &Router, request: Request) -> (Response<()>, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 65_536).await.unwrap();
    (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap_or_default())
}

type Response<T> = axum::http::Response<T>;

fn get_with(path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn url(router: &Router, path: &str, headers: &[(&str, &str)]) -> Value {
    send(router, get_with(path, headers)).await.1["result"]["server"]["url"].clone()
}

#[tokio::test]
async fn ping_is_answered_as_by_0_1() {
    let (response, body) = send(&session(&[]), get_with("/status/ping", &[])).await;
    assert_eq!(body, json!({"status": "ok", "result": {"message": "pong"}}));
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn a_node_is_answered_as_by_0_1() {
    let router = session(&["https://push.example.com"]);
    let (response, body) = send(&router, get_with("/node/demo/room%201", &[("host", "x")])).await;
    assert_eq!(response.status(), 400, "white space in a channel's name: {body}");
    let (response, mut body) = send(&router, get_with("/node/demo/room:1", &[("host", "x")])).await;
    let seq = body["result"]["seq"].take();
    let server = json!({"channel": "room:1", "name": "node-0", "url": "https://push.example.com"});
    assert_eq!(body, json!({"status": "ok", "result": {"seq": null, "channel": "room:1", "server": server}}));
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let (_, again) = send(&router, get_with("/node/demo/room:1", &[])).await;
    assert!(seq.is_string() && again["result"]["seq"].is_string() && seq != again["result"]["seq"]);
}

#[tokio::test]
async fn no_server_is_said_with_status_200() {
    let (response, body) = send(&session(&[]), get_with("/node/demo/room", &[("host", "x")])).await;
    assert_eq!(response.status(), 200);
    assert_eq!(body, json!({"status": "error", "result": {"message": "Channel server is not available."}}));
}

#[tokio::test]
async fn without_a_configured_url_clients_come_back_where_they_are() {
    let router = session(&[""]);
    for (headers, expected) in [
        (&[("host", "localhost:8000")][..], "http://localhost:8000"),
        (&[("host", "[::1]:8000")], "http://[::1]:8000"),
        (&[("host", "a.example"), ("x-forwarded-proto", "https")], "https://a.example"),
        (&[("host", "a.example"), ("x-forwarded-proto", "https, http")], "https://a.example"),
        (&[("host", "a.example"), ("x-forwarded-proto", "javascript")], "http://a.example"),
    ] {
        assert_eq!(url(&router, "/node/demo/room", headers).await, expected);
    }
    assert_eq!(
        url(&router, "http://b.example/node/demo/room", &[("host", "a.example")]).await,
        "http://b.example"
    );
}

#[tokio::test]
async fn a_host_that_is_none_is_refused() {
    let router = session(&[""]);
    for headers in [&[][..], &[("host", "a.example/evil")], &[("host", "user@a.example")], &[("host", "")]] {
        let (response, body) = send(&router, get_with("/node/demo/room", headers)).await;
        assert_eq!((response.status().as_u16(), &body["status"]), (400, &json!("error")), "{headers:?}");
    }
}

#[tokio::test]
async fn a_channel_stays_on_its_node() {
    let router = session(&["http://a", "http://b", "http://c"]);
    let mut seen = std::collections::HashSet::new();
    for number in 0..64 {
        let path = format!("/node/demo/room{number}");
        let first = url(&router, &path, &[]).await;
        assert_eq!(first, url(&router, &path, &[]).await);
        seen.insert(first.to_string());
    }
    assert_eq!(seen.len(), 3, "64 channels use every node");
}

#[tokio::test]
async fn who_could_not_reach_a_node_is_sent_to_another_one() {
    let router = session(&["http://a", "http://b"]);
    let name = async |path: &str| {
        let (_, body) = send(&router, get_with(path, &[])).await;
        body["result"]["server"]["name"].as_str().unwrap().to_owned()
    };
    let first = name("/node/demo/room:1").await;
    let second = name(&format!("/node/demo/room:1?not={first}")).await;
    assert_ne!(first, second);
    assert_eq!(
        name(&format!("/node/demo/room:1?not={first}&not={second}")).await,
        first,
        "there is no third"
    );
    let (response, _) = send(&router, get_with("/node/demo/room:1?not=", &[])).await;
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn a_preflight_is_granted() {
    let mut request = get_with("/node/demo/room", &[("origin", "https://a.example")]);
    *request.method_mut() = Method::OPTIONS;
    let (response, _) = send(&session(&[""]), request).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["access-control-allow-methods"], "GET");
}
