//! Tokens: what is admitted, and every way of being refused.

use std::sync::LazyLock;

use proptest::prelude::*;
use xpush_core::Action;
use xpush_core::access::Actions;

use super::*;
use crate::access::keys::VerifyingKey;
use crate::access::token::Token;

static RSA: LazyLock<Signer> = LazyLock::new(Signer::rs256);
static EC: LazyLock<Signer> = LazyLock::new(Signer::es256);
static ED: LazyLock<Signer> = LazyLock::new(Signer::ed25519);

/// An app that has a key of each kind.
fn with_all_keys() -> AppRecord {
    let mut record = app([]);
    for (id, signer) in [("rsa", &*RSA), ("ec", &*EC), ("ed", &*ED)] {
        record.keys.push(key(id, &format!("{:?}", signer.algorithm), &signer.material));
    }
    record
}

#[tokio::test]
async fn each_algorithm_with_and_without_a_key_id() {
    let world = World::new(with_all_keys()).await;
    let hmac = Signer::hs256(SECRET.as_bytes());
    for (id, signer) in [("k1", &hmac), ("rsa", &*RSA), ("ec", &*EC), ("ed", &*ED)] {
        for kid in [Some(id), None] {
            let grant = world.admit(&signer.sign(kid, &claims("ann"))).await;
            assert_eq!(grant.unwrap().sender.user, user("ann"), "{id} {kid:?}");
        }
    }
}

/// The snippets of docs/access.md, as their libraries have signed them.
#[test]
fn tokens_made_by_other_software() {
    let key = VerifyingKey::from_record(&key("main", "HS256", "0123456789012345678901234567890123")).unwrap();
    for (by, text) in [
        (
            "jsonwebtoken for Node",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Im1haW4ifQ.eyJzdWIiOiJhbm4iLCJhcHAiOiJzaG9wIiwibmFtZSI6IkFubiIsImlhdCI6MTc5NTM3Mzg2NiwiZXhwIjoxNzk1Mzc0NDY2fQ.HYqh6s3nJDHvFGqYfN5b1nPic1OFS4cgLirODOB6CbE",
        ),
        (
            "PyJWT",
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im1haW4iLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhbm4iLCJhcHAiOiJzaG9wIiwibmFtZSI6IkFubiIsImlhdCI6MTc5NTM3Mzg4MCwiZXhwIjoxNzk1Mzc0NDgwfQ.BgBSvCJEZXttEiu1px4ycn-bLy_S7aww2YIuzkt5cJU",
        ),
    ] {
        let token = Token::read(text).unwrap();
        assert!(token.is_signed_by([&key]), "{by}");
        assert_eq!((token.key_id.as_deref(), &token.claims.user), (Some("main"), &user("ann")), "{by}");
        assert!(token.claims.check_time(1_795_373_880_000).is_ok(), "{by}");
    }
}

