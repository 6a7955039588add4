//! Databases for tests, on a server that all tests of a program share.

#![allow(dead_code, reason = "not every suite needs all of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use xpush_mongodb::{Options, Store};
use xpush_testkit::service::mongo::{Mongo, Product};

static SERVER: Mutex<Weak<Mongo>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(0);

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

    pub(crate) fn options(&self) -> Options {
        Options::new(self.uri.clone(), self.name.clone())
    }

    /// A handle, as a node has it.
    pub(crate) fn open(&self) -> Arc<Store> {
        Store::open(self.options()).expect("opens")
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
