//! Built-in accounts: register, log in, stay logged in, log out.

mod failures;
mod hashing;
mod login;
pub mod password;
mod token;

use std::sync::Arc;

use axum::extract::State;
use serde_json::json;
use xpush_core::ports::directory::{Accounts, Expected, Key, Listing, Record, UserRecord};
use xpush_core::{App, Code, Problem, User};

pub(crate) use failures::{Attempt, Failures};
pub(crate) use hashing::Hashing;
pub(crate) use login::{begin, make_room, put as begin_login, sign_for_channel};
pub(crate) use token::login_id;

use crate::api::openapi::schema::{self, of};
use crate::api::openapi::{Operation, Routes, app_field};
use crate::api::{Answer, Api, Bearer, Caller, Fields, Refusal, ok};
use crate::devices::Described;
use login::{end, end_all_but};
use password::Password;

pub(crate) fn routes() -> Routes {
    let signing_in = |more: &[schema::Field]| {
        let fields = [app_field(), ("user", of("User"), true), ("password", password_field(), true)];
        let fields: Vec<_> =
            fields.into_iter().chain(more.iter().cloned()).chain([Described::field()]).collect();
        schema::request(&fields)
    };
    let new_account = Operation::post("/auth/register", "register", "Make an account")
        .tag("accounts")
        .about("Where the app's setting `accounts` is `open`.")
        .body(signing_in(&[("name", of("Name"), false)]))
        .ok(of("Tokens"))
        .refuses(&[Code::Forbidden, Code::Conflict]);
    let log_in_by_password = Operation::post("/auth/login", "logIn", "Log in by password")
        .tag("accounts")
        .body(signing_in(&[]))
        .ok(of("Tokens"))
        .refuses(&[Code::Forbidden, Code::BadCredentials]);
    let next = Operation::post("/auth/refresh", "refresh", "The next tokens for the last refresh token")
        .tag("accounts")
        .body(schema::request(&[("refresh_token", json!({"type": "string"}), true)]))
        .ok(of("Tokens"))
        .refuses(&[Code::Unauthenticated, Code::TokenExpired, Code::Revoked, Code::Forbidden]);
    let leave = Operation::post(
        "/auth/logout",
        "logOut",
        "End this login, or with `everywhere` all that the user has",
    )
    .tag("accounts")
    .user()
    .optional_body(schema::request(&[("everywhere", schema::flag(), false)]))
    .ok(schema::object(&[]));
    let another = Operation::post(
        "/auth/password",
        "changePassword",
        "Choose another password; every other login ends",
    )
    .tag("accounts")
    .user()
    .body(schema::request(&[("current", password_field(), true), ("new", password_field(), true)]))
    .ok(schema::object(&[]))
    .refuses(&[Code::BadCredentials, Code::Conflict]);
    Routes::new()
        .on(new_account, register)
        .on(log_in_by_password, log_in)
        .on(next, refresh)
        .on(leave, log_out)
        .on(another, change_password)
}

fn password_field() -> serde_json::Value {
    schema::text(password::SHORTEST, password::LONGEST)
}

/// `POST /auth/register`: makes an account, where anybody may.
async fn register(State(api): State<Arc<Api>>, caller: Caller, fields: Fields) -> Answer {
    let (app, settings) = api.app(fields.text("app")?, &caller)?;
    if settings.accounts != Accounts::Open {
        return Err(
            Problem::new(Code::Forbidden, "nobody makes an account for themselves in this app").into()
        );
    }
    let user = fields.user("user")?;
    check_own_choice(&user)?;
    let password = Password::new(fields.needed("password")?, "password")?;
    let name = fields.name("name")?;
    let device = Described::read(&fields)?;
    let attempt = Attempt::new(&app, &user, caller.address);
    api.failures.check(&attempt)?;
    // Before anybody looks whether the name is free: a taken one costs as much.
    let password = api.hashing.digest(password).await?;
    let now = api.parts.clock.wall();
    // Whoever had the id before may have left tokens behind: they are none for this account.
    let record = UserRecord {
        name,
        password: Some(password),
        created_at: now,
        tokens_valid_from: UserRecord::fresh_from(now),
        ..UserRecord::default()
    };
    let key = Key::User(app.clone(), user.clone());
    let to = Record::User(Box::new(record.clone()));
    if !api.store.apply(key, Expected::Absent, Some(to)).await? {
        api.failures.failed(&attempt);
        return Err(Code::Conflict.into());
    }
    tracing::info!(%app, %user, "registered");
    ok(begin(&api, &app, &user, &record, device).await?.object())
}

