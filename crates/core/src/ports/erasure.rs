//! Taking a user out of what is kept: a capability of message logs.

use std::borrow::Cow;

use serde::Deserialize;

use crate::environment::UnixMillis;
use crate::names::{App, User};
use crate::ports::Done;

/// Whom erased messages read as being from. Nobody else is called so: names that begin with `$` are the server's.
pub const NOBODY: &str = "$erased";

/// An erasure that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The app.
    pub app: App,
    /// Who is to be taken out.
    pub user: User,
    /// When it began, ms since 1970, as [`Erasure::begin`] was told.
    pub since: UnixMillis,
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Of how much there was to look through at the beginning, how much has been; in the store's own measure.
    pub looked_at: u64,
    /// How much there was.
    pub of: u64,
    /// Slots that were blanked or taken out since it began.
    pub erased: u64,
    /// There is nothing left that could be found.
    pub ended: bool,
}

/// Takes users out of a store: out of the messages, and out of what the store keeps beside them (markers, when they were last seen, notes of what was changed).
/// Entries of the directory are removed by whoever erases, by its listings; that the user publishes nothing any more is seen to before the first step.
///
/// - **Resumed**: what has begun is pending until [`end`](Self::end), also after a restart where the messages outlive one. Each step is atomic, steps may be taken
///   by several callers at once, and one that is taken again does no harm.
/// - **Small**: a step holds up appends for some milliseconds at most, however much there is.
/// - **Slots stay**: no seq is given again and none is missing; heads, epochs, and everybody's `unread` count as if the user had deleted its messages.
/// - **Messages** of the user, in every channel of the app, read as deleted, from [`NOBODY`], without its display name, under ids and event names that the store chose. The
///   revision of one that was neither edited nor deleted before has the message's own seq. Edits of them, by whomever, and the user's own edits and
///   deletions have no data, and of the user no name. What the user wrote into others' messages by editing them is gone, too: these read as deleted.
/// - **Personal channels** of the user and its devices are emptied: they begin anew, with an epoch that they never had. In channels of the server (`$…`) every message whose
///   data is an object with this user as `user` is erased like the user's own.
/// - Retries are recognized no more: a message that the user sends again after it was erased takes a new place.
/// - **Gone**: once `end` was answered, the store holds nothing of the user's id, names and data any more, but for digests that tell who guesses a personal channel's name
///   that there was one. What a store leaves in unused parts of its files, it says itself, and offers a way to be rid of it.
/// - Who follows a channel is told nothing: it learns by what it reads next.
pub trait Erasure: Send + Sync {
    /// Notes, where it lasts, that everything of `user` shall go. When it is pending already nothing changes.
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>);
    /// What has begun and not ended, the earliest first.
    fn pending(&self, done: Done<Vec<Pending>>);
    /// Takes the next step; of what is not pending, none: it has ended.
    fn step(&self, app: &App, user: &User, done: Done<Step>);
    /// Takes out what names the user outside of messages, and that it was to be erased. To be called when steps have come to their end and the directory has
    /// nothing of the user any more; again, it does no harm.
    fn end(&self, app: &App, user: &User, done: Done<()>);
}

/// The beginning of what the server says of users.
#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
}

/// Whether data of a channel of the server's are about this user: an object that has it as `user`.
pub fn is_about(json: &[u8], user: &User) -> bool {
    // serde would take an array for a struct, too.
    json.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<About<'_>>(json).is_ok_and(|about| about.user == user.as_str())
}
