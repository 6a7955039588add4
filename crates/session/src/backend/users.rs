//! Users: what is known of them, their devices, their conversations, whom they have blocked, and their connections' end.

use std::sync::Arc;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use xpush_core::ports::directory::{Key, Listing, Record, Scope, UserRecord};
use xpush_core::{Channel, Code, Device, Problem, Role, User};

use super::channels::{LARGEST_PAGE, PAGE};
use super::{AROUND, Server, created, decided, last, page, written};
use crate::accounts::find_user;
use crate::accounts::password::Password;
use crate::administration::{Act, Before, Wanted};
use crate::api::openapi::schema::{self, Field, about, array, flag, number, of, text};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Body, Members, Refusal, Segment, Segments, ok, wrong};
use crate::erasure::is_barred;
use crate::{devices, me};

/// Roles of one user.
const MOST_ROLES: usize = 32;

/// Bytes of what the app tells of a user.
const LARGEST_INFO: usize = 4_096;

/// Users of one page.
const MOST: usize = 1_000;

pub(super) fn routes() -> Routes {
    let list = Operation::get("/users", "listUsers", "The users that something is known of")
        .tag("users")
        .about("By id. Who only comes with tokens that the app signs is not among them.")
        .server(Scope::Users)
        .query("after", of("User"), "Those behind this one.")
        .query("limit", schema::between(1, MOST as u64), "50 without it.")
        .ok(list_of("users", of("UserRecord")));
    let create = Operation::post("/users", "createUser", "Make a user")
        .tag("users")
        .about("With a password it is an account that can be logged in with, where the app has accounts. A token names no more than an id: what it leaves out is taken from here.")
        .server(Scope::Users)
        .body(schema::request(&[("user", of("User"), true)].into_iter().chain(writable()).collect::<Vec<_>>()))
        .answers_with(201, "Made.", Some(of("UserRecord")))
        .refuses(&[Code::Conflict, Code::BadContentType]);
    let show = Operation::get("/users/{user}", "showUser", "What is known of a user")
        .tag("users")
        .server(Scope::Users)
        .ok(of("UserRecord"));
    let change = Operation::patch("/users/{user}", "changeUser", "Change what is known of a user")
        .tag("users")
        .about("What is not given stays; `null` takes a name, an info or a password away. Whoever is `disabled` is disconnected and let in no more. A changed password ends the user's logins.")
        .server(Scope::Users)
        .optional_body(schema::request(&writable().into_iter().chain([("disabled", flag(), false)]).collect::<Vec<_>>()))
        .ok(of("UserRecord"))
        .refuses(&[Code::BadContentType, Code::Conflict]);
    let delete = Operation::delete("/users/{user}", "deleteUser", "Remove a user")
        .tag("users")
        .about(
            "With everything that is kept of it, messages included. The answer comes when nobody gets in with it any more and nothing can stop the rest, which goes in the background.",
        )
        .server(Scope::Users)
        .ok(schema::object(&[]));
    Routes::new()
        .on(list, users)
        .on(create, make)
        .on(show, one)
        .on(change, edit)
        .on(delete, remove)
        .merge(presence_routes())
        .merge(belongings())
}

