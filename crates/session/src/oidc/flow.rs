//! The way to the provider and back (OpenID Connect Core 1.0, section 3.1), in a browser.
//!
//! Nothing is kept here meanwhile. `state` is random; the browser holds, in a cookie that we have signed, to which sign-in it belongs, so that nobody can be
//! sent into somebody else's. The code verifier (RFC 7636) and the nonce are made from `state` by the installation's secret.

use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use xpush_core::ports::directory::Provider;
use xpush_core::{App, Code, Problem, UnixMillis};

use super::provider::Proof;
use super::{find, user_of};
use crate::address::reached_at;
use crate::api::{Api, Caller, Refusal, Segment};

/// The installation's secret that sign-ins are made with.
const SECRET: &str = "sign-in";

/// How long somebody may take at the provider, in seconds.
const LIFETIME: u64 = 600;

/// Cookies of sign-ins begin so; behind it comes the beginning of `state`, so that several may be under way.
const COOKIE: &str = "xpush_sign_in_";

#[derive(Deserialize)]
pub(super) struct Leaving {
    app: Option<String>,
    return_to: String,
}

/// What the provider sends a browser back with.
#[derive(Deserialize)]
pub(super) struct Returning {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    /// RFC 9207: who sends.
    iss: Option<String>,
}

/// A sign-in under way, as the cookie says it.
#[derive(Serialize, Deserialize)]
struct Begun {
    state: String,
    app: App,
    provider: String,
    return_to: String,
    redirect_uri: String,
    until: UnixMillis,
}

/// `GET /auth/oidc/{provider}?app=&return_to=`: to the provider.
pub(super) async fn leave(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(provider): Segment,
    query: Result<Query<Leaving>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(leaving) = query.map_err(|_| Problem::new(Code::BadField, "return_to: is missing"))?;
    let (app, settings) = api.app(leaving.app.as_deref(), &caller)?;
    let provider = find(&settings, &provider)?;
    let return_to = allowed(provider, &leaving.return_to).ok_or_else(|| {
        Problem::new(Code::BadField, "return_to: not among the provider's return_to in this app")
    })?;
    let redirect_uri = redirect_uri(&api, provider, &uri, &headers)?;
    let published = api.providers.discover(provider).await?;
    let secret = api.store.secret(SECRET).await?;
    let mut state = [0; 32];
    getrandom::fill(&mut state).map_err(|_| Code::Internal)?;
    let state = URL_SAFE_NO_PAD.encode(state);
    let challenge = digest::digest(&digest::SHA256, derived(&secret, "verifier", &state).as_bytes());
    let mut url = Url::parse(&published.authorization_endpoint).map_err(|_| Code::Unavailable)?;
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("scope", "openid profile"),
        ("client_id", &provider.client_id),
        ("redirect_uri", &redirect_uri),
        ("state", &state),
        ("nonce", &derived(&secret, "nonce", &state)),
        ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge)),
        ("code_challenge_method", "S256"),
    ]);
    let cookie = Cookie { name: cookie_name(&state), secure: redirect_uri.starts_with("https:") };
    let until = api.parts.clock.wall() + LIFETIME * 1_000;
    let begun = Begun { app, provider: provider.name.to_string(), return_to, redirect_uri, state, until };
    redirect(&url, &cookie.set(&begun.sign(&secret)?, LIFETIME))
}

/// `GET /auth/oidc/{provider}/callback`: back from the provider, and on to the page, with `#code=` or `#error=`.
pub(super) async fn come_back(
    State(api): State<Arc<Api>>,
    Segment(name): Segment,
    query: Result<Query<Returning>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let unknown = || {
        Problem::new(Code::Unauthenticated, "state: this browser has begun no such sign-in, or too long ago")
    };
    let Query(returning) = query.map_err(|_| Code::BadRequest)?;
    let state = returning.state.as_deref().ok_or_else(unknown)?;
    let secret = api.store.secret(SECRET).await?;
    let now = api.parts.clock.wall();
    let begun = cookies(&headers, &cookie_name(state)).find_map(|cookie| Begun::read(cookie, &secret));
    let begun = begun
        .filter(|begun| begun.state == state && begun.provider == name && begun.until > now)
        .ok_or_else(unknown)?;
    let mut url = Url::parse(&begun.return_to).map_err(|_| Code::Internal)?;
    let outcome = match finish(&api, &begun, &returning, &secret).await {
        Ok(code) => format!("code={code}"),
        Err(refusal) => format!("error={}", refusal.problem.code),
    };
    url.set_fragment(Some(&outcome));
    let cookie = Cookie { name: cookie_name(state), secure: begun.redirect_uri.starts_with("https:") };
    redirect(&url, &cookie.set("", 0))
}

