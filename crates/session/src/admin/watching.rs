//! What goes on: hooks, counters, nodes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};
use xpush_core::App;
use xpush_core::ports::access::Access as _;
use xpush_core::ports::backend::Everywhere;
use xpush_core::ports::cluster::{Standing, View};
use xpush_core::ports::inquiry::Counters;

use super::{Operator, Within};
use crate::access::OPERATORS;
use crate::administration::{Act, Refused};
use crate::api::openapi::schema::{self, array};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Refusal, ok};
use crate::backend::{decided, missing, together};

/// An answer that takes a while.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is known of apps' hooks on this server.
pub trait HookDesk: Send + Sync {
    /// What `docs/administration.md` has for each hook of an app, but for its settings, by name.
    fn states(&self, app: &App) -> Later<Vec<(Box<str>, Value)>>;
    /// Sends the event `test` to a hook once: what came of it. `None`: there is no such hook here.
    fn test(&self, app: &App, hook: &str) -> Later<Option<Value>>;
}

/// What can be watched.
#[derive(Clone)]
pub struct Watched {
    /// Hooks.
    pub hooks: Arc<dyn HookDesk>,
    /// The cluster.
    pub view: Arc<dyn Fn() -> Arc<View> + Send + Sync>,
    /// When the server began, ms since 1970.
    pub started_at: u64,
}

/// One of a server's counters.
type Count = fn(&Counters) -> u64;

/// What is counted, by name.
const COUNTERS: [(&str, Count); 5] = [
    ("connections", |counters| counters.connections),
    ("commands", |counters| counters.commands),
    ("published", |counters| counters.published),
    ("delivered", |counters| counters.delivered),
    ("refused", |counters| counters.refused),
];

pub(super) fn routes() -> Routes {
    let hooks =
        Operation::get("/admin/apps/{app}/hooks", "adminHooks", "An app's hooks, at the server that answers")
            .tag("administration")
            .admin()
            .ok(schema::object(&[("hooks", array(json!({"type": "object"})), true)]));
    let test = Operation::post(
        "/admin/apps/{app}/hooks/{hook}/test",
        "adminTestHook",
        "Send a hook the event `test`, once",
    )
    .tag("administration")
    .admin()
    .ok(schema::object(&[("ok", schema::flag(), true)]));
    let stats = Operation::get("/admin/stats", "adminStats", "Counters since the start, over all servers")
        .tag("administration")
        .operator()
        .ok(schema::object(&[
            ("node", json!({"type": "string"}), true),
            ("at", schema::moment(), true),
            ("nodes", array(json!({"type": "object"})), true),
            ("missing", missing(), true),
        ]));
    let nodes = Operation::get("/admin/nodes", "adminNodes", "The servers of the cluster")
        .tag("administration")
        .operator()
        .ok(schema::object(&[("nodes", array(json!({"type": "object"})), true)]));
    Routes::new().on(hooks, hook_states).on(test, test_hook).on(stats, counted).on(nodes, servers)
}

async fn hook_states(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let found = api.administration.app(&within.app).await?;
    let written = api.administration.written(&found.record);
    let states: BTreeMap<Box<str>, Value> =
        api.parts.watched.hooks.states(&within.app).await.into_iter().collect();
    let settings = written.get("hooks").and_then(Value::as_array).cloned().unwrap_or_default();
    let hooks = settings.into_iter().map(|mut hook| {
        let state = hook["name"].as_str().and_then(|name| states.get(name));
        for (name, value) in state.and_then(Value::as_object).into_iter().flatten() {
            hook[name] = value.clone();
        }
        hook
    });
    ok(json!({"node": api.parts.backend.node(), "hooks": hooks.collect::<Value>()}))
}

async fn test_hook(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let name = within.segment("hook");
    let act =
        Act { what: "hook.test", app: Some(&within.app), target: Some(name.to_owned()), ..Act::default() };
    let found = api.administration.app(&within.app).await?;
    if !found.record.hooks.iter().any(|hook| *hook.name == *name) {
        return Err(Refused::from(xpush_core::Code::NotFound).into());
    }
    let work = async {
        let came = api.parts.watched.hooks.test(&within.app, name).await;
        came.ok_or_else(|| Refused::from(xpush_core::Code::NotFound))
    };
    ok(api.administration.audited(&within.actor, act, work).await.map_err(Refusal::from)?)
}

async fn counted(State(api): State<Arc<Api>>, _: Operator) -> Answer {
    let apps: Vec<App> = api.parts.access.apps().by_name.keys().cloned().collect();
    let apps: Vec<App> = apps.into_iter().filter(|app| app.as_str() != OPERATORS).collect();
    let asked = apps.clone();
    let Everywhere { told, missing } = decided(|done| api.parts.backend.census(asked, done)).await?;
    let mut answer = json!({
        "node": api.parts.backend.node(), "at": api.parts.clock.wall(), "started_at": api.parts.watched.started_at,
        "nodes": [], "missing": missing,
    });
    let sum = |count: Count| told.iter().map(|census| count(&census.counters)).sum::<u64>();
    for (name, count) in COUNTERS {
        answer[name] = sum(count).into();
    }
    let nodes = told.iter().map(|census| {
        let mut node = json!({"node": census.node, "name": census.name});
        for (name, count) in COUNTERS {
            node[name] = count(&census.counters).into();
        }
        node
    });
    answer["nodes"] = nodes.collect();
    let (mut users, mut connections) = (json!({}), json!({}));
    for (place, app) in apps.iter().enumerate() {
        let of_app = together(&told, place);
        (users[app.as_str()], connections[app.as_str()]) = (of_app.0.into(), of_app.1.into());
    }
    (answer["users"], answer["connections_by_app"]) = (users, connections);
    ok(answer)
}

async fn servers(State(api): State<Arc<Api>>, _: Operator) -> Answer {
    let view = (api.parts.watched.view)();
    let standing = match view.standing {
        Standing::Live => "live",
        Standing::Frozen => "frozen",
        Standing::Expired => "expired",
    };
    let own = api.parts.backend.node();
    let weights = view.ring.iter().flat_map(|ring| ring.nodes()).map(|node| node.weight.share());
    let all: f64 = weights.sum();
    let nodes = view.nodes.iter().map(|node| {
        let load = view.loads.get(&node.id).copied().unwrap_or_default();
        let roles = [("session", node.roles.session), ("channel", node.roles.channel)];
        let roles: Vec<_> = roles.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        let mut shown = json!({
            "node": node.id.as_str(), "name": node.name.as_str(), "url": node.url, "version": node.version,
            "roles": roles, "since": node.since, "connections": load.connections, "channels": load.channels,
            "lag_ms": load.lag_ms, "draining": view.draining.contains(&node.name), "self": node.id.as_str() == own,
        });
        let weight = view.ring.as_ref().and_then(|ring| ring.weight(&node.name)).filter(|_| all > 0.0);
        if let Some(weight) = weight {
            shown["share"] = json!(weight.share() / all);
        }
        shown
    });
    ok(json!({"standing": standing, "planning": view.planner.is_some(), "nodes": nodes.collect::<Value>()}))
}
