//! Files: uploaded into channels, and given to whoever may read these. For developers of apps: docs/files.md.
//!
//! An upload is noted first, so that whatever becomes of it, somebody knows what there is to be removed: the request that began it, or the [`sweep`](sweep). It is noted
//! as ready when its contents are whole, and removed after them.

mod body;
mod carry;
mod developer;
mod download;
mod name;
mod picture;
mod quota;
mod slots;
mod sniff;
mod studio;
mod sweep;
mod ticket;
mod upload;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::extract::State;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xpush_core::ports::access::Access;
use xpush_core::ports::blobs::{BlobId, Blobs, Part};
use xpush_core::ports::directory::Scope;
use xpush_core::ports::files::{FileListing, FileRecord, FileState, Files};
use xpush_core::ports::{Done, PortError};
use xpush_core::{Action, Channel, ChannelKey, Clock, Code, FileId, Grant, Permission, Problem};

use crate::administration::Act;
use crate::api::openapi::schema::{self, about, of};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Refusal, Segment, ok};
use crate::port::{ask, ask_within};
use crate::store::Store;

pub(crate) use download::Given;
#[cfg(test)]
pub(crate) use studio::tests::in_process_decoder;
#[cfg(test)]
pub(crate) use sweep::round;

pub use carry::{Carried, carry};
pub use developer::develop_image;
pub use studio::Decoder;
pub use sweep::{Stores, erasing, sweep};

use quota::Quota;
use slots::Slots;
use studio::Studio;
use ticket::Ticket;
use visitor::{ByBackEnd, Visitor};

/// For how long a store may take for one piece of a content.
const PATIENCE: Duration = Duration::from_secs(200);

/// Files of a page.
const PAGE: usize = 100;

/// What files stand on.
pub struct Parts {
    /// Their contents.
    pub blobs: Arc<dyn Blobs>,
    /// What is known of them.
    pub files: Arc<dyn Files>,
    /// Who somebody is, and what they may do: with what apps' hooks say of it.
    pub access: Arc<dyn Access>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Uploads at the same time.
    pub uploads: usize,
    /// What decodes images.
    pub decoder: Decoder,
    /// Pixels that an image may have.
    pub pixels: u64,
}

/// Takes files in and gives them out.
pub struct Filing {
    parts: Parts,
    slots: Slots,
    studio: Studio,
    quota: Quota,
    key: OnceCell<hmac::Key>,
}

impl Filing {
    /// Ready.
    pub fn new(parts: Parts) -> Self {
        let studio = Studio::new(parts.decoder.clone(), parts.pixels);
        let slots = Slots::new(parts.uploads);
        Self { parts, slots, studio, quota: Quota::default(), key: OnceCell::new() }
    }

    /// What this installation signs tickets with: the same on every server of it.
    async fn key(&self, store: &Store) -> Result<&hmac::Key, PortError> {
        self.key
            .get_or_try_init(|| async {
                let secret = store.secret("files").await?;
                Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
            })
            .await
    }

    /// What somebody may do in a channel.
    async fn permission(&self, channel: &ChannelKey, who: &Arc<Grant>) -> Result<Permission, Problem> {
        let (decided, decision) = tokio::sync::oneshot::channel();
        self.parts.access.permit(channel, who, None, Box::new(move |result| drop(decided.send(result))));
        decision.await.map_err(|_| Code::Unavailable)?
    }

    /// A file that is whole and not over; of another app, or of a channel that `who` may not read, there is none.
    async fn readable(&self, id: &FileId, who: &Arc<Grant>) -> Result<(FileRecord, Permission), Refusal> {
        let file = self.ready(&who.app, id).await?;
        let channel = ChannelKey::new(file.app.clone(), file.channel.clone());
        match self.permission(&channel, who).await {
            Ok(permission) if permission.check(Action::History).is_ok() => Ok((file, permission)),
            Err(problem) if problem.code != Code::Forbidden && problem.code != Code::UnknownApp => {
                Err(problem.into())
            }
            _ => Err(Code::NotFound.into()),
        }
    }

