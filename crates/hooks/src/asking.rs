//! Questions to a back end: answered within their time, in few bytes, or decided by what the app has said for that case.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use xpush_core::hooks::{HookAsk, OnFailure};
use xpush_core::ports::hooks::{Called, Publishing};
use xpush_core::{Action, Code, Problem};
use xpush_fetch::{FetchError, Post};

use crate::breaker::Verdict;
use crate::hook::Hook;
use crate::{Core, payload, unanswered};

/// Bytes of an answer.
const LARGEST: usize = 65_536;
/// Characters of a reason that clients are told.
const REASON: usize = 200;

/// What a back end says; what is not there stays as it is.
#[derive(Deserialize)]
pub(crate) struct Answer {
    /// Whether it may happen.
    allow: Option<bool>,
    /// Why not, for the client.
    reason: Option<String>,
    /// Other data; what a call is answered with.
    data: Option<Box<RawValue>>,
    /// Of `connect`.
    pub(crate) name: Option<String>,
    pub(crate) info: Option<Box<RawValue>>,
    pub(crate) channels: Option<HashMap<String, Vec<Action>>>,
    /// Of `subscribe`.
    pub(crate) permissions: Option<Vec<Action>>,
}

/// What a question came to.
pub(crate) enum Verdicts {
    Allowed(Box<Answer>),
    Refused(Problem),
    /// There was no answer.
    None(Problem),
}

impl Core {
    /// Asks one hook.
    pub(crate) async fn ask(&self, hook: &Hook, id: &str, question: &str, ask: HookAsk) -> Verdicts {
        let deadline = Instant::now() + Duration::from_millis(hook.record.timeout_ms);
        let slot = tokio::time::timeout_at(deadline.into(), hook.asks.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            hook.counts.ask("busy");
            return Verdicts::None(unanswered());
        };
        if let Verdict::Wait(_) = hook.asking.ask(self.clock.monotonic()) {
            hook.counts.ask("open");
            return Verdicts::None(unanswered());
        }
        let body = payload::asking(hook, self.node.as_str(), question);
        let headers = hook.signer.headers(id, self.clock.wall() / 1_000, &body);
        let timeout = deadline.saturating_duration_since(Instant::now());
        let post = Post { url: &hook.record.url, headers: &headers, body, timeout, largest: LARGEST };
        let answered = self.fetch.post_json(post).await;
        let answer = answered
            .and_then(|body| read(&body, ask).ok_or(FetchError::Refused("answered with something else")));
        match answer {
            Ok(answer) => {
                self.succeeded(hook, &hook.asking);
                let allowed = answer.allow.unwrap_or(ask == HookAsk::Call);
                hook.counts.ask(if allowed { "allowed" } else { "refused" });
                if allowed {
                    Verdicts::Allowed(Box::new(answer))
                } else {
                    Verdicts::Refused(refused(answer.reason))
                }
            }
            Err(error) => {
                self.failed(hook, &hook.asking, &error);
                hook.counts.ask("failed");
                Verdicts::None(unanswered())
            }
        }
    }

    /// Asks one hook, of something that may happen without its answer where the app says so; `None` then.
    pub(crate) async fn ask_whether(
        &self,
        hook: &Hook,
        id: &str,
        question: &str,
        ask: HookAsk,
    ) -> Result<Option<Box<Answer>>, Problem> {
        match self.ask(hook, id, question, ask).await {
            Verdicts::Allowed(answer) => Ok(Some(answer)),
            Verdicts::Refused(problem) => Err(problem),
            Verdicts::None(_) if hook.record.on_failure == OnFailure::Allow => Ok(None),
            Verdicts::None(problem) => Err(problem),
        }
    }

    /// Every hook that is asked must allow it; each sees the data that the one before it has made of it.
    pub(crate) async fn publishing(&self, mut asked: Publishing) -> Result<Option<Bytes>, Problem> {
        let table = self.table();
        let channel = asked.channel.clone();
        let hooks: Vec<Arc<Hook>> =
            table.asked(&channel.app, HookAsk::Publish, Some(&channel.name)).cloned().collect();
        let hooks = hooks.into_iter().filter(|hook| hook.record.api || !asked.grant.is_server());
        let mut changed = None;
        for hook in hooks {
            let id = self.fresh_id();
            let question = payload::publish(&id, self.clock.wall(), &asked);
            let answer = self.ask_whether(&hook, &id, &question, HookAsk::Publish).await?;
            if let Some(data) = answer.and_then(|answer| answer.data) {
                if asked.attachments > 0 {
                    tracing::warn!(app = %hook.app, hook = %hook.record.name, "data with binary parts cannot be changed");
                    return Err(unanswered());
                }
                asked.data = Bytes::copy_from_slice(data.get().as_bytes());
                changed = Some(asked.data.clone());
            }
        }
        Ok(changed)
    }

    /// The first hook that takes calls is called.
    pub(crate) async fn call(&self, called: Called) -> Result<Bytes, Problem> {
        let table = self.table();
        let hook = table.asked(&called.grant.app, HookAsk::Call, None).next().cloned();
        let hook = hook.ok_or_else(|| Problem::new(Code::UnknownCommand, "nobody takes calls here"))?;
        let id = self.fresh_id();
        let question = payload::call(&id, self.clock.wall(), &called);
        match self.ask(&hook, &id, &question, HookAsk::Call).await {
            Verdicts::Allowed(answer) => {
                let data = answer.data.as_ref().map_or("null", |data| data.get());
                Ok(Bytes::copy_from_slice(data.as_bytes()))
            }
            Verdicts::Refused(problem) | Verdicts::None(problem) => Err(problem),
        }
    }
}

/// An answer must say whether it may happen: a page that says `ok` to everything has not been asked. To a call there may be nothing to say.
fn read(body: &[u8], ask: HookAsk) -> Option<Answer> {
    let empty = ask == HookAsk::Call && body.iter().all(u8::is_ascii_whitespace);
    let answer: Answer = serde_json::from_slice(if empty { b"{}" } else { body }).ok()?;
    (answer.allow.is_some() || ask == HookAsk::Call).then_some(answer)
}

fn refused(reason: Option<String>) -> Problem {
    let reason: String =
        reason.unwrap_or_default().chars().filter(|c| !c.is_control()).take(REASON).collect();
    if reason.is_empty() { Code::Forbidden.into() } else { Problem::new(Code::Forbidden, reason) }
}
