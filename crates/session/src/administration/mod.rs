//! Apps, keys and users, changed while servers run: one path for the page, the HTTP API and the command line, so that every change has a version and an entry in the audit log.

mod apps;
mod audit;
mod keys;
mod members;
mod preview;
mod users;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use xpush_core::ports::directory::{AppRecord, Directory, Outcome, Stamp, Via};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{App, Clock, Code, Problem, UnixMillis, User};

use crate::api::Caller;
use crate::store::Store;

pub use apps::{Found, Hidden, Match, Version, created_with};
pub use audit::{Act, Asked as LogAsked, Page, shown as shown_audit};
pub(crate) use keys::fresh_secret;
pub use keys::{GRACE, LONGEST_GRACE, shown as shown_api_key};
pub(crate) use members::{entry as members_entry, without as without_member};
pub use preview::{Question, answer as preview};
pub(crate) use users::is_operator;
pub use users::{Before, Wanted};

/// The configuration's language, in which apps are shown and said.
pub trait Language: Send + Sync {
    /// An app as a JSON object, without its secrets.
    fn write(&self, record: &AppRecord) -> Value;
    /// What an object says of an app. Secrets that it does not say are taken from `before`, where name and URL are the same.
    fn read(&self, app: &App, before: &AppRecord, settings: &Value) -> Result<AppRecord, Vec<Complaint>>;
    /// An app of which nothing is said.
    fn usual(&self) -> AppRecord;
}

/// Something wrong in what is said of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Where: `rules.2.history`; empty when it is the whole.
    pub path: String,
    /// What; quotes no secret.
    pub message: String,
}

/// Who changes something.
#[derive(Debug, Clone)]
pub struct Actor {
    /// An operator's name, an API key's id, or a user of the operating system.
    pub by: Box<str>,
    /// What an API key is called.
    pub name: Option<Box<str>>,
    /// By which way.
    pub via: Via,
    /// From which address.
    pub address: Option<IpAddr>,
}

/// Why something was not done. Nothing was changed, unless it is [`Failure::Unknown`].
#[derive(Debug)]
pub enum Refused {
    /// By the table of errors.
    Problem(Problem),
    /// Settings that cannot work.
    Complaints(Vec<Complaint>),
    /// Somebody else was faster: what there is now.
    Overtaken(Box<Found>),
    /// The store could not.
    Store(PortError),
}

/// What [`Administration`] stands on.
pub struct Parts {
    /// Where apps, users and the log are kept.
    pub directory: Arc<dyn Directory>,
    /// In which settings are said.
    pub language: Arc<dyn Language>,
    /// The apps of the configuration file.
    pub configured: Vec<(App, AppRecord)>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Changes apps, keys and users. Cheap to clone.
#[derive(Clone)]
pub struct Administration(Arc<Inner>);

struct Inner {
    store: Store,
    language: Arc<dyn Language>,
    configured: Vec<(App, AppRecord)>,
    clock: Arc<dyn Clock>,
}

impl Administration {
    /// Over what `parts` name.
    pub fn new(parts: Parts) -> Self {
        let Parts { directory, language, configured, clock } = parts;
        Self(Arc::new(Inner { store: Store::new(directory), language, configured, clock }))
    }

    /// An app as it is shown, without secrets.
    pub fn written(&self, record: &AppRecord) -> Value {
        self.0.language.write(record)
    }

    /// In which settings are said.
    pub fn language(&self) -> &dyn Language {
        &*self.0.language
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.wall()
    }

    fn stamp(&self, actor: &Actor, note: Option<&str>) -> Stamp {
        let Actor { by, name, via, .. } = actor.clone();
        Stamp { at: self.now(), by, name, via, note: note.map(Into::into) }
    }

