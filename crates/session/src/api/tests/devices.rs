use super::*;

use crate::devices::seen;
use xpush_core::ports::directory::DeviceRecord;

async fn device(world: &World, id: &str) -> DeviceRecord {
    let key = Key::Device(demo(), user("ann"), Device::new(id).unwrap());
    match world.entry(key).await {
        Some(Entry { record: Record::Device(device), .. }) => *device,
        _ => panic!("no device {id}"),
    }
}

fn ids(got: &Got) -> Vec<&str> {
    got.body["devices"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn devices_are_listed_and_renamed() {
    let world = World::new().await;
    world.register("ann").await;
    let token = world.log_in("ann", "phone").await.text("access_token");
    world.log_in("ann", "방/1").await;
    let listed = world.get("/me/devices", &token).await.ok();
    assert_eq!(ids(&listed), ["phone", "방/1"]);
    let phone = &listed.body["devices"][0];
    assert_eq!(
        (&phone["current"], &phone["push"], &phone["name"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    let path = "/me/devices/%EB%B0%A9%2F1";
    let renamed = world.ask("PATCH", path, &token, json!({"name": "Kitchen"})).await.ok();
    assert_eq!((&renamed.body["name"], &renamed.body["id"]), (&json!("Kitchen"), &json!("방/1")));
    // What the user has called it stays, whatever the app calls it at the next log-in.
    let described = json!({"user": "ann", "password": PASSWORD, "device": {"id": "방/1", "name": "Tablet", "platform": "web"}});
    world.post("/auth/login", described).await.ok();
    let tablet = device(&world, "방/1").await;
    assert_eq!((tablet.name.as_deref(), tablet.platform.as_deref()), (Some("Kitchen"), Some("web")));
    for (method, path, body, code) in [
        ("PATCH", "/me/devices/none", json!({"name": "x"}), "not_found"),
        ("PATCH", "/me/devices/phone", json!({}), "bad_field"),
        ("PATCH", "/me/devices/phone", json!({"name": ""}), "bad_field"),
        ("PATCH", "/me/devices/a%0Ab", json!({"name": "x"}), "bad_field"),
        ("PATCH", "/me/devices/%FF", json!({"name": "x"}), "bad_request"),
        ("PUT", "/me/devices/none/push", json!({"platform": "ios", "token": "t"}), "not_found"),
        ("PUT", "/me/devices/phone/push", json!({"platform": "ios"}), "bad_field"),
        ("PUT", "/me/devices/phone/push", json!({"token": "t"}), "bad_field"),
        ("PUT", "/me/devices/phone/push", json!({"platform": "ios", "token": ""}), "bad_field"),
        ("PUT", "/me/devices/phone/push", json!({"platform": "ios", "token": "x".repeat(4097)}), "bad_field"),
        ("PUT", "/me/devices/phone/push", json!({"platform": "<b>", "token": "t"}), "bad_field"),
        ("DELETE", "/me/devices/none/push", json!({}), "not_found"),
        ("POST", "/me/devices", json!({}), "method_not_allowed"),
    ] {
        assert_eq!(world.ask(method, path, &token, body).await.code(), code, "{method} {path}");
    }
}

#[tokio::test]
async fn a_push_token_is_kept_and_not_told() {
    let world = World::new().await;
    world.register("ann").await;
    let token = world.log_in("ann", "phone").await.text("access_token");
    let push = json!({"platform": "android", "token": "push-token-1"});
    let got = world.ask("PUT", "/me/devices/phone/push", &token, push).await.ok();
    assert_eq!((&got.body["push"], &got.body["platform"]), (&json!(true), &json!("android")));
    assert!(!got.body.to_string().contains("push-token-1"));
    assert_eq!(device(&world, "phone").await.push_token.as_deref(), Some("push-token-1"));
    world.ask("DELETE", "/me/devices/phone/push", &token, json!({})).await.ok();
    assert_eq!(device(&world, "phone").await.push_token, None);
}

#[tokio::test]
async fn logging_a_phone_out_voids_what_it_has() {
    let world = World::new().await;
    world.register("ann").await;
    let (phone, laptop) = (world.log_in("ann", "phone").await, world.log_in("ann", "laptop").await);
    let now = world.clock.wall() / 1000;
    let own = app_token(json!({"sub": "ann", "device": "phone", "iat": now, "exp": now + 3600}));
    let token = laptop.text("access_token");
    world.ask("PUT", "/me/devices/phone/push", &token, json!({"platform": "ios", "token": "t"})).await.ok();
    assert!(world.admits(&own).await);
    world.clock.advance(10);
    world.ask("DELETE", "/me/devices/phone", &token, json!({})).await.ok();
    assert!(!world.admits(&phone.text("access_token")).await);
    assert!(!world.admits(&own).await, "an app's own token for that device");
    let refresh = json!({"refresh_token": phone.text("refresh_token")});
    assert_eq!(world.post("/auth/refresh", refresh).await.code(), "revoked");
    assert!(world.admits(&token).await);
    assert_eq!(ids(&world.get("/me/devices", &token).await), ["laptop"]);
    assert_eq!(device(&world, "phone").await.push_token, None);
    // It may come back, with the password.
    world.clock.advance(10);
    let again = world.log_in("ann", "phone").await;
    assert!(world.admits(&again.text("access_token")).await);
    assert_eq!(ids(&world.get("/me/devices", &token).await), ["laptop", "phone"]);
}

#[tokio::test]
async fn a_device_that_was_never_noted_can_be_logged_out() {
    let world = World::new().await;
    let token = world.register("ann").await.text("access_token");
    let now = world.clock.wall() / 1000;
    let own = app_token(json!({"sub": "ann", "device": "tv", "iat": now, "exp": now + 3600}));
    world.clock.advance(10);
    world.ask("DELETE", "/me/devices/tv", &token, json!({})).await.ok();
    assert!(!world.admits(&own).await);
}

#[tokio::test]
async fn a_connection_is_noted_once_an_hour() {
    let world = World::new().await;
    let (ann, phone) = (user("ann"), Device::new("phone").unwrap());
    let see = async |now| seen(world.directory.clone(), &demo(), &ann, &phone, now).await.unwrap();
    let revision =
        async || world.entry(Key::Device(demo(), user("ann"), phone.clone())).await.unwrap().revision;
    see(1_000).await;
    let first = revision().await;
    see(3_600_000).await;
    assert_eq!(revision().await, first);
    see(3_601_000).await;
    assert_ne!(revision().await, first);
    let record = device(&world, "phone").await;
    assert_eq!((record.created_at, record.seen_at), (1_000, 3_601_000));
}

#[tokio::test]
async fn a_user_has_a_hundred_devices_and_none_that_is_logged_out_is_forgotten_first() {
    let world = World::new().await;
    let ann = user("ann");
    let revoked = DeviceRecord { tokens_valid_from: 1, ..DeviceRecord::default() };
    let key = |id: &str| Key::Device(demo(), user("ann"), Device::new(id).unwrap());
    world.put(key("stolen"), Record::Device(Box::new(revoked))).await;
    for number in 0..101 {
        let id = Device::new(&format!("d{number}")).unwrap();
        seen(world.directory.clone(), &demo(), &ann, &id, 1_000 + number).await.unwrap();
    }
    assert_eq!(world.page(Listing::Devices(demo(), ann)).await.len(), 100);
    assert!(world.entry(key("stolen")).await.is_some());
    assert!(world.entry(key("d0")).await.is_none() && world.entry(key("d100")).await.is_some());
}
