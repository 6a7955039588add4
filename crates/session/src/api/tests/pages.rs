use super::*;

async fn from_page(world: &World, origin: &str, app: &str) -> Got {
    let body = json!({"app": app, "user": "nobody", "password": PASSWORD}).to_string();
    let mut request = request("POST", "/auth/login", "", &body);
    request.headers_mut().insert("origin", origin.parse().unwrap());
    world.send(request).await
}

#[tokio::test]
async fn only_pages_of_the_server_and_of_the_app_may_ask() {
    let world = World::new().await;
    for (origin, app, code) in [
        ("https://console.example", "demo", "bad_credentials"),
        ("https://console.example", "invited", "bad_credentials"),
        ("https://demo.example", "demo", "bad_credentials"),
        ("https://demo.example", "invited", "origin_refused"),
        ("https://other.example", "demo", "origin_refused"),
        ("https://other.example", "invited", "bad_credentials"),
        ("http://localhost:3000", "demo", "bad_credentials"),
        ("http://[::1]:3000", "demo", "bad_credentials"),
        ("http://xpush.example", "demo", "bad_credentials"),
        ("null", "demo", "origin_refused"),
        ("https://demo.example.evil", "demo", "origin_refused"),
        ("https://evil-demo.example", "demo", "origin_refused"),
        ("http://demo.example", "demo", "origin_refused"),
        ("http://localhost.evil", "demo", "origin_refused"),
        ("http://localhost@evil", "demo", "origin_refused"),
        ("https://xpush.example.evil", "demo", "origin_refused"),
    ] {
        let world_of_its_own = from_page(&world, origin, app).await;
        assert_eq!(world_of_its_own.code(), code, "{origin} {app}");
        let allowed = world_of_its_own.headers.get("access-control-allow-origin");
        assert!(allowed.is_none_or(|allowed| allowed == origin));
        assert!(code == "origin_refused" || allowed.is_some(), "{origin}");
        world.clock.advance(120_000);
    }
    let mut twice = request("POST", "/auth/login", "", "{}");
    twice.headers_mut().append("origin", "https://demo.example".parse().unwrap());
    twice.headers_mut().append("origin", "https://evil.example".parse().unwrap());
    assert_eq!(world.send(twice).await.code(), "origin_refused");
}

#[tokio::test]
async fn a_token_of_an_app_is_of_no_use_to_another_apps_pages() {
    let world = World::new().await;
    let token = world.register("ann").await.text("access_token");
    for (origin, good) in [("https://demo.example", true), ("https://other.example", false)] {
        let mut request = request("GET", "/me", &token, "");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let got = world.send(request).await;
        assert_eq!(got.status == 200, good, "{got:?}");
    }
}

#[tokio::test]
async fn preflights_are_granted_to_whom_requests_are() {
    let world = World::new().await;
    for (origin, status) in [("https://demo.example", 204), ("https://evil.example", 403)] {
        let mut request = request("OPTIONS", "/me/devices/phone", "", "");
        *request.method_mut() = Method::OPTIONS;
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let got = world.send(request).await;
        assert_eq!(got.status, status);
        assert_eq!(got.headers.contains_key("access-control-allow-methods"), status == 204);
        assert!(
            !got.headers.contains_key("access-control-allow-credentials"),
            "there are no cookies to send"
        );
        if status == 204 {
            assert_eq!(got.headers["access-control-allow-headers"], "authorization, content-type");
            assert_eq!(got.headers["vary"], "Origin");
        }
    }
}
