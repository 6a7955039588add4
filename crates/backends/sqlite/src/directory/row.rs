//! How keys and records are written.

use rusqlite::{Params, Row};
use serde::de::DeserializeOwned;
use xpush_core::ports::directory::{Key, Record};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ApiKeyId, App, Channel, ChannelKey, Code, Device, Login, User};

use crate::store::Fault;

// Released numbers are never given to anything else.
pub(super) const APP: u8 = 1;
pub(super) const USER: u8 = 2;
pub(super) const DEVICE: u8 = 3;
pub(super) const LOGIN: u8 = 4;
pub(super) const MEMBER: u8 = 5;
pub(super) const BLOCK: u8 = 6;
pub(super) const IDENTITY: u8 = 7;
pub(super) const SECRET: u8 = 8;
pub(super) const API_KEY: u8 = 9;

/// How bodies are written now: secrets as their bytes, everything else as JSON.
pub(super) const FORM: i64 = 1;

/// A key as the table has it. What has no app of its own has the empty one, which no app is called.
pub(super) struct Columns {
    pub(super) kind: u8,
    pub(super) app: String,
    pub(super) first: String,
    pub(super) second: String,
}

impl Columns {
    pub(super) fn of(key: &Key) -> Self {
        let columns = |kind, app: &str, first: &str, second: &str| Self {
            kind,
            app: app.to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
        };
        match key {
            Key::App(app) => columns(APP, "", app.as_str(), ""),
            Key::User(app, user) => columns(USER, app.as_str(), user.as_str(), ""),
            Key::Device(app, user, device) => columns(DEVICE, app.as_str(), user.as_str(), device.as_str()),
            Key::Login(app, user, login) => columns(LOGIN, app.as_str(), user.as_str(), login.as_str()),
            Key::Member(channel, user) => {
                columns(MEMBER, channel.app.as_str(), channel.name.as_str(), user.as_str())
            }
            Key::Block(app, user, other) => columns(BLOCK, app.as_str(), user.as_str(), other.as_str()),
            Key::ApiKey(app, id) => columns(API_KEY, app.as_str(), id.as_str(), ""),
            Key::Identity(app, issuer, sub) => columns(IDENTITY, app.as_str(), issuer, sub),
            Key::Secret(name) => columns(SECRET, "", name, ""),
        }
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

    pub(super) fn key(&self) -> Result<Key, Fault> {
        self.checked().map_err(|_| unreadable("a key"))
    }

    pub(super) fn params(&self) -> impl Params + '_ {
        (self.kind, &self.app, &self.first, &self.second)
    }

    fn checked(&self) -> Result<Key, Code> {
        let app = || App::new(&self.app);
        let (first, second) = (self.first.as_str(), self.second.as_str());
        Ok(match self.kind {
            APP => Key::App(App::new(first)?),
            USER => Key::User(app()?, User::new(first)?),
            DEVICE => Key::Device(app()?, User::new(first)?, Device::new(second)?),
            LOGIN => Key::Login(app()?, User::new(first)?, Login::new(second)?),
            MEMBER => Key::Member(ChannelKey::new(app()?, Channel::new(first)?), User::new(second)?),
            BLOCK => Key::Block(app()?, User::new(first)?, User::new(second)?),
            API_KEY => Key::ApiKey(app()?, ApiKeyId::new(first)?),
            IDENTITY => Key::Identity(app()?, first.into(), second.into()),
            SECRET => Key::Secret(first.into()),
            _ => return Err(Code::Internal),
        })
    }
}

/// Whose entry it is, for the listings that go by it.
pub(super) fn owner(key: &Key, record: &Record) -> Option<String> {
    match (key, record) {
        (Key::Member(_, user), _) | (Key::Identity(..), Record::Identity(user)) => {
            Some(user.as_str().to_owned())
        }
        (Key::Block(_, _, blocked), _) => Some(blocked.as_str().to_owned()),
        _ => None,
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
    })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    // serde's own words may quote the body, which may hold secrets.
    serde_json::from_slice(body).map_err(|_| unreadable("a record"))
}

fn unreadable(what: &str) -> Fault {
    PortError::new(Failure::NotApplied, format!("the store has {what} that cannot be read")).into()
}
