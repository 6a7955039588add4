//! Copies of the whole file, made while it is in use, and back.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::store::{OpenError, Options, check_header, connect, lock_path, make_private, take_part};

/// Pages copied between two calls of `progress`: 1 MB.
const STEP: i32 = 256;

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pages copied.
    pub done: u64,
    /// Pages in all.
    pub total: u64,
}

/// Why a backup or a restore did not happen. What was there before is there still.
#[derive(Debug)]
pub enum CopyError {
    /// A server, or another command, has the store open.
    InUse,
    /// There is a file already.
    Exists(PathBuf),
    /// There is no such file.
    Missing(PathBuf),
    /// The file is damaged: SQLite's words.
    Damaged(String),
    /// One of the files cannot be opened.
    Open(OpenError),
    /// The file system says no.
    Io(io::Error),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("the store is in use: stop the server first"),
            Self::Exists(path) => write!(f, "{} exists already", path.display()),
            Self::Missing(path) => write!(f, "there is no {}", path.display()),
            Self::Damaged(what) => write!(f, "the backup is damaged: {what}"),
            Self::Open(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CopyError {}

impl From<OpenError> for CopyError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Open(OpenError::Sqlite(error))
    }
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A file under a name that nobody looks for, until it is whole. Goes when it is dropped before.
struct Partial(PathBuf);

/// Copies the store at `path`, as it is at this moment, to the new file `to`; a server may go on writing meanwhile. `to` appears when it is whole and on disk.
pub fn backup(path: &Path, to: &Path, mut progress: impl FnMut(Progress)) -> Result<(), CopyError> {
    if !path.exists() {
        return Err(CopyError::Missing(path.to_owned()));
    }
    let _no_restore_meanwhile = take_part(path)?;
    if to.exists() {
        return Err(CopyError::Exists(to.to_owned()));
    }
    let source = connect(path, &Options::default())?;
    check_header(&source)?;
    let partial = Partial::beside(to)?;
    drop(copy(&source, &partial, &mut progress)?);
    // The name is taken first: whoever else makes a file there meanwhile finds it, or is found.
    match OpenOptions::new().write(true).create_new(true).open(to) {
        Ok(_) => partial.become_whole(to),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CopyError::Exists(to.to_owned())),
        Err(error) => Err(CopyError::Io(error)),
    }
}

/// Puts the backup `from` at `path`, for a server that is not running. Epochs change: positions that clients hold are of another history.
/// A store that is there already is replaced if `replace` says so; else nothing happens.
pub fn restore(
    from: &Path,
    path: &Path,
    replace: bool,
    mut progress: impl FnMut(Progress),
) -> Result<(), CopyError> {
    let _alone = take_alone(path)?;
    if path.exists() && !replace {
        return Err(CopyError::Exists(path.to_owned()));
    }
    if !from.exists() {
        return Err(CopyError::Missing(from.to_owned()));
    }
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check(&source)?;
    let partial = Partial::beside(path)?;
    let restored = copy(&source, &partial, &mut progress)?;
    renew_epoch(&restored)?;
    drop(restored);
    empty_log(path)?;
    partial.become_whole(path)
}

/// Gives the store at `path` another epoch, as [`restore`] does: for when its file was put back by other means. For a server that is not running.
pub fn begin_epoch(path: &Path) -> Result<(), CopyError> {
    let _alone = take_alone(path)?;
    if !path.exists() {
        return Err(CopyError::Missing(path.to_owned()));
    }
    let store = connect(path, &Options::default())?;
    check_header(&store)?;
    renew_epoch(&store)
}

fn renew_epoch(store: &Connection) -> Result<(), CopyError> {
    store.execute("UPDATE meta SET value = random() WHERE key = 'epoch'", [])?;
    Ok(())
}

/// Writes the store at `path` anew, without what it no longer holds: SQLite leaves copies of rows that it has moved in the unused parts of its pages. For a server that is
/// not running. Takes as much room again while it lasts; when it is cut short, the store is as it was.
pub fn compact(path: &Path) -> Result<(), CopyError> {
    let _alone = take_alone(path)?;
    if !path.exists() {
        return Err(CopyError::Missing(path.to_owned()));
    }
    let store = connect(path, &Options::default())?;
    check_header(&store)?;
    store.pragma_update(None, "temp_store", "FILE")?;
    store.execute_batch("VACUUM")?;
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Nobody else has the store open until the file is closed.
pub(crate) fn take_alone(path: &Path) -> Result<File, CopyError> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock_path(path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(CopyError::InUse),
        Err(TryLockError::Error(error)) => Err(CopyError::Io(error)),
    }
}

fn check(backup: &Connection) -> Result<(), CopyError> {
    if check_header(backup)? == 0 {
        return Err(CopyError::Damaged("it is empty".to_owned()));
    }
    let said: String = backup.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(CopyError::Damaged(said)) }
}

/// The copy, as one file without a log beside it.
fn copy(
    source: &Connection,
    to: &Partial,
    progress: &mut dyn FnMut(Progress),
) -> Result<Connection, CopyError> {
    // One state for all steps: without this, a writer's commit would make the copy begin anew, under load again and again.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
    let mut copied = Connection::open(&to.0)?;
    // Until it is whole nobody looks for it, and then it is synced as a whole.
    copied.pragma_update(None, "synchronous", "OFF")?;
    let backup = Backup::new(source, &mut copied)?;
    loop {
        let step = backup.step(STEP)?;
        let pages = backup.progress();
        let [left, total] = [pages.remaining, pages.pagecount].map(|pages| u64::try_from(pages).unwrap_or(0));
        progress(Progress { done: total - left, total });
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            _ => return Err(CopyError::InUse),
        }
    }
    drop(backup);
    source.execute_batch("COMMIT")?;
    copied.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(copied)
}

/// Copies what is left in the log of the store that is about to be replaced, and removes the log: the next file must not be taken for its own.
fn empty_log(path: &Path) -> Result<(), CopyError> {
    if path.exists()
        && let Err(error) = connect(path, &Options::default())
            .and_then(|store| Ok(store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?))
    {
        // It may be damaged; that is why it is replaced.
        tracing::warn!(%error, "the store that is being replaced cannot be read");
    }
    for ending in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(CopyError::Io(error)),
            _ => {}
        }
    }
    Ok(())
}

impl Partial {
    fn beside(path: &Path) -> Result<Self, CopyError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = Self(name.into());
        match fs::remove_file(&partial.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CopyError::Io(error)),
            _ => {
                make_private(&partial.0)?;
                Ok(partial)
            }
        }
    }

    /// Synced, and renamed to `path`.
    fn become_whole(self, path: &Path) -> Result<(), CopyError> {
        File::open(&self.0)?.sync_all()?;
        fs::rename(&self.0, path)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()?;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the renaming there is none any more.
        let _ = fs::remove_file(&self.0);
    }
}
