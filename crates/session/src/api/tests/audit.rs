//! What an app's back end changes, as the audit log tells of it.

use super::*;

use xpush_core::ports::directory::Scope;

use super::api_keys::named_key;

/// The app's log, the oldest entry first.
async fn log(world: &World, admin: &str) -> Vec<Value> {
    let got = world.get("/admin/apps/demo/audit?limit=500", admin).await.ok();
    let mut entries = got.body["entries"].as_array().unwrap().clone();
    entries.reverse();
    entries
}

#[tokio::test]
async fn everything_that_lasts_is_told_with_the_key_that_changed_it() {
    let world = World::new().await;
    let (id, key) = named_key(&world, Some("shop back end"), &[Scope::Admin]).await;
    let account = json!({"user": "ann", "name": "Ann", "password": PASSWORD});
    for (method, path, body, what) in [
        ("POST", "/users", account.clone(), "user.create done"),
        ("POST", "/users", account, "user.create refused"),
        ("PATCH", "/users/ann", json!({"roles": ["support"]}), "user.change done"),
        ("PATCH", "/users/ann", json!({"password": "another horse"}), "user.password done"),
        ("PATCH", "/users/ann", json!({"disabled": true}), "user.ban done"),
        ("PATCH", "/users/ann", json!({"disabled": false}), "user.unban done"),
        ("POST", "/users/ann/disconnect", json!({}), "user.revoke done"),
        ("POST", "/users/ann/disconnect", json!({"device": "phone"}), "device.revoke done"),
        ("DELETE", "/users/ann/devices/phone", json!({}), "device.revoke done"),
        ("PUT", "/users/ann/blocks/bob", json!({}), "user.block done"),
        ("DELETE", "/users/ann/blocks/bob", json!({}), "user.unblock done"),
        (
            "POST",
            "/channels/room:1/members",
            json!({"add": ["ann", "bob"], "role": "owner"}),
            "members.change done",
        ),
        ("PUT", "/channels/room:1/members/carl", json!({}), "members.change done"),
        ("DELETE", "/channels/room:1/members/carl", json!({}), "members.change done"),
        ("DELETE", "/channels/room:1/messages/3", json!({}), "message.delete done"),
        ("POST", "/keys", json!({"scopes": ["read"]}), "api_key.create done"),
        ("DELETE", "/users/ann", json!({}), "user.delete done"),
    ] {
        let before = log(&world, &key).await.len();
        world.ask(method, path, &key, body).await;
        let entries = log(&world, &key).await;
        assert_eq!(entries.len(), before + 1, "{method} {path} has made another number of entries");
        let entry = &entries[before];
        let told = format!("{} {}", entry["what"].as_str().unwrap(), entry["outcome"].as_str().unwrap());
        assert_eq!(told, what, "{method} {path}");
        assert_eq!(
            (&entry["by"], &entry["name"], &entry["via"]),
            (&json!(id), &json!("shop back end"), &json!("key"))
        );
    }
    let text = serde_json::to_string(&log(&world, &key).await).unwrap();
    for secret in [PASSWORD, "another horse", "argon2", key.rsplit('.').next().unwrap()] {
        assert!(!text.contains(secret), "a secret is in the log: {text}");
    }
    // What is said is in the channel, and not here.
    let before = log(&world, &key).await.len();
    for (method, path, body) in [
        ("POST", "/messages", json!({"channel": "room:1", "data": 1})),
        ("PATCH", "/channels/room:1/messages/3", json!({"data": 2})),
        ("POST", "/signals", json!({"channel": "room:1", "event": "typing"})),
    ] {
        world.ask(method, path, &key, body).await.ok();
    }
    assert_eq!(log(&world, &key).await.len(), before);
}

#[tokio::test]
async fn a_file_that_a_back_end_deletes_is_told_and_one_that_its_owner_deletes_is_not() {
    let rule = xpush_core::files::FileRule {
        channels: "*".into(),
        size: 1_000,
        types: vec!["*/*".into()],
        keep_ms: None,
        per_day: None,
    };
    let world = World::with(AppRecord { files: vec![rule], ..app(Accounts::Open) }).await;
    let (id, key) = named_key(&world, Some("shop back end"), &[Scope::Admin]).await;
    let ann = world.register("ann").await.text("access_token");
    world.ask("PUT", "/channels/room:1/members/ann", &key, json!({})).await.ok();
    let before = log(&world, &key).await.len();
    let upload = async || {
        let mut asked = request("POST", "/channels/room:1/files?name=a.txt", &ann, "hello");
        asked.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        let got = world.send(asked).await;
        assert_eq!(got.status, 201, "{got:?}");
        format!("/files/{}", got.body["file"]["id"].as_str().unwrap())
    };
    world.send(request("DELETE", &upload().await, &ann, "")).await.ok();
    assert_eq!(log(&world, &key).await.len(), before);
    world.send(request("DELETE", &upload().await, &key, "")).await.ok();
    let entries = log(&world, &key).await;
    assert_eq!(entries.len(), before + 1);
    let entry = &entries[before];
    assert_eq!(
        (&entry["what"], &entry["by"], &entry["user"]),
        (&json!("file.delete"), &json!(id), &json!("ann"))
    );
    assert_eq!(entry["before"]["name"], "a.txt");
}

#[tokio::test]
async fn a_token_of_the_role_server_is_told_by_its_user() {
    let world = World::new().await;
    let (_, key) = named_key(&world, None, &[Scope::Admin]).await;
    let now = world.clock.wall() / 1_000;
    let token =
        app_token(json!({"sub": "back", "app": "demo", "iat": now, "exp": now + 60, "roles": ["server"]}));
    assert_eq!(world.ask("POST", "/users", &token, json!({"user": "ann"})).await.status, 201);
    let entry = &log(&world, &key).await[0];
    assert_eq!((&entry["by"], &entry["via"], entry.get("name")), (&json!("back"), &json!("key"), None));
}

#[tokio::test]
async fn what_a_back_end_has_signed_before_it_makes_the_user_stays_good() {
    let world = World::new().await;
    let (_, key) = named_key(&world, None, &[Scope::Users]).await;
    let now = world.clock.wall() / 1_000;
    let token = app_token(json!({"sub": "ann", "app": "demo", "iat": now - 60, "exp": now + 60}));
    world.get("/me", &token).await.ok();
    assert_eq!(world.ask("POST", "/users", &key, json!({"user": "ann", "name": "Ann"})).await.status, 201);
    assert_eq!(world.get("/me", &token).await.ok().body["name"], "Ann");
}

#[tokio::test]
async fn who_is_erased_is_named_by_no_entry_of_others() {
    let world = World::new().await;
    let (_, key) = named_key(&world, None, &[Scope::Admin]).await;
    for name in ["ann", "unique"] {
        world.ask("POST", "/users", &key, json!({"user": name})).await;
    }
    world.ask("PUT", "/users/ann/blocks/unique", &key, json!({})).await.ok();
    world.ask("POST", "/channels/room:1/members", &key, json!({"add": ["ann", "unique"]})).await.ok();
    world.ask("DELETE", "/users/unique", &key, json!({})).await.ok();
    world.erased("unique").await;
    let entries = log(&world, &key).await;
    assert!(!serde_json::to_string(&entries).unwrap().contains("unique"), "{entries:?}");
    let of = |what: &str| entries.iter().find(|entry| entry["what"] == what).unwrap();
    assert_eq!(of("user.block")["user"], "ann", "whose block it was stays");
    assert_eq!(of("members.change")["after"]["added"], json!(["ann", "$erased"]));
}
