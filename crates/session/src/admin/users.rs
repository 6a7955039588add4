//! Users and their devices.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Map, Value, json};
use xpush_core::ports::directory::{Entry, Key, Listing, Record, UserRecord};
use xpush_core::{Code, Device, Role, User};

use super::{Within, flag, needed, object, short, text, texts};
use crate::accounts::find_user;
use crate::accounts::password::Password;
use crate::administration::{Before, Wanted};
use crate::api::openapi::schema::{self, Field, array, of};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Refusal, Segment, display_name_of, named, ok, wrong};
use crate::backend::{self, created, decided};
use crate::devices;
use crate::erasure::is_barred;

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 1_000;

/// Users that one search may look at.
const LOOKED_AT: usize = 10_000;

/// Characters that are searched for.
const LONGEST_SEARCH: usize = 128;

/// Roles of one user.
const MOST_ROLES: usize = 32;

/// Bytes of what the app tells of a user.
const LARGEST_INFO: usize = 4_096;

pub(super) fn routes() -> Routes {
    let of_app = |operation: Operation| operation.tag("administration").admin();
    let writable = || -> Vec<Field> {
        vec![
            ("name", of("Name"), false),
            ("roles", json!({"type": "array", "items": of("Role"), "maxItems": MOST_ROLES}), false),
            ("info", json!({"type": "object"}), false),
            ("password", schema::text(8, 256), false),
        ]
    };
    let user = || json!({"type": "object", "required": ["user", "roles", "account", "banned"]});
    let list = of_app(Operation::get("/admin/apps/{app}/users", "adminUsers", "An app's users"))
        .query(
            "search",
            schema::text(0, LONGEST_SEARCH),
            "Those whose id or name has it, without regard to case.",
        )
        .query("after", of("User"), "Those behind this one.")
        .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
        .ok(list_of("users", user()));
    let with_user = |more: Vec<Field>| schema::request(&[vec![("user", of("User"), true)], more].concat());
    let create = of_app(Operation::post("/admin/apps/{app}/users", "adminCreateUser", "Make a user"))
        .body(with_user(writable()))
        .answers_with(201, "Made.", Some(user()))
        .refuses(&[Code::Conflict, Code::BadContentType]);
    let show =
        of_app(Operation::get("/admin/apps/{app}/users/{user}", "adminUser", "A user, and its devices"))
            .ok(user());
    let change = of_app(Operation::patch(
        "/admin/apps/{app}/users/{user}",
        "adminChangeUser",
        "Change a user, let it in no more, or again",
    ))
    .optional_body(schema::request(&[writable(), vec![("banned", schema::flag(), false)]].concat()))
    .ok(user())
    .refuses(&[Code::Conflict, Code::BadContentType]);
    let revoke = of_app(Operation::post(
        "/admin/apps/{app}/users/{user}/revoke",
        "adminRevoke",
        "Make void what a user was given until now",
    ))
    .optional_body(schema::request(&[("device", of("Device"), false)]))
    .ok(schema::object(&[]))
    .refuses(&[Code::BadContentType]);
    let delete =
        of_app(Operation::delete("/admin/apps/{app}/users/{user}", "adminDeleteUser", "Erase a user"))
            .answers_with(202, "It has begun.", Some(schema::object(&[("erasing", schema::flag(), true)])))
            .refuses(&[Code::Conflict]);
    let erasures =
        of_app(Operation::get("/admin/apps/{app}/erasures", "adminErasures", "Who is being erased"))
            .ok(schema::object(&[("erasures", array(json!({"type": "object"})), true)]));
    let conversations = of_app(Operation::get(
        "/admin/apps/{app}/users/{user}/channels",
        "adminConversations",
        "A user's channels, and what is unread in them",
    ))
    .query("after", schema::text(1, 512), "What the page before gave as `after`.")
    .query("limit", schema::between(1, 100), "50 without it.")
    .ok(list_of("channels", json!({"type": "object"})));
    Routes::new()
        .on(list, users)
        .on(create, make)
        .on(show, one)
        .on(change, edit)
        .on(revoke, revoke_all)
        .on(delete, erase)
        .on(erasures, erased)
        .on(conversations, channels_of)
}

fn shown(user: &User, record: &UserRecord) -> Value {
    let info = record.info.as_deref().and_then(|info| serde_json::from_str::<Value>(info).ok());
    let mut shown = json!({
        "user": user, "roles": record.roles, "account": record.password.is_some(), "banned": record.disabled,
        "created_at": record.created_at, "tokens_valid_from": record.tokens_valid_from,
    });
    for (name, value) in [("name", record.name.as_ref().map(|name| json!(name))), ("info", info)] {
        if let Some(value) = value {
            shown[name] = value;
        }
    }
    shown
}

