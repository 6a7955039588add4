//! The whole API over a real store and the real ACCESS: requests in, answers out.

mod accounts;
mod administration_api;
mod api_keys;
mod assign;
mod audit;
mod backend;
mod devices;
mod files;
mod language;
mod oidc;
mod pages;
mod profile;
mod recorder;
mod secrets;
mod setup;
mod theft;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use xpush_core::ports::blobs::Blobs;
use xpush_core::ports::cluster::{Node, Standing, View};
use xpush_core::ports::directory::{
    Accounts, Change, Directory, Entry, Expected, Key, KeyRecord, Listing, Record, UserRecord,
};
use xpush_core::ports::files::Files;
use xpush_core::ports::markers::Markers;
use xpush_core::{Device, Permissions, Rule, Rules, User, Who};
use xpush_disk::DiskBlobs;
use xpush_sqlite::{Ledger, Options, SqliteDirectory, SqliteFiles, Store as SqliteStore};
use xpush_testkit::{ManualClock, SeededEntropy, sample};

use super::*;
use crate::access::{Configured, Parts as AccessParts};
use crate::accounts::password::Memory;
use crate::administration;
use crate::port::ask;
use crate::tests::placed_over;

pub(super) const PASSWORD: &str = "correct horse battery";
pub(super) const APP_SECRET: &str = "an app's own secret of 32 bytes and more";

/// A server, without its sockets.
pub(super) struct World {
    pub(super) api: Arc<Api>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) markers: Arc<dyn Markers>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) backend: Arc<recorder::Recorder>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) files: Arc<dyn Files>,
    router: Router,
    /// Digests and comparisons of passwords.
    pub(super) hashed: Arc<AtomicUsize>,
    pub(super) folder: TempDir,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Got {
    pub(super) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field}: {self:?}")).to_owned()
    }

    /// The error's code, with a look at its form.
    pub(super) fn code(&self) -> &str {
        let error = &self.body["error"];
        let code = Code::ALL.iter().find(|code| error["code"] == code.as_str());
        let code = code.unwrap_or_else(|| panic!("no error: {self:?}"));
        assert_eq!((self.status.as_u16(), &error["retry"]), (code.status(), &json!(code.retry().as_str())));
        assert!(error["message"].is_string());
        code.as_str()
    }

    pub(super) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }
}

pub(super) fn app(accounts: Accounts) -> AppRecord {
    let rule = Rule {
        pattern: "*".into(),
        history: xpush_core::History::None,
        presence: false,
        notify: false,
        search: false,
        permissions: Permissions::all(Who::Members),
    };
    let key =
        KeyRecord { id: "own".into(), algorithm: "HS256".into(), material: APP_SECRET.into(), created_at: 0 };
    AppRecord {
        guests: false,
        origins: vec!["https://demo.example".into()],
        rules: Rules::new([rule]),
        keys: vec![key],
        jwks_url: None,
        accounts,
        oidc: Vec::new(),
        ..AppRecord::default()
    }
}

fn administered(
    directory: &Arc<dyn Directory>,
    configured: Vec<(App, AppRecord)>,
    clock: &Arc<ManualClock>,
) -> Administration {
    Administration::new(administration::Parts {
        directory: directory.clone(),
        language: Arc::new(language::Plain),
        configured,
        clock: clock.clone(),
    })
}

fn watched() -> admin::Watched {
    admin::Watched { hooks: Arc::new(language::NoHooks), view: Arc::new(two_nodes), started_at: 0 }
}

fn two_nodes() -> Arc<View> {
    let node = |id: &str| Node { url: format!("https://{id}.example").into(), ..sample::server(id) };
    Arc::new(View { standing: Standing::Live, nodes: [node("n1"), node("n2")].into(), ..View::default() })
}

impl World {
    /// With the apps `demo` (open accounts; the default one), `invited` and `off`.
    pub(super) async fn new() -> Self {
        Self::with(app(Accounts::Open)).await
    }

