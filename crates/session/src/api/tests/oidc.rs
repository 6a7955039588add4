//! Sign-in with a provider that is one: real HTTP, real RS256 signatures. It does as it is told, also when that is wrong.

use super::*;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{digest, hmac};
use axum::extract::State;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use tokio::net::TcpListener;
use xpush_core::ports::directory::Provider;

const CLIENT: &str = "xpush-client";
const CLIENT_SECRET: &str = "the provider's secret";
const HOME: &str = "https://demo.example/signed-in";

/// What the provider does otherwise than it should.
type Twist = Box<dyn Fn(&mut Value, &mut Value) + Send>;

struct Issuer {
    url: String,
    keys: Mutex<Vec<(String, RsaKeyPair)>>,
    /// Codes, with the challenge and the nonce of the request that each was given for.
    codes: Mutex<Vec<(String, String, String)>>,
    twist: Mutex<Twist>,
    /// The description; `None`: as it should be.
    description: Mutex<Option<Value>>,
    subject: Mutex<String>,
    now: u64,
    asked: Mutex<Vec<String>>,
}

fn key() -> RsaKeyPair {
    RsaKeyPair::generate(KeySize::Rsa2048).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

impl Issuer {
    async fn start(now: u64) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            keys: Mutex::new(vec![("k1".to_owned(), key())]),
            codes: Mutex::default(),
            twist: Mutex::new(Box::new(|_, _| {})),
            description: Mutex::default(),
            subject: Mutex::new("1234".to_owned()),
            now,
            asked: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(Self::describe))
            .route("/keys", get(Self::keys))
            .route("/token", post(Self::token))
            .with_state(issuer.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        issuer
    }

    async fn describe(State(issuer): State<Arc<Self>>) -> axum::Json<Value> {
        issuer.asked.lock().unwrap().push("description".to_owned());
        let url = &issuer.url;
        let good = json!({
            "issuer": url,
            "authorization_endpoint": "https://issuer.example/authorize?prompt=login",
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/keys"),
        });
        axum::Json(issuer.description.lock().unwrap().clone().unwrap_or(good))
    }

    async fn keys(State(issuer): State<Arc<Self>>) -> axum::Json<Value> {
        issuer.asked.lock().unwrap().push("keys".to_owned());
        let keys = issuer.keys.lock().unwrap();
        let keys = keys.iter().map(|(id, pair)| {
            let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            json!({
                "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
                "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero()),
            })
        });
        let unknown = json!({"kty": "something new", "kid": "k1"});
        axum::Json(json!({"keys": keys.chain([unknown]).collect::<Vec<_>>()}))
    }

    /// RFC 6749, section 4.1.3, with RFC 7636, section 4.6.
    async fn token(
        State(issuer): State<Arc<Self>>,
        headers: HeaderMap,
        form: String,
    ) -> (StatusCode, axum::Json<Value>) {
        let form = Url::parse(&format!("x:?{form}")).unwrap();
        let field = |name: &str| {
            form.query_pairs()
                .find_map(|(field, value)| (field == name).then(|| value.into_owned()))
                .unwrap_or_default()
        };
        let basic = STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}"));
        let challenge =
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, field("code_verifier").as_bytes()));
        let mut codes = issuer.codes.lock().unwrap();
        let known =
            codes.iter().position(|(code, expected, _)| *code == field("code") && *expected == challenge);
        let right = headers.get("authorization").is_some_and(|given| *given == format!("Basic {basic}"))
            && field("grant_type") == "authorization_code"
            && field("redirect_uri") == "http://xpush.example/api/v1/auth/oidc/acme/callback";
        match known {
            Some(at) if right => {
                let (_, _, nonce) = codes.remove(at);
                (
                    StatusCode::OK,
                    axum::Json(json!({"id_token": issuer.sign(Some(&nonce)), "access_token": "x"})),
                )
            }
            _ => (StatusCode::BAD_REQUEST, axum::Json(json!({"error": "invalid_grant"}))),
        }
    }

    /// An ID token, twisted.
    fn sign(&self, nonce: Option<&str>) -> String {
        let mut header = json!({"alg": "RS256", "kid": "k1", "typ": "JWT"});
        let mut claims = json!({
            "iss": self.url, "sub": *self.subject.lock().unwrap(), "aud": CLIENT, "iat": self.now, "exp": self.now + 300, "name": "Ann Acme",
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        (self.twist.lock().unwrap())(&mut header, &mut claims);
        let signed = format!("{}.{}", part(&header), part(&claims));
        let keys = self.keys.lock().unwrap();
        let pair = &keys[0].1;
        let signature = match header["alg"].as_str() {
            Some("none") => String::new(),
            // The public key as a shared secret (RFC 8725, section 2.1).
            Some("HS256") => {
                let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                let key = hmac::Key::new(hmac::HMAC_SHA256, public.as_ref());
                URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
            }
            _ => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
                    .unwrap();
                URL_SAFE_NO_PAD.encode(signature)
            }
        };
        format!("{signed}.{signature}")
    }

    fn twist(&self, twist: impl Fn(&mut Value, &mut Value) + Send + 'static) {
        *self.twist.lock().unwrap() = Box::new(twist);
    }

    fn provider(&self) -> Provider {
        Provider {
            name: "acme".into(),
            issuer: self.url.as_str().into(),
            client_id: CLIENT.into(),
            client_secret: Some(CLIENT_SECRET.into()),
            return_to: vec![HOME.into(), "https://demo.example/app/*".into(), "myapp:/signed-in".into()],
        }
    }

    fn requests(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }
}

