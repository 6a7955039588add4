//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::command::{
    admin, app, audit, copy, doctor, epoch, member, migrate, nodes, ring, rule, token, user,
};
use crate::config::{Flag, LogFormat};

const EXAMPLES: &str = "\
Examples:
  xpush                                        the whole platform on http://127.0.0.1:8000
  xpush --listen 0.0.0.0:8000 --demo           the demo, for everybody in your network
  xpush default-config > xpush.toml            a configuration to edit; xpush.toml is read where xpush starts
  xpush check-config xpush.toml                is it right? (exit code 0, or 1 with every error and its line)
  xpush --config xpush.toml --set limits.payload=2MB
  XPUSH_LIMITS__PAYLOAD=2MB xpush              the same, from the environment (flags > environment > file)
  xpush app create shop                        beside a running server: apps, users, members, tokens, backups
  xpush token --user ann                       each of these commands has examples in its --help
  xpush ring simulate                          how evenly servers would share channels, before there are any

Endpoints of a running server:
  /             the start page: a live chat, and snippets to copy
  /socket.io/   Socket.IO 1.x to 4.x          /ws, /sse   plain WebSocket and server-sent events
  /docs/        how all of it is used         /api/v1     for back ends: xpush app key create APP
  /livez, /readyz, /metrics                   for the people who run it";

/// XPUSH: the real-time service platform in one binary.
#[derive(Debug, Parser)]
#[command(name = "xpush", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server (what `xpush` alone does): both roles, session and channel.
    Serve(Box<Options>),
    /// Run a session server alone: the HTTP API, and where clients are to connect. Needs [zookeeper], [redis] and [mongodb].
    Session(Box<Options>),
    /// Run a channel server alone: carries connections. Needs [zookeeper], [redis] and [mongodb].
    Channel(Box<Options>),
    /// Print a configuration with every key, its default and what it means.
    DefaultConfig,
    /// Check configuration files: exit code 0 when all can work, 1 with every error and its line, 2 when a file cannot be read.
    CheckConfig {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    App(app::Apps),
    User(user::Users),
    Member(member::Members),
    Token(token::Token),
    Rule(rule::RulesCommand),
    Audit(audit::Audit),
    Admin(admin::Admins),
    Backup(copy::Backup),
    Restore(copy::Restore),
    Ring(ring::Rings),
    Compact(copy::Compact),
    Doctor(doctor::Doctor),
    Nodes(nodes::Nodes),
    Drain(nodes::Drain),
    Undrain(nodes::Undrain),
    Rebalance(nodes::Rebalance),
    Migrate(migrate::Migrate),
    Epoch(epoch::Epochs),
    Bench(xpush_bench::Args),
    /// Decode an image from stdin, and write it anew to stdout: what servers start for an image that was uploaded.
    #[command(hide = true)]
    DevelopImage {
        format: String,
        pixels: u64,
    },
}

/// Settings that win over the environment and the file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings (flags > environment > file > defaults)")]
pub(crate) struct Options {
    /// The configuration file [environment: XPUSH_CONFIG] [default: ./xpush.toml, if there is one].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen; may be given several times [environment: XPUSH_LISTEN] [default: 127.0.0.1:8000].
    #[arg(long, short, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Where files are kept [environment: XPUSH_DATA_DIR] [default: ./xpush-data].
    #[arg(long, short, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Open the app `demo` to guests, whoever can reach the server (on loopback it is open anyway).
    #[arg(long)]
    pub(crate) demo: bool,
    /// Start the server as a child, notice its death at once, tell the cluster of it, and start it again.
    #[arg(long)]
    pub(crate) supervised: bool,
    /// error, warn, info, debug, trace, or by module: info,xpush_channel=debug [environment: XPUSH_LOG__LEVEL] [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The form of log lines [environment: XPUSH_LOG__FORMAT] [default: text].
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Any other key of the configuration: --set limits.payload=2MB. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

/// Which installation a command is for.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Which installation (as for the server: flags > environment > file > defaults)"
)]
pub(crate) struct Site {
    /// The server's configuration file [environment: XPUSH_CONFIG] [default: ./xpush.toml, if there is one].
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder [environment: XPUSH_DATA_DIR] [default: ./xpush-data].
    #[arg(long, short, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
}

/// Which app of an installation a command is for.
#[derive(Debug, Args)]
pub(crate) struct Within {
    /// Of which app [default: the server's default app].
    #[arg(long, global = true, value_name = "APP")]
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) site: Site,
}

impl Site {
    /// As if the server was started there.
    pub(crate) fn options(&self) -> Options {
        Options { config: self.config.clone(), data_dir: self.data_dir.clone(), ..Options::default() }
    }
}

impl Cli {
    /// What to do: `xpush` is `xpush serve`.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Serve(Box::new(self.options)))
    }
}

impl Options {
    /// The settings that were given as flags; the more particular ones last.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        let set = self.set.iter().map(|(key, words)| (format!("--set {key}"), key.as_str(), words.clone()));
        let named = [
            ("--listen", "listen", (!self.listen.is_empty()).then(|| self.listen.join(","))),
            ("--data-dir", "data_dir", self.data_dir.clone()),
            ("--log-level", "log.level", self.log_level.clone()),
            ("--log-format", "log.format", self.log_format.map(|format| format.as_str().to_owned())),
        ];
        let named = named.into_iter().filter_map(|(name, path, words)| Some((name.to_owned(), path, words?)));
        set.chain(named).map(|(name, path, words)| Flag { name, path: path.to_owned(), words }).collect()
    }
}

/// Writes to stdout; a reader that has gone away is no failure of ours.
pub(crate) fn say(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

pub(crate) fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, as in limits.payload=2MB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn alone_it_serves() {
        for line in [&["xpush", "--listen", "a"][..], &["xpush", "serve", "-l", "a"]] {
            let Command::Serve(options) = Cli::parse_from(line).into_command() else { panic!("{line:?}") };
            let flags = options.flags();
            assert_eq!((flags[0].path.as_str(), flags[0].words.as_str()), ("listen", "a"), "{line:?}");
        }
    }
}
