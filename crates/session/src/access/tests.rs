//! The port over a real store with two handles on it, as two nodes would have; what goes wrong is played by a directory in between.

mod erasure;
mod feed;
mod key_sets;
mod members;
mod tokens;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use xpush_core::ports::directory::{
    Accounts, AppRecord, Change, Changes, DeviceRecord, Entry, Expected, Key, Listing, LoginRecord, Record,
    UserRecord,
};
use xpush_core::ports::{Done, Failure};
use xpush_core::rules::History;
use xpush_core::{App, Channel, Code, Device, Login, Permissions, Role, Rule, Rules, User, Who};
use xpush_sqlite::{Options, SqliteDirectory, Store};
use xpush_testkit::{ManualClock, SeededEntropy};

use super::token::LEEWAY;
use super::*;

/// 2026-01-01, where [`ManualClock`] begins, in seconds.
const NOW: u64 = 1_767_225_600;
/// The port promises 2 s; the rest is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(6);
const SECRET: &str = "a secret of at least thirty-two bytes";

/// Everything that a test needs.
struct World {
    access: DirectoryAccess,
    /// Another node's handle on the same store.
    elsewhere: Arc<dyn Directory>,
    clock: Arc<ManualClock>,
    lost: Arc<AtomicBool>,
    /// Readings that fail, of the next ones.
    unread: Arc<AtomicUsize>,
    ear: Arc<Ear>,
    folder: tempfile::TempDir,
}

/// Fails when the test wants it to.
struct Faulty {
    inner: Arc<dyn Directory>,
    lost: Arc<AtomicBool>,
    unread: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<Changed>>,
    news: Notify,
}

impl Faulty {
    fn pass<T>(&self, done: Done<T>, start: impl FnOnce(Done<T>)) {
        if self.lost.load(Ordering::SeqCst) {
            lose(done);
        } else {
            start(done);
        }
    }
}

impl Directory for Faulty {
    fn get(&self, key: &Key, done: Done<Option<Entry>>) {
        let one_less = |left: usize| left.checked_sub(1);
        let fails = || self.unread.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        self.pass(done, |done| if fails() { lose(done) } else { self.inner.get(key, done) });
    }

    fn page(&self, listing: &Listing, after: Option<Key>, limit: usize, done: Done<Vec<Entry>>) {
        self.pass(done, |done| self.inner.page(listing, after, limit, done));
    }

    fn apply(&self, change: Change, done: Done<u64>) {
        self.pass(done, |done| self.inner.apply(change, done));
    }

    fn changes(&self, since: u64, limit: usize, done: Done<Changes>) {
        self.pass(done, |done| self.inner.changes(since, limit, done));
    }
}

fn lose<T>(done: Done<T>) {
    done(Err(PortError::new(Failure::NotApplied, "lost")));
}

impl AccessSink for Ear {
    fn changed(&self, changed: Changed) {
        self.heard.lock().unwrap().push(changed);
        self.news.notify_waiters();
    }
}

impl Ear {
    /// Waits until this has been told, since the last call.
    async fn hears(&self, expected: &Changed) {
        let heard = async {
            loop {
                let news = self.news.notified();
                {
                    let mut heard = self.heard.lock().unwrap();
                    if let Some(at) = heard.iter().position(|one| one == expected) {
                        heard.drain(..=at);
                        return;
                    }
                }
                news.await;
            }
        };
        let in_time = timeout(SOON, heard).await;
        assert!(in_time.is_ok(), "{expected:?} is not told, but {:?}", self.heard.lock().unwrap());
    }
}

impl World {
    async fn new(app: AppRecord) -> Self {
        Self::with(app, Fetch::new()).await
    }

