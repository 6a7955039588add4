//! Channels: what was said there, who is there, and who belongs there.

use std::sync::Arc;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use xpush_core::ports::access::{Access, Enrolment};
use xpush_core::ports::backend::Everywhere;
use xpush_core::ports::directory::{Key, Listing, Record, Scope};
use xpush_core::ports::message_log::Range;
use xpush_core::{Channel, ChannelKey, Code, History, Problem, Role, User};

use super::{AROUND, Server, decided, last, missing, page, written};
use crate::administration::members_entry;
use crate::api::openapi::schema::{self, about, array, flag, number, of, text};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Body, Members, Refusal, Segment, Segments, named, ok, wrong};

/// Entries of a page, when nobody says how many.
pub(super) const PAGE: usize = 50;

/// Entries of a page.
pub(super) const LARGEST_PAGE: usize = 100;

/// Members of a page, and users that one request may name.
const MOST_USERS: usize = 1_000;

pub(super) fn routes() -> Routes {
    let live = schema::object(&[("channel", of("ChannelName"), true), ("subscribers", number(0), true)]);
    let live = Operation::get("/channels", "listChannels", "The channels that are followed now")
        .tag("channels")
        .about("By name, with how many connections follow each, over all servers. Those that did not answer within a second are `missing`, and nothing of them is counted.")
        .server(Scope::Read)
        .query("prefix", json!({"type": "string"}), "Those whose name begins so.")
        .query("after", of("Channel"), "Those behind this one.")
        .query("limit", schema::between(1, MOST_USERS as u64), "50 without it.")
        .ok(schema::object(&[
            ("channels", array(live), true),
            ("after", of("ChannelName"), false),
            ("missing", missing(), true),
        ]));
    let show = Operation::get("/channels/{channel}", "showChannel", "What a channel is")
        .tag("channels")
        .about("By the app's rules; whether anybody has said anything there tells its history.")
        .server(Scope::Read)
        .ok(schema::object(&[
            ("channel", of("ChannelName"), true),
            ("history", json!({"type": "string", "enum": ["none", "recent", "durable"]}), true),
            ("presence", flag(), true),
            ("members", about(flag(), "Whether it has members."), true),
        ]))
        .refuses(&[Code::BadChannel]);
    let messages = Operation::get("/channels/{channel}/messages", "history", "What was said in a channel")
        .tag("channels")
        .about("Ascending. Edits and deletions are in their own places, told by `target`; a message shows its newest data. `head` is the newest place, `first` the oldest that is kept.")
        .server(Scope::Read)
        .query("before", number(0), "Places before this one, the newest of them.")
        .query("after", number(0), "Places behind this one, the oldest of them.")
        .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
        .ok(schema::object(&[
            ("channel", of("ChannelName"), true),
            ("epoch", text(1, 32), true),
            ("first", number(0), true),
            ("head", number(0), true),
            ("messages", array(of("Message")), true),
        ]))
        .refuses(&[Code::BadChannel, Code::NoHistory]);
    let presence = Operation::get("/channels/{channel}/presence", "presence", "Who is in a channel")
        .tag("channels")
        .about("Over all servers: how many users, and at most 100 of them by name.")
        .server(Scope::Read)
        .ok(schema::object(&[
            ("channel", of("ChannelName"), true),
            ("count", number(0), true),
            ("users", array(present()), true),
            ("more", flag(), false),
        ]))
        .refuses(&[Code::BadChannel, Code::NoPresence]);
    Routes::new()
        .on(live, list)
        .on(show, describe)
        .on(messages, history)
        .on(presence, who_is_there)
        .merge(member_routes())
}

/// One who is there; in which state, where the app tells of its users' states.
fn present() -> serde_json::Value {
    schema::object(&[
        ("user", of("User"), true),
        ("name", json!({"type": "string"}), false),
        ("state", of("State"), false),
        ("devices", array(of("DeviceState")), false),
    ])
}

fn member_routes() -> Routes {
    let member = schema::object(&[
        ("user", of("User"), true),
        ("role", schema::nullable(of("Role")), true),
        ("muted", flag(), true),
        ("since", schema::moment(), true),
    ]);
    let users = json!({"type": "array", "items": of("User"), "maxItems": MOST_USERS});
    let list = Operation::get("/channels/{channel}/members", "listMembers", "Who belongs to a channel")
        .tag("members")
        .server(Scope::Users)
        .query("after", of("User"), "Those behind this one.")
        .query("limit", schema::between(1, MOST_USERS as u64), "50 without it.")
        .ok(list_of("members", member))
        .refuses(&[Code::BadChannel]);
    let change = Operation::post("/channels/{channel}/members", "changeMembers", "Add and remove members")
        .tag("members")
        .about("1,000 users at most in one request, which may be repeated when it failed half-way. Who is removed is unsubscribed.")
        .server(Scope::Users)
        .body(schema::request(&[
            ("add", users.clone(), false),
            ("remove", users, false),
            ("role", about(of("Role"), "Of those who are added; `member` takes one away."), false),
        ]))
        .ok(schema::object(&[("channel", of("ChannelName"), true)]))
        .refuses(&[Code::BadChannel, Code::BadContentType, Code::Conflict, Code::Full]);
    let put = Operation::put("/channels/{channel}/members/{user}", "putMember", "Make a user a member")
        .tag("members")
        .server(Scope::Users)
        .optional_body(schema::request(&[("role", of("Role"), false)]))
        .ok(schema::object(&[("channel", of("ChannelName"), true)]))
        .refuses(&[Code::BadChannel, Code::BadContentType, Code::Conflict, Code::Full]);
    let remove = Operation::delete(
        "/channels/{channel}/members/{user}",
        "removeMember",
        "Let a user be a member no more",
    )
    .tag("members")
    .server(Scope::Users)
    .ok(schema::object(&[("channel", of("ChannelName"), true)]))
    .refuses(&[Code::BadChannel, Code::Conflict]);
    Routes::new().on(list, members).on(change, change_members).on(put, put_member).on(remove, remove_member)
}

