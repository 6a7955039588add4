//! Apps, their rules and versions.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use xpush_core::ports::backend::Everywhere;
use xpush_core::ports::directory::{AppRecord, Key, Record, Stamp, UserRecord};
use xpush_core::{App, Channel, Code, Role, User};

use super::{Operator, Within, flag, needed, note, note_schema, object, text, texts, told, wanted};
use crate::administration::{Found, Question, Version, created_with, preview};
use crate::api::openapi::schema::{self, array, flag as boolean, number, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Asked, Refusal, ok, whole, wrong};
use crate::backend::{created, decided, together};

/// Versions of a page.
const PAGE: usize = 50;

pub(super) fn routes() -> Routes {
    let settings = || json!({"type": "object"});
    let of_app = |operation: Operation| operation.tag("administration").admin();
    let changing = |operation: Operation| {
        operation
            .if_match()
            .query("note", note_schema(), "Why, for the version and the log.")
            .refuses(&[Code::Conflict, Code::BadContentType])
    };
    let list = Operation::get("/admin/apps", "adminApps", "All apps")
        .tag("administration")
        .operator()
        .ok(schema::object(&[("apps", array(json!({"type": "object"})), true)]));
    let create = Operation::post("/admin/apps", "adminCreateApp", "Set up an app")
        .tag("administration")
        .operator()
        .query("note", note_schema(), "Why.")
        .body(schema::request(&[
            ("app", of("App"), true),
            ("settings", settings(), false),
            ("key", boolean(), false),
        ]))
        .answers_with(201, "Made.", Some(json!({"type": "object"})))
        .refuses(&[Code::Conflict, Code::BadContentType]);
    let show = of_app(Operation::get("/admin/apps/{app}", "adminApp", "An app")).ok(of("AdminApp"));
    let change =
        changing(of_app(Operation::patch("/admin/apps/{app}", "adminChangeApp", "Change an app's settings")))
            .optional_body(settings())
            .ok(of("AdminApp"));
    let delete = changing(of_app(Operation::delete("/admin/apps/{app}", "adminDeleteApp", "Remove an app")))
        .ok(schema::object(&[("app", of("App"), true), ("reverted_to_file", boolean(), true)]));
    let rules =
        changing(of_app(Operation::put("/admin/apps/{app}/rules", "adminRules", "Give an app other rules")))
            .body(schema::request(&[("rules", array(json!({"type": "object"})), true)]))
            .ok(of("AdminApp"));
    let origins = changing(of_app(Operation::put(
        "/admin/apps/{app}/origins",
        "adminOrigins",
        "Say which pages may connect",
    )))
    .body(schema::request(&[("origins", array(json!({"type": "string"})), true)]))
    .ok(of("AdminApp"));
    Routes::new()
        .on(list, all)
        .on(create, make)
        .on(show, one)
        .on(change, edit)
        .on(delete, remove)
        .on(rules, put_rules)
        .on(origins, put_origins)
        .merge(trying_routes())
        .merge(version_routes())
}

fn trying_routes() -> Routes {
    let settings = || json!({"type": "object"});
    let of_app = |operation: Operation| operation.tag("administration").admin();
    let check =
        of_app(Operation::post("/admin/apps/{app}/check", "adminCheck", "Whether settings could work"))
            .body(schema::request(&[("settings", settings(), true)]))
            .ok(schema::object(&[("ok", boolean(), true)]))
            .refuses(&[Code::BadContentType]);
    let test = of_app(Operation::post(
        "/admin/apps/{app}/rules/test",
        "adminTestRules",
        "What would hold for a channel",
    ))
    .body(schema::request(&[
        ("channel", of("Channel"), true),
        ("user", of("User"), false),
        ("roles", array(of("Role")), false),
        ("guest", boolean(), false),
        ("rules", array(json!({"type": "object"})), false),
    ]))
    .ok(schema::object(&[("channel", of("ChannelName"), true), ("draft", boolean(), true)]))
    .refuses(&[Code::BadChannel, Code::BadContentType]);
    Routes::new().on(check, would_do).on(test, test_rules)
}

