//! The port's contract, over two stores on one file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use xpush_core::ports::directory::Directory;
use xpush_sqlite::{Options, SqliteDirectory, Store};
use xpush_testkit::suite::directory::DirectoryStore;

fn open(folder: &Path) -> Arc<dyn Directory> {
    let store = Store::open(folder.join("xpush.db"), Options::default()).unwrap();
    Arc::new(SqliteDirectory::new(store))
}

fn fixture() -> DirectoryStore {
    let folder = tempfile::tempdir().unwrap();
    let handles = [open(folder.path()), open(folder.path())];
    let after_a_crash = Box::new(move || {
        // What the files hold at this moment, opened elsewhere: nobody has closed anything.
        let copy = folder.path().join("crashed");
        fs::create_dir(&copy).unwrap();
        // In this order a checkpoint between the two moves nothing out of sight.
        for file in ["xpush.db-wal", "xpush.db"] {
            fs::copy(folder.path().join(file), copy.join(file)).unwrap();
        }
        open(&copy)
    });
    DirectoryStore { handles, after_a_crash }
}

xpush_testkit::directory_suite!(fixture);
