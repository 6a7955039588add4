//! `/api/v1/admin`: who may, what is kept of changes, and who is told that somebody else was faster.

use xpush_core::Role;

use super::*;
use crate::access::OPERATORS;
use crate::accounts::password::Password;
use crate::setup;

fn operators() -> App {
    App::new(OPERATORS).unwrap()
}

/// An operator, made as the command line makes one.
async fn with_operator(world: &World, name: &str) {
    let record = UserRecord {
        password: Some(Password::new(PASSWORD, "password").unwrap().digest().unwrap()),
        roles: vec![Role::new("admin").unwrap()],
        ..UserRecord::default()
    };
    world.put(Key::User(operators(), user(name)), Record::User(Box::new(record))).await;
}

/// A request as the page sends it.
fn from_page(method: &str, path: &str, cookie: &str, if_match: Option<u64>, body: &str) -> Request {
    let mut asked = request(method, path, "", body);
    let headers = asked.headers_mut();
    headers.insert("origin", "https://xpush.example".parse().unwrap());
    headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
    headers.insert("x-xpush-admin", "1".parse().unwrap());
    if !cookie.is_empty() {
        headers.insert("cookie", cookie.parse().unwrap());
    }
    if let Some(revision) = if_match {
        headers.insert("if-match", format!("\"{revision}\"").parse().unwrap());
    }
    asked
}

async fn sign_in(world: &World, name: &str) -> String {
    let body = json!({"user": name, "password": PASSWORD}).to_string();
    let got = world.send(from_page("POST", "/admin/sign-in", "", None, &body)).await.ok();
    cookie_of(&got)
}

fn cookie_of(got: &Got) -> String {
    let set = got.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/api/v1/admin"),
        "{set}"
    );
    set.split(';').next().unwrap().to_owned()
}

/// What an operator asks.
struct Page<'a> {
    world: &'a World,
    cookie: String,
}

impl Page<'_> {
    async fn get(&self, path: &str) -> Got {
        self.world.send(from_page("GET", path, &self.cookie, None, "")).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Got {
        self.world.send(from_page(method, path, &self.cookie, None, &body.to_string())).await
    }

    async fn change(&self, method: &str, path: &str, revision: u64, body: Value) -> Got {
        self.world.send(from_page(method, path, &self.cookie, Some(revision), &body.to_string())).await
    }

    async fn log(&self) -> Vec<Value> {
        self.get("/admin/audit?limit=500").await.ok().body["entries"].as_array().unwrap().clone()
    }
}

async fn page<'a>(world: &'a World, name: &str) -> Page<'a> {
    with_operator(world, name).await;
    Page { world, cookie: sign_in(world, name).await }
}

fn revision(got: &Got) -> u64 {
    got.body["revision"].as_u64().unwrap_or_else(|| panic!("no revision: {got:?}"))
}

#[tokio::test]
async fn the_first_operator_is_made_by_the_link_and_is_signed_in() {
    let world = World::new().await;
    let needed = world.get("/admin/setup", "").await.ok();
    assert_eq!(needed.body["needed"], false, "there is no link");
    let token = setup::begin_setup(world.directory.clone()).await.unwrap().unwrap();
    assert_eq!(world.get("/admin/setup", "").await.ok().body["needed"], true);
    let body = json!({"token": token, "user": "root", "password": PASSWORD, "name": "Root"}).to_string();
    let mut bare = request("POST", "/admin/setup", "", &body);
    bare.headers_mut().insert("origin", "https://xpush.example".parse().unwrap());
    assert_eq!(world.send(bare).await.code(), "forbidden", "without the guard");
    let got = world.send(from_page("POST", "/admin/setup", "", None, &body)).await.ok();
    assert_eq!((got.body["user"].as_str(), got.body["name"].as_str()), (Some("root"), Some("Root")));
    assert!(got.headers["set-cookie"].to_str().unwrap().contains("; Secure"), "the page came over TLS");
    let page = Page { world: &world, cookie: cookie_of(&got) };
    assert_eq!(page.get("/admin/me").await.ok().body["via"], "cookie");
    assert_eq!(page.get("/admin/setup").await.ok().body["needed"], false);
    let again = world.send(from_page("POST", "/admin/setup", "", None, &body)).await;
    assert_eq!(again.code(), "forbidden");
    assert_eq!(page.log().await[0]["what"], "set_up");
}

