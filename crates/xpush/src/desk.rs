//! What operators see of hooks.

use serde_json::{Value, json};
use xpush_core::App;
use xpush_core::ports::outbox::Dead;
use xpush_hooks::{HookState, Tried, Webhooks};
use xpush_session::{HookDesk, Later};

/// The hooks of this server.
pub(crate) struct Desk(pub(crate) Webhooks);

impl HookDesk for Desk {
    fn states(&self, app: &App) -> Later<Vec<(Box<str>, Value)>> {
        let (webhooks, app) = (self.0.clone(), app.clone());
        Box::pin(async move {
            let states = webhooks.states(&app).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what waits for hooks cannot be read");
                Vec::new()
            });
            states.into_iter().map(|state| (state.name.clone(), shown(&state))).collect()
        })
    }

    fn test(&self, app: &App, hook: &str) -> Later<Option<Value>> {
        let (webhooks, app, hook) = (self.0.clone(), app.clone(), hook.to_owned());
        Box::pin(async move {
            let Tried { ok, status, ms, error } = webhooks.try_out(&app, &hook).await?;
            let mut came = json!({"ok": ok, "ms": ms});
            for (name, value) in
                [("status", status.map(|status| json!(status))), ("error", error.map(|error| json!(error)))]
            {
                if let Some(value) = value {
                    came[name] = value;
                }
            }
            Some(came)
        })
    }
}

fn shown(state: &HookState) -> Value {
    let given_up = state.given_up.iter().map(|dead| {
        let Dead { id, key, attempts, died_at, why, .. } = dead;
        json!({"id": id, "at": died_at, "attempts": attempts, "what": what(key), "why": why})
    });
    let mut shown = json!({
        "breaker": state.breaker, "waiting": state.backlog.waiting, "given_up": given_up.collect::<Value>(),
    });
    if let Some(oldest) = state.backlog.oldest {
        shown["oldest"] = json!(oldest);
    }
    if let Some((at, message)) = &state.failure {
        shown["last_error"] = json!({"at": at, "message": message});
    }
    shown
}

/// What an event is about, by the key of its order.
fn what(key: &str) -> String {
    match key.split_at_checked(1) {
        Some(("c", channel)) => format!("channel {channel}"),
        Some(("u", user)) => format!("user {user}"),
        _ => String::new(),
    }
}
