//! The simulated cluster (crates/channel/src/cluster/simulation.rs), by thousands of seeds.

use super::Finding;
use crate::repo::Repo;
use crate::run::{command, stream};

/// Seeds of a run; in CI there are some tens.
const SEEDS: u64 = 3_000;
const QUICK: u64 = 20;
/// Seeds that one process runs: when it fails, those behind it in its slice are not seen.
const SLICE: u64 = 100;

pub(super) const TITLE: &str =
    "clusters in simulation, by seed: kills, stalls, partitions, drains, slow and lossy networks";

pub(super) fn run(repo: &Repo, quick: bool) -> Finding {
    let seeds = if quick { QUICK } else { SEEDS };
    let mut failed = Vec::new();
    for from in (0..seeds).step_by(usize::try_from(SLICE).unwrap_or(1)) {
        let to = (from + SLICE).min(seeds);
        // What a simulation does takes a while: the servers' code is optimized, everything else is as in the tests.
        let mut cargo = command(
            repo,
            &["cargo", "test", "--profile", "simulation", "--package", "xpush-channel", "--lib", "--"],
        );
        cargo.args(["--exact", "cluster::simulation::thousands_of_clusters", "--ignored", "--nocapture"]);
        cargo.env("XPUSH_SEEDS", format!("{from}..{to}"));
        let mut last = String::new();
        let outcome = stream(&mut cargo, None, &mut |line| {
            if let Some(seed) = line.strip_prefix("seed ") {
                seed.clone_into(&mut last);
            }
        });
        if let Err(error) = outcome {
            failed.push(if last.is_empty() { error } else { format!("seed {last}") });
        }
    }
    let words = match failed.as_slice() {
        [] => format!("{seeds} seeds"),
        failed => format!("of {seeds} seeds failed: {}", failed.join(", ")),
    };
    Finding { words, goal: "every promise kept, whatever the seed".to_owned(), good: failed.is_empty() }
}
