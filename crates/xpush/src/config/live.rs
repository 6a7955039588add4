//! Apps in the configuration's language, outside of its file: how an app that is set up live is written, and read.

use serde_json::{Map, Value as Json, json};
use xpush_core::files::FileRule;
use xpush_core::hooks::{CallRecord, HookRecord, OnFailure};
use xpush_core::ports::directory::{Accounts, AppRecord, KeyRecord};
use xpush_core::{App, History, Permissions, Retention, Rule, Who};
use xpush_session::administration::{Complaint, Language};

use super::apps::read_live;
use super::section::Reading;
use super::tree::{self, Item, Place, Table, Value};
use super::values::{Millis, Size};
use super::{Files, Invalid};

/// Where an app's settings come from, the weakest first.
pub(crate) struct LiveApp<'a> {
    pub(crate) name: &'a App,
    /// What there is now: its secrets are kept where nothing else is said.
    pub(crate) before: &'a AppRecord,
    /// A file's name and text, TOML or JSON, in the place of what there is now.
    pub(crate) file: Option<(&'a str, &'a str)>,
    /// Single keys and their words.
    pub(crate) set: &'a [(String, String)],
}

impl LiveApp<'_> {
    /// Understands what was said.
    pub(crate) fn read(&self) -> Result<AppRecord, Invalid> {
        let here: Place = Place::Flag(format!("app {}", self.name).into());
        let (mut table, syntax) = match self.file {
            None => (as_table(&here, &written(self.before)), Vec::new()),
            Some((name, text)) if text.trim_start().starts_with('{') => {
                let place = Place::Flag(name.into());
                match serde_json::from_str(text) {
                    Ok(json) => (as_table(&place, &json), Vec::new()),
                    // Its words could quote a secret.
                    Err(error) => (Table::new(), vec![(place, format!("no JSON, in line {}", error.line()))]),
                }
            }
            Some((name, text)) => tree::parse(name, text),
        };
        if !syntax.is_empty() {
            return Err(Invalid(syntax));
        }
        for (key, words) in self.set {
            let path: Vec<_> = key.split('.').map(str::to_owned).collect();
            tree::set(
                &mut table,
                &path,
                tree::parse_words(&Place::Flag(format!("--set {key}").into()), words),
            );
        }
        self.understand(table, &here, Files::default())
    }

    /// Understands what was said; `files` are those that it names.
    fn understand(&self, mut table: Table, here: &Place, files: Files) -> Result<AppRecord, Invalid> {
        let kept = self.take_known_keys(&mut table);
        self.give_known_secrets(&mut table);
        let reading = Reading::with(files);
        let mut record = read_live(self.name, &table, here, &reading);
        let mut complaints = reading.finish().complaints;
        complaints.sort();
        if !complaints.is_empty() {
            return Err(Invalid(complaints));
        }
        record.keys.splice(0..0, kept);
        for provider in &mut record.oidc {
            let known = self
                .before
                .oidc
                .iter()
                .find(|known| known.name == provider.name && known.issuer == provider.issuer);
            if let (None, Some(known)) = (&provider.client_secret, known) {
                provider.client_secret.clone_from(&known.client_secret);
            }
        }
        Ok(record)
    }

    /// A hook without a secret keeps those that it has, as long as they go to the same place.
    fn give_known_secrets(&self, table: &mut Table) {
        let Some(Item { value: Value::List(items), .. }) = table.get_mut("hooks") else { return };
        for item in items {
            let Value::Table(hook) = &mut item.value else { continue };
            if ["secret", "secret_file"].iter().any(|key| hook.contains_key(*key)) {
                continue;
            }
            let text = |key: &str| match hook.get(key) {
                Some(Item { value: Value::Text(text), .. }) => Some(text.clone()),
                _ => None,
            };
            let (name, url) = (text("name").unwrap_or_else(|| "main".to_owned()), text("url"));
            let known = self
                .before
                .hooks
                .iter()
                .find(|known| *known.name == *name && url.as_deref() == Some(&*known.url));
            for (key, secret) in
                ["secret", "previous_secret"].into_iter().zip(known.iter().flat_map(|known| &known.secrets))
            {
                if !hook.contains_key(key) {
                    let value = Value::Text(secret.to_string());
                    hook.insert(key.to_owned(), Item { value, place: item.place.clone() });
                }
            }
        }
    }

    /// Keys that are only named stay as they are.
    fn take_known_keys(&self, table: &mut Table) -> Vec<KeyRecord> {
        let mut kept = Vec::new();
        let Some(Item { value: Value::List(items), .. }) = table.get_mut("keys") else { return kept };
        items.retain(|item| {
            let Value::Table(key) = &item.value else { return true };
            let material =
                ["secret", "secret_file", "public_key_file"].iter().any(|name| key.contains_key(*name));
            let Some(Item { value: Value::Text(id), .. }) = key.get("id") else { return true };
            let known = self.before.keys.iter().find(|known| *known.id == **id);
            match known {
                Some(known) if !material => {
                    kept.push(known.clone());
                    false
                }
                _ => true,
            }
        });
        kept
    }
}

