//! Events on their way from the outbox to a back end: in order by channel and by user, several in one request when many wait, again with growing pauses when it fails.

use std::sync::{Arc, Weak};
use std::time::Duration;

use xpush_core::ports::outbox::{Claim, Settlement, Then, Waiting};
use xpush_fetch::{FetchError, Post};

use crate::breaker::{Breaker, Change, Verdict, jittered};
use crate::hook::Hook;
use crate::{Core, payload, port};

/// Events of one request.
const BATCH: usize = 100;
/// Bytes of one request's events, but for a single one that is larger.
const BYTES: usize = 1 << 20;
/// For a request with events, from the first look-up to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; nothing in it matters.
const ANSWER: usize = 65_536;
/// Keys of one claim that have failed before: each is told alone, one after the other.
const ALONE: usize = 2;
/// A claim ends in any case when all its requests have had their time.
const LEASE_MS: u64 = (ALONE as u64 + 1) * 5_000 + 5_000;
/// How often it is looked, when nobody says that something waits: what is to be tried again, and what other nodes have put.
const LOOK: Duration = Duration::from_secs(1);
/// After so many failures an event is given up: after seven hours, about.
const ATTEMPTS: u32 = 100;
/// After so many, when the back end says that it cannot take this one.
const REFUSALS: u32 = 3;
/// The pause after the first failure, and the longest, in ms.
const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 300_000;

/// What became of a request.
enum Told {
    Yes,
    /// The back end says that it cannot take what it was given.
    Refused(FetchError),
    No(FetchError),
}

/// Delivers a hook's events until it ends.
pub(crate) async fn deliver(core: Weak<Core>, hook: Arc<Hook>) {
    while !hook.has_ended() {
        let Ok(slot) = hook.tells.clone().acquire_owned().await else { return };
        let Some(alive) = core.upgrade() else { return };
        if let Verdict::Wait(ms) = hook.telling.ask(alive.clock.monotonic()) {
            drop((alive, slot));
            // Not woken by new events: there would be no end of it.
            tokio::time::sleep(Duration::from_millis(ms.max(10))).await;
            continue;
        }
        let most = if hook.telling.is_failing() { 1 } else { BATCH };
        let claims = port(|done| alive.outbox.claim(&hook.queue, most, most, LEASE_MS, done)).await;
        let claims = claims.unwrap_or_else(|error| {
            tracing::warn!(hook = %hook.queue, %error, "cannot look what is to be told");
            Vec::new()
        });
        if claims.is_empty() {
            hook.telling.gives_up();
            drop((alive, slot));
            let _ = tokio::time::timeout(LOOK, hook.woken.notified()).await;
            continue;
        }
        let hook = hook.clone();
        let runtime = alive.runtime.clone();
        runtime.spawn(async move {
            let settlements = alive.tell_all(&hook, claims).await;
            let settled = port(|done| alive.outbox.settle(&hook.queue, settlements, done)).await;
            if let Err(error) = settled {
                tracing::warn!(hook = %hook.queue, %error, "what was told will be told again");
            }
            drop(slot);
        });
    }
}