    async fn with(app: AppRecord, fetch: Fetch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (lost, unread) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let inner = open(&folder);
        let directory = Arc::new(Faulty { inner, lost: lost.clone(), unread: unread.clone() });
        let clock = Arc::new(ManualClock::new());
        let configured = Configured { apps: vec![(demo(), app)], default_app: None };
        let parts = parts(directory, clock.clone(), configured);
        let access = DirectoryAccess::start_with(parts, fetch).await.unwrap();
        let ear = Arc::new(Ear::default());
        access.watch(ear.clone());
        let elsewhere = open(&folder);
        Self { access, elsewhere, clock, lost, unread, ear, folder }
    }

    /// A node that starts now: it has heard nothing of what was changed before.
    async fn restart(self, app: AppRecord) -> Self {
        let (inner, lost, unread) = (open(&self.folder), self.lost.clone(), self.unread.clone());
        let directory = Arc::new(Faulty { inner, lost, unread });
        let configured = Configured { apps: vec![(demo(), app)], default_app: None };
        let parts = parts(directory, self.clock.clone(), configured);
        let access = DirectoryAccess::start_with(parts, Fetch::new()).await.unwrap();
        let ear = Arc::new(Ear::default());
        access.watch(ear.clone());
        Self { access, ear, ..self }
    }

    async fn admit(&self, token: &str) -> Result<Grant, Problem> {
        let credentials =
            Credentials { app: Some("demo".into()), token: Some(token.into()), ..Credentials::default() };
        decided(|done| self.access.admit(credentials, done)).await
    }

    async fn permit(
        &self,
        channel: &ChannelKey,
        who: &Arc<Grant>,
        token: Option<&str>,
    ) -> Result<Permission, Problem> {
        decided(|done| self.access.permit(channel, who, token, done)).await
    }

    /// Changes an entry on another node.
    async fn put(&self, key: Key, record: impl Into<Option<Record>>) {
        let change = Change { key, expected: Expected::Any, to: record.into() };
        ask(|done| self.elsewhere.apply(change, done)).await.unwrap();
    }
}

fn open(folder: &tempfile::TempDir) -> Arc<dyn Directory> {
    let store = Store::open(folder.path().join("xpush.db"), Options::default()).unwrap();
    Arc::new(SqliteDirectory::new(store))
}

fn parts(directory: Arc<dyn Directory>, clock: Arc<ManualClock>, configured: Configured) -> Parts {
    Parts {
        directory,
        ledger: None,
        recent: None,
        clock,
        entropy: Box::new(SeededEntropy::new(1)),
        runtime: Handle::current(),
        configured,
    }
}

async fn decided<T: Send + 'static>(start: impl FnOnce(Decided<T>)) -> Result<T, Problem> {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |result| drop(sender.send(result))));
    timeout(Duration::from_secs(20), receiver).await.expect("in time").expect("`done` is called")
}

fn demo() -> App {
    App::new("demo").unwrap()
}

fn user(name: &str) -> User {
    User::new(name).unwrap()
}

fn channel(name: &str) -> ChannelKey {
    ChannelKey::new(demo(), Channel::new(name).unwrap())
}

fn role(name: &str) -> Role {
    Role::new(name).unwrap()
}

fn rule(pattern: &str, permissions: Permissions) -> Rule {
    Rule {
        pattern: pattern.into(),
        history: History::None,
        presence: false,
        notify: false,
        search: false,
        permissions,
    }
}

/// An app with one HS256 key.
fn app(rules: impl IntoIterator<Item = Rule>) -> AppRecord {
    AppRecord {
        guests: true,
        origins: Vec::new(),
        rules: Rules::new(rules),
        keys: vec![key("k1", "HS256", SECRET)],
        jwks_url: None,
        accounts: Accounts::Off,
        oidc: Vec::new(),
        ..AppRecord::default()
    }
}

fn key(id: &str, algorithm: &str, material: &str) -> xpush_core::ports::directory::KeyRecord {
    xpush_core::ports::directory::KeyRecord {
        id: id.into(),
        algorithm: algorithm.into(),
        material: material.into(),
        created_at: 0,
    }
}

/// Somebody who signs.
struct Signer {
    algorithm: Algorithm,
    secret: EncodingKey,
    /// As an app has it.
    material: String,
    jwk: Value,
}