    pub(super) async fn with(demo: AppRecord) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("test.db"), Options::default()).unwrap();
        let clock = Arc::new(ManualClock::new());
        let ledger = Arc::new(Ledger::new(store.clone(), clock.clone()).unwrap());
        let markers: Arc<dyn Markers> = ledger.clone();
        let directory: Arc<dyn Directory> = Arc::new(SqliteDirectory::new(store.clone()));
        let other = AppRecord { origins: vec!["https://other.example".into()], ..app(Accounts::Invited) };
        let name = |name: &str| App::new(name).unwrap();
        let apps = vec![(name("demo"), demo), (name("invited"), other), (name("off"), app(Accounts::Off))];
        let access_configured = apps.clone();
        let access = DirectoryAccess::start(AccessParts {
            directory,
            ledger: None,
            recent: None,
            clock: clock.clone(),
            entropy: Box::new(SeededEntropy::new(1)),
            runtime: tokio::runtime::Handle::current(),
            configured: Configured { apps, default_app: Some(name("demo")) },
        })
        .await
        .unwrap();
        let directory = access.directory();
        let hashed = Arc::new(AtomicUsize::new(0));
        let count = hashed.clone();
        let each = move |work: Box<dyn FnOnce(&mut Memory) + Send>, memory: &mut Memory| {
            count.fetch_add(1, Ordering::SeqCst);
            work(memory);
        };
        let backend = Arc::new(recorder::Recorder::new(markers.clone()));
        let runtime = tokio::runtime::Handle::current();
        let blobs: Arc<dyn Blobs> =
            Arc::new(DiskBlobs::open(&folder.path().join("files"), 0, runtime.clone()).unwrap());
        let files: Arc<dyn Files> = Arc::new(SqliteFiles::new(store));
        let filing = crate::files::Parts {
            blobs: blobs.clone(),
            files: files.clone(),
            access: Arc::new(access.clone()),
            clock: clock.clone(),
            uploads: 8,
            decoder: crate::files::in_process_decoder(),
            pixels: 1_000_000,
        };
        let filing = Arc::new(crate::files::Filing::new(filing));
        let lasting = crate::files::erasing(ledger.clone(), blobs.clone(), files.clone(), runtime);
        let parts = Parts {
            access,
            backend: backend.clone(),
            placement: Arc::new(placed_over(two_nodes())),
            eraser: Eraser::start(
                crate::erasure::Parts {
                    directory: directory.clone(),
                    lasting,
                    fleeting: Vec::new(),
                    clock: clock.clone(),
                },
                &tokio::runtime::Handle::current(),
            ),
            administration: administered(&directory, access_configured, &clock),
            watched: watched(),
            clock: clock.clone(),
            pages: Pages { allowed: vec!["https://console.example".into()], loopback: true },
            files: Some(filing.clone()),
            url: None,
        };
        let api = Arc::new(Api::new(parts, Hashing::start_with(each).unwrap()));
        Self {
            router: routes(api.clone()),
            api,
            directory,
            markers,
            ledger,
            backend,
            clock,
            blobs,
            files,
            hashed,
            folder,
        }
    }

    pub(super) async fn send(&self, request: Request) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Got { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn ask(&self, method: &str, path: &str, token: &str, body: Value) -> Got {
        self.send(request(method, path, token, &body.to_string())).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Got {
        self.ask("POST", path, "", body).await
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Got {
        self.send(request("GET", path, token, "")).await
    }

    pub(super) async fn register(&self, user: &str) -> Got {
        self.post("/auth/register", json!({"user": user, "password": PASSWORD})).await.ok()
    }

    pub(super) async fn log_in(&self, user: &str, device: &str) -> Got {
        let body = json!({"user": user, "password": PASSWORD, "device": {"id": device}});
        self.post("/auth/login", body).await.ok()
    }

    /// Whether an access token is good.
    pub(super) async fn admits(&self, token: &str) -> bool {
        let got = self.get("/me", token).await;
        if got.status != 200 {
            assert_eq!(got.code(), "revoked", "{got:?}");
        }
        got.status == 200
    }

    /// Waits until nothing of a user is left.
    pub(super) async fn erased(&self, name: &str) {
        for _ in 0..3_000 {
            self.clock.advance(1_000);
            if self.entry(Key::User(demo(), user(name))).await.is_none() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{name} is still there");
    }

    pub(super) async fn entry(&self, key: Key) -> Option<Entry> {
        ask(|done| self.directory.get(&key, done)).await.unwrap()
    }

    pub(super) async fn put(&self, key: Key, record: Record) {
        let change = Change { key, expected: Expected::Any, to: Some(record) };
        ask(|done| self.directory.apply(change, done)).await.unwrap();
    }

    pub(super) async fn page(&self, listing: Listing) -> Vec<Entry> {
        ask(|done| self.directory.page(&listing, None, 1_000, done)).await.unwrap()
    }

    pub(super) fn hashed(&self) -> usize {
        self.hashed.load(Ordering::SeqCst)
    }
}

pub(super) fn request(method: &str, path: &str, token: &str, body: &str) -> Request {
    let path = if path == "/setup-page" { "/setup".to_owned() } else { format!("/api/v1{path}") };
    let mut request = Request::builder().method(method).uri(path).header("host", "xpush.example");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

pub(super) fn demo() -> App {
    App::new("demo").unwrap()
}

pub(super) fn user(name: &str) -> User {
    User::new(name).unwrap()
}

/// A token that the app's own back end has signed.
pub(super) fn app_token(claims: Value) -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("own".to_owned());
    let key = jsonwebtoken::EncodingKey::from_secret(APP_SECRET.as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

/// What a token says, whoever has signed it.
pub(super) fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}
