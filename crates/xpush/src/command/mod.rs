//! Commands for operators, one file a group. Most work on the data folder's store, beside a running server, which follows the changes.

pub(crate) mod admin;
mod api_key;
pub(crate) mod app;
pub(crate) mod audit;
mod contents;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod epoch;
mod hooks;
pub(crate) mod member;
pub(crate) mod migrate;
pub(crate) mod nodes;
pub(crate) mod ring;
pub(crate) mod rule;
mod terminal;
pub(crate) mod token;
pub(crate) mod user;

use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use xpush_core::ports::directory::{AppRecord, Change, Directory, Entry, Expected, Key, Listing, Record};
use xpush_core::ports::{self, Done, Failure};
use xpush_core::{App, UnixMillis, User};
use xpush_session::administration::{self, Act, Actor, Administration, Refused};
use xpush_session::erasure;

use crate::backends;
use crate::cli::{Site, say};
use crate::config::{OPERATORS, Settings, Spoken, nearest};
use crate::serve;

/// Entries read at a time.
const PAGE: usize = 1_000;

/// How often a change is tried anew when somebody else was faster.
const TRIES: usize = 16;

/// What a command tells: what it was asked for, or why not.
type Told = Result<String, String>;

/// What a server keeps, in its data folder or in what it shares with others, and its configuration.
struct Installation {
    settings: Settings,
    kept: erasure::Parts,
    directory: Arc<dyn Directory>,
}

/// Runs a command: its answer goes to stdout, a refusal to stderr.
pub(crate) fn run(command: impl FnOnce() -> Told) -> ExitCode {
    match command() {
        Ok(answer) => say(&answer),
        Err(why) => {
            note(format_args!("xpush: {why}"));
            ExitCode::FAILURE
        }
    }
}

impl Installation {
    /// Of a folder that is there already.
    fn open(site: &Site) -> Result<Self, String> {
        let settings = settings(site)?;
        if settings.shared.is_none() && !backends::store_file(&settings.data_dir).exists() {
            return Err(format!(
                "there is no data in {}: name the server's folder by --data-dir, or run this where it starts",
                settings.data_dir.display()
            ));
        }
        Self::of(settings)
    }

    /// Makes the folder when there is none: the server need not have been started yet.
    fn open_or_make(site: &Site) -> Result<Self, String> {
        let settings = settings(site)?;
        if settings.shared.is_none() && !backends::store_file(&settings.data_dir).exists() {
            serve::prepare_data_dir(&settings.data_dir)?;
            note(format_args!("begins a new store in {}", settings.data_dir.display()));
        }
        Self::of(settings)
    }

    fn of(settings: Settings) -> Result<Self, String> {
        let kept = backends::kept(&settings)?;
        Ok(Self { settings, directory: kept.directory.clone(), kept })
    }

    /// What changes apps, keys and users: by it every change has its version and its entry in the audit log.
    fn administration(&self) -> Administration {
        let apps = self.settings.apps.iter();
        Administration::new(administration::Parts {
            directory: self.directory.clone(),
            language: Arc::new(Spoken),
            configured: apps.map(|app| (app.name.clone(), app.wherever_it_listens())).collect(),
            clock: backends::clock(),
        })
    }

    /// Does something by it, as whoever works at this command line.
    fn administer<T, F: Future<Output = Result<T, Refused>>>(
        &self,
        work: impl FnOnce(Administration, Actor) -> F,
    ) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let done = runtime.block_on(work(self.administration(), Actor::command_line()));
        done.map_err(|refused| refused.to_string())
    }

    fn get(&self, key: &Key) -> Result<Option<Entry>, String> {
        wait(|done| self.directory.get(key, done))
    }

    /// Everything of a listing.
    fn all(&self, listing: &Listing) -> Result<Vec<Entry>, String> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.key.clone());
            let page = wait(|done| self.directory.page(listing, after, PAGE, done))?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Makes an entry; whether there was none.
    fn make(&self, key: Key, record: Record) -> Result<bool, String> {
        self.apply(key, Expected::Absent, Some(record))
    }

    /// Whether what was expected held.
    fn apply(&self, key: Key, expected: Expected, to: Option<Record>) -> Result<bool, String> {
        match ports::wait(|done| self.directory.apply(Change { key, expected, to }, done)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Failure::Conflict => Ok(false),
            Err(error) => Err(error.detail.into()),
        }
    }

    /// The app that is named, or the default one.
    fn app(&self, named: Option<&str>) -> Result<App, String> {
        let Some(name) = named else {
            return self.settings.default_app.clone().ok_or_else(|| "which app? Say --app NAME".to_owned());
        };
        let app = app_name(name)?;
        if name == OPERATORS || self.record(&app)?.is_some() {
            return Ok(app);
        }
        let live = self.all(&Listing::Apps)?;
        let live = live.iter().filter_map(|entry| match &entry.key {
            Key::App(app) => Some(app.as_str()),
            _ => None,
        });
        let known = live.chain(self.settings.apps.iter().map(|app| app.name.as_str()));
        let meant = nearest(name, known).map(|name| format!("; did you mean `{name}`?"));
        Err(format!("there is no app `{name}`{}", meant.unwrap_or_default()))
    }

    /// An app as it was set up live, else as the configuration has it.
    fn record(&self, app: &App) -> Result<Option<AppRecord>, String> {
        if let Some(Entry { record: Record::App(record), .. }) = self.get(&Key::App(app.clone()))? {
            return Ok(Some(*record));
        }
        let configured = self.settings.apps.iter().find(|configured| configured.name == *app);
        Ok(configured.map(|app| app.record.clone()))
    }
}

/// Has the audit log tell of what was done with servers or with the whole store. It is done whether or not the log can be written: then that is said.
fn noted(site: &Site, what: &'static str, target: Option<&str>) {
    let note_it = || {
        let (loaded, _) = serve::load(&site.options())?;
        Installation::of(loaded.settings)?.administer(async |administration, actor| {
            let act = Act { what, target: target.map(Into::into), ..Act::default() };
            administration.note(&actor, act, None).await;
            Ok(())
        })
    };
    if let Err(why) = note_it() {
        note(format_args!("warning: it is not in the audit log: {why}"));
    }
}

/// Says something that is not the answer.
#[expect(clippy::print_stderr, reason = "commands for operators talk to people")]
fn note(text: fmt::Arguments<'_>) {
    eprintln!("{text}");
}

fn settings(site: &Site) -> Result<Settings, String> {
    let (loaded, _) = serve::load(&site.options())?;
    for warning in loaded.warnings {
        note(format_args!("warning: {warning}"));
    }
    Ok(loaded.settings)
}

fn wait<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Result<T, String> {
    ports::wait(call).map_err(|error| error.detail.into())
}

fn now() -> UnixMillis {
    backends::clock().wall()
}

/// Bytes that nobody can guess.
fn chance<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no randomness: {error}"))?;
    Ok(bytes)
}

fn app_name(name: &str) -> Result<App, String> {
    App::new(name).map_err(|_| "an app's name has 1 to 64 letters, digits, `-` or `_`".to_owned())
}

fn user_name(name: &str) -> Result<User, String> {
    User::new(name).map_err(|_| "a user's id has 1 to 128 bytes, none of them a control character".to_owned())
}

/// Rows with their columns below each other.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// JSON for people and programs.
fn json(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