/// Whether it is there, and that it is no more.
fn presence_routes() -> Routes {
    let seen = schema::object(&[
        ("user", of("User"), true),
        ("state", of("State"), true),
        ("last_seen", schema::moment(), false),
        ("devices", array(of("DeviceState")), false),
    ]);
    let status = Operation::get(
        "/users/{user}/status",
        "status",
        "Whether a user is there, on whatever server",
    )
    .tag("users")
    .about(
        "Nobody is told apart from one who has never been there: both are `offline`. Guests are not counted.",
    )
    .server(Scope::Read)
    .ok(schema::object(&[("users", array(seen), true)]));
    let disconnect = Operation::post("/users/{user}/disconnect", "disconnect", "End a user's connections")
        .tag("users")
        .about("On every server, within 2 seconds; with `device`, that device's. Tokens issued before are void, so that whoever comes back needs a new one; logins end.")
        .server(Scope::Users)
        .optional_body(schema::request(&[("device", of("Device"), false)]))
        .ok(schema::object(&[]))
        .refuses(&[Code::BadContentType]);
    let conversations = Operation::get(
        "/users/{user}/channels",
        "conversations",
        "A user's channels, and what is unread in them",
    )
    .tag("users")
    .about("The durable channels in which it is a member or has a marker, the ones active last first.")
    .server(Scope::Read)
    .query("after", text(1, 512), "What the page before gave as `after`.")
    .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
    .ok(list_of(
        "channels",
        schema::object(&[
            ("channel", of("ChannelName"), true),
            ("epoch", text(1, 32), true),
            ("seq", number(0), true),
            ("read", number(0), true),
            ("delivered", number(0), true),
            ("unread", number(0), true),
            ("last", of("Message"), false),
            ("active_at", schema::moment(), true),
        ]),
    ));
    let follow = Operation::put("/users/{user}/subscriptions/{channel}", "subscribeUser", "Let a user's connections follow a channel")
        .tag("users")
        .about("Those that it has now, on every server, but for event streams; each as if it had asked for it, within what the user may. Each is told by the push `subscribed`. Whoever connects later subscribes by itself.")
        .server(Scope::Users)
        .ok(schema::object(&[]))
        .refuses(&[Code::BadChannel]);
    let unfollow = Operation::delete("/users/{user}/subscriptions/{channel}", "unsubscribeUser", "Let a user's connections follow a channel no more")
        .tag("users")
        .about("Those that it has now, on every server. Each is told by the push `unsubscribed`; nothing keeps it from subscribing again.")
        .server(Scope::Users)
        .ok(schema::object(&[]))
        .refuses(&[Code::BadChannel]);
    Routes::new()
        .on(follow, async |State(api), server, path| enlist(&api, &server, &path, true))
        .on(unfollow, async |State(api), server, path| enlist(&api, &server, &path, false))
        .on(status, seen_as)
        .on(disconnect, end_connections)
        .on(conversations, channels_of)
}

/// What belongs to it.
fn belongings() -> Routes {
    let devices = Operation::get("/users/{user}/devices", "listDevices", "A user's devices")
        .tag("users")
        .server(Scope::Users)
        .ok(schema::object(&[("devices", array(of("UserDevice")), true)]));
    let revoke = Operation::delete("/users/{user}/devices/{device}", "revokeDevice", "Log a device out")
        .tag("users")
        .about("Tokens for it that were issued before are void, its logins end, its push token is forgotten, its connections are closed.")
        .server(Scope::Users)
        .ok(schema::object(&[]));
    let blocks = Operation::get("/users/{user}/blocks", "listBlocks", "Whom a user has blocked")
        .tag("users")
        .server(Scope::Users)
        .query("after", of("User"), "Those behind this one.")
        .query("limit", schema::between(1, MOST as u64), "50 without it.")
        .ok(list_of(
            "blocks",
            schema::object(&[("user", of("User"), true), ("since", schema::moment(), true)]),
        ));
    let block =
        Operation::put("/users/{user}/blocks/{other}", "block", "Let a user hear no more from another")
            .tag("users")
            .about("In the personal channels. At most 1,000.")
            .server(Scope::Users)
            .ok(schema::object(&[]))
            .refuses(&[Code::Full]);
    let unblock =
        Operation::delete("/users/{user}/blocks/{other}", "unblock", "Let a user hear from another again")
            .tag("users")
            .server(Scope::Users)
            .ok(schema::object(&[]));
    Routes::new()
        .on(devices, devices_of)
        .on(revoke, revoke_device)
        .on(blocks, blocks_of)
        .on(block, block_other)
        .on(unblock, unblock_other)
}

fn writable() -> Vec<Field> {
    vec![
        ("name", of("Name"), false),
        ("roles", json!({"type": "array", "items": of("Role"), "maxItems": MOST_ROLES}), false),
        (
            "info",
            about(
                json!({"type": "object"}),
                "What the app tells of it, to whoever asks for presence: 4 KB at most.",
            ),
            false,
        ),
        ("password", text(8, 256), false),
    ]
}

