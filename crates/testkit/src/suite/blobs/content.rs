//! One content, from its first byte to its last.

use std::ops::Range;

use bytes::Bytes;
use xpush_core::FileId;
use xpush_core::ports::PortError;
use xpush_core::ports::blobs::{BlobId, Blobs, Part};

use crate::suite::answer;

/// The content of a file that is told from others by a number.
pub fn blob(number: u8) -> BlobId {
    BlobId::new(FileId::made_of(1_700_000_000_000, [number; 16]), Part::Content)
}

/// Writes a content whole.
pub fn write(blobs: &dyn Blobs, id: &BlobId, chunks: &[&[u8]]) -> Result<u64, PortError> {
    let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let mut upload = answer(|done| blobs.create(id, size, done))?;
    for chunk in chunks {
        answer(|done| upload.write(Bytes::copy_from_slice(chunk), done))?;
    }
    answer(|done| upload.finish(done))
}

/// Reads a part of a content; `None` when there is none.
pub fn read(blobs: &dyn Blobs, id: &BlobId, range: Range<u64>) -> Option<Vec<u8>> {
    let mut opened = answer(|done| blobs.open(id, range, done)).expect("an answer")?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer(|done| opened.content.read(done)).expect("bytes") {
        assert!((1..=1 << 20).contains(&chunk.len()), "a chunk of {} bytes", chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}