/// The configuration's language as the administration speaks it, in JSON.
pub(crate) struct Spoken;

impl Language for Spoken {
    fn write(&self, record: &AppRecord) -> Json {
        written(record)
    }

    fn read(&self, app: &App, before: &AppRecord, settings: &Json) -> Result<AppRecord, Vec<Complaint>> {
        // Whoever asks is elsewhere: what this machine has in its files is nothing to be named.
        let files = Files(|_| Err(std::io::Error::other("files are named in a configuration file only")));
        let live = LiveApp { name: app, before, file: None, set: &[] };
        let table = match value_at("", settings) {
            Value::Table(table) => table,
            _ => Table::new(),
        };
        live.understand(table, &Place::Flag("".into()), files).map_err(|Invalid(complaints)| {
            let own = format!("`apps.{app}.");
            let complaint = |(place, what): (Place, String)| Complaint {
                path: place.to_string(),
                message: what.replace(&own, "`").replace(&format!("[apps.{app}]"), "the app"),
            };
            complaints.into_iter().map(complaint).collect()
        })
    }

    fn usual(&self) -> AppRecord {
        AppRecord { rules: super::usual_rules(), ..AppRecord::default() }
    }
}

/// JSON of which each value's place is its path: `rules.2.history`.
fn value_at(path: &str, json: &Json) -> Value {
    let item = |name: &str, json: &Json| {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        Item { value: value_at(&path, json), place: Place::Flag(path.into()) }
    };
    match json {
        Json::Array(items) => Value::List(
            items.iter().enumerate().map(|(index, json)| item(&index.to_string(), json)).collect(),
        ),
        Json::Object(fields) => {
            Value::Table(fields.iter().map(|(key, json)| (key.clone(), item(key, json))).collect())
        }
        simple => as_value(&Place::Flag(path.into()), simple),
    }
}

/// An app in the configuration's language, without its secrets.
pub(crate) fn written(record: &AppRecord) -> Json {
    let accounts = match record.accounts {
        Accounts::Off => "off",
        Accounts::Invited => "invited",
        Accounts::Open => "open",
    };
    let keys = record.keys.iter().map(|key| json!({"id": key.id, "algorithm": key.algorithm}));
    let oidc = record.oidc.iter().map(|provider| {
        json!({
            "name": provider.name, "issuer": provider.issuer, "client_id": provider.client_id,
            "return_to": provider.return_to,
        })
    });
    let mut app = json!({
        "guests": record.guests,
        "accounts": accounts,
        "origins": record.origins,
        "recovery": record.recovery,
        "rules": record.rules.iter().map(|rule| written_rule(rule)).collect::<Vec<_>>(),
        "keys": keys.collect::<Vec<_>>(),
        "oidc": oidc.collect::<Vec<_>>(),
    });
    if !record.hooks.is_empty() {
        app["hooks"] = record.hooks.iter().map(written_hook).collect();
    }
    if !record.calls.is_empty() {
        let written = |call: &CallRecord| json!({"event": call.event, "channel": call.channel, "echo": call.echo, "join": call.join});
        app["calls"] = record.calls.iter().map(written).collect();
    }
    if !record.files.is_empty() {
        app["files"] = record.files.iter().map(written_files).collect();
    }
    if !record.limits.is_empty() {
        app["limits"] = json!(record.limits);
    }
    if let Some(url) = &record.jwks_url {
        app["jwks_url"] = json!(url);
    }
    app
}