async fn users(State(api): State<Arc<Api>>, server: Server, asked: Asked) -> Answer {
    let limit = asked.limit(PAGE, MOST)?;
    let after = asked.one("after")?.map(|user| crate::api::named(user, "after", User::new)).transpose()?;
    let after = after.map(|user| server.user_key(&user));
    let entries = api.store.page(&Listing::Users(server.app().clone()), after, limit).await?;
    let users = entries.iter().filter_map(|entry| match (&entry.key, &entry.record) {
        (Key::User(_, user), Record::User(record)) => (!is_barred(record)).then(|| shown(user, record)),
        _ => None,
    });
    page("users", users.collect(), last(&entries, limit))
}

async fn make(State(api): State<Arc<Api>>, server: Server, request: Request) -> Answer {
    let body = Body::read(request, AROUND).await?;
    let members = body.members()?;
    let user = members.user("user")?.ok_or_else(|| wrong("user", "is missing"))?;
    let wanted = wanted(&api, &members).await?;
    // Tokens that the back end has signed before stay good: whoever it makes an entry of is the one that it knows.
    let record =
        api.administration.create_user(&server.actor, server.app(), &user, &wanted, Before::SameUser).await?;
    created(shown(&user, &record))
}

async fn one(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let user = path.named("user", User::new)?;
    ok(shown(&user, &known(&api, &server, &user).await?))
}

async fn edit(State(api): State<Arc<Api>>, server: Server, path: Segment, request: Request) -> Answer {
    let user = path.named("user", User::new)?;
    let body = Body::read(request, AROUND).await?;
    let members = body.members()?;
    let banned = members.flag("disabled")?;
    // What is wrong with the password costs nothing before it is known whose it is.
    known(&api, &server, &user).await?;
    let wanted = Wanted { banned, ..wanted(&api, &members).await? };
    let record = api.administration.change_user(&server.actor, server.app(), &user, &wanted, false).await?;
    ok(shown(&user, &record))
}

async fn remove(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let user = path.named("user", User::new)?;
    known(&api, &server, &user).await?;
    api.administration.erase_user(&server.actor, server.app(), &user, &api.parts.eraser).await?;
    ok(json!({}))
}

async fn seen_as(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let user = path.named("user", User::new)?;
    written(decided(|done| api.parts.backend.status(server.app(), vec![user], done)).await?)
}

async fn end_connections(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segment,
    request: Request,
) -> Answer {
    let user = path.named("user", User::new)?;
    let body = Body::read(request, AROUND).await?;
    match body.members()?.device("device")? {
        Some(device) => log_out(&api, &server, &user, &device).await?,
        None => api.administration.revoke(&server.actor, server.app(), &user, None).await?,
    }
    ok(json!({}))
}

/// Makes void what a device was granted, whether it was ever noted or not.
async fn log_out(api: &Api, server: &Server, user: &User, device: &Device) -> Result<(), Refusal> {
    let act = entry("device.revoke", server, user, Some(device.to_string()));
    let work = async { Ok::<_, Refusal>(devices::log_out(api, server.app(), user, device).await?) };
    api.administration.audited(&server.actor, act, work).await
}

/// What is done with a user.
fn entry<'a>(what: &'static str, server: &'a Server, user: &User, target: Option<String>) -> Act<'a> {
    Act { what, app: Some(server.app()), target, user: Some(user.clone()), ..Act::default() }
}

fn enlist(api: &Arc<Api>, server: &Server, path: &Segments, follows: bool) -> Answer {
    let user = crate::api::named(&path.0, "user", User::new)?;
    let channel = server.key(crate::api::named(&path.1, "channel", Channel::new)?);
    api.parts.backend.enlist(&channel, &user, follows)?;
    ok(json!({}))
}

pub(crate) async fn channels_of(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segment,
    asked: Asked,
) -> Answer {
    let user = path.named("user", User::new)?;
    let (after, limit) = (asked.one("after")?, asked.limit(PAGE, LARGEST_PAGE)?);
    let found = decided(|done| api.parts.backend.conversations(server.app(), &user, after, limit, done));
    written(found.await?)
}

async fn devices_of(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let user = path.named("user", User::new)?;
    ok(json!({"devices": devices::of(&api, server.app(), &user).await?}))
}

