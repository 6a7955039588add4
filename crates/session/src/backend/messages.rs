//! What is said: messages, alone or many at once, their edits and deletions, and signals.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use xpush_core::message::Sender;
use xpush_core::ports::backend::{Ephemeral, Object, Publication};
use xpush_core::ports::directory::Scope;
use xpush_core::{Channel, ChannelKey, ClientId, Code, EventName, Grant, Kind, Problem};

use super::{AROUND, Server, decided, written};
use crate::administration::Act;
use crate::api::openapi::schema::{self, Field, about, array, flag, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Body, Members, Refusal, Segments, wrong};

/// Messages of one request.
const MOST: usize = 1_000;

/// Bytes of a request with many messages.
const LARGEST_BATCH: usize = 8 << 20;

/// The event of a message that names none.
const DEFAULT_EVENT: &str = "message";

/// The header by which a request is known again (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Characters of that key with many messages: behind it come `:` and the message's number.
const LONGEST_KEY: usize = 60;

pub(super) fn routes() -> Routes {
    let publish = Operation::post("/messages", "publish", "Publish a message")
        .tag("messages")
        .about(
            "To a `channel`, or to a `user` or one of its devices (`user` and `device`). It enters like any client's message: the same order, and the answer \
             comes when it has its place; in a durable channel, when it is on disk. The same id by the same sender in the same channel is stored once, as long as \
             the first is kept (24 hours at least, where history is durable): a retry is answered with the first one's position. Where no history is kept, nothing \
             is known again.",
        )
        .server(Scope::Publish)
        .parameter(idempotency_key(64))
        .body(schema::request(&message()))
        .ok(of("Published"))
        .refuses(&PUBLISHING);
    let many = Operation::post("/messages/batch", "publishBatch", "Publish up to 1,000 messages")
        .tag("messages")
        .about(
            "One answer for all, when each has its place or was refused: `results` are in the order of `messages`, each `{ok}` or `{error}`. Messages of one channel keep \
             their order; when one cannot be stored, those of its channel behind it are refused as well. With `Idempotency-Key`, a message without an id of its own \
             has `KEY:NUMBER`, so that the whole request may be repeated. At most 8 MiB.",
        )
        .server(Scope::Publish)
        .parameter(idempotency_key(LONGEST_KEY))
        .body(schema::request(&[("messages", bounded(), true)]))
        .ok(schema::object(&[("results", array(result()), true)]))
        .refuses(&PUBLISHING);
    let edit = Operation::patch("/channels/{channel}/messages/{seq}", "edit", "Give a message new data")
        .tag("messages")
        .server(Scope::Publish)
        .parameter(idempotency_key(64))
        .body(schema::request(&[("data", json!({}), true), id(), from()]))
        .ok(of("Published"))
        .refuses(&[Code::UnknownMessage])
        .refuses(&PUBLISHING);
    let delete = Operation::delete("/channels/{channel}/messages/{seq}", "delete", "Withdraw a message")
        .tag("messages")
        .server(Scope::Publish)
        .parameter(idempotency_key(64))
        .optional_body(schema::request(&[id(), from()]))
        .ok(of("Published"))
        .refuses(&[Code::UnknownMessage])
        .refuses(&PUBLISHING);
    let signal = Operation::post("/signals", "signal", "Tell those who follow a channel now")
        .tag("messages")
        .about("Never stored; without place and id. With `ttl` they are told for how many ms what it tells holds.")
        .server(Scope::Publish)
        .body(schema::request(&[
            ("channel", of("Channel"), true),
            ("event", of("Event"), false),
            ("data", json!({}), false),
            ("ttl", schema::between(0, 60_000), false),
            from(),
        ]))
        .ok(schema::object(&[("channel", of("ChannelName"), true)]))
        .refuses(&[Code::BadEvent, Code::BadChannel, Code::BadContentType]);
    Routes::new()
        .on(publish, publish_one)
        .on(many, publish_many)
        .on(edit, edit_one)
        .on(delete, delete_one)
        .on(signal, tell)
}

const PUBLISHING: [Code; 5] =
    [Code::BadEvent, Code::BadChannel, Code::BadContentType, Code::NoHistory, Code::Full];

