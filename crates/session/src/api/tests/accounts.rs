use super::*;

#[tokio::test]
async fn an_account_from_its_making_to_the_next_log_in() {
    let world = World::new().await;
    let device = json!({"id": "phone", "name": "Ann's phone", "platform": "ios"});
    let body = json!({"user": "ann", "password": PASSWORD, "name": " Ann ", "device": device, "unknown": 1});
    let registered = world.post("/auth/register", body).await.ok();
    assert_eq!((&registered.body["app"], &registered.body["user"]), (&json!("demo"), &json!("ann")));
    assert_eq!(registered.body["name"], "Ann");
    assert_eq!(registered.headers["cache-control"], "no-store");
    let token = registered.text("access_token");
    let me = world.get("/me", &token).await.ok();
    assert_eq!(
        (&me.body["user"], &me.body["name"], &me.body["device"]),
        (&json!("ann"), &json!("Ann"), &json!("phone"))
    );

    let again = world.log_in("ann", "laptop").await;
    assert_ne!(again.text("refresh_token"), registered.text("refresh_token"));
    assert!(world.admits(&token).await, "both are logged in");
    let devices = world.get("/me/devices", &token).await.ok().body;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
    assert_eq!(devices["devices"][1]["name"], "Ann's phone");
}

#[tokio::test]
async fn an_access_token_is_what_the_protocol_says() {
    let world = World::new().await;
    let operator = UserRecord {
        password: world
            .api
            .hashing
            .digest(crate::accounts::password::Password::new(PASSWORD, "").unwrap())
            .await
            .ok(),
        name: Some("Ann".into()),
        roles: vec![xpush_core::Role::new("support").unwrap()],
        ..UserRecord::default()
    };
    world.put(Key::User(demo(), user("ann")), Record::User(Box::new(operator))).await;
    let got = world.log_in("ann", "phone").await;
    let token = got.text("access_token");
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!((header.alg, header.kid.as_deref()), (jsonwebtoken::Algorithm::HS256, Some("xpush")));
    let claims = claims(&token);
    let now = world.clock.wall();
    assert_eq!(
        (
            &claims["iss"],
            &claims["app"],
            &claims["sub"],
            &claims["device"],
            &claims["name"],
            &claims["roles"]
        ),
        (&json!("xpush"), &json!("demo"), &json!("ann"), &json!("phone"), &json!("Ann"), &json!(["support"]))
    );
    assert_eq!(claims["exp"], json!(now / 1000 + 3600));
    assert_eq!(claims["exp"].as_u64().unwrap() * 1000, got.body["expires_at"].as_u64().unwrap());
    assert!(claims["login"].is_string());
    world.clock.advance(3_600_000 + 5_000);
    assert_eq!(world.get("/me", &token).await.code(), "token_expired");
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let world = World::new().await;
    let long = "x".repeat(65);
    for (path, body, code) in [
        ("/auth/register", json!({"app": "invited", "user": "u", "password": PASSWORD}), "forbidden"),
        ("/auth/register", json!({"app": "off", "user": "u", "password": PASSWORD}), "forbidden"),
        ("/auth/register", json!({"app": "xpush", "user": "u", "password": PASSWORD}), "forbidden"),
        ("/auth/login", json!({"app": "off", "user": "u", "password": PASSWORD}), "forbidden"),
        ("/auth/login", json!({"app": "none", "user": "u", "password": PASSWORD}), "unknown_app"),
        ("/auth/login", json!({"app": "../x", "user": "u", "password": PASSWORD}), "unknown_app"),
        ("/auth/login", json!({"app": 1, "user": "u", "password": PASSWORD}), "bad_field"),
        ("/auth/login", json!({"password": PASSWORD}), "bad_field"),
        ("/auth/login", json!({"user": null, "password": PASSWORD}), "bad_field"),
        ("/auth/login", json!({"user": "u"}), "bad_field"),
        ("/auth/login", json!({"user": "u", "password": 12345678}), "bad_field"),
        ("/auth/login", json!({"user": "a\nb", "password": PASSWORD}), "bad_field"),
        ("/auth/login", json!({"user": "x".repeat(129), "password": PASSWORD}), "bad_field"),
        ("/auth/register", json!({"user": "a:b", "password": PASSWORD}), "bad_field"),
        ("/auth/register", json!({"user": "g-abc", "password": PASSWORD}), "bad_field"),
        ("/auth/register", json!({"user": " u", "password": PASSWORD}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": "1234567"}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": "x".repeat(257)}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": "x".repeat(1 << 20)}), "too_large"),
        ("/auth/register", json!({"user": "u", "password": PASSWORD, "name": long}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": PASSWORD, "name": "a\u{7}"}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": PASSWORD, "device": "phone"}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": PASSWORD, "device": {}}), "bad_field"),
        ("/auth/register", json!({"user": "u", "password": PASSWORD, "device": {"id": long}}), "bad_field"),
        (
            "/auth/register",
            json!({"user": "u", "password": PASSWORD, "device": {"id": "d", "platform": "a b"}}),
            "bad_field",
        ),
        ("/auth/refresh", json!({}), "bad_field"),
        ("/auth/refresh", json!({"refresh_token": "garbage"}), "unauthenticated"),
        ("/auth/login", json!([]), "bad_request"),
        ("/auth/login", json!("x"), "bad_request"),
        ("/auth/nothing", json!({}), "not_found"),
        ("/me", json!({}), "method_not_allowed"),
        ("/auth/logout", json!({}), "unauthenticated"),
        ("/auth/password", json!({}), "unauthenticated"),
    ] {
        let got = world.post(path, body.clone()).await;
        assert_eq!(got.code(), code, "{path} {}", &body.to_string()[..body.to_string().len().min(200)]);
    }
    let broken = world.send(request("POST", "/auth/login", "", "{\"user\":")).await;
    assert_eq!(broken.code(), "bad_json");
    assert_eq!(world.hashed(), 0, "nothing of it was worth a digest");
    assert!(world.page(Listing::Users(demo())).await.is_empty());
}

#[tokio::test]
async fn whether_there_is_a_user_is_told_neither_by_the_answer_nor_by_the_work() {
    let world = World::new().await;
    world.register("ann").await;
    world.put(Key::User(demo(), user("by-token")), Record::User(Box::default())).await;
    let mut answers = Vec::new();
    for name in ["ann", "nobody", "by-token"] {
        let before = world.hashed();
        let got = world.post("/auth/login", json!({"user": name, "password": "a wrong password"})).await;
        answers.push((got.status, got.body.clone(), got.headers.clone(), world.hashed() - before));
        assert_eq!(got.code(), "bad_credentials");
    }
    assert_eq!(answers[0].3, 1);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");

    let before = world.hashed();
    let taken = world.post("/auth/register", json!({"user": "ann", "password": "another password"})).await;
    assert_eq!((taken.code(), world.hashed() - before), ("conflict", 1));
    world.register("bob").await;
    assert_eq!(world.hashed() - before, 2, "a free name costs what a taken one does");
    world.log_in("ann", "d").await;
}

#[tokio::test]
async fn who_is_switched_off_is_told_so_only_with_the_password() {
    let world = World::new().await;
    let token = world.register("ann").await.text("access_token");
    let Record::User(mut record) = world.entry(Key::User(demo(), user("ann"))).await.unwrap().record else {
        panic!()
    };
    record.disabled = true;
    world.put(Key::User(demo(), user("ann")), Record::User(record)).await;
    let log_in = |password: &str| json!({"user": "ann", "password": password});
    assert_eq!(world.post("/auth/login", log_in("a wrong password")).await.code(), "bad_credentials");
    assert_eq!(world.post("/auth/login", log_in(PASSWORD)).await.code(), "forbidden");
    assert!(!world.admits(&token).await);
}

#[tokio::test]
async fn guessing_gets_slower_and_slower() {
    let world = World::new().await;
    world.register("ann").await;
    for name in ["ann", "nobody"] {
        let guess = json!({"user": name, "password": "a wrong password"});
        for _ in 0..5 {
            assert_eq!(world.post("/auth/login", guess.clone()).await.code(), "bad_credentials");
        }
        let before = world.hashed();
        let got = world.post("/auth/login", guess).await;
        assert_eq!(
            (got.code(), &got.headers["retry-after"]),
            ("rate_limited", &HeaderValue::from_static("1"))
        );
        assert_eq!(world.hashed(), before, "at once, without work");
    }
    world.clock.advance(1_001);
    world.log_in("ann", "d").await;
    let got = world.post("/auth/login", json!({"user": "ann", "password": "a wrong password"})).await;
    assert_eq!(got.code(), "bad_credentials", "a success has cleared it");
}

#[tokio::test]
async fn two_hundred_log_ins_at_once() {
    let world = Arc::new(World::new().await);
    world.register("ann").await;
    // The thread is at a standstill.
    let (open, closed) = std::sync::mpsc::channel::<()>();
    world.api.hashing.hold(closed);
    let (answers, mut answered) = tokio::sync::mpsc::channel(200);
    for _ in 0..200 {
        let (world, answers) = (world.clone(), answers.clone());
        tokio::spawn(async move {
            let got = world.post("/auth/login", json!({"user": "ann", "password": PASSWORD})).await;
            drop(answers.send(got).await);
        });
    }
    // 32 wait for it: the others are refused meanwhile.
    for _ in 0..200 - 32 {
        let got = answered.recv().await.unwrap();
        assert_eq!(
            (got.code(), &got.headers["retry-after"]),
            ("rate_limited", &HeaderValue::from_static("2"))
        );
    }
    drop(open);
    for _ in 0..32 {
        answered.recv().await.unwrap().ok();
    }
    world.log_in("ann", "afterwards").await;
}

#[tokio::test]
async fn logging_out_ends_one_login_or_all() {
    let world = World::new().await;
    world.register("ann").await;
    let (one, two, three) =
        (world.log_in("ann", "1").await, world.log_in("ann", "2").await, world.log_in("ann", "3").await);
    world.ask("POST", "/auth/logout", &one.text("access_token"), json!({})).await.ok();
    assert!(!world.admits(&one.text("access_token")).await);
    let refresh = json!({"refresh_token": one.text("refresh_token")});
    assert_eq!(world.post("/auth/refresh", refresh).await.code(), "revoked");
    assert!(world.admits(&two.text("access_token")).await);

    let now = world.clock.wall() / 1000;
    let own = app_token(json!({"sub": "ann", "iat": now, "exp": now + 60}));
    assert!(world.admits(&own).await, "the app's own token for the same user");
    world.clock.advance(1_000);
    world.ask("POST", "/auth/logout", &two.text("access_token"), json!({"everywhere": true})).await.ok();
    for token in [&two.text("access_token"), &three.text("access_token"), &own] {
        assert!(!world.admits(token).await);
    }
    assert!(world.page(Listing::Logins(demo(), user("ann"))).await.is_empty());
    assert!(world.admits(&world.log_in("ann", "1").await.text("access_token")).await, "in the same second");
    let own = app_token(json!({"sub": "ann", "iat": now + 5, "exp": now + 60}));
    world.clock.advance(5_000);
    let refused = world.ask("POST", "/auth/logout", &own, json!({})).await;
    assert_eq!(refused.code(), "bad_request", "it belongs to no login");
}

#[tokio::test]
async fn a_new_password_ends_every_other_login() {
    let world = World::new().await;
    world.register("ann").await;
    let (mine, other) = (world.log_in("ann", "1").await, world.log_in("ann", "2").await);
    let token = mine.text("access_token");
    let change = |current: &str, new: &str| json!({"current": current, "new": new});
    let post = async |body| world.ask("POST", "/auth/password", &token, body).await;
    assert_eq!(post(change("a wrong password", "a new password")).await.code(), "bad_credentials");
    assert_eq!(post(change(PASSWORD, "short")).await.code(), "bad_field");
    assert!(world.admits(&other.text("access_token")).await);
    post(change(PASSWORD, "a new password")).await.ok();
    assert!(world.admits(&token).await);
    assert!(!world.admits(&other.text("access_token")).await);
    let refresh = json!({"refresh_token": mine.text("refresh_token")});
    world.post("/auth/refresh", refresh).await.ok();
    let old = json!({"user": "ann", "password": PASSWORD});
    assert_eq!(world.post("/auth/login", old).await.code(), "bad_credentials");
    world.post("/auth/login", json!({"user": "ann", "password": "a new password"})).await.ok();
}

#[tokio::test]
async fn a_login_by_what_holds_no_more_is_none() {
    let world = World::new().await;
    world.register("ann").await;
    let ann = Key::User(demo(), user("ann"));
    let Some(Record::User(known)) = world.entry(ann.clone()).await.map(|entry| entry.record) else {
        panic!("an account");
    };
    // As if it had waited for so long between the look at the password and the login.
    let begin = async || {
        let begun = crate::accounts::begin(&world.api, &demo(), &user("ann"), &known, None).await;
        begun.map(drop).map_err(|refusal| refusal.problem.code)
    };
    assert_eq!(begin().await, Ok(()));
    let logins = async || world.page(Listing::Logins(demo(), user("ann"))).await.len();
    assert_eq!(logins().await, 2);
    let another = UserRecord { password: Some("another".into()), ..(*known).clone() };
    let banned = UserRecord { disabled: true, ..(*known).clone() };
    for now in [Some(another), Some(banned), None] {
        let to = now.map(|record| Record::User(Box::new(record)));
        let change = Change { key: ann.clone(), expected: Expected::Any, to };
        ask(|done| world.directory.apply(change, done)).await.unwrap();
        assert_eq!(begin().await, Err(Code::BadCredentials));
        assert_eq!(logins().await, 2);
    }
}

#[tokio::test]
async fn a_user_has_fifty_logins_and_the_quietest_goes() {
    let world = World::new().await;
    let record = UserRecord::default();
    world.put(Key::User(demo(), user("ann")), Record::User(Box::new(record.clone()))).await;
    let mut tokens = Vec::new();
    for _ in 0..51 {
        world.clock.advance(1);
        let tokens_of = crate::accounts::begin(&world.api, &demo(), &user("ann"), &record, None).await;
        tokens.push(
            tokens_of.unwrap_or_else(|_| panic!()).object()["access_token"].as_str().unwrap().to_owned(),
        );
    }
    assert_eq!(world.page(Listing::Logins(demo(), user("ann"))).await.len(), 50);
    assert!(!world.admits(&tokens[0]).await);
    assert!(world.admits(&tokens[1]).await && world.admits(&tokens[50]).await);
}
