//! Which channel server a channel's clients should use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use xpush_core::ports::cluster::{Node, View};
use xpush_core::{App, Channel, ChannelKey, Code, NodeId};

use crate::Session;
use crate::address::reached_at;
use crate::assign::{Assigned, avoided};
use crate::port::ask;

/// `GET /node/{app}/{channel}`, with `not` as `/api/v1/assign` has it. Failures come with status 200, except those that 0.1 did not know: its clients read the body.
pub(crate) async fn choose(
    State(session): State<Arc<Session>>,
    Path((app, channel)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let key = match (App::new(&app), Channel::new(&channel)) {
        (Ok(app), Ok(channel)) => ChannelKey::new(app, channel),
        (Err(code), _) | (_, Err(code)) => return bad_request(code.text()),
    };
    let avoided = match avoided(&query) {
        Ok(avoided) => avoided,
        Err(problem) => return bad_request(problem.message()),
    };
    let assigned = ask(|done| session.placement.assign(vec![key], avoided, done)).await;
    let Some(Assigned { node, url, .. }) = assigned.ok().and_then(|mut assigned| assigned.pop().flatten())
    else {
        return failure(StatusCode::OK, "Channel server is not available.");
    };
    let url = match &*url {
        "" => match reached_at(&uri, &headers) {
            Some(url) => url,
            None => return bad_request("The Host header is missing or malformed."),
        },
        configured => configured.to_owned(),
    };
    let number = session.answers.fetch_add(1, Ordering::Relaxed);
    Json(json!({
        "status": "ok",
        "result": {
            "seq": format!("{}-{number}", session.node),
            "channel": channel,
            "server": {"channel": channel, "name": node.as_str(), "url": url},
        },
    }))
    .into_response()
}

/// The same node for the same channel as long as the nodes are the same; none of those that are avoided while there are others.
pub(crate) fn assign<'a>(channel: &ChannelKey, view: &'a View, avoided: &[NodeId]) -> Option<&'a Node> {
    let among = |nodes: &mut dyn Iterator<Item = &'a Node>| {
        let nodes: Vec<&Node> = nodes.collect();
        let at = channel.hash64().checked_rem(nodes.len() as u64)?;
        nodes.get(usize::try_from(at).ok()?).copied()
    };
    let others = among(&mut view.channel_nodes().filter(|node| !avoided.contains(&node.id)));
    others.or_else(|| among(&mut view.channel_nodes()))
}

fn bad_request(message: &str) -> Response {
    let status = StatusCode::from_u16(Code::BadRequest.status()).unwrap_or(StatusCode::BAD_REQUEST);
    failure(status, message)
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"status": "error", "result": {"message": message}}))).into_response()
}
