//! Files: what users have uploaded into an app's channels.

use std::sync::Arc;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use xpush_core::ports::blobs::Part;
use xpush_core::ports::files::{FileListing, FileRecord};
use xpush_core::{App, Channel, Code, FileId, Problem, User};

use super::{Within, short};
use crate::api::openapi::schema::{self, about, of};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, named, ok};
use crate::files::{Filing, Given, deletion};
use crate::port::ask;

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 500;

/// Characters of a media type and of a file's name.
const LONGEST_TYPE: usize = 128;
const LONGEST_NAME: usize = 255;

/// Files that are looked at for one page.
const LOOKED_THROUGH: usize = 5_000;

/// Files of a page of the store.
const AT_ONCE: usize = 500;

pub(super) fn routes() -> Routes {
    let of_app = |operation: Operation| operation.tag("administration").admin().refuses(&[Code::NoFiles]);
    let file = schema::object(&[
        ("file", of("FileId"), true),
        ("channel", of("ChannelName"), true),
        ("name", schema::text(1, LONGEST_NAME), true),
        ("type", about(schema::text(1, LONGEST_TYPE), "Its media type."), true),
        ("size", about(schema::number(0), "Bytes."), true),
        ("by", about(of("User"), "Who has uploaded it."), true),
        ("at", schema::moment(), true),
        ("expires_at", schema::moment(), false),
        ("width", about(schema::number(1), "Of an image, in pixels."), false),
        ("height", about(schema::number(1), "Of an image, in pixels."), false),
        ("thumbnail", about(schema::flag(), "Whether there is one."), true),
    ]);
    let list = of_app(Operation::get("/admin/apps/{app}/files", "adminFiles", "An app's files, the newest first"))
        .about("All that is asked for must hold. A page may have fewer than `limit`, and still another behind it: `after` says so.")
        .query("channel", of("ChannelName"), "Of this channel.")
        .query("user", of("User"), "Of this user.")
        .query("type", schema::text(0, LONGEST_TYPE), "Of this media type, or of the half in front of the `/`.")
        .query("name", schema::text(0, LONGEST_NAME), "Whose name has this in it, in whatever case.")
        .query("after", of("FileId"), "Behind this one: what the page before gave.")
        .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
        .ok(list_of("files", file))
        .refuses(&[Code::BadChannel]);
    let given = |operation: Operation| {
        operation
            .answers_with(200, "Its bytes.", None)
            .answers_with(206, "The range.", None)
            .refuses(&[Code::BadRange])
    };
    let content =
        of_app(Operation::get("/admin/apps/{app}/files/{file}/content", "adminFile", "Download a file"));
    let small = of_app(Operation::get(
        "/admin/apps/{app}/files/{file}/thumbnail",
        "adminThumbnail",
        "Download an image's thumbnail",
    ));
    let delete =
        of_app(Operation::delete("/admin/apps/{app}/files/{file}", "adminDeleteFile", "Delete a file"))
            .ok(schema::object(&[]));
    Routes::new()
        .on(list, all)
        .on(given(content), download)
        .on(given(small), thumbnail)
        .on(delete, delete_one)
}

/// Which files are asked for.
struct Wanted {
    listing: FileListing,
    user: Option<User>,
    kind: String,
    name: String,
}

impl Wanted {
    fn read(app: &App, asked: &Asked) -> Result<Self, Problem> {
        let text = |name, longest| {
            short(asked, name, longest).map(|text| text.unwrap_or_default().trim().to_lowercase())
        };
        let user = asked.one("user")?.map(|user| named(user, "user", User::new)).transpose()?;
        let channel = asked.one("channel")?.filter(|channel| !channel.is_empty());
        let channel = channel.map(|channel| named(channel, "channel", Channel::new)).transpose()?;
        let listing = match (channel, &user) {
            (Some(channel), _) => FileListing::OfChannel(app.clone(), channel),
            (None, Some(user)) => FileListing::OfUser(app.clone(), user.clone()),
            (None, None) => FileListing::OfApp(app.clone()),
        };
        Ok(Self { listing, user, kind: text("type", LONGEST_TYPE)?, name: text("name", LONGEST_NAME)? })
    }

    fn wants(&self, file: &FileRecord) -> bool {
        let half = || file.kind.split_once('/').is_some_and(|(half, _)| half == self.kind);
        self.user.as_ref().is_none_or(|user| file.owner == *user)
            && (self.kind.is_empty() || *file.kind == *self.kind || half())
            && (self.name.is_empty() || file.name.to_lowercase().contains(&self.name))
    }
}

async fn all(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    let filing = api.filing()?;
    let wanted = Wanted::read(&within.app, &asked)?;
    let limit = asked.limit(PAGE, LARGEST_PAGE)?;
    let mut after = asked.one("after")?.map(|after| named(after, "after", FileId::new)).transpose()?;
    let mut found = Vec::new();
    for _ in 0..LOOKED_THROUGH / AT_ONCE {
        let behind = after.clone();
        let files = ask(|done| filing.files().list(&wanted.listing, behind, AT_ONCE, done)).await?;
        let last = files.len() < AT_ONCE;
        for file in files {
            after = Some(file.id.clone());
            if filing.is_there(&file) && wanted.wants(&file) {
                found.push(shown(&file));
            }
            if found.len() == limit {
                return ok(json!({"files": found, "after": after}));
            }
        }
        if last {
            return ok(json!({"files": found}));
        }
    }
    ok(json!({"files": found, "after": after}))
}

fn shown(file: &FileRecord) -> Value {
    let mut shown = json!({
        "file": file.id, "channel": file.channel, "name": file.name, "type": file.kind, "size": file.size,
        "by": file.owner, "at": file.created_at, "thumbnail": file.thumbnail.is_some(),
    });
    for (name, value) in [
        ("expires_at", file.expires_at),
        ("width", file.width.map(u64::from)),
        ("height", file.height.map(u64::from)),
    ] {
        if let Some(value) = value {
            shown[name] = json!(value);
        }
    }
    shown
}

/// The file of the path, if the app has it.
async fn one(filing: &Filing, within: &Within) -> Result<FileRecord, crate::api::Refusal> {
    // Whatever is no id is nobody's.
    let id = FileId::new(within.segment("file")).map_err(|_| Code::NotFound)?;
    filing.ready(&within.app, &id).await
}

async fn download(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let filing = api.filing()?;
    let file = one(filing, &within).await?;
    filing.give(&file, Part::Content, request.headers(), Given::ToOwnPage).await
}

async fn thumbnail(State(api): State<Arc<Api>>, within: Within, request: Request) -> Answer {
    let filing = api.filing()?;
    let file = one(filing, &within).await?;
    filing.give(&file, Part::Thumbnail, request.headers(), Given::ToOwnPage).await
}

async fn delete_one(State(api): State<Arc<Api>>, within: Within) -> Answer {
    let filing = api.filing()?;
    let file = one(filing, &within).await?;
    let work = async { filing.remove(&file).await.map_err(crate::api::Refusal::from) };
    api.administration.audited(&within.actor, deletion(&file), work).await?;
    ok(json!({}))
}