impl Signer {
    fn hs256(secret: &[u8]) -> Self {
        let material = String::from_utf8_lossy(secret).into_owned();
        Self {
            algorithm: Algorithm::HS256,
            secret: EncodingKey::from_secret(secret),
            material,
            jwk: json!(null),
        }
    }

    fn rs256() -> Self {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = pem("PRIVATE", private.as_ref());
        let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
        let unsigned = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Self {
            algorithm: Algorithm::RS256,
            secret: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
            material: self::pem("PUBLIC", der.as_ref()),
            jwk: json!({"kty": "RSA", "n": unsigned(n.big_endian_without_leading_zero()),
                "e": unsigned(e.big_endian_without_leading_zero())}),
        }
    }

    fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        let point = pair.public_key().as_ref();
        Self {
            algorithm: Algorithm::ES256,
            secret: EncodingKey::from_ec_der(private.as_ref()),
            material: pem("PUBLIC", der.as_ref()),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
                "y": URL_SAFE_NO_PAD.encode(&point[33..])}),
        }
    }

    fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            secret: EncodingKey::from_ed_der(private.as_ref()),
            material: pem("PUBLIC", der.as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())}),
        }
    }

    /// A token of these very texts.
    fn sign_raw(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.secret, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        self.sign_raw(&header.to_string(), &claims.to_string())
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind} KEY-----\n{}\n-----END {kind} KEY-----\n", STANDARD.encode(der))
}

/// A token of the app's secret.
fn token(claims: Value) -> String {
    Signer::hs256(SECRET.as_bytes()).sign(Some("k1"), &claims)
}

fn claims(sub: &str) -> Value {
    json!({"sub": sub, "exp": NOW + 600, "iat": NOW})
}

fn revoked(user: &User, issued_before: u64) -> Changed {
    Changed::Revoked { app: demo(), user: user.clone(), device: None, login: None, issued_before }
}

#[tokio::test]
async fn a_revocation_on_another_node_is_told_soon() {
    let world = World::new(app([])).await;
    let (ann, phone) = (user("ann"), Device::new("phone").unwrap());
    let mut of_phone = claims("ann");
    of_phone["device"] = json!("phone");
    let (plain, of_phone) = (token(claims("ann")), token(of_phone));
    assert!(world.admit(&plain).await.is_ok() && world.admit(&of_phone).await.is_ok());

    let device = DeviceRecord { tokens_valid_from: NOW * 1000 + 1, ..DeviceRecord::default() };
    world.put(Key::Device(demo(), ann.clone(), phone.clone()), Record::Device(Box::new(device))).await;
    let mut of_device = revoked(&ann, NOW * 1000 + 1);
    if let Changed::Revoked { device, .. } = &mut of_device {
        *device = Some(phone);
    }
    world.ear.hears(&of_device).await;
    assert_eq!(world.admit(&of_phone).await.unwrap_err().code, Code::Revoked);
    assert!(world.admit(&plain).await.is_ok());

    let everywhere = UserRecord { tokens_valid_from: NOW * 1000 + 1, ..UserRecord::default() };
    world.put(Key::User(demo(), ann.clone()), Record::User(Box::new(everywhere))).await;
    world.ear.hears(&revoked(&ann, NOW * 1000 + 1)).await;
    assert_eq!(world.admit(&plain).await.unwrap_err().code, Code::Revoked);
    // A token without `iat` counts as issued at 0; a later one is good.
    let mut undated = claims("ann");
    undated.as_object_mut().unwrap().remove("iat");
    assert_eq!(world.admit(&token(undated)).await.unwrap_err().code, Code::Revoked);
    let mut later = claims("ann");
    later["iat"] = json!(NOW as f64 + 0.001);

    let granted = world.admit(&token(later)).await.unwrap();
    assert_eq!(decided(|done| world.access.readmit(&granted, done)).await, Ok(()));
    let out = UserRecord { disabled: true, ..UserRecord::default() };
    world.put(Key::User(demo(), ann.clone()), Record::User(Box::new(out))).await;
    world.ear.hears(&revoked(&ann, NOW * 1000 + 5_001)).await;
    let void = decided(|done| world.access.readmit(&granted, done)).await;
    assert_eq!(void.unwrap_err().code, Code::Revoked);
    assert_eq!(world.admit(&token(claims("ann"))).await.unwrap_err().code, Code::Revoked);
}

