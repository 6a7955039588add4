//! The directory, in the store's file.
//!
//! All entries share one table: what differs between kinds is how a key is spelled ([`row`]) and what is listed by what. Each change also
//! writes its key into `changes`, in the same transaction; the place there is the entry's revision, so revisions rise over all keys.

mod row;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use xpush_core::ports::directory::{Change, Changes, Directory, Entry, Expected, Key, Listing, kind};
use xpush_core::ports::{Done, Failure, PortError};

use crate::store::{Fault, Store, Weight, Writing};
use row::{Columns, FORM};

/// Changes that are remembered.
const REMEMBERED: i64 = 20_000;

/// [`Directory`] on a [`Store`]; every handle on the same file is a handle on the same directory, in other processes, too.
pub struct SqliteDirectory {
    store: Arc<Store>,
}

/// A page of a listing, as a query.
struct Query {
    kind: u8,
    app: String,
    /// Whose key's first part it is.
    first: Option<String>,
    owner: Option<String>,
}

impl SqliteDirectory {
    /// The directory of this file.
    pub const fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl Directory for SqliteDirectory {
    fn get(&self, key: &Key, done: Done<Option<Entry>>) {
        let key = key.clone();
        self.store.read(
            move |connection| {
                let columns = Columns::of(&key);
                let sql = "SELECT revision, form, body FROM entries
                    WHERE kind = ?1 AND app = ?2 AND first = ?3 AND second = ?4";
                let mut statement = connection.prepare_cached(sql)?;
                let found = statement.query_row(columns.params(), content).optional()?;
                found.map(|content| entry(key, &content)).transpose()
            },
            done,
        );
    }

    fn page(&self, listing: &Listing, after: Option<Key>, limit: usize, done: Done<Vec<Entry>>) {
        let query = Query::of(listing);
        let after = after.as_ref().map(Columns::of);
        if after.as_ref().is_some_and(|after| after.kind != query.kind) {
            return done(Err(PortError::new(
                Failure::Invalid,
                "a page goes on behind a key of its own kind",
            )));
        }
        self.store.read(move |connection| query.run(connection, after, limit), done);
    }

    fn apply(&self, change: Change, done: Done<u64>) {
        let columns = Columns::of(&change.key);
        let new = match &change.to {
            None => None,
            Some(record) if !record.belongs_to(&change.key) => {
                return done(Err(PortError::new(Failure::Invalid, "a record of another kind than its key")));
            }
            Some(record) => match row::body(record) {
                Ok(body) => Some((body, change.key.owner(record).map(str::to_owned))),
                Err(error) => return done(Err(error)),
            },
        };
        let size = new.as_ref().map_or(0, |(body, _)| body.len());
        let weight = Weight { rows: 3, bytes: Weight::SMALL.bytes + size };
        let job = move |writing: &Writing<'_>| {
            if !holds(writing, &columns, change.expected)? {
                // No failure of the job: that would take the others of its batch with it.
                return Ok(Err(PortError::new(
                    Failure::Conflict,
                    "the entry is not as it was expected to be",
                )));
            }
            let revision = note(writing, &columns)?;
            match new {
                Some((body, owner)) => put(writing, &columns, owner.as_deref(), revision, &body)?,
                None => remove(writing, &columns)?,
            }
            Ok(Ok(revision.unsigned_abs()))
        };
        self.store.write_checked(weight, job, Box::new(|result| done(result.flatten())));
    }

    fn changes(&self, since: u64, limit: usize, done: Done<Changes>) {
        self.store.read(move |connection| changes(connection, since, limit), done);
    }
}

