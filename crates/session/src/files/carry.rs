//! Files' contents, carried from one store to another: for backups, and for installations that move.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xpush_core::ports::PortError;
use xpush_core::ports::blobs::{BlobId, Blobs, Content, Part};
use xpush_core::ports::files::FileRecord;

use super::store;

/// What became of a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// They are where they are to be, byte for byte.
    Copied,
    /// They were there already.
    There,
    /// They are in neither store.
    Missing,
    /// They are not what is known of them: of another size, or with another SHA-256.
    Damaged,
}

/// One content of a file, as it has to be.
struct Expected<'a> {
    id: BlobId,
    size: u64,
    /// Of thumbnails only the size is known.
    hash: Option<&'a str>,
}

/// Sees to it that `to` has the contents of a file that is ready; without `from`, only looks whether it has them. What is there already is taken for whole if its size is
/// right, and with `read` only if its SHA-256 is, too.
pub async fn carry(
    file: &FileRecord,
    from: Option<&dyn Blobs>,
    to: &dyn Blobs,
    read: bool,
) -> Result<Carried, PortError> {
    let mut carried = Carried::There;
    for expected in expected(file) {
        if is_there(&expected, to, read).await? {
            continue;
        }
        let Some(from) = from else { return Ok(Carried::Missing) };
        match copy(&expected, from, to).await? {
            Carried::Copied => carried = Carried::Copied,
            other => return Ok(other),
        }
    }
    Ok(carried)
}

fn expected(file: &FileRecord) -> impl Iterator<Item = Expected<'_>> {
    let content = Expected {
        id: BlobId::new(file.id.clone(), Part::Content),
        size: file.size,
        hash: Some(&*file.hash),
    };
    let thumbnail = file.thumbnail.as_ref().map(|small| Expected {
        id: BlobId::new(file.id.clone(), Part::Thumbnail),
        size: small.size,
        hash: None,
    });
    [content].into_iter().chain(thumbnail)
}

async fn is_there(expected: &Expected<'_>, store_of: &dyn Blobs, read: bool) -> Result<bool, PortError> {
    let hash = expected.hash.filter(|_| read);
    let range = if hash.is_some() { 0..u64::MAX } else { 0..0 };
    let Some(opened) = store(|done| store_of.open(&expected.id, range, done)).await? else {
        return Ok(false);
    };
    if opened.size != expected.size {
        return Ok(false);
    }
    let Some(hash) = hash else { return Ok(true) };
    let (mut content, mut digest) = (opened.content, Context::new(&SHA256));
    while let Some(chunk) = next(&mut *content).await? {
        digest.update(&chunk);
    }
    Ok(URL_SAFE_NO_PAD.encode(digest.finish()) == hash)
}

/// It appears there only when it is whole and right.
async fn copy(expected: &Expected<'_>, from: &dyn Blobs, to: &dyn Blobs) -> Result<Carried, PortError> {
    let Some(opened) = store(|done| from.open(&expected.id, 0..u64::MAX, done)).await? else {
        return Ok(Carried::Missing);
    };
    if opened.size != expected.size {
        return Ok(Carried::Damaged);
    }
    let mut upload = store(|done| to.create(&expected.id, expected.size, done)).await?;
    let (mut content, mut digest) = (opened.content, Context::new(&SHA256));
    while let Some(chunk) = next(&mut *content).await? {
        digest.update(&chunk);
        store(|done| upload.write(chunk, done)).await?;
    }
    let digest = URL_SAFE_NO_PAD.encode(digest.finish());
    if expected.hash.is_some_and(|hash| hash != digest) {
        return Ok(Carried::Damaged);
    }
    store(|done| upload.finish(done)).await?;
    Ok(Carried::Copied)
}

async fn next(content: &mut dyn Content) -> Result<Option<axum::body::Bytes>, PortError> {
    store(|done| content.read(done)).await
}