async fn users(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let limit = asked.limit(PAGE, LARGEST_PAGE)?;
    let search = short(&asked, "search", LONGEST_SEARCH)?.unwrap_or_default().to_lowercase();
    let mut after = asked.one("after")?.map(|user| named(user, "after", User::new)).transpose()?;
    let mut found = Vec::new();
    let listing = Listing::Users(within.app.clone());
    let mut looked_at = 0;
    let more = loop {
        let behind = after.clone().map(|user| Key::User(within.app.clone(), user));
        let entries = api.store.page(&listing, behind, LARGEST_PAGE).await?;
        let last = entries.len() < LARGEST_PAGE;
        looked_at += entries.len();
        let mut full = false;
        for Entry { key, record, .. } in entries {
            let (Key::User(_, user), Record::User(record)) = (key, record) else { continue };
            after = Some(user.clone());
            let name = record.name.as_deref().unwrap_or_default().to_lowercase();
            let fits = user.as_str().to_lowercase().contains(&search) || name.contains(&search);
            if fits && !is_barred(&record) {
                found.push(shown(&user, &record));
            }
            if found.len() >= limit {
                full = true;
                break;
            }
        }
        if full || (!last && looked_at >= LOOKED_AT) {
            break true;
        }
        if last {
            break false;
        }
    };
    let mut answer = json!({"users": found});
    if let (true, Some(after)) = (more, after) {
        answer["after"] = json!(after);
    }
    ok(answer)
}

async fn said(api: &Api, fields: &Map<String, Value>) -> Result<Wanted, Refusal> {
    let name = display_name_of(fields, "name")?;
    let roles = texts(fields, "roles", Role::new)?;
    if roles.as_ref().is_some_and(|roles| roles.len() > MOST_ROLES) {
        return Err(wrong("roles", "has at most 32 elements").into());
    }
    let info = match fields.get("info") {
        None | Some(Value::Null) => None,
        Some(info) => {
            let written = info.to_string();
            if !info.is_object() || written.len() > LARGEST_INFO {
                return Err(wrong("info", "must be an object of 4 KB at most").into());
            }
            Some(written.into())
        }
    };
    let banned = flag(fields, "banned")?;
    let password = match text(fields, "password")? {
        Some(password) => Some(api.hashing.digest(Password::new(password, "password")?).await?),
        None => None,
    };
    let has = |field: &str| fields.contains_key(field);
    Ok(Wanted {
        name: has("name").then_some(name),
        roles,
        info: has("info").then_some(info),
        password: has("password").then_some(password),
        banned,
    })
}

async fn make(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let fields = object(request).await?;
    let user = named(needed(&fields, "user")?, "user", User::new)?;
    let wanted = Wanted { banned: None, ..said(&api, &fields).await? };
    let record =
        api.administration.create_user(&within.actor, &within.app, &user, &wanted, Before::Another).await?;
    created(shown(&user, &record))
}

async fn one(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let user = within.named("user", User::new)?;
    let record = find_user(&api, &within.app, &user).await?.filter(|record| !is_barred(record));
    let mut answer = shown(&user, &record.ok_or(Code::NotFound)?);
    let status = decided(|done| api.parts.backend.status(&within.app, vec![user.clone()], done)).await;
    // Whether somebody is there may be unknown; everything else is not.
    let status = status.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(status) = status.and_then(|mut status| status["users"].get_mut(0).map(Value::take)) {
        answer["status"] = json!({"state": status["state"]});
        if let Some(at) = status.get("last_seen") {
            answer["status"]["seen_at"] = at.clone();
        }
    }
    let mut devices = devices::of(&api, &within.app, &user).await?;
    for device in &mut devices {
        device["device"] = device["id"].take();
        device.as_object_mut().map(|device| device.remove("id"));
    }
    answer["devices"] = devices.into();
    let logins = api.store.all(&Listing::Logins(within.app.clone(), user)).await?;
    answer["logins"] = logins.len().into();
    ok(answer)
}

async fn edit(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let user = within.named("user", User::new)?;
    let wanted = said(&api, &object(request).await?).await?;
    // Who comes with tokens of the app's own has no entry before something is said of it.
    let or_make = wanted.banned == Some(true);
    let record = api.administration.change_user(&within.actor, &within.app, &user, &wanted, or_make).await?;
    ok(shown(&user, &record))
}

async fn revoke_all(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let user = within.named("user", User::new)?;
    let fields = object(request).await?;
    let device = text(&fields, "device")?.map(|device| named(device, "device", Device::new)).transpose()?;
    api.administration.revoke(&within.actor, &within.app, &user, device.as_ref()).await?;
    ok(json!({}))
}

async fn erase(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let user = within.named("user", User::new)?;
    let known = find_user(&api, &within.app, &user).await?.filter(|record| !is_barred(record));
    known.ok_or(Code::NotFound)?;
    api.administration.erase_user(&within.actor, &within.app, &user, &api.parts.eraser).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({"erasing": true}))).into_response())
}

async fn erased(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let pending = api.parts.eraser.pending().await?;
    let own = pending.iter().filter(|pending| pending.app == within.app);
    let shown = own.map(|pending| json!({"user": pending.user, "since": pending.since}));
    ok(json!({"erasures": shown.collect::<Value>()}))
}

async fn channels_of(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let user = Segment(within.segment("user").to_owned());
    backend::users::channels_of(State(api), within.server, user, asked).await
}
