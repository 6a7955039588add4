//! Channels: what is said there, who is there, who belongs there, and a ticket to watch one live.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use xpush_core::access::Actions;
use xpush_core::message::Sender;
use xpush_core::ports::backend::{Everywhere, Publication};
use xpush_core::ports::message_log::Range;
use xpush_core::{Action, Channel, ChannelKey, Code, EventName, History, Kind, Problem, User};

use super::{LARGEST, Within};
use crate::accounts::sign_for_channel;
use crate::administration::Act;
use crate::api::openapi::schema::{self, array, of};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Body, Members, Refusal, Segment, named, ok, whole, wrong};
use crate::backend::{channels, decided, written};

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 1_000;

/// How long a ticket holds, in ms.
const TICKET: u64 = 600_000;

pub(super) fn routes() -> Routes {
    let of_app = |operation: Operation| operation.tag("administration").admin().refuses(&[Code::BadChannel]);
    let list = of_app(Operation::get(
        "/admin/apps/{app}/channels",
        "adminChannels",
        "The channels that are followed now, at any server",
    ))
    .query("prefix", json!({"type": "string"}), "Those whose name begins so.")
    .query("after", of("Channel"), "Those behind this one.")
    .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
    .ok(list_of("channels", json!({"type": "object"})));
    let show = of_app(Operation::get("/admin/apps/{app}/channels/{channel}", "adminChannel", "A channel"))
        .ok(schema::object(&[
            ("channel", of("ChannelName"), true),
            ("history", json!({"type": "string"}), true),
        ]));
    let history = of_app(Operation::get(
        "/admin/apps/{app}/channels/{channel}/messages",
        "adminHistory",
        "What was said in a channel",
    ))
    .query("before", schema::number(0), "Places before this one, the newest of them.")
    .query("after", schema::number(0), "Places behind this one, the oldest of them.")
    .query("limit", schema::between(1, 100), "50 without it.")
    .ok(schema::object(&[("channel", of("ChannelName"), true), ("messages", array(of("Message")), true)]))
    .refuses(&[Code::NoHistory]);
    let publish = of_app(Operation::post(
        "/admin/apps/{app}/channels/{channel}/messages",
        "adminPublish",
        "Publish a message as the server",
    ))
    .body(schema::request(&[
        ("event", of("Event"), false),
        ("data", json!({}), true),
        ("id", of("MessageId"), false),
    ]))
    .ok(of("Published"))
    .refuses(&[Code::BadEvent, Code::BadContentType, Code::Full]);
    let delete = of_app(Operation::delete(
        "/admin/apps/{app}/channels/{channel}/messages/{seq}",
        "adminDeleteMessage",
        "Withdraw a message",
    ))
    .ok(of("Published"))
    .refuses(&[Code::UnknownMessage, Code::NoHistory, Code::Full]);
    Routes::new()
        .on(list, all)
        .on(show, one)
        .on(history, said)
        .on(publish, say)
        .on(delete, withdraw)
        .merge(people_routes())
}

fn people_routes() -> Routes {
    let of_app = |operation: Operation| operation.tag("administration").admin().refuses(&[Code::BadChannel]);
    let presence = of_app(Operation::get(
        "/admin/apps/{app}/channels/{channel}/presence",
        "adminPresence",
        "Who is in a channel",
    ))
    .ok(schema::object(&[("channel", of("ChannelName"), true), ("count", schema::number(0), true)]))
    .refuses(&[Code::NoPresence]);
    let members = of_app(Operation::get(
        "/admin/apps/{app}/channels/{channel}/members",
        "adminMembers",
        "Who belongs to a channel",
    ))
    .query("after", of("User"), "Those behind this one.")
    .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
    .ok(list_of("members", json!({"type": "object"})));
    let users = || json!({"type": "array", "items": of("User"), "maxItems": 1_000});
    let change = of_app(Operation::post(
        "/admin/apps/{app}/channels/{channel}/members",
        "adminChangeMembers",
        "Add and remove members",
    ))
    .body(schema::request(&[
        ("add", users(), false),
        ("remove", users(), false),
        ("role", of("Role"), false),
    ]))
    .ok(schema::object(&[("channel", of("ChannelName"), true)]))
    .refuses(&[Code::Conflict, Code::Full, Code::BadContentType]);
    let tail = of_app(Operation::post(
        "/admin/apps/{app}/channels/{channel}/tail",
        "adminTail",
        "A ticket to watch a channel live",
    ))
    .ok(schema::object(&[
        ("token", json!({"type": "string"}), true),
        ("expires_at", schema::moment(), true),
    ]));
    Routes::new()
        .on(presence, who_is_there)
        .on(members, who_belongs)
        .on(change, change_members)
        .on(tail, ticket)
}

/// The channel of the path.
fn channel(within: &Within) -> Result<ChannelKey, Problem> {
    Ok(within.server.key(within.named("channel", Channel::new)?))
}

fn segment(within: &Within) -> Segment {
    Segment(within.segment("channel").to_owned())
}

/// By which rule, and the how manieth it is.
fn rule(api: &Api, key: &ChannelKey) -> Option<(usize, Arc<xpush_core::Rule>)> {
    use xpush_core::ports::access::Access as _;
    let apps = api.parts.access.apps();
    let rules = apps.by_name.get(&key.app)?.rules.clone();
    let found = rules.find(&key.name)?.clone();
    let index = rules.iter().position(|rule| Arc::ptr_eq(rule, &found))?;
    Some((index, found))
}