#[tokio::test]
async fn what_is_changed_through_this_handle_holds_at_once() {
    let world = World::new(app([])).await;
    let good = token(claims("ann"));
    assert!(world.admit(&good).await.is_ok());
    let directory = world.access.directory();
    let record = Record::User(Box::new(UserRecord { disabled: true, ..UserRecord::default() }));
    let change = Change { key: Key::User(demo(), user("ann")), expected: Expected::Absent, to: Some(record) };
    ask(|done| directory.apply(change, done)).await.unwrap();
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Revoked);
    world.ear.hears(&revoked(&user("ann"), NOW * 1000 + 5_001)).await;
}

#[tokio::test]
async fn a_lost_store_holds_what_was_decided_for_a_minute_and_decides_nothing_new() {
    let members = rule("room:*", Permissions::all(Who::Members));
    let app = app([members]);
    let world = World::new(app.clone()).await;
    let (known, unknown, revoked_before) = (token(claims("ann")), token(claims("bob")), token(claims("cid")));
    let of_account = Signer::hs256(SECRET.as_bytes()).sign(
        Some("xpush"),
        &json!({"iss": "xpush", "app": "demo", "sub": "ann", "exp": NOW + 600, "iat": NOW}),
    );
    let room = channel("room:1");
    let record = UserRecord { tokens_valid_from: NOW * 1000 + 1, ..UserRecord::default() };
    world.put(Key::User(demo(), user("cid")), Record::User(Box::new(record))).await;
    let world = world.restart(app).await;
    world.put(Key::Member(room.clone(), user("ann")), Record::Member(Default::default())).await;
    // What is heard of later would have to be asked for once more.
    world.ear.hears(&Changed::Permission(room.clone(), user("ann"))).await;
    let ann = Arc::new(world.admit(&known).await.unwrap());
    let allowed = world.permit(&room, &ann, None).await.unwrap();
    assert!(allowed.actions.contains(xpush_core::Action::Publish));

    world.lost.store(true, Ordering::SeqCst);
    assert_eq!(world.admit(&known).await.as_ref(), Ok(&*ann));
    assert_eq!(world.permit(&room, &ann, None).await, Ok(allowed));
    // Of an account it would have to be known that it is there.
    assert_eq!(world.admit(&of_account).await.unwrap_err().code, Code::Unavailable);
    // Whom the app itself has signed a token for is taken at its word.
    assert!(world.admit(&unknown).await.is_ok() && world.admit(&revoked_before).await.is_ok());
    let other = world.permit(&channel("room:2"), &ann, None).await;
    assert_eq!(other.unwrap_err().code, Code::Unavailable);

    // The last news may have been heard just now, and a second later than the clock has it: it does not go by itself.
    world.clock.advance(60_000);
    assert!(world.admit(&known).await.is_ok());
    world.clock.advance(1);
    assert_eq!(world.admit(&known).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(world.admit(&unknown).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(world.permit(&room, &ann, None).await.unwrap_err().code, Code::Unavailable);
    world.ear.hears(&Changed::Everything).await;

    world.lost.store(false, Ordering::SeqCst);
    world.ear.hears(&Changed::Everything).await;
    world.ear.hears(&revoked(&user("cid"), NOW * 1000 + 1)).await;
    assert!(world.admit(&known).await.is_ok() && world.admit(&unknown).await.is_ok());
    assert_eq!(world.admit(&revoked_before).await.unwrap_err().code, Code::Revoked);
}

#[tokio::test]
async fn whoever_was_taken_at_its_word_is_asked_about_until_there_is_an_answer() {
    let world = World::new(app([])).await;
    let record = UserRecord { tokens_valid_from: NOW * 1000 + 1, ..UserRecord::default() };
    world.put(Key::User(demo(), user("ann")), Record::User(Box::new(record))).await;
    // What it has heard of it would know.
    let world = world.restart(app([])).await;
    world.lost.store(true, Ordering::SeqCst);
    // By its first question it sees that the store is lost.
    assert!(world.admit(&token(claims("ann"))).await.is_ok());
    world.unread.store(1, Ordering::SeqCst);
    world.lost.store(false, Ordering::SeqCst);
    world.ear.hears(&revoked(&user("ann"), NOW * 1000 + 1)).await;
    assert_eq!(world.unread.load(Ordering::SeqCst), 0, "the first answer was none");
}

#[tokio::test]
async fn guests_come_and_go_while_the_store_is_lost() {
    let world = World::new(app([])).await;
    let guest = |secret: &str| Credentials {
        app: Some("demo".into()),
        guest: Some(format!("the secret of {secret}")),
        ..Credentials::default()
    };
    let admit = async |secret: &str| decided(|done| world.access.admit(guest(secret), done)).await;
    let blocked = admit("a blocked one").await.unwrap().sender.user;
    let record = UserRecord { disabled: true, created_at: NOW * 1000, ..UserRecord::default() };
    world.put(Key::User(demo(), blocked.clone()), Record::User(Box::new(record))).await;
    world.ear.hears(&revoked(&blocked, NOW * 1000 + LEEWAY + 1)).await;
    assert_eq!(admit("a blocked one").await.unwrap_err().code, Code::Revoked);

    world.lost.store(true, Ordering::SeqCst);
    assert!(admit("somebody new").await.is_ok());
    assert_eq!(admit("a blocked one").await.unwrap_err().code, Code::Revoked, "that is remembered");
    world.clock.advance(60_001);
    world.ear.hears(&Changed::Everything).await;
    let grant = admit("a blocked one").await.unwrap();
    assert!(decided(|done| world.access.readmit(&grant, done)).await.is_ok());

    world.lost.store(false, Ordering::SeqCst);
    world.ear.hears(&Changed::Everything).await;
    world.ear.hears(&revoked(&blocked, grant.issued_at + 1)).await;
}

#[tokio::test]
async fn live_apps_lie_over_configured_ones() {
    let world = World::new(app([])).await;
    let good = token(claims("ann"));
    assert!(world.admit(&good).await.is_ok());

    let mut live = app([]);
    live.guests = false;
    live.keys = vec![key("k1", "HS256", "another secret of more than 32 bytes")];
    world.put(Key::App(demo()), Record::App(Box::new(live.clone()))).await;
    world.ear.hears(&Changed::App(demo())).await;
    assert!(!world.access.apps().find(Some("demo")).unwrap().guests);
    // Remembered or not: the key that has signed it is gone.
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Unauthenticated);
    let guest = Credentials { app: Some("demo".into()), ..Credentials::default() };
    let refused = decided(|done| world.access.admit(guest.clone(), done)).await;
    assert_eq!(refused.unwrap_err().code, Code::Unauthenticated);

    world.put(Key::App(App::new("second").unwrap()), Record::App(Box::new(live))).await;
    world.ear.hears(&Changed::App(App::new("second").unwrap())).await;
    assert!(world.access.apps().find(Some("second")).is_ok());
    world.put(Key::App(demo()), None).await;
    world.ear.hears(&Changed::App(demo())).await;
    assert!(world.admit(&good).await.is_ok());
    assert!(decided(|done| world.access.admit(guest, done)).await.unwrap().guest);

    // Whoever starts later reads them first.
    let configured = Configured { apps: vec![(demo(), app([]))], default_app: Some(demo()) };
    let parts = parts(open(&world.folder), world.clock.clone(), configured);
    let apps = DirectoryAccess::start(parts).await.unwrap().apps();
    assert!(apps.find(Some("second")).is_ok() && apps.find(Some(OPERATORS)).is_ok());
    assert_eq!((apps.by_name.len(), &apps.find(None).unwrap().app), (3, &demo()));
}

#[tokio::test]
async fn a_guest_may_be_banned_by_its_id() {
    let world = World::new(app([])).await;
    let guest = Credentials {
        app: Some("demo".into()),
        guest: Some("a secret of 16 bytes".into()),
        ..Credentials::default()
    };
    let grant = decided(|done| world.access.admit(guest.clone(), done)).await.unwrap();
    assert!(grant.guest && grant.expires_at.is_none());
    let key = Key::User(demo(), grant.sender.user.clone());
    let banned = UserRecord { disabled: true, ..UserRecord::default() };
    world.put(key, Record::User(Box::new(banned))).await;
    world.ear.hears(&revoked(&grant.sender.user, NOW * 1000 + 5_001)).await;
    let refused = decided(|done| world.access.admit(guest, done)).await;
    assert_eq!(refused.unwrap_err().code, Code::Revoked);
    let refused = decided(|done| world.access.readmit(&grant, done)).await;
    assert_eq!(refused.unwrap_err().code, Code::Revoked, "however the channel server asks");
}

#[tokio::test]
async fn a_device_that_connects_is_listed() {
    let world = World::new(app([])).await;
    let mut with_device = claims("ann");
    with_device["device"] = "phone".into();
    world.admit(&token(claims("bob"))).await.unwrap();
    world.admit(&token(with_device)).await.unwrap();
    let listed = async |name: &str| {
        let devices = Listing::Devices(demo(), user(name));
        ask(|done| world.elsewhere.page(&devices, None, 10, done)).await.unwrap()
    };
    let noted = async {
        while listed("ann").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noted).await.expect("the device is noted");
    let device = Key::Device(demo(), user("ann"), Device::new("phone").unwrap());
    assert_eq!(listed("ann").await[0].key, device);
    assert!(listed("bob").await.is_empty());
}

#[tokio::test]
async fn a_login_that_ends_takes_its_tokens_with_it() {
    let mut with_accounts = app([]);
    with_accounts.accounts = Accounts::Open;
    let world = World::new(with_accounts).await;
    let secret = [7; 32];
    let ours = |claims: &Value| Signer::hs256(&secret).sign(Some("xpush"), claims);
    let claims = json!({"iss": "xpush", "app": "demo", "sub": "ann", "exp": NOW + 600, "iat": NOW as f64 + 0.25, "login": "l1"});
    let good = ours(&claims);
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Unauthenticated, "no secret yet");

    let login = Key::Login(demo(), user("ann"), Login::new("l1").unwrap());
    let record = LoginRecord {
        device: None,
        refresh: "".into(),
        previous: None,
        rotated_at: 0,
        created_at: 0,
        expires_at: u64::MAX,
    };
    world.put(Key::Secret("accounts".into()), Record::Secret(Box::new(secret))).await;
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Revoked, "no such user");
    let ann = UserRecord { roles: vec![role("support")], ..UserRecord::default() };
    world.put(Key::User(demo(), user("ann")), Record::User(Box::new(ann))).await;
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Revoked, "no such login");
    world.put(login.clone(), Record::Login(Box::new(record))).await;
    let grant = world.admit(&good).await.unwrap();
    assert_eq!((grant.login, grant.issued_at), (Login::new("l1").ok(), NOW * 1000 + 250));
    assert_eq!(grant.roles, [role("support")]);

    // One secret signs for all apps, and only by its own name.
    for (field, value) in [("app", json!("other")), ("app", json!(null)), ("iss", json!("else"))] {
        let mut bad = claims.clone();
        bad[field] = value;
        let code = world.admit(&ours(&bad)).await.unwrap_err().code;
        assert_eq!(code, Code::Unauthenticated, "{field}");
    }
    let unnamed = Signer::hs256(&secret).sign(None, &claims);
    assert_eq!(world.admit(&unnamed).await.unwrap_err().code, Code::Unauthenticated);

    world.put(login, None).await;
    let mut ended = revoked(&user("ann"), u64::MAX);
    if let Changed::Revoked { login, .. } = &mut ended {
        *login = Login::new("l1").ok();
    }
    world.ear.hears(&ended).await;
    assert_eq!(world.admit(&good).await.unwrap_err().code, Code::Revoked);
}

