//! Files' contents in a folder.
//!
//! - `unfinished/NAME`: what is being written. It is synced, and then renamed to its place, which is the folder of the id's last two characters: `zz/NAME`. So a
//!   content is there whole or not at all, whenever the machine stops.
//! - Names are [`BlobId`]s, of `a-z 0-9 .` alone: no path has anything in it that a client has said.
//! - Below `keep_free` bytes of room nothing more is taken: files fill no disk on which a store of messages may be.
//!
//! The folder may be one that several servers share, when renaming and syncing are on it what they are on a local disk.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use xpush_core::ports::blobs::{BlobId, Blobs, Content, Opened, Upload};
use xpush_core::ports::{Done, Failure, PortError};

/// Where lies what is being written.
const UNFINISHED: &str = "unfinished";

/// Bytes of one reading.
const CHUNK: u64 = 256 << 10;

/// After so many bytes it is looked again how much room there is.
const STRETCH: u64 = 16 << 20;

/// [`Blobs`] in a folder. The work is done by the runtime's threads for what blocks.
pub struct DiskBlobs(Arc<Disk>);

struct Disk {
    root: PathBuf,
    keep_free: u64,
    runtime: Handle,
}

/// A file below `unfinished/`.
struct Writing {
    disk: Arc<Disk>,
    name: String,
    file: Arc<File>,
    largest: u64,
    written: u64,
    /// It is not to be removed when this is dropped.
    finished: bool,
}

struct Reading {
    disk: Arc<Disk>,
    file: Arc<File>,
    left: u64,
}

impl DiskBlobs {
    /// Keeps contents in `root`, which is made when it is missing, for nobody else to look into; and leaves `keep_free` bytes of its disk to others.
    pub fn open(root: &Path, keep_free: u64, runtime: Handle) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root.join(UNFINISHED))?;
        Ok(Self(Arc::new(Disk { root: root.to_owned(), keep_free, runtime })))
    }
}

impl Blobs for DiskBlobs {
    fn create(&self, id: &BlobId, largest: u64, done: Done<Box<dyn Upload>>) {
        let (disk, name) = (Arc::clone(&self.0), id.to_string());
        self.0.run(done, move || {
            disk.look_for_room()?;
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let file = Arc::new(options.open(disk.unfinished(&name)).map_err(failed)?);
            Ok(Box::new(Writing { disk, name, file, largest, written: 0, finished: false })
                as Box<dyn Upload>)
        });
    }

    fn open(&self, id: &BlobId, range: Range<u64>, done: Done<Option<Opened>>) {
        let (disk, name) = (Arc::clone(&self.0), id.to_string());
        self.0.run(done, move || {
            let mut file = match File::open(disk.place(&name)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let size = file.metadata().map_err(failed)?.len();
            let start = range.start.min(size);
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
            let left = range.end.min(size).saturating_sub(start);
            Ok(Some(Opened { size, content: Box::new(Reading { disk, file: Arc::new(file), left }) }))
        });
    }

    fn delete(&self, id: &BlobId, done: Done<()>) {
        let (disk, name) = (Arc::clone(&self.0), id.to_string());
        self.0.run(done, move || {
            let place = disk.place(&name);
            remove(&disk.unfinished(&name))?;
            if remove(&place)? {
                // Who is told that it is gone forgets it: it must not come back.
                sync_folder(place.parent().unwrap_or(&disk.root)).map_err(failed)?;
            }
            Ok(())
        });
    }
}

impl Disk {
    fn unfinished(&self, name: &str) -> PathBuf {
        self.root.join(UNFINISHED).join(name)
    }

    /// Ids begin with the time and end with chance, by which they are spread over 1,024 folders.
    fn place(&self, name: &str) -> PathBuf {
        let id = name.split('.').next().unwrap_or(name);
        self.root.join(&id[id.len().saturating_sub(2)..]).join(name)
    }

    fn look_for_room(&self) -> Result<(), PortError> {
        let volume = rustix::fs::statvfs(&self.root).map_err(|error| failed(error.into()))?;
        if volume.f_bavail.saturating_mul(volume.f_frsize) < self.keep_free {
            return Err(PortError::new(Failure::Full, "the disk has less room than is to be kept free"));
        }
        Ok(())
    }

    fn run<T: Send + 'static>(
        &self,
        done: Done<T>,
        work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
    ) {
        self.runtime.spawn_blocking(move || done(work()));
    }
}

impl Upload for Writing {
    fn write(&mut self, chunk: Bytes, done: Done<()>) {
        let before = self.written;
        self.written += chunk.len() as u64;
        if self.written > self.largest {
            return done(Err(PortError::new(Failure::Invalid, "more bytes than were announced")));
        }
        let look = before / STRETCH != self.written / STRETCH;
        let (disk, file) = (Arc::clone(&self.disk), Arc::clone(&self.file));
        self.disk.run(done, move || {
            if look {
                disk.look_for_room()?;
            }
            (&*file).write_all(&chunk).map_err(failed)
        });
    }

    fn finish(mut self: Box<Self>, done: Done<u64>) {
        let disk = Arc::clone(&self.disk);
        disk.run(done, move || {
            self.file.sync_all().map_err(failed)?;
            let place = self.disk.place(&self.name);
            let folder = place.parent().unwrap_or(&self.disk.root);
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => sync_folder(&self.disk.root).map_err(failed)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            fs::rename(self.disk.unfinished(&self.name), &place).map_err(failed)?;
            self.finished = true;
            sync_folder(folder).map_err(|error| PortError::new(Failure::Unknown, error.to_string()))?;
            Ok(self.written)
        });
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let file = self.disk.unfinished(&self.name);
        // Not here: whoever drops it may be one who must not wait.
        self.disk.runtime.spawn_blocking(move || {
            if let Err(error) = remove(&file) {
                tracing::warn!(%error, "what was left of an upload was not removed");
            }
        });
    }
}

impl Content for Reading {
    fn read(&mut self, done: Done<Option<Bytes>>) {
        let wanted = self.left.min(CHUNK);
        if wanted == 0 {
            return done(Ok(None));
        }
        self.left -= wanted;
        let file = Arc::clone(&self.file);
        self.disk.run(done, move || {
            let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
            (&*file).take(wanted).read_to_end(&mut chunk).map_err(failed)?;
            if chunk.len() as u64 != wanted {
                return Err(PortError::new(Failure::NotApplied, "a content has become shorter"));
            }
            Ok(Some(chunk.into()))
        });
    }
}

/// Whether it was there.
fn remove(file: &Path) -> Result<bool, PortError> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// A name in a folder is durable when the folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(error: io::Error) -> PortError {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Failure::Full,
        _ => Failure::NotApplied,
    };
    PortError::new(kind, error.to_string())
}