async fn all(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let limit = asked.limit(PAGE, LARGEST_PAGE)?;
    let prefix = asked.one("prefix")?.unwrap_or_default();
    let after = asked.one("after")?.map(|after| named(after, "after", Channel::new)).transpose()?;
    let after = after.as_ref().map(Channel::as_str);
    let live = decided(|done| api.parts.backend.live(&within.app, prefix, after, limit, done)).await?;
    let Everywhere { told: live, missing } = live;
    let shown = live.iter().map(|live| {
        let rule = rule(&api, &within.server.key(live.channel.clone())).map(|(index, _)| index);
        json!({"channel": live.channel, "subscribers": live.subscribers, "rule": rule})
    });
    let mut answer =
        json!({"node": api.parts.backend.node(), "channels": shown.collect::<Value>(), "missing": missing});
    if let Some(last) = live.last().filter(|_| live.len() == limit) {
        answer["after"] = json!(last.channel);
    }
    ok(answer)
}

async fn one(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let key = channel(&within)?;
    let name = key.name.as_str();
    let live = decided(|done| api.parts.backend.live(&within.app, name, None, 1, done)).await?;
    let subscribers =
        live.told.first().filter(|live| live.channel == key.name).map_or(0, |live| live.subscribers);
    let Some((index, rule)) = rule(&api, &key) else {
        return ok(json!({
            "channel": key.name, "rule": null, "history": "none", "presence": false, "members": false,
            "subscribers": subscribers,
        }));
    };
    let history = match rule.history {
        History::None => "none",
        History::Recent(_) => "recent",
        History::Durable(_) => "durable",
    };
    let members = rule.has_members() && key.name.owner().is_none() && !key.name.is_system();
    let mut answer = json!({
        "channel": key.name, "rule": {"index": index, "channels": rule.pattern}, "history": history,
        "presence": rule.presence, "members": members, "subscribers": subscribers,
    });
    if rule.history != History::None {
        let page = decided(|done| api.parts.backend.history(&key, Range::Newest, 1, done)).await?;
        let page: Value = serde_json::from_str(&page).unwrap_or_default();
        for field in ["head", "first", "epoch"] {
            if let Some(value) = page.get(field) {
                answer[field] = value.clone();
            }
        }
    }
    if rule.presence {
        // It may be unknown at the moment.
        let present = decided(|done| api.parts.backend.presence(&key, done)).await.ok();
        let present = present.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(count) = present.and_then(|mut present| present.get_mut("count").map(Value::take)) {
            answer["present"] = count;
        }
    }
    ok(answer)
}

async fn said(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let segment = segment(&within);
    channels::history(State(api), within.server, segment, asked).await
}

async fn who_is_there(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let segment = segment(&within);
    channels::who_is_there(State(api), within.server, segment).await
}

async fn who_belongs(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let segment = segment(&within);
    channels::members(State(api), within.server, segment, asked).await
}

async fn change_members(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let key = channel(&within)?;
    let body = Body::read(request, LARGEST).await?;
    let change = channels::enrolment(&body.members()?)?;
    channels::enrol(&api, &within.server, key, change).await
}

async fn say(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let key = channel(&within)?;
    let body = Body::read(request, api.parts.backend.largest() + LARGEST).await?;
    let members = body.members()?;
    let publication = Publication {
        channel: key,
        kind: Kind::Message,
        event: event(&members)?,
        data: members.data()?,
        id: members.message_id("id")?,
        from: Sender { user: within.server.grant.sender.user.clone(), name: None },
    };
    publish(&api, &within, "message.publish", publication, None).await
}

fn event(members: &Members<'_>) -> Result<EventName, Problem> {
    let name = members.text("event")?;
    EventName::new(name.as_deref().unwrap_or("message")).map_err(Problem::from)
}

async fn withdraw(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let seq = whole(within.segment("seq")).filter(|seq| *seq > 0);
    let target = seq.ok_or_else(|| wrong("seq", "must be a whole number from 1 on"))?;
    let publication = Publication {
        channel: channel(&within)?,
        kind: Kind::Delete { target },
        event: EventName::new("delete")?,
        data: Default::default(),
        id: None,
        from: Sender { user: within.server.grant.sender.user.clone(), name: None },
    };
    publish(&api, &within, "message.delete", publication, Some(target)).await
}

async fn publish(
    api: &Api,
    within: &Within,
    what: &'static str,
    publication: Publication,
    seq: Option<u64>,
) -> Answer {
    let target = match seq {
        Some(seq) => format!("{} {seq}", publication.channel.name),
        None => publication.channel.name.to_string(),
    };
    let act = Act { what, app: Some(&within.app), target: Some(target), ..Act::default() };
    let work = async {
        let answers = decided(|done| api.parts.backend.publish(vec![publication], done)).await?;
        let answer = answers.into_iter().next().unwrap_or_else(|| Err(Code::OutcomeUnknown.into()));
        Ok::<_, Refusal>(answer?)
    };
    written(api.administration.audited(&within.actor, act, work).await?)
}

async fn ticket(State(api): State<Arc<Api>>, within: Within, _: HeaderMap) -> Answer {
    let key = channel(&within)?;
    rule(&api, &key)
        .ok_or_else(|| Problem::new(Code::NotFound, "no rule of this app covers this channel"))?;
    // Longer than a user's id may be, with what stands before it: then without its name.
    let user = User::new(&format!("admin:{}", within.actor.by)).or_else(|_| User::new("admin"))?;
    let actions = Actions::NONE.with(Action::Subscribe).with(Action::History).with(Action::Presence);
    let act = Act {
        what: "channel.tail",
        app: Some(&within.app),
        target: Some(key.name.to_string()),
        ..Act::default()
    };
    let work = async { sign_for_channel(&api, &key, &user, actions, TICKET).await };
    let (token, expires_at) = api.administration.audited(&within.actor, act, work).await?;
    ok(json!({"token": token, "expires_at": expires_at, "user": user, "subscribe": {"channel": key.name}}))
}
