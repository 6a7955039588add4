//! Databases for tests, on a server that all tests of a program share.

#![allow(dead_code, reason = "not every suite needs all of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use xpush_mongodb::{Options, Store};
use xpush_testkit::service::mongo::{Mongo, Product};

static SERVER: Mutex<Weak<Mongo>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// How long a command may take where a test is not about that: for machines that are busy, and thousands of slots are much for a server in Python.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A new, empty database. Its server lives as long as somebody has one.
#[derive(Clone)]
pub(crate) struct Database {
    server: Option<Arc<Mongo>>,
    uri: String,
    name: String,
}

impl Database {
    /// On the server of all tests, or on the deployment that `XPUSH_MONGODB_URI` names, which keeps it afterwards.
    pub(crate) fn new() -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("xpush_test_{}_{number}", std::process::id());
        if let Ok(uri) = std::env::var("XPUSH_MONGODB_URI") {
            return Self { server: None, uri, name };
        }
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| Arc::new(Mongo::start(Product::wanted(), &[])));
        *shared = Arc::downgrade(&server);
        Self { uri: server.uri(), server: Some(server), name }
    }

    /// On a server of its own that fails commands when it is told to; `None` where the tests' server cannot.
    pub(crate) fn with_faults() -> Option<Self> {
        let product = Product::wanted();
        let server = (product == Product::SecantusDb)
            .then(|| Arc::new(Mongo::start(product, &["--enable-test-commands"])))?;
        Some(Self { uri: server.uri(), server: Some(server), name: "xpush".to_owned() })
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(self.uri.clone(), self.name.clone())
    }

    /// A handle, as a node has it, but with patience.
    pub(crate) fn open(&self) -> Arc<Store> {
        Store::open(Options { patience: PATIENCE, ..self.options() }).expect("opens")
    }

    /// From now on these commands fail with this error code, whoever sends them.
    pub(crate) fn fail(&self, commands: &[&str], code: i32) {
        self.set_fault(doc! { "mode": "alwaysOn", "data": { "failCommands": commands, "errorCode": code } });
    }

    /// From now on no command fails.
    pub(crate) fn heal(&self) {
        self.set_fault(doc! { "mode": "off" });
    }

    fn set_fault(&self, fault: Document) {
        let mut command = doc! { "configureFailPoint": "failCommand" };
        command.extend(fault);
        self.directly(|database| async move {
            database.client().database("admin").run_command(command).await.map(drop)
        });
    }
}

impl Database {
    /// Changes documents behind the stores' backs.
    pub(crate) fn change(&self, collection: &str, filter: Document, change: Document) {
        self.directly(|database| async move {
            database.collection::<Document>(collection).update_many(filter, change).await.map(drop)
        });
    }

    /// Inserts a document behind the stores' backs.
    pub(crate) fn insert(&self, collection: &str, document: Document) {
        self.directly(|database| async move {
            database.collection::<Document>(collection).insert_one(document).await.map(drop)
        });
    }

    /// Deletes documents behind the stores' backs.
    pub(crate) fn delete(&self, collection: &str, filter: Document) {
        self.directly(|database| async move {
            database.collection::<Document>(collection).delete_many(filter).await.map(drop)
        });
    }

    /// How many documents there are.
    pub(crate) fn count(&self, collection: &str, filter: Document) -> u64 {
        self.directly(|database| async move {
            database.collection::<Document>(collection).count_documents(filter).await
        })
    }

    /// How the server would look for them.
    pub(crate) fn plan(&self, collection: &str, filter: Document, sort: Document) -> String {
        let find = doc! { "find": collection, "filter": filter, "sort": sort };
        let plan =
            self.directly(|database| async move { database.run_command(doc! { "explain": find }).await });
        plan.to_string()
    }

    /// All of a collection, as text: binary data as what they would read as.
    pub(crate) fn text(&self, collection: &str) -> String {
        let documents: Vec<Document> = self.directly(|database| async move {
            database.collection::<Document>(collection).find(doc! {}).await?.try_collect().await
        });
        let mut text = String::new();
        for document in documents {
            let bytes = document.to_vec().expect("a document");
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }

    fn directly<T, F>(&self, act: impl FnOnce(mongodb::Database) -> F) -> T
    where
        F: Future<Output = mongodb::error::Result<T>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = mongodb::Client::with_uri_str(&self.uri).await.expect("a client");
            act(client.database(&self.name)).await.expect("the server's answer")
        })
    }
}
