//! Signing keys and API keys.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use xpush_core::ports::directory::{KeyRecord, Scope};
use xpush_core::{ApiKeyId, Code};

use super::{Within, needed, note, note_schema, object, text, texts, told, wanted};
use crate::administration::{GRACE, LONGEST_GRACE, fresh_secret, shown_api_key};
use crate::api::openapi::schema::{self, array, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Asked, ok, wrong};
use crate::backend::created;

pub(super) fn routes() -> Routes {
    let of_app = |operation: Operation| operation.tag("administration").admin();
    let changing = |operation: Operation| {
        operation.if_match().query("note", note_schema(), "Why.").refuses(&[
            Code::Conflict,
            Code::Full,
            Code::BadContentType,
        ])
    };
    let signing = of_app(Operation::get(
        "/admin/apps/{app}/signing-keys",
        "adminSigningKeys",
        "What users' tokens are checked with",
    ))
    .ok(schema::object(&[
        ("revision", schema::number(0), true),
        ("keys", array(json!({"type": "object"})), true),
    ]));
    let add = changing(of_app(Operation::post(
        "/admin/apps/{app}/signing-keys",
        "adminAddSigningKey",
        "Add a signing key",
    )))
    .optional_body(schema::request(&[
        ("id", schema::printable(64), false),
        ("algorithm", json!({"type": "string", "enum": ["HS256", "RS256", "ES256", "EdDSA"]}), false),
        ("public_key", json!({"type": "string"}), false),
        ("secret", json!({"type": "string"}), false),
    ]))
    .answers_with(201, "Made.", Some(json!({"type": "object"})));
    let remove = changing(of_app(Operation::delete(
        "/admin/apps/{app}/signing-keys/{signing_key}",
        "adminRemoveSigningKey",
        "Remove a signing key: its tokens are good no more",
    )))
    .ok(of("AdminApp"));
    let with_secret =
        || schema::object(&[("api_key", of("ApiKey"), true), ("secret", json!({"type": "string"}), true)]);
    let list = of_app(Operation::get("/admin/apps/{app}/api-keys", "adminApiKeys", "What back ends show"))
        .ok(schema::object(&[("keys", array(of("ApiKey")), true)]));
    let make = of_app(Operation::post("/admin/apps/{app}/api-keys", "adminCreateApiKey", "Make an API key"))
        .body(schema::request(&[
            ("name", of("Name"), false),
            ("scopes", json!({"type": "array", "items": of("Scope"), "minItems": 1, "maxItems": 4}), true),
            ("expires_at", schema::moment(), false),
        ]))
        .answers_with(201, "Made.", Some(with_secret()))
        .refuses(&[Code::Full, Code::Conflict, Code::BadContentType]);
    let rotate = of_app(Operation::post(
        "/admin/apps/{app}/api-keys/{key}/rotate",
        "adminRotateApiKey",
        "Give an API key another secret",
    ))
    .optional_body(schema::request(&[("grace", schema::between(0, LONGEST_GRACE), false)]))
    .ok(with_secret())
    .refuses(&[Code::BadContentType]);
    let revoke = of_app(Operation::delete(
        "/admin/apps/{app}/api-keys/{key}",
        "adminRevokeApiKey",
        "Revoke an API key",
    ))
    .ok(schema::object(&[("api_key", of("ApiKey"), true)]));
    Routes::new()
        .on(signing, signing_keys)
        .on(add, add_signing_key)
        .on(remove, remove_signing_key)
        .on(list, api_keys)
        .on(make, create)
        .on(rotate, renew)
        .on(revoke, end)
}

fn shown(key: &KeyRecord) -> Value {
    json!({"id": key.id, "algorithm": key.algorithm, "created_at": key.created_at})
}

async fn signing_keys(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let found = api.administration.app(&within.app).await?;
    let keys: Value = found.record.keys.iter().map(shown).collect();
    let mut answer = json!({"revision": found.revision, "keys": keys});
    if let Some(url) = &found.record.jwks_url {
        answer["jwks_url"] = json!(url);
    }
    ok(answer)
}

