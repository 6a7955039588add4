//! `/me`: what users say of themselves, whom they have blocked, and their end.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde_json::{Value, json};
use xpush_core::ports::directory::{Expected, Key, Listing, MemberRecord, Record};
use xpush_core::{App, Channel, ChannelKey, Code, Grant, Problem, User};

use crate::accounts::{find_user, user_record};
use crate::api::openapi::schema::{self, of};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Bearer, Fields, Refusal, Segment, ok};
use crate::erasure::is_barred;

/// Users that one user may have blocked.
const MOST_BLOCKS: usize = 1_000;

/// Entries of a page.
const PAGE: usize = 100;

pub(crate) fn routes() -> Routes {
    let own = |operation: Operation| operation.tag("me").user();
    let who = Operation::get("/me", "showMe", "Who one is");
    let name = Operation::patch("/me", "changeMe", "What one is called; `null` takes the name away");
    let leave =
        Operation::delete("/me", "endMe", "The end of one's account, and of everything that belongs to it");
    let blocked = Operation::get("/me/blocks", "listOwnBlocks", "Whom one has blocked").query(
        "after",
        of("User"),
        "Those behind this one.",
    );
    let put = Operation::put("/me/blocks/{user}", "blockUser", "Hear no more from somebody");
    let remove = Operation::delete("/me/blocks/{user}", "unblockUser", "Hear from somebody again");
    let muted =
        Operation::put("/me/channels/{channel}", "mute", "Whether one wants notifications from a channel");
    let a_block = schema::object(&[("user", of("User"), true), ("since", schema::moment(), true)]);
    let muting = [("channel", of("ChannelName"), true), ("muted", schema::flag(), true)];
    Routes::new()
        .on(own(who).ok(of("Profile")), show)
        .on(
            own(name)
                .body(schema::request(&[("name", schema::nullable(of("Name")), true)]))
                .ok(of("Profile")),
            change,
        )
        .on(own(leave).ok(schema::object(&[])), end)
        .on(own(blocked).ok(list_of("blocks", a_block)), blocks)
        .on(own(put).ok(schema::object(&[])).refuses(&[Code::Full]), block)
        .on(own(remove).ok(schema::object(&[])), unblock)
        .on(
            own(muted)
                .body(schema::request(&[("muted", schema::flag(), true)]))
                .ok(schema::object(&muting))
                .refuses(&[Code::BadChannel]),
            mute,
        )
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
    let changed = api
        .store
        .change(&user_key(&grant), |record| {
            let mut user = user_record(record).cloned().unwrap_or_default();
            if is_barred(&user) {
                return None;
            }
            user.name = name.clone();
            user.created_at = if user.created_at == 0 { now } else { user.created_at };
            Some(Record::User(Box::new(user)))
        })
        .await?;
    if !changed {
        return Err(Code::Revoked.into());
    }
    ok(profile(&api, &grant).await?)
}

/// `DELETE /me`: the account and everything that belongs to it, messages included. The answer comes when nobody gets in with it any more and nothing can stop the rest,
/// which goes in the background.
async fn end(State(api): State<Arc<Api>>, Bearer(grant): Bearer) -> Answer {
    remove(&api, &grant.app, &grant.sender.user).await?;
    ok(json!({}))
}

/// Erases a user: nobody gets in with it any more, and everything that is kept of it goes in the background.
pub(crate) async fn remove(api: &Api, app: &App, user: &User) -> Result<(), Refusal> {
    api.parts.eraser.begin(app, user).await?;
    tracing::info!(%app, "erases a user");
    Ok(())
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
    put_block(&api, &grant.app, &grant.sender.user, path.named("user", User::new)?).await?;
    ok(json!({}))
}

/// From now on `me` hears nothing more of `other`.
pub(crate) async fn put_block(api: &Api, app: &App, me: &User, other: User) -> Result<(), Refusal> {
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
    Ok(())
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