impl Core {
    /// Tells claims: those that have never failed together, the others one by one.
    async fn tell_all(&self, hook: &Hook, claims: Vec<Claim>) -> Vec<Settlement> {
        let (fresh, failed): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|claim| claim.items.first().is_none_or(|item| item.attempts == 0));
        let mut settlements = Vec::new();
        if !fresh.is_empty() {
            self.tell_together(hook, &fresh, &mut settlements).await;
        }
        for (number, claim) in failed.iter().enumerate() {
            let Some(first) = claim.items.first().filter(|_| number < ALONE) else {
                settlements.push(settlement(claim, 0, Then::Release));
                continue;
            };
            let told = self.send(hook, &[first]).await;
            settlements.push(self.judged(hook, claim, told));
        }
        settlements
    }

    async fn tell_together(&self, hook: &Hook, claims: &[Claim], settlements: &mut Vec<Settlement>) {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut counts = Vec::new();
        for claim in claims {
            let before = items.len();
            for item in &claim.items {
                if !items.is_empty() && bytes + item.body.len() > BYTES {
                    break;
                }
                bytes += item.body.len();
                items.push(item);
            }
            counts.push(items.len() - before);
        }
        let told = self.send(hook, &items).await;
        if let Told::Yes = told {
            for (claim, count) in claims.iter().zip(counts) {
                settlements.push(settlement(claim, count, Then::Release));
            }
            hook.counts.events("delivered", items.len());
            return;
        }
        let alone = items.len() == 1;
        for (claim, count) in claims.iter().zip(counts) {
            let then = match &told {
                _ if count == 0 => Then::Release,
                // One of them may be the one that it cannot take: each is tried alone, soon.
                Told::Refused(_) if !alone => Then::Retry { after_ms: 0 },
                told => self.then(hook, &claim.items[0], told),
            };
            settlements.push(settlement(claim, 0, then));
        }
    }

    fn judged(&self, hook: &Hook, claim: &Claim, told: Told) -> Settlement {
        match (&told, claim.items.first()) {
            (Told::Yes, _) => {
                hook.counts.events("delivered", 1);
                settlement(claim, 1, Then::Release)
            }
            (told, Some(first)) => settlement(claim, 0, self.then(hook, first, told)),
            (_, None) => settlement(claim, 0, Then::Release),
        }
    }

    /// What is to happen with an event that could not be told.
    fn then(&self, hook: &Hook, item: &Waiting, told: &Told) -> Then {
        let attempts = item.attempts + 1;
        let (error, most) = match told {
            Told::Yes => return Then::Release,
            Told::Refused(error) => (error, REFUSALS),
            Told::No(error) => (error, ATTEMPTS),
        };
        if attempts >= most {
            hook.counts.events("dead", 1);
            tracing::warn!(app = %hook.app, hook = %hook.record.name, event = item.id, attempts, %error, "an event is given up");
            return Then::Bury { why: error.to_string().into() };
        }
        hook.counts.events("failed", 1);
        let pause = (FIRST_MS << (attempts - 1).min(16)).min(LONGEST_MS);
        Then::Retry { after_ms: jittered(pause, self.chance()) }
    }

    /// One request.
    async fn send(&self, hook: &Hook, items: &[&Waiting]) -> Told {
        let id = request_id(items);
        let body = payload::events(hook, self.node.as_str(), items.iter().map(|item| &item.body[..]));
        let headers = hook.signer.headers(&id, self.clock.wall() / 1_000, &body);
        let post = Post { url: &hook.record.url, headers: &headers, body, timeout: TIMEOUT, largest: ANSWER };
        let told = match self.fetch.post_json(post).await {
            // What it says matters to nobody, so it may say too much.
            Ok(_) | Err(FetchError::TooLarge) => Told::Yes,
            Err(error @ FetchError::Status(400 | 413 | 422)) => Told::Refused(error),
            Err(error) => Told::No(error),
        };
        hook.counts.request(if matches!(told, Told::Yes) { "ok" } else { "failed" });
        match &told {
            Told::Yes | Told::Refused(_) => self.succeeded(hook, &hook.telling),
            Told::No(error) => self.failed(hook, &hook.telling, error),
        }
        told
    }

    pub(crate) fn succeeded(&self, hook: &Hook, breaker: &Breaker) {
        if breaker.succeeds() == Change::Closed {
            hook.counts.open(hook.telling.is_open() || hook.asking.is_open());
            tracing::info!(app = %hook.app, hook = %hook.record.name, "the back end answers again");
        }
    }

    pub(crate) fn failed(&self, hook: &Hook, breaker: &Breaker, error: &FetchError) {
        tracing::debug!(app = %hook.app, hook = %hook.record.name, %error, "the back end does not take it");
        hook.failed(self.clock.wall(), &error.to_string());
        if let Change::Opened(ms) = breaker.fails(self.clock.monotonic(), self.chance()) {
            hook.counts.open(true);
            tracing::warn!(app = %hook.app, hook = %hook.record.name, %error, ms, "the back end is left alone for a while");
        }
    }
}

/// The same for the same events, and another for others: receivers may tell by it what they have seen. With the time, as a store that was restored gives its ids again.
fn request_id(items: &[&Waiting]) -> String {
    match items {
        [] => String::new(),
        [one] => format!("evt_{}_{}", one.put_at, one.id),
        [first, .., last] => format!("evt_{}_{}-{}_{}", first.put_at, first.id, last.id, items.len()),
    }
}

fn settlement(claim: &Claim, done: usize, then: Then) -> Settlement {
    Settlement { key: claim.key.clone(), lease: claim.lease, done, then }
}
