//! The load generator by itself, without the server beside it:
//! `cargo run --release -p xpush-bench --example load -- --help`.

use clap::Parser;
use std::process::ExitCode;

/// What `xpush bench` runs.
#[derive(Parser)]
#[command(name = "load")]
struct Cli {
    #[command(flatten)]
    bench: xpush_bench::Args,
}

fn main() -> ExitCode {
    xpush_bench::run(Cli::parse().bench)
}
