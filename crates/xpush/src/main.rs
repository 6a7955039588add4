//! The `xpush` binary.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backends;
mod banner;
mod check;
mod cli;
mod config;
mod health;
mod listen;
mod log;
mod open_files;
mod pages;
mod role;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().into_command() {
        Command::Serve(options) => serve::run(&options),
        Command::DefaultConfig => cli::say(config::ANNOTATED),
        Command::CheckConfig { files } => check::run(&files),
        Command::Bench(args) => xpush_bench::run(args),
    }
}