#[tokio::test]
async fn an_operators_token_asks_for_no_account() {
    // Its app has neither accounts nor a key for it.
    let world = World::new(app([])).await;
    let secret = [7; 32];
    let ours = |claims: &Value| Signer::hs256(&secret).sign(Some("xpush"), claims);
    let mut claims = json!({"iss": "xpush", "app": "demo", "sub": "ann", "exp": NOW + 600, "iat": NOW});
    world.put(Key::Secret("accounts".into()), Record::Secret(Box::new(secret))).await;
    let grant = world.admit(&ours(&claims)).await.unwrap();
    assert_eq!((grant.sender.user, grant.login), (user("ann"), None));
    let mut of_login = claims.clone();
    of_login["login"] = json!("l1");
    assert_eq!(world.admit(&ours(&of_login)).await.unwrap_err().code, Code::Unauthenticated, "no accounts");

    let ann = UserRecord { tokens_valid_from: (NOW + 1) * 1000, ..UserRecord::default() };
    world.put(Key::User(demo(), user("ann")), Record::User(Box::new(ann))).await;
    world.ear.hears(&revoked(&user("ann"), (NOW + 1) * 1000)).await;
    assert_eq!(world.admit(&ours(&claims)).await.unwrap_err().code, Code::Revoked);
    claims["iat"] = json!(NOW + 2);
    assert!(world.admit(&ours(&claims)).await.is_ok());
}

