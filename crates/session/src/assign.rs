//! `GET /api/v1/assign`: which channel servers the clients of some channels should use.

use std::sync::Arc;

use axum::extract::{Query, State};
use serde_json::{Value, json};
use xpush_core::ports::Done;
use xpush_core::{Channel, ChannelKey, Code, NodeId, Problem};

use crate::api::openapi::schema::{self, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Caller, ok};
use crate::port::ask;

/// Channels of one request.
const MOST: usize = 64;

/// Servers that one request may say are out of reach.
const MOST_AVOIDED: usize = 16;

/// What `not` may be given, for whoever reads of it.
const NOT: &str = "A server that could not be reached, as an earlier answer named it; may be given several times. Another one is answered while there is any.";

/// A channel server for a channel's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Which.
    pub node: NodeId,
    /// Where clients reach it; empty: where they reach whoever tells them.
    pub url: Box<str>,
    /// Why this one, in one word for the log and for operators.
    pub reason: Box<str>,
}

/// Decides where channels' clients connect.
pub trait Placement: Send + Sync {
    /// A server for each channel, in the order asked for; all `None` when there is no server. Those in `avoided` could not be reached by who asks: one of them is answered
    /// only when there is no other.
    fn assign(&self, channels: Vec<ChannelKey>, avoided: Vec<NodeId>, done: Done<Vec<Option<Assigned>>>);
}

pub(crate) fn routes() -> Routes {
    let channels = json!({"type": "array", "items": of("Channel"), "minItems": 1, "maxItems": MOST});
    let assigned = schema::object(&[
        ("channel", of("ChannelName"), true),
        ("url", schema::about(json!({"type": "string"}), "Empty: the address that was asked."), true),
        ("node", json!({"type": "string"}), true),
        ("reason", schema::about(json!({"type": "string"}), "For people."), true),
    ]);
    let operation = Operation::get("/assign", "assign", "Where the clients of channels should connect")
        .tag("connecting")
        .query("app", of("App"), "The server's default app without it.")
        .needed_query("channel", channels, "May be given several times.")
        .query("not", json!({"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9_.-]+$"}, "maxItems": MOST_AVOIDED}), NOT)
        .ok(schema::object(&[("ok", schema::object(&[("channels", schema::array(assigned), true)]), true)]))
        .answers_with(431, "The URL is too long.", None)
        .refuses(&[Code::BadChannel, Code::UnknownApp]);
    Routes::new().on(operation, assign)
}

/// Says nothing that depends on who asks: whether one may follow a channel is seen when one does.
async fn assign(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let all = |wanted: &str| {
        let values = query.iter().filter(move |(name, _)| name == wanted);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let name = match all("app")[..] {
        [] => None,
        [name] => Some(name),
        _ => return Err(Problem::new(Code::BadField, "app: given twice").into()),
    };
    let (app, _) = api.app(name, &caller)?;
    let names = all("channel");
    if !(1..=MOST).contains(&names.len()) {
        return Err(Problem::new(Code::BadField, format!("channel: 1 to {MOST} of them")).into());
    }
    let key = |name: &&str| {
        let channel = Channel::new(name);
        let bad = |code: Code| Problem::new(code, format!("channel: {}", code.text()));
        Ok(ChannelKey::new(app.clone(), channel.map_err(bad)?))
    };
    let keys = names.iter().map(key).collect::<Result<Vec<_>, Problem>>()?;
    let avoided = avoided(&query)?;
    let assigned = ask(|done| api.parts.placement.assign(keys, avoided, done)).await?;
    let channels: Option<Vec<Value>> = names
        .iter()
        .zip(assigned)
        .map(|(channel, assigned)| {
            let Assigned { node, url, reason } = assigned?;
            Some(json!({"channel": channel, "url": url, "node": node.as_str(), "reason": reason}))
        })
        .collect();
    let no_server = || Problem::new(Code::Unavailable, "no channel server is available");
    ok(json!({"ok": {"channels": channels.ok_or_else(no_server)?}}))
}

/// The servers that a query says are out of reach.
pub(crate) fn avoided(query: &[(String, String)]) -> Result<Vec<NodeId>, Problem> {
    let named = query.iter().filter(|(name, _)| name == "not").map(|(_, node)| NodeId::new(node));
    let avoided: Result<Vec<_>, _> = named.collect();
    let avoided = avoided.map_err(|_| Problem::new(Code::BadField, "not: no server is named so"))?;
    if avoided.len() > MOST_AVOIDED {
        return Err(Problem::new(Code::BadField, format!("not: {MOST_AVOIDED} of them at most")));
    }
    Ok(avoided)
}
