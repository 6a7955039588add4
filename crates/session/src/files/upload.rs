//! `POST /channels/{channel}/files`

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use image::ImageFormat;
use serde_json::json;
use tokio::time::timeout;
use xpush_core::files::FileRule;
use xpush_core::ports::PortError;
use xpush_core::ports::blobs::{BlobId, Part, Upload};
use xpush_core::ports::files::{FileRecord, FileState, Thumbnail};
use xpush_core::{Action, Channel, ChannelKey, Code, FileId, Grant, Problem, UnixMillis, User};

use super::body::{self, Incoming};
use super::slots::Whose;
use super::studio::Developed;
use super::{Filing, Parts, Visitor, name, object, picture, sniff, store};
use crate::api::{Answer, Api, Asked, Caller, Refusal, Segment, named};
use crate::port::ask;

/// A day in ms: uploads of it count together, and what has not arrived within it is given up.
const DAY: UnixMillis = 86_400_000;

/// How long an upload may take in all; less than after what it is swept.
const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// After so many ms nothing comes any more of a content whose end was not waited for, or has failed without an answer.
const LATE: UnixMillis = 400_000;

/// Bytes that go to the store at once.
const CHUNK: usize = 256 << 10;

/// Bytes of an image: it is in memory when it is decoded.
const LARGEST_IMAGE: u64 = picture::LARGEST as u64;

pub(super) async fn upload(
    State(api): State<Arc<Api>>,
    Visitor(who): Visitor,
    caller: Caller,
    path: Segment,
    asked: Asked,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let plan = match plan(&api, &who, &path, &asked, &parts.headers).await {
        Ok(plan) => plan,
        Err(refusal) => {
            body::linger(&parts.headers, body).await;
            return Err(refusal);
        }
    };
    let filing = api.filing()?;
    // A back end uploads for many, and from one address.
    let whose = match who.is_server() {
        true => Vec::new(),
        false => {
            let user = Whose::User(who.app.clone(), who.sender.user.clone());
            [user].into_iter().chain(caller.address.map(Whose::address)).collect()
        }
    };
    let Some(_slot) = filing.slots.take(whose) else { return Err(Refusal::busy(2)) };
    let file = match timeout(LONGEST, take(filing, &plan, &who, &parts.headers, body)).await {
        Ok(taken) => taken?,
        Err(_) => return Err(Problem::new(Code::HandshakeTimeout, "the upload takes too long").into()),
    };
    tracing::debug!(app = %file.app, id = %file.id, size = file.size, kind = %file.kind, "took a file");
    Ok((StatusCode::CREATED, axum::Json(json!({"file": object(&file)}))).into_response())
}

/// What was found to be allowed before anything was read.
struct Plan {
    channel: ChannelKey,
    owner: User,
    rule: FileRule,
    name: Option<String>,
    /// Bytes that this upload may have.
    largest: u64,
    /// What bounds them.
    bound: Bound,
}

/// What an upload may not be larger than.
enum Bound {
    /// What one file may have.
    File,
    /// What the user may still upload today.
    Day,
    /// What all files of the app may still get, of so many bytes.
    App(u64),
}

async fn plan(
    api: &Api,
    who: &Arc<Grant>,
    path: &Segment,
    asked: &Asked,
    headers: &HeaderMap,
) -> Result<Plan, Refusal> {
    let filing = api.filing()?;
    let channel = ChannelKey::new(who.app.clone(), path.named("channel", Channel::new)?);
    filing.permission(&channel, who).await?.check(Action::Publish)?;
    let app = api.parts.access.app(&who.app).ok_or(Code::UnknownApp)?;
    let rule = FileRule::find(&app.files, &channel.name).cloned().ok_or(Code::NoFiles)?;
    let owner = match asked.one("user")? {
        Some(_) if !who.is_server() => {
            return Err(Problem::new(Code::Forbidden, "user: for back ends alone").into());
        }
        Some(user) => named(user, "user", User::new)?,
        None => who.sender.user.clone(),
    };
    let announced = announced(headers);
    let mut plan = Plan {
        channel,
        owner,
        name: asked.one("name")?.map(str::to_owned),
        largest: rule.size,
        rule,
        bound: Bound::File,
    };
    if let Some(per_day) = plan.rule.per_day {
        let since = filing.parts.clock.wall().saturating_sub(DAY);
        let files = &filing.parts.files;
        let used = ask(|done| files.bytes_since(&plan.channel.app, &plan.owner, since, done)).await?;
        let left = per_day.saturating_sub(used);
        if left < plan.largest {
            (plan.largest, plan.bound) = (left, Bound::Day);
        }
    }
    if let Some(most) = app.limits.files {
        let Parts { files, clock, .. } = &filing.parts;
        let wanted = announced.unwrap_or(plan.largest).min(plan.largest);
        let left = filing.quota.left(&**files, &who.app, most, wanted, clock.wall()).await?;
        if left < plan.largest {
            (plan.largest, plan.bound) = (left, Bound::App(most));
        }
    }
    plan.check(announced.unwrap_or(0))?;
    Ok(plan)
}

