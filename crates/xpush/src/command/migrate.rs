//! `xpush migrate`: an installation that was one server becomes one of several.

use clap::Args;
use xpush_core::ports::PortError;
use xpush_core::ports::directory::Key;

use super::{Told, note, settings, terminal};
use crate::backends::{self, Export, Fault, Import};
use crate::cli::Site;

const EXAMPLES: &str = "\
Examples:
  xpush migrate                                with the server stopped, and [zookeeper], [redis] and [mongodb] in its configuration
  xpush migrate --config cluster.toml --data-dir /var/lib/xpush

Copies everything that lasts from the data folder into MongoDB: messages with their edits, places and ages, markers, apps, users, devices, members, keys, blocks.
Ids, places and epochs stay, so clients go on where they were. The database must hold nothing. When it is cut short, no server opens the database; start it
again, and it begins anew. The data folder is left as it is; what waits there for hooks goes out when a server starts with it.";

/// Entries, channels, markers and so on at a time.
const PAGE: usize = 500;

/// Copy the data folder of a server that was alone into the database that several share.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Migrate {
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
    let import = backends::import(shared, origin)?;
    let mut copied = Copied { of: amount.entries + amount.slots, ..Copied::default() };
    copy_directory(&export, &import, &mut copied)?;
    copy_channels(&export, &import, &mut copied)?;
    copy_last_seen(&export, &import)?;
    import.finish().map_err(to)?;
    if amount.removed_channels > 0 {
        note(format_args!(
            "warning: {} users were erased here; should one of the same name come again, its own channel begins at its first epoch",
            amount.removed_channels
        ));
    }
    let Copied { entries, channels, slots, .. } = copied;
    Ok(format!(
        "{} is in MongoDB: {entries} entries of the directory, {channels} channels with {slots} messages, edits and deletions\n",
        file.display()
    ))
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
