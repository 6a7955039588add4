//! The audit log: who did what. An entry is written before what it tells of, and completed after it.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};
use xpush_core::ports::PortError;
use xpush_core::ports::directory::{AuditRecord, Expected, Key, Listing, Outcome, Record};
use xpush_core::{App, UnixMillis, User};

use super::{Actor, Administration, Refused};

/// Entries that one question may look through.
const LOOKED_THROUGH: usize = 5_000;

/// Entries of a page of the store.
const PAGE: usize = 200;

/// Numbers the entries of one process, so that those of the same ms have an order.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What is done.
#[derive(Debug, Default)]
pub struct Act<'a> {
    /// `app.change`, `sign_in`, …
    pub what: &'static str,
    /// In which app.
    pub app: Option<&'a App>,
    /// With what.
    pub target: Option<String>,
    /// With whom.
    pub user: Option<User>,
    /// What differs, as it is.
    pub before: Option<Map<String, Value>>,
    /// What differs, as it is to be.
    pub after: Option<Map<String, Value>>,
    /// Why, in the words of who does it.
    pub note: Option<&'a str>,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// In this app.
    pub app: Option<App>,
    /// By this one.
    pub by: Option<String>,
    /// Of this kind; what ends with `.` is the beginning of kinds.
    pub what: Option<String>,
    /// From this moment on, ms since 1970.
    pub from: Option<UnixMillis>,
    /// Until this moment, included.
    pub to: Option<UnixMillis>,
    /// Behind this entry.
    pub after: Option<Box<str>>,
    /// So many.
    pub limit: usize,
}

/// Entries, the newest first.
#[derive(Debug, Default)]
pub struct Page {
    /// By id.
    pub entries: Vec<(Box<str>, AuditRecord)>,
    /// There may be more behind this one.
    pub after: Option<Box<str>>,
}

impl Administration {
    /// Does something, with an entry of the log before and after it.
    pub(crate) async fn audited<T, E>(
        &self,
        actor: &Actor,
        act: Act<'_>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E>
    where
        E: From<PortError> + Told,
    {
        let (id, mut record) = (self.audit_id(), self.begun(actor, act));
        let key = Key::Audit(id);
        let written = |record: &AuditRecord| Some(Record::Audit(Box::new(record.clone())));
        self.0.store.apply(key.clone(), Expected::Absent, written(&record)).await?;
        let done = work.await;
        let (outcome, code) = match &done {
            Ok(_) => (Outcome::Done, None),
            Err(error) => (error.outcome(), Some(error.code().as_str())),
        };
        (record.outcome, record.code) = (outcome, code.map(Into::into));
        // What has been done cannot be undone for want of a word about it: that it was begun is written.
        if let Err(error) = self.0.store.apply(key, Expected::Any, written(&record)).await {
            tracing::warn!(%error, what = %record.what, "an entry of the audit log stays unfinished");
        }
        done
    }

    /// Notes what has happened already.
    pub async fn note(&self, actor: &Actor, act: Act<'_>, refused: Option<xpush_core::Code>) {
        let mut record = self.begun(actor, act);
        record.outcome = if refused.is_some() { Outcome::Refused } else { Outcome::Done };
        record.code = refused.map(|code| code.as_str().into());
        let what = record.what.clone();
        let to = Some(Record::Audit(Box::new(record)));
        if let Err(error) = self.0.store.apply(Key::Audit(self.audit_id()), Expected::Absent, to).await {
            tracing::warn!(%error, %what, "an entry is missing in the audit log");
        }
    }

    fn begun(&self, actor: &Actor, act: Act<'_>) -> AuditRecord {
        let Act { what, app, target, user, before, after, note } = act;
        let text = |object: Option<Map<String, Value>>| {
            object.filter(|object| !object.is_empty()).map(|object| Value::Object(object).to_string().into())
        };
        AuditRecord {
            stamp: self.stamp(actor, note),
            app: app.cloned(),
            what: what.into(),
            target: target.map(Into::into),
            user,
            before: text(before),
            after: text(after),
            outcome: Outcome::Begun,
            code: None,
            address: actor.address.map(|address| address.to_string().into()),
        }
    }

    /// The newest has the smallest.
    fn audit_id(&self) -> Box<str> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut chance = [0; 4];
        // Without randomness two processes could meet in one ms and number, and one of them be refused.
        let _ = getrandom::fill(&mut chance);
        format!("{:016x}-{:08x}-{:08x}", !self.now(), !number, u32::from_be_bytes(chance)).into()
    }