/// `POST /auth/login`: by password.
async fn log_in(State(api): State<Arc<Api>>, caller: Caller, fields: Fields) -> Answer {
    let (app, settings) = api.app(fields.text("app")?, &caller)?;
    if settings.accounts == Accounts::Off {
        return Err(Problem::new(Code::Forbidden, "this app has no accounts of its own").into());
    }
    let user = fields.user("user")?;
    let password = Password::new(fields.needed("password")?, "password")?;
    let device = Described::read(&fields)?;
    let record = authenticate(&api, &app, &user, password, &caller).await?;
    if record.disabled {
        return Err(Problem::new(Code::Forbidden, "this account is switched off").into());
    }
    ok(begin(&api, &app, &user, &record, device).await?.object())
}

/// The account of who knows its password. That there is none is neither said nor shown by the time that it takes.
pub(crate) async fn authenticate(
    api: &Api,
    app: &App,
    user: &User,
    password: Password,
    caller: &Caller,
) -> Result<UserRecord, Refusal> {
    let attempt = Attempt::new(app, user, caller.address);
    api.failures.check(&attempt)?;
    let seat = api.hashing.seat()?;
    let record = find_user(api, app, user).await?;
    let digest = record.as_ref().and_then(|record| record.password.clone());
    let matches = api.hashing.guess(seat, password, digest, api.failures.clone(), attempt).await?;
    record.filter(|_| matches).ok_or_else(|| Code::BadCredentials.into())
}

/// `POST /auth/refresh`: the next tokens for the last refresh token.
async fn refresh(State(api): State<Arc<Api>>, fields: Fields) -> Answer {
    ok(login::refresh(&api, fields.needed("refresh_token")?).await?.object())
}

/// `POST /auth/logout`: ends this login, or with `everywhere` all that this user has been given.
async fn log_out(State(api): State<Arc<Api>>, Bearer(grant): Bearer, fields: Fields) -> Answer {
    let (app, user) = (&grant.app, &grant.sender.user);
    if fields.flag("everywhere")? == Some(true) {
        let now = api.parts.clock.wall();
        api.store
            .change(&Key::User(app.clone(), user.clone()), |record| {
                let unknown = || UserRecord { created_at: now, ..UserRecord::default() };
                let mut changed = user_record(record).cloned().unwrap_or_else(unknown);
                changed.tokens_valid_from = now;
                Some(Record::User(Box::new(changed)))
            })
            .await?;
        api.store.clear(&Listing::Logins(app.clone(), user.clone())).await?;
    } else {
        let login = grant.login.as_ref().ok_or_else(|| {
            Problem::new(
                Code::BadRequest,
                "this token belongs to no login; everywhere: true voids all of this user's",
            )
        })?;
        end(&api, app, user, login).await?;
    }
    ok(json!({}))
}

/// `POST /auth/password`: a new one; every other login ends.
async fn change_password(
    State(api): State<Arc<Api>>,
    Bearer(grant): Bearer,
    caller: Caller,
    fields: Fields,
) -> Answer {
    let (app, user) = (&grant.app, &grant.sender.user);
    let current = Password::new(fields.needed("current")?, "current")?;
    let new = Password::new(fields.needed("new")?, "new")?;
    let known = authenticate(&api, app, user, current, &caller).await?.password;
    let digest = api.hashing.digest(new).await?;
    // Before, too: when it fails now, the same request can be made again.
    end_all_but(&api, app, user, grant.login.as_ref()).await?;
    let changed = api
        .store
        .change(&Key::User(app.clone(), user.clone()), |record| {
            // Unless another request has been faster to change it.
            let record = user_record(record).filter(|record| record.password == known)?;
            let changed = UserRecord { password: Some(digest.clone()), ..record.clone() };
            Some(Record::User(Box::new(changed)))
        })
        .await?;
    if !changed {
        return Err(Code::Conflict.into());
    }
    end_all_but(&api, app, user, grant.login.as_ref()).await?;
    tracing::info!(%app, %user, "changed the password");
    ok(json!({}))
}

pub(crate) async fn find_user(api: &Api, app: &App, user: &User) -> Result<Option<UserRecord>, Refusal> {
    let entry = api.store.get(&Key::User(app.clone(), user.clone())).await?;
    Ok(entry.and_then(|entry| user_record(Some(&entry.record)).cloned()))
}

pub(crate) fn user_record(record: Option<&Record>) -> Option<&UserRecord> {
    match record {
        Some(Record::User(record)) => Some(record),
        _ => None,
    }
}

/// Names that others give: XPUSH itself, and to users of identity providers (`…:…`). Who chose one of those could pass for somebody else.
pub(crate) fn check_own_choice(user: &User) -> Result<(), Problem> {
    let text = user.as_str();
    if user.is_reserved() || text.contains(':') || text.starts_with("g-") || text.trim() != text {
        let detail = "user: without `:`, without white space around it, and not beginning with `g-` or `$`";
        return Err(Problem::new(Code::BadField, detail));
    }
    Ok(())
}
