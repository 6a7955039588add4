//! Sign-in with OpenID Connect (OpenID Connect Core 1.0), by the authorization code flow with PKCE (RFC 7636), and by ID tokens that native apps
//! have got themselves.

mod code;
mod flow;
mod id_token;
mod provider;

use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use xpush_core::ports::directory::{AppRecord, Entry, Expected, Key, Provider, Record, UserRecord};
use xpush_core::{App, Code, Problem, User};

pub(crate) use code::Codes;
pub(crate) use provider::Providers;

use crate::accounts::{begin, find_user, user_record};
use crate::api::openapi::schema::{self, of};
use crate::api::openapi::{Operation, Routes, app_field};
use crate::api::{Answer, Api, Caller, Fields, Refusal, Segment, ok};
use crate::devices::Described;
use id_token::Identity;

/// Tries of a first sign-in that is made several times at once.
const TRIES: usize = 4;

pub(crate) fn routes() -> Routes {
    let words = || json!({"type": "string"});
    let leave =
        Operation::get("/auth/oidc/{provider}", "leaveForProvider", "To the identity provider, in a browser")
            .tag("accounts")
            .query("app", of("App"), "The server's default app without it.")
            .needed_query(
                "return_to",
                json!({"type": "string", "format": "uri"}),
                "The page to come back to, as the provider's settings list it.",
            )
            .answers_with(303, "The provider's page.", None)
            .refuses(&[Code::UnknownApp]);
    let back = Operation::get(
        "/auth/oidc/{provider}/callback",
        "comeBackFromProvider",
        "Where the provider sends the browser back to",
    )
    .tag("accounts")
    .query("state", words(), "Which sign-in it is.")
    .query("code", words(), "When the user has signed in.")
    .query("error", words(), "When not.")
    .query("iss", words(), "Who sends (RFC 9207).")
    .answers_with(303, "The page that the sign-in came from, with `#code=` or `#error=`.", None)
    .refuses(&[Code::Unauthenticated, Code::UnknownApp]);
    let redeem = Operation::post(
        "/auth/oidc/exchange",
        "exchange",
        "A login for the code that the page was returned to with",
    )
    .tag("accounts")
    .body(schema::request(&[("code", words(), true), Described::field()]))
    .ok(of("Tokens"))
    .refuses(&[Code::Unauthenticated, Code::UnknownApp, Code::Forbidden]);
    let token = Operation::post(
        "/auth/oidc/{provider}/token",
        "signInByIdToken",
        "A login for an ID token that a native app has",
    )
    .tag("accounts")
    .body(schema::request(&[
        app_field(),
        ("id_token", words(), true),
        ("nonce", words(), false),
        Described::field(),
    ]))
    .ok(of("Tokens"))
    .refuses(&[Code::Unauthenticated, Code::UnknownApp, Code::Forbidden]);
    Routes::new().on(leave, flow::leave).on(back, flow::come_back).on(redeem, exchange).on(token, by_token)
}

/// `POST /auth/oidc/exchange`: a login for the code that the page was returned to with.
async fn exchange(State(api): State<Arc<Api>>, caller: Caller, fields: Fields) -> Answer {
    let device = Described::read(&fields)?;
    let (app, user) = api.codes.redeem(fields.needed("code")?).ok_or_else(|| {
        Problem::new(Code::Unauthenticated, "code: unknown, used already or older than a minute")
    })?;
    api.app(Some(app.as_str()), &caller)?;
    sign_in(&api, &app, &user, device).await
}

/// `POST /auth/oidc/{provider}/token`: a login for an ID token that a native app has got from the provider.
async fn by_token(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(provider): Segment,
    fields: Fields,
) -> Answer {
    let (app, settings) = api.app(fields.text("app")?, &caller)?;
    let provider = find(&settings, &provider)?;
    let device = Described::read(&fields)?;
    let token = fields.needed("id_token")?;
    let identity = api.providers.verify(provider, token, fields.text("nonce")?).await?;
    let user = user_of(&api, &app, provider, &identity).await?;
    sign_in(&api, &app, &user, device).await
}

async fn sign_in(api: &Api, app: &App, user: &User, device: Option<Described>) -> Answer {
    let record = find_user(api, app, user).await?.ok_or(Code::Revoked)?;
    if record.disabled {
        return Err(Problem::new(Code::Forbidden, "this account is switched off").into());
    }
    ok(begin(api, app, user, &record, device).await?.object())
}

fn find<'a>(settings: &'a AppRecord, name: &str) -> Result<&'a Provider, Problem> {
    let provider = settings.oidc.iter().find(|provider| *provider.name == *name);
    provider.ok_or_else(|| Problem::new(Code::NotFound, "this app knows no such provider"))
}

/// Whose account at the provider it is; the first time, a new user's.
async fn user_of(api: &Api, app: &App, provider: &Provider, identity: &Identity) -> Result<User, Refusal> {
    let key = Key::Identity(app.clone(), provider.issuer.clone(), identity.subject.clone());
    for attempt in 0..TRIES {
        if let Some(Entry { record: Record::Identity(user), revision, .. }) = api.store.get(&key).await? {
            let account = api.store.get(&Key::User(app.clone(), user.clone())).await?;
            if user_record(account.as_ref().map(|entry| &entry.record)).is_some() {
                return Ok(user);
            }
            // Its user was removed; who signs in again is a new one.
            api.store.apply(key.clone(), Expected::Revision(revision), None).await?;
        }
        let user = user_id(provider, &identity.subject, attempt)?;
        let now = api.parts.clock.wall();
        let record = UserRecord {
            name: identity.name.clone(),
            created_at: now,
            tokens_valid_from: UserRecord::fresh_from(now),
            ..UserRecord::default()
        };
        let account = Key::User(app.clone(), user.clone());
        // Somebody else may be called so: whoever that is keeps the name.
        let record = Record::User(Box::new(record));
        if !api.store.apply(account.clone(), Expected::Absent, Some(record)).await? {
            continue;
        }
        let identity = Record::Identity(user.clone());
        if api.store.apply(key.clone(), Expected::Absent, Some(identity)).await? {
            tracing::info!(%app, %user, provider = %provider.name, "signed in for the first time");
            return Ok(user);
        }
        api.store.remove(account).await?;
    }
    Err(Code::Conflict.into())
}

/// `PROVIDER:SUBJECT`, unless that is taken or cannot be a name.
fn user_id(provider: &Provider, subject: &str, attempt: usize) -> Result<User, Code> {
    let plain = User::new(&format!("{}:{subject}", provider.name));
    match plain {
        Ok(user) if attempt == 0 => Ok(user),
        _ => {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(|_| Code::Internal)?;
            User::new(&format!("{}:{}", provider.name, URL_SAFE_NO_PAD.encode(id)))
        }
    }
}
