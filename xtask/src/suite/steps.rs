//! The steps of `cargo xtask test`, in order: the quick ones first.

use std::time::Instant;

use crate::repo::Repo;
use crate::run::{command, npm, stream};
use crate::{tidy, web};

use super::counts::Tally;
use super::needs::Need;

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) needs: &'static [Need],
    /// Whether it counts tests; the others are one check each.
    pub(crate) has_tests: bool,
    pub(crate) run: fn(&Repo, Option<Instant>, &mut Tally) -> Result<(), String>,
}

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        title: "cargo fmt --check",
        needs: &[Need::RustTools],
        has_tests: false,
        run: |repo, deadline, tally| run(repo, deadline, tally, &["cargo", "fmt", "--all", "--check"]),
    },
    Step {
        name: "tidy",
        title: "the layout rules",
        needs: &[],
        has_tests: false,
        run: |repo, _, _| match tidy::command(repo)? {
            true => Ok(()),
            false => Err("layout rules are broken".to_owned()),
        },
    },
    Step {
        name: "clippy",
        title: "cargo clippy, warnings denied",
        needs: &[Need::RustTools],
        has_tests: false,
        run: |repo, deadline, tally| {
            let words =
                ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
            run(repo, deadline, tally, &words)
        },
    },
    Step {
        name: "rust",
        title: "cargo test --workspace",
        needs: &[],
        has_tests: true,
        run: |repo, deadline, tally| {
            run(repo, deadline, tally, &["cargo", "test", "--locked", "--workspace", "--no-fail-fast"])
        },
    },
    Step {
        name: "release",
        title: "cargo build --release -p xpush",
        needs: &[],
        has_tests: false,
        run: |repo, deadline, tally| {
            run(repo, deadline, tally, &["cargo", "build", "--locked", "--release", "-p", "xpush"])
        },
    },
    Step {
        name: "client",
        title: "@xpush/client: types and unit tests",
        needs: &[Need::Node, Need::Npm("clients/js")],
        has_tests: true,
        run: |repo, deadline, tally| typescript(repo, deadline, tally, "clients/js"),
    },
    Step {
        name: "web",
        title: "the pages: types, unit tests, and web/dist as committed",
        needs: &[Need::Node, Need::Npm("clients/js"), Need::Npm("web")],
        has_tests: true,
        run: |repo, deadline, tally| {
            typescript(repo, deadline, tally, "web")?;
            web::compare(repo, deadline)
        },
    },
    Step {
        name: "e2e",
        title: "real clients and a real browser against the real binary",
        needs: &[Need::Node, Need::Npm("e2e"), Need::Python, Need::Chromium],
        has_tests: true,
        run: e2e,
    },
];

fn run(repo: &Repo, deadline: Option<Instant>, tally: &mut Tally, words: &[&str]) -> Result<(), String> {
    stream(&mut command(repo, words), deadline, &mut |line| tally.line(line))
}

/// The scripts that each of our npm packages has.
fn typescript(repo: &Repo, deadline: Option<Instant>, tally: &mut Tally, folder: &str) -> Result<(), String> {
    stream(&mut npm(repo, folder, &["run", "typecheck"]), deadline, &mut |_| {})?;
    stream(&mut npm(repo, folder, &["test"]), deadline, &mut |line| tally.line(line))
}

fn e2e(repo: &Repo, deadline: Option<Instant>, tally: &mut Tally) -> Result<(), String> {
    let binary = repo.release_binary();
    if !binary.exists() {
        return Err(format!("{} is missing: run the step `release` first", binary.display()));
    }
    let mut runner = command(repo, &["node", "e2e/run.mjs"]);
    runner.env("XPUSH_BIN", binary).env("PYTHON", repo.venv().join("bin/python3"));
    if let Some(chromium) = super::needs::chromium() {
        runner.env("CHROMIUM", chromium);
    }
    stream(&mut runner, deadline, &mut |line| tally.line(line))
}
