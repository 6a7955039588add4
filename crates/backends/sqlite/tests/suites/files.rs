//! The port's contract, over two stores on one file.

use std::path::Path;
use std::sync::Arc;

use xpush_core::ports::files::Files;
use xpush_sqlite::{Options, SqliteFiles, Store};
use xpush_testkit::suite::files::FileStore;

fn open(folder: &Path) -> Arc<dyn Files> {
    let store = Store::open(folder.join("xpush.db"), Options::default()).unwrap();
    Arc::new(SqliteFiles::new(store))
}

fn fixture() -> FileStore {
    let folder = tempfile::tempdir().unwrap();
    FileStore { handles: [open(folder.path()), open(folder.path())], on: Box::new(folder) }
}

xpush_testkit::files_suite!(fixture);
