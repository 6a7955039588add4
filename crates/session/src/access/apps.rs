//! The apps as they are now: those of the configuration, and over them those that were set up live.

use std::collections::HashMap;
use std::sync::Arc;

use xpush_core::access::Apps;
use xpush_core::hooks::AppHooks;
use xpush_core::ports::PortError;
use xpush_core::ports::directory::{Accounts, AppRecord, Directory, Entry, Key, Listing, Record};
use xpush_core::{App, AppSettings, Rules};

use super::keys::VerifyingKey;
use crate::port::ask;

/// Entries of a page.
const PAGE: usize = 100;

/// What the configuration says.
#[derive(Clone, Default)]
pub struct Configured {
    /// Apps; a live one of the same name wins.
    pub apps: Vec<(App, AppRecord)>,
    /// The app of a connection that names none.
    pub default_app: Option<App>,
}

/// The app of those who run this installation. It is always there, and has accounts, made by the set-up link or the command line, and no channels.
pub const OPERATORS: &str = "xpush";

/// All apps at one moment.
pub(super) struct Registry {
    pub(super) apps: Arc<Apps>,
    /// As they were set up.
    records: HashMap<App, Arc<AppRecord>>,
    keys: HashMap<App, Arc<AppKeys>>,
}

/// What an app's tokens are checked with.
#[derive(Default)]
pub(super) struct AppKeys {
    pub(super) own: Vec<Arc<VerifyingKey>>,
    pub(super) key_set: Option<Box<str>>,
    /// Whether XPUSH signs tokens for it: it has accounts, or users who sign in elsewhere.
    pub(super) accounts: bool,
}

impl Registry {
    /// Reads the live apps and lays them over the configured ones.
    pub(super) async fn load(configured: &Configured, directory: &dyn Directory) -> Result<Self, PortError> {
        let mut records: HashMap<App, AppRecord> = operators().into_iter().collect();
        records.extend(configured.apps.iter().cloned());
        let mut after = None;
        loop {
            let page = ask(|done| directory.page(&Listing::Apps, after, PAGE, done)).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|entry| entry.key.clone());
            records.extend(page.into_iter().filter_map(|entry| match entry {
                Entry { key: Key::App(app), record: Record::App(record), .. } => Some((app, *record)),
                _ => None,
            }));
            if last {
                return Ok(Self::new(records, configured.default_app.clone()));
            }
        }
    }

    fn new(records: HashMap<App, AppRecord>, default: Option<App>) -> Self {
        let mut keys = HashMap::new();
        let mut by_name = HashMap::new();
        for (app, record) in &records {
            keys.insert(app.clone(), Arc::new(AppKeys::of(app, record)));
            let settings = AppSettings {
                app: app.clone(),
                guests: record.guests,
                origins: record.origins.clone(),
                rules: Arc::new(record.rules.clone()),
                recovery: record.recovery,
                hooks: Arc::new(AppHooks { hooks: record.hooks.clone(), calls: record.calls.clone() }),
                limits: record.limits,
            };
            by_name.insert(app.clone(), Arc::new(settings));
        }
        let records = records.into_iter().map(|(app, record)| (app, Arc::new(record))).collect();
        Self { apps: Arc::new(Apps { by_name, default }), records, keys }
    }

    /// Everything that was set up for `app`.
    pub(super) fn record(&self, app: &App) -> Option<Arc<AppRecord>> {
        self.records.get(app).cloned()
    }

    /// What the tokens of `app` are checked with.
    pub(super) fn keys(&self, app: &App) -> Arc<AppKeys> {
        self.keys.get(app).cloned().unwrap_or_default()
    }

    /// Where key sets are published.
    pub(super) fn key_sets(&self) -> impl Iterator<Item = &str> {
        self.keys.values().filter_map(|keys| keys.key_set.as_deref())
    }
}

impl AppKeys {
    fn of(app: &App, record: &AppRecord) -> Self {
        let usable = |key| {
            VerifyingKey::from_record(key)
                .inspect_err(|why| tracing::warn!(%app, key = %key.id, why, "a key cannot be used"))
                .ok()
        };
        Self {
            own: record.keys.iter().filter_map(usable).map(Arc::new).collect(),
            key_set: record.jwks_url.clone(),
            accounts: record.accounts != Accounts::Off || !record.oidc.is_empty(),
        }
    }

    /// Whether there is anything that a token could be checked with.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.key_set.is_none() && !self.accounts
    }
}

fn operators() -> Option<(App, AppRecord)> {
    let record = AppRecord {
        guests: false,
        origins: Vec::new(),
        rules: Rules::default(),
        keys: Vec::new(),
        jwks_url: None,
        accounts: Accounts::Invited,
        oidc: Vec::new(),
        ..AppRecord::default()
    };
    Some((App::new(OPERATORS).ok()?, record))
}
