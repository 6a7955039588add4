//! API keys, by who has one of the scope `admin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use xpush_core::ports::directory::{ApiKeyRecord, Expected, Key, Listing, Record, Scope};
use xpush_core::{ApiKeyId, Code, Problem};

use super::channels::PAGE;
use super::{AROUND, Server, created, last, page};
use crate::api::openapi::schema::{self, about, moment, of, text};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Body, Segment, named, ok, wrong};
use crate::api_key::{self, Fresh};

/// Keys of an app.
const MOST: usize = 100;

/// How long a secret may stay good beside its successor, in seconds: 30 days.
const LONGEST_GRACE: u64 = 30 * 86_400;

pub(super) fn routes() -> Routes {
    let with_secret = schema::object(&[
        ("api_key", of("ApiKey"), true),
        ("secret", about(text(1, 256), "The whole key, `xk_APP.ID.SECRET`: not shown again."), true),
    ]);
    let scopes = json!({"type": "array", "items": of("Scope"), "minItems": 1, "maxItems": 4});
    let list = Operation::get("/keys", "listKeys", "The app's API keys")
        .tag("API keys")
        .server(Scope::Admin)
        .query("after", of("ApiKeyId"), "Those behind this one.")
        .query("limit", schema::between(1, MOST as u64), "50 without it.")
        .ok(list_of("keys", of("ApiKey")));
    let create = Operation::post("/keys", "createKey", "Make an API key")
        .tag("API keys")
        .server(Scope::Admin)
        .body(schema::request(&[
            ("name", of("Name"), false),
            ("scopes", scopes, true),
            ("expires_at", moment(), false),
        ]))
        .answers_with(201, "Made.", Some(with_secret.clone()))
        .refuses(&[Code::BadContentType, Code::Full]);
    let rotate = Operation::post("/keys/{key}/rotate", "rotateKey", "Give an API key another secret")
        .tag("API keys")
        .about("The one before stays good for `grace` seconds (without it, a day), so that no request fails while back ends are given the new one.")
        .server(Scope::Admin)
        .optional_body(schema::request(&[("grace", schema::between(0, LONGEST_GRACE), false)]))
        .ok(with_secret)
        .refuses(&[Code::BadContentType]);
    let revoke = Operation::delete("/keys/{key}", "revokeKey", "Revoke an API key")
        .tag("API keys")
        .about("It opens nothing any more: on this server at once, on others within 2 seconds. It stays in the list.")
        .server(Scope::Admin)
        .ok(of("ApiKey"));
    Routes::new().on(list, keys).on(create, make).on(rotate, renew).on(revoke, end)
}

async fn keys(State(api): State<Arc<Api>>, server: Server, asked: Asked) -> Answer {
    let limit = asked.limit(PAGE, MOST)?;
    let after = asked.one("after")?.map(|id| named(id, "after", ApiKeyId::new)).transpose()?;
    let after = after.map(|id| Key::ApiKey(server.app().clone(), id));
    let entries = api.store.page(&Listing::ApiKeys(server.app().clone()), after, limit).await?;
    let keys = entries.iter().filter_map(|entry| match (&entry.key, &entry.record) {
        (Key::ApiKey(_, id), Record::ApiKey(record)) => Some(shown(id, record)),
        _ => None,
    });
    page("keys", keys.collect(), last(&entries, limit))
}

async fn make(State(api): State<Arc<Api>>, server: Server, request: Request) -> Answer {
    let body = Body::read(request, AROUND).await?;
    let members = body.members()?;
    let parse = |name: &str| Scope::parse(name).ok_or(Code::BadField);
    let named = members.texts("scopes", Scope::EACH.len(), parse)?.unwrap_or_default();
    let scopes: Vec<Scope> = Scope::EACH.into_iter().filter(|scope| named.contains(scope)).collect();
    if scopes.is_empty() {
        return Err(wrong("scopes", "must name at least one").into());
    }
    let (name, expires_at) = (members.name("name")?, members.number("expires_at")?);
    let listing = Listing::ApiKeys(server.app().clone());
    if api.store.page(&listing, None, MOST).await?.len() >= MOST {
        return Err(Problem::new(Code::Full, format!("an app has at most {MOST} API keys")).into());
    }
    let now = api.parts.clock.wall();
    let Fresh { id, record, text } = api_key::issue(server.app(), name, scopes, expires_at, now)?;
    let key = Key::ApiKey(server.app().clone(), id.clone());
    let to = Some(Record::ApiKey(Box::new(record.clone())));
    if !api.store.apply(key, Expected::Absent, to).await? {
        return Err(Code::Conflict.into());
    }
    tracing::info!(app = %server.app(), key = %id, "made an API key");
    created(json!({"api_key": shown(&id, &record), "secret": text}))
}

async fn renew(State(api): State<Arc<Api>>, server: Server, path: Segment, request: Request) -> Answer {
    let body = Body::read(request, AROUND).await?;
    let grace = body.members()?.number("grace")?.unwrap_or(86_400);
    if grace > LONGEST_GRACE {
        return Err(wrong("grace", "must be 30 days at most, in seconds").into());
    }
    let now = api.parts.clock.wall();
    let (app, mut made) = (server.app().clone(), None);
    let (id, record) = change(&api, &server, &path, |record, id| {
        if !api_key::holds(record, now) {
            return Err(Code::NotFound.into());
        }
        made = Some(api_key::rotate(record, &app, id, now, grace * 1_000)?);
        Ok(())
    })
    .await?;
    tracing::info!(%app, key = %id, "gave an API key another secret");
    ok(json!({"api_key": shown(&id, &record), "secret": made}))
}

async fn end(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let now = api.parts.clock.wall();
    let (id, record) = change(&api, &server, &path, |record, _| {
        record.revoked_at.get_or_insert(now);
        Ok(())
    })
    .await?;
    tracing::info!(app = %server.app(), key = %id, "revoked an API key");
    ok(shown(&id, &record))
}

/// Changes a key that there is.
async fn change(
    api: &Api,
    server: &Server,
    path: &Segment,
    mut edit: impl FnMut(&mut ApiKeyRecord, &ApiKeyId) -> Result<(), Problem>,
) -> Result<(ApiKeyId, ApiKeyRecord), crate::api::Refusal> {
    let id = path.named("key", ApiKeyId::new)?;
    let mut outcome: Result<Option<ApiKeyRecord>, Problem> = Ok(None);
    api.store
        .change(&Key::ApiKey(server.app().clone(), id.clone()), |record| {
            let Some(Record::ApiKey(record)) = record else { return None };
            let mut record = record.clone();
            if let Err(problem) = edit(&mut record, &id) {
                outcome = Err(problem);
                return None;
            }
            outcome = Ok(Some((*record).clone()));
            Some(Record::ApiKey(record))
        })
        .await?;
    Ok((id, outcome?.ok_or(Code::NotFound)?))
}

fn shown(id: &ApiKeyId, record: &ApiKeyRecord) -> Value {
    let some = |at: u64| Some(at).filter(|at| *at > 0);
    json!({
        "id": id,
        "name": record.name,
        "scopes": record.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "created_at": record.created_at,
        "rotated_at": some(record.rotated_at),
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "used_at": some(record.used_at),
    })
}
