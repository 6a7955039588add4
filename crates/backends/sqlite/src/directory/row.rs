//! How keys and records are written.

use rusqlite::{Params, Row};
use serde::de::DeserializeOwned;
use xpush_core::ports::directory::{Key, Record, Spelling, kind};
use xpush_core::ports::{Failure, PortError};

use crate::store::Fault;

/// How bodies are written now: secrets as their bytes, everything else as JSON.
pub(super) const FORM: i64 = 1;

/// A key as the table has it.
pub(super) struct Columns {
    pub(super) kind: u8,
    pub(super) app: String,
    pub(super) first: String,
    pub(super) second: String,
}

impl Columns {
    pub(super) fn of(key: &Key) -> Self {
        let Spelling { kind, app, first, second } = key.spelling();
        Self { kind, app: app.to_owned(), first: first.into_owned(), second: second.to_owned() }
    }

    /// `kind, app, first, second` of a row, from this column on.
    pub(super) fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            kind: row.get(from)?,
            app: row.get(from + 1)?,
            first: row.get(from + 2)?,
            second: row.get(from + 3)?,
        })
    }

    /// Whether it was the key of something that named a user who was erased. No secret has a second part.
    pub(super) const fn is_forgotten(&self) -> bool {
        self.kind == kind::SECRET && !self.second.is_empty()
    }

    pub(super) fn key(&self) -> Result<Key, Fault> {
        let Self { kind, app, first, second } = self;
        Key::read(Spelling { kind: *kind, app, first: first.into(), second }).map_err(|_| unreadable("a key"))
    }

    pub(super) fn params(&self) -> impl Params + '_ {
        (self.kind, &self.app, &self.first, &self.second)
    }
}

pub(super) fn body(record: &Record) -> Result<Vec<u8>, PortError> {
    let json = match record {
        Record::App(app) => serde_json::to_vec(app),
        Record::User(user) => serde_json::to_vec(user),
        Record::Device(device) => serde_json::to_vec(device),
        Record::Login(login) => serde_json::to_vec(login),
        Record::Member(member) => serde_json::to_vec(member),
        Record::Block(since) => serde_json::to_vec(since),
        Record::ApiKey(key) => serde_json::to_vec(key),
        Record::Identity(user) => serde_json::to_vec(user),
        Record::Secret(secret) => return Ok(secret.to_vec()),
        Record::Version(version) => serde_json::to_vec(version),
        Record::Audit(audit) => serde_json::to_vec(audit),
        Record::Deletion(deletion) => serde_json::to_vec(deletion),
    };
    json.map_err(|error| PortError::new(Failure::Invalid, format!("{:?}", error.classify())))
}

pub(super) fn record(key: &Key, body: &[u8]) -> Result<Record, Fault> {
    Ok(match key {
        Key::App(_) => Record::App(json(body)?),
        Key::User(..) => Record::User(json(body)?),
        Key::Device(..) => Record::Device(json(body)?),
        Key::Login(..) => Record::Login(json(body)?),
        Key::Member(..) => Record::Member(json(body)?),
        Key::Block(..) => Record::Block(json(body)?),
        Key::ApiKey(..) => Record::ApiKey(json(body)?),
        Key::Identity(..) => Record::Identity(json(body)?),
        Key::Secret(_) => Record::Secret(body.into()),
        Key::Version(..) => Record::Version(json(body)?),
        Key::Audit(_) => Record::Audit(json(body)?),
        Key::Deletion(_) => Record::Deletion(json(body)?),
    })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    // serde's own words may quote the body, which may hold secrets.
    serde_json::from_slice(body).map_err(|_| unreadable("a record"))
}

fn unreadable(what: &str) -> Fault {
    PortError::new(Failure::NotApplied, format!("the store has {what} that cannot be read")).into()
}
