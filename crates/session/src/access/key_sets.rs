//! Keys that apps publish behind a URL (JWK Set, RFC 7517, 5): fetched, remembered, and fetched again when a token names one that is not known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::runtime::Handle;

use xpush_core::{Clock, Code, Monotonic, Problem};

use super::keys::VerifyingKey;
use xpush_fetch::{Fetch, FetchError};

/// How old a set may get before it is fetched again, in ms.
const REFRESH: u64 = 600_000;
/// How soon a set may be fetched again for a key that it did not have, or after a failure.
const RETRY: u64 = 30_000;
/// How long keys stay good that cannot be fetched again.
const KEPT: u64 = 86_400_000;
/// Keys of a set; the rest is ignored.
const MOST_KEYS: usize = 100;

/// The key sets of all apps.
pub(super) struct KeySets {
    fetch: Fetch,
    clock: Arc<dyn Clock>,
    /// Goes up when a set has other keys than before.
    changes: AtomicU64,
    sets: Mutex<HashMap<Box<str>, Arc<KeySet>>>,
}

struct KeySet {
    url: Box<str>,
    state: Mutex<State>,
    /// Held by who fetches; the others wait for what it gets.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Vec<Arc<VerifyingKey>>,
    /// What they were read from.
    body: Vec<u8>,
    fetched_at: Option<Monotonic>,
    tried_at: Option<Monotonic>,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

impl KeySets {
    pub(super) fn new(fetch: Fetch, clock: Arc<dyn Clock>) -> Self {
        Self { fetch, clock, changes: AtomicU64::new(0), sets: Mutex::new(HashMap::new()) }
    }

    /// How often keys have changed: what was verified before a change is to be verified again.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// From now on only these sets matter.
    pub(super) fn keep<'a>(&self, urls: impl Iterator<Item = &'a str>) {
        let mut sets = self.sets();
        let mut before = std::mem::take(&mut *sets);
        for url in urls {
            let set = before.remove(url).unwrap_or_else(|| Arc::new(KeySet::new(url)));
            sets.entry(url.into()).or_insert(set);
        }
    }

    /// The keys that a token of this `kid` may have been signed by: all of them when it names none. `unavailable` when the set could not be had.
    pub(super) async fn keys(&self, url: &str, kid: Option<&str>) -> Result<Vec<Arc<VerifyingKey>>, Problem> {
        let set = self.sets().get(url).cloned();
        let set = set.ok_or(Code::Unavailable)?;
        let found = set.find(kid);
        if !found.is_empty() {
            return Ok(found);
        }
        self.refresh(&set, RETRY).await;
        let found = set.find(kid);
        if found.is_empty() && set.state().fetched_at.is_none() {
            return Err(Code::Unavailable.into());
        }
        Ok(found)
    }

    /// Fetches what has become old, in the background.
    pub(super) fn refresh_old(self: &Arc<Self>, runtime: &Handle) {
        let now = self.clock.monotonic();
        let sets: Vec<_> = self.sets().values().filter(|set| set.is_due(now)).cloned().collect();
        for set in sets {
            let this = self.clone();
            runtime.spawn(async move { this.refresh(&set, RETRY).await });
        }
    }

    /// Fetches a set, unless that was tried less than `pause` ago.
    async fn refresh(&self, set: &KeySet, pause: u64) {
        let _turn = set.fetching.lock().await;
        let now = self.clock.monotonic();
        if set.state().tried_at.is_some_and(|tried| now.since(tried) < pause) {
            return;
        }
        set.state().tried_at = Some(now);
        let fetched = self.fetch.get(&set.url).await.and_then(|body| {
            let keys = read(&body).ok_or(FetchError::Refused("no JWK set"))?;
            Ok((keys, body))
        });
        if let Err(error) = &fetched {
            // The URL without its query, which may be a secret.
            let url = set.url.split(['?', '#']).next();
            tracing::warn!(url, %error, "the key set cannot be fetched");
        }
        if set.state().take(fetched.ok(), now) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn sets(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<KeySet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySet {
    fn new(url: &str) -> Self {
        Self { url: url.into(), state: Mutex::default(), fetching: tokio::sync::Mutex::new(()) }
    }

    fn find(&self, kid: Option<&str>) -> Vec<Arc<VerifyingKey>> {
        let named = |key: &&Arc<VerifyingKey>| kid.is_none() || key.id.as_deref() == kid;
        self.state().keys.iter().filter(named).cloned().collect()
    }

    fn is_due(&self, now: Monotonic) -> bool {
        let state = self.state();
        let fresh = state.fetched_at.is_some_and(|fetched| now.since(fetched) < REFRESH);
        let tried = state.tried_at.is_some_and(|tried| now.since(tried) < RETRY);
        !fresh && !tried
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What was fetched at `now`, if anything was. Whether the keys are others than before.
    fn take(&mut self, fetched: Option<(Vec<Arc<VerifyingKey>>, Vec<u8>)>, now: Monotonic) -> bool {
        let Some((keys, body)) = fetched else {
            let too_old = self.fetched_at.is_some_and(|fetched| now.since(fetched) > KEPT);
            if too_old {
                *self = Self { tried_at: self.tried_at, ..Self::default() };
            }
            return too_old;
        };
        self.fetched_at = Some(now);
        let others = self.body != body;
        (self.keys, self.body) = (keys, body);
        others
    }
}

/// The keys of a set; those that are odd are left out, so that they do not take the others with them.
fn read(body: &[u8]) -> Option<Vec<Arc<VerifyingKey>>> {
    let published: Published = serde_json::from_slice(body).ok()?;
    let keys = published.keys.into_iter().take(MOST_KEYS).filter_map(VerifyingKey::from_jwk);
    Some(keys.map(Arc::new).collect())
}
