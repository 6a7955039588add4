//! Keys: those that users' tokens are signed with, and those that back ends show.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use xpush_core::ports::directory::{
    ApiKeyRecord, AppRecord, Entry, Expected, Key, KeyRecord, Listing, Record, Scope,
};
use xpush_core::{ApiKeyId, App, Code, Problem, UnixMillis};

use super::{Act, Actor, Administration, Found, Match, Refused};
use crate::access::usable;
use crate::api_key::{self, Fresh};

/// API keys of an app.
const MOST: usize = 100;

/// Signing keys of an app.
const MOST_SIGNING: usize = 32;

/// How long a secret stays good beside its successor, when nothing is said; in seconds.
pub const GRACE: u64 = 86_400;

/// The longest, in seconds: 30 days.
pub const LONGEST_GRACE: u64 = 30 * 86_400;

/// Bytes of a secret that is made here.
const SECRET: usize = 48;

/// A secret for HS256.
pub(crate) fn fresh_secret() -> Result<String, Problem> {
    let mut bytes = [0; SECRET];
    getrandom::fill(&mut bytes).map_err(|_| Code::Internal)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Administration {
    /// Adds a key that users' tokens may be signed with. Without `id` it is called `key-1`, `key-2`, …
    pub async fn add_signing_key(
        &self,
        actor: &Actor,
        app: &App,
        wanted: Match,
        (id, algorithm, material): (Option<&str>, &str, &str),
        note: Option<&str>,
    ) -> Result<(Found, Box<str>), Refused> {
        let named = |record: &AppRecord| match id {
            Some(id) => id.to_owned(),
            None => (1..).map(|n| format!("key-{n}")).find(|id| !has(record, id)).unwrap_or_default(),
        };
        let added = std::sync::Mutex::new(String::new());
        let add = |found: &Found| {
            let mut record = found.record.clone();
            let id = named(&record);
            if id.is_empty() || id.len() > 64 || id == "xpush" || id.chars().any(char::is_control) {
                return Err(wrong("id: must have 1 to 64 bytes, and not be `xpush`").into());
            }
            if has(&record, &id) {
                return Err(Problem::new(Code::Conflict, format!("there is a key `{id}` already")).into());
            }
            if record.keys.len() >= MOST_SIGNING {
                let detail = format!("an app has at most {MOST_SIGNING} signing keys");
                return Err(Problem::new(Code::Full, detail).into());
            }
            let key = KeyRecord {
                id: id.as_str().into(),
                algorithm: algorithm.into(),
                material: material.into(),
                created_at: self.now(),
            };
            usable(&key).map_err(|why| wrong(&format!("the key cannot be used: {why}")))?;
            record.keys.push(key);
            if let Ok(mut added) = added.lock() {
                *added = id;
            }
            Ok(record)
        };
        let found = self.change_app(actor, app, wanted, ("signing_key.add", None, note), add).await?;
        let id = added.into_inner().unwrap_or_default();
        Ok((found, id.into()))
    }

    /// Removes a key: its tokens are good no more.
    pub async fn remove_signing_key(
        &self,
        actor: &Actor,
        app: &App,
        wanted: Match,
        id: &str,
        note: Option<&str>,
    ) -> Result<Found, Refused> {
        let remove = |found: &Found| {
            let mut record = found.record.clone();
            record.keys.retain(|key| *key.id != *id);
            match record.keys.len() == found.record.keys.len() {
                true => Err(Code::NotFound.into()),
                false => Ok(record),
            }
        };
        self.change_app(actor, app, wanted, ("signing_key.remove", Some(id.to_owned()), note), remove).await
    }

    /// An app's API keys.
    pub async fn api_keys(&self, app: &App) -> Result<Vec<(ApiKeyId, ApiKeyRecord)>, Refused> {
        let keys = self.0.store.all(&Listing::ApiKeys(app.clone())).await?;
        Ok(keys
            .into_iter()
            .filter_map(|entry| match entry {
                Entry { key: Key::ApiKey(_, id), record: Record::ApiKey(record), .. } => Some((id, *record)),
                _ => None,
            })
            .collect())
    }

    /// Makes an API key.
    pub async fn create_api_key(
        &self,
        actor: &Actor,
        app: &App,
        name: Option<Box<str>>,
        scopes: &[Scope],
        expires_at: Option<UnixMillis>,
    ) -> Result<Fresh, Refused> {
        let scopes: Vec<Scope> = Scope::EACH.into_iter().filter(|scope| scopes.contains(scope)).collect();
        if scopes.is_empty() {
            return Err(wrong("scopes: must name at least one").into());
        }
        if self.0.store.page(&Listing::ApiKeys(app.clone()), None, MOST).await?.len() >= MOST {
            return Err(Problem::new(Code::Full, format!("an app has at most {MOST} API keys")).into());
        }
        let fresh = api_key::issue(app, name, scopes, expires_at, self.now())?;
        let act = of_key("api_key.create", app, &fresh.id, None, Some(&fresh.record));
        let make = async {
            let key = Key::ApiKey(app.clone(), fresh.id.clone());
            let to = Some(Record::ApiKey(Box::new(fresh.record.clone())));
            match self.0.store.apply(key, Expected::Absent, to).await? {
                true => Ok(()),
                false => Err(Refused::from(Code::Conflict)),
            }
        };
        self.audited(actor, act, make).await?;
        Ok(fresh)
    }

    /// Gives an API key another secret; the one before stays good for `grace` seconds.
    pub async fn rotate_api_key(
        &self,
        actor: &Actor,
        app: &App,
        id: &ApiKeyId,
        grace: u64,
    ) -> Result<Fresh, Refused> {
        if grace > LONGEST_GRACE {
            return Err(wrong("grace: must be 30 days at most, in seconds").into());
        }
        let now = self.now();
        let text = std::sync::Mutex::new(String::new());
        let rotate = |record: &mut ApiKeyRecord| {
            if !api_key::holds(record, now) {
                return Err(Refused::from(Code::NotFound));
            }
            let made = api_key::rotate(record, app, id, now, grace * 1_000)?;
            if let Ok(mut text) = text.lock() {
                *text = made;
            }
            Ok(())
        };
        let record = self.change_api_key(actor, "api_key.rotate", app, id, rotate).await?;
        Ok(Fresh { id: id.clone(), record, text: text.into_inner().unwrap_or_default() })
    }

    /// Lets an API key open nothing any more.
    pub async fn revoke_api_key(
        &self,
        actor: &Actor,
        app: &App,
        id: &ApiKeyId,
    ) -> Result<ApiKeyRecord, Refused> {
        let now = self.now();
        let revoke = |record: &mut ApiKeyRecord| {
            record.revoked_at.get_or_insert(now);
            Ok(())
        };
        self.change_api_key(actor, "api_key.revoke", app, id, revoke).await
    }

    async fn change_api_key(
        &self,
        actor: &Actor,
        what: &'static str,
        app: &App,
        id: &ApiKeyId,
        edit: impl Fn(&mut ApiKeyRecord) -> Result<(), Refused>,
    ) -> Result<ApiKeyRecord, Refused> {
        let key = Key::ApiKey(app.clone(), id.clone());
        let Some(Entry { record: Record::ApiKey(before), .. }) = self.0.store.get(&key).await? else {
            return Err(Code::NotFound.into());
        };
        let mut after = (*before).clone();
        edit(&mut after)?;
        let act = of_key(what, app, id, Some(&before), Some(&after));
        let change = async {
            let mut made = Err(Refused::from(Code::NotFound));
            self.0
                .store
                .change(&key, |record| {
                    let Some(Record::ApiKey(record)) = record else { return None };
                    let mut record = (**record).clone();
                    made = edit(&mut record).map(|()| record.clone());
                    made.is_ok().then(|| Record::ApiKey(Box::new(record)))
                })
                .await?;
            made
        };
        self.audited(actor, act, change).await
    }
}

fn has(record: &AppRecord, id: &str) -> bool {
    record.keys.iter().any(|key| *key.id == *id)
}

fn wrong(detail: &str) -> Problem {
    Problem::new(Code::BadField, detail)
}

fn of_key<'a>(
    what: &'static str,
    app: &'a App,
    id: &ApiKeyId,
    before: Option<&ApiKeyRecord>,
    after: Option<&ApiKeyRecord>,
) -> Act<'a> {
    let told = |record: &ApiKeyRecord| -> Map<String, Value> {
        let scopes: Vec<_> = record.scopes.iter().map(|scope| scope.as_str()).collect();
        let told = json!({
            "name": record.name, "scopes": scopes, "expires_at": record.expires_at, "revoked_at": record.revoked_at,
            "rotated_at": record.rotated_at, "secret": "…",
        });
        told.as_object().cloned().unwrap_or_default()
    };
    let (mut before, mut after) = (before.map(told), after.map(told));
    if let (Some(before), Some(after)) = (&mut before, &mut after) {
        let same: Vec<String> = before
            .iter()
            .filter(|(name, value)| after.get(*name) == Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in same {
            before.remove(&name);
            after.remove(&name);
        }
    }
    Act { what, app: Some(app), target: Some(id.to_string()), before, after, ..Act::default() }
}

/// An API key as it is shown, without its secret.
pub fn shown(id: &ApiKeyId, record: &ApiKeyRecord) -> Value {
    let some = |at: u64| Some(at).filter(|at| *at > 0);
    json!({
        "id": id,
        "name": record.name,
        "scopes": record.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "created_at": record.created_at,
        "rotated_at": some(record.rotated_at),
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "used_at": some(record.used_at),
    })
}
