use super::*;

use xpush_core::ports::directory::MemberRecord;
use xpush_core::ports::erasure::NOBODY;
use xpush_core::ports::message_log::{Draft, MessageLog, Range};
use xpush_core::{Channel, ChannelKey, Retention};
use xpush_testkit::sample::draft;

fn member(channel: &str, name: &str) -> Key {
    Key::Member(ChannelKey::new(demo(), Channel::new(channel).unwrap()), user(name))
}

#[tokio::test]
async fn users_say_what_they_are_called() {
    let world = World::new().await;
    let token = world.register("ann").await.text("access_token");
    let changed = world
        .ask("PATCH", "/me", &token, json!({"name": "Ann ✨", "roles": ["admin"], "info": {}}))
        .await
        .ok();
    assert_eq!((&changed.body["name"], &changed.body["roles"]), (&json!("Ann ✨"), &json!([])));
    assert_eq!(changed.body["password"], json!(true));
    for (body, code) in [
        (json!({}), "bad_field"),
        (json!({"name": ""}), "bad_field"),
        (json!({"name": 1}), "bad_field"),
        (json!({"name": "x".repeat(65)}), "bad_field"),
    ] {
        assert_eq!(world.ask("PATCH", "/me", &token, body).await.code(), code);
    }
    assert_eq!(world.log_in("ann", "d").await.body["name"], "Ann ✨");
    let removed = world.ask("PATCH", "/me", &token, json!({"name": null})).await.ok();
    assert_eq!(removed.body["name"], Value::Null);
}

#[tokio::test]
async fn any_token_of_an_app_opens_me_and_nothing_else_does() {
    let world = World::new().await;
    let now = world.clock.wall() / 1000;
    let own = app_token(json!({"sub": "bea", "name": "Bea", "iat": now, "exp": now + 60, "device": "kiosk"}));
    let me = world.get("/me?app=demo", &own).await.ok();
    assert_eq!(
        (&me.body["user"], &me.body["name"], &me.body["password"]),
        (&json!("bea"), &json!("Bea"), &json!(false))
    );
    world.ask("PATCH", "/me", &own, json!({"name": "Beatrice"})).await.ok();
    assert_eq!(world.get("/me", &own).await.body["name"], "Beatrice");
    let expired = app_token(json!({"sub": "bea", "iat": now - 60, "exp": now - 10}));
    assert_eq!(world.get("/me", &expired).await.code(), "token_expired");
    let got = world.get("/me", "garbage").await;
    assert_eq!(
        (got.code(), &got.headers["www-authenticate"]),
        ("unauthenticated", &HeaderValue::from_static("Bearer"))
    );
    assert_eq!(world.get("/me", "").await.code(), "unauthenticated");
    assert_eq!(
        world.get("/me?app=invited", &world.register("ann").await.text("access_token")).await.code(),
        "unauthenticated"
    );
    for header in ["Basic abc", "Bearer", "bearer  "] {
        let mut request = request("GET", "/me", "", "");
        request.headers_mut().insert("authorization", header.parse().unwrap());
        assert_eq!(world.send(request).await.code(), "unauthenticated", "{header}");
    }
    let mut twice = request("GET", "/me", &own, "");
    twice.headers_mut().append("authorization", "Bearer other".parse().unwrap());
    assert_eq!(world.send(twice).await.code(), "unauthenticated");
}

#[tokio::test]
async fn blocks_are_made_listed_and_ended() {
    let world = World::new().await;
    let token = world.register("ann").await.text("access_token");
    for name in ["bob", "c%2Fd", "bob"] {
        world.ask("PUT", &format!("/me/blocks/{name}"), &token, json!({})).await.ok();
    }
    let listed = world.get("/me/blocks", &token).await.ok().body;
    assert_eq!(
        listed,
        json!({"blocks": [{"user": "bob", "since": world.clock.wall()}, {"user": "c/d", "since": world.clock.wall()}]})
    );
    let behind = world.get("/me/blocks?after=bob", &token).await.ok().body;
    assert_eq!(behind["blocks"][0]["user"], "c/d");
    assert!(world.entry(Key::Block(demo(), user("ann"), user("bob"))).await.is_some());
    world.ask("DELETE", "/me/blocks/bob", &token, json!({})).await.ok();
    world.ask("DELETE", "/me/blocks/bob", &token, json!({})).await.ok();
    assert!(world.entry(Key::Block(demo(), user("ann"), user("bob"))).await.is_none());
    assert_eq!(world.ask("PUT", "/me/blocks/ann", &token, json!({})).await.code(), "bad_field");
    assert_eq!(world.ask("PUT", "/me/blocks/a%0A", &token, json!({})).await.code(), "bad_field");
    assert_eq!(world.get("/me/blocks?after=%0A", &token).await.code(), "bad_field");
}

