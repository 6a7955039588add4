//! `xpush migrate`: an installation that was one server becomes one of several.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use tokio::runtime::Runtime;
use xpush_core::ports::PortError;
use xpush_core::ports::directory::Key;

use super::contents::{self, Move, Tally};
use super::{Told, note, now, settings, terminal};
use crate::backends::{self, Export, Fault, Import};
use crate::cli::Site;
use crate::config::Settings;

const EXAMPLES: &str = "\
Examples:
  xpush migrate                                with the server stopped, and [zookeeper], [redis] and [mongodb] in its configuration
  xpush migrate --config cluster.toml --data-dir /var/lib/xpush
  xpush migrate --files /srv/xpush-files       files were in another folder than `files` in the data folder

Copies everything that lasts from the data folder into MongoDB: messages with their edits, places and ages, markers, apps, users, devices, members, keys, blocks,
and what is known of files. Ids, places and epochs stay, so clients go on where they were. The database must hold nothing. What is in files goes into the bucket of
[s3] or the folder that the servers share, each checked by its SHA-256; what is there already stays, so where the bucket is the one of before, only what is known of
files is copied. When it is cut short, no server opens the database; start it again: it begins anew, but for what is in files, where it goes on. The data folder is
left as it is. What stays behind is said at the end: events that wait for hooks go out, under the same ids, when a server starts with this folder; recent history was
in the server's memory, and clients that resume there are told `recovered: false`, as after every start.";

/// Entries, channels, markers and so on at a time.
const PAGE: usize = 500;

/// Copy the data folder of a server that was alone into the database that several share.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Migrate {
    /// The folder of the files [default: `files` in the data folder].
    #[arg(long, value_name = "FOLDER", conflicts_with = "without_files")]
    files: Option<PathBuf>,
    /// Leave files behind.
    #[arg(long)]
    without_files: bool,
    /// Go on although files are missing or damaged, without these.
    #[arg(long)]
    incomplete: bool,
    #[command(flatten)]
    site: Site,
}

/// How much was copied.
#[derive(Default)]
struct Copied {
    entries: u64,
    channels: u64,
    slots: u64,
    of: u64,
}

/// Runs the command.
pub(crate) fn run(command: &Migrate) -> Told {
    let settings = settings(&command.site)?;
    let Some(shared) = &settings.shared else {
        return Err(
            "where to? Say in [zookeeper], [redis] and [mongodb] what the servers are to share".to_owned()
        );
    };
    let file = backends::store_file(&settings.data_dir);
    let export = Export::open(&file).map_err(|error| error.to_string())?;
    let (origin, amount) = (export.origin().map_err(from)?, export.amount().map_err(from)?);
    if export.is_erasing().map_err(from)? {
        return Err("a user is being erased: start the server once more, and let it finish that".to_owned());
    }
    let files = Files::find(command, &settings, &export)?;
    let import = backends::import(shared, origin)?;
    let mut copied = Copied { of: amount.entries + amount.slots, ..Copied::default() };
    copy_directory(&export, &import, &mut copied)?;
    copy_channels(&export, &import, &mut copied)?;
    copy_last_seen(&export, &import)?;
    let told = files.map(|files| files.copy(&export, &import, command.incomplete)).transpose()?;
    import.finish().map_err(to)?;
    if amount.removed_channels > 0 {
        note(format_args!(
            "warning: {} users were erased here; should one of the same name come again, its own channel begins at its first epoch",
            amount.removed_channels
        ));
    }
    let Copied { entries, channels, slots, .. } = copied;
    let mut said = format!(
        "{} is in MongoDB: {entries} entries of the directory, {channels} channels with {slots} messages, edits and deletions\n",
        file.display()
    );
    said += &told.unwrap_or_default();
    said += &left_behind(amount.waiting, amount.given_up);
    Ok(said)
}

/// What is not in MongoDB, and why.
fn left_behind(waiting: u64, given_up: u64) -> String {
    let mut said = String::from(
        "recent history stays behind: it was in the server's memory, and ended with it. Clients that resume there are told `recovered: false`\n",
    );
    if waiting > 0 {
        let _ = writeln!(
            said,
            "{waiting} events wait for hooks in this data folder: start one of the servers with it, and they go out under the same ids"
        );
    }
    if given_up > 0 {
        let _ = writeln!(
            said,
            "{given_up} events that hooks did not take stay in this data folder, where the server that starts with it lists them (xpush app hooks)"
        );
    }
    said
}