struct SignIn {
    world: World,
    issuer: Arc<Issuer>,
}

/// A browser on its way to the provider.
struct Leaving {
    url: Url,
    cookie: String,
}

impl Leaving {
    fn parameter(&self, name: &str) -> String {
        self.url.query_pairs().find_map(|(field, value)| (field == name).then(|| value.into_owned())).unwrap()
    }
}

impl SignIn {
    async fn new() -> Self {
        let issuer = Issuer::start(ManualClock::new().wall() / 1000).await;
        let world = World::with(AppRecord { oidc: vec![issuer.provider()], ..app(Accounts::Off) }).await;
        Self { world, issuer }
    }

    async fn leave(&self) -> Leaving {
        let got = self.world.get(&format!("/auth/oidc/acme?app=demo&return_to={HOME}"), "").await;
        assert_eq!(got.status, 303, "{got:?}");
        let cookie = got.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("Max-Age=600"), "{cookie}");
        let url = Url::parse(got.headers["location"].to_str().unwrap()).unwrap();
        Leaving { url, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    /// What the provider does with a user who agrees: the code.
    fn agree(&self, leaving: &Leaving) -> String {
        let code = format!("code-{}", self.issuer.codes.lock().unwrap().len());
        let granted = (code.clone(), leaving.parameter("code_challenge"), leaving.parameter("nonce"));
        self.issuer.codes.lock().unwrap().push(granted);
        code
    }

    async fn come_back(&self, query: &str, cookie: &str) -> Got {
        let mut request = request("GET", &format!("/auth/oidc/acme/callback?{query}"), "", "");
        request.headers_mut().insert("cookie", format!("a=b; {cookie}").parse().unwrap());
        self.world.send(request).await
    }

    /// All the way; where the browser ends up.
    async fn sign_in(&self) -> Url {
        let leaving = self.leave().await;
        let code = self.agree(&leaving);
        let state = leaving.parameter("state");
        let got = self.come_back(&format!("code={code}&state={state}"), &leaving.cookie).await;
        assert_eq!(got.status, 303, "{got:?}");
        Url::parse(got.headers["location"].to_str().unwrap()).unwrap()
    }

    async fn exchange(&self, url: &Url) -> Got {
        let code = url.fragment().unwrap().strip_prefix("code=").unwrap_or_else(|| panic!("{url}"));
        self.world.post("/auth/oidc/exchange", json!({"code": code, "device": {"id": "web"}})).await
    }

    async fn by_token(&self, nonce: Option<&str>) -> Got {
        let token = self.issuer.sign(nonce);
        self.world.post("/auth/oidc/acme/token", json!({"id_token": token, "nonce": nonce})).await
    }
}

#[tokio::test]
async fn a_browser_goes_to_the_provider_and_back() {
    let test = SignIn::new().await;
    let leaving = test.leave().await;
    assert!(leaving.url.as_str().starts_with("https://issuer.example/authorize?prompt=login&"));
    for (name, value) in [
        ("response_type", "code"),
        ("scope", "openid profile"),
        ("client_id", CLIENT),
        ("redirect_uri", "http://xpush.example/api/v1/auth/oidc/acme/callback"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(leaving.parameter(name), value);
    }
    let home = test.sign_in().await;
    assert_eq!(home.as_str().split('#').next(), Some(HOME));
    let got = test.exchange(&home).await.ok();
    assert_eq!((&got.body["user"], &got.body["name"]), (&json!("acme:1234"), &json!("Ann Acme")));
    assert!(test.world.admits(&got.text("access_token")).await);
    assert_eq!(test.exchange(&home).await.code(), "unauthenticated", "a code is good once");
    let again = test.exchange(&test.sign_in().await).await.ok();
    assert_eq!(again.body["user"], "acme:1234");
    assert_eq!(test.world.page(Listing::Users(demo())).await.len(), 1);
    let keys = test.issuer.requests("keys");
    assert_eq!((keys, test.issuer.requests("description")), (1, 1), "asked once");
}

#[tokio::test]
async fn only_the_browser_that_left_comes_back() {
    let test = SignIn::new().await;
    let (mine, other) = (test.leave().await, test.leave().await);
    let code = test.agree(&mine);
    let state = mine.parameter("state");
    let query = format!("code={code}&state={state}");
    let tampered = mine.cookie.replace('.', "x.");
    for (query, cookie) in [
        (&query, ""),
        (&query, other.cookie.as_str()),
        (&query, tampered.as_str()),
        (&format!("code={code}"), mine.cookie.as_str()),
        (&format!("code={code}&state={}", other.parameter("state")), mine.cookie.as_str()),
        (&format!("code={code}&state=x"), mine.cookie.as_str()),
    ] {
        let got = test.come_back(query, cookie).await;
        assert_eq!(got.code(), "unauthenticated", "{query} {cookie}");
    }
    // The signed content under the other sign-in's name.
    let (name, _) = other.cookie.split_once('=').unwrap();
    let (_, value) = mine.cookie.split_once('=').unwrap();
    let query_of_other = format!("code={code}&state={}", other.parameter("state"));
    assert_eq!(test.come_back(&query_of_other, &format!("{name}={value}")).await.code(), "unauthenticated");
    test.world.clock.advance(600_000);
    assert_eq!(test.come_back(&query, &mine.cookie).await.code(), "unauthenticated", "too late");
}

#[tokio::test]
async fn what_goes_wrong_at_the_provider_is_told_to_the_page() {
    let test = SignIn::new().await;
    let leaving = test.leave().await;
    let (state, code) = (leaving.parameter("state"), test.agree(&leaving));
    for (query, error) in [
        ("error=access_denied".to_owned(), "forbidden"),
        ("code=of-nobody".to_owned(), "unavailable"),
        (String::new(), "bad_request"),
        (format!("code={code}&iss=https://evil.example"), "unauthenticated"),
    ] {
        let got = test.come_back(&format!("{query}&state={state}"), &leaving.cookie).await;
        assert_eq!(got.headers["location"].to_str().unwrap(), format!("{HOME}#error={error}"));
        assert!(got.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    }
}

#[tokio::test]
async fn pages_that_are_not_listed_are_not_returned_to() {
    let test = SignIn::new().await;
    let leave = async |url: &str| {
        let mut path = Url::parse("x:/auth/oidc/acme").unwrap();
        path.query_pairs_mut().append_pair("return_to", url);
        test.world.get(path.as_str().strip_prefix("x:").unwrap(), "").await
    };
    for good in [HOME, "https://demo.example/app/", "https://demo.example/app/x?y=1", "myapp:/signed-in"] {
        assert_eq!(leave(good).await.status, 303, "{good}");
    }
    for bad in [
        "https://evil.example/",
        "https://demo.example/signed-in/more",
        "https://demo.example/signed-in?x",
        "https://demo.example/signed-in#x",
        "http://demo.example/signed-in",
        "https://demo.example/app/../signed-out",
        "https://demo.example/app%2f",
        "https://demo.example.evil/app/",
        "https://demo.example@evil.example/app/",
        "https://user:p@demo.example/app/",
        "https://evil.example\\@demo.example/app/",
        "//demo.example/app/",
        "javascript:alert(1)",
        "myapp:/other",
        "",
    ] {
        assert_eq!(leave(bad).await.code(), "bad_field", "{bad}");
    }
    assert_eq!(test.world.get("/auth/oidc/acme", "").await.code(), "bad_field");
    assert_eq!(test.world.get(&format!("/auth/oidc/none?return_to={HOME}"), "").await.code(), "not_found");
}

#[tokio::test]
async fn a_native_app_brings_its_id_token() {
    let test = SignIn::new().await;
    let got = test.by_token(Some("its own nonce")).await.ok();
    assert_eq!(got.body["user"], "acme:1234");
    test.by_token(None).await.ok();
    let token = test.issuer.sign(Some("one"));
    for nonce in [json!("another"), Value::Null] {
        let body = json!({"id_token": token, "nonce": nonce});
        assert_eq!(test.world.post("/auth/oidc/acme/token", body).await.code(), "unauthenticated");
    }
    let without = json!({"id_token": test.issuer.sign(None), "nonce": "expected"});
    assert_eq!(test.world.post("/auth/oidc/acme/token", without).await.code(), "unauthenticated");
}

#[tokio::test]
async fn hostile_id_tokens() {
    let test = SignIn::new().await;
    let now = test.issuer.now;
    let claim = |name: &'static str, value: Value| -> Twist {
        Box::new(move |_, claims| claims[name] = value.clone())
    };
    let head = |name: &'static str, value: Value| -> Twist {
        Box::new(move |header, _| header[name] = value.clone())
    };
    let without = |name: &'static str| -> Twist {
        Box::new(move |_, claims| {
            claims.as_object_mut().unwrap().remove(name);
        })
    };
    for (what, twist) in [
        ("another issuer", claim("iss", json!("https://evil.example"))),
        ("nearly the issuer", claim("iss", json!(format!("{}/", test.issuer.url)))),
        ("for another client", claim("aud", json!("other"))),
        ("for nobody", claim("aud", json!([]))),
        ("for several, given to nobody", claim("aud", json!([CLIENT, "other"]))),
        ("given to another", claim("azp", json!("other"))),
        ("expired", claim("exp", json!(now - 5))),
        ("exp as text", claim("exp", json!((now + 300).to_string()))),
        ("exp as null", claim("exp", Value::Null)),
        ("exp below zero", claim("exp", json!(-1))),
        ("from the future", claim("iat", json!(now + 10))),
        ("not yet good", claim("nbf", json!(now + 10))),
        ("no subject", claim("sub", json!(""))),
        ("a long subject", claim("sub", json!("x".repeat(256)))),
        ("a subject that is no text", claim("sub", json!(1))),
        ("another nonce", claim("nonce", json!("other"))),
        ("without exp", without("exp")),
        ("without iat", without("iat")),
        ("without aud", without("aud")),
        ("without iss", without("iss")),
        ("without sub", without("sub")),
        ("without nonce", without("nonce")),
        ("alg none", head("alg", json!("none"))),
        ("the public key as a secret", head("alg", json!("HS256"))),
        ("another algorithm of the same key", head("alg", json!("RS512"))),
        ("a key that the provider has not", head("kid", json!("k2"))),
        ("an extension", head("crit", json!(["exp"]))),
    ] {
        *test.issuer.twist.lock().unwrap() = twist;
        let got = test.by_token(Some("n")).await;
        assert_eq!(got.code(), "unauthenticated", "{what}");
        assert!(!got.body.to_string().contains("evil"), "{what}: {got:?}");
    }
    test.issuer.twist(|_, _| {});
    let good = test.issuer.sign(None);
    for bad in [
        format!("{good}x"),
        good.replace('.', ".."),
        good[..good.len() - 4].to_owned(),
        "x".repeat(17_000),
        String::new(),
    ] {
        let got = test.world.post("/auth/oidc/acme/token", json!({"id_token": bad})).await;
        assert_eq!(got.code(), "unauthenticated");
    }
    assert!(test.world.page(Listing::Users(demo())).await.is_empty());
    for (what, twist) in [
        (
            "several clients, given to us",
            Box::new(|_: &mut Value, claims: &mut Value| {
                claims["aud"] = json!(["other", CLIENT]);
                claims["azp"] = json!(CLIENT);
            }) as Twist,
        ),
        ("within the leeway", claim("exp", json!(now - 4))),
        (
            "no key named, and there is one",
            Box::new(|header, _| drop(header.as_object_mut().unwrap().remove("kid"))),
        ),
    ] {
        *test.issuer.twist.lock().unwrap() = twist;
        assert_eq!(test.by_token(Some("n")).await.status, 200, "{what}");
    }
}

