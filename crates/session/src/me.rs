//! `/me`: what users say of themselves, whom they have blocked, and their end.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::{get, put};
use serde_json::{Value, json};
use xpush_core::ports::directory::{Expected, Key, Listing, MemberRecord, Record};
use xpush_core::{Channel, ChannelKey, Code, Grant, Problem, User};

use crate::accounts::{find_user, user_record};
use crate::api::{Answer, Api, Bearer, Fields, Refusal, Segment, ok};

/// Users that one user may have blocked.
const MOST_BLOCKS: usize = 1_000;

/// Entries of a page.
const PAGE: usize = 100;

pub(crate) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/me", get(show).patch(change).delete(end))
        .route("/me/blocks", get(blocks))
        .route("/me/blocks/{user}", put(block).delete(unblock))
        .route("/me/channels/{channel}", put(mute))
}

/// `GET /me`
async fn show(State(api): State<Arc<Api>>, Bearer(grant): Bearer) -> Answer {
    ok(profile(&api, &grant).await?)
}

/// `PATCH /me`: the display name; `null` removes it.
async fn change(State(api): State<Arc<Api>>, Bearer(grant): Bearer, fields: Fields) -> Answer {
    if !fields.has("name") {
        return Err(Problem::new(Code::BadField, "name: is missing; it is what can be changed").into());
    }
    let name = fields.name("name")?;
    let now = api.parts.clock.wall();
    api.store
        .change(&user_key(&grant), |record| {
            let mut user = user_record(record).cloned().unwrap_or_default();
            user.name = name.clone();
            user.created_at = if user.created_at == 0 { now } else { user.created_at };
            Some(Record::User(Box::new(user)))
        })
        .await?;
    ok(profile(&api, &grant).await?)
}

/// `DELETE /me`: the account and everything that belongs to it, messages included. The answer comes when nobody gets in with it any more and nothing can stop the rest,
/// which goes in the background.
async fn end(State(api): State<Arc<Api>>, Bearer(grant): Bearer) -> Answer {
    api.parts.eraser.begin(&grant.app, &grant.sender.user).await?;
    tracing::info!(app = %grant.app, "erases a user");
    ok(json!({}))
}

/// `GET /me/blocks?after=USER`
async fn blocks(
    State(api): State<Arc<Api>>,
    Bearer(grant): Bearer,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|_| Code::BadRequest)?;
    let (app, me) = (&grant.app, &grant.sender.user);
    let after = query.iter().find_map(|(name, value)| (name == "after").then_some(value));
    let after = after.map(|user| User::new(user)).transpose()?;
    let after = after.map(|user| Key::Block(app.clone(), me.clone(), user));
    let listing = Listing::Blocks(app.clone(), me.clone());
    let entries = api.store.page(&listing, after, PAGE).await?;
    let blocked = entries.iter().filter_map(|entry| match (&entry.key, &entry.record) {
        (Key::Block(_, _, user), Record::Block(since)) => Some(json!({"user": user, "since": since})),
        _ => None,
    });
    let blocked: Vec<Value> = blocked.collect();
    let mut page = json!({});
    if entries.len() == PAGE {
        page["after"] = blocked.last().map_or(Value::Null, |last| last["user"].clone());
    }
    page["blocks"] = blocked.into();
    ok(page)
}

/// `PUT /me/blocks/{user}`
async fn block(State(api): State<Arc<Api>>, Bearer(grant): Bearer, path: Segment) -> Answer {
    let (app, me, other) = (&grant.app, &grant.sender.user, path.named("user", User::new)?);
    if other == *me {
        return Err(Problem::new(Code::BadField, "user: nobody blocks themselves").into());
    }
    let listing = Listing::Blocks(app.clone(), me.clone());
    if api.store.page(&listing, None, MOST_BLOCKS).await?.len() >= MOST_BLOCKS {
        return Err(Problem::new(Code::Full, format!("at most {MOST_BLOCKS} users can be blocked")).into());
    }
    let key = Key::Block(app.clone(), me.clone(), other);
    let record = Record::Block(api.parts.clock.wall());
    // Whoever is blocked already stays so since then.
    api.store.apply(key, Expected::Absent, Some(record)).await?;
    ok(json!({}))
}

/// `DELETE /me/blocks/{user}`
async fn unblock(State(api): State<Arc<Api>>, Bearer(grant): Bearer, path: Segment) -> Answer {
    let other = path.named("user", User::new)?;
    api.store.remove(Key::Block(grant.app.clone(), grant.sender.user.clone(), other)).await?;
    ok(json!({}))
}

/// `PUT /me/channels/{channel}`: `muted`, whether notifications from there are unwanted.
async fn mute(State(api): State<Arc<Api>>, Bearer(grant): Bearer, path: Segment, fields: Fields) -> Answer {
    let muted = fields.flag("muted")?.ok_or_else(|| Problem::new(Code::BadField, "muted: is missing"))?;
    let channel = ChannelKey::new(grant.app.clone(), path.named("channel", Channel::new)?);
    let mut is_member = false;
    api.store
        .change(&Key::Member(channel.clone(), grant.sender.user.clone()), |record| {
            let Some(Record::Member(member)) = record else { return None };
            is_member = true;
            (member.muted != muted).then(|| Record::Member(MemberRecord { muted, ..member.clone() }))
        })
        .await?;
    if !is_member {
        return Err(Problem::new(Code::NotFound, "this user is no member of this channel").into());
    }
    ok(json!({"channel": channel.name, "muted": muted}))
}

async fn profile(api: &Api, grant: &Grant) -> Result<Value, Refusal> {
    let user = find_user(api, &grant.app, &grant.sender.user).await?;
    let name = match &user {
        Some(user) => user.name.clone(),
        None => grant.sender.name.as_deref().map(Into::into),
    };
    Ok(json!({
        "app": grant.app,
        "user": grant.sender.user,
        "name": name,
        "roles": grant.roles,
        "device": grant.device,
        "password": user.as_ref().is_some_and(|user| user.password.is_some()),
        "created_at": user.map(|user| user.created_at).filter(|at| *at > 0),
    }))
}

fn user_key(grant: &Grant) -> Key {
    Key::User(grant.app.clone(), grant.sender.user.clone())
}