    /// A file of an app that is whole and not over.
    pub(crate) async fn ready(&self, app: &xpush_core::App, id: &FileId) -> Result<FileRecord, Refusal> {
        let file = ask(|done| self.parts.files.get(app, id, done)).await?;
        file.filter(|file| self.is_there(file)).ok_or_else(|| Code::NotFound.into())
    }

    /// Whether it can be downloaded.
    pub(crate) fn is_there(&self, file: &FileRecord) -> bool {
        let over = file.expires_at.is_some_and(|end| end <= self.parts.clock.wall());
        file.state == FileState::Ready && !over
    }

    /// Where they are.
    pub fn stores(&self) -> Stores {
        Stores { blobs: self.parts.blobs.clone(), files: self.parts.files.clone() }
    }

    /// What is known of files.
    pub(crate) fn files(&self) -> &dyn Files {
        &*self.parts.files
    }

    /// Removes a file's contents, and then the file.
    pub(crate) async fn remove(&self, file: &FileRecord) -> Result<(), PortError> {
        remove(&*self.parts.blobs, &*self.parts.files, file).await
    }
}

/// In this order: what is known can be removed again.
async fn remove(blobs: &dyn Blobs, files: &dyn Files, file: &FileRecord) -> Result<(), PortError> {
    for part in Part::EACH {
        store(|done| blobs.delete(&BlobId::new(file.id.clone(), part), done)).await?;
    }
    ask(|done| files.remove(&file.app, &file.id, done)).await
}

/// Waits for a store of contents.
async fn store<T: Send + 'static>(start: impl FnOnce(Done<T>)) -> Result<T, PortError> {
    ask_within(PATIENCE, start).await
}

impl Api {
    pub(crate) fn filing(&self) -> Result<&Arc<Filing>, Problem> {
        self.parts.files.as_ref().ok_or_else(|| {
            Problem::new(
                Code::NoFiles,
                "this server keeps no files: several servers need a store that they share ([s3])",
            )
        })
    }
}

/// A file as messages tell of it, in `data.file`.
fn object(file: &FileRecord) -> Value {
    let url = format!("/api/v1/files/{}", file.id);
    let mut object = json!({
        "id": file.id, "channel": file.channel, "name": file.name, "type": file.kind, "size": file.size,
        "hash": file.hash, "url": url, "user": file.owner, "created_at": file.created_at,
    });
    if let (Some(width), Some(height)) = (file.width, file.height) {
        object["width"] = width.into();
        object["height"] = height.into();
    }
    if let Some(thumbnail) = &file.thumbnail {
        object["thumbnail"] = json!({
            "url": format!("{url}/thumbnail"), "width": thumbnail.width, "height": thumbnail.height,
        });
    }
    if let Some(end) = file.expires_at {
        object["expires_at"] = end.into();
    }
    object
}

/// The schema `File`.
pub(crate) fn file_schema() -> Value {
    let side = || schema::number(1);
    schema::object(&[
        ("id", of("FileId"), true),
        ("channel", of("ChannelName"), true),
        ("name", about(schema::text(1, 255), "What it is called where it is saved."), true),
        ("type", about(schema::text(1, 128), "Its media type, found out from its bytes."), true),
        ("size", about(schema::number(0), "Bytes."), true),
        ("hash", about(schema::text(1, 64), "SHA-256 of its bytes, base64url."), true),
        ("url", about(schema::text(1, 128), "Where it is, on this server."), true),
        ("user", about(of("User"), "Who has uploaded it."), true),
        ("created_at", schema::moment(), true),
        ("width", about(side(), "Of an image, in pixels."), false),
        ("height", about(side(), "Of an image, in pixels."), false),
        (
            "thumbnail",
            schema::object(&[
                ("url", schema::text(1, 128), true),
                ("width", side(), true),
                ("height", side(), true),
            ]),
            false,
        ),
        ("expires_at", about(schema::moment(), "From when on it is gone."), false),
    ])
}

