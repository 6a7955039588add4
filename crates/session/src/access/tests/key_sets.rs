//! Published key sets, behind servers that behave and servers that do not.

use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

const DAY: u64 = 86_400_000;

/// A server of one key set.
#[derive(Clone, Default)]
struct Publisher {
    /// Without one it answers with 500.
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    fn publish(&self, keys: &[(&str, &Signer)]) {
        let keys = keys.iter().map(|(kid, signer)| {
            let mut jwk = signer.jwk.clone();
            jwk["kid"] = json!(kid);
            jwk
        });
        // An odd key takes no other with it.
        let keys: Vec<Value> = [json!({"kty": "odd"}), json!(7)].into_iter().chain(keys).collect();
        *self.body.lock().unwrap() = Some(json!({"keys": keys}).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn serve(&self) -> String {
        let this = self.clone();
        let answer = move || async move {
            this.asked.fetch_add(1, Ordering::SeqCst);
            this.body.lock().unwrap().clone().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
        };
        serve(Router::new().route("/keys", get(answer))).await + "/keys"
    }
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn world(url: String) -> World {
    within(Duration::from_secs(10), url).await
}

/// Fetches that take longer are given up.
async fn within(patience: Duration, url: String) -> World {
    let mut published = app([]);
    published.keys.clear();
    published.jwks_url = Some(url.into());
    World::with(published, Fetch::within(patience)).await
}

fn long(sub: &str) -> Value {
    json!({"sub": sub, "exp": NOW + 30 * 86_400})
}

#[tokio::test]
async fn keys_come_and_go() {
    let (first, second, third) = (Signer::ed25519(), Signer::es256(), Signer::rs256());
    let publisher = Publisher::default();
    publisher.publish(&[("first", &first), ("third", &third)]);
    let world = world(publisher.serve().await).await;
    let admit = async |signer: &Signer, kid: Option<&str>| {
        world.admit(&signer.sign(kid, &long("ann"))).await.map(drop).map_err(|problem| problem.code)
    };
    assert_eq!(admit(&first, Some("first")).await, Ok(()));
    assert_eq!(admit(&third, Some("third")).await, Ok(()));
    assert_eq!(admit(&third, None).await, Ok(()));
    assert_eq!(admit(&second, Some("first")).await, Err(Code::Unauthenticated), "another's name");
    assert_eq!(publisher.asked(), 1);

    // A key that is not known is asked for, but not more often than each half minute.
    publisher.publish(&[("second", &second)]);
    for _ in 0..20 {
        assert_eq!(admit(&second, Some("second")).await, Err(Code::Unauthenticated));
    }
    assert_eq!(publisher.asked(), 1);
    world.clock.advance(30_000);
    assert_eq!(admit(&second, Some("second")).await, Ok(()));
    assert_eq!(publisher.asked(), 2);
    // What has gone from the set is good no more, though its signature was checked before.
    assert_eq!(admit(&first, Some("first")).await, Err(Code::Unauthenticated));
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn keys_outlive_their_server_for_a_day() {
    let signer = Signer::ed25519();
    let publisher = Publisher::default();
    publisher.publish(&[("k", &signer)]);
    let url = publisher.serve().await;
    let world = world(url.clone()).await;
    let good = signer.sign(Some("k"), &long("ann"));
    assert!(world.admit(&good).await.is_ok());

    *publisher.body.lock().unwrap() = None;
    let asked_in_vain = async || drop(world.access.0.key_sets.keys(&url, Some("unknown")).await);
    world.clock.advance(DAY);
    asked_in_vain().await;
    assert!(publisher.asked() >= 2 && world.admit(&good).await.is_ok());
    world.clock.advance(60_000);
    asked_in_vain().await;
    // There may be good keys; nobody can say.
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Unavailable);

    publisher.publish(&[("k", &signer)]);
    world.clock.advance(30_000);
    assert!(world.admit(&good).await.is_ok());
    // A set that is there and empty is an answer.
    publisher.publish(&[]);
    world.clock.advance(30_000);
    asked_in_vain().await;
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Unauthenticated);
}

#[tokio::test]
async fn servers_that_misbehave_hold_nobody_up() {
    let signer = Signer::ed25519();
    let publisher = Publisher::default();
    publisher.publish(&[("k", &signer)]);
    let elsewhere = publisher.serve().await;
    let keys = publisher.body.lock().unwrap().clone().unwrap();
    let huge = format!("{}{}", keys, " ".repeat(300_000));
    let router = Router::new()
        .route("/hanging", get(std::future::pending::<()>))
        .route("/huge", get(move || async move { huge }))
        .route("/redirect", get(move || async move { Redirect::temporary(&elsewhere) }))
        .route("/text", get(|| async { "keys" }))
        .route("/list", get(|| async { "[]" }));
    let server = serve(router).await;
    let good = signer.sign(Some("k"), &long("ann"));
    for path in ["hanging", "huge", "redirect", "text", "list", "missing"] {
        // The others answer, however late.
        let patience = if path == "hanging" { Duration::from_secs(1) } else { Duration::from_secs(10) };
        let world = within(patience, format!("{server}/{path}")).await;
        assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Unavailable, "{path}");
    }
    assert_eq!(publisher.asked(), 0, "the redirect was followed");
    for url in ["http://keys.example/", "https://10.0.0.1/keys", "https://169.254.169.254/latest", "keys"] {
        let world = world(url.to_owned()).await;
        assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Unavailable, "{url}");
    }
}
