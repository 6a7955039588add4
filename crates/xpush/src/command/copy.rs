//! `xpush backup`, `xpush restore` and `xpush compact`.

use std::path::PathBuf;

use clap::Args;

use super::{Told, settings, terminal};
use crate::backends::{self, Progress};
use crate::cli::Site;
use crate::serve;

const BACKUP: &str = "\
Examples:
  xpush backup xpush-2026-01-31.db             the server may go on running
  xpush backup --data-dir /var/lib/xpush /backups/$(date +%F).db

The file holds everything: messages, users, digests of passwords, keys. Keep it where nobody else reads it.";

const RESTORE: &str = "\
Examples:
  xpush restore xpush-2026-01-31.db            with the server stopped
  xpush restore --replace xpush-2026-01-31.db  over what is there

Clients notice that history is another one (its epoch changes), and load it anew.";

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

/// Copy everything that is stored into a file, while the server runs.
#[derive(Debug, Args)]
#[command(after_help = BACKUP)]
pub(crate) struct Backup {
    /// The new file.
    file: PathBuf,
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
    #[command(flatten)]
    site: Site,
}

/// Runs `xpush backup`.
pub(crate) fn backup(command: &Backup) -> Told {
    let settings = settings(&command.site)?;
    let store = backends::store_file(&settings.data_dir);
    let progress = |Progress { done, total }| terminal::progress("copied", done, total);
    backends::backup(&store, &command.file, progress).map_err(|error| error.to_string())?;
    Ok(format!("{} is in {}\n", store.display(), command.file.display()))
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
    let progress = |Progress { done, total }| terminal::progress("restored", done, total);
    backends::restore(&command.file, &store, command.replace, progress).map_err(|error| match error {
        backends::CopyError::Exists(_) => {
            format!("{error}: to put the backup in its place, say --replace")
        }
        error => error.to_string(),
    })?;
    Ok(format!("{} is what {} was\n", store.display(), command.file.display()))
}
