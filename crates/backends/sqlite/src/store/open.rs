//! Opening the file: locks, versions, settings.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Options, Synchronous};

/// The steps from an empty file to what this release reads; a file's `user_version` says how many it has behind it. A released step is never changed.
const SCHEMA: &[&str] = &[
    include_str!("../migrations/0001_ledger.sql"),
    include_str!("../migrations/0002_directory.sql"),
    include_str!("../migrations/0003_last_seen.sql"),
    include_str!("../migrations/0004_erasures.sql"),
    include_str!("../migrations/0005_stays.sql"),
    include_str!("../migrations/0006_outbox.sql"),
    include_str!("../migrations/0007_files.sql"),
    include_str!("../migrations/0008_fences.sql"),
    include_str!("../migrations/0009_search.sql"),
    include_str!("../migrations/0010_file_sizes.sql"),
];

/// `XPSH`: says that a SQLite file is one of ours.
const APPLICATION: i64 = 0x5850_5348;

/// Statements that each connection keeps prepared.
const STATEMENTS: usize = 128;

/// Why a file cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// It was written by a later release.
    Newer {
        /// The file's version.
        found: i64,
        /// The newest one that this release reads.
        known: i64,
    },
    /// It is a SQLite file, but not one of ours.
    Foreign,
    /// It is being restored at the moment.
    InRestore,
    /// SQLite says no.
    Sqlite(rusqlite::Error),
    /// The file system says no.
    Io(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { found, known } => write!(
                f,
                "written by a later release of XPUSH (file version {found}, this one reads up to {known}): start that release, or restore a backup made before the upgrade"
            ),
            Self::Foreign => f.write_str("a SQLite file, but not one of XPUSH's"),
            Self::InRestore => f.write_str("a restore of it is under way"),
            Self::Sqlite(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// The file whose lock says that the store is in use.
pub(crate) fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Says that the file is in use, until the returned one is closed.
pub(crate) fn take_part(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(lock_path(path))?;
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InRestore),
        Err(TryLockError::Error(error)) => Err(OpenError::Io(error)),
    }
}

/// A connection with our settings, to a file that may still be empty or old.
pub(crate) fn connect(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, &**vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    connection.busy_timeout(options.patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Off => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // See `checkpoint`: not within a commit.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

pub(super) fn connect_reader(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let connection = connect(path, options)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    Ok(connection)
}

/// Makes the file, when there is none, for nobody else to read: it holds secrets. What SQLite puts beside it may be read by whoever may read it. A file that
/// is there is not even opened: closing it would take this process's locks away.
pub(crate) fn make_private(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The writer's connection, to a file that is up to date from now on.
pub(crate) fn connect_and_migrate(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    if options.vfs.is_none() {
        make_private(path)?;
    }
    let mut connection = connect(path, options)?;
    // Before the first change: an unknown file is left as it is.
    check_header(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Blanked bodies are overwritten with zeros where that costs no more pages; a deletion asks for more.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "cache_size", -64 * 1024)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    migrate(&mut connection)?;
    Ok(connection)
}

/// The file's version, when it is one that this release can read; 0 for an empty one.
pub(crate) fn check_header(connection: &Connection) -> Result<i64, OpenError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, found) = (number("application_id")?, number("user_version")?);
    let tables =
        || connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let known = SCHEMA.len() as i64;
    match application {
        APPLICATION if found > known => Err(OpenError::Newer { found, known }),
        APPLICATION => Ok(found),
        0 if found == 0 && tables()? == 0 => Ok(0),
        _ => Err(OpenError::Foreign),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that nobody else can do the same at the same time.
    let found = usize::try_from(check_header(&transaction)?).map_err(|_| OpenError::Foreign)?;
    for step in &SCHEMA[found..] {
        transaction.execute_batch(step)?;
    }
    if found < SCHEMA.len() {
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA.len() as i64)?;
    }
    transaction.commit()?;
    if (1..SCHEMA.len()).contains(&found) {
        tracing::info!(from = found, to = SCHEMA.len(), "the store was brought up to date");
    }
    Ok(())
}
