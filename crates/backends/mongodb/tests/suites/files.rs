//! The port's contract, over two stores on one database.

use std::sync::Arc;

use crate::served::Database;
use xpush_core::ports::files::Files;
use xpush_mongodb::MongoFiles;
use xpush_testkit::suite::files::FileStore;

fn fixture() -> FileStore {
    let database = Database::new();
    let open = || -> Arc<dyn Files> { Arc::new(MongoFiles::new(database.open())) };
    FileStore { handles: [open(), open()], on: Box::new(database.clone()) }
}

xpush_testkit::files_suite!(fixture);
