//! Apps: changed from one revision to the next, with the versions that they had.

use serde_json::{Map, Value};
use xpush_core::ports::directory::{
    AppRecord, DeletionRecord, Entry, Expected, Key, KeyRecord, Listing, Record, Stamp, VersionRecord,
};
use xpush_core::ports::erasure::Erasure;
use xpush_core::{App, Code, Problem};

use super::{Act, Actor, Administration, Refused};
use crate::access::OPERATORS;
use crate::files;
use crate::port::ask;

/// Versions of an app that are kept, beside the one that holds.
const KEPT: usize = 100;

/// How often a change that expects nothing is tried anew when others are faster.
const TRIES: usize = 16;

/// An app, as it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub app: App,
    /// What holds.
    pub record: AppRecord,
    /// 0: as the configuration has it.
    pub revision: u64,
    /// Whether it is set up live.
    pub live: bool,
    /// Whether the configuration has one of this name.
    pub in_file: bool,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found {{ {} at {} … }}", self.app, self.revision)
    }
}

/// Which revision a change is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Whichever there is.
    Any,
    /// This one.
    Revision(u64),
}

/// How an app was.
#[derive(Debug, Clone)]
pub struct Version {
    /// By which it is found.
    pub revision: u64,
    /// Whether it is the one that holds.
    pub current: bool,
    /// What it said, and who had made it so.
    pub record: VersionRecord,
}

/// An app of the configuration that is set up live: what the configuration says of it has no effect.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// Its name.
    pub app: App,
    /// Who has set it up so, as far as that is noted.
    pub changed: Option<Stamp>,
    /// The settings that differ.
    pub what: Vec<Box<str>>,
}

impl std::fmt::Display for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { app, changed, what } = self;
        write!(f, "the app `{app}` is live: what the configuration says of it has no effect")?;
        match what.len() {
            0 => write!(f, " (it says the same)")?,
            _ => write!(f, ", and differs in {}", what.join(", "))?,
        }
        if let Some(changed) = changed {
            write!(f, "; last changed by {changed}")?;
        }
        write!(
            f,
            ". `xpush app show {app}` shows what holds, `xpush app delete {app}` goes back to the configuration"
        )
    }
}

impl Found {
    fn key(&self) -> Key {
        Key::App(self.app.clone())
    }

    /// What must hold for it to be changed.
    fn expected(&self) -> Expected {
        if self.live { Expected::Revision(self.revision) } else { Expected::Absent }
    }

    fn check(&self, wanted: Match) -> Result<(), Refused> {
        match wanted {
            Match::Revision(revision) if revision != self.revision => {
                Err(Refused::Overtaken(Box::new(self.clone())))
            }
            _ => Ok(()),
        }
    }
}

impl Administration {
    /// An app that there is.
    pub async fn app(&self, app: &App) -> Result<Found, Refused> {
        self.find(app).await?.ok_or_else(|| Code::NotFound.into())
    }

    /// An app, if there is one.
    pub async fn find(&self, app: &App) -> Result<Option<Found>, Refused> {
        let configured = self.0.configured.iter().find(|(name, _)| name == app).map(|(_, record)| record);
        let in_file = configured.is_some();
        let found = |record, revision, live| Found { app: app.clone(), record, revision, live, in_file };
        Ok(match self.0.store.get(&Key::App(app.clone())).await? {
            Some(Entry { record: Record::App(record), revision, .. }) => Some(found(*record, revision, true)),
            _ => configured.map(|record| found(record.clone(), 0, false)),
        })
    }

    /// All apps, by name.
    pub async fn apps(&self) -> Result<Vec<Found>, Refused> {
        let live = self.0.store.all(&Listing::Apps).await?;
        let mut apps: Vec<Found> = Vec::new();
        for entry in live {
            let (Key::App(app), Record::App(record)) = (entry.key, entry.record) else { continue };
            let in_file = self.0.configured.iter().any(|(name, _)| *name == app);
            apps.push(Found { app, record: *record, revision: entry.revision, live: true, in_file });
        }
        for (app, record) in &self.0.configured {
            if apps.iter().all(|found| found.app != *app) {
                let (app, record) = (app.clone(), record.clone());
                apps.push(Found { app, record, revision: 0, live: false, in_file: true });
            }
        }
        apps.sort_by(|one, other| one.app.as_str().cmp(other.app.as_str()));
        Ok(apps)
    }

    /// Those of the configuration that are set up live.
    pub async fn hidden(&self) -> Result<Vec<Hidden>, Refused> {
        let mut hidden = Vec::new();
        for (app, configured) in &self.0.configured {
            let Some(Found { record, live: true, .. }) = self.find(app).await? else { continue };
            let what = self.difference(configured, &record).1;
            let what = what.into_iter().map(|(name, _)| name.into()).collect();
            hidden.push(Hidden { app: app.clone(), changed: record.changed.clone(), what });
        }
        Ok(hidden)
    }

