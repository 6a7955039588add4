//! What is known of files, in the store's file.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, named_params};
use xpush_core::ports::files::{FileListing, FileRecord, Files};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, FileId, UnixMillis, User};

use crate::backup::CopyError;
use crate::store::{Fault, Store, check_header};

/// [`Files`] on a [`Store`].
pub struct SqliteFiles {
    store: Arc<Store>,
}

impl SqliteFiles {
    /// Those that this file knows.
    pub const fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Runs a statement that changes one row, or none when what it expects does not hold.
    fn put(&self, sql: &'static str, file: FileRecord, done: Done<()>) {
        self.store.write(
            move |writing| {
                let body = serde_json::to_string(&file)
                    .map_err(|error| Fault::Port(PortError::new(Failure::Invalid, error.to_string())))?;
                let changed = writing.prepare_cached(sql)?.execute(named_params! {
                    ":id": file.id.as_str(),
                    ":app": file.app.as_str(),
                    ":channel": file.channel.as_str(),
                    ":owner": file.owner.as_str(),
                    ":size": signed(file.size),
                    ":created": signed(file.created_at),
                    ":expires": file.expires_at.map(signed),
                    ":body": body,
                })?;
                Ok(changed)
            },
            Box::new(|changed| {
                done(changed.and_then(|changed| match changed {
                    0 => Err(PortError::new(Failure::Conflict, "the file is not as it was expected to be")),
                    _ => Ok(()),
                }));
            }),
        );
    }
}

impl Files for SqliteFiles {
    fn add(&self, file: FileRecord, done: Done<()>) {
        let sql = "INSERT INTO files (id, app, channel, owner, size, created, expires, body)
            VALUES (:id, :app, :channel, :owner, :size, :created, :expires, :body) ON CONFLICT DO NOTHING";
        self.put(sql, file, done);
    }

    fn replace(&self, file: FileRecord, done: Done<()>) {
        let sql = "UPDATE files SET channel = :channel, owner = :owner, size = :size, created = :created,
            expires = :expires, body = :body WHERE id = :id AND app = :app";
        self.put(sql, file, done);
    }

    fn get(&self, app: &App, id: &FileId, done: Done<Option<FileRecord>>) {
        let (app, id) = (app.clone(), id.clone());
        self.store.read(
            move |connection| {
                let sql = "SELECT body FROM files WHERE id = ?1 AND app = ?2";
                let mut statement = connection.prepare_cached(sql)?;
                let body = statement.query_row((id.as_str(), app.as_str()), body).optional()?;
                body.map(|body| record(&body)).transpose()
            },
            done,
        );
    }

    fn remove(&self, app: &App, id: &FileId, done: Done<()>) {
        let (app, id) = (app.clone(), id.clone());
        self.store.write(
            move |writing| {
                let sql = "DELETE FROM files WHERE id = ?1 AND app = ?2";
                writing.prepare_cached(sql)?.execute((id.as_str(), app.as_str()))?;
                Ok(())
            },
            done,
        );
    }

    fn list(&self, listing: &FileListing, after: Option<FileId>, limit: usize, done: Done<Vec<FileRecord>>) {
        let (app, column, value) = match listing {
            FileListing::OfApp(app) => (app.as_str().to_owned(), None, String::new()),
            FileListing::OfChannel(app, channel) => {
                (app.as_str().to_owned(), Some("channel"), channel.as_str().to_owned())
            }
            FileListing::OfUser(app, user) => {
                (app.as_str().to_owned(), Some("owner"), user.as_str().to_owned())
            }
        };
        self.store.read(
            move |connection| {
                let by = match column {
                    Some(column) => format!("AND {column} = ?2"),
                    None => "AND ?2 = ''".to_owned(),
                };
                let sql = format!(
                    "SELECT body FROM files WHERE app = ?1 {by} AND id < ?3 ORDER BY id DESC LIMIT ?4"
                );
                // No id is behind it.
                let after = after.as_ref().map_or("~", FileId::as_str);
                records(connection, &sql, (app, value, after, i64::try_from(limit).unwrap_or(i64::MAX)))
            },
            done,
        );
    }

    fn due(&self, now: UnixMillis, limit: usize, done: Done<Vec<FileRecord>>) {
        self.store.read(
            move |connection| {
                let sql = "SELECT body FROM files WHERE expires <= ?1 ORDER BY expires LIMIT ?2";
                records(connection, sql, (signed(now), i64::try_from(limit).unwrap_or(i64::MAX)))
            },
            done,
        );
    }

    fn bytes_since(&self, app: &App, user: &User, since: UnixMillis, done: Done<u64>) {
        let (app, user) = (app.clone(), user.clone());
        self.store.read(
            move |connection| {
                let sql = "SELECT coalesce(sum(size), 0) FROM files WHERE app = ?1 AND owner = ?2 AND created >= ?3";
                let mut statement = connection.prepare_cached(sql)?;
                let total: i64 =
                    statement.query_row((app.as_str(), user.as_str(), signed(since)), |row| row.get(0))?;
                Ok(total.unsigned_abs())
            },
            done,
        );
    }

    fn bytes(&self, app: &App, done: Done<u64>) {
        let app = app.clone();
        self.store.read(
            move |connection| {
                let sql = "SELECT coalesce(sum(size), 0) FROM files INDEXED BY files_by_size WHERE app = ?1";
                let total: i64 =
                    connection.prepare_cached(sql)?.query_row([app.as_str()], |row| row.get(0))?;
                Ok(total.unsigned_abs())
            },
            done,
        );
    }
}

/// What a store's file knows of files, for whoever only reads: also a backup's.
pub struct KnownFiles {
    connection: Connection,
}

impl KnownFiles {
    /// Of the store or the backup at `path`, which nobody may be restoring meanwhile.
    pub fn open(path: &Path) -> Result<Self, CopyError> {
        if !path.exists() {
            return Err(CopyError::Missing(path.to_owned()));
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check_header(&connection)?;
        Ok(Self { connection })
    }

    /// Those behind `after`, by id, at most `limit`; those on their way included.
    pub fn page(&self, after: Option<&FileId>, limit: usize) -> Result<Vec<FileRecord>, Fault> {
        all(&self.connection, after, limit)
    }
}

/// Of all apps, by id. A store of a release that had no files knows none.
pub(crate) fn all(
    connection: &Connection,
    after: Option<&FileId>,
    limit: usize,
) -> Result<Vec<FileRecord>, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'files')";
    if !connection.query_row(sql, [], |row| row.get::<_, bool>(0))? {
        return Ok(Vec::new());
    }
    let after = after.map_or("", FileId::as_str);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    records(connection, "SELECT body FROM files WHERE id > ?1 ORDER BY id LIMIT ?2", (after, limit))
}

fn records(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<FileRecord>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let bodies = statement.query_map(params, body)?.collect::<Result<Vec<String>, _>>()?;
    bodies.iter().map(|body| record(body)).collect()
}

fn body(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn record(body: &str) -> Result<FileRecord, Fault> {
    serde_json::from_str(body).map_err(|error| {
        Fault::Port(PortError::new(Failure::Invalid, format!("an unreadable file: {error}")))
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
