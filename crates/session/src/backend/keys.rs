//! API keys, by who has one of the scope `admin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use serde_json::json;
use xpush_core::ports::directory::{Key, Listing, Record, Scope};
use xpush_core::{ApiKeyId, Code};

use super::channels::PAGE;
use super::{AROUND, Server, created, last, page};
use crate::administration::{GRACE, LONGEST_GRACE, shown_api_key as shown};
use crate::api::openapi::schema::{self, about, moment, of, text};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Body, Segment, named, ok};

/// Keys of an app.
const MOST: usize = 100;

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
    let scopes = members.texts("scopes", Scope::EACH.len(), parse)?.unwrap_or_default();
    let (name, expires_at) = (members.name("name")?, members.number("expires_at")?);
    let by = &server.actor;
    let made = api.administration.create_api_key(by, server.app(), name, &scopes, expires_at).await?;
    created(json!({"api_key": shown(&made.id, &made.record), "secret": made.text}))
}

async fn renew(State(api): State<Arc<Api>>, server: Server, path: Segment, request: Request) -> Answer {
    let body = Body::read(request, AROUND).await?;
    let grace = body.members()?.number("grace")?.unwrap_or(GRACE);
    let id = path.named("key", ApiKeyId::new)?;
    let made = api.administration.rotate_api_key(&server.actor, server.app(), &id, grace).await?;
    ok(json!({"api_key": shown(&made.id, &made.record), "secret": made.text}))
}

async fn end(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let id = path.named("key", ApiKeyId::new)?;
    let record = api.administration.revoke_api_key(&server.actor, server.app(), &id).await?;
    ok(shown(&id, &record))
}
