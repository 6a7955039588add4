//! Nodes on a SQLite store whose machine loses power again and again: what was not synced is gone. What clients were told must be true
//! afterwards; and with a bug in a port, it must be seen that it is not.

#![allow(clippy::unwrap_used)]

#[path = "../alone/mod.rs"]
mod alone;
mod host;
mod seeded;

use std::io;
use std::path::Path;
use std::process::Command;

use xpush_sqlite::Synchronous;
use xpush_testkit::checker::{self, Promise, Summary, Violation};
use xpush_testkit::fleet::{self, Plan, Process, Voyage};

use seeded::Bug;

/// How often the power is lost in a run of the tests; more in `cargo xtask soak`.
const KILLS: usize = 6;

/// Run by the other tests, in processes of their own; on its own it does nothing.
#[test]
fn server() {
    let Some(folder) = std::env::var_os(host::FOLDER) else { return };
    let word = |name| std::env::var(name).unwrap();
    host::run(Path::new(&folder), Bug::of(&word(host::BUG)), word(host::FORGETS).parse().unwrap());
}

fn launch(folder: &Path, bug: Bug, forgets: u64) -> io::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["server", "--exact", "--nocapture"]).env(host::FOLDER, folder);
    command.env(host::BUG, bug.word()).env(host::FORGETS, forgets.to_string());
    Process::start(&mut command)
}

fn plan(seed: u64) -> Plan {
    Plan { acks: 100..400, ..Plan::new(seed, &["kept:a", "kept:b", "kept:c"]) }
}

/// Runs, and judges by what a client reads in the end, and by what the file holds.
fn run(plan: &Plan, bug: Bug, forgets: u64) -> Result<Summary, Box<Violation>> {
    let folder = tempfile::tempdir().unwrap();
    // A store that exists already, so that what is lost is lost from it.
    drop(host::open(folder.path(), Synchronous::Full));
    let voyage = plan.run(true, || launch(folder.path(), bug, forgets)).unwrap();
    let Voyage { lines, contents, settled, mut server } = voyage;
    server.kill().unwrap();
    let summary = checker::check(&lines, &contents)?;
    let ledger = host::open(folder.path(), Synchronous::Full);
    let kept = fleet::contents(&*ledger, "demo", &plan.channels);
    checker::check(&lines, &kept)?;
    assert_eq!(kept, contents, "the file holds what clients read");
    assert!(settled, "somebody was not there at the end");
    Ok(summary)
}

#[test]
fn what_was_acked_survives_power_loss() {
    let kills = std::env::var("XPUSH_CRASHES").map_or(KILLS, |kills| kills.parse().unwrap());
    let plan = Plan { kills, ..plan(11) };
    let summary = run(&plan, Bug::None, 2).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{summary}");
    // Each way to lose an answer was taken.
    assert!(summary.unknown > 0 && summary.recovered > 0 && summary.acked > 0, "{summary}");
}

#[test]
fn retries_reach_everybody() {
    let plan = plan(12);
    let summary = run(&plan, Bug::None, 100).unwrap_or_else(|violation| panic!("{violation}"));
    // Nothing was acked at the first attempt.
    assert!(summary.unknown >= summary.acked, "{summary}");
}

#[test]
fn a_store_that_does_not_sync_is_found_out() {
    let plan = Plan { kills: 1, revises: false, ..plan(13) };
    let found = run(&plan, Bug::Unsynced, 0).unwrap_err();
    let rewound = [Promise::NothingLost, Promise::OnePlaceOneMessage, Promise::OneMessageOnePlace];
    assert!(rewound.contains(&found.promise), "{found}");
}

#[test]
fn a_place_that_is_given_twice_is_found_out() {
    let plan = Plan { revises: false, ..plan(14) };
    let found = run(&plan, Bug::Reused, 0).unwrap_err();
    assert!([Promise::OnePlaceOneMessage, Promise::OneMessageOnePlace].contains(&found.promise), "{found}");
}

#[test]
fn a_retry_that_is_stored_again_is_found_out() {
    let plan = Plan { revises: false, ..plan(15) };
    let found = run(&plan, Bug::Doubled, 10).unwrap_err();
    assert_eq!(found.promise, Promise::OneMessageOnePlace, "{found}");
}

#[test]
fn a_retry_that_is_not_published_again_is_found_out() {
    // Subscribers stay where they are, on either node; at the second one nothing but the bus tells of anything.
    let plan = Plan { one_node: true, revises: false, drops: 0.0, subscribers: 4, ..plan(16) };
    let found = run(&plan, Bug::Unpublished, 100).unwrap_err();
    assert_eq!(found.promise, Promise::NoSilentEnd, "{found}");
}