    /// What differs between two states of an app, setting by setting, without secrets.
    fn difference(&self, before: &AppRecord, after: &AppRecord) -> (Map<String, Value>, Map<String, Value>) {
        let (old, new) = (self.written(before), self.written(after));
        let (mut was, mut is) = (Map::new(), Map::new());
        let (old, new) = (old.as_object(), new.as_object());
        let names = old.into_iter().chain(new).flat_map(Map::keys);
        for name in names {
            let of = |side: Option<&Map<String, Value>>| side.and_then(|side| side.get(name)).cloned();
            let fresh = fresh_secrets(name, before, after);
            if of(old) != of(new) || !fresh.is_empty() {
                was.insert(name.clone(), of(old).unwrap_or(Value::Null));
                is.insert(name.clone(), marked(of(new).unwrap_or(Value::Null), &fresh));
            }
        }
        (was, is)
    }
}

/// Names of those within a setting that have another secret than before, or one that they had not.
fn fresh_secrets(setting: &str, before: &AppRecord, after: &AppRecord) -> Vec<Box<str>> {
    match setting {
        "hooks" => {
            let old = |name: &str| before.hooks.iter().find(|hook| *hook.name == *name);
            let is_fresh = |hook: &&xpush_core::hooks::HookRecord| {
                old(&hook.name).is_none_or(|old| old.secrets != hook.secrets)
            };
            after.hooks.iter().filter(is_fresh).map(|hook| hook.name.clone()).collect()
        }
        "keys" => {
            let is_known = |key: &xpush_core::ports::directory::KeyRecord| {
                before.keys.iter().any(|old| old.id == key.id && old.material == key.material)
            };
            after.keys.iter().filter(|key| !is_known(key)).map(|key| key.id.clone()).collect()
        }
        "oidc" => {
            let is_known = |one: &xpush_core::ports::directory::Provider| {
                before.oidc.iter().any(|old| old.name == one.name && old.client_secret == one.client_secret)
            };
            let fresh = after.oidc.iter().filter(|one| one.client_secret.is_some() && !is_known(one));
            fresh.map(|one| one.name.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Says of whom there is a new secret, and not which.
fn marked(mut value: Value, fresh: &[Box<str>]) -> Value {
    for item in value.as_array_mut().into_iter().flatten() {
        let name = item.get("name").or_else(|| item.get("id")).and_then(Value::as_str);
        if name.is_some_and(|name| fresh.iter().any(|fresh| **fresh == *name)) {
            item["secret"] = json!("…");
        }
    }
    value
}

impl Actor {
    /// A user: an operator, or as what an app's back end acts.
    pub(crate) fn user(user: &User, via: Via, caller: &Caller) -> Self {
        Self { by: user.as_str().into(), name: None, via, address: caller.address }
    }

    /// Whoever works at the machine's command line.
    pub fn command_line() -> Self {
        let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let name = name.filter(|name| !name.is_empty() && name.len() <= 128);
        Self { by: name.unwrap_or_else(|| "?".to_owned()).into(), name: None, via: Via::Cli, address: None }
    }
}

impl Refused {
    /// The error's code.
    pub fn code(&self) -> Code {
        match self {
            Self::Problem(problem) => problem.code,
            Self::Complaints(_) => Code::BadField,
            Self::Overtaken(_) => Code::Conflict,
            Self::Store(error) => error.code(),
        }
    }

    /// What came of it, as far as is known.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Store(error) if error.kind == Failure::Unknown => Outcome::Begun,
            _ => Outcome::Refused,
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Problem(problem) => f.write_str(problem.message()),
            Self::Complaints(complaints) => {
                for Complaint { path, message } in complaints {
                    writeln!(f, "{path}: {message}")?;
                }
                write!(f, "{} wrong", complaints.len())
            }
            Self::Overtaken(now) => {
                write!(f, "somebody else has changed it first: it has the revision {} now", now.revision)
            }
            Self::Store(error) => f.write_str(&error.detail),
        }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self::Problem(code.into())
    }
}

impl From<PortError> for Refused {
    fn from(error: PortError) -> Self {
        Self::Store(error)
    }
}

/// What is done with a user is told by its id.
fn of_user(user: &User) -> Option<User> {
    Some(user.clone())
}