    /// What an app would be after a change of some settings; `null` takes one away.
    pub fn with_settings(&self, found: &Found, changes: &Map<String, Value>) -> Result<AppRecord, Refused> {
        if changes.contains_key("keys") {
            return Err(Problem::new(Code::BadField, "keys: are added and removed one by one").into());
        }
        let mut settings = self.written(&found.record);
        if let Some(settings) = settings.as_object_mut() {
            for (name, value) in changes {
                match value {
                    Value::Null => settings.remove(name),
                    value => settings.insert(name.clone(), value.clone()),
                };
            }
        }
        self.0.language.read(&found.app, &found.record, &settings).map_err(Refused::Complaints)
    }

    /// Changes an app. One that only the configuration has is set up live from now on.
    pub async fn change_app(
        &self,
        actor: &Actor,
        app: &App,
        wanted: Match,
        (what, target, note): (&'static str, Option<String>, Option<&str>),
        edit: impl Fn(&Found) -> Result<AppRecord, Refused>,
    ) -> Result<Found, Refused> {
        not_our_own(app)?;
        for _ in 0..TRIES {
            let found = self.app(app).await?;
            found.check(wanted)?;
            let mut record = edit(&found)?;
            record.changed.clone_from(&found.record.changed);
            if record == found.record && found.live {
                return Ok(found);
            }
            record.changed = Some(self.stamp(actor, note));
            self.keep_version(&found).await?;
            let (before, after) = self.difference(&found.record, &record);
            let target = target.clone();
            let act = Act {
                what,
                app: Some(app),
                target,
                before: Some(before),
                after: Some(after),
                note,
                ..Act::default()
            };
            let to = Record::App(Box::new(record));
            let change = async {
                match self.0.store.apply(found.key(), found.expected(), Some(to)).await? {
                    true => Ok(()),
                    false => Err(Refused::from(Code::Conflict)),
                }
            };
            match self.audited(actor, act, change).await {
                Ok(()) => {
                    self.forget_old_versions(app).await?;
                    return self.app(app).await;
                }
                Err(refused) if refused.code() == Code::Conflict && wanted == Match::Any => {}
                Err(refused) if refused.code() == Code::Conflict => {
                    return Err(Refused::Overtaken(Box::new(self.app(app).await?)));
                }
                Err(refused) => return Err(refused),
            }
        }
        Err(Code::Conflict.into())
    }

    /// Sets up an app that there was not.
    pub async fn create_app(
        &self,
        actor: &Actor,
        app: &App,
        record: AppRecord,
        note: Option<&str>,
    ) -> Result<Found, Refused> {
        not_our_own(app)?;
        let taken = || Problem::new(Code::Conflict, format!("there is an app `{app}` already"));
        if self.find(app).await?.is_some() {
            return Err(taken().into());
        }
        self.inherit_nothing(app).await?;
        let record = AppRecord { changed: Some(self.stamp(actor, note)), ..record };
        let (_, after) = self.difference(&AppRecord::default(), &record);
        let act = Act { what: "app.create", app: Some(app), after: Some(after), note, ..Act::default() };
        let make = async {
            let (key, to) = (Key::App(app.clone()), Record::App(Box::new(record)));
            match self.0.store.apply(key, Expected::Absent, Some(to)).await? {
                true => Ok(()),
                false => Err(Refused::from(taken())),
            }
        };
        self.audited(actor, act, make).await?;
        self.app(app).await
    }

    /// Removes an app that is set up live. When the configuration has one of its name, only the live settings go; otherwise everything that belongs to it, users
    /// and files included, but for messages, which nobody can reach any more. What is not gone by the end, and what a crash has left, goes by
    /// [`go_on_deleting`](Self::go_on_deleting). Whether it is as the configuration has it now.
    pub async fn delete_app(
        &self,
        actor: &Actor,
        app: &App,
        wanted: Match,
        note: Option<&str>,
        lasting: &dyn Erasure,
        files: Option<&files::Stores>,
    ) -> Result<bool, Refused> {
        not_our_own(app)?;
        let found = self.app(app).await?;
        found.check(wanted)?;
        if !found.live {
            return Err(Problem::new(
                Code::Conflict,
                "it stands in the configuration file only: there is nothing to delete",
            )
            .into());
        }
        self.keep_version(&found).await?;
        let (before, _) = self.difference(&found.record, &AppRecord::default());
        let act = Act { what: "app.delete", app: Some(app), before: Some(before), note, ..Act::default() };
        let remove = async {
            if !found.in_file {
                self.begin_deletion(app).await?;
            }
            if !self.0.store.apply(found.key(), found.expected(), None).await? {
                if !found.in_file {
                    self.0.store.remove(Key::Deletion(app.clone())).await?;
                }
                return Err(Refused::Overtaken(Box::new(self.app(app).await?)));
            }
            if !found.in_file
                && let Err(refused) = self.finish_deletion(app, lasting, files).await
            {
                tracing::warn!(%refused, %app, "not everything of an app that was deleted is gone; it goes on");
            }
            Ok(())
        };
        self.audited(actor, act, remove).await?;
        Ok(found.in_file)
    }

    async fn remove_belongings(&self, app: &App, lasting: &dyn Erasure) -> Result<(), Refused> {
        let store = &self.0.store;
        for entry in store.all(&Listing::Users(app.clone())).await? {
            let Key::User(_, user) = &entry.key else { continue };
            for listing in Listing::of_user(app, user) {
                store.clear(&listing).await?;
            }
            ask(|done| lasting.end(app, user, done)).await?;
            store.remove(entry.key).await?;
        }
        store.clear(&Listing::ApiKeys(app.clone())).await?;
        Ok(store.clear(&Listing::Versions(app.clone())).await?)
    }
}

// === deletions ===

/// For so long servers may not have heard that an app is deleted, in ms.
const HEARD: u64 = 10_000;

/// A deletion that has not removed its app after so long was cut short before it could, in ms.
const CUT_SHORT: u64 = 60_000;

/// Files that are removed while whoever deletes an app waits.
const WAITED_FOR: usize = 100;

impl Administration {
    /// Notes that an app is about to be deleted.
    async fn begin_deletion(&self, app: &App) -> Result<(), Refused> {
        let at = self.now();
        let record = DeletionRecord { at, before: at + HEARD, gone: false };
        self.0.store.apply(Key::Deletion(app.clone()), Expected::Any, Some(Record::Deletion(record))).await?;
        Ok(())
    }