#[tokio::test]
async fn what_a_token_says_is_granted() {
    let world = World::new(app([])).await;
    let all = json!({
        "sub": "ann", "exp": NOW + 600, "iat": NOW, "nbf": NOW, "app": "demo", "aud": ["else", "xpush"], "iss": "us",
        "name": " Ann ", "info": {"team": ["a", 1]}, "device": "phone", "roles": ["support"], "login": 5, "x": null,
        "channels": {"room:*": ["subscribe", "history"], "own": ["*"]},
    });
    let grant = world.admit(&token(all)).await.unwrap();
    assert_eq!(grant.sender.name.as_deref(), Some("Ann"));
    assert_eq!(grant.info.as_deref(), Some(r#"{"team":["a",1]}"#));
    assert_eq!((grant.device, grant.login), (Device::new("phone").ok(), None));
    assert_eq!((grant.roles, grant.guest), (vec![role("support")], false));
    assert_eq!((grant.issued_at, grant.expires_at), (NOW * 1000, Some((NOW + 600) * 1000)));
    let capabilities = grant.capabilities.unwrap();
    assert_eq!(capabilities.of(&channel("own").name), Actions::ALL);
    let expected = Actions::NONE.with(Action::Subscribe).with(Action::History);
    assert_eq!(capabilities.of(&channel("room:1").name), expected);

    // What the directory knows of the user fills in; what the connection says of the device does.
    let known = UserRecord {
        roles: vec![role("vip")],
        name: Some("Bob".into()),
        info: Some("{}".into()),
        ..UserRecord::default()
    };
    world.put(Key::User(demo(), user("bob")), Record::User(Box::new(known))).await;
    let credentials = Credentials {
        app: Some("demo".into()),
        token: Some(token(claims("bob"))),
        device: Some("tablet".into()),
        name: Some("Mallory".into()),
        ..Credentials::default()
    };
    let grant = decided(|done| world.access.admit(credentials, done)).await.unwrap();
    assert_eq!((grant.sender.name.as_deref(), grant.info.as_deref()), (Some("Bob"), Some("{}")));
    assert_eq!((grant.roles, grant.device), (vec![role("vip")], Device::new("tablet").ok()));
}

#[tokio::test]
async fn a_remembered_token_is_still_judged_by_the_clock() {
    let world = World::new(app([])).await;
    let good = token(claims("ann"));
    assert!(world.admit(&good).await.is_ok());
    world.clock.advance(604_999);
    assert!(world.admit(&good).await.is_ok());
    world.clock.advance(1);
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::TokenExpired);
}

/// Claims with one of them replaced.
fn odd(claim: &str, value: Value) -> String {
    let mut all = claims("ann");
    all[claim] = value;
    token(all)
}

#[tokio::test]
async fn bad_claims_are_refused() {
    let world = World::new(app([])).await;
    let bad: &[(&str, Value)] = &[
        ("exp", json!((NOW + 600).to_string())),
        ("exp", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!(true)),
        ("exp", json!([NOW + 600])),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("a\nb")),
        ("sub", json!("g-3D1ax1d47EI")),
        ("sub", json!("0.1:ann")),
        ("sub", json!("$erased")),
        ("sub", json!("x".repeat(129))),
        ("app", json!("other")),
        ("app", json!(1)),
        ("app", json!("a b")),
        ("aud", json!("someone-else")),
        ("aud", json!([])),
        ("aud", json!(1)),
        ("aud", json!(["xpush", 1])),
        ("iat", json!("now")),
        ("iat", json!(NOW + 6)),
        ("nbf", json!(NOW + 6)),
        ("nbf", json!({})),
        ("name", json!("")),
        ("name", json!("x".repeat(65))),
        ("name", json!(1)),
        ("info", json!([])),
        ("info", json!("x")),
        ("info", json!({"x": "x".repeat(4096)})),
        ("device", json!("")),
        ("device", json!(1)),
        ("roles", json!("server")),
        ("roles", json!(["a b"])),
        ("roles", json!([1])),
        ("channels", json!(null)),
        ("channels", json!([])),
        ("channels", json!("*")),
        ("channels", json!({"*": "*"})),
        ("channels", json!({"*": ["subscribed"]})),
        ("channels", json!({"*": [null]})),
        ("channel", json!("room")),
        ("channel", json!(1)),
    ];
    for (claim, value) in bad {
        let refused = world.admit(&odd(claim, value.clone())).await.map(drop);
        assert_eq!(refused.unwrap_err().code, Code::Unauthenticated, "{claim}: {value}");
    }
    let deep = (0..20).fold(json!({}), |inner, _| json!({"a": inner}));
    assert_eq!(world.admit(&odd("info", deep)).await.unwrap_err().code, Code::Unauthenticated);
    for (exp, code) in [(NOW - 4, None), (NOW - 5, Some(Code::TokenExpired)), (0, Some(Code::TokenExpired))] {
        let refused = world.admit(&odd("exp", json!(exp))).await.err().map(|problem| problem.code);
        assert_eq!(refused, code, "{exp}");
    }
    for good in
        [("iat", json!(NOW + 5)), ("nbf", json!(NOW + 5)), ("aud", json!("demo")), ("exp", json!(1e30))]
    {
        assert!(world.admit(&odd(good.0, good.1.clone())).await.is_ok(), "{good:?}");
    }
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let world = World::new(with_all_keys()).await;
    let hmac = Signer::hs256(SECRET.as_bytes());
    let body = claims("ann").to_string();
    let good = hmac.sign(Some("k1"), &claims("ann"));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let unsigned = |header: &str| format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header));
    let with = |header: &str| hmac.sign_raw(header, &body);
    // A public key is known to everybody.
    let confused = |kid: &str| {
        let public = Signer::hs256(RSA.material.as_bytes());
        public.sign_raw(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), &body)
    };
    let stranger = Signer::hs256(b"another secret of at least 32 bytes");
    let twice = format!(r#"{{"sub":"ann","sub":"root","exp":{}}}"#, NOW + 600);
    let capable = format!(r#"{{"sub":"ann","exp":{},"channels":{{"a":[],"a":["*"]}}}}"#, NOW + 600);
    let cases: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("no JWT", "token".into()),
        ("two parts", signed.into()),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{header}.{payload}.a.b.c")),
        ("no signature", format!("{signed}.")),
        ("another's signature", stranger.sign(Some("k1"), &claims("ann"))),
        ("another's signature, no kid", stranger.sign(None, &claims("ann"))),
        ("padding", format!("{signed}.{signature}=")),
        ("white space", format!("{good}\n")),
        ("alg none", unsigned(r#"{"alg":"none"}"#)),
        ("alg None", unsigned(r#"{"alg":"None"}"#)),
        ("alg none, kept signature", format!("{}{signature}", unsigned(r#"{"alg":"none"}"#))),
        ("no alg", with(r#"{"typ":"JWT"}"#)),
        ("alg null", with(r#"{"alg":null}"#)),
        ("alg twice", with(r#"{"alg":"HS256","alg":"HS256"}"#)),
        ("alg of another length", with(r#"{"alg":"HS384","kid":"k1"}"#)),
        ("a public key as secret", confused("rsa")),
        ("a public key as secret, by the other's name", confused("k1")),
        ("a public key as secret, no kid", Signer::hs256(RSA.material.as_bytes()).sign(None, &claims("ann"))),
        ("another algorithm than the key's", with(r#"{"alg":"HS256","kid":"rsa"}"#)),
        ("another algorithm than said", RSA.sign_raw(r#"{"alg":"ES256","kid":"ec"}"#, &body)),
        ("unknown kid", with(r#"{"alg":"HS256","kid":"k2"}"#)),
        ("kid as path", with(r#"{"alg":"HS256","kid":"../../dev/null"}"#)),
        ("kid as query", with(r#"{"alg":"HS256","kid":"k1' OR '1'='1"}"#)),
        ("kid as number", with(r#"{"alg":"HS256","kid":1}"#)),
        ("XPUSH's own kid where there are no accounts", with(r#"{"alg":"HS256","kid":"xpush"}"#)),
        ("crit", with(r#"{"alg":"HS256","kid":"k1","crit":["exp"]}"#)),
        ("crit null", with(r#"{"alg":"HS256","kid":"k1","crit":null}"#)),
        ("jku", with(r#"{"alg":"HS256","kid":"k1","jku":"https://evil.example/keys"}"#)),
        ("x5u", with(r#"{"alg":"HS256","kid":"k1","x5u":"https://evil.example/c"}"#)),
        ("x5c", with(r#"{"alg":"HS256","kid":"k1","x5c":["AA"]}"#)),
        ("jwk", RSA.sign_raw(&json!({"alg": "RS256", "jwk": RSA.jwk.clone()}).to_string(), &body)),
        ("header an array", with(r#"["HS256"]"#)),
        ("claims an array", hmac.sign_raw(r#"{"alg":"HS256"}"#, r#"["ann"]"#)),
        ("claims text", hmac.sign_raw(r#"{"alg":"HS256"}"#, "ann")),
        (
            "claims nested",
            hmac.sign_raw(r#"{"alg":"HS256"}"#, &format!("{}{}", "[".repeat(9000), "]".repeat(1000))),
        ),
        ("a claim twice", hmac.sign_raw(r#"{"alg":"HS256"}"#, &twice)),
        ("a pattern twice", hmac.sign_raw(r#"{"alg":"HS256"}"#, &capable)),
        ("a number beyond all", hmac.sign_raw(r#"{"alg":"HS256"}"#, r#"{"sub":"ann","exp":1e999}"#)),
        ("no exp", hmac.sign_raw(r#"{"alg":"HS256"}"#, r#"{"sub":"ann"}"#)),
        (
            "huge",
            hmac.sign_raw(
                r#"{"alg":"HS256"}"#,
                &json!({"sub": "ann", "exp": NOW + 600, "x": "x".repeat(16_384)}).to_string(),
            ),
        ),
    ];
    for (what, token) in cases {
        let refused = world.admit(&token).await.map(drop);
        assert_eq!(refused.unwrap_err().code, Code::Unauthenticated, "{what}");
    }
    assert!(world.admit(&good).await.is_ok());
    // An expired token of a stranger is not told that it has expired.
    let expired = stranger.sign(None, &json!({"sub": "ann", "exp": 1}));
    assert_eq!(world.admit(&expired).await.unwrap_err().code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_token_is_for_one_app() {
    let world = World::new(app([])).await;
    let other = App::new("other").unwrap();
    // The same key by accident: only what the token says keeps them apart.
    world.put(Key::App(other.clone()), Record::App(Box::new(app([])))).await;
    world.ear.hears(&Changed::App(other)).await;
    let mut named = claims("ann");
    named["app"] = json!("demo");
    let (named, unnamed) = (token(named), token(claims("ann")));
    let admit = |app: Option<&str>, token: &str| {
        let credentials =
            Credentials { app: app.map(Into::into), token: Some(token.into()), ..Credentials::default() };
        let access = world.access.clone();
        async move { decided(|done| access.admit(credentials, done)).await.map(|grant| grant.app.to_string()) }
    };
    assert_eq!(admit(None, &named).await.unwrap(), "demo");
    assert_eq!(admit(Some("demo"), &named).await.unwrap(), "demo");
    assert_eq!(admit(Some("other"), &named).await.unwrap_err().code, Code::Unauthenticated);
    assert_eq!(admit(Some("none"), &named).await.unwrap_err().code, Code::UnknownApp);
    assert_eq!(admit(None, &unnamed).await.unwrap_err().code, Code::UnknownApp);
    assert_eq!(admit(Some("other"), &unnamed).await.unwrap(), "other");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is changed in a token, it is not good any more.
    #[test]
    fn no_token_survives_a_change(
        which in 0..3_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..4),
    ) {
        let hmac = Signer::hs256(SECRET.as_bytes());
        let signer = [&hmac, &*EC, &*ED][which];
        let text = signer.sign(Some("k"), &claims("ann"));
        let key = VerifyingKey::from_record(&key("k", &format!("{:?}", signer.algorithm), &signer.material)).unwrap();
        prop_assert!(Token::read(&text).unwrap().is_signed_by([&key]));
        let mut bytes = text.clone().into_bytes();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        prop_assume!(changed != text);
        let good = Token::read(&changed).is_ok_and(|token| token.is_signed_by([&key]));
        prop_assert!(!good, "{changed}");
    }

    /// Nothing that comes in makes the reader panic.
    #[test]
    fn anything_may_come(text in "\\PC{0,200}", a in "[-_A-Za-z0-9]{0,80}", b in "[-_A-Za-z0-9]{0,80}") {
        let _ = Token::read(&text);
        let _ = Token::read(&format!("{a}.{b}.{a}"));
    }
}
