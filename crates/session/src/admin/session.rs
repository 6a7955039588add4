//! Signing in to the page: the set-up, a cookie, and its end.

use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use xpush_core::ports::PortError;
use xpush_core::ports::directory::{Key, LoginRecord, Record, UserRecord, Via};
use xpush_core::{App, Code, Login, User};

use super::{GUARD, Who, flag, guarded, needed, object, operates};
use crate::access::OPERATORS;
use crate::accounts::password::{LONGEST, Password, SHORTEST};
use crate::accounts::{authenticate, begin_login, find_user, login_id, make_room};
use crate::administration::{Act, Actor, Wanted, is_operator};
use crate::api::openapi::schema::{self, array, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Caller, Refusal, ok, own_page};
use crate::backend::KeyHolder;
use crate::setup;

/// How cookies' names begin. Behind it stands of which installation it is: browsers send a host's cookies to each of its ports, where there may be others.
pub(crate) const COOKIE: &str = "xpush_admin";

/// Bytes of a cookie's secret.
const SECRET: usize = 32;

/// How long a cookie holds that nobody uses, and in any case; in ms.
const IDLE: u64 = 12 * 3_600_000;
const LONGEST_SESSION: u64 = 7 * 86_400_000;

/// How exactly it is known when it was used last, in ms.
const EXACTNESS: u64 = 5 * 60_000;

/// Whose cookie it is, as it says. Not `Debug`: it holds a secret.
pub(crate) struct Cookie {
    user: User,
    login: Login,
    digest: Box<str>,
    /// What it is called; releases before 0.3 gave it the same name everywhere.
    name: Box<str>,
}

pub(super) fn routes() -> Routes {
    let me = || {
        schema::object(&[
            ("user", json!({"type": "string"}), true),
            ("name", json!({"type": "string"}), false),
            ("via", json!({"type": "string", "enum": ["cookie", "token", "key"]}), true),
            ("app", of("App"), false),
            ("expires_at", schema::moment(), false),
            ("version", json!({"type": "string"}), true),
            ("node", json!({"type": "string"}), true),
            ("features", array(json!({"type": "string"})), true),
        ])
    };
    let password = || schema::text(SHORTEST, LONGEST);
    let needed = Operation::get("/admin/setup", "adminSetupNeeded", "Whether there is no operator yet")
        .tag("administration")
        .ok(schema::object(&[("needed", schema::flag(), true)]));
    let set_up = Operation::post("/admin/setup", "adminSetUp", "Make the first operator, and sign in")
        .tag("administration")
        .header(GUARD, json!({"const": "1"}))
        .body(schema::request(&[
            ("token", json!({"type": "string"}), true),
            ("user", of("User"), true),
            ("password", password(), true),
            ("name", of("Name"), false),
        ]))
        .ok(me())
        .refuses(&[Code::Forbidden, Code::Conflict, Code::BadContentType]);
    let sign_in = Operation::post("/admin/sign-in", "adminSignIn", "Sign in, by a cookie")
        .tag("administration")
        .header(GUARD, json!({"const": "1"}))
        .body(schema::request(&[("user", of("User"), true), ("password", password(), true)]))
        .ok(me())
        .refuses(&[Code::Forbidden, Code::BadCredentials, Code::BadContentType]);
    let sign_out = Operation::post("/admin/sign-out", "adminSignOut", "Let the cookie be good no more")
        .tag("administration")
        .operator()
        .optional_body(schema::request(&[("everywhere", schema::flag(), false)]))
        .ok(schema::object(&[]))
        .refuses(&[Code::BadContentType]);
    let who =
        Operation::get("/admin/me", "adminMe", "Who is signed in").tag("administration").admin().ok(me());
    let own_password = Operation::post("/admin/me/password", "adminPassword", "Choose another password")
        .tag("administration")
        .operator()
        .body(schema::request(&[("current", password(), true), ("new", password(), true)]))
        .ok(schema::object(&[]))
        .refuses(&[Code::BadCredentials, Code::BadContentType]);
    Routes::new()
        .on(needed, setup_needed)
        .on(set_up, first_operator)
        .on(sign_in, begin)
        .on(sign_out, end)
        .on(who, me_shown)
        .on(own_password, change_password)
}

// === the cookie ===

impl Api {
    /// What this installation calls its cookies: the same on every server of it.
    async fn cookie_name(&self) -> Result<&str, PortError> {
        let name = self.cookie_name.get_or_try_init(|| async {
            let secret = self.store.secret("cookies").await?;
            let digest = digest::digest(&digest::SHA256, &secret);
            let digits: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Ok(format!("{COOKIE}_{digits}").into())
        });
        name.await.map(|name| &**name)
    }
}