/// Files that move along.
struct Files {
    runtime: Runtime,
    carried: Move,
    of: u64,
}

impl Files {
    /// Where they are and where they go; `None` when there are none. Found before anything is copied.
    fn find(command: &Migrate, settings: &Settings, export: &Export) -> Result<Option<Self>, String> {
        if command.without_files {
            return Ok(None);
        }
        let (of, bytes) = contents::amount(|after, limit| export.files(after, limit), now())?;
        if of == 0 {
            return Ok(None);
        }
        let runtime = contents::runtime()?;
        let to = contents::store(settings, &runtime).map_err(|why| {
            format!(
                "there are {of} files ({bytes} bytes), and {why}. To leave them behind, say --without-files"
            )
        })?;
        let folder = command.files.clone().unwrap_or_else(|| settings.data_dir.join("files"));
        // Else they are to be where they go already: the bucket is the one of before.
        let from = folder.is_dir().then(|| contents::folder(&runtime, &folder)).transpose()?;
        Ok(Some(Self { runtime, carried: Move { from, to, read: false }, of }))
    }

    /// Copies what is in them and what is known of them: what to say of that.
    fn copy(&self, export: &Export, import: &Import, incomplete: bool) -> Result<String, String> {
        let mut tally = Tally::default();
        let take = |page| {
            let whole = self.carried.take(&self.runtime, page, &mut tally, self.of)?;
            import.files(&whole).map_err(to)
        };
        contents::each_page(|after, limit| export.files(after, limit), now(), take)?;
        if let Some(complaint) = tally.complaint() {
            if !incomplete {
                return Err(format!("{complaint}. To go on without them, start it again with --incomplete"));
            }
            note(format_args!("warning: {complaint}: they are left behind"));
        }
        let taken = import.files_taken().map_err(to)?;
        if taken != (tally.files, tally.bytes) {
            return Err(format!(
                "MongoDB knows {} files ({} bytes), and {} were copied",
                taken.0,
                taken.1,
                tally.words()
            ));
        }
        Ok(format!(
            "{} moved along, {} of them were there already\n",
            tally.words(),
            tally.files - tally.copied
        ))
    }
}

impl Copied {
    fn show(&self) {
        terminal::progress("copied", self.entries + self.slots, self.of);
    }
}

fn copy_directory(export: &Export, import: &Import, copied: &mut Copied) -> Result<(), String> {
    let mut after: Option<Key> = None;
    loop {
        let entries = export.entries(after.as_ref(), PAGE).map_err(from)?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = Some(last.key.clone());
        copied.entries += entries.len() as u64;
        import.entries(entries).map_err(to)?;
        copied.show();
    }
}

fn copy_channels(export: &Export, import: &Import, copied: &mut Copied) -> Result<(), String> {
    let mut after = 0;
    loop {
        let channels = export.channels(after, PAGE).map_err(from)?;
        let Some((last, _)) = channels.last() else { return Ok(()) };
        after = *last;
        for (number, channel) in &channels {
            let (mut newest, mut seq, mut user) = (0, 0, String::new());
            loop {
                let slots = export.slots(*number, seq).map_err(from)?;
                let Some(last) = slots.last() else { break };
                seq = last.seq;
                import.slots(channel, &mut newest, &slots).map_err(to)?;
                copied.slots += slots.len() as u64;
                copied.show();
            }
            loop {
                let markers = export.markers(*number, &user, PAGE).map_err(from)?;
                let Some(last) = markers.last() else { break };
                user = last.user.as_str().to_owned();
                import.markers(channel, &markers).map_err(to)?;
            }
            import.channel(channel).map_err(to)?;
        }
        copied.channels += channels.len() as u64;
    }
}

fn copy_last_seen(export: &Export, import: &Import) -> Result<(), String> {
    let mut after = None;
    loop {
        let seen = export.last_seen(after.as_ref(), PAGE).map_err(from)?;
        let Some(last) = seen.last() else { return Ok(()) };
        after = Some(last.clone());
        import.last_seen(seen).map_err(to)?;
    }
}

fn from(fault: Fault) -> String {
    format!("cannot read the data folder: {}", fault.into_port().detail)
}

fn to(error: PortError) -> String {
    format!("cannot write to MongoDB: {}. Start it again: it begins anew", error.detail)
}
