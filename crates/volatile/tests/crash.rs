//! A killed process loses what it has not synced, and nothing else.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::{Connection, OpenFlags};

const FOLDER: &str = "XPUSH_VOLATILE_FOLDER";
const SYNCHRONOUS: &str = "XPUSH_VOLATILE_SYNCHRONOUS";

fn connect(folder: &Path) -> Connection {
    let name = xpush_volatile::register().unwrap();
    let connection =
        Connection::open_with_flags_and_vfs(folder.join("test.db"), OpenFlags::default(), name).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER)").unwrap();
    connection
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// Writes and waits for its end: run by the other tests in a process of its own, and on its own not at all.
#[test]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let connection = connect(Path::new(&folder));
    connection.pragma_update(None, "synchronous", std::env::var(SYNCHRONOUS).unwrap()).unwrap();
    let reader = connect(Path::new(&folder));
    for n in 0..500 {
        connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        assert_eq!(count(&reader), n + 1, "another connection of the process sees it");
    }
    eprintln!("written");
    std::thread::park();
}

fn write_and_kill(folder: &Path, synchronous: &str) {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(SYNCHRONOUS, synchronous)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "written"));
    writer.kill().unwrap();
    writer.wait().unwrap();
}

#[test]
fn what_was_synced_survives() {
    let folder = tempfile::tempdir().unwrap();
    write_and_kill(folder.path(), "FULL");
    let connection = connect(folder.path());
    assert_eq!(count(&connection), 500);
    // And is good for more, by checkpoint and close as well.
    connection.execute_batch("INSERT INTO t VALUES (1); PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    assert_eq!(count(&Connection::open(folder.path().join("test.db")).unwrap()), 501);
}

#[test]
fn what_was_not_synced_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    drop(connect(folder.path()));
    write_and_kill(folder.path(), "OFF");
    assert_eq!(count(&connect(folder.path())), 0);
}