async fn add_signing_key(
    State(api): State<Arc<Api>>,
    within: Within,
    asked: Asked,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let (wanted, note) = (wanted(&headers)?, note(&asked)?);
    let fields = object(request).await?;
    let algorithm = text(&fields, "algorithm")?.unwrap_or("HS256");
    let (secret, public) = (text(&fields, "secret")?, text(&fields, "public_key")?);
    let fresh = match (algorithm, secret, public) {
        ("HS256", None, None) => Some(fresh_secret()?),
        ("HS256", Some(_), None) => None,
        ("HS256", _, Some(_)) => return Err(wrong("public_key", "is for the other algorithms").into()),
        (_, Some(_), _) => return Err(wrong("secret", "is for HS256 alone").into()),
        (_, None, None) => return Err(wrong("public_key", "is missing").into()),
        (_, None, Some(_)) => None,
    };
    let material = secret.or(public).or(fresh.as_deref()).unwrap_or_default();
    let key = (text(&fields, "id")?, algorithm, material);
    let added = api.administration.add_signing_key(&within.actor, &within.app, wanted, key, note).await;
    let (found, id) = added.map_err(|refused| told(&api, refused))?;
    let key = found.record.keys.iter().find(|key| key.id == id).map(shown);
    let mut answer = json!({"app": super::apps::shown(&api, &found), "key": key});
    if let Some(secret) = fresh {
        answer["secret"] = json!(secret);
    }
    created(answer)
}

async fn remove_signing_key(
    State(api): State<Arc<Api>>,
    within: Within,
    asked: Asked,
    headers: HeaderMap,
) -> Answer {
    let (wanted, note) = (wanted(&headers)?, note(&asked)?);
    let id = within.segment("signing_key");
    let removed = api.administration.remove_signing_key(&within.actor, &within.app, wanted, id, note).await;
    ok(super::apps::shown(&api, &removed.map_err(|refused| told(&api, refused))?))
}

async fn api_keys(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let keys = api.administration.api_keys(&within.app).await?;
    ok(json!({"keys": keys.iter().map(|(id, record)| shown_api_key(id, record)).collect::<Value>()}))
}

async fn create(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let fields = object(request).await?;
    let name = crate::api::display_name_of(&fields, "name")?;
    needed_list(&fields)?;
    let parse = |name: &str| Scope::parse(name).ok_or(Code::BadField);
    let scopes = texts(&fields, "scopes", parse)?.unwrap_or_default();
    let expires_at = whole_number(&fields, "expires_at")?;
    let made =
        api.administration.create_api_key(&within.actor, &within.app, name, &scopes, expires_at).await?;
    created(json!({"api_key": shown_api_key(&made.id, &made.record), "secret": made.text}))
}

async fn renew(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let fields = object(request).await?;
    let grace = whole_number(&fields, "grace")?.unwrap_or(GRACE);
    let id = within.named("key", ApiKeyId::new)?;
    let made = api.administration.rotate_api_key(&within.actor, &within.app, &id, grace).await?;
    ok(json!({"api_key": shown_api_key(&made.id, &made.record), "secret": made.text}))
}

async fn end(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let id = within.named("key", ApiKeyId::new)?;
    let record = api.administration.revoke_api_key(&within.actor, &within.app, &id).await?;
    ok(json!({"api_key": shown_api_key(&id, &record)}))
}

fn needed_list(fields: &serde_json::Map<String, Value>) -> Result<(), xpush_core::Problem> {
    match fields.get("scopes") {
        Some(Value::Array(scopes)) if scopes.len() <= Scope::EACH.len() => Ok(()),
        Some(Value::Array(_)) => Err(wrong("scopes", "has each at most once")),
        Some(Value::String(_)) => needed(fields, "scopes").and(Err(wrong("scopes", "must be a list"))),
        _ => Err(wrong("scopes", "is missing")),
    }
}

/// A whole number from 0 to 2^53 − 1, if it is given.
fn whole_number(
    fields: &serde_json::Map<String, Value>,
    field: &str,
) -> Result<Option<u64>, xpush_core::Problem> {
    let bad = || wrong(field, "must be a whole number");
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(number) if number < 1 << 53 => Ok(Some(number)),
            Some(_) => Err(bad()),
            // A fraction of nothing makes it no other number.
            None => {
                let float =
                    number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..9.0e15).contains(float));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is whole, and within the bounds"
                )]
                float.map(|float| Some(float as u64)).ok_or_else(bad)
            }
        },
        Some(_) => Err(bad()),
    }
}
