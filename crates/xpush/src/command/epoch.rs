//! `xpush epoch new`: what the store holds is not what it held before.

use clap::{Args, Subcommand};

use super::nodes::Watched;
use super::{Told, noted, settings};
use crate::backends;
use crate::cli::Site;

const EXAMPLES: &str = "\
Examples:
  xpush epoch new                 with all servers stopped, after MongoDB was restored from a backup, or has lost something

A position (epoch and seq) that a client holds says what it has seen. When the store goes back, the same seqs are given to other messages, and clients would go on
with a hole that nobody sees. With a new epoch each of them is told `recovered: false`, and loads history anew. `xpush restore` does this by itself.";

/// Epochs: which history positions are of.
#[derive(Debug, Args)]
pub(crate) struct Epochs {
    #[command(subcommand)]
    command: EpochCommand,
}

#[derive(Debug, Subcommand)]
enum EpochCommand {
    New(New),
}

/// Begin a new epoch, after the store was restored from a backup: clients load history anew instead of going on with a hole.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct New {
    #[command(flatten)]
    site: Site,
}

/// Runs the command.
pub(crate) fn run(command: &Epochs) -> Told {
    let EpochCommand::New(new) = &command.command;
    let settings = settings(&new.site)?;
    match &settings.shared {
        None => {
            let file = backends::store_file(&settings.data_dir);
            backends::begin_epoch(&file).map_err(|error| error.to_string())?;
        }
        Some(shared) => {
            let view = Watched::open(&new.site)?.view;
            if !view.nodes.is_empty() {
                let names: Vec<_> = view.nodes.iter().map(|node| node.name.as_str()).collect();
                return Err(format!(
                    "these servers are running, and would go on with the old epoch: stop them first ({})",
                    names.join(", ")
                ));
            }
            backends::begin_shared_epoch(shared)?;
        }
    }
    noted(&new.site, "epoch.new", None);
    Ok("a new epoch has begun: start the servers; clients load history anew\n".to_owned())
}