/// From the provider's word to a one-time code.
async fn finish(api: &Api, begun: &Begun, returning: &Returning, secret: &[u8]) -> Result<Box<str>, Refusal> {
    let settings = api.parts.access.app(&begun.app).ok_or(Code::UnknownApp)?;
    let provider = find(&settings, &begun.provider)?;
    if returning.iss.as_deref().is_some_and(|issuer| *issuer != *provider.issuer) {
        return Err(Code::Unauthenticated.into());
    }
    if returning.error.is_some() {
        return Err(Code::Forbidden.into());
    }
    let code = returning.code.as_deref().ok_or(Code::BadRequest)?;
    let verifier = derived(secret, "verifier", &begun.state);
    let proof = Proof { code, redirect_uri: &begun.redirect_uri, verifier: &verifier };
    let token = api.providers.exchange(provider, &proof).await?;
    let nonce = derived(secret, "nonce", &begun.state);
    let identity = api.providers.verify(provider, &token, Some(&nonce)).await?;
    let user = user_of(api, &begun.app, provider, &identity).await?;
    Ok(api.codes.issue(begun.app.clone(), user)?)
}

impl Begun {
    fn sign(&self, secret: &[u8]) -> Result<String, Code> {
        let content = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).map_err(|_| Code::Internal)?);
        let signature = hmac::sign(&key(secret), content.as_bytes());
        Ok(format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn read(cookie: &str, secret: &[u8]) -> Option<Self> {
        let (content, signature) = cookie.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&key(secret), content.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(content).ok()?).ok()
    }
}

/// A page that a sign-in may return to, in the one spelling of its URL.
fn allowed(provider: &Provider, return_to: &str) -> Option<String> {
    let url = Url::parse(return_to).ok()?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return None;
    }
    let named = |entry: &str| match entry.strip_suffix('*') {
        // Behind the host: `https://app.example*` would be everybody's who has a longer name.
        Some(prefix) => {
            let path = Url::parse(prefix).is_ok_and(|start| start.as_str() == prefix && start.has_host());
            path && url.as_str().starts_with(prefix)
        }
        None => Url::parse(entry).is_ok_and(|entry| entry == url),
    };
    provider.return_to.iter().any(|entry| named(entry)).then(|| url.to_string())
}

/// Where the provider sends browsers back to; it has to be registered there.
fn redirect_uri(api: &Api, provider: &Provider, uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
    let base = match &api.parts.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => reached_at(uri, headers).ok_or(Code::BadRequest)?,
    };
    Ok(format!("{base}/api/v1/auth/oidc/{}/callback", provider.name))
}

fn redirect(url: &Url, cookie: &str) -> Result<Response, Refusal> {
    let header = |value: &str| HeaderValue::from_str(value).map_err(|_| Code::Internal);
    let headers = [
        (header::LOCATION, header(url.as_str())?),
        (header::SET_COOKIE, header(cookie)?),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

struct Cookie {
    name: String,
    secure: bool,
}

impl Cookie {
    /// Sent to us alone, when a link leads here (`Lax`: the provider's does), and to no script.
    fn set(&self, value: &str, seconds: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!(
            "{}={value}; Path=/api/v1/auth/oidc/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}",
            self.name
        )
    }
}

fn cookie_name(state: &str) -> String {
    let start: String = state.chars().take(8).filter(char::is_ascii_alphanumeric).collect();
    format!("{COOKIE}{start}")
}

/// The values of the cookies of this name (RFC 6265, section 4.2).
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(named, _)| *named == name).map(|(_, value)| value)
}

fn derived(secret: &[u8], purpose: &str, state: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&key(secret), format!("{purpose} {state}").as_bytes()))
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}
