//! Users, as an operator makes, changes, bars and erases them.

use serde_json::{Map, Value, json};
use xpush_core::ports::directory::{DeviceRecord, Entry, Expected, Key, Listing, Record, UserRecord};
use xpush_core::ports::erasure::NOBODY;
use xpush_core::{App, Code, Device, Problem, Role, User};

use super::{Act, Actor, Administration, Refused, of_user};
use crate::access::OPERATORS;
use crate::erasure::{self, Eraser, Progress, is_barred};
use crate::setup::ADMIN;

/// What is to be said of a user. Not `Debug`: it may hold a digest of a password.
#[derive(Default)]
pub struct Wanted {
    /// `Some(None)`: none any more.
    pub name: Option<Option<Box<str>>>,
    /// In the place of those that it has.
    pub roles: Option<Vec<Role>>,
    /// A JSON object's text.
    pub info: Option<Option<Box<str>>>,
    /// A digest.
    pub password: Option<Option<Box<str>>>,
    /// Whether it is let in no more.
    pub banned: Option<bool>,
}

impl Wanted {
    fn put(&self, record: &mut UserRecord, now: u64) {
        let Self { name, roles, info, password, banned } = self;
        if let Some(name) = name {
            record.name.clone_from(name);
        }
        if let Some(roles) = roles {
            record.roles.clone_from(roles);
        }
        if let Some(info) = info {
            record.info.clone_from(info);
        }
        if let Some(password) = password {
            record.password.clone_from(password);
        }
        if let Some(banned) = banned {
            record.disabled = *banned;
        }
        if self.ends_logins() {
            record.tokens_valid_from = now;
        }
    }

    fn ends_logins(&self) -> bool {
        self.banned == Some(true) || self.password.is_some()
    }

    fn what(&self) -> &'static str {
        match self {
            Self { banned: Some(true), .. } => "user.ban",
            Self { banned: Some(false), .. } => "user.unban",
            Self { password: Some(_), .. } => "user.password",
            _ => "user.change",
        }
    }
}

/// Who had the id of a user that is made, as far as one can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Perhaps somebody else, who may have left tokens behind: they are none for this user.
    Another,
    /// Nobody but this user, whom the app's back end knows: what it signed before stays good.
    SameUser,
}

impl Administration {
    /// Makes a user that there was not.
    pub async fn create_user(
        &self,
        actor: &Actor,
        app: &App,
        user: &User,
        wanted: &Wanted,
        before: Before,
    ) -> Result<UserRecord, Refused> {
        if user.is_reserved() {
            let detail = "user: a name that the server gives: to guests, XPUSH 0.1 clients, or itself";
            return Err(Problem::new(Code::BadField, detail).into());
        }
        let now = self.now();
        let mut record = UserRecord { created_at: now, ..UserRecord::default() };
        wanted.put(&mut record, now);
        record.tokens_valid_from = match before {
            Before::Another => UserRecord::fresh_from(now),
            Before::SameUser => 0,
        };
        let act = Act {
            what: "user.create",
            app: Some(app),
            user: of_user(user),
            after: Some(told(&record)),
            ..Act::default()
        };
        let make = async {
            let to = Some(Record::User(Box::new(record.clone())));
            match self.0.store.apply(Key::User(app.clone(), user.clone()), Expected::Absent, to).await? {
                true => Ok(()),
                false => {
                    Err(Refused::from(Problem::new(Code::Conflict, "there is a user of this id already")))
                }
            }
        };
        self.audited(actor, act, make).await?;
        Ok(record)
    }

