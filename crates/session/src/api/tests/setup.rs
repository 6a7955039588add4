use super::*;

use crate::setup::begin_setup;

async fn begin(world: &World) -> Option<String> {
    begin_setup(world.directory.clone()).await.unwrap()
}

fn body(token: &str, name: &str) -> Value {
    json!({"token": token, "user": name, "password": PASSWORD})
}

#[tokio::test]
async fn the_link_makes_one_operator() {
    let world = World::new().await;
    let token = begin(&world).await.unwrap();
    let entry = world.entry(Key::Secret("setup".into())).await.unwrap().record;
    let Record::Secret(kept) = entry else { panic!() };
    assert!(kept.len() == 32 && *kept != *token.as_bytes(), "only its digest is kept");
    let operator = world.post("/setup", body(&token, "root")).await.ok();
    assert_eq!((&operator.body["app"], &operator.body["user"]), (&json!("xpush"), &json!("root")));
    let me = world.get("/me", &operator.text("access_token")).await.ok();
    assert_eq!(me.body["roles"], json!(["admin"]));
    assert_eq!(world.post("/setup", body(&token, "second")).await.code(), "forbidden");
    assert_eq!(begin(&world).await, None);
    let log_in = json!({"app": "xpush", "user": "root", "password": PASSWORD});
    world.post("/auth/login", log_in).await.ok();
    assert_eq!(world.page(Listing::Users(App::new("xpush").unwrap())).await.len(), 1);
}

#[tokio::test]
async fn a_wrong_link_makes_nobody() {
    let world = World::new().await;
    assert_eq!(world.post("/setup", body("", "root")).await.code(), "forbidden", "there is no link yet");
    let old = begin(&world).await.unwrap();
    let token = begin(&world).await.unwrap();
    assert_ne!(old, token);
    for (token, name, code) in [
        (old.as_str(), "root", "forbidden"),
        ("", "root", "forbidden"),
        ("x", "root", "forbidden"),
        (&token, "a:b", "bad_field"),
        (&token, "", "bad_field"),
    ] {
        assert_eq!(world.post("/setup", body(token, name)).await.code(), code);
    }
    let short = json!({"token": token, "user": "root", "password": "short"});
    assert_eq!(world.post("/setup", short).await.code(), "bad_field");
    assert_eq!(world.hashed(), 0, "a wrong token costs nothing");
    world.post("/setup", body(&token, "root")).await.ok();
}

#[tokio::test]
async fn a_taken_name_leaves_the_link_good() {
    let world = World::new().await;
    world.put(Key::User(App::new("xpush").unwrap(), user("root")), Record::User(Box::default())).await;
    let token = begin(&world).await.unwrap();
    assert_eq!(world.post("/setup", body(&token, "root")).await.code(), "conflict");
    world.post("/setup", body(&token, "other")).await.ok();
}

#[tokio::test]
async fn of_many_at_once_one_gets_in() {
    let world = Arc::new(World::new().await);
    let token = begin(&world).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (world, body) = (world.clone(), body(&token, &format!("root{number}")));
            tokio::spawn(async move { world.post("/setup", body).await })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        let got = task.await.unwrap();
        if got.status == 200 {
            made += 1;
        } else {
            assert_eq!(got.code(), "forbidden");
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn an_operator_made_by_other_means_voids_the_link() {
    let world = World::new().await;
    let token = begin(&world).await.unwrap();
    let admin = UserRecord { roles: vec![xpush_core::Role::new("admin").unwrap()], ..UserRecord::default() };
    world.put(Key::User(App::new("xpush").unwrap(), user("cli")), Record::User(Box::new(admin))).await;
    assert_eq!(world.post("/setup", body(&token, "root")).await.code(), "forbidden");
}

#[tokio::test]
async fn the_link_leads_to_the_page_that_asks() {
    let world = World::new().await;
    let link = world.get("/setup-page", "").await;
    assert_eq!(link.status, 307);
    assert_eq!(link.headers["location"], "/admin/?setup");
}
