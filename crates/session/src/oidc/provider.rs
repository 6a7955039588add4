//! Identity providers: where they are and what they sign with (OpenID Connect Discovery 1.0).

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use xpush_core::ports::directory::Provider;
use xpush_core::{Clock, Code, Monotonic, Problem};

use super::id_token::{self, Identity};
use xpush_fetch::{Fetch, FetchError, permitted};

/// How long what a provider publishes is taken for true, in ms.
const FRESH: u64 = 600_000;

/// How soon it is asked again for a key that it did not have, in ms.
const PATIENCE: u64 = 30_000;

/// Issuers that are remembered.
const REMEMBERED: usize = 1_000;

/// What is known of providers, by issuer.
pub(crate) struct Providers {
    fetch: Fetch,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<Box<str>, Place>>,
}

/// Of one issuer; held while it is asked.
type Place = Arc<Mutex<Option<Known>>>;

#[derive(Clone)]
struct Known {
    published: Arc<Published>,
    keys: Arc<JwkSet>,
    since: Monotonic,
}

/// A provider's own description of itself.
#[derive(Deserialize)]
pub(super) struct Published {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// What a token endpoint answers; all that counts of it.
#[derive(Deserialize)]
struct Granted {
    id_token: String,
}

/// What the authorization code is exchanged with.
pub(super) struct Proof<'a> {
    pub(super) code: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) verifier: &'a str,
}

impl Providers {
    pub(crate) fn new(fetch: Fetch, clock: Arc<dyn Clock>) -> Self {
        Self { fetch, clock, known: Mutex::default() }
    }

    /// Where the provider is.
    pub(super) async fn discover(&self, provider: &Provider) -> Result<Arc<Published>, Problem> {
        Ok(self.known(provider, FRESH).await?.published)
    }

    /// Exchanges an authorization code for an ID token (OpenID Connect Core 1.0, section 3.1.3.1).
    pub(super) async fn exchange(&self, provider: &Provider, proof: &Proof<'_>) -> Result<String, Problem> {
        let published = self.discover(provider).await?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", proof.code),
            ("redirect_uri", proof.redirect_uri),
            ("client_id", &*provider.client_id),
            ("code_verifier", proof.verifier),
        ];
        let methods = &published.token_endpoint_auth_methods_supported;
        let supports = |method: &str| methods.iter().any(|supported| supported == method);
        let mut basic = None;
        if let Some(secret) = &provider.client_secret {
            // Without a word about it, Basic is supported (OpenID Connect Discovery 1.0, section 3).
            if supports("client_secret_post") && !supports("client_secret_basic") {
                form.push(("client_secret", &**secret));
            } else {
                basic = Some((&*provider.client_id, &**secret));
            }
        }
        let answer = self.fetch.post(&published.token_endpoint, &form, basic).await;
        Ok(read::<Granted>(provider, answer)?.id_token)
    }

    /// Who an ID token is about, if it is right. `nonce` is what the sign-in began with.
    pub(super) async fn verify(
        &self,
        provider: &Provider,
        token: &str,
        nonce: Option<&str>,
    ) -> Result<Identity, Problem> {
        let refuse = |reason: &str| {
            tracing::info!(provider = %provider.name, reason, "an ID token is refused");
            Problem::new(Code::Unauthenticated, format!("id_token: {reason}"))
        };
        let header = id_token::header(token).map_err(refuse)?;
        let key = |known: &Known| -> Option<Jwk> { id_token::key(&header, &known.keys).cloned() };
        let found = match key(&self.known(provider, FRESH).await?) {
            Some(key) => Some(key),
            // It may be newer than what we know.
            None => key(&self.known(provider, PATIENCE).await?),
        };
        let found = found.ok_or_else(|| refuse("is signed with no key of the provider's"))?;
        id_token::verify(token, &header, &found, provider, nonce, self.clock.wall()).map_err(refuse)
    }

    /// What is known of the provider, no older than that; asked for by one at a time.
    async fn known(&self, provider: &Provider, age: u64) -> Result<Known, Problem> {
        let place = {
            let mut known = self.known.lock().await;
            if known.len() >= REMEMBERED && !known.contains_key(&provider.issuer) {
                known.clear();
            }
            known.entry(provider.issuer.clone()).or_default().clone()
        };
        let mut known = place.lock().await;
        if let Some(known) = known.as_ref().filter(|known| self.clock.monotonic().since(known.since) < age) {
            return Ok(known.clone());
        }
        let found = self.ask(provider).await?;
        *known = Some(found.clone());
        Ok(found)
    }

    async fn ask(&self, provider: &Provider) -> Result<Known, Problem> {
        let url = format!("{}/.well-known/openid-configuration", provider.issuer.trim_end_matches('/'));
        let published: Published = read(provider, self.fetch.get(&url).await)?;
        // Section 4.3: or else somebody could describe another's provider.
        if published.issuer != *provider.issuer || permitted(&published.authorization_endpoint).is_err() {
            return Err(unavailable(provider, "its description is not of this issuer, or leads nowhere"));
        }
        let keys: JwkSet = read_keys(provider, self.fetch.get(&published.jwks_uri).await)?;
        let published = Arc::new(published);
        Ok(Known { published, keys: Arc::new(keys), since: self.clock.monotonic() })
    }
}

fn read<T: DeserializeOwned>(provider: &Provider, answer: Result<Vec<u8>, FetchError>) -> Result<T, Problem> {
    let body = answer.map_err(|error| unavailable(provider, &error.to_string()))?;
    // What serde says may repeat what it has read.
    serde_json::from_slice(&body).map_err(|_| unavailable(provider, "its answer cannot be read"))
}

/// A key set, without the keys of kinds that are not known here (RFC 7517, section 5).
fn read_keys(provider: &Provider, answer: Result<Vec<u8>, FetchError>) -> Result<JwkSet, Problem> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<serde_json::Value>,
    }
    let Keys { keys } = read(provider, answer)?;
    Ok(JwkSet { keys: keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect() })
}

fn unavailable(provider: &Provider, why: &str) -> Problem {
    tracing::warn!(provider = %provider.name, why, "an identity provider does not do what it should");
    Problem::new(Code::Unavailable, "the identity provider cannot be asked at the moment")
}