fn version_routes() -> Routes {
    let of_app = |operation: Operation| operation.tag("administration").admin();
    let versions = of_app(Operation::get("/admin/apps/{app}/versions", "adminVersions", "How an app was"))
        .query("after", number(0), "Those before this revision.")
        .query("limit", schema::between(1, 100), "50 without it.")
        .ok(schema::object(&[
            ("versions", array(json!({"type": "object"})), true),
            ("after", number(0), false),
        ]));
    let version = of_app(Operation::get(
        "/admin/apps/{app}/versions/{revision}",
        "adminVersion",
        "One version of an app",
    ))
    .ok(schema::object(&[("revision", number(0), true), ("settings", json!({"type": "object"}), true)]));
    let restore = of_app(Operation::post(
        "/admin/apps/{app}/versions/{revision}/restore",
        "adminRestore",
        "Make an app what it was, but for its keys",
    ))
    .if_match()
    .query("note", note_schema(), "Why.")
    .ok(of("AdminApp"))
    .refuses(&[Code::Conflict]);
    Routes::new().on(versions, list_versions).on(version, one_version).on(restore, restore_version)
}

// === shapes ===

/// An app for whoever administers it.
pub(super) fn shown(api: &Api, found: &Found) -> Value {
    let mut settings = api.administration.written(&found.record);
    let key = |key: &xpush_core::ports::directory::KeyRecord| json!({"id": key.id, "algorithm": key.algorithm, "created_at": key.created_at});
    settings["keys"] = found.record.keys.iter().map(key).collect();
    for (name, empty) in [("limits", json!({})), ("hooks", json!([])), ("calls", json!([]))] {
        if settings.get(name).is_none() {
            settings[name] = empty;
        }
    }
    let mut app = headed(found);
    app["settings"] = settings;
    app
}

fn headed(found: &Found) -> Value {
    let from = if found.live { "live" } else { "file" };
    let mut head =
        json!({"app": found.app, "from": from, "in_file": found.in_file, "revision": found.revision});
    if let Some(changed) = found.record.changed.as_ref().filter(|_| found.live) {
        head["changed"] = stamp(changed);
    }
    head
}

fn stamp(changed: &Stamp) -> Value {
    let mut stamp = json!({"at": changed.at, "by": changed.by, "via": changed.via.as_str()});
    for (field, text) in [("name", &changed.name), ("note", &changed.note)] {
        if let Some(text) = text {
            stamp[field] = json!(text);
        }
    }
    stamp
}

fn summary(api: &Api, found: &Found, (users, connections): (u64, u64)) -> Value {
    let mut summary = headed(found);
    let settings = api.administration.written(&found.record);
    for (name, value) in [
        ("guests", json!(found.record.guests)),
        ("accounts", settings["accounts"].clone()),
        ("rules", json!(found.record.rules.iter().count())),
        ("keys", json!(found.record.keys.len())),
        ("hooks", json!(found.record.hooks.len())),
        ("users", json!(users)),
        ("connections", json!(connections)),
    ] {
        summary[name] = value;
    }
    summary
}

fn version_head(version: &Version) -> Value {
    let mut head =
        json!({"revision": version.revision, "current": version.current, "what": version.record.what});
    if let Some(changed) = &version.record.changed {
        head["changed"] = stamp(changed);
    }
    head
}

// === apps ===

async fn all(State(api): State<Arc<Api>>, _: Operator) -> Answer {
    let apps = api.administration.apps().await?;
    let names = apps.iter().map(|found| found.app.clone()).collect();
    let Everywhere { told: census, missing } = decided(|done| api.parts.backend.census(names, done)).await?;
    let shown = apps.iter().enumerate().map(|(place, found)| summary(&api, found, together(&census, place)));
    ok(json!({"apps": shown.collect::<Value>(), "missing": missing}))
}