fn message() -> Vec<Field> {
    vec![
        ("channel", of("Channel"), false),
        ("user", about(of("User"), "Instead of a channel: into this user's own."), false),
        ("device", about(of("Device"), "Together with `user`: into this device's own channel."), false),
        ("event", of("Event"), false),
        (
            "data",
            about(json!({}), "Any JSON value, nested 30 levels deep at most; relayed as it is written here."),
            true,
        ),
        id(),
        ("silent", about(flag(), "It does not count as unread, and notifies nobody."), false),
        from(),
    ]
}

fn id() -> Field {
    ("id", of("MessageId"), false)
}

fn from() -> Field {
    ("from", about(of("SenderToBe"), "On whose behalf; without it, on the back end's own."), false)
}

/// What is wrong with one message is answered in its place: no item makes the request a bad one.
fn bounded() -> Value {
    let item = json!({"anyOf": [schema::request(&message()), {}], "description": "As for `POST /messages`."});
    json!({"type": "array", "items": item, "maxItems": MOST})
}

fn result() -> Value {
    let error = json!({"$ref": "#/components/schemas/Error/properties/error"});
    json!({"oneOf": [schema::object(&[("ok", of("Published"), true)]), schema::object(&[("error", error, true)])]})
}

fn idempotency_key(longest: usize) -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[!-~]+$"},
        "description": "The message's id, where the body gives none.",
    })
}

async fn publish_one(
    State(api): State<Arc<Api>>,
    server: Server,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let key = idempotency(&headers, 64)?;
    let body = Body::read(request, api.parts.backend.largest() + AROUND).await?;
    let publication = publication(&server.grant, &body.members()?, key)?;
    // Requests that came together go to their channel's shard together: it is woken once for all of them, and answers them in one turn.
    tokio::task::yield_now().await;
    written(publish(&api, publication).await?)
}

