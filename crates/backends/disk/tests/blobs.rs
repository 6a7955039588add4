//! The port's contract, over two handles on one folder; and a disk that is full.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tokio::runtime::Runtime;
use xpush_core::ports::Failure;
use xpush_core::ports::blobs::{BlobId, Blobs};
use xpush_disk::DiskBlobs;
use xpush_testkit::suite::answer;
use xpush_testkit::suite::blobs::BlobStore;
use xpush_testkit::suite::blobs::content::{blob, read, write};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn open(folder: &Path) -> Arc<dyn Blobs> {
    Arc::new(DiskBlobs::open(folder, 0, RUNTIME.handle().clone()).unwrap())
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

fn fixture() -> BlobStore {
    let folder = tempfile::tempdir().unwrap();
    let handles = [open(folder.path()), open(folder.path())];
    BlobStore { handles, kept: Box::new(move || files(folder.path())) }
}

xpush_testkit::blobs_suite!(fixture);

/// A file system of 2 MB in memory, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path());
        assert!(mount.status().unwrap().success(), "this test mounts a file system, as root");
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_of_what_did_not_fit() {
    let disk = Small::mount();
    let blobs = open(disk.0.path());
    let small = blob(1);
    write(&*blobs, &small, &[b"kept"]).unwrap();
    let megabyte = Bytes::from(vec![7; 1 << 20]);
    let fill = |id: &BlobId| {
        let mut upload = answer(|done| blobs.create(id, u64::MAX, done))?;
        for _ in 0..4 {
            answer(|done| upload.write(megabyte.clone(), done))?;
        }
        answer(|done| upload.finish(done))
    };
    assert_eq!(fill(&blob(2)).unwrap_err().kind, Failure::Full);
    let deadline = std::time::Instant::now() + xpush_testkit::suite::PATIENCE;
    while files(disk.0.path()) > 1 {
        assert!(std::time::Instant::now() < deadline, "what did not fit is left");
        std::thread::yield_now();
    }
    assert_eq!(read(&*blobs, &small, 0..99).as_deref(), Some(&b"kept"[..]));
    write(&*blobs, &blob(3), &[&megabyte[..]]).unwrap();
}

#[test]
fn the_room_that_is_to_be_kept_free_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = DiskBlobs::open(folder.path(), u64::MAX, RUNTIME.handle().clone()).unwrap();
    assert_eq!(write(&blobs, &blob(1), &[b"x"]).unwrap_err().kind, Failure::Full);
}

#[test]
fn nobody_else_looks_into_the_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/files");
    let blobs = open(&root);
    write(&*blobs, &blob(1), &[b"x"]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&root), mode(&root.join("unfinished"))), (0o700, 0o700));
    let place = root.join(&blob(1).file.as_str()[24..]);
    assert_eq!((mode(&place), mode(&place.join(blob(1).to_string()))), (0o700, 0o600));
}