async fn make(State(api): State<Arc<Api>>, operator: Operator, asked: Asked, request: Request) -> Answer {
    let fields = object(request).await?;
    let app = crate::api::named(needed(&fields, "app")?, "app", App::new)?;
    let language = api.administration.language();
    let usual = language.usual();
    let record = match fields.get("settings") {
        None | Some(Value::Null) => usual,
        Some(Value::Object(said)) => {
            if said.contains_key("keys") {
                return Err(wrong("settings", "keys are added one by one").into());
            }
            let mut settings = language.write(&usual);
            for (name, value) in said {
                match value {
                    Value::Null => settings.as_object_mut().and_then(|settings| settings.remove(name)),
                    value => settings
                        .as_object_mut()
                        .and_then(|settings| settings.insert(name.clone(), value.clone())),
                };
            }
            let read = language.read(&app, &AppRecord::default(), &settings);
            read.map_err(crate::administration::Refused::Complaints)?
        }
        Some(_) => return Err(wrong("settings", "must be an object").into()),
    };
    let secret = match flag(&fields, "key")?.unwrap_or(true) {
        true => Some(crate::administration::fresh_secret()?),
        false => None,
    };
    let record = created_with(record, secret.as_deref(), api.parts.clock.wall());
    let found = api.administration.create_app(&operator.actor, &app, record, note(&asked)?).await;
    let found = found.map_err(|refused| told(&api, refused))?;
    let mut answer = json!({"app": shown(&api, &found)});
    if let Some(secret) = secret {
        answer["key"] = json!({"id": "main", "algorithm": "HS256", "secret": secret});
    }
    created(answer)
}

async fn one(State(api): State<Arc<Api>>, within: Within) -> Answer {
    ok(shown(&api, &api.administration.app(&within.app).await?))
}

async fn edit(
    State(api): State<Arc<Api>>,
    within: Within,
    asked: Asked,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    change(&api, &within, &asked, &headers, "app.change", object(request).await?).await
}

async fn put_rules(
    State(api): State<Arc<Api>>,
    within: Within,
    asked: Asked,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    one_setting(&api, &within, &asked, &headers, ("rules", "rules.change"), request).await
}

async fn put_origins(
    State(api): State<Arc<Api>>,
    within: Within,
    asked: Asked,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    one_setting(&api, &within, &asked, &headers, ("origins", "origins.change"), request).await
}