fn written_files(rule: &FileRule) -> Json {
    let mut written =
        json!({"channels": rule.channels, "size": Size(rule.size).to_string(), "types": rule.types});
    if let Some(keep) = rule.keep_ms {
        written["keep"] = json!(Millis(keep).to_string());
    }
    if let Some(per_day) = rule.per_day {
        written["per_day"] = json!(Size(per_day).to_string());
    }
    written
}

fn written_hook(hook: &HookRecord) -> Json {
    let mut written = json!({
        "name": hook.name,
        "url": hook.url,
        "timeout": Millis(hook.timeout_ms).to_string(),
        "concurrency": hook.concurrency,
    });
    if !hook.events.is_empty() {
        written["events"] = hook.events.iter().map(|event| event.as_str()).collect();
    }
    if !hook.asks.is_empty() {
        written["asks"] = hook.asks.iter().map(|ask| ask.as_str()).collect();
        written["on_failure"] = json!(match hook.on_failure {
            OnFailure::Refuse => "refuse",
            OnFailure::Allow => "allow",
        });
    }
    if hook.api {
        written["api"] = json!(true);
    }
    if !hook.channels.is_empty() {
        written["channels"] = json!(hook.channels);
    }
    written
}

fn written_rule(rule: &Rule) -> Json {
    let Permissions { subscribe, publish, history, presence, moderate, invite, create } = &rule.permissions;
    let (kept, retention) = match &rule.history {
        History::None => ("none", None),
        History::Recent(retention) => ("recent", Some(retention)),
        History::Durable(retention) => ("durable", Some(retention)),
    };
    let mut written = json!({
        "channels": rule.pattern,
        "history": kept,
        "presence": rule.presence,
        "notify": rule.notify,
        "search": rule.search,
    });
    for (key, who) in [
        ("subscribe", subscribe),
        ("publish", publish),
        ("read_history", history),
        ("see_presence", presence),
        ("moderate", moderate),
    ] {
        written[key] = words(who);
    }
    if rule.has_members() {
        written["invite"] = words(invite);
        written["create"] = words(create);
    }
    let keep = retention.map(written_keep).unwrap_or_default();
    if !keep.is_empty() {
        written["keep"] = Json::Object(keep);
    }
    written
}

fn written_keep(keep: &Retention) -> Map<String, Json> {
    let Retention { count, bytes, age_ms } = *keep;
    let mut written = Map::new();
    for (key, value, bounded) in [
        ("count", json!(count), count != Retention::ENDLESS.count),
        ("bytes", json!(bytes), bytes != Retention::ENDLESS.bytes),
        ("age", json!(Millis(age_ms).to_string()), age_ms != Retention::ENDLESS.age_ms),
    ] {
        if bounded {
            written.insert(key.to_owned(), value);
        }
    }
    written
}

fn words(who: &[Who]) -> Json {
    match who {
        [one] => json!(one.to_string()),
        several => several.iter().map(ToString::to_string).collect(),
    }
}

fn as_table(place: &Place, json: &Json) -> Table {
    match as_value(place, json) {
        Value::Table(table) => table,
        _ => Table::new(),
    }
}

fn as_value(place: &Place, json: &Json) -> Value {
    let item = |json| Item { value: as_value(place, json), place: place.clone() };
    match json {
        Json::Null => Value::Other("null"),
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => number.as_i64().map_or(Value::Other("a fraction"), Value::Integer),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(item).collect()),
        Json::Object(fields) => {
            Value::Table(fields.iter().map(|(key, value)| (key.clone(), item(value))).collect())
        }
    }
}
