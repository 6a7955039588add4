//! Canaries: nothing secret comes up in what is logged, at whatever level.

use super::*;

use std::io;

use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_password_and_no_token_is_logged() {
    const CANARY: &str = "canary-password-9f31";
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let world = World::new().await;
    let setup = crate::setup::begin_setup(world.directory.clone()).await.unwrap().unwrap();
    let body = json!({"user": "canary", "password": CANARY, "device": {"id": "phone"}});
    let registered = world.post("/auth/register", body.clone()).await.ok();
    world.post("/auth/register", body.clone()).await;
    world.post("/auth/login", body.clone()).await.ok();
    world.post("/auth/login", json!({"user": "canary", "password": "canary-wrong-password"})).await;
    world.post("/auth/login", json!({"user": CANARY, "password": [CANARY]})).await;
    world.send(request("POST", "/auth/login", "", "{\"password\":\"canary-password-9f31\"")).await;
    let (access, first) = (registered.text("access_token"), registered.text("refresh_token"));
    let second = world.post("/auth/refresh", json!({"refresh_token": first})).await.ok();
    let push = json!({"platform": "ios", "token": "canary-push-token"});
    world.ask("PUT", "/me/devices/phone/push", &access, push).await.ok();
    world
        .ask("POST", "/auth/password", &access, json!({"current": CANARY, "new": "canary-new-password"}))
        .await
        .ok();
    world.clock.advance(60_000);
    world.post("/auth/refresh", json!({"refresh_token": first})).await;
    world.get("/me", &access).await;
    world.post("/setup", json!({"token": setup, "user": "canary", "password": CANARY})).await.ok();
    world.post("/setup", json!({"token": setup, "user": "canary", "password": CANARY})).await;
    world.post("/auth/oidc/exchange", json!({"code": "canary-one-time-code"})).await;
    world.post("/auth/oidc/acme/token", json!({"id_token": "canary.id.token"})).await;

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("registered") && logged.contains("shown again"), "the log is caught: {logged}");
    let tokens = [access, first, second.text("access_token"), second.text("refresh_token"), setup];
    // Each part of a token, without what everybody may know of it: its header and whose it is.
    let parts = tokens.iter().flat_map(|token| token.split('.').skip(usize::from(token.contains('.'))));
    let passwords = [
        CANARY,
        "canary-wrong-password",
        "canary-new-password",
        "canary-push-token",
        "canary-one-time-code",
        "canary.id.token",
    ];
    for secret in parts.chain(passwords) {
        assert!(!logged.contains(secret), "{secret} is logged");
    }
    for kept in ["$argon2id$", APP_SECRET] {
        assert!(!logged.contains(kept), "{kept} is logged");
    }
}