pub(crate) fn routes() -> Routes {
    let name = about(
        schema::text(0, 10_000),
        "What it is called; a path and whatever could mislead is taken off it.",
    );
    let upload = Operation::post("/channels/{channel}/files", "uploadFile", "Upload a file into a channel")
        .tag("files")
        .about(
            "The body is the file, or `multipart/form-data` whose first file is taken. Its type is found out from its bytes. JPEG, PNG, GIF and WebP are decoded and written \
             anew, without what cameras write into them, and get a thumbnail. Whoever may publish in the channel may upload. The answer's `file` goes into a message \
             as it is: `data.file`. Without a message nobody is told of it.",
        )
        .either(Scope::Publish)
        .query("name", name, "")
        .query("user", of("User"), "For back ends: on whose behalf.")
        .bytes()
        .answers_with(201, "It is kept.", Some(schema::object(&[("file", of("File"), true)])))
        .refuses(&[Code::NoFiles, Code::TooLarge, Code::BadFileType, Code::BadImage, Code::Full, Code::BadChannel]);
    let listed =
        Operation::get("/channels/{channel}/files", "listFiles", "A channel's files, the newest first")
            .tag("files")
            .server(Scope::Read)
            .query("limit", schema::between(1, 100), "100 without it.")
            .query("after", of("FileId"), "Those behind this one.")
            .ok(list_of("files", of("File")))
            .refuses(&[Code::NoFiles, Code::BadChannel]);
    let ticket = Operation::post("/channels/{channel}/files/ticket", "fileTicket", "A ticket for a channel's files")
        .tag("files")
        .about("For URLs in pages, where no token can be shown: `/api/v1/files/ID?ticket=TICKET`. It is good for ten minutes, for whoever has it.")
        .either(Scope::Read)
        .ok(schema::object(&[("ticket", schema::text(1, 4_096), true), ("expires_at", schema::moment(), true)]))
        .refuses(&[Code::NoFiles, Code::BadChannel]);
    let ticketed = |operation: Operation| {
        let ticket = schema::text(1, 4_096);
        let text = |name: &'static str, about: &str| json!({"name": name, "in": "header", "schema": {"type": "string"}, "description": about});
        operation
            .tag("files")
            .either_or_ticket(Scope::Read)
            .query("ticket", ticket, "Instead of a token.")
            .parameter(text("Range", "One range of bytes (RFC 9110, 14)."))
            .answers_with(206, "The range.", None)
            .answers_with(304, "It is the one that `If-None-Match` names.", None)
            .refuses(&[Code::BadRange, Code::NoFiles])
    };
    let download = Operation::get("/files/{file}", "downloadFile", "Download a file")
        .about("Whoever may read the channel's history may. Images are shown in pages, everything else is saved; nothing in a file is ever run.")
        .answers_with(200, "The file.", None);
    let small =
        Operation::get("/files/{file}/thumbnail", "downloadThumbnail", "Download an image's thumbnail")
            .about("JPEG or PNG, 320 pixels wide or high at most.")
            .answers_with(200, "The thumbnail.", None);
    let known = Operation::get("/files/{file}/info", "showFile", "What is known of a file")
        .tag("files")
        .either(Scope::Read)
        .ok(schema::object(&[("file", of("File"), true)]))
        .refuses(&[Code::NoFiles]);
    let delete = Operation::delete("/files/{file}", "deleteFile", "Delete a file")
        .tag("files")
        .about("Its owner may, who may moderate in its channel, and back ends.")
        .either(Scope::Publish)
        .ok(schema::object(&[]))
        .refuses(&[Code::NoFiles, Code::Forbidden]);
    Routes::new()
        .on(upload, upload::upload)
        .on(listed, list)
        .on(ticket, issue)
        .on(ticketed(download), download::content)
        .on(ticketed(small), download::thumbnail)
        .on(known, show)
        .on(delete, delete_one)
}