#[tokio::test]
async fn nobody_else_learns_what_is_here() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    assert_eq!(world.get("/admin/apps", "").await.code(), "unauthenticated");
    for cookie in [
        "xpush_admin=",
        "xpush_admin=a.b.c",
        &page.cookie[..page.cookie.len() - 2],
        &format!("{}x", page.cookie),
    ] {
        let got = world.send(from_page("GET", "/admin/apps", cookie, None, "")).await;
        assert_eq!(got.code(), "unauthenticated", "{cookie}");
    }
    // A good token of an app's user, a good key of another scope, and an operators' user without the role.
    let users = world.register("ann").await.text("access_token");
    assert_eq!(world.get("/admin/apps", &users).await.status, 401);
    let plain = UserRecord {
        password: Some(Password::new(PASSWORD, "password").unwrap().digest().unwrap()),
        ..UserRecord::default()
    };
    world.put(Key::User(operators(), user("helper")), Record::User(Box::new(plain))).await;
    let body = json!({"app": OPERATORS, "user": "helper", "password": PASSWORD});
    let helper = world.post("/auth/login", body.clone()).await.ok().text("access_token");
    assert_eq!(world.get("/admin/apps", &helper).await.code(), "not_found");
    let refused = json!({"user": "helper", "password": PASSWORD}).to_string();
    assert_eq!(
        world.send(from_page("POST", "/admin/sign-in", "", None, &refused)).await.code(),
        "bad_credentials"
    );
    // An operator by token.
    let body = json!({"app": OPERATORS, "user": "root", "password": PASSWORD});
    let root = world.post("/auth/login", body).await.ok().text("access_token");
    assert_eq!(world.get("/admin/me", &root).await.ok().body["via"], "token");
    assert_eq!(world.get("/admin/apps", &root).await.status, 200);
    // Keys: what is below their own app, and only with the scope for it.
    let key = |scopes: Value| {
        let page = &page;
        async move {
            let got = page.send("POST", "/admin/apps/demo/api-keys", json!({"scopes": scopes})).await;
            assert_eq!(got.status, 201, "{got:?}");
            got.text("secret")
        }
    };
    let (admin, reader) = (key(json!(["admin"])).await, key(json!(["read", "users"])).await);
    assert_eq!(world.get("/admin/apps/demo", &admin).await.status, 200);
    assert_eq!(world.get("/admin/me", &admin).await.ok().body["app"], "demo");
    for path in
        ["/admin/apps", "/admin/apps/invited", "/admin/audit", "/admin/stats", "/admin/apps/xpush/users"]
    {
        assert_eq!(world.get(path, &admin).await.code(), "not_found", "{path}");
        assert_eq!(world.get(path, &reader).await.code(), "not_found", "{path}");
    }
    assert_eq!(world.get("/admin/apps/demo", &reader).await.code(), "not_found");
    assert_eq!(page.get("/admin/apps/nowhere").await.code(), "not_found");
}

#[tokio::test]
async fn nothing_is_done_for_other_pages() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let make = || json!({"app": "shop"}).to_string();
    let with = |change: fn(&mut HeaderMap)| {
        let mut asked = from_page("POST", "/admin/apps", &page.cookie, None, &make());
        change(asked.headers_mut());
        asked
    };
    let no_guard = with(|headers| drop(headers.remove("x-xpush-admin")));
    assert_eq!(world.send(no_guard).await.code(), "forbidden");
    // Pages that may use the API otherwise, one on the same site, and one that says nothing of itself.
    for origin in ["https://demo.example", "https://console.example", "http://localhost:3000", "null"] {
        let mut asked = from_page("POST", "/admin/apps", &page.cookie, None, &make());
        asked.headers_mut().insert("origin", origin.parse().unwrap());
        let got = world.send(asked).await;
        assert_eq!(got.code(), "origin_refused", "{origin}");
        assert!(!got.headers.contains_key("access-control-allow-credentials"));
    }
    let same_site = with(|headers| drop(headers.insert("sec-fetch-site", "same-site".parse().unwrap())));
    assert_eq!(world.send(same_site).await.code(), "origin_refused");
    let mut read = from_page("GET", "/admin/apps", &page.cookie, None, "");
    read.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(world.send(read).await.code(), "origin_refused");
    assert_eq!(page.get("/admin/apps/shop").await.code(), "not_found", "nothing was made");
    assert_eq!(world.send(with(|_| ())).await.status, 201);
}

