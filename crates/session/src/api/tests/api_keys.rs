use super::*;

use xpush_core::ports::directory::Scope;

use crate::api_key;

/// A key of the app `demo`, as the directory has it and as it is shown.
pub(super) async fn key(world: &World, scopes: &[Scope]) -> String {
    named_key(world, None, scopes).await.1
}

/// The same with what it is called, and its id.
pub(super) async fn named_key(world: &World, name: Option<&str>, scopes: &[Scope]) -> (String, String) {
    let fresh =
        api_key::issue(&demo(), name.map(Into::into), scopes.into(), None, world.clock.wall()).unwrap();
    let id = fresh.id.to_string();
    world.put(Key::ApiKey(demo(), fresh.id), Record::ApiKey(Box::new(fresh.record))).await;
    (id, fresh.text)
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_say() {
    let world = World::new().await;
    let message = json!({"channel": "room:1", "data": 1});
    for (scope, status) in
        [(Scope::Publish, 200), (Scope::Admin, 200), (Scope::Read, 403), (Scope::Users, 403)]
    {
        let got = world.ask("POST", "/messages", &key(&world, &[scope]).await, message.clone()).await;
        assert_eq!(got.status, status, "{scope:?}: {got:?}");
    }
    assert_eq!(world.get("/keys", &key(&world, &[Scope::Users]).await).await.code(), "forbidden");
    let got = world.get("/users", &key(&world, &[Scope::Read, Scope::Users]).await).await;
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn a_token_of_the_role_server_opens_everything_and_a_users_nothing() {
    let world = World::new().await;
    let now = world.clock.wall() / 1_000;
    let token = |claims: Value| {
        let mut all = json!({"sub": "back", "app": "demo", "iat": now, "exp": now + 60});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        app_token(all)
    };
    let server = token(json!({"roles": ["server"]}));
    for path in ["/users", "/keys", "/stats", "/channels"] {
        world.get(path, &server).await.ok();
        assert_eq!(world.get(path, &token(json!({"roles": ["admin"]}))).await.code(), "forbidden");
        assert_eq!(
            world.get(path, &world.register(&path[1..]).await.text("access_token")).await.code(),
            "forbidden"
        );
    }
    world.ask("POST", "/messages", &server, json!({"channel": "a", "data": 1})).await.ok();
    assert_eq!(world.backend.published.lock().unwrap()[0].from.user, user("back"));
}

#[tokio::test]
async fn nobody_learns_why_a_key_is_not_good() {
    let world = World::new().await;
    let good = key(&world, &[Scope::Read]).await;
    world.get("/stats", &good).await.ok();
    let (shown, secret) = good.rsplit_once('.').unwrap();
    let other_app = good.replace("xk_demo", "xk_invited");
    let unknown = format!("xk_demo.AAAAAAAAAAAAAAAA.{secret}");
    let no_app = good.replace("xk_demo", "xk_nowhere");
    let other_secret = format!("{shown}.{}", "A".repeat(43));
    let mut answers = Vec::new();
    for bad in [&other_app, &unknown, &no_app, &other_secret, &format!("{good}x"), "xk_", "xk_demo.a.b"] {
        let got = world.get("/stats", bad).await;
        assert_eq!(got.code(), "unauthenticated", "{bad}");
        answers.push(got.body);
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
    assert_eq!(world.get("/stats?app=invited", &good).await.code(), "unknown_app");
    assert_eq!(world.get("/stats?app=demo&app=demo", &good).await.code(), "bad_field");
    assert_eq!(world.get("/me", &good).await.code(), "unauthenticated", "a key is no user");
}

#[tokio::test]
async fn keys_are_made_rotated_and_revoked() {
    let world = World::new().await;
    let admin = key(&world, &[Scope::Admin]).await;
    let body = json!({"name": "orders", "scopes": ["read", "publish"]});
    let made = world.ask("POST", "/keys", &admin, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (id, first) = (made.body["api_key"]["id"].as_str().unwrap().to_owned(), made.text("secret"));
    world.get("/stats", &first).await.ok();
    let listed = world.get("/keys", &admin).await.ok().body;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("digest") && !listed.to_string().contains(&first));

    let second = world.ask("POST", &format!("/keys/{id}/rotate"), &admin, json!({"grace": 60})).await.ok();
    let second = second.text("secret");
    for key in [&first, &second] {
        world.get("/stats", key).await.ok();
    }
    world.clock.advance(60_000);
    assert_eq!(world.get("/stats", &first).await.code(), "unauthenticated");
    world.get("/stats", &second).await.ok();

    let gone = world.ask("DELETE", &format!("/keys/{id}"), &admin, json!({})).await.ok();
    assert_eq!(gone.body["revoked_at"], json!(world.clock.wall()));
    assert_eq!(world.get("/stats", &second).await.code(), "unauthenticated");
    assert_eq!(world.ask("POST", &format!("/keys/{id}/rotate"), &admin, json!({})).await.code(), "not_found");
    assert_eq!(world.ask("DELETE", "/keys/unknown", &admin, json!({})).await.code(), "not_found");
    for body in [json!({}), json!({"scopes": []}), json!({"scopes": ["root"]}), json!({"scopes": "read"})] {
        assert_eq!(world.ask("POST", "/keys", &admin, body).await.code(), "bad_field");
    }
}

#[tokio::test]
async fn a_key_of_one_app_is_nothing_in_another() {
    let world = World::new().await;
    let fresh = api_key::issue(&App::new("invited").unwrap(), None, vec![Scope::Admin], None, 1).unwrap();
    let at = Key::ApiKey(App::new("invited").unwrap(), fresh.id);
    world.put(at, Record::ApiKey(Box::new(fresh.record))).await;
    world.register("ann").await;
    for path in ["/users/ann", "/keys/x"] {
        let method = if path.starts_with("/keys") { "DELETE" } else { "GET" };
        assert_eq!(world.ask(method, path, &fresh.text, json!({})).await.code(), "not_found");
    }
    let got = world.ask("POST", "/messages", &fresh.text, json!({"channel": "a", "data": 1})).await;
    assert_eq!(got.status, 200);
    assert_eq!(world.backend.published.lock().unwrap()[0].channel.app.as_str(), "invited");
}

#[tokio::test]
async fn when_a_key_was_used_last_is_known_to_the_hour() {
    let world = World::new().await;
    world.clock.advance(10 * 3_600_000);
    let text = key(&world, &[Scope::Read]).await;
    let id = xpush_core::ApiKeyId::new(text.split('.').nth(1).unwrap()).unwrap();
    let used = async || match world.entry(Key::ApiKey(demo(), id.clone())).await.unwrap().record {
        Record::ApiKey(record) => record.used_at,
        _ => unreachable!(),
    };
    world.get("/stats", &text).await.ok();
    let first = world.clock.wall();
    while used().await != first {
        tokio::task::yield_now().await;
    }
    world.clock.advance(3_599_000);
    world.get("/stats", &text).await.ok();
    world.clock.advance(1_000);
    world.get("/stats", &text).await.ok();
    while used().await == first {
        tokio::task::yield_now().await;
    }
    assert_eq!(used().await, first + 3_600_000);
}

#[tokio::test]
async fn what_is_read_without_waiting_is_what_the_api_reads() {
    let world = World::new().await;
    let intake = crate::backend::intake(world.api.clone());
    let [good, reader] = [key(&world, &[Scope::Publish]).await, key(&world, &[Scope::Read]).await];
    let body = json!({"channel": "room:1", "data": {"a": 1}, "from": {"user": "ann"}, "silent": true});
    let read = |key: &str, body: &Value, kind: Option<&str>, id: Option<&str>| {
        let (shown, body) = (format!("bearer {key}"), body.to_string());
        let request = xpush_core::ports::backend::PublishRequest {
            authorization: Some(&shown),
            content_type: kind,
            idempotency_key: id,
            body: body.as_bytes(),
        };
        intake.publication(request)
    };
    assert!(read(&good, &body, None, None).is_none(), "a key that was never shown is not remembered");
    // That a key is used is noted, which changes its entry: it is forgotten then, at whatever moment that is heard of, and remembered anew when the API is asked next.
    let remembered = async |kind: Option<&str>, id: Option<&str>| {
        for _ in 0..100 {
            world.ask("POST", "/messages", &good, body.clone()).await;
            if let Some(publication) = read(&good, &body, kind, id) {
                return publication;
            }
            tokio::task::yield_now().await;
        }
        panic!("never remembered")
    };
    world.ask("POST", "/messages", &reader, body.clone()).await;
    for kind in [None, Some("application/json; charset=utf-8"), Some("Application/x+JSON")] {
        let publication = remembered(kind, None).await;
        assert_eq!(publication, world.backend.published.lock().unwrap()[0], "{kind:?}");
    }
    assert_eq!(remembered(None, Some("k-1")).await.id.unwrap().as_str(), "k-1");
    // What is refused is left to the API, which says why.
    let wrong = format!("{}x", good);
    assert!(read(&wrong, &body, None, None).is_none() && read(&reader, &body, None, None).is_none());
    assert!(read(&good, &body, Some("text/plain"), None).is_none());
    assert!(read(&good, &body, None, Some("")).is_none() && read(&good, &json!([]), None, None).is_none());
    assert!(read(&good, &json!({"data": 1}), None, None).is_none());
    let id = good.split('.').nth(1).unwrap().to_owned();
    let admin = key(&world, &[Scope::Admin]).await;
    world.ask("DELETE", &format!("/keys/{id}"), &admin, json!({})).await.ok();
    assert!(read(&good, &body, None, None).is_none(), "revoked");
}
