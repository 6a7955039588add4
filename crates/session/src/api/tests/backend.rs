use super::*;

use axum::http::HeaderValue;
use xpush_core::ports::directory::Scope;
use xpush_core::{Channel, ChannelKey, Kind};

use super::api_keys::key;
use super::recorder::LARGEST;

async fn with_key() -> (World, String) {
    let world = World::new().await;
    let key = key(&world, &[Scope::Admin]).await;
    (world, key)
}

fn room(name: &str) -> ChannelKey {
    ChannelKey::new(demo(), Channel::new(name).unwrap())
}

fn raw(method: &str, path: &str, key: &str, kind: &str, body: impl Into<Body>) -> Request {
    let mut request = request(method, path, key, "");
    request.headers_mut().insert("content-type", kind.parse().unwrap());
    *request.body_mut() = body.into();
    request
}

#[tokio::test]
async fn a_message_is_relayed_as_the_bytes_that_came() {
    let (world, key) = with_key().await;
    let data = "{ \"n\" : 1.50e3,\"s\":\"\\u00e9\\ud83d\", \"d\":[ 1 , 1 ],\"d\":2 }";
    let body = format!(
        r#"{{"channel":"room:1","data":{data},"event":"order","id":"o-7","silent":true,"from":{{"user":"ann","name":"Ann"}}}}"#
    );
    let got = world.send(raw("POST", "/messages", &key, "application/json; charset=utf-8", body)).await.ok();
    assert_eq!(got.body["channel"], "room:1");
    let published = world.backend.published.lock().unwrap();
    let message = &published[0];
    assert_eq!(message.data, data.as_bytes());
    assert_eq!((&message.channel, message.event.as_str()), (&room("room:1"), "order"));
    assert_eq!((message.kind, message.id.as_ref().unwrap().as_str()), (Kind::Silent, "o-7"));
    assert_eq!((message.from.user.as_str(), message.from.name.as_deref()), ("ann", Some("Ann")));
}

#[tokio::test]
async fn users_and_their_devices_are_reached_by_name() {
    let (world, key) = with_key().await;
    for (body, channel) in [
        (json!({"user": "ann b", "data": null}), "@ann%20b"),
        (json!({"user": "ann", "device": "p/1", "data": 1}), "@ann/p%2F1"),
        (json!({"channel": "@ann", "data": 1}), "@ann"),
    ] {
        world.ask("POST", "/messages", &key, body).await.ok();
        assert_eq!(world.backend.published.lock().unwrap().pop().unwrap().channel.name.as_str(), channel);
    }
    for body in [
        json!({"data": 1}),
        json!({"device": "p", "data": 1}),
        json!({"channel": "a", "user": "ann", "data": 1}),
        json!({"channel": "a"}),
        json!({"channel": 1, "data": 1}),
        json!({"channel": "a", "data": 1, "event": 1}),
        json!({"channel": "a", "data": 1, "id": ""}),
        json!({"channel": "a", "data": 1, "silent": "yes"}),
        json!({"channel": "a", "data": 1, "from": "ann"}),
        json!({"channel": "a", "data": 1, "from": {}}),
    ] {
        assert_eq!(world.ask("POST", "/messages", &key, body.clone()).await.code(), "bad_field", "{body}");
    }
    let got = world.ask("POST", "/messages", &key, json!({"channel": "a b", "data": 1})).await;
    assert_eq!(got.code(), "bad_channel");
}

#[tokio::test]
async fn a_batch_is_answered_message_by_message() {
    let (world, key) = with_key().await;
    *world.backend.refuses.lock().unwrap() = Some((Channel::new("full").unwrap(), Code::Full));
    let message = |channel: &str| json!({"channel": channel, "data": channel});
    let body = json!({"messages": [message("a"), message("full"), 7, message("b b"), {"channel": "c"}, message("d")]});
    let mut request = raw("POST", "/messages/batch", &key, "application/json", body.to_string());
    request.headers_mut().insert("idempotency-key", HeaderValue::from_static("import-1"));
    let got = world.send(request).await.ok();
    let codes: Vec<_> =
        got.body["results"].as_array().unwrap().iter().map(|one| one["error"]["code"].as_str()).collect();
    assert_eq!(
        codes,
        [None, Some("full"), Some("bad_request"), Some("bad_channel"), Some("bad_field"), None]
    );
    assert_eq!(got.body["results"][5]["ok"]["channel"], "d");
    let published = std::mem::take(&mut *world.backend.published.lock().unwrap());
    let ids: Vec<_> = published.iter().map(|one| one.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["import-1:0", "import-1:1", "import-1:5"]);
    let many: Vec<_> = (0..1_001).map(|_| message("a")).collect();
    for (body, code) in [
        (json!({"messages": many}), "bad_field"),
        (json!({"messages": {}}), "bad_field"),
        (json!({}), "bad_field"),
        (json!([]), "bad_request"),
    ] {
        assert_eq!(world.ask("POST", "/messages/batch", &key, body).await.code(), code);
    }
    let empty = world.ask("POST", "/messages/batch", &key, json!({"messages": []})).await.ok();
    assert_eq!(empty.body, json!({"results": []}));
}

