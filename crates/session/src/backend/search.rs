//! Looking for words: for an app's back end, and for its users.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde_json::json;
use xpush_core::Channel;
use xpush_core::Code;
use xpush_core::ports::backend::{SearchBy, Searching};
use xpush_core::ports::directory::Scope;

use super::{Server, decided, written};
use crate::api::openapi::schema::{self, about, array, of, text};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Asked, Bearer, Refusal, bearer, named, wrong};
use crate::api_key;

/// Hits of a page, when nobody says how many, and at most.
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;

/// Whoever shows a key that may read, a token of the role `server`, or a user's token.
struct Searcher(SearchBy);

pub(super) fn routes() -> Routes {
    let excerpt = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
    let hit = schema::object(&[
        ("message", of("Message"), true),
        ("excerpt", about(excerpt, "Pieces of its text, of which every second one is what was found."), true),
    ]);
    let search = Operation::get("/search", "search", "Messages that hold some words")
        .tag("messages")
        .about(
            "In durable channels whose rule has `search`, the newest first. With a key or a token of the role `server`: in all of the app. With a user's token: in the channels that the user is in \
             and may read, the 500 that were active last. The query has words, `\"phrases\"`, `from:USER`, `in:CHANNEL`, `after:YYYY-MM-DD` and `before:YYYY-MM-DD`. A page may have few hits, or none, and go on nevertheless.",
        )
        .user_or_server(Scope::Read)
        .needed_query("query", text(1, 1_000), "What to look for.")
        .query("channel", of("Channel"), "In this channel only.")
        .query("before", json!({"type": "string", "pattern": "^[0-9]{1,19}$"}), "What the last page gave: behind it.")
        .query("limit", schema::between(1, LARGEST_PAGE as u64), "20 without it.")
        .ok(schema::object(&[
            ("hits", array(hit), true),
            ("before", about(text(1, 20), "There may be more: ask for what comes behind this."), false),
        ]))
        .refuses(&[Code::BadChannel, Code::NoSearch]);
    Routes::new().on(search, find)
}

async fn find(State(api): State<Arc<Api>>, Searcher(by): Searcher, asked: Asked) -> Answer {
    let query = asked.one("query")?.ok_or_else(|| wrong("query", "is missing"))?;
    let channel = asked.one("channel")?.map(|channel| named(channel, "channel", Channel::new)).transpose()?;
    let before = asked.one("before")?.map(|before| before.parse()).transpose();
    let searching = Searching {
        query: query.into(),
        channel,
        before: before.map_err(|_| wrong("before", "is not what a page gave"))?,
        limit: asked.limit(PAGE, LARGEST_PAGE)?,
    };
    written(decided(|done| api.parts.backend.search(by, searching, done)).await?)
}

impl FromRequestParts<Arc<Api>> for Searcher {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        if bearer(parts).is_some_and(|shown| shown.starts_with(api_key::PREFIX)) {
            let server = Server::from_request_parts(parts, api).await?;
            return Ok(Self(SearchBy::App(server.app().clone())));
        }
        let Bearer(grant) = Bearer::from_request_parts(parts, api).await?;
        Ok(Self(if grant.is_server() { SearchBy::App(grant.app.clone()) } else { SearchBy::User(grant) }))
    }
}
