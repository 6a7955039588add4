//! Files' contents: bytes under names that we made, written once and read in parts.
//!
//! A content may be larger than memory, so it is written and read as a series of calls, of which each waits for the answer to the one before. That is all the
//! back-pressure there is: nobody asks for more than they have room for, and a backend holds one chunk of each stream, or the one part that its store wants at a time. The
//! other shapes would need more: a `Stream` or an `AsyncRead` brings a runtime's traits into the ports, a channel needs a bound and a way to tell a
//! failure, and a call that takes an iterator holds a thread for as long as a slow client takes.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::names::FileId;
use crate::ports::Done;

/// Which of a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// What is downloaded.
    Content,
    /// A small picture of it.
    Thumbnail,
    /// What was uploaded, until something else was made of it. Nobody is given it.
    Original,
}

/// The name of a content. Nothing in it comes from a client: [`FileId`]s are made here, and have no character that means anything in a path or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobId {
    /// Of which file.
    pub file: FileId,
    /// Which of its contents.
    pub part: Part,
}

/// A content that can be read.
pub struct Opened {
    /// Bytes of all of it.
    pub size: u64,
    /// Those that were asked for.
    pub content: Box<dyn Content>,
}

/// A content that is being written. Dropped before it is finished, it leaves nothing behind.
///
/// One call at a time: the next one is made when `done` of the one before was called. After a call that has failed, it can only be dropped.
pub trait Upload: Send {
    /// Takes the next bytes. [`Failure::Invalid`](super::Failure::Invalid) when there are more than `create` was told.
    fn write(&mut self, chunk: Bytes, done: Done<()>);
    /// Makes it a content, with how many bytes. Durable and whole when that is answered; after [`Failure::Unknown`](super::Failure::Unknown) it may be there or not.
    fn finish(self: Box<Self>, done: Done<u64>);
}

/// A content that is being read. To be dropped when no more is wanted.
pub trait Content: Send {
    /// The next bytes, of 1 up to 1 MiB; `None` at the end. One call at a time, as with [`Upload`].
    fn read(&mut self, done: Done<Option<Bytes>>);
}

/// Keeps contents.
///
/// - **Whole**: a content is seen when it was finished, all of it, and never before; from then on on every handle, also after a crash.
/// - **Written once**: whoever creates sees to it that a name is used once. Two writings of one name do not harm any other name.
/// - **Bounded**: of each content that is written or read, a handle holds at most 16 MiB in memory, however large it is.
/// - **Full**: without room, [`Failure::Full`](super::Failure::Full), and what was being written is gone. Others can be read and deleted.
pub trait Blobs: Send + Sync {
    /// Begins to write one of at most `largest` bytes.
    fn create(&self, id: &BlobId, largest: u64, done: Done<Box<dyn Upload>>);
    /// Begins to read the bytes of `range` that there are; `None` when there is no such content.
    fn open(&self, id: &BlobId, range: Range<u64>, done: Done<Option<Opened>>);
    /// Removes it, and what a writing that was never finished has left of it, a crash included. One that is not there is removed, too. What reads it already may go on or fail.
    fn delete(&self, id: &BlobId, done: Done<()>);
}

impl Part {
    /// Each of them.
    pub const EACH: [Self; 3] = [Self::Content, Self::Thumbnail, Self::Original];
}

impl BlobId {
    /// One of a file's contents.
    pub const fn new(file: FileId, part: Part) -> Self {
        Self { file, part }
    }
}

impl fmt::Display for BlobId {
    /// `ID`, `ID.thumbnail`, `ID.original`: of `a-z 0-9 .` alone, unlike every other one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file.as_str())?;
        f.write_str(match self.part {
            Part::Content => "",
            Part::Thumbnail => ".thumbnail",
            Part::Original => ".original",
        })
    }
}
