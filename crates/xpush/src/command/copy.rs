//! `xpush backup`, `xpush restore` and `xpush compact`.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::runtime::Runtime;
use xpush_core::FileId;
use xpush_core::ports::files::FileRecord;

use super::contents::{self, Contents, Move, Tally};
use super::{Told, note, noted, now, settings, terminal, wait};
use crate::backends::{self, Fault, KnownFiles, Progress};
use crate::cli::Site;
use crate::config::Settings;
use crate::serve;

const BACKUP: &str = "\
Examples:
  xpush backup xpush-2026-01-31.db             the server may go on running
  xpush backup --data-dir /var/lib/xpush /backups/$(date +%F).db
  xpush backup --files /backups/files /backups/$(date +%F).db
                                               one folder of files for all backups: only new ones are copied
  xpush backup --resume xpush-2026-01-31.db    it was cut short while it copied files

The file holds everything: messages, users, digests of passwords, keys, what is known of files. Keep it where nobody else reads it.
What is in files is beside it, in xpush-2026-01-31.db.files; each is checked by its SHA-256. In a bucket ([s3]) it stays there.";

const RESTORE: &str = "\
Examples:
  xpush restore xpush-2026-01-31.db            with the server stopped
  xpush restore --replace xpush-2026-01-31.db  over what is there
  xpush restore --files /backups/files /backups/2026-01-31.db

Clients notice that history is another one (its epoch changes), and load it anew. Files come back from the folder beside the backup, each checked by its SHA-256;
cut short, it goes on where it was when it is started again.";

const COMPACT: &str = "\
Examples:
  xpush compact                                with the server stopped; it needs as much room again
  xpush user delete ann && xpush compact       nothing of her is left anywhere in the file";

/// Write the store anew, smaller, and without what was deleted from it, while the server does not run.
#[derive(Debug, Args)]
#[command(after_help = COMPACT)]
pub(crate) struct Compact {
    #[command(flatten)]
    site: Site,
}

/// Copy everything that is stored into a file, and what is in files into a folder beside it, while the server runs.
#[derive(Debug, Args)]
#[command(after_help = BACKUP)]
pub(crate) struct Backup {
    /// The new file.
    file: PathBuf,
    /// Where what is in files goes [default: FILE.files].
    #[arg(long, value_name = "FOLDER", conflicts_with = "without_files")]
    files: Option<PathBuf>,
    /// Do not copy what is in files.
    #[arg(long)]
    without_files: bool,
    /// Go on with the files of a backup that was cut short.
    #[arg(long, conflicts_with = "without_files")]
    resume: bool,
    #[command(flatten)]
    site: Site,
}

/// Put a backup into the data folder of a server that is not running.
#[derive(Debug, Args)]
#[command(after_help = RESTORE)]
pub(crate) struct Restore {
    /// What `xpush backup` has made.
    file: PathBuf,
    /// Replace what is there.
    #[arg(long)]
    replace: bool,
    /// Where what is in files is [default: FILE.files].
    #[arg(long, value_name = "FOLDER", conflicts_with = "without_files")]
    files: Option<PathBuf>,
    /// Leave what is in files to whoever brings it back otherwise.
    #[arg(long)]
    without_files: bool,
    /// Go on although files are missing or damaged.
    #[arg(long)]
    incomplete: bool,
    #[command(flatten)]
    site: Site,
}

/// Runs `xpush backup`.
pub(crate) fn backup(command: &Backup) -> Told {
    let settings = settings(&command.site)?;
    let store = backends::store_file(&settings.data_dir);
    if !command.resume {
        let progress = |Progress { done, total }| terminal::progress("copied", done, total);
        backends::backup(&store, &command.file, progress).map_err(|error| error.to_string())?;
    }
    let told = format!("{} is in {}\n", store.display(), command.file.display());
    if command.without_files {
        return Ok(told);
    }
    let known = KnownFiles::open(&command.file).map_err(|error| error.to_string())?;
    let (files, bytes) = contents::amount(|after, limit| known.page(after, limit), now())?;
    if files == 0 {
        return Ok(told);
    }
    if settings.uploads.s3.is_some() {
        return Ok(format!(
            "{told}{files} files ({bytes} bytes) stay in the bucket: the backup has what is known of them\n"
        ));
    }
    let folder = command.files.clone().unwrap_or_else(|| contents::folder_beside(&command.file));
    let tally = copy_files(&settings, &known, &folder, files)
        .map_err(|why| format!("{why}: say --resume, and it goes on where it was"))?;
    if let Some(complaint) = tally.complaint() {
        return Err(format!("{complaint}. Everything else is in {}", command.file.display()));
    }
    Ok(format!("{told}{} are in {}, {} of them new there\n", tally.words(), folder.display(), tally.copied))
}

/// Copies what is in the files of a backup from the server's folder.
fn copy_files(settings: &Settings, known: &KnownFiles, folder: &Path, of: u64) -> Result<Tally, String> {
    let runtime = contents::runtime()?;
    let from = server_folder(settings, &runtime)?;
    let carried = Move { from: Some(from), to: contents::folder(&runtime, folder)?, read: true };
    let mut tally = Tally::default();
    contents::each_page(
        |after, limit| known.page(after, limit),
        now(),
        |page| carried.take(&runtime, page, &mut tally, of).map(drop),
    )?;
    // What was deleted since the store was copied is missing by right.
    if !tally.missing.is_empty()
        && let Some(live) = runtime.block_on(async { backends::files_of(settings) })?
    {
        let mut lost = Vec::new();
        for file in std::mem::take(&mut tally.missing) {
            if wait(|done| live.files.get(&file.app, &file.id, done))?.is_some() {
                lost.push(file);
            }
        }
        tally.missing = lost;
    }
    Ok(tally)
}