#[tokio::test]
async fn a_key_that_is_new_is_asked_for_but_not_over_and_over() {
    let test = SignIn::new().await;
    test.by_token(None).await.ok();
    test.issuer.keys.lock().unwrap().insert(0, ("k2".to_owned(), key()));
    test.issuer.twist(|header, _| header["kid"] = json!("k2"));
    for _ in 0..5 {
        assert_eq!(test.by_token(None).await.code(), "unauthenticated");
    }
    assert_eq!(test.issuer.requests("keys"), 1);
    test.world.clock.advance(30_000);
    test.by_token(None).await.ok();
    assert_eq!(test.issuer.requests("keys"), 2);
}

#[tokio::test]
async fn descriptions_that_lead_elsewhere() {
    for (field, value) in [
        ("issuer", "https://evil.example"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "http://10.0.0.1/authorize"),
        ("jwks_uri", "http://169.254.169.254/latest/meta-data"),
        ("jwks_uri", "file:///etc/passwd"),
        ("jwks_uri", "https://10.0.0.1/keys"),
    ] {
        let test = SignIn::new().await;
        let url = &test.issuer.url;
        let mut description = json!({
            "issuer": url, "authorization_endpoint": format!("{url}/a"), "token_endpoint": format!("{url}/token"), "jwks_uri": format!("{url}/keys"),
        });
        description[field] = json!(value);
        *test.issuer.description.lock().unwrap() = Some(description);
        let got = test.world.get(&format!("/auth/oidc/acme?return_to={HOME}"), "").await;
        assert_eq!(got.code(), "unavailable", "{field} {value}");
        assert!(!got.body.to_string().contains("evil"));
    }
}