#[tokio::test]
async fn a_member_mutes_a_channel() {
    let world = World::new().await;
    let token = world.register("ann").await.text("access_token");
    let record = MemberRecord { role: xpush_core::Role::new("owner").ok(), muted: false, since: 7 };
    world.put(member("room:1", "ann"), Record::Member(record.clone())).await;
    let put = async |path: &str, body| world.ask("PUT", path, &token, body).await;
    put("/me/channels/room:1", json!({"muted": true})).await.ok();
    let muted = world.entry(member("room:1", "ann")).await.unwrap().record;
    assert!(muted == Record::Member(MemberRecord { muted: true, ..record }));
    assert_eq!(put("/me/channels/room:2", json!({"muted": true})).await.code(), "not_found");
    assert_eq!(put("/me/channels/room:1", json!({})).await.code(), "bad_field");
    assert_eq!(put("/me/channels/a*b", json!({"muted": true})).await.code(), "bad_channel");
}

#[tokio::test]
async fn who_goes_takes_everything_along() {
    let world = World::new().await;
    world.register("ann").await;
    world.register("bob").await;
    let login = world.log_in("ann", "phone").await;
    let token = login.text("access_token");
    world.ask("PUT", "/me/blocks/bob", &token, json!({})).await.ok();
    let owner = MemberRecord { role: xpush_core::Role::new("owner").ok(), ..MemberRecord::default() };
    world.put(member("room:1", "ann"), Record::Member(owner.clone())).await;
    world.put(member("room:1", "bob"), Record::Member(MemberRecord::default())).await;
    let identity = Key::Identity(demo(), "https://issuer.example".into(), "1".into());
    world.put(identity.clone(), Record::Identity(user("ann"))).await;
    let room = ChannelKey::new(demo(), Channel::new("room:1").unwrap());
    for name in ["ann", "bob"] {
        ask(|done| world.markers.begin(&room, &user(name), done)).await.unwrap();
    }
    world
        .ask("PUT", "/me/blocks/ann", &world.log_in("bob", "b").await.text("access_token"), json!({}))
        .await
        .ok();
    let said = Draft { at: 7, ..draft("ann", "1") };
    ask(|done| world.ledger.append(&room, Retention::ENDLESS, vec![said], done)).await.unwrap();
    let own = app_token(
        json!({"sub": "ann", "iat": world.clock.wall() / 1000, "exp": world.clock.wall() / 1000 + 600}),
    );
    world.ask("DELETE", "/me", &token, json!({})).await.ok();
    assert!(!world.admits(&token).await && !world.admits(&own).await);
    let refused = world.post("/auth/register", json!({"user": "ann", "password": PASSWORD})).await;
    assert_eq!(refused.code(), "conflict", "the id is not free before all has gone");
    world.erased("ann").await;
    let page = ask(|done| world.ledger.read(&room, Range::Newest, 1, done)).await.unwrap();
    assert!(page.messages[0].revision.is_some_and(|revision| revision.deleted));
    assert_eq!(page.messages[0].from.user.as_str(), NOBODY);
    let left = ask(|done| world.markers.of_channel(&room, 10, done)).await.unwrap();
    assert_eq!(left.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["bob"]);
    let refresh = json!({"refresh_token": login.text("refresh_token")});
    assert_eq!(world.post("/auth/refresh", refresh).await.code(), "revoked");
    let ann = || user("ann");
    for listing in Listing::of_user(&demo(), &ann()) {
        assert!(world.page(listing.clone()).await.is_empty(), "{listing:?}");
    }
    assert!(world.entry(Key::User(demo(), ann())).await.is_none() && world.entry(identity).await.is_none());
    let heir = world.entry(member("room:1", "bob")).await.map(|entry| entry.record);
    assert!(heir == Some(Record::Member(owner)), "the room has an owner");
    assert!(world.entry(Key::User(demo(), user("bob"))).await.is_some());
    let gone = world.post("/auth/login", json!({"user": "ann", "password": PASSWORD})).await;
    assert_eq!(gone.code(), "bad_credentials");
    // Whoever has the name next has none of it.
    world.clock.advance(1_000);
    let next = world.register("ann").await.text("access_token");
    assert!(world.admits(&next).await && !world.admits(&token).await);
    assert!(!world.admits(&own).await, "nor what was signed for the one before");
}