#[tokio::test]
async fn a_cookie_ends() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    world.clock.advance(11 * 3_600_000);
    assert_eq!(page.get("/admin/me").await.status, 200);
    // Its use is noted in the background.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let logins = world.page(Listing::Logins(operators(), user("root"))).await;
        let used = logins.iter().any(
            |entry| matches!(&entry.record, Record::Login(login) if login.rotated_at > login.created_at),
        );
        if used {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the use was not noted");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.clock.advance(11 * 3_600_000);
    assert_eq!(page.get("/admin/me").await.status, 200, "it was used meanwhile");
    world.clock.advance(12 * 3_600_000);
    assert_eq!(page.get("/admin/me").await.code(), "unauthenticated", "idle");
    let other = Page { world: &world, cookie: sign_in(&world, "root").await };
    let third = Page { world: &world, cookie: sign_in(&world, "root").await };
    let out = other.send("POST", "/admin/sign-out", json!({})).await.ok();
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(other.get("/admin/me").await.code(), "unauthenticated");
    assert_eq!(third.get("/admin/me").await.status, 200);
    third.send("POST", "/admin/sign-out", json!({"everywhere": true})).await.ok();
    assert_eq!(third.get("/admin/me").await.code(), "unauthenticated");
}

#[tokio::test]
async fn two_installations_on_one_host_keep_their_cookies_apart() {
    let (here, there) = (World::new().await, World::new().await);
    let (page, other) = (page(&here, "root").await, page(&there, "root").await);
    // A browser sends both to both: cookies know no ports.
    let both = format!("{}; {}", other.cookie, page.cookie);
    assert_ne!(page.cookie.split_once('=').unwrap().0, other.cookie.split_once('=').unwrap().0);
    for world in [&here, &there] {
        Page { world, cookie: both.clone() }.get("/admin/me").await.ok();
    }
    let out =
        Page { world: &here, cookie: both.clone() }.send("POST", "/admin/sign-out", json!({})).await.ok();
    let taken = out.headers["set-cookie"].to_str().unwrap().split_once('=').unwrap().0;
    assert_eq!(taken, page.cookie.split_once('=').unwrap().0);
    Page { world: &there, cookie: both.clone() }.get("/admin/me").await.ok();
    assert_eq!(Page { world: &here, cookie: both }.get("/admin/me").await.code(), "unauthenticated");
}

#[tokio::test]
async fn a_cookie_of_the_release_before_holds_and_ends() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let value = page.cookie.split_once('=').unwrap().1;
    let old = Page { world: &world, cookie: format!("xpush_admin={value}") };
    old.get("/admin/me").await.ok();
    let out = old.send("POST", "/admin/sign-out", json!({})).await.ok();
    let set = out.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("xpush_admin=;") && set.contains("Max-Age=0"), "{set}");
    assert_eq!(old.get("/admin/me").await.code(), "unauthenticated");
}

