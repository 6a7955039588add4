//! Opening a database: versions, indexes, and what is true of it as a whole.

use std::fmt;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{DatabaseOptions, IndexOptions, ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Database, IndexModel};
use tokio::time::timeout;
use xpush_core::ports::PortError;
use xpush_core::ports::transfer::Origin;

use super::options::durable;
use super::{Intent, Options, is_duplicate, port_error};

/// What this release writes. A database of an earlier version is brought to it when it is opened.
const VERSION: i32 = 1;

/// The collections that hold what somebody would miss.
const HOLDING: &[&str] =
    &["channels", "slots", "markers", "erasures", "entries", "changes", "last_seen", "files"];

/// What a database is opened for.
pub(super) enum What {
    Server,
    /// It gets another epoch.
    Epoch,
    /// It is filled with what came from there.
    Import(Origin),
}

/// How long opening may take in all: indexes may have to be made.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a database cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// It was written by a later release.
    Newer {
        /// The database's version.
        found: i32,
        /// The newest one that this release reads.
        known: i32,
    },
    /// Its strings are not compared by their bytes, so that names that differ could meet.
    Collation(String),
    /// It is to be filled from another store, and holds something: the name of a collection that does.
    Occupied(&'static str),
    /// It is being filled from another store, or that was cut short.
    Unfinished,
    /// The URI cannot be read.
    BadUri,
    /// The server says no, or is not there.
    Server(PortError),
    /// No threads could be started.
    Io(std::io::Error),
    /// The store's threads have ended.
    Gone,
}

/// An open database.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) epoch: u64,
    pub(super) clock: u64,
    /// Somebody has seen that it holds less than it did in this epoch.
    pub(super) gone_back: bool,
}

/// An index: a collection, its keys, and whether it is unique or sparse.
struct Index(&'static str, &'static [(&'static str, i32)], Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Unique,
    Sparse,
}

/// Beside `_id`. What each is for, the module of its collection says.
const INDEXES: &[Index] = &[
    Index("slots", &[("c", 1), ("s", 1)], Kind::Unique),
    Index("slots", &[("c", 1), ("h", 1)], Kind::Unique),
    Index("slots", &[("c", 1), ("t", 1)], Kind::Sparse),
    Index("slots", &[("tell.at", 1)], Kind::Sparse),
    Index("channels", &[("moved", 1)], Kind::Sparse),
    Index("channels", &[("app", 1), ("_id", 1)], Kind::Plain),
    Index("markers", &[("c", 1), ("m", -1)], Kind::Plain),
    Index("markers", &[("a", 1), ("u", 1)], Kind::Plain),
    Index("entries", &[("o", 1)], Kind::Sparse),
    Index("entries", &[("gone", 1)], Kind::Sparse),
    Index("erased", &[("at", 1)], Kind::Plain),
    Index("files", &[("a", 1), ("_id", -1)], Kind::Plain),
    Index("files", &[("c", 1), ("_id", -1)], Kind::Plain),
    Index("files", &[("o", 1), ("_id", -1)], Kind::Plain),
    Index("files", &[("e", 1)], Kind::Plain),
];

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { found, known } => write!(
                f,
                "written by a later release of XPUSH (version {found}, this one reads up to {known}): start that release, or restore a backup made before the upgrade"
            ),
            Self::Collation(name) => write!(
                f,
                "the collection {name} has a collation of its own: XPUSH needs strings that are compared by their bytes"
            ),
            Self::Occupied(name) => write!(
                f,
                "it holds other data already (in the collection {name}): name another database, or drop this one if nobody needs it"
            ),
            Self::Unfinished => f.write_str(
                "it is not whole: `xpush migrate` is still filling it, or was cut short (then start that again, which begins anew)"
            ),
            Self::BadUri => f.write_str("the connection string cannot be read"),
            Self::Server(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Gone => f.write_str("the store's threads have ended"),
        }
    }
}

impl std::error::Error for OpenError {}

pub(super) async fn open(options: &Options, what: What) -> Result<Opened, OpenError> {
    let client = Client::with_options(options.client().await?).map_err(|error| server(&error))?;
    let settings = DatabaseOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(durable())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    let database = client.database_with_options(&options.database, settings);
    match timeout(PATIENCE, prepare(database, what)).await {
        Ok(opened) => opened,
        Err(_) => Err(OpenError::Server(PortError::new(
            xpush_core::ports::Failure::NotApplied,
            "the server has not answered in time",
        ))),
    }
}

