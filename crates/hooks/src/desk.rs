//! What operators see of hooks, and a delivery to try one.

use std::time::{Duration, Instant};

use xpush_core::ports::PortError;
use xpush_core::ports::outbox::{Backlog, Dead};
use xpush_core::{App, UnixMillis};
use xpush_fetch::{FetchError, Post};

use crate::hook::Hook;
use crate::{Webhooks, payload, port};

/// Events that were given up and are shown.
const SHOWN: usize = 20;

/// For a delivery that tries a hook.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of its answer that are read.
const ANSWER: usize = 65_536;

/// How a hook does on this server.
#[derive(Debug, Clone)]
pub struct HookState {
    /// Its name.
    pub name: Box<str>,
    /// `closed`, `open`, or `trying` when there were failures of late.
    pub breaker: &'static str,
    /// What waits for it.
    pub backlog: Backlog,
    /// What was given up, the last first.
    pub given_up: Vec<Dead>,
    /// The newest failure: when, and what.
    pub failure: Option<(UnixMillis, Box<str>)>,
}

/// What came of a delivery that tried a hook.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Whether the back end took it.
    pub ok: bool,
    /// Its HTTP status, when it refused by one.
    pub status: Option<u16>,
    /// How long it took.
    pub ms: u64,
    /// Why it was not taken.
    pub error: Option<String>,
}

impl Webhooks {
    /// How an app's hooks do.
    pub async fn states(&self, app: &App) -> Result<Vec<HookState>, PortError> {
        let mut states = Vec::new();
        let hooks = self.0.table().of(app).to_vec();
        for hook in hooks {
            let backlog = port(|done| self.0.outbox.backlog(&hook.queue, done)).await?;
            let given_up = port(|done| self.0.outbox.dead(&hook.queue, SHOWN, done)).await?;
            states.push(HookState {
                name: hook.record.name.clone(),
                breaker: breaker(&hook),
                backlog,
                given_up,
                failure: hook.failure(),
            });
        }
        Ok(states)
    }

    /// Sends a hook the signed event `test`, once and right away, whatever its breaker says. `None`: this server knows no such hook.
    pub async fn try_out(&self, app: &App, name: &str) -> Option<Tried> {
        self.0.refresh();
        let hook = self.0.table().of(app).iter().find(|hook| *hook.record.name == *name).cloned()?;
        let (id, now) = (self.0.fresh_id(), self.0.clock.wall());
        let event = payload::begun(&id, "test", now).end();
        let body = payload::events(&hook, self.0.node.as_str(), std::iter::once(event.as_bytes()));
        let headers = hook.signer.headers(&format!("evt_{id}"), now / 1_000, &body);
        let post = Post { url: &hook.record.url, headers: &headers, body, timeout: TIMEOUT, largest: ANSWER };
        let begun = Instant::now();
        let came = self.0.fetch.post_json(post).await;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(match came {
            Ok(_) | Err(FetchError::TooLarge) => Tried { ok: true, status: None, ms, error: None },
            Err(error) => {
                let status = match &error {
                    FetchError::Status(status) => Some(*status),
                    _ => None,
                };
                Tried { ok: false, status, ms, error: Some(error.to_string()) }
            }
        })
    }
}

fn breaker(hook: &Hook) -> &'static str {
    if hook.telling.is_open() || hook.asking.is_open() {
        "open"
    } else if hook.telling.is_failing() || hook.asking.is_failing() {
        "trying"
    } else {
        "closed"
    }
}