#[tokio::test]
async fn a_store_that_says_nothing_is_not_waited_for() {
    /// Keeps every question.
    struct Silent(Mutex<HashMap<usize, Done<Option<Entry>>>>);

    impl Directory for Silent {
        fn get(&self, _: &Key, done: Done<Option<Entry>>) {
            let mut kept = self.0.lock().unwrap();
            let number = kept.len();
            kept.insert(number, done);
        }

        fn page(&self, _: &Listing, _: Option<Key>, _: usize, done: Done<Vec<Entry>>) {
            done(Ok(Vec::new()));
        }

        fn apply(&self, _: Change, done: Done<u64>) {
            done(Ok(1));
        }

        fn changes(&self, _: u64, _: usize, done: Done<Changes>) {
            done(Ok(Changes::default()));
        }
    }

    let configured = Configured { apps: vec![(demo(), app([]))], default_app: Some(demo()) };
    let silent = Arc::new(Silent(Mutex::default()));
    let access =
        DirectoryAccess::start(parts(silent, Arc::new(ManualClock::new()), configured)).await.unwrap();
    let admit = async |token: String| {
        let credentials = Credentials { token: Some(token), ..Credentials::default() };
        decided(|done| access.admit(credentials, done)).await
    };
    assert!(admit(token(claims("ann"))).await.is_ok(), "the app's word is enough for a minute");
    let claims =
        json!({"iss": "xpush", "app": "demo", "sub": "ann", "exp": NOW + 600, "iat": NOW, "login": "l1"});
    let of_account = Signer::hs256(SECRET.as_bytes()).sign(Some("xpush"), &claims);
    assert_eq!(admit(of_account).await.unwrap_err().code, Code::Unauthenticated, "the app has no accounts");
    let guest = Credentials { guest: Some("the secret of a guest".into()), ..Credentials::default() };
    let guest = decided(|done| access.admit(guest, done)).await.unwrap();
    assert!(decided(|done| access.readmit(&guest, done)).await.is_ok());
}
