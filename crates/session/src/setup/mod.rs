//! The first operator: made once, by whoever has the link that the server prints when there is none.

use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use axum::Router;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use xpush_core::ports::directory::{Directory, Entry, Expected, Key, Listing, Record, UserRecord, Via};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{App, Code, Problem, Role, User};

use crate::access::OPERATORS;
use crate::accounts::password::{self, Password};
use crate::accounts::{self, begin};
use crate::administration::{Act, Actor};
use crate::api::openapi::schema::{self, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Caller, Fields, Refusal, ok};
use crate::store::Store;

/// The role of an operator.
pub const ADMIN: &str = "admin";

/// Under which name the link's token is kept: its SHA-256.
const SECRET: &str = "setup";

/// Makes the token of a new set-up link, unless there is an operator already. An older link is void: the server that printed it may be gone.
pub async fn begin_setup(directory: Arc<dyn Directory>) -> Result<Option<String>, PortError> {
    let store = Store::new(directory);
    let key = Key::Secret(SECRET.into());
    if has_operator(&store).await? {
        store.remove(key).await?;
        return Ok(None);
    }
    let mut token = [0; 32];
    getrandom::fill(&mut token).map_err(|error| PortError::new(Failure::NotApplied, error.to_string()))?;
    let token = URL_SAFE_NO_PAD.encode(token);
    store.apply(key, Expected::Any, Some(Record::Secret(digest_of(&token)))).await?;
    Ok(Some(token))
}

pub(crate) fn routes() -> Routes {
    let operation = Operation::post(
        "/setup",
        "setUp",
        "Make the first operator, by the link that the server has printed",
    )
    .tag("accounts")
    .body(schema::request(&[
        ("token", json!({"type": "string"}), true),
        ("user", of("User"), true),
        ("password", schema::text(password::SHORTEST, password::LONGEST), true),
        ("name", of("Name"), false),
    ]))
    .ok(of("Tokens"))
    .refuses(&[Code::Forbidden, Code::Conflict]);
    Routes::new().on(operation, set_up)
}

/// Leads to the page that asks for name and password. The token is in the URL's fragment, which no browser sends, and every browser takes along.
pub(crate) fn page() -> Router {
    Router::new().route("/setup", get(async || Redirect::temporary("/admin/?setup")))
}

/// `POST /setup`: makes the operator, exactly once.
async fn set_up(State(api): State<Arc<Api>>, caller: Caller, fields: Fields) -> Answer {
    let (app, _) = api.app(Some(OPERATORS), &caller)?;
    let token = fields.needed("token")?;
    let user = fields.user("user")?;
    let password = Password::new(fields.needed("password")?, "password")?;
    let record = make_first(&api, token, &user, password, fields.name("name")?).await?;
    let actor = Actor::user(&user, Via::Page, &caller);
    api.administration.note(&actor, Act { what: "set_up", app: Some(&app), ..Act::default() }, None).await;
    ok(begin(&api, &app, &user, &record, None).await?.object())
}

/// Whether there is no operator yet, and a link by which one can be made.
pub(crate) async fn is_needed(store: &Store) -> Result<bool, PortError> {
    Ok(store.get(&Key::Secret(SECRET.into())).await?.is_some() && !has_operator(store).await?)
}

/// Makes the first operator, exactly once.
pub(crate) async fn make_first(
    api: &Api,
    token: &str,
    user: &User,
    password: Password,
    name: Option<Box<str>>,
) -> Result<UserRecord, Refusal> {
    let app = App::new(OPERATORS)?;
    accounts::check_own_choice(user)?;
    let void = || Problem::new(Code::Forbidden, "token: this link was used, or a newer one was printed");
    let key = Key::Secret(SECRET.into());
    let kept = api.store.get(&key).await?;
    let Some(Entry { record: Record::Secret(kept), revision, .. }) = kept else { return Err(void().into()) };
    constant_time::verify_slices_are_equal(&kept, &digest_of(token)).map_err(|_| void())?;
    let digest = api.hashing.digest(password).await?;
    // From here on nobody else can. An operator made by other means meanwhile has voided the link, too.
    if has_operator(&api.store).await?
        || !api.store.apply(key.clone(), Expected::Revision(revision), None).await?
    {
        return Err(void().into());
    }
    let record = UserRecord {
        name,
        password: Some(digest),
        roles: vec![Role::new(ADMIN)?],
        created_at: api.parts.clock.wall(),
        ..UserRecord::default()
    };
    let to = Record::User(Box::new(record.clone()));
    let made = api.store.apply(Key::User(app, user.clone()), Expected::Absent, Some(to)).await;
    if !matches!(made, Ok(true)) {
        // Nothing was made, so the link stays good.
        api.store.apply(key, Expected::Absent, Some(Record::Secret(kept))).await?;
        return Err(made.map(|_| Code::Conflict)?.into());
    }
    tracing::info!(%user, "the first operator is there");
    Ok(record)
}

async fn has_operator(store: &Store) -> Result<bool, PortError> {
    let operators = App::new(OPERATORS).map_err(|_| PortError::new(Failure::Invalid, "no app's name"))?;
    let users = store.all(&Listing::Users(operators)).await?;
    Ok(users.iter().any(|entry| {
        let user = accounts::user_record(Some(&entry.record));
        user.is_some_and(|user| user.roles.iter().any(|role| role.as_str() == ADMIN))
    }))
}

fn digest_of(token: &str) -> Box<[u8]> {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().into()
}