async fn revoke_device(State(api): State<Arc<Api>>, server: Server, path: Segments) -> Answer {
    let user = crate::api::named(&path.0, "user", User::new)?;
    let device = crate::api::named(&path.1, "device", Device::new)?;
    let key = Key::Device(server.app().clone(), user.clone(), device.clone());
    if api.store.get(&key).await?.is_none() {
        return Err(Code::NotFound.into());
    }
    log_out(&api, &server, &user, &device).await?;
    ok(json!({}))
}

async fn blocks_of(State(api): State<Arc<Api>>, server: Server, path: Segment, asked: Asked) -> Answer {
    let user = path.named("user", User::new)?;
    let limit = asked.limit(PAGE, MOST)?;
    let after = asked.one("after")?.map(|user| crate::api::named(user, "after", User::new)).transpose()?;
    let after = after.map(|other| Key::Block(server.app().clone(), user.clone(), other));
    let entries = api.store.page(&Listing::Blocks(server.app().clone(), user), after, limit).await?;
    let blocks = entries.iter().filter_map(|entry| match (&entry.key, &entry.record) {
        (Key::Block(_, _, other), Record::Block(since)) => Some(json!({"user": other, "since": since})),
        _ => None,
    });
    page("blocks", blocks.collect(), last(&entries, limit))
}

async fn block_other(State(api): State<Arc<Api>>, server: Server, path: Segments) -> Answer {
    let (user, other) = pair(&path)?;
    let act = entry("user.block", &server, &user, Some(other.to_string()));
    let work = me::put_block(&api, server.app(), &user, other);
    api.administration.audited(&server.actor, act, work).await?;
    ok(json!({}))
}

async fn unblock_other(State(api): State<Arc<Api>>, server: Server, path: Segments) -> Answer {
    let (user, other) = pair(&path)?;
    let act = entry("user.unblock", &server, &user, Some(other.to_string()));
    let key = Key::Block(server.app().clone(), user, other);
    let work = async { Ok::<_, Refusal>(api.store.remove(key).await?) };
    api.administration.audited(&server.actor, act, work).await?;
    ok(json!({}))
}

fn pair(path: &Segments) -> Result<(User, User), Problem> {
    Ok((crate::api::named(&path.0, "user", User::new)?, crate::api::named(&path.1, "other", User::new)?))
}

/// A user of whom something is known. Who is being erased is nobody any more.
async fn known(api: &Api, server: &Server, user: &User) -> Result<UserRecord, Refusal> {
    let record = find_user(api, server.app(), user).await?;
    Ok(record.filter(|record| !is_barred(record)).ok_or(Code::NotFound)?)
}

/// What a request says of a user.
async fn wanted(api: &Api, members: &Members<'_>) -> Result<Wanted, Refusal> {
    let info = members.get("info").map(checked_info).transpose()?;
    let name = members.name("name")?;
    let roles = members.texts("roles", MOST_ROLES, Role::new)?;
    let password = match members.text("password")? {
        Some(password) => Some(api.hashing.digest(Password::new(&password, "password")?).await?),
        None => None,
    };
    let given = |field: &str, value| members.has(field).then_some(value);
    Ok(Wanted {
        name: given("name", name),
        roles,
        info: given("info", info),
        password: given("password", password),
        banned: None,
    })
}

/// A JSON object, written without white space.
fn checked_info(text: &str) -> Result<Box<str>, Problem> {
    let info: Value = serde_json::from_str(text).map_err(|_| Problem::from(Code::BadJson))?;
    let written = info.to_string();
    if !info.is_object() || written.len() > LARGEST_INFO {
        return Err(wrong("info", "must be an object of 4 KB at most"));
    }
    Ok(written.into())
}

fn shown(user: &User, record: &UserRecord) -> Value {
    let info = record.info.as_deref().and_then(|info| serde_json::from_str::<Value>(info).ok());
    json!({
        "user": user,
        "name": record.name,
        "roles": record.roles,
        "info": info,
        "disabled": record.disabled,
        "password": record.password.is_some(),
        "tokens_valid_from": record.tokens_valid_from,
        "created_at": Some(record.created_at).filter(|at| *at > 0),
    })
}
