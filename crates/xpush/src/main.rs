//! The `xpush` binary.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authorities;
mod backends;
mod banner;
mod check;
mod cli;
mod command;
mod config;
mod desk;
mod health;
mod listen;
mod log;
mod open_files;
mod pages;
mod port;
mod probe;
mod role;
mod serve;
mod signals;
mod supervise;
mod watermark;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use xpush_core::ports::cluster::Roles;

fn main() -> ExitCode {
    match Cli::parse().into_command() {
        Command::Serve(options) => serve::run(&options, Roles { session: true, channel: true }),
        Command::Session(options) => serve::run(&options, Roles { session: true, channel: false }),
        Command::Channel(options) => serve::run(&options, Roles { session: false, channel: true }),
        Command::DefaultConfig => cli::say(config::ANNOTATED),
        Command::CheckConfig { files } => check::run(&files),
        Command::App(apps) => command::run(|| command::app::run(&apps)),
        Command::User(users) => command::run(|| command::user::run(&users)),
        Command::Member(members) => command::run(|| command::member::run(&members)),
        Command::Token(token) => command::run(|| command::token::run(&token)),
        Command::Rule(rules) => command::run(|| command::rule::run(&rules)),
        Command::Audit(log) => command::run(|| command::audit::run(&log)),
        Command::Admin(admins) => command::run(|| command::admin::run(&admins)),
        Command::Backup(backup) => command::run(|| command::copy::backup(&backup)),
        Command::Restore(restore) => command::run(|| command::copy::restore(&restore)),
        Command::Ring(rings) => command::run(|| command::ring::run(&rings)),
        Command::Compact(compact) => command::run(|| command::copy::compact(&compact)),
        Command::Doctor(doctor) => command::run(|| command::doctor::run(&doctor)),
        Command::Nodes(nodes) => command::run(|| command::nodes::nodes(&nodes)),
        Command::Drain(drain) => command::run(|| command::nodes::drain(&drain)),
        Command::Undrain(undrain) => command::run(|| command::nodes::undrain(&undrain)),
        Command::Rebalance(rebalance) => command::run(|| command::nodes::rebalance(&rebalance)),
        Command::Migrate(migrate) => command::run(|| command::migrate::run(&migrate)),
        Command::Epoch(epochs) => command::run(|| command::epoch::run(&epochs)),
        Command::Bench(args) => xpush_bench::run(args),
        Command::DevelopImage { format, pixels } => xpush_session::files::develop_image(&format, pixels),
    }
}