#[tokio::test]
async fn who_guesses_many_at_once_gets_no_more_of_them() {
    let world = World::new().await;
    with_operator(&world, "root").await;
    let (release, held) = std::sync::mpsc::channel();
    world.api.hashing.hold(held);
    let guesses: Vec<_> = (0..20)
        .map(|n| {
            let wrong = json!({"user": "root", "password": format!("wrong horse {n:04}")}).to_string();
            let router = world.router.clone();
            let asked = from_page("POST", "/admin/sign-in", "", None, &wrong);
            tokio::spawn(async move { router.oneshot(asked).await.unwrap().status().as_u16() })
        })
        .collect();
    // All are under way before the first is looked at.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(release);
    let mut tried = 0;
    for guess in guesses {
        match guess.await.unwrap() {
            401 => tried += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(tried, 5);
}

#[tokio::test]
async fn a_password_that_is_changed_while_it_is_looked_at_opens_nothing() {
    let world = World::new().await;
    with_operator(&world, "root").await;
    let (release, held) = std::sync::mpsc::channel();
    world.api.hashing.hold(held);
    let body = json!({"user": "root", "password": PASSWORD}).to_string();
    let asked = world.router.clone().oneshot(from_page("POST", "/admin/sign-in", "", None, &body));
    let answer = tokio::spawn(async move { asked.await.unwrap().status().as_u16() });
    // It has read the password by then; otherwise it is refused all the more.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let Record::User(known) = world.entry(Key::User(operators(), user("root"))).await.unwrap().record else {
        panic!("an account");
    };
    let changed = UserRecord { password: Some("another".into()), ..*known };
    world.put(Key::User(operators(), user("root")), Record::User(Box::new(changed))).await;
    drop(release);
    assert_eq!(answer.await.unwrap(), 401);
    assert_eq!(world.page(Listing::Logins(operators(), user("root"))).await.len(), 0);
}

#[tokio::test]
async fn what_is_copied_fits_the_app() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let got = page.get("/admin/apps/demo/snippets?url=https://push.example").await.ok();
    assert_eq!((&got.body["url"], &got.body["app"]), (&json!("https://push.example"), &json!("demo")));
    let files = |list: &str| {
        let languages = got.body[list].as_array().unwrap().iter();
        languages.flat_map(|language| language["files"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let texts = [files("clients"), files("back_ends")].concat();
    assert!(texts.len() > 8, "{texts:?}");
    for file in &texts {
        let text = file["text"].as_str().unwrap();
        for hole in ["{url}", "{app}", "{channel}", "{kid}", "{auth}"] {
            assert!(!text.contains(hole), "{hole} is left in {file}");
        }
        assert!(!text.contains("xpush.example"), "{file}");
    }
    let client = files("clients").into_iter().find(|file| file["name"] == "client.mjs").unwrap();
    assert!(client["text"].as_str().unwrap().contains("token: process.env.TOKEN"), "the app has no guests");
    let own = page.get("/admin/apps/demo/snippets").await.ok();
    assert_eq!(own.body["url"], "http://xpush.example");
    for url in ["javascript:alert(1)", "https://", "https://a/b", "https://a%22b"] {
        let got = page.get(&format!("/admin/apps/demo/snippets?url={url}")).await;
        assert_eq!(got.code(), "bad_field", "{url}");
    }
}

#[tokio::test]
async fn who_guesses_passwords_waits() {
    let world = World::new().await;
    with_operator(&world, "root").await;
    let wrong = json!({"user": "root", "password": "wrong horse battery"}).to_string();
    let guess = || world.send(from_page("POST", "/admin/sign-in", "", None, &wrong));
    for _ in 0..5 {
        assert_eq!(guess().await.code(), "bad_credentials");
    }
    let limited = guess().await;
    assert_eq!(limited.code(), "rate_limited");
    assert!(limited.headers.contains_key("retry-after"));
    world.clock.advance(60_000);
    let page = Page { world: &world, cookie: sign_in(&world, "root").await };
    let refused = page.log().await.into_iter().filter(|entry| entry["what"] == "sign_in_refused");
    let refused: Vec<_> = refused.collect();
    assert_eq!((refused.len(), &refused[0]["code"]), (5, &json!("bad_credentials")));
    assert!(!serde_json::to_string(&refused).unwrap().contains("wrong horse"));
}

#[tokio::test]
async fn the_second_of_two_is_told_and_nothing_is_lost() {
    let world = World::new().await;
    let (ann, bob) = (page(&world, "ann").await, page(&world, "bob").await);
    let seen = revision(&ann.get("/admin/apps/demo").await.ok());
    assert_eq!(seen, 0, "as the configuration has it");
    let first = ann.change("PATCH", "/admin/apps/demo?note=spring", seen, json!({"guests": true})).await.ok();
    assert_eq!(
        (first.body["from"].as_str(), first.body["changed"]["by"].as_str()),
        (Some("live"), Some("ann"))
    );
    assert_eq!(first.body["changed"]["note"], "spring");
    let second = bob
        .change("PUT", "/admin/apps/demo/origins", seen, json!({"origins": ["https://new.example"]}))
        .await;
    assert_eq!(second.code(), "conflict");
    assert_eq!(second.body["current"]["revision"], first.body["revision"]);
    assert_eq!(second.body["current"]["settings"]["guests"], true);
    let now = revision(&first);
    let third = bob
        .change("PUT", "/admin/apps/demo/origins", now, json!({"origins": ["https://new.example"]}))
        .await
        .ok();
    assert_eq!(third.body["settings"]["guests"], true, "the first one's change is still there");
    // The same once more is no change, and makes no version.
    let same = bob
        .change(
            "PUT",
            "/admin/apps/demo/origins",
            revision(&third),
            json!({"origins": ["https://new.example"]}),
        )
        .await
        .ok();
    assert_eq!(revision(&same), revision(&third));
    for bad in [Some("x"), Some("\"-1\""), None] {
        let mut asked = from_page("PATCH", "/admin/apps/demo", &ann.cookie, None, "{\"guests\": false}");
        if let Some(bad) = bad {
            asked.headers_mut().insert("if-match", bad.parse().unwrap());
        }
        assert_eq!(world.send(asked).await.code(), "bad_field", "{bad:?}");
    }
    let versions = ann.get("/admin/apps/demo/versions").await.ok().body["versions"].clone();
    let what: Vec<_> = versions.as_array().unwrap().iter().map(|version| &version["what"]).collect();
    assert_eq!(what, [&json!(["origins"]), &json!(["guests"]), &json!([])]);
    assert_eq!((&versions[0]["current"], &versions[2]["revision"]), (&json!(true), &json!(0)));
    // Twenty at once from the same revision: exactly one.
    let at = revision(&third);
    let requests = (0..20).map(|n| {
        let origin = format!("https://{n}.example");
        let body = json!({"origins": [origin]});
        let (world, cookie) = (&world, ann.cookie.clone());
        async move {
            world
                .send(from_page("PUT", "/admin/apps/demo/origins", &cookie, Some(at), &body.to_string()))
                .await
                .status
        }
    });
    let mut statuses = Vec::new();
    let mut tasks: Vec<_> = requests.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        tasks.retain_mut(|task| match task.as_mut().poll(context) {
            std::task::Poll::Ready(status) => {
                statuses.push(status.as_u16());
                false
            }
            std::task::Poll::Pending => true,
        });
        if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn a_version_is_restored_but_for_its_keys() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let before = page.get("/admin/apps/demo").await.ok();
    let added = page.change("POST", "/admin/apps/demo/signing-keys", 0, json!({"id": "second"})).await;
    assert_eq!(added.status, 201, "{added:?}");
    let secret = added.text("secret");
    assert!(secret.len() >= 32);
    let at = added.body["app"]["revision"].as_u64().unwrap();
    let removed = page.change("DELETE", "/admin/apps/demo/signing-keys/own", at, json!({})).await.ok();
    let changed = page
        .change("PATCH", "/admin/apps/demo", revision(&removed), json!({"guests": true, "recovery": true}))
        .await
        .ok();
    let restore = "/admin/apps/demo/versions/0/restore";
    assert_eq!(page.change("POST", restore, at, json!({})).await.code(), "conflict");
    let restored = page.change("POST", restore, revision(&changed), json!({})).await.ok();
    assert_eq!(restored.body["settings"]["guests"], before.body["settings"]["guests"]);
    let keys = restored.body["settings"]["keys"].as_array().unwrap();
    assert_eq!(
        (keys.len(), &keys[0]["id"]),
        (1, &json!("second")),
        "a key that was removed does not come back"
    );
    assert_eq!(
        page.change("POST", "/admin/apps/demo/versions/1000000/restore", revision(&restored), json!({}))
            .await
            .code(),
        "not_found"
    );
    // What is kept of secrets is nothing.
    let mut everything = vec![page.get("/admin/apps/demo").await.body];
    everything.extend(page.log().await);
    for version in page.get("/admin/apps/demo/versions").await.ok().body["versions"].as_array().unwrap() {
        everything
            .push(page.get(&format!("/admin/apps/demo/versions/{}", version["revision"])).await.ok().body);
    }
    let told = serde_json::to_string(&everything).unwrap();
    assert!(!told.contains(&secret) && !told.contains(APP_SECRET), "{told}");
    assert!(told.contains("\"…\""), "that there was one, is told");
}

#[tokio::test]
async fn the_log_has_everything_once() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let made = page
        .send("POST", "/admin/apps", json!({"app": "shop", "settings": {"guests": true, "rules": []}}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let at = made.body["app"]["revision"].as_u64().unwrap();
    page.change("PUT", "/admin/apps/shop/rules", at, json!({"rules": []})).await;
    let key = page
        .send("POST", "/admin/apps/shop/api-keys", json!({"name": "till", "scopes": ["publish", "admin"]}))
        .await;
    let (id, api_key) = (key.body["api_key"]["id"].as_str().unwrap().to_owned(), key.text("secret"));
    let rotated =
        page.send("POST", &format!("/admin/apps/shop/api-keys/{id}/rotate"), json!({"grace": 60})).await.ok();
    world.post("/auth/register", json!({"user": "x"})).await;
    page.send("POST", "/admin/apps/shop/users", json!({"user": "ann", "password": PASSWORD, "name": "Ann"}))
        .await;
    page.send("PATCH", "/admin/apps/shop/users/ann", json!({"roles": ["support"]})).await.ok();
    page.send("PATCH", "/admin/apps/shop/users/ann", json!({"banned": true})).await.ok();
    page.send("PATCH", "/admin/apps/shop/users/ann", json!({"banned": false})).await.ok();
    page.send("PATCH", "/admin/apps/shop/users/ann", json!({"password": "another horse"})).await.ok();
    page.send("POST", "/admin/apps/shop/users/ann/revoke", json!({})).await.ok();
    assert_eq!(page.send("POST", "/admin/apps/shop/users", json!({"user": "ann"})).await.code(), "conflict");
    page.send("DELETE", &format!("/admin/apps/shop/api-keys/{id}"), json!({})).await.ok();
    let log = page.log().await;
    let kinds: Vec<_> = log
        .iter()
        .map(|entry| (entry["what"].as_str().unwrap(), entry["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("api_key.revoke", "done"),
            ("user.create", "refused"),
            ("user.revoke", "done"),
            ("user.password", "done"),
            ("user.unban", "done"),
            ("user.ban", "done"),
            ("user.change", "done"),
            ("user.create", "done"),
            ("api_key.rotate", "done"),
            ("api_key.create", "done"),
            ("app.create", "done"),
            ("sign_in", "done"),
        ]
    );
    assert!(log.iter().all(|entry| entry["by"] == "root" && entry["via"] == "page"), "{log:?}");
    let text = serde_json::to_string(&log).unwrap();
    for secret in [&api_key, &rotated.text("secret"), PASSWORD, "another horse"] {
        assert!(!text.contains(secret), "a secret is in the log");
    }
    assert_eq!((&log[6]["before"]["roles"], &log[6]["after"]["roles"]), (&json!([]), &json!(["support"])));
    // By app, by kind, in pages.
    let one = page.get("/admin/audit?app=shop&what=user.&limit=2").await.ok();
    assert_eq!(one.body["entries"].as_array().unwrap().len(), 2);
    let after = one.text("after");
    let rest = page.get(&format!("/admin/apps/shop/audit?what=user.&after={after}")).await.ok();
    assert_eq!(rest.body["entries"].as_array().unwrap().len(), 5);
    assert!(page.get("/admin/audit?by=nobody").await.ok().body["entries"].as_array().unwrap().is_empty());
    assert!(page.get("/admin/audit?to=1").await.ok().body["entries"].as_array().unwrap().is_empty());
    // Entries are the same again: nothing that is read changes anything.
    assert_eq!(page.log().await, log);
}

#[tokio::test]
async fn an_erased_user_is_in_no_entry() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    page.send("POST", "/admin/apps/demo/users", json!({"user": "ann", "name": "Ann Unique"})).await;
    let going = page.send("DELETE", "/admin/apps/demo/users/ann", json!({})).await;
    assert_eq!((going.status.as_u16(), &going.body["erasing"]), (202, &json!(true)));
    let pending = page.get("/admin/apps/demo/erasures").await.ok();
    assert_eq!(pending.body["erasures"][0]["user"], "ann");
    world.erased("ann").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !page.get("/admin/apps/demo/erasures").await.ok().body["erasures"].as_array().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "still pending");
        world.clock.advance(100);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The clock has gone on: sign in again.
    let page = Page { world: &world, cookie: sign_in(&world, "root").await };
    let log = page.log().await;
    assert!(!serde_json::to_string(&log).unwrap().contains("Unique"), "{log:?}");
    let about: Vec<_> = log.iter().filter(|entry| entry["user"] == "$erased").collect();
    assert_eq!(about.len(), 2, "{log:?}");
}

#[tokio::test]
async fn the_last_operator_stays() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    for (method, body) in
        [("DELETE", json!({})), ("PATCH", json!({"banned": true})), ("PATCH", json!({"roles": []}))]
    {
        assert_eq!(page.send(method, "/admin/apps/xpush/users/root", body).await.code(), "conflict");
    }
    let another = json!({"user": "second", "password": PASSWORD, "roles": ["admin"]});
    assert_eq!(page.send("POST", "/admin/apps/xpush/users", another).await.status, 201);
    page.send("PATCH", "/admin/apps/xpush/users/root", json!({"roles": []})).await.ok();
    assert_eq!(page.get("/admin/apps").await.code(), "unauthenticated", "no operator any more");
    assert!(!sign_in(&world, "second").await.is_empty());
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let send =
        |body: String| world.send(from_page("PATCH", "/admin/apps/demo", &page.cookie, Some(0), &body));
    assert_eq!(
        send(format!("{{\"guests\": {}1{}}}", "[".repeat(100), "]".repeat(100))).await.code(),
        "bad_json"
    );
    assert_eq!(send("{\"guests\": true, \"guests\": false}".to_owned()).await.code(), "bad_json");
    assert_eq!(
        send("{\"rules\": [{\"channels\": \"a\", \"channels\": \"b\"}]}".to_owned()).await.code(),
        "bad_json"
    );
    assert_eq!(send(format!("{{\"origins\": [\"{}\"]}}", "x".repeat(10 << 20))).await.code(), "too_large");
    assert_eq!(send("[]".to_owned()).await.code(), "bad_request");
    assert_eq!(send("{\"keys\": []}".to_owned()).await.code(), "bad_field");
    let complaints = send("{\"guests\": 7}".to_owned()).await;
    assert_eq!(complaints.code(), "bad_field");
    assert!(complaints.body["complaints"][0]["message"].is_string());
    for (method, path) in [("DELETE", "/admin/apps/xpush"), ("PATCH", "/admin/apps/xpush")] {
        let got = page.change(method, path, 0, json!({})).await;
        assert!([404, 409].contains(&got.status.as_u16()), "{got:?}");
    }
    assert_eq!(revision(&page.get("/admin/apps/demo").await.ok()), 0, "nothing has changed");
}

#[tokio::test]
async fn rules_are_tried_without_being_set() {
    let world = World::new().await;
    let page = page(&world, "root").await;
    let tried = page
        .send("POST", "/admin/apps/demo/rules/test", json!({"channel": "room:1", "user": "ann"}))
        .await
        .ok();
    assert_eq!((&tried.body["draft"], &tried.body["rule"]["channels"]), (&json!(false), &json!("*")));
    assert_eq!(tried.body["user"]["may"][0]["allowed"], false);
    let none = page.send("POST", "/admin/apps/demo/rules/test", json!({"channel": "$x"})).await.ok();
    assert!(none.body.get("rule").is_none());
    assert_eq!(
        page.send("POST", "/admin/apps/demo/rules/test", json!({"channel": "a b"})).await.code(),
        "bad_channel"
    );
    let draft = json!({"channel": "a", "rules": []});
    let tried = page.send("POST", "/admin/apps/demo/rules/test", draft).await.ok();
    assert_eq!(tried.body["draft"], true);
    assert_eq!(revision(&page.get("/admin/apps/demo").await.ok()), 0);
}
