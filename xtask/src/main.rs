//! `cargo xtask …`: the workshop. One command each for the tests, the pages and the layout rules; only `std`, so that
//! it compiles in a second or two.

// This program's output is its product.
#![allow(clippy::print_stdout)]

mod bench;
mod cluster;
mod repo;
mod run;
mod soak;
mod suite;
mod tidy;
mod web;

use std::process::ExitCode;

use crate::repo::Repo;

const HELP: &str = "\
The workshop of XPUSH.

Usage: cargo xtask COMMAND

  test               install what the tests need, then run everything that CI runs
    --only STEP      only this step, and what it needs (may be repeated)
    --list           the steps, in order
  bench              XPUSH and its peers side by side; writes docs/benchmarks.md (--help says more)
  soak               long crash runs and loads; writes docs/soak.md (--help says more)
  cluster            several servers on this machine, with all that they stand on (--help says more)
  web                rebuild web/dist, which is committed and embedded in the binary
  tidy               check the layout rules
    --list           the rules, and why each is there
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let repo = Repo::here();
    let outcome = match words.as_slice() {
        ["test", options @ ..] => suite::command(&repo, options),
        ["bench", "cluster", options @ ..] => cluster::bench::run(&repo, options),
        ["bench", options @ ..] => bench::command(&repo, options),
        ["soak", options @ ..] => soak::run(&repo, options),
        ["cluster", options @ ..] => cluster::run(&repo, options),
        ["web"] => web::build(&repo).map(|()| true),
        ["tidy"] => tidy::command(&repo),
        ["tidy", "--list"] => {
            tidy::list();
            Ok(true)
        }
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        _ => Err(format!("no such command: {}\n\n{HELP}", words.join(" "))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
