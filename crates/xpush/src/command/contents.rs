//! Contents of files, which backups, restorations and moves take along.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xpush_core::FileId;
use xpush_core::ports::blobs::{BlobId, Blobs, Part};
use xpush_core::ports::files::{FileRecord, FileState};
use xpush_session::files::{Carried, carry};

use super::{terminal, wait};
use crate::backends::{self, Fault, KnownFiles};
use crate::config::Settings;

/// What is known of files at a time.
const PAGE: usize = 500;

/// Contents that are copied at the same time.
const AT_ONCE: usize = 8;

/// How many of those that are wrong are named.
const NAMED: usize = 5;

/// A store of contents that may be in use.
pub(super) type Contents = Arc<dyn Blobs>;

/// What was done with files.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Files that are whole where they are to be.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// How many of them were not there before.
    pub(super) copied: u64,
    /// In neither store.
    pub(super) missing: Vec<FileRecord>,
    /// Not what is known of them.
    pub(super) damaged: Vec<FileRecord>,
}

/// Where contents come from and go to.
pub(super) struct Move {
    /// `None`: they are to be in `to` already.
    pub(super) from: Option<Contents>,
    pub(super) to: Contents,
    /// What is in `to` already is read, and compared with its SHA-256.
    pub(super) read: bool,
}

/// What this work is done on.
pub(super) fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

/// What is beside a backup, and its files are in.
pub(super) fn folder_beside(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(".files");
    name.into()
}

/// A folder of contents, which is made.
pub(super) fn folder(runtime: &Runtime, folder: &Path) -> Result<Contents, String> {
    backends::content_folder(folder, 0, runtime.handle()).map(|disk| Arc::new(disk) as Contents)
}

/// Where an installation keeps what is in files, which it must be able to.
pub(super) fn store(settings: &Settings, runtime: &Runtime) -> Result<Contents, String> {
    let nowhere = "several servers need a bucket for files ([s3]), or a folder that they share";
    backends::blobs(settings, runtime.handle())?.ok_or_else(|| nowhere.to_owned())
}

/// How many files there are that are whole at a moment, and how many bytes they have.
pub(super) fn amount(
    page: impl Fn(Option<&FileId>, usize) -> Result<Vec<FileRecord>, Fault>,
    now: u64,
) -> Result<(u64, u64), String> {
    let (mut files, mut bytes) = (0, 0);
    each_page(page, now, |page| {
        files += page.len() as u64;
        bytes += page.iter().map(|file| file.size).sum::<u64>();
        Ok(())
    })?;
    Ok((files, bytes))
}

/// Those that are whole and not over, in pages.
pub(super) fn each_page(
    page: impl Fn(Option<&FileId>, usize) -> Result<Vec<FileRecord>, Fault>,
    now: u64,
    mut with: impl FnMut(Vec<FileRecord>) -> Result<(), String>,
) -> Result<(), String> {
    let mut after: Option<FileId> = None;
    loop {
        let files = page(after.as_ref(), PAGE)
            .map_err(|fault| format!("cannot read what is known of files: {}", fault.into_port().detail))?;
        let Some(last) = files.last() else { return Ok(()) };
        after = Some(last.id.clone());
        let lasts =
            |file: &FileRecord| file.state == FileState::Ready && file.expires_at.is_none_or(|end| end > now);
        with(files.into_iter().filter(lasts).collect())?;
    }
}

/// The files of `store` that `other` does not know, those on their way included: a content of each may be there.
pub(super) fn only_in(store: &KnownFiles, other: &KnownFiles) -> Result<Vec<FileId>, Fault> {
    let mut found = Vec::new();
    let (mut page, mut others) = (Walk::new(store), Walk::new(other));
    let mut next = others.next()?;
    while let Some(id) = page.next()? {
        while next.as_ref().is_some_and(|other| other.as_str() < id.as_str()) {
            next = others.next()?;
        }
        if next.as_ref() != Some(&id) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The ids that a store knows, in their order.
struct Walk<'a> {
    store: &'a KnownFiles,
    page: VecDeque<FileId>,
    last: Option<FileId>,
}

impl<'a> Walk<'a> {
    const fn new(store: &'a KnownFiles) -> Self {
        Self { store, page: VecDeque::new(), last: None }
    }

    fn next(&mut self) -> Result<Option<FileId>, Fault> {
        if self.page.is_empty() {
            let files = self.store.page(self.last.as_ref(), PAGE)?;
            self.page.extend(files.into_iter().map(|file| file.id));
            self.last = self.page.back().cloned().or(self.last.take());
        }
        Ok(self.page.pop_front())
    }
}

/// Removes all contents of these files.
pub(super) fn remove(contents: &Contents, files: &[FileId]) -> Result<(), String> {
    for (done, file) in files.iter().enumerate() {
        for part in Part::EACH {
            let id = BlobId::new(file.clone(), part);
            wait(|done| contents.delete(&id, done))?;
        }
        terminal::progress("removed", done as u64 + 1, files.len() as u64);
    }
    Ok(())
}

impl Move {
    /// Carries the contents of these files; those that are carried whole are answered.
    pub(super) fn take(
        &self,
        runtime: &Runtime,
        files: Vec<FileRecord>,
        tally: &mut Tally,
        of: u64,
    ) -> Result<Vec<FileRecord>, String> {
        let mut whole = Vec::with_capacity(files.len());
        let mut files = files.into_iter();
        runtime.block_on(async {
            loop {
                let mut under_way = JoinSet::new();
                for file in files.by_ref().take(AT_ONCE) {
                    let (from, to, read) = (self.from.clone(), self.to.clone(), self.read);
                    under_way.spawn(async move {
                        let carried = carry(&file, from.as_deref(), &*to, read).await;
                        (file, carried)
                    });
                }
                if under_way.is_empty() {
                    return Ok(());
                }
                for (file, carried) in under_way.join_all().await {
                    match carried {
                        Ok(Carried::Missing) => tally.missing.push(file),
                        Ok(Carried::Damaged) => tally.damaged.push(file),
                        Ok(carried) => {
                            tally.files += 1;
                            tally.bytes += file.size;
                            tally.copied += u64::from(carried == Carried::Copied);
                            whole.push(file);
                        }
                        Err(error) => {
                            return Err(format!(
                                "the file {} was not copied: {}. Start it again: it goes on where it was",
                                file.id, error.detail
                            ));
                        }
                    }
                }
                terminal::progress("files", tally.files, of);
            }
        })?;
        whole.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        Ok(whole)
    }
}

impl Tally {
    /// What is wrong, if anything is.
    pub(super) fn complaint(&self) -> Option<String> {
        let (missing, damaged) = (self.missing.len(), self.damaged.len());
        if missing + damaged == 0 {
            return None;
        }
        let named = self.missing.iter().chain(&self.damaged).take(NAMED);
        let named: Vec<_> =
            named.map(|file| format!("{} ({}, {})", file.id, file.app, file.channel)).collect();
        Some(format!("files without contents: {missing}; damaged: {damaged}; such as {}", named.join(", ")))
    }

    /// `3 files (12,345 bytes)`
    pub(super) fn words(&self) -> String {
        format!("{} files ({} bytes)", self.files, self.bytes)
    }
}
