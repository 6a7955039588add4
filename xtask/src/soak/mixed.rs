//! Two versions in one cluster: the previous one is built from its commit, and a cluster is rolled from it to this one and back.

use std::fs;
use std::path::PathBuf;

use super::{Finding, judged, real};
use crate::repo::Repo;
use crate::run::{command, show};

/// The commit of the previous version: a cluster of this one takes in servers of that one, and the other way round. To be moved at each release.
const PREVIOUS: &str = "6e519f1844f119fedb053d60d143bcf3321b7871";

/// Rolled there and back so often.
const ROUNDS: &str = "4";

pub(super) const TITLE: &str =
    "a cluster of three rolled from the previous version to this one and back, under load";

/// `previous`: a binary of that version, instead of one that is built from its commit.
pub(super) fn run(repo: &Repo, quick: bool, previous: Option<&str>) -> Finding {
    let goal = "nothing lost, doubled or out of order".to_owned();
    let previous = match previous {
        Some(binary) => fs::canonicalize(binary).map_err(|error| format!("{binary}: {error}")),
        None => build(repo),
    };
    let previous = match previous {
        Ok(previous) => previous,
        Err(words) => return Finding { words, goal, good: false },
    };
    let mut cargo = real(repo, "cluster", "mixed::a_cluster_is_rolled_to_the_next_version_and_back");
    cargo.arg("--ignored").env("PREVIOUS_XPUSH_BIN", previous);
    judged(cargo, if quick { "1" } else { ROUNDS }, goal)
}

/// The release binary of the previous version, from a checkout of its own and with artefacts of its own.
fn build(repo: &Repo) -> Result<PathBuf, String> {
    let home = repo.target.join("previous");
    let (source, target) = (home.join(PREVIOUS), home.join("target"));
    let binary = target.join("release/xpush");
    let built = home.join("built");
    if binary.exists() && fs::read_to_string(&built).is_ok_and(|commit| commit == PREVIOUS) {
        return Ok(binary);
    }
    if !source.join("Cargo.toml").exists() {
        fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let unpack = format!("git archive {PREVIOUS} | tar -x -C '{}'", source.display());
        show(&mut command(repo, &["sh", "-c", &unpack]))?;
    }
    let mut cargo = command(repo, &["cargo", "build", "--release", "--locked", "--package", "xpush"]);
    show(cargo.current_dir(&source).env("CARGO_TARGET_DIR", &target))?;
    fs::write(&built, PREVIOUS).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(binary)
}