fn server_folder(settings: &Settings, runtime: &Runtime) -> Result<Contents, String> {
    contents::folder(runtime, &settings.uploads.folder_in(&settings.data_dir))
}

/// Runs `xpush compact`.
pub(crate) fn compact(command: &Compact) -> Told {
    let settings = settings(&command.site)?;
    let store = backends::store_file(&settings.data_dir);
    let size = || std::fs::metadata(&store).map_or(0, |file| file.len() / 1024);
    let before = size();
    backends::compact(&store).map_err(|error| error.to_string())?;
    Ok(format!("{}: {} KB, before {before} KB\n", store.display(), size()))
}

/// Runs `xpush restore`.
pub(crate) fn restore(command: &Restore) -> Told {
    let settings = settings(&command.site)?;
    serve::prepare_data_dir(&settings.data_dir)?;
    let store = backends::store_file(&settings.data_dir);
    let exists = |error: backends::CopyError| match error {
        backends::CopyError::Exists(_) => {
            format!("{error}: to put the backup in its place, say --replace")
        }
        error => error.to_string(),
    };
    if store.exists() && !command.replace {
        return Err(exists(backends::CopyError::Exists(store)));
    }
    let known = match command.without_files {
        true => None,
        false => Some(KnownFiles::open(&command.file).map_err(|error| error.to_string())?),
    };
    // A bucket may have what other installations know.
    let in_folder = known.as_ref().filter(|_| settings.uploads.s3.is_none() && store.exists());
    let newer = in_folder.map_or_else(Vec::new, |known| newer_files(&store, known));
    // First what is in files: without that, nothing has changed yet.
    let files =
        known.as_ref().map_or_else(|| Ok(String::new()), |known| restore_files(command, &settings, known));
    let progress = |Progress { done, total }| terminal::progress("restored", done, total);
    let restored = files.and_then(|files| {
        backends::restore(&command.file, &store, command.replace, progress).map_err(exists)?;
        Ok(files)
    });
    let files = match (restored, in_folder) {
        (Ok(files), _) => files,
        (Err(why), Some(known)) => return Err(without_what_came_back(&settings, &store, known, why)),
        (Err(why), None) => return Err(why),
    };
    noted(&command.site, "store.restore", Some(&command.file.display().to_string()));
    let removed = remove_files(&settings, &newer)?;
    Ok(format!("{} is what {} was\n{files}{removed}", store.display(), command.file.display()))
}

/// The files of the store that is replaced that the backup does not know: nobody would know of their contents any more.
fn newer_files(store: &Path, backup: &KnownFiles) -> Vec<FileId> {
    let newer = compared(store, |store| contents::only_in(store, backup));
    // It may be replaced because it is damaged.
    newer.unwrap_or_else(|why| {
        note(format_args!(
            "warning: contents of files that the backup does not know stay where they are: {why}"
        ));
        Vec::new()
    })
}

/// What a comparison with the files of a store finds.
fn compared(
    store: &Path,
    by: impl FnOnce(&KnownFiles) -> Result<Vec<FileId>, Fault>,
) -> Result<Vec<FileId>, String> {
    let store = KnownFiles::open(store).map_err(|error| error.to_string())?;
    by(&store).map_err(|fault| fault.into_port().detail.into())
}

/// Nothing was restored: contents that the store does not know, and that are back already, go again.
fn without_what_came_back(settings: &Settings, store: &Path, backup: &KnownFiles, why: String) -> String {
    let unknown = compared(store, |store| contents::only_in(backup, store));
    match unknown.and_then(|unknown| remove_files(settings, &unknown)) {
        Ok(_) => why,
        Err(error) => {
            format!("{why}. Contents of files that only the backup knows are left in the folder: {error}")
        }
    }
}

fn remove_files(settings: &Settings, files: &[FileId]) -> Told {
    if files.is_empty() {
        return Ok(String::new());
    }
    let runtime = contents::runtime()?;
    contents::remove(&server_folder(settings, &runtime)?, files)?;
    Ok(format!("{} files that it does not know are removed\n", files.len()))
}

/// Brings back what is in files, or looks whether it is in the bucket; says what there is.
fn restore_files(command: &Restore, settings: &Settings, known: &KnownFiles) -> Told {
    let page = |after: Option<&_>, limit| known.page(after, limit);
    let (of, _) = contents::amount(page, now())?;
    if of == 0 {
        return Ok(String::new());
    }
    let runtime = contents::runtime()?;
    let in_bucket = settings.uploads.s3.is_some();
    let folder = command.files.clone().unwrap_or_else(|| contents::folder_beside(&command.file));
    let carried = if in_bucket {
        Move { from: None, to: contents::store(settings, &runtime)?, read: false }
    } else if folder.is_dir() {
        let from = contents::folder(&runtime, &folder)?;
        Move { from: Some(from), to: server_folder(settings, &runtime)?, read: true }
    } else {
        return Err(format!(
            "the backup knows {of} files, and {} is not there: name the folder by --files, or say --without-files",
            folder.display()
        ));
    };
    let mut tally = Tally::default();
    let take = |page: Vec<FileRecord>| carried.take(&runtime, page, &mut tally, of).map(drop);
    contents::each_page(page, now(), take)?;
    if let Some(complaint) = tally.complaint() {
        if !command.incomplete {
            return Err(format!(
                "{complaint}. Nothing was restored: to go on without them, say --incomplete"
            ));
        }
        note(format_args!("warning: {complaint}"));
    }
    Ok(match in_bucket {
        true => format!("{} are in the bucket\n", tally.words()),
        false => format!("{} are back, {} of them were not there\n", tally.words(), tally.copied),
    })
}