    /// Entries of the log.
    pub async fn audit(&self, asked: &Asked) -> Result<Page, PortError> {
        let listing = match &asked.app {
            Some(app) => Listing::AuditOf(app.clone()),
            None => Listing::Audit,
        };
        // Behind everything that is later than `to`.
        let later = asked.to.map(|to| Box::from(format!("{:016x}", !to)));
        let mut after = asked.after.clone().max(later);
        let mut page = Page::default();
        for _ in 0..LOOKED_THROUGH / PAGE {
            let behind = after.clone().map(Key::Audit);
            let entries = self.0.store.page(&listing, behind, PAGE).await?;
            let last = entries.len() < PAGE;
            for entry in entries {
                let (Key::Audit(id), Record::Audit(record)) = (entry.key, entry.record) else { continue };
                if asked.from.is_some_and(|from| record.stamp.at < from) {
                    return Ok(page);
                }
                after = Some(id.clone());
                if asked.wants(&record) {
                    page.entries.push((id, *record));
                    if page.entries.len() >= asked.limit {
                        page.after = after;
                        return Ok(page);
                    }
                }
            }
            if last {
                return Ok(page);
            }
        }
        page.after = after;
        Ok(page)
    }
}

impl Asked {
    fn wants(&self, record: &AuditRecord) -> bool {
        let kind = |what: &str| match what.ends_with('.') {
            true => record.what.starts_with(what),
            false => *record.what == *what,
        };
        self.by.as_deref().is_none_or(|by| *record.stamp.by == *by) && self.what.as_deref().is_none_or(kind)
    }
}

/// Why something was not done, as the log has it.
pub(crate) trait Told {
    /// The error's code.
    fn code(&self) -> xpush_core::Code;
    /// What came of it.
    fn outcome(&self) -> Outcome;
}

impl Told for Refused {
    fn code(&self) -> xpush_core::Code {
        self.code()
    }

    fn outcome(&self) -> Outcome {
        self.outcome()
    }
}

impl Told for crate::api::Refusal {
    fn code(&self) -> xpush_core::Code {
        self.problem.code
    }

    fn outcome(&self) -> Outcome {
        match self.problem.code {
            xpush_core::Code::OutcomeUnknown => Outcome::Begun,
            _ => Outcome::Refused,
        }
    }
}

/// An entry for whoever looks.
pub fn shown(id: &str, record: &AuditRecord) -> Value {
    let parsed =
        |text: &Option<Box<str>>| text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut entry = json!({
        "id": id,
        "at": record.stamp.at,
        "by": record.stamp.by,
        "via": record.stamp.via.as_str(),
        "what": record.what,
        "outcome": match record.outcome {
            Outcome::Begun => "begun",
            Outcome::Done => "done",
            Outcome::Refused => "refused",
        },
    });
    let target = record.target.clone().or_else(|| record.user.as_ref().map(|user| user.as_str().into()));
    for (name, value) in [
        ("name", record.stamp.name.as_ref().map(|name| json!(name))),
        ("app", record.app.as_ref().map(|app| json!(app))),
        ("target", target.map(|target| json!(target))),
        ("user", record.user.as_ref().map(|user| json!(user))),
        ("before", parsed(&record.before)),
        ("after", parsed(&record.after)),
        ("code", record.code.as_ref().map(|code| json!(code))),
        ("note", record.stamp.note.as_ref().map(|note| json!(note))),
        ("address", record.address.as_ref().map(|address| json!(address))),
    ] {
        if let Some(value) = value {
            entry[name] = value;
        }
    }
    entry
}