impl Query {
    fn of(listing: &Listing) -> Self {
        let query = |kind, app: &str, first: Option<&str>, owner: Option<&str>| Self {
            kind,
            app: app.to_owned(),
            first: first.map(str::to_owned),
            owner: owner.map(str::to_owned),
        };
        match listing {
            Listing::Apps => query(kind::APP, "", None, None),
            Listing::Users(app) => query(kind::USER, app.as_str(), None, None),
            Listing::Devices(app, user) => query(kind::DEVICE, app.as_str(), Some(user.as_str()), None),
            Listing::Logins(app, user) => query(kind::LOGIN, app.as_str(), Some(user.as_str()), None),
            Listing::Members(channel) => {
                query(kind::MEMBER, channel.app.as_str(), Some(channel.name.as_str()), None)
            }
            Listing::Memberships(app, user) => query(kind::MEMBER, app.as_str(), None, Some(user.as_str())),
            Listing::Blocks(app, user) => query(kind::BLOCK, app.as_str(), Some(user.as_str()), None),
            Listing::BlockedBy(app, user) => query(kind::BLOCK, app.as_str(), None, Some(user.as_str())),
            Listing::ApiKeys(app) => query(kind::API_KEY, app.as_str(), None, None),
            Listing::Identities(app, user) => query(kind::IDENTITY, app.as_str(), None, Some(user.as_str())),
            Listing::Versions(app) => query(kind::VERSION, app.as_str(), None, None),
            Listing::Audit => query(kind::AUDIT, "", None, None),
            Listing::AuditOf(app) => query(kind::AUDIT, "", None, Some(app.as_str())),
            Listing::Deletions => query(kind::DELETION, "", None, None),
        }
    }

    /// `first` and `owner` stand in it only where they are given, so that each listing is one range of one index.
    fn sql(&self, behind: bool) -> String {
        // Without statistics SQLite would rather go through the whole app.
        let index = if self.owner.is_some() { " INDEXED BY entries_by_owner" } else { "" };
        let mut sql = format!(
            "SELECT revision, form, body, kind, app, first, second FROM entries{index} WHERE kind = :kind AND app = :app"
        );
        for (given, condition) in [
            (self.first.is_some(), " AND first = :first"),
            (self.owner.is_some(), " AND owner = :owner"),
            (behind, " AND (first, second) > (:after_first, :after_second)"),
        ] {
            sql.push_str(if given { condition } else { "" });
        }
        sql + " ORDER BY first, second LIMIT :limit"
    }

    fn run(
        &self,
        connection: &Connection,
        after: Option<Columns>,
        limit: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut params: Vec<(&str, &dyn ToSql)> =
            vec![(":kind", &self.kind), (":app", &self.app), (":limit", &limit)];
        params.extend(self.first.as_ref().map(|first| (":first", first as &dyn ToSql)));
        params.extend(self.owner.as_ref().map(|owner| (":owner", owner as &dyn ToSql)));
        if let Some(Columns { first, second, .. }) = &after {
            params.extend([(":after_first", first as &dyn ToSql), (":after_second", second)]);
        }
        let mut statement = connection.prepare_cached(&self.sql(after.is_some()))?;
        let mut rows = statement.query(&*params)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let key = Columns::read(row, 3)?.key()?;
            entries.push(entry(key, &content(row)?)?);
        }
        Ok(entries)
    }
}

/// Whether the change may be made.
fn holds(writing: &Writing<'_>, columns: &Columns, expected: Expected) -> Result<bool, Fault> {
    if expected == Expected::Any {
        return Ok(true);
    }
    let sql = "SELECT revision FROM entries WHERE kind = ?1 AND app = ?2 AND first = ?3 AND second = ?4";
    let mut statement = writing.prepare_cached(sql)?;
    let found: Option<i64> = statement.query_row(columns.params(), |row| row.get(0)).optional()?;
    Ok(match expected {
        Expected::Any => true,
        Expected::Absent => found.is_none(),
        Expected::Revision(revision) => found.map(i64::unsigned_abs) == Some(revision),
    })
}

/// Writes the change down, and forgets those that are too old: the change's place.
fn note(writing: &Writing<'_>, columns: &Columns) -> Result<i64, Fault> {
    let sql = "INSERT INTO changes (kind, app, first, second) VALUES (?1, ?2, ?3, ?4)";
    let seq = writing.prepare_cached(sql)?.insert(columns.params())?;
    writing.prepare_cached("DELETE FROM changes WHERE seq <= ?1")?.execute([seq - REMEMBERED])?;
    Ok(seq)
}