async fn publish_many(
    State(api): State<Arc<Api>>,
    server: Server,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let key = idempotency(&headers, LONGEST_KEY)?;
    let body = Body::read(request, LARGEST_BATCH).await?;
    let messages =
        body.members()?.elements("messages", MOST)?.ok_or_else(|| wrong("messages", "is missing"))?;
    // What is wrong with one is its own affair.
    let mut wanted = Vec::with_capacity(messages.len());
    let mut results: Vec<Option<Problem>> = Vec::with_capacity(messages.len());
    for (number, message) in messages.into_iter().enumerate() {
        let key = key.as_ref().map(|key| ClientId::new(&format!("{key}:{number}"))).transpose()?;
        match Members::of(message).and_then(|members| publication(&server.grant, &members, key)) {
            Ok(publication) => {
                wanted.push(publication);
                results.push(None);
            }
            Err(problem) => results.push(Some(problem)),
        }
    }
    let mut published = decided(|done| api.parts.backend.publish(wanted, done)).await?.into_iter();
    let mut answer = String::from(r#"{"results":["#);
    for (number, refused) in results.into_iter().enumerate() {
        let result = match refused {
            Some(problem) => Err(problem),
            None => published.next().unwrap_or_else(|| Err(Code::OutcomeUnknown.into())),
        };
        answer.push_str(if number == 0 { "" } else { "," });
        match result {
            Ok(object) => answer.extend([r#"{"ok":"#, &object, "}"]),
            Err(problem) => answer.push_str(&Refusal::from(problem).object().to_string()),
        }
    }
    answer.push_str("]}");
    written(answer)
}

async fn edit_one(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segments,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let key = idempotency(&headers, 64)?;
    let (channel, target) = slot(&server, &path)?;
    let body = Body::read(request, api.parts.backend.largest() + AROUND).await?;
    let members = body.members()?;
    let (id, from) = (message_id(&members, key)?, sender(&server.grant, &members)?);
    let (kind, event, data) = (Kind::Edit { target }, EventName::new("edit")?, members.data()?);
    written(publish(&api, Publication { channel, kind, event, data, id, from }).await?)
}

async fn delete_one(
    State(api): State<Arc<Api>>,
    server: Server,
    path: Segments,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let key = idempotency(&headers, 64)?;
    let (channel, target) = slot(&server, &path)?;
    let body = Body::read(request, AROUND).await?;
    let members = body.members()?;
    let (id, from) = (message_id(&members, key)?, sender(&server.grant, &members)?);
    let (kind, event, data) = (Kind::Delete { target }, EventName::new("delete")?, Default::default());
    let act = Act {
        what: "message.delete",
        app: Some(server.app()),
        target: Some(format!("{} {target}", channel.name)),
        ..Act::default()
    };
    let work = async {
        Ok::<_, Refusal>(publish(&api, Publication { channel, kind, event, data, id, from }).await?)
    };
    written(api.administration.audited(&server.actor, act, work).await?)
}

async fn tell(State(api): State<Arc<Api>>, server: Server, request: Request) -> Answer {
    let body = Body::read(request, api.parts.backend.largest() + AROUND).await?;
    let members = body.members()?;
    let name = members.needed("channel")?;
    let signal = Ephemeral {
        channel: server.key(crate::api::named(&name, "channel", Channel::new)?),
        event: event(&members)?,
        data: if members.has("data") { members.data()? } else { "null".into() },
        ttl_ms: members.number("ttl")?,
        from: sender(&server.grant, &members)?,
    };
    written(decided(|done| api.parts.backend.signal(signal, done)).await?)
}

async fn publish(api: &Api, publication: Publication) -> Result<Object, Problem> {
    let answers = decided(|done| api.parts.backend.publish(vec![publication], done)).await?;
    answers.into_iter().next().unwrap_or_else(|| Err(Code::OutcomeUnknown.into()))
}

/// A message as a body describes it; `key`: its id, where it has none of its own.
fn publication(grant: &Grant, members: &Members<'_>, key: Option<ClientId>) -> Result<Publication, Problem> {
    Ok(Publication {
        channel: ChannelKey::new(grant.app.clone(), destination(members)?),
        kind: if members.flag("silent")? == Some(true) { Kind::Silent } else { Kind::Message },
        event: event(members)?,
        data: members.data()?,
        id: message_id(members, key)?,
        from: sender(grant, members)?,
    })
}

/// The message that a whole request of [`publish_one`] asks to be published.
pub(super) fn read(grant: &Grant, body: &[u8], key: Option<&str>) -> Result<Publication, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Code::BadJson)?;
    publication(grant, &Members::of(text)?, key.map(|key| request_id(key, 64)).transpose()?)
}

/// `channel`, or the own channel of `user`, or of its `device`.
fn destination(members: &Members<'_>) -> Result<Channel, Problem> {
    let (user, device) = (members.user("user")?, members.device("device")?);
    match (members.text("channel")?, user) {
        (Some(_), Some(_)) => Err(wrong("user", "not together with channel")),
        (_, None) if device.is_some() => Err(wrong("device", "together with user")),
        (None, None) => Err(wrong("channel", "is missing")),
        (Some(channel), None) => crate::api::named(&channel, "channel", Channel::new),
        (None, Some(user)) => Ok(Channel::personal(&user, device.as_ref())),
    }
}

fn event(members: &Members<'_>) -> Result<EventName, Problem> {
    let name = members.text("event")?.unwrap_or(DEFAULT_EVENT.into());
    EventName::new(&name).map_err(Problem::from)
}

fn message_id(members: &Members<'_>, key: Option<ClientId>) -> Result<Option<ClientId>, Problem> {
    Ok(members.message_id("id")?.or(key))
}

fn sender(grant: &Grant, members: &Members<'_>) -> Result<Sender, Problem> {
    Ok(members.sender()?.unwrap_or_else(|| grant.sender.clone()))
}

/// A message's channel and place.
fn slot(server: &Server, path: &Segments) -> Result<(ChannelKey, u64), Problem> {
    let channel = crate::api::named(&path.0, "channel", Channel::new)?;
    let seq = crate::api::whole(&path.1).filter(|seq| *seq > 0);
    Ok((server.key(channel), seq.ok_or_else(|| wrong("seq", "must be a whole number from 1 on"))?))
}

/// The request's own id, if it has one.
fn idempotency(headers: &HeaderMap, longest: usize) -> Result<Option<ClientId>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    // What is no text, or comes twice, is none.
    let text = if values.next().is_some() { "" } else { value.to_str().unwrap_or_default() };
    request_id(text, longest).map(Some)
}

fn request_id(text: &str, longest: usize) -> Result<ClientId, Problem> {
    let bad = || wrong("Idempotency-Key", &format!("must be one, of 1 to {longest} visible characters"));
    if text.len() > longest || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad());
    }
    ClientId::new(text).map_err(|_| bad())
}