impl Cookie {
    /// The cookie of a request, if there is one that could be ours.
    pub(super) async fn of(api: &Api, headers: &HeaderMap) -> Result<Option<Self>, PortError> {
        let own = api.cookie_name().await?;
        let find = |wanted: &str| {
            let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
            let mut pairs =
                values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(name, _)| *name == wanted)
        };
        Ok(find(own).or_else(|| find(COOKIE)).and_then(|(name, value)| Self::read(name, value)))
    }

    fn read(name: &str, value: &str) -> Option<Self> {
        let mut parts = value.split('.');
        let (user, login, secret, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let user = String::from_utf8(URL_SAFE_NO_PAD.decode(user).ok()?).ok()?;
        let (user, login) = (User::new(&user).ok()?, Login::new(login).ok()?);
        Some(Self { user, login, digest: digest_of(secret), name: name.into() })
    }

    fn key(&self) -> Result<Key, Code> {
        Ok(Key::Login(App::new(OPERATORS)?, self.user.clone(), self.login.clone()))
    }

    /// Whoever has it, if it is good.
    pub(super) async fn admit(self, api: &Arc<Api>) -> Result<Who, Refusal> {
        let (key, app) = (self.key()?, App::new(OPERATORS)?);
        let found = api.parts.access.remembered(&key).await?;
        let Some(Record::Login(login)) = found.as_deref() else { return Err(Code::Unauthenticated.into()) };
        let same = constant_time::verify_slices_are_equal(login.refresh.as_bytes(), self.digest.as_bytes());
        let now = api.parts.clock.wall();
        let idle = now.saturating_sub(login.rotated_at);
        if same.is_err() || now >= login.expires_at || idle >= IDLE {
            return Err(Code::Unauthenticated.into());
        }
        let user = api.parts.access.remembered(&Key::User(app, self.user.clone())).await?;
        let valid_from = match user.as_deref() {
            Some(Record::User(user)) => user.tokens_valid_from,
            _ => u64::MAX,
        };
        if login.created_at < valid_from || !operates(api, &self.user).await? {
            return Err(Code::Unauthenticated.into());
        }
        if idle >= EXACTNESS {
            let api = api.clone();
            tokio::spawn(async move { note_use(&api, &key, now).await });
        }
        let expires_at = Some(login.expires_at.min(now + IDLE));
        Ok(Who::Operator { user: self.user.clone(), via: Via::Page, expires_at, cookie: Some(self) })
    }
}

async fn note_use(api: &Api, key: &Key, now: u64) {
    let noted = api.store.change(key, |record| match record {
        Some(Record::Login(login)) if login.rotated_at < now => {
            Some(Record::Login(Box::new(LoginRecord { rotated_at: now, ..(**login).clone() })))
        }
        _ => None,
    });
    if let Err(error) = noted.await {
        tracing::debug!(%error, "the use of an operator's cookie was not noted");
    }
}

fn digest_of(secret: &str) -> Box<str> {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes())).into()
}

/// A new session's cookie, for who has shown to be this user. `encrypted`: whether the page came that way.
async fn new_cookie(
    api: &Api,
    user: &User,
    known: &UserRecord,
    encrypted: bool,
) -> Result<HeaderValue, Refusal> {
    let app = App::new(OPERATORS)?;
    make_room(api, &app, user).await?;
    let mut secret = [0; SECRET];
    getrandom::fill(&mut secret).map_err(|_| Code::Internal)?;
    let (secret, login) = (URL_SAFE_NO_PAD.encode(secret), login_id()?);
    let now = api.parts.clock.wall();
    let record = LoginRecord {
        device: None,
        refresh: digest_of(&secret),
        previous: None,
        rotated_at: now,
        created_at: now,
        expires_at: now + LONGEST_SESSION,
    };
    begin_login(api, &app, user, login.clone(), record, known).await?;
    let value = format!("{}.{login}.{secret}", URL_SAFE_NO_PAD.encode(user.as_str()));
    set_cookie(api.cookie_name().await?, &value, LONGEST_SESSION / 1_000, encrypted)
}