    /// Removes what an app that is no more has left.
    async fn finish_deletion(
        &self,
        app: &App,
        lasting: &dyn Erasure,
        files: Option<&files::Stores>,
    ) -> Result<(), Refused> {
        self.remove_belongings(app, lasting).await?;
        let gone = match files {
            Some(files) => files.remove_of_app(app, u64::MAX, WAITED_FOR).await?,
            None => true,
        };
        if gone {
            let is_gone = |record: Option<&Record>| match record {
                Some(Record::Deletion(record)) => {
                    Some(Record::Deletion(DeletionRecord { gone: true, ..record.clone() }))
                }
                _ => None,
            };
            self.0.store.change(&Key::Deletion(app.clone()), is_gone).await?;
        }
        Ok(())
    }

    /// A new app has nothing of one that had its name: as long as there is something of that, there is none.
    async fn inherit_nothing(&self, app: &App) -> Result<(), Refused> {
        let key = Key::Deletion(app.clone());
        let Some(Entry { record: Record::Deletion(record), revision, .. }) = self.0.store.get(&key).await?
        else {
            return Ok(());
        };
        let now = self.now();
        let to = Record::Deletion(DeletionRecord { before: record.before.min(now), ..record.clone() });
        // Of another revision it is finished, or has begun anew.
        if record.gone && self.0.store.apply(key, Expected::Revision(revision), Some(to)).await? {
            return Ok(());
        }
        let why = format!("what the last app `{app}` had is still being deleted: try again in a moment");
        Err(Problem::new(Code::Conflict, why).into())
    }