fn put(
    writing: &Writing<'_>,
    columns: &Columns,
    owner: Option<&str>,
    revision: i64,
    body: &[u8],
) -> Result<(), Fault> {
    let sql = "INSERT INTO entries (kind, app, first, second, owner, revision, form, body)
        VALUES (:kind, :app, :first, :second, :owner, :revision, :form, :body)
        ON CONFLICT (kind, app, first, second) DO UPDATE
        SET owner = excluded.owner, revision = excluded.revision, form = excluded.form, body = excluded.body";
    writing.prepare_cached(sql)?.execute(named_params! {
        ":kind": columns.kind,
        ":app": columns.app,
        ":first": columns.first,
        ":second": columns.second,
        ":owner": owner,
        ":revision": revision,
        ":form": FORM,
        ":body": body,
    })?;
    Ok(())
}

fn remove(writing: &Writing<'_>, columns: &Columns) -> Result<(), Fault> {
    let sql = "DELETE FROM entries WHERE kind = ?1 AND app = ?2 AND first = ?3 AND second = ?4";
    writing.without_a_trace(|| {
        writing.prepare_cached(sql)?.execute(columns.params())?;
        Ok(())
    })
}

/// All entries, in the order of their columns, behind that of the key `after`.
pub(crate) fn all(connection: &Connection, after: Option<&Key>, limit: usize) -> Result<Vec<Entry>, Fault> {
    const SQL: &str = "SELECT revision, form, body, kind, app, first, second FROM entries
        WHERE (kind, app, first, second) > (?1, ?2, ?3, ?4) ORDER BY kind, app, first, second LIMIT ?5";
    let mut select = connection.prepare_cached(SQL)?;
    let after = after.map(Columns::of);
    let (kind, app, first, second) = match &after {
        Some(after) => (after.kind, &*after.app, &*after.first, &*after.second),
        None => (0, "", "", ""),
    };
    let mut rows = select.query((kind, app, first, second, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(Columns::read(row, 3)?.key()?, &content(row)?)?);
    }
    Ok(entries)
}

fn changes(connection: &Connection, since: u64, limit: usize) -> Result<Changes, Fault> {
    let sql = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM changes";
    let (oldest, newest): (i64, i64) =
        connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (oldest, newest) = (oldest.unsigned_abs(), newest.unsigned_abs());
    if since == u64::MAX {
        return Ok(Changes { keys: Vec::new(), next: newest, gap: false });
    }
    if since > newest || since + 1 < oldest {
        return Ok(Changes { keys: Vec::new(), next: newest, gap: true });
    }
    let sql = "SELECT seq, kind, app, first, second FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let after = i64::try_from(since).unwrap_or(i64::MAX);
    let mut rows = statement.query([after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut changes = Changes { keys: Vec::new(), next: since, gap: false };
    while let Some(row) = rows.next()? {
        changes.next = row.get::<_, i64>(0)?.unsigned_abs();
        let columns = Columns::read(row, 1)?;
        if columns.is_forgotten() {
            // Whoever has not heard of it by now cannot be told what it was.
            return Ok(Changes { keys: Vec::new(), next: changes.next.max(newest), gap: true });
        }
        changes.keys.push(columns.key()?);
    }
    Ok(changes)
}

/// `revision, form, body`, with which every row begins.
fn content(row: &Row<'_>) -> rusqlite::Result<(i64, i64, Vec<u8>)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn entry(key: Key, (revision, form, body): &(i64, i64, Vec<u8>)) -> Result<Entry, Fault> {
    if *form != FORM {
        let detail = "an entry was written by a later release of XPUSH";
        return Err(PortError::new(Failure::NotApplied, detail).into());
    }
    let record = row::record(&key, body)?;
    Ok(Entry { key, record, revision: revision.unsigned_abs() })
}