    /// Changes what is known of a user. `or_make`: also of one of whom nothing is known yet.
    pub async fn change_user(
        &self,
        actor: &Actor,
        app: &App,
        user: &User,
        wanted: &Wanted,
        or_make: bool,
    ) -> Result<UserRecord, Refused> {
        let now = self.now();
        let key = Key::User(app.clone(), user.clone());
        let known = |record: Option<&Record>| match record {
            Some(Record::User(record)) if !is_barred(record) => Some((**record).clone()),
            None if or_make => Some(UserRecord { created_at: now, ..UserRecord::default() }),
            _ => None,
        };
        let entry = self.0.store.get(&key).await?;
        let before = known(entry.as_ref().map(|entry| &entry.record)).ok_or(Code::NotFound)?;
        let mut after = before.clone();
        wanted.put(&mut after, now);
        if is_operator(app, &before) && !is_operator(app, &after) {
            self.leave_an_operator(app, user).await?;
        }
        let (mut was, mut is) = (told(&before), told(&after));
        if wanted.password.is_some() {
            is.insert("password".to_owned(), json!("…"));
        }
        let same: Vec<String> = was
            .iter()
            .filter(|(name, value)| is.get(*name) == Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in same {
            was.remove(&name);
            is.remove(&name);
        }
        let act = Act {
            what: wanted.what(),
            app: Some(app),
            user: of_user(user),
            before: Some(was),
            after: Some(is),
            ..Act::default()
        };
        let logins = Listing::Logins(app.clone(), user.clone());
        let change = async {
            if wanted.password.is_some() {
                // Before, too: when it fails now, everything is as it was.
                self.0.store.clear(&logins).await?;
            }
            let mut made = None;
            self.0
                .store
                .change(&key, |record| {
                    let mut record = known(record)?;
                    wanted.put(&mut record, now);
                    made = Some(record.clone());
                    Some(Record::User(Box::new(record)))
                })
                .await?;
            if wanted.ends_logins() {
                self.0.store.clear(&logins).await?;
            }
            made.ok_or_else(|| Refused::from(Code::NotFound))
        };
        self.audited(actor, act, change).await
    }

    /// Makes void what a user was given until now, or what it was given on one device.
    pub async fn revoke(
        &self,
        actor: &Actor,
        app: &App,
        user: &User,
        device: Option<&Device>,
    ) -> Result<(), Refused> {
        let what = if device.is_some() { "device.revoke" } else { "user.revoke" };
        let target = device.map(|device| device.to_string());
        let act = Act { what, app: Some(app), target, user: of_user(user), ..Act::default() };
        let now = self.now();
        let revoke = async {
            let store = &self.0.store;
            let listing = Listing::Logins(app.clone(), user.clone());
            let Some(device) = device else {
                store
                    .change(&Key::User(app.clone(), user.clone()), |record| {
                        let mut record = match record {
                            Some(Record::User(record)) => record.clone(),
                            _ => Box::new(UserRecord { created_at: now, ..UserRecord::default() }),
                        };
                        record.tokens_valid_from = now;
                        Some(Record::User(record))
                    })
                    .await?;
                store.clear(&listing).await?;
                return Ok(());
            };
            let changed = store
                .change(&Key::Device(app.clone(), user.clone(), device.clone()), |record| {
                    let Some(Record::Device(record)) = record else { return None };
                    Some(Record::Device(Box::new(DeviceRecord {
                        tokens_valid_from: now.max(record.seen_at),
                        push_token: None,
                        ..(**record).clone()
                    })))
                })
                .await?;
            if !changed {
                return Err(Refused::from(Code::NotFound));
            }
            for entry in store.all(&listing).await? {
                if matches!(&entry.record, Record::Login(login) if login.device.as_ref() == Some(device)) {
                    store.remove(entry.key).await?;
                }
            }
            Ok(())
        };
        self.audited(actor, act, revoke).await
    }

    /// Begins to erase a user: from now on nobody gets in as it.
    pub async fn erase_user(
        &self,
        actor: &Actor,
        app: &App,
        user: &User,
        eraser: &Eraser,
    ) -> Result<(), Refused> {
        self.may_be_erased(app, user).await?;
        // Its name would be there for longer than it is.
        let act = Act { what: "user.delete", app: Some(app), user: of_user(user), ..Act::default() };
        self.audited(actor, act, async { Ok(eraser.begin(app, user).await?) }).await
    }

    /// Erases a user while the caller waits; `told` hears how far it is.
    pub async fn erase_user_now(
        &self,
        actor: &Actor,
        app: &App,
        user: &User,
        parts: erasure::Parts,
        told: impl FnMut(Progress),
    ) -> Result<(), Refused> {
        self.may_be_erased(app, user).await?;
        // When it is done, nothing names the user any more.
        let act = Act { what: "user.delete", app: Some(app), user: User::new(NOBODY).ok(), ..Act::default() };
        self.audited(actor, act, async { Ok(erasure::erase(parts, app, user, told).await?) }).await
    }

    /// Refuses the last operator.
    pub async fn may_be_erased(&self, app: &App, user: &User) -> Result<(), Refused> {
        match self.0.store.get(&Key::User(app.clone(), user.clone())).await? {
            Some(Entry { record: Record::User(record), .. }) if is_operator(app, &record) => {
                self.leave_an_operator(app, user).await
            }
            _ => Ok(()),
        }
    }

    async fn leave_an_operator(&self, app: &App, but: &User) -> Result<(), Refused> {
        let users = self.0.store.all(&Listing::Users(app.clone())).await?;
        let another = users.iter().any(|entry| match (&entry.key, &entry.record) {
            (Key::User(_, user), Record::User(record)) => user != but && is_operator(app, record),
            _ => false,
        });
        match another {
            true => Ok(()),
            false => Err(Problem::new(Code::Conflict, "this is the last operator").into()),
        }
    }
}

/// Whether this user may operate the installation.
pub(crate) fn is_operator(app: &App, record: &UserRecord) -> bool {
    app.as_str() == OPERATORS && !record.disabled && record.roles.iter().any(|role| role.as_str() == ADMIN)
}

/// A user as the log has it.
fn told(record: &UserRecord) -> Map<String, Value> {
    let info = record.info.as_deref().and_then(|info| serde_json::from_str::<Value>(info).ok());
    let password = record.password.as_ref().map(|_| "…");
    let told = json!({
        "name": record.name, "roles": record.roles, "info": info, "banned": record.disabled, "password": password,
    });
    told.as_object().cloned().unwrap_or_default()
}
