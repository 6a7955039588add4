//! A file system for SQLite that keeps writes in memory until they are synced.
//!
//! A killed process leaves its writes behind: the kernel has them. So a SIGKILL alone never shows a missing sync. Over this VFS it
//! does: databases, journals and write-ahead logs reach the real file system in `xSync` and not before, all connections of the process see
//! them meanwhile, and they end with it. What is synced is synced for real.
//!
//! Not played: writes that reach the disk unasked or in another order, torn pages, and deletions that come back. Another process sees
//! only what was synced, so one process at a time may use such a file. Temporary files are the real file system's.

mod contents;
mod vfs;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What SQLite knows the file system by.
pub const NAME: &str = "volatile";

static FAILING: AtomicBool = AtomicBool::new(false);
static FULL: AtomicBool = AtomicBool::new(false);

/// Makes the file system known to SQLite, once for the process, over its default one. Its name; the error is SQLite's.
pub fn register() -> Result<&'static str, i32> {
    static REGISTERED: OnceLock<i32> = OnceLock::new();
    match *REGISTERED.get_or_init(vfs::register) {
        rusqlite::ffi::SQLITE_OK => Ok(NAME),
        error => Err(error),
    }
}

/// Whether every sync fails from now on, as a broken disk's would.
pub fn fail_syncs(fail: bool) {
    FAILING.store(fail, Ordering::SeqCst);
}

/// Whether there is no room from now on: what is written is refused.
pub fn fill_disk(full: bool) {
    FULL.store(full, Ordering::SeqCst);
}

fn is_full() -> bool {
    FULL.load(Ordering::SeqCst)
}

fn syncs_fail() -> bool {
    FAILING.load(Ordering::SeqCst)
}