#[tokio::test]
async fn a_first_sign_in_takes_nobodys_name() {
    let test = SignIn::new().await;
    let taken = UserRecord { name: Some("Somebody else".into()), ..UserRecord::default() };
    let key = Key::User(demo(), user("acme:1234"));
    test.world.put(key.clone(), Record::User(Box::new(taken.clone()))).await;
    let got = test.by_token(None).await.ok();
    let named = got.text("user");
    assert!(named.starts_with("acme:") && named != "acme:1234", "{named}");
    assert!(test.world.entry(key).await.unwrap().record == Record::User(Box::new(taken)));
    assert_eq!(test.by_token(None).await.ok().text("user"), named);
    // A subject that cannot be a name.
    *test.issuer.subject.lock().unwrap() = "방".repeat(60);
    let long = test.by_token(None).await.ok().text("user");
    assert!(long.starts_with("acme:") && long.len() < 40);
}

#[tokio::test]
async fn who_signs_in_for_the_first_time_several_times_at_once_is_one_user() {
    let test = Arc::new(SignIn::new().await);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let test = test.clone();
            tokio::spawn(async move { test.by_token(None).await })
        })
        .collect();
    let mut names = Vec::new();
    for task in tasks {
        names.push(task.await.unwrap().ok().text("user"));
    }
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    assert_eq!(test.world.page(Listing::Users(demo())).await.len(), 1);
}