#[tokio::test]
async fn the_idempotency_key_is_the_messages_id() {
    let (world, key) = with_key().await;
    let send = async |path: &str, method: &str, keys: &[&str], body: Value| {
        let mut request = raw(method, path, &key, "application/json", body.to_string());
        for key in keys {
            request.headers_mut().append("idempotency-key", key.parse().unwrap());
        }
        world.send(request).await
    };
    let message = json!({"channel": "a", "data": 1});
    send("/messages", "POST", &["k1"], message.clone()).await.ok();
    send("/messages", "POST", &["k1"], json!({"channel": "a", "data": 1, "id": "own"})).await.ok();
    send("/channels/a/messages/3", "PATCH", &["k2"], json!({"data": 1})).await.ok();
    send("/channels/a/messages/3", "DELETE", &["k3"], json!({})).await.ok();
    let published = std::mem::take(&mut *world.backend.published.lock().unwrap());
    let ids: Vec<_> = published.iter().map(|one| one.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["k1", "own", "k2", "k3"]);
    assert_eq!(
        (published[2].kind, published[3].kind),
        (Kind::Edit { target: 3 }, Kind::Delete { target: 3 })
    );
    let long = "x".repeat(65);
    for keys in [&["a", "b"][..], &[long.as_str()], &[""], &["a b"]] {
        assert_eq!(send("/messages", "POST", keys, message.clone()).await.code(), "bad_field", "{keys:?}");
    }
    for path in ["/channels/a/messages/0", "/channels/a/messages/x", "/channels/a/messages/-1"] {
        assert_eq!(send(path, "PATCH", &[], json!({"data": 1})).await.code(), "bad_field");
    }
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let (world, key) = with_key().await;
    let ok = r#"{"channel":"a","data":1}"#;
    let bomb =
        |depth: usize| format!(r#"{{"channel":"a","data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    for (kind, body, code) in [
        ("text/plain", ok.to_owned(), "bad_content_type"),
        ("application/x-www-form-urlencoded", "channel=a&data=1".to_owned(), "bad_content_type"),
        ("application/json", ok[..ok.len() - 1].to_owned(), "bad_json"),
        ("application/json", format!("{ok}{ok}"), "bad_json"),
        ("application/json", r#"{"channel":"a","channel":"b","data":1}"#.to_owned(), "bad_json"),
        ("application/json", r#"{"channel":"a","data":1,"data":2}"#.to_owned(), "bad_json"),
        ("application/json", "[".repeat(90_000), "bad_json"),
        ("application/json", "7".to_owned(), "bad_request"),
        ("application/json", "x".repeat(10 << 20), "too_large"),
        ("application/json", bomb(LARGEST), "too_large"),
    ] {
        for path in ["/messages", "/signals"] {
            let got = world.send(raw("POST", path, &key, kind, body.clone())).await;
            assert_eq!(got.code(), code, "{path} {kind} {}", &body[..body.len().min(60)]);
        }
    }
    let huge = "x".repeat(10 << 20);
    for path in ["/messages/batch", "/users", "/keys", "/channels/room:1/members"] {
        for (body, code) in [
            (&huge[..], "too_large"),
            ("[", "bad_json"),
            (r#"{"a":1,"a":1}"#, "bad_json"),
            ("[]", "bad_request"),
        ] {
            let got = world.send(raw("POST", path, &key, "application/json", body.to_owned())).await;
            assert_eq!(got.code(), code, "{path}");
        }
        let got = world.send(raw("POST", path, &key, "text/plain", "{}")).await;
        assert_eq!(got.code(), "bad_content_type", "{path}");
    }
    let mut not_text = br#"{"channel":"a","data":""#.to_vec();
    not_text.extend(b"\xff\xfe\"}");
    assert_eq!(
        world.send(raw("POST", "/messages", &key, "application/json", not_text)).await.code(),
        "bad_json"
    );
    world.send(raw("POST", "/messages", &key, "application/vnd.shop+json", ok)).await.ok();
    assert_eq!(world.backend.published.lock().unwrap().len(), 1, "what was refused had no effect");
}

#[tokio::test]
async fn what_is_read_is_asked_for_in_order() {
    let (world, key) = with_key().await;
    for (path, asked) in [
        ("/channels/room:1/messages", "history demo/room:1 Newest 50"),
        ("/channels/room:1/messages?before=9&limit=3", "history demo/room:1 Before(9) 3"),
        ("/channels/room%3A1/messages?after=0", "history demo/room:1 After(0) 50"),
        ("/channels/@ann%2Fp/presence", "presence demo/@ann/p"),
        ("/channels?prefix=ro&after=room:1&limit=2", "live demo \"ro\" Some(\"room:1\") 2"),
        ("/users/ann/channels?after=1:a", "conversations demo ann Some(\"1:a\") 50"),
        ("/users/ann/status", "status demo [User(\"ann\")]"),
        ("/search?query=a%20b", "search app demo \"a b\" None None 20"),
        (
            "/search?query=x&channel=room:1&before=7&limit=9",
            "search app demo \"x\" Some(Channel(\"room:1\")) Some(7) 9",
        ),
    ] {
        world.get(path, &key).await.ok();
        assert_eq!(world.backend.asked.lock().unwrap().pop().unwrap(), asked, "{path}");
    }
    for path in [
        "/channels/a/messages?before=1&after=2",
        "/channels/a/messages?before=x",
        "/channels/a/messages?limit=0",
        "/channels/a/messages?limit=101",
        "/channels/a/messages?limit=1&limit=1",
        "/channels/a/messages?limit=01",
        "/channels?limit=-1",
        "/users?limit=1001",
        "/users?after=%0A",
    ] {
        assert_eq!(world.get(path, &key).await.code(), "bad_field", "{path}");
    }
    assert_eq!(world.get("/channels/a%20b/messages", &key).await.code(), "bad_channel");
    assert_eq!(
        world.get("/stats", &key).await.ok().body,
        json!({
            "node": "n1", "users": 4, "connections": 12, "missing": ["push-3"],
            "nodes": [
                {"node": "n1", "name": "push-1", "users": 3, "connections": 6},
                {"node": "n2", "name": "push-2", "users": 3, "connections": 6},
            ],
        }),
        "who is at two servers is one user"
    );
    let live = world.get("/channels", &key).await.ok().body;
    let one = json!({"channel": "chat:a", "subscribers": 2});
    assert_eq!(live, json!({"channels": [one], "missing": ["push-3"]}));
}

#[tokio::test]
async fn signals_are_told() {
    let (world, key) = with_key().await;
    world
        .ask("POST", "/signals", &key, json!({"channel": "a", "event": "tick", "ttl": 5, "data": [1]}))
        .await
        .ok();
    world.ask("POST", "/signals", &key, json!({"channel": "a"})).await.ok();
    let told = world.backend.told.lock().unwrap();
    assert_eq!((told[0].ttl_ms, &*told[0].data, told[0].event.as_str()), (Some(5), &b"[1]"[..], "tick"));
    assert_eq!((&*told[1].data, told[1].from.user.as_str()), (&b"null"[..], "server"));
}

#[tokio::test]
async fn users_are_made_changed_and_removed() {
    let (world, key) = with_key().await;
    let ask = async |method: &str, path: &str, body: Value| world.ask(method, path, &key, body).await;
    let body = json!({"user": "ann", "name": "Ann", "roles": ["support"], "info": {"city": "Seoul"}, "password": PASSWORD});
    let made = ask("POST", "/users", body.clone()).await;
    assert_eq!((made.status.as_u16(), &made.body["info"]["city"]), (201, &json!("Seoul")));
    assert_eq!(ask("POST", "/users", body).await.code(), "conflict");
    let token = world.log_in("ann", "phone").await.text("access_token");
    assert_eq!(world.get("/me", &token).await.body["roles"], json!(["support"]));

    let changed = ask("PATCH", "/users/ann", json!({"name": null, "roles": [], "info": null})).await.ok();
    assert_eq!(
        (&changed.body["name"], &changed.body["info"], &changed.body["password"]),
        (&Value::Null, &Value::Null, &json!(true))
    );
    assert!(world.admits(&token).await, "nothing of that is a reason to end anything");
    world.clock.advance(1_000);
    ask("PATCH", "/users/ann", json!({"disabled": true})).await.ok();
    assert!(!world.admits(&token).await);
    ask("PATCH", "/users/ann", json!({"disabled": false})).await.ok();
    world.clock.advance(1_000);
    assert!(world.admits(&world.log_in("ann", "phone").await.text("access_token")).await);

    assert_eq!(world.get("/users?limit=1", &key).await.ok().body["after"], "ann");
    assert_eq!(world.get("/users?after=ann", &key).await.ok().body, json!({"users": []}));
    assert_eq!(world.get("/users/ann/devices", &key).await.ok().body["devices"][0]["id"], "phone");
    ask("DELETE", "/users/ann/devices/phone", json!({})).await.ok();
    assert_eq!(world.get("/users/ann/devices", &key).await.ok().body["devices"], json!([]));
    assert_eq!(ask("DELETE", "/users/ann/devices/none", json!({})).await.code(), "not_found");

    ask("DELETE", "/users/ann", json!({})).await.ok();
    for (method, path) in [("GET", "/users/ann"), ("PATCH", "/users/ann"), ("DELETE", "/users/ann")] {
        assert_eq!(ask(method, path, json!({})).await.code(), "not_found", "{method} {path}");
    }
    for body in [
        json!({}),
        json!({"user": ""}),
        json!({"user": "x", "roles": "a"}),
        json!({"user": "x", "roles": ["a b"]}),
        json!({"user": "x", "info": []}),
        json!({"user": "x", "info": {"a": "x".repeat(5_000)}}),
        json!({"user": "x", "password": "short"}),
        json!({"user": "x", "name": 7}),
    ] {
        assert_eq!(ask("POST", "/users", body.clone()).await.code(), "bad_field", "{body}");
    }
}

#[tokio::test]
async fn connections_are_ended_and_blocks_made() {
    let (world, key) = with_key().await;
    world.register("ann").await;
    let phone = world.log_in("ann", "phone").await.text("access_token");
    let laptop = world.log_in("ann", "laptop").await.text("access_token");
    world.clock.advance(1_000);
    world.ask("POST", "/users/ann/disconnect", &key, json!({"device": "phone"})).await.ok();
    assert!(!world.admits(&phone).await && world.admits(&laptop).await);
    world.ask("POST", "/users/ann/disconnect", &key, json!({})).await.ok();
    assert!(!world.admits(&laptop).await);
    for (method, follows) in [("PUT", true), ("DELETE", false)] {
        world.ask(method, "/users/ann/subscriptions/room:1", &key, json!({})).await.ok();
        let asked = world.backend.asked.lock().unwrap().pop();
        assert_eq!(asked, Some(format!("enlist demo/room:1 ann {follows}")));
    }
    world.ask("PUT", "/users/ann/blocks/bob", &key, json!({})).await.ok();
    assert_eq!(world.get("/users/ann/blocks", &key).await.ok().body["blocks"][0]["user"], "bob");
    assert_eq!(world.ask("PUT", "/users/ann/blocks/ann", &key, json!({})).await.code(), "bad_field");
    world.ask("DELETE", "/users/ann/blocks/bob", &key, json!({})).await.ok();
    assert_eq!(world.get("/users/ann/blocks", &key).await.ok().body, json!({"blocks": []}));
}

#[tokio::test]
async fn members_come_and_go() {
    let (world, key) = with_key().await;
    let ask = async |method: &str, path: &str, body: Value| world.ask(method, path, &key, body).await;
    ask("POST", "/channels/room:1/members", json!({"add": ["ann", "bob"], "role": "owner"})).await.ok();
    ask("PUT", "/channels/room:1/members/cid", json!({})).await.ok();
    ask("DELETE", "/channels/room:1/members/bob", json!({})).await.ok();
    let listed = world.get("/channels/room:1/members", &key).await.ok().body;
    let members: Vec<_> =
        listed["members"].as_array().unwrap().iter().map(|one| (&one["user"], &one["role"])).collect();
    assert_eq!(members, [(&json!("ann"), &json!("owner")), (&json!("cid"), &Value::Null)]);
    assert_eq!(
        world.get("/channels/room:1", &key).await.ok().body,
        json!({"channel": "room:1", "history": "none", "presence": false, "members": true})
    );
    for body in [
        json!({"add": "ann"}),
        json!({"add": [1]}),
        json!({"add": ["a"], "remove": ["a"]}),
        json!({"add": [""]}),
    ] {
        assert_eq!(ask("POST", "/channels/room:1/members", body.clone()).await.code(), "bad_field", "{body}");
    }
    assert_eq!(ask("PUT", "/channels/@ann/members/bob", json!({})).await.code(), "forbidden");
}

#[tokio::test]
async fn the_description_is_whole() {
    let world = World::new().await;
    let document = world.get("/openapi.json", "").await.ok().body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::HashSet::new();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{path}");
            assert!(!operation["tags"][0].as_str().unwrap().is_empty(), "{method} {path} has no tag");
            let real = path.replace(['{', '}'], "");
            let got = world.ask(&method.to_uppercase(), &real, "", json!({})).await;
            assert_ne!(got.status, 405, "{method} {path}");
            if path.ends_with("/callback") {
                // Its credential is a cookie.
                continue;
            }
            let secured = operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
            assert_eq!(
                got.status == 401 && got.code() == "unauthenticated",
                secured,
                "{method} {path}: {got:?}"
            );
        }
    }
    assert!(ids.len() > 50, "{}", ids.len());
    let wrong = world.ask("PUT", "/messages", "", json!({})).await;
    assert_eq!(
        (wrong.code(), wrong.headers.get("allow").map(|allow| allow.to_str().unwrap())),
        ("method_not_allowed", Some("POST"))
    );
}