    /// Goes on with deletions that were cut short, or have not come to their end. Several servers may do the same at the same time.
    pub async fn go_on_deleting(
        &self,
        lasting: &dyn Erasure,
        files: Option<&files::Stores>,
    ) -> Result<(), Refused> {
        for entry in self.0.store.all(&Listing::Deletions).await? {
            let (Key::Deletion(app), Record::Deletion(record)) = (&entry.key, &entry.record) else {
                continue;
            };
            let now = self.now();
            let ended = match record.gone {
                true => {
                    now > record.before.saturating_add(HEARD)
                        && match files {
                            Some(files) => files.remove_of_app(app, record.before, usize::MAX).await?,
                            None => true,
                        }
                }
                false if self.find(app).await?.is_some() => now > record.at.saturating_add(CUT_SHORT),
                false => {
                    self.finish_deletion(app, lasting, files).await?;
                    false
                }
            };
            if ended {
                // Who has begun it anew meanwhile goes on with it.
                self.0.store.apply(entry.key, Expected::Revision(entry.revision), None).await?;
            }
        }
        Ok(())
    }
}

// === versions ===

impl Administration {
    /// How an app was: the newest first, at most `limit` behind `after`.
    pub async fn versions(
        &self,
        found: &Found,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Version>, Refused> {
        let mut versions = Vec::new();
        if after.is_none() {
            versions.push(self.current(found).await?);
        }
        let behind = after.map(|revision| Key::Version(found.app.clone(), revision));
        let listing = Listing::Versions(found.app.clone());
        let more = self.0.store.page(&listing, behind, limit + 1).await?;
        versions.extend(more.into_iter().filter_map(|entry| version(found, entry)));
        versions.truncate(limit);
        Ok(versions)
    }

    /// One version of an app.
    pub async fn version(&self, found: &Found, revision: u64) -> Result<Version, Refused> {
        if revision == found.revision {
            return self.current(found).await;
        }
        let entry = self.0.store.get(&Key::Version(found.app.clone(), revision)).await?;
        entry.and_then(|entry| version(found, entry)).ok_or_else(|| Code::NotFound.into())
    }

    /// Makes an app what it was, but for its keys.
    pub async fn restore(
        &self,
        actor: &Actor,
        app: &App,
        wanted: Match,
        revision: u64,
        note: Option<&str>,
    ) -> Result<Found, Refused> {
        let version = self.version(&self.app(app).await?, revision).await?;
        let mut settings: Map<String, Value> = serde_json::from_str(&version.record.settings)
            .map_err(|_| Problem::new(Code::Internal, "the version cannot be read"))?;
        settings.remove("keys");
        let restored = |found: &Found| {
            let mut whole = settings.clone();
            if let Some(keys) = self.written(&found.record).get("keys") {
                whole.insert("keys".to_owned(), keys.clone());
            }
            let whole = Value::Object(whole);
            self.0.language.read(app, &found.record, &whole).map_err(Refused::Complaints)
        };
        self.change_app(actor, app, wanted, ("app.restore", Some(revision.to_string()), note), restored).await
    }

    async fn current(&self, found: &Found) -> Result<Version, Refused> {
        let settings = self.written(&found.record);
        // The newest that is kept is the one before.
        let listing = Listing::Versions(found.app.clone());
        let kept = self.0.store.page(&listing, None, 2).await?;
        let before = kept.into_iter().filter_map(|entry| version(found, entry));
        let before = before.into_iter().find(|version| !version.current);
        let what = match before {
            Some(before) => differing(&before.record.settings, &settings),
            None => Vec::new(),
        };
        let record = VersionRecord {
            changed: found.record.changed.clone(),
            what,
            settings: settings.to_string().into(),
        };
        Ok(Version { revision: found.revision, current: true, record })
    }

    /// Keeps what holds, before it is changed: a change whose author is cut short loses nothing.
    async fn keep_version(&self, found: &Found) -> Result<(), Refused> {
        let version = self.current(found).await?;
        let key = Key::Version(found.app.clone(), found.revision);
        let to = Some(Record::Version(Box::new(version.record)));
        // As the configuration has it may be something else by now.
        let expected = if found.live { Expected::Absent } else { Expected::Any };
        self.0.store.apply(key, expected, to).await?;
        Ok(())
    }

    async fn forget_old_versions(&self, app: &App) -> Result<(), Refused> {
        for entry in self.0.store.all(&Listing::Versions(app.clone())).await?.into_iter().skip(KEPT) {
            self.0.store.remove(entry.key).await?;
        }
        Ok(())
    }
}

fn version(found: &Found, entry: Entry) -> Option<Version> {
    let (Key::Version(_, revision), Record::Version(record)) = (entry.key, entry.record) else { return None };
    Some(Version { revision, current: revision == found.revision, record: *record })
}

/// The settings that differ.
fn differing(before: &str, after: &Value) -> Vec<Box<str>> {
    let before: Value = serde_json::from_str(before).unwrap_or_default();
    let names = [&before, after].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
    let mut names: Vec<Box<str>> =
        names.filter(|name| before.get(name) != after.get(name)).map(|name| name.as_str().into()).collect();
    names.sort();
    names.dedup();
    names
}

/// The record of a new app, with a fresh HS256 key unless it has keys, or none is wanted.
pub fn created_with(mut record: AppRecord, secret: Option<&str>, now: u64) -> AppRecord {
    for key in &mut record.keys {
        key.created_at = now;
    }
    record.keys.extend(secret.map(|secret| KeyRecord {
        id: "main".into(),
        algorithm: "HS256".into(),
        material: secret.into(),
        created_at: now,
    }));
    record
}

/// The operators' app is nobody's to change.
fn not_our_own(app: &App) -> Result<(), Refused> {
    match app.as_str() == OPERATORS {
        true => Err(Problem::new(Code::Conflict, "this app is XPUSH's own").into()),
        false => Ok(()),
    }
}