/// Bytes that the file has, at least: nobody knows how many a form has around its own.
fn announced(headers: &HeaderMap) -> Option<u64> {
    let length: u64 = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let said = headers.get("content-type").and_then(|said| said.to_str().ok());
    Some(if said.is_some_and(body::is_form) { length.saturating_sub(body::AROUND) } else { length })
}

impl Plan {
    /// Whether so many bytes may be uploaded.
    fn check(&self, size: u64) -> Result<(), Problem> {
        // Not even an empty one is taken when there is no room.
        if size <= self.largest && self.largest > 0 {
            return Ok(());
        }
        Err(match self.bound {
            Bound::File => {
                Problem::new(Code::TooLarge, format!("a file has at most {} here", in_words(self.rule.size)))
            }
            Bound::Day => {
                let per_day = in_words(self.rule.per_day.unwrap_or_default());
                Problem::new(Code::RateLimited, format!("one may upload {per_day} a day here"))
            }
            Bound::App(most) => {
                let most = in_words(most);
                Problem::new(Code::Full, format!("the files of this app may have {most} together"))
            }
        })
    }
}

/// `25 MB`
fn in_words(bytes: u64) -> String {
    match bytes {
        1_000_000.. if bytes.is_multiple_of(1_000_000) => format!("{} MB", bytes / 1_000_000),
        1_000.. if bytes.is_multiple_of(1_000) => format!("{} kB", bytes / 1_000),
        _ => format!("{bytes} bytes"),
    }
}

/// Takes it in. Whatever goes wrong, and if whoever asks goes away: nothing of it is left.
async fn take(
    filing: &Arc<Filing>,
    plan: &Plan,
    who: &Arc<Grant>,
    headers: &HeaderMap,
    body: Body,
) -> Result<FileRecord, Refusal> {
    let mut incoming = Incoming::begin(headers, body, plan.largest).await?;
    let mut noted = None;
    match receive(filing, plan, who, &mut incoming, &mut noted).await {
        Ok(file) => {
            if let Some(mut noted) = noted {
                noted.kept = true;
            }
            Ok(file)
        }
        Err(refusal) => {
            if let Some(mut noted) = noted {
                noted.kept = true;
                noted.undo().await;
            }
            incoming.linger().await;
            Err(refusal)
        }
    }
}

async fn receive(
    filing: &Arc<Filing>,
    plan: &Plan,
    who: &Arc<Grant>,
    incoming: &mut Incoming,
    noted: &mut Option<Noted>,
) -> Result<FileRecord, Refusal> {
    let head = gather(incoming, sniff::LOOKED_AT).await?;
    let kind = sniff::kind(&head, incoming.said.as_deref());
    if !plan.rule.takes(kind) {
        return Err(
            Problem::new(Code::BadFileType, format!("files of the type {kind} are not taken here")).into()
        );
    }
    let now = filing.parts.clock.wall();
    let mut chance = [0; 16];
    getrandom::fill(&mut chance).map_err(|_| Code::Internal)?;
    let given = plan.name.as_deref().or(incoming.name.as_deref()).unwrap_or_default();
    let mut file = FileRecord {
        id: FileId::made_of(now, chance),
        app: plan.channel.app.clone(),
        channel: plan.channel.name.clone(),
        owner: plan.owner.clone(),
        name: name::clean(given),
        kind: kind.into(),
        // As long as it is on its way, it counts as much as it may become.
        size: incoming.announced.unwrap_or(plan.largest).min(plan.largest),
        hash: "".into(),
        width: None,
        height: None,
        thumbnail: None,
        created_at: now,
        expires_at: Some(now + DAY),
        state: FileState::Uploading,
    };
    ask(|done| filing.parts.files.add(file.clone(), done)).await?;
    filing.quota.took(&file.app, file.size);
    let noted = noted.insert(Noted { filing: filing.clone(), file: file.clone(), open: false, kept: false });
    match sniff::format(kind) {
        None => (file.size, file.hash) = keep(noted, plan, Part::Content, head, incoming).await?,
        Some(format) => {
            keep(noted, plan, Part::Original, head, incoming).await?;
            develop(noted, &mut file, format).await?;
        }
    }
    // Who was revoked meanwhile has uploaded nothing.
    if !who.is_server() {
        let (decided, decision) = tokio::sync::oneshot::channel();
        filing.parts.access.readmit(who, Box::new(move |result| drop(decided.send(result))));
        decision.await.map_err(|_| Code::Unavailable)??;
    }
    file.state = FileState::Ready;
    file.expires_at = plan.rule.keep_ms.map(|keep| now.saturating_add(keep));
    ask(|done| filing.parts.files.replace(file.clone(), done)).await?;
    Ok(file)
}

