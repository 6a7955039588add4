//! The index's file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use sha2::{Digest, Sha256};
use xpush_core::App;

use super::PATIENCE;
use crate::log::indexing::Words;
use crate::log::slot;
use crate::store::{Fault, OpenError, make_private};

/// Which of these schemas a file has. One of another is made anew.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    -- The ledger that it is of.
    CREATE TABLE ledger (store INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT;
    -- How far each of the ledger's channels is indexed, and from where on.
    CREATE TABLE channels (id INTEGER PRIMARY KEY, head INTEGER NOT NULL, first INTEGER NOT NULL) STRICT;
    -- Messages: `id` is when it was published, and a number; `tokens` what it is indexed by, so that it can be taken out again.
    CREATE TABLE documents (id INTEGER PRIMARY KEY, slot INTEGER NOT NULL UNIQUE, tokens TEXT NOT NULL) STRICT;
    -- Words are cut by us: for the tokenizer they stand between blanks. Where in a text they are is found out from the text.
    CREATE VIRTUAL TABLE words USING fts5(tokens, content = 'documents', content_rowid = 'id', tokenize = 'ascii',
        detail = 'none', columnsize = 0);
    INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
";

/// Bits of a document's id beneath the time.
const NUMBER: u32 = 20;

/// Before tokens that are no words of the text: no text has it in a word (private use).
const NAMED: char = '\u{e000}';

/// Pages that the write-ahead log may have before they are copied back: 64 MB.
const CHECKPOINT: i64 = 16_000;

/// The writing connection, to an index of the ledger with this identity: an empty one, when the file is another's, of another version, no good any more, or none.
pub(super) fn open(
    path: &Path,
    identity: (i64, i64),
    is_too_old: impl Fn(&Connection) -> Result<bool, OpenError>,
) -> Result<Connection, OpenError> {
    make_private(path)?;
    let good = |file: &Connection| Ok::<bool, OpenError>(is_of(file, identity)? && !is_too_old(file)?);
    match connect(path).and_then(|file| Ok((good(&file)?, file))) {
        Ok((true, connection)) => return Ok(connection),
        Ok((false, _)) => {}
        Err(error) => tracing::warn!(%error, "the search index cannot be read, and is made anew"),
    }
    remove(path)?;
    make_private(path)?;
    let mut connection = connect(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute("INSERT INTO ledger VALUES (?1, ?2)", params![identity.0, identity.1])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(connection)
}

fn is_of(connection: &Connection, identity: (i64, i64)) -> Result<bool, OpenError> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? != VERSION {
        return Ok(false);
    }
    let both = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(connection.query_row("SELECT store, epoch FROM ledger", [], both)? == identity)
}

fn remove(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(32);
    // What the last commits held is indexed again after a power failure.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
    Ok(connection)
}

/// The token of everything in an app.
pub(super) fn app_token(app: &App) -> String {
    let hex: String = app.as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{NAMED}a{hex}")
}

/// The token of everything in a channel.
pub(super) fn channel_token(id: i64) -> String {
    format!("{NAMED}c{id}")
}

/// The token of everything by a user: of a digest, as an id may have any characters.
pub(super) fn user_token(user: &str) -> String {
    let hex: String = Sha256::digest(user)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{NAMED}u{hex}")
}

/// The first id of documents that were published at `at` or later.
pub(super) fn id_at(at: u64) -> i64 {
    ((at.min((1 << 43) - 1)) << NUMBER) as i64
}

/// How far a channel is indexed: its head and its first, if it is.
pub(super) fn standing(index: &Connection, channel: i64) -> Result<Option<(u64, u64)>, Fault> {
    let both = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()))
    };
    let mut select = index.prepare_cached("SELECT head, first FROM channels WHERE id = ?1")?;
    Ok(select.query_row([channel], both).optional()?)
}

pub(super) fn stands(index: &Connection, channel: i64, head: u64, first: u64) -> Result<(), Fault> {
    let mut replace = index.prepare_cached("INSERT OR REPLACE INTO channels VALUES (?1, ?2, ?3)")?;
    replace.execute(params![channel, head as i64, first as i64])?;
    Ok(())
}

/// Whether no channel is indexed.
pub(super) fn is_empty(index: &Connection) -> Result<bool, Fault> {
    let mut select = index.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM channels)")?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// A channel is not indexed.
pub(super) fn unknown(index: &Connection, channel: i64) -> Result<(), Fault> {
    index.prepare_cached("DELETE FROM channels WHERE id = ?1")?.execute([channel])?;
    Ok(())
}

/// Gives a message that is not in the index a document; what `words` is to be told of it.
pub(super) fn put(index: &Connection, slot: i64, app: &App, words: &Words) -> Result<(i64, String), Fault> {
    const LAST: &str = "SELECT max(id) FROM documents WHERE id >= ?1 AND id < ?2";
    let mut tokens: BTreeSet<String> = xpush_core::search::text::tokens(&words.text);
    tokens.extend([app_token(app), channel_token(slot::channel(slot)), user_token(&words.user)]);
    let tokens = Vec::from_iter(tokens).join(" ");
    let mut at = words.at;
    let id = loop {
        let (from, to) = (id_at(at), id_at(at + 1));
        let mut select = index.prepare_cached(LAST)?;
        let last: Option<i64> = select.query_row([from, to], |row| row.get(0))?;
        match last.map_or(from, |last| last + 1) {
            id if id < to || from == to => break id,
            // A million in one millisecond: this one is of the next.
            _ => at += 1,
        }
    };
    index.prepare_cached("INSERT INTO documents VALUES (?1, ?2, ?3)")?.execute(params![id, slot, tokens])?;
    Ok((id, tokens))
}

/// Tells `words` of documents; ascending, as FTS5 has it most cheaply.
pub(super) fn tell(index: &Connection, mut documents: Vec<(i64, String)>) -> Result<(), Fault> {
    documents.sort_unstable();
    let mut insert = index.prepare_cached("INSERT INTO words (rowid, tokens) VALUES (?1, ?2)")?;
    for (id, tokens) in documents {
        insert.execute(params![id, tokens])?;
    }
    Ok(())
}

/// Takes out what lies in slots from `from` to before `to`, `limit` at most; how many those were.
pub(super) fn take_out(index: &Connection, from: i64, to: i64, limit: usize) -> Result<usize, Fault> {
    const FIND: &str = "SELECT id, tokens FROM documents WHERE slot >= ?1 AND slot < ?2 LIMIT ?3";
    const UNTELL: &str = "INSERT INTO words (words, rowid, tokens) VALUES ('delete', ?1, ?2)";
    let mut select = index.prepare_cached(FIND)?;
    let both = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let found: Vec<_> = select.query_map(params![from, to, limit as i64], both)?.collect::<Result<_, _>>()?;
    for (id, tokens) in &found {
        index.prepare_cached(UNTELL)?.execute(params![id, tokens])?;
        index.prepare_cached("DELETE FROM documents WHERE id = ?1")?.execute([id])?;
    }
    Ok(found.len())
}

/// Empties the write-ahead log, so that nothing lies there that was taken out; false when somebody reads it at the moment.
pub(super) fn empty_log(index: &Connection) -> Result<bool, Fault> {
    Ok(index.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))?)
}