async fn prepare(database: Database, what: What) -> Result<Opened, OpenError> {
    let meta = database.collection::<Document>("meta");
    // The version first: nothing is changed in a database of a later release.
    let version = meta.find_one(doc! { "_id": "schema" }).await.map_err(|error| server(&error))?;
    let found = version.as_ref().and_then(|version| version.get_i32("version").ok());
    if let Some(found) = found.filter(|found| *found > VERSION) {
        return Err(OpenError::Newer { found, known: VERSION });
    }
    let import = meta.find_one(doc! { "_id": "import" }).await.map_err(|error| server(&error))?;
    let unfinished = import.is_some_and(|import| !import.get_bool("done").unwrap_or(true));
    match what {
        What::Import(origin) => vacate(&database, unfinished, origin).await?,
        What::Server | What::Epoch if unfinished => return Err(OpenError::Unfinished),
        What::Server => {}
        What::Epoch => set(&database, "store", "epoch", crate::random()).await?,
    }
    byte_order(&database).await?;
    indexes(&database).await?;
    let epoch = once(&database, "store", "epoch", crate::random()).await?;
    let clock = once(&database, "clock", "at", 0).await?;
    // Last: until then whoever opens it does all of this.
    let version = doc! { "$max": { "version": VERSION } };
    let set = meta.update_one(doc! { "_id": "schema" }, version).upsert(true).await;
    if let Err(error) = set
        && !is_duplicate(&error)
    {
        return Err(server(&error));
    }
    let marked = meta.find_one(doc! { "_id": "store" }).await.map_err(|error| server(&error))?;
    let gone_back =
        marked.is_some_and(|store| store.get_i64("gone_back").is_ok_and(|marked| marked == epoch));
    Ok(Opened { database, epoch: epoch as u64, clock: clock as u64, gone_back })
}

/// Makes sure that nothing is there, but for what an import that was cut short has left, which goes.
async fn vacate(database: &Database, unfinished: bool, origin: Origin) -> Result<(), OpenError> {
    for name in HOLDING {
        let collection = database.collection::<Document>(name);
        if unfinished {
            collection.drop().await.map_err(|error| server(&error))?;
        } else if collection.find_one(doc! {}).await.map_err(|error| server(&error))?.is_some() {
            return Err(OpenError::Occupied(name));
        }
    }
    let meta = database.collection::<Document>("meta");
    let begun = doc! { "$set": { "done": false } };
    meta.update_one(doc! { "_id": "import" }, begun).upsert(true).await.map_err(|error| server(&error))?;
    set(database, "store", "epoch", origin.epoch as i64).await?;
    set(database, "clock", "at", origin.clock as i64).await
}

async fn set(database: &Database, id: &str, field: &str, value: i64) -> Result<(), OpenError> {
    let meta = database.collection::<Document>("meta");
    let set = doc! { "$set": { field: value } };
    meta.update_one(doc! { "_id": id }, set).upsert(true).await.map(drop).map_err(|error| server(&error))
}

/// A number that whoever opens the database first has chosen. By an insert, which succeeds once, and a look at what is there then: several servers of a new
/// installation start together, and not every server that speaks the protocol makes one upsert of several.
async fn once(database: &Database, id: &str, field: &str, value: i64) -> Result<i64, OpenError> {
    let meta = database.collection::<Document>("meta");
    let mut made = meta.find_one(doc! { "_id": id }).await.map_err(|error| server(&error))?;
    if made.is_none() {
        match meta.insert_one(doc! { "_id": id, field: value }).await {
            Err(error) if !is_duplicate(&error) => return Err(server(&error)),
            // Somebody else may have made it at this moment.
            _ => made = meta.find_one(doc! { "_id": id }).await.map_err(|error| server(&error))?,
        }
    }
    let number = made.and_then(|made| made.get_i64(field).ok());
    number.ok_or_else(|| {
        let detail = format!("the document {id} of the collection meta is not as it was made");
        OpenError::Server(PortError::new(xpush_core::ports::Failure::Invalid, detail))
    })
}

async fn byte_order(database: &Database) -> Result<(), OpenError> {
    use futures_util::TryStreamExt as _;
    let mut collections = database.list_collections().await.map_err(|error| server(&error))?;
    while let Some(collection) = collections.try_next().await.map_err(|error| server(&error))? {
        if collection.options.collation.is_some_and(|collation| collation.locale != "simple") {
            return Err(OpenError::Collation(collection.name));
        }
    }
    Ok(())
}

async fn indexes(database: &Database) -> Result<(), OpenError> {
    for Index(collection, keys, kind) in INDEXES {
        let mut fields = Document::new();
        for (field, direction) in *keys {
            fields.insert(*field, *direction);
        }
        let model = |kind: Kind| {
            let mut options = IndexOptions::default();
            options.unique = (kind == Kind::Unique).then_some(true);
            options.sparse = (kind == Kind::Sparse).then_some(true);
            IndexModel::builder().keys(fields.clone()).options(options).build()
        };
        let collection = database.collection::<Document>(collection);
        let mut made = collection.create_index(model(*kind)).await;
        // NotImplemented: a server without sparse indexes keeps a whole one, which finds the same.
        if made
            .as_ref()
            .is_err_and(|error| matches!(&*error.kind, ErrorKind::Command(command) if command.code == 238))
        {
            made = collection.create_index(model(Kind::Plain)).await;
        }
        made.map_err(|error| server(&error))?;
    }
    Ok(())
}

fn server(error: &Error) -> OpenError {
    OpenError::Server(port_error(Intent::Read, error))
}