fn set_cookie(name: &str, value: &str, seconds: u64, encrypted: bool) -> Result<HeaderValue, Refusal> {
    let secure = if encrypted { "; Secure" } else { "" };
    let text =
        format!("{name}={value}; Path=/api/v1/admin; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    Ok(HeaderValue::from_str(&text).map_err(|_| Code::Internal)?)
}

fn with_cookie(cookie: HeaderValue, answer: Answer) -> Answer {
    let mut response: Response = answer?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Whether the page was fetched over TLS: browsers say by the origin that they send with each `POST`.
fn is_encrypted(api: &Api, headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.or(api.parts.url.as_deref()).is_some_and(|url| url.starts_with("https://"))
}

// === handlers ===

async fn setup_needed(State(api): State<Arc<Api>>) -> Answer {
    ok(json!({"needed": setup::is_needed(&api.store).await?}))
}

async fn first_operator(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    own_page(&api, &headers)?;
    guarded(&headers)?;
    let fields = object(request).await?;
    let (token, user, password) =
        (needed(&fields, "token")?, needed(&fields, "user")?, needed(&fields, "password")?);
    let user = crate::api::named(user, "user", User::new)?;
    let name = crate::api::display_name_of(&fields, "name")?;
    let made = setup::make_first(&api, token, &user, Password::new(password, "password")?, name).await?;
    let cookie = new_cookie(&api, &user, &made, is_encrypted(&api, &headers)).await?;
    let actor = Actor::user(&user, Via::Page, &caller);
    let app = App::new(OPERATORS)?;
    api.administration.note(&actor, Act { what: "set_up", app: Some(&app), ..Act::default() }, None).await;
    with_cookie(cookie, me(&api, &user, "cookie", Some(api.parts.clock.wall() + IDLE)).await)
}

async fn begin(State(api): State<Arc<Api>>, caller: Caller, headers: HeaderMap, request: Request) -> Answer {
    own_page(&api, &headers)?;
    guarded(&headers)?;
    let fields = object(request).await?;
    let user = crate::api::named(needed(&fields, "user")?, "user", User::new)?;
    let password = Password::new(needed(&fields, "password")?, "password")?;
    let app = App::new(OPERATORS)?;
    let actor = Actor::user(&user, Via::Page, &caller);
    let act = |what| Act { what, app: Some(&app), ..Act::default() };
    let known = authenticate(&api, &app, &user, password, &caller).await;
    // That the password is right, and the user no operator, is nobody's business.
    let cookie = match known {
        Ok(known) if is_operator(&app, &known) => {
            new_cookie(&api, &user, &known, is_encrypted(&api, &headers)).await
        }
        Ok(_) => Err(Code::BadCredentials.into()),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = &cookie
        && refusal.problem.code == Code::BadCredentials
    {
        api.administration.note(&actor, act("sign_in_refused"), Some(refusal.problem.code)).await;
    }
    let cookie = cookie?;
    api.administration.note(&actor, act("sign_in"), None).await;
    tracing::info!(%user, "an operator has signed in");
    with_cookie(cookie, me(&api, &user, "cookie", Some(api.parts.clock.wall() + IDLE)).await)
}

async fn end(
    State(api): State<Arc<Api>>,
    caller: Caller,
    who: Who,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let fields = object(request).await?;
    let actor = who.actor(&caller);
    let Who::Operator { user, cookie, .. } = who else { return Err(Code::NotFound.into()) };
    let app = App::new(OPERATORS)?;
    if flag(&fields, "everywhere")? == Some(true) {
        api.administration.revoke(&actor, &app, &user, None).await?;
    }
    let mut name: &str = api.cookie_name().await?;
    if let Some(cookie) = &cookie {
        api.store.remove(cookie.key()?).await?;
        name = &cookie.name;
    }
    api.administration.note(&actor, Act { what: "sign_out", app: Some(&app), ..Act::default() }, None).await;
    with_cookie(set_cookie(name, "", 0, is_encrypted(&api, &headers))?, ok(json!({})))
}

async fn me_shown(State(api): State<Arc<Api>>, who: Who) -> Answer {
    match who {
        Who::Operator { user, via, expires_at, .. } => {
            me(&api, &user, if via == Via::Page { "cookie" } else { "token" }, expires_at).await
        }
        Who::Key(KeyHolder { app, id, .. }) => {
            let mut me = common(&api, id.as_str(), "key");
            me["app"] = json!(app);
            ok(me)
        }
    }
}

async fn me(api: &Api, user: &User, via: &str, expires_at: Option<u64>) -> Answer {
    let record = find_user(api, &App::new(OPERATORS)?, user).await?;
    let mut me = common(api, user.as_str(), via);
    if let Some(name) = record.and_then(|record| record.name) {
        me["name"] = json!(name);
    }
    if let Some(at) = expires_at {
        me["expires_at"] = json!(at);
    }
    ok(me)
}

fn common(api: &Api, user: &str, via: &str) -> Value {
    json!({
        "user": user, "via": via, "version": env!("CARGO_PKG_VERSION"), "node": api.parts.backend.node(),
        "features": features(api),
    })
}

/// Parts of the page that this server has something for.
fn features(api: &Api) -> Vec<&'static str> {
    let files = api.parts.files.as_ref().map(|_| "files");
    files.into_iter().collect()
}

async fn change_password(
    State(api): State<Arc<Api>>,
    caller: Caller,
    who: Who,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let fields = object(request).await?;
    let actor = who.actor(&caller);
    let Who::Operator { user, via, .. } = who else { return Err(Code::NotFound.into()) };
    let app = App::new(OPERATORS)?;
    let current = Password::new(needed(&fields, "current")?, "current")?;
    let new = Password::new(needed(&fields, "new")?, "new")?;
    authenticate(&api, &app, &user, current, &caller).await?;
    let digest = api.hashing.digest(new).await?;
    let wanted = Wanted { password: Some(Some(digest)), ..Wanted::default() };
    let changed = api.administration.change_user(&actor, &app, &user, &wanted, false).await?;
    match via {
        // All cookies have ended; whoever did it goes on by a new one.
        Via::Page => {
            let cookie = new_cookie(&api, &user, &changed, is_encrypted(&api, &headers)).await?;
            with_cookie(cookie, ok(json!({})))
        }
        _ => ok(json!({})),
    }
}
