//! What is known of files, beside their contents.

use serde::{Deserialize, Serialize};

use crate::environment::UnixMillis;
use crate::names::{App, Channel, FileId, User};
use crate::ports::Done;

/// Whether a file can be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// It is on its way; whoever sends it may have gone.
    Uploading,
    /// It is whole.
    Ready,
}

/// A small picture of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Its media type.
    pub kind: Box<str>,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// In bytes.
    pub size: u64,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its id, which no other file has, in whatever app.
    pub id: FileId,
    /// The app.
    pub app: App,
    /// Who may read this channel's history may have the file.
    pub channel: Channel,
    /// Who has uploaded it.
    pub owner: User,
    /// What it is called where it is saved: a file's name, without a path.
    pub name: Box<str>,
    /// Its media type (RFC 9110, 8.3.1), found out from its bytes.
    pub kind: Box<str>,
    /// Bytes; while it is on its way, as many as were announced.
    pub size: u64,
    /// SHA-256 of its bytes, base64url; empty while it is on its way.
    pub hash: Box<str>,
    /// Of an image, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Of an image, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<Thumbnail>,
    /// When the upload began, ms since 1970.
    pub created_at: UnixMillis,
    /// From when on it is gone, ms since 1970; `None`: never by itself.
    pub expires_at: Option<UnixMillis>,
    /// Whether it is whole.
    pub state: FileState,
}

/// What can be listed, the newest first: ids begin with the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileListing {
    /// An app's.
    OfApp(App),
    /// A channel's.
    OfChannel(App, Channel),
    /// A user's.
    OfUser(App, User),
}

/// Knows files, those on their way included. A file's contents are removed before it is: so nothing is kept that nobody knows.
///
/// - **Atomic, visible, durable**: as with a [`Directory`](super::directory::Directory).
/// - A moment that has passed changes nothing by itself: whoever asks looks at `expires_at`, and removes what is due.
pub trait Files: Send + Sync {
    /// Notes a new one; [`Failure::Conflict`](super::Failure::Conflict) when there is one of this id.
    fn add(&self, file: FileRecord, done: Done<()>);
    /// Gives a file another record; [`Failure::Conflict`](super::Failure::Conflict) when there is none of this id in this app (any more).
    fn replace(&self, file: FileRecord, done: Done<()>);
    /// A file of an app.
    fn get(&self, app: &App, id: &FileId, done: Done<Option<FileRecord>>);
    /// Removes it, if it is there.
    fn remove(&self, app: &App, id: &FileId, done: Done<()>);
    /// At most `limit`, those behind `after`: the id of one that may be gone.
    fn list(&self, listing: &FileListing, after: Option<FileId>, limit: usize, done: Done<Vec<FileRecord>>);
    /// Those of all apps whose `expires_at` is `now` or earlier, the earliest first; at most `limit`.
    fn due(&self, now: UnixMillis, limit: usize, done: Done<Vec<FileRecord>>);
    /// Bytes that a user's files have that were created at `since` or later.
    fn bytes_since(&self, app: &App, user: &User, since: UnixMillis, done: Done<u64>);
    /// Bytes that all files of an app have.
    fn bytes(&self, app: &App, done: Done<u64>);
}