async fn list(State(api): State<Arc<Api>>, server: Server, asked: Asked) -> Answer {
    let limit = asked.limit(PAGE, MOST_USERS)?;
    let prefix = asked.one("prefix")?.unwrap_or_default();
    let after = asked.one("after")?.map(|after| named(after, "after", Channel::new)).transpose()?;
    let after = after.as_ref().map(Channel::as_str);
    let live = decided(|done| api.parts.backend.live(server.app(), prefix, after, limit, done)).await?;
    let Everywhere { told: live, missing } = live;
    let channels = live.iter().map(|live| json!({"channel": live.channel, "subscribers": live.subscribers}));
    let mut answer = json!({"channels": channels.collect::<Value>(), "missing": missing});
    if let Some(last) = live.last().filter(|_| live.len() == limit) {
        answer["after"] = json!(last.channel);
    }
    ok(answer)
}

async fn describe(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let key = server.channel(&path)?;
    let rule = rule(&api, &key)?;
    let history = match rule.history {
        History::None => "none",
        History::Recent(_) => "recent",
        History::Durable(_) => "durable",
    };
    let members = rule.has_members() && key.name.owner().is_none() && !key.name.is_system();
    ok(json!({"channel": key.name, "history": history, "presence": rule.presence, "members": members}))
}

pub(crate) async fn history(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segment,
    asked: Asked,
) -> Answer {
    let key = server.channel(&path)?;
    let range = match (asked.number("before")?, asked.number("after")?) {
        (Some(_), Some(_)) => return Err(wrong("before", "not together with after").into()),
        (Some(before), None) => Range::Before(before),
        (None, Some(after)) => Range::After(after),
        (None, None) => Range::Newest,
    };
    let limit = asked.limit(PAGE, LARGEST_PAGE)?;
    written(decided(|done| api.parts.backend.history(&key, range, limit, done)).await?)
}

pub(crate) async fn who_is_there(State(api): State<Arc<Api>>, server: Server, path: Segment) -> Answer {
    let key = server.channel(&path)?;
    written(decided(|done| api.parts.backend.presence(&key, done)).await?)
}

pub(crate) async fn members(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segment,
    asked: Asked,
) -> Answer {
    let key = server.channel(&path)?;
    rule(&api, &key)?;
    let limit = asked.limit(PAGE, MOST_USERS)?;
    let after = asked.one("after")?.map(|user| named(user, "after", User::new)).transpose()?;
    let after = after.map(|user| Key::Member(key.clone(), user));
    let entries = api.store.page(&Listing::Members(key), after, limit).await?;
    let members = entries.iter().filter_map(|entry| match (&entry.key, &entry.record) {
        (Key::Member(_, user), Record::Member(member)) => {
            Some(json!({"user": user, "role": member.role, "muted": member.muted, "since": member.since}))
        }
        _ => None,
    });
    page("members", members.collect(), last(&entries, limit))
}

async fn change_members(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segment,
    request: Request,
) -> Answer {
    let key = server.channel(&path)?;
    // A user's id has 128 bytes at most, and each may be escaped.
    let body = Body::read(request, AROUND + MOST_USERS * 800).await?;
    let change = enrolment(&body.members()?)?;
    enrol(&api, &server, key, change).await
}

/// `add`, `remove` and `role`.
pub(crate) fn enrolment(members: &Members<'_>) -> Result<Enrolment, Problem> {
    let users = |field| members.texts(field, MOST_USERS, User::new).map(Option::unwrap_or_default);
    Ok(Enrolment { add: users("add")?, remove: users("remove")?, role: members.role("role")? })
}

async fn put_member(State(api): State<Arc<Api>>, server: Server, path: Segments, request: Request) -> Answer {
    let (key, user) =
        (server.key(named(&path.0, "channel", Channel::new)?), named(&path.1, "user", User::new)?);
    let body = Body::read(request, AROUND).await?;
    let role: Option<Role> = body.members()?.role("role")?;
    enrol(&api, &server, key, Enrolment { add: vec![user], remove: Vec::new(), role }).await
}

async fn remove_member(State(api): State<Arc<Api>>, server: Server, path: Segments) -> Answer {
    let (key, user) =
        (server.key(named(&path.0, "channel", Channel::new)?), named(&path.1, "user", User::new)?);
    enrol(&api, &server, key, Enrolment { add: Vec::new(), remove: vec![user], role: None }).await
}

pub(crate) async fn enrol(api: &Api, server: &Server, key: ChannelKey, change: Enrolment) -> Answer {
    rule(api, &key)?;
    let act = members_entry(&key, &change);
    let work = async {
        let enrolled = decided(|done| api.parts.access.enrol(&key, &server.grant, true, change, done));
        enrolled.await.map_err(Refusal::from)
    };
    api.administration.audited(&server.actor, act, work).await?;
    ok(json!({"channel": key.name}))
}

/// The rule of a channel; what none covers is not there.
fn rule(api: &Api, key: &ChannelKey) -> Result<Arc<xpush_core::Rule>, Problem> {
    let apps = api.parts.access.apps();
    let app = apps.by_name.get(&key.app).ok_or(Code::UnknownApp)?;
    let rule = app.rules.find(&key.name).cloned();
    rule.ok_or_else(|| Problem::new(Code::NotFound, "no rule of this app covers this channel"))
}