async fn one_setting(
    api: &Api,
    within: &Within,
    asked: &Asked,
    headers: &HeaderMap,
    (name, what): (&str, &'static str),
    request: Request,
) -> Answer {
    let mut fields = object(request).await?;
    let value = fields.remove(name).filter(Value::is_array).ok_or_else(|| wrong(name, "must be a list"))?;
    let changes = Map::from_iter([(name.to_owned(), value)]);
    change(api, within, asked, headers, what, changes).await
}

async fn change(
    api: &Api,
    within: &Within,
    asked: &Asked,
    headers: &HeaderMap,
    what: &'static str,
    changes: Map<String, Value>,
) -> Answer {
    let (wanted, note) = (wanted(headers)?, note(asked)?);
    let edit = |found: &Found| api.administration.with_settings(found, &changes);
    let changed =
        api.administration.change_app(&within.actor, &within.app, wanted, (what, None, note), edit).await;
    ok(shown(api, &changed.map_err(|refused| told(api, refused))?))
}

async fn remove(State(api): State<Arc<Api>>, within: Within, asked: Asked, headers: HeaderMap) -> Answer {
    within.only_operators()?;
    let (wanted, note) = (wanted(&headers)?, note(&asked)?);
    let lasting = api.parts.eraser.lasting();
    let files = api.parts.files.as_ref().map(|filing| filing.stores());
    let removed =
        api.administration.delete_app(&within.actor, &within.app, wanted, note, &*lasting, files.as_ref());
    let removed = removed.await;
    let reverted = removed.map_err(|refused| told(&api, refused))?;
    ok(json!({"app": within.app, "reverted_to_file": reverted}))
}

async fn would_do(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let fields = object(request).await?;
    let Some(Value::Object(settings)) = fields.get("settings") else {
        return Err(wrong("settings", "must be an object").into());
    };
    let found = api.administration.app(&within.app).await?;
    api.administration.with_settings(&found, settings)?;
    ok(json!({"ok": true}))
}

async fn test_rules(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let fields = object(request).await?;
    let channel = crate::api::named(needed(&fields, "channel")?, "channel", Channel::new)?;
    let user = text(&fields, "user")?.map(|user| crate::api::named(user, "user", User::new)).transpose()?;
    let roles = texts(&fields, "roles", Role::new)?;
    let guest = flag(&fields, "guest")?.unwrap_or(false);
    let found = api.administration.app(&within.app).await?;
    let (rules, draft) = match fields.get("rules") {
        None | Some(Value::Null) => (found.record.rules.clone(), false),
        Some(rules) => {
            let changes = Map::from_iter([("rules".to_owned(), rules.clone())]);
            (api.administration.with_settings(&found, &changes)?.rules, true)
        }
    };
    let (mut own_roles, mut member, mut blocked) = (Vec::new(), None, false);
    if let Some(user) = &user {
        own_roles =
            user_record(&api, &within.app, user).await?.map(|record| record.roles).unwrap_or_default();
        let key = Key::Member(within.server.key(channel.clone()), user.clone());
        member = match api.store.get(&key).await?.map(|entry| entry.record) {
            Some(Record::Member(member)) => Some(member),
            _ => None,
        };
        if let Some((owner, _)) = channel.owner() {
            let key = Key::Block(within.app.clone(), owner, user.clone());
            blocked = api.store.get(&key).await?.is_some();
        }
    }
    // Who is a guest has no roles, and is a member of nothing.
    let roles = if guest { Vec::new() } else { roles.unwrap_or(own_roles) };
    let member = member.filter(|_| !guest);
    let user = match (user, guest) {
        (None, true) => Some((User::new("guest")?, true)),
        (user, guest) => user.map(|user| (user, guest)),
    };
    let app = &within.app;
    ok(preview(&Question { app, rules: &rules, draft, channel: &channel, user, roles, member, blocked }))
}

async fn user_record(api: &Api, app: &App, user: &User) -> Result<Option<UserRecord>, Refusal> {
    crate::accounts::find_user(api, app, user).await
}

// === versions ===

async fn list_versions(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let (after, limit) = (asked.number("after")?, asked.limit(PAGE, 100)?);
    let found = api.administration.app(&within.app).await?;
    let versions = api.administration.versions(&found, after, limit).await?;
    let mut answer = json!({"versions": versions.iter().map(version_head).collect::<Value>()});
    if let Some(last) = versions.last().filter(|_| versions.len() == limit) {
        answer["after"] = json!(last.revision);
    }
    ok(answer)
}

fn revision(within: &Within) -> Result<u64, Code> {
    whole(within.segment("revision")).ok_or(Code::NotFound)
}

async fn one_version(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let found = api.administration.app(&within.app).await?;
    let version = api.administration.version(&found, revision(&within)?).await?;
    let mut answer = version_head(&version);
    answer["settings"] = serde_json::from_str(&version.record.settings).unwrap_or_default();
    ok(answer)
}

async fn restore_version(
    State(api): State<Arc<Api>>,
    within: Within,
    asked: Asked,
    headers: HeaderMap,
) -> Answer {
    let (wanted, note) = (wanted(&headers)?, note(&asked)?);
    let revision = revision(&within)?;
    let restored = api.administration.restore(&within.actor, &within.app, wanted, revision, note).await;
    ok(shown(&api, &restored.map_err(|refused| told(&api, refused))?))
}