/// `GET /files/{file}/info`
async fn show(State(api): State<Arc<Api>>, Visitor(who): Visitor, path: Segment) -> Answer {
    let (file, _) = api.filing()?.readable(&id(&path)?, &who).await?;
    ok(json!({"file": object(&file)}))
}

/// `DELETE /files/{file}`
async fn delete_one(
    State(api): State<Arc<Api>>,
    Visitor(who): Visitor,
    ByBackEnd(actor): ByBackEnd,
    path: Segment,
) -> Answer {
    let filing = api.filing()?;
    let (file, permission) = filing.readable(&id(&path)?, &who).await?;
    if file.owner != who.sender.user {
        permission
            .check(Action::Moderate)
            .map_err(|_| Problem::new(Code::Forbidden, "this file is somebody else's"))?;
    }
    let work = async { filing.remove(&file).await.map_err(Refusal::from) };
    match actor {
        Some(actor) => api.administration.audited(&actor, deletion(&file), work).await?,
        None => work.await?,
    }
    ok(json!({}))
}

/// How the audit log tells of a file that is deleted. Whose it was, and what it was called, it tells until that user is erased.
pub(crate) fn deletion(file: &FileRecord) -> Act<'_> {
    let before = json!({"name": file.name, "type": file.kind, "size": file.size, "channel": file.channel});
    Act {
        what: "file.delete",
        app: Some(&file.app),
        target: Some(format!("{} {}", file.channel, file.id)),
        user: Some(file.owner.clone()),
        before: before.as_object().cloned(),
        ..Act::default()
    }
}

/// `GET /channels/{channel}/files`
async fn list(
    State(api): State<Arc<Api>>,
    server: crate::backend::Server,
    path: Segment,
    asked: Asked,
) -> Answer {
    let filing = api.filing()?;
    let channel = server.channel(&path)?;
    let limit = asked.limit(PAGE, PAGE)?;
    let after = asked.one("after")?.map(FileId::new).transpose()?;
    let listing = FileListing::OfChannel(channel.app, channel.name);
    let files = ask(|done| filing.parts.files.list(&listing, after, limit, done)).await?;
    let mut page =
        json!({"files": files.iter().filter(|file| filing.is_there(file)).map(object).collect::<Value>()});
    if let Some(last) = files.last().filter(|_| files.len() == limit) {
        page["after"] = last.id.as_str().into();
    }
    ok(page)
}

/// `POST /channels/{channel}/files/ticket`
async fn issue(State(api): State<Arc<Api>>, Visitor(who): Visitor, path: Segment) -> Answer {
    let filing = api.filing()?;
    let channel = ChannelKey::new(who.app.clone(), path.named("channel", Channel::new)?);
    filing.permission(&channel, &who).await?.check(Action::History)?;
    let expires_at = filing.parts.clock.wall() + ticket::GOOD_FOR;
    // No longer than the token that it is given for.
    let expires_at = who.expires_at.map_or(expires_at, |end| end.min(expires_at));
    let ticket = Ticket { app: channel.app, channel: channel.name, expires_at };
    ok(json!({"ticket": ticket.seal(filing.key(&api.store).await?), "expires_at": expires_at}))
}

fn id(path: &Segment) -> Result<FileId, Problem> {
    // Whatever is no id is nobody's.
    FileId::new(&path.0).map_err(|_| Code::NotFound.into())
}

/// For the schema of a path.
pub(crate) fn id_schema() -> Value {
    json!({"type": "string", "minLength": 26, "maxLength": 26, "pattern": "^[0-9a-hjkmnp-tv-z]+$", "description": "A file's id."})
}