/// At least so many bytes, if there are.
async fn gather(incoming: &mut Incoming, wanted: usize) -> Result<Vec<u8>, Problem> {
    let mut gathered = Vec::new();
    while gathered.len() < wanted {
        let Some(chunk) = incoming.next().await? else { break };
        gathered.extend_from_slice(&chunk);
    }
    Ok(gathered)
}

/// Streams what comes, behind `head`, into a content: its size, and its SHA-256.
async fn keep(
    noted: &mut Noted,
    plan: &Plan,
    part: Part,
    head: Vec<u8>,
    incoming: &mut Incoming,
) -> Result<(u64, Box<str>), Refusal> {
    let largest = if part == Part::Original { plan.largest.min(LARGEST_IMAGE) } else { plan.largest };
    let mut upload = noted.create(part, largest).await?;
    let (mut size, mut digest) = (0, Context::new(&SHA256));
    let mut chunk = head;
    while !chunk.is_empty() {
        size += chunk.len() as u64;
        if size > largest && largest < plan.largest {
            return Err(
                Problem::new(Code::TooLarge, format!("an image has at most {}", in_words(largest))).into()
            );
        }
        plan.check(size)?;
        digest.update(&chunk);
        store(|done| upload.write(chunk.into(), done)).await?;
        chunk = gather(incoming, CHUNK).await?;
    }
    noted.finish(upload).await?;
    Ok((size, URL_SAFE_NO_PAD.encode(digest.finish()).into()))
}

/// Makes a new image of what was uploaded, with a thumbnail.
async fn develop(noted: &mut Noted, file: &mut FileRecord, format: ImageFormat) -> Result<(), Refusal> {
    let filing = noted.filing.clone();
    let original = BlobId::new(file.id.clone(), Part::Original);
    let opened = store(|done| filing.parts.blobs.open(&original, 0..u64::MAX, done)).await?;
    let mut picture = filing.studio.develop(opened.ok_or(Code::Internal)?.content, format).await?;
    let (shape, small) = (picture.shape, picture.small);
    file.hash = keep_picture(noted, Part::Content, shape.size, &mut picture).await?;
    keep_picture(noted, Part::Thumbnail, small.size, &mut picture).await?;
    drop(picture);
    store(|done| filing.parts.blobs.delete(&original, done)).await?;
    file.size = shape.size;
    // Saved and opened, it must be taken for what it is: `cat.html` is no image to a browser.
    file.name = name::ending_as_one_of(&file.name, shape.written.endings());
    file.kind = shape.written.media_type().into();
    (file.width, file.height) = (Some(shape.width), Some(shape.height));
    file.thumbnail = Some(Thumbnail {
        kind: small.written.media_type().into(),
        width: small.width,
        height: small.height,
        size: small.size,
    });
    Ok(())
}

/// Keeps the next `size` bytes of a picture: their SHA-256.
async fn keep_picture(
    noted: &mut Noted,
    part: Part,
    size: u64,
    picture: &mut Developed<'_>,
) -> Result<Box<str>, Refusal> {
    let mut upload = noted.create(part, size).await?;
    let (mut left, mut digest) = (size, Context::new(&SHA256));
    while left > 0 {
        let chunk = picture.next(left).await?;
        left -= chunk.len() as u64;
        digest.update(&chunk);
        store(|done| upload.write(chunk, done)).await?;
    }
    noted.finish(upload).await?;
    Ok(URL_SAFE_NO_PAD.encode(digest.finish()).into())
}

/// An upload that somebody knows of. Dropped without being kept, it is undone: whoever asked has gone away.
struct Noted {
    filing: Arc<Filing>,
    file: FileRecord,
    /// What became of a content is not known: it may still come.
    open: bool,
    kept: bool,
}

impl Noted {
    async fn create(&self, part: Part, largest: u64) -> Result<Box<dyn Upload>, PortError> {
        let id = BlobId::new(self.file.id.clone(), part);
        store(|done| self.filing.parts.blobs.create(&id, largest, done)).await
    }

    async fn finish(&mut self, upload: Box<dyn Upload>) -> Result<u64, PortError> {
        self.open = true;
        let finished = store(|done| upload.finish(done)).await;
        self.open = finished.is_err();
        finished
    }

    async fn undo(&self) {
        let undone = if self.open { self.leave().await } else { self.filing.remove(&self.file).await };
        if let Err(error) = undone {
            tracing::warn!(%error, id = %self.file.id, "an upload that has failed is left to be swept");
        }
    }

    /// Leaves it to be swept when nothing comes any more; until then it counts as nothing.
    async fn leave(&self) -> Result<(), PortError> {
        let Parts { files, clock, .. } = &self.filing.parts;
        let file = FileRecord { size: 0, expires_at: Some(clock.wall() + LATE), ..self.file.clone() };
        ask(|done| files.replace(file, done)).await
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (filing, file) = (self.filing.clone(), self.file.clone());
        let undone = Self { filing, file, open: self.open, kept: true };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { undone.undo().await });
        }
    }
}
