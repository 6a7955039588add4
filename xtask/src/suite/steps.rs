//! The steps of `cargo xtask test`, in order: the quick ones first.

use std::process::Command;
use std::time::Instant;

use crate::repo::Repo;
use crate::run::{command, npm, stream};
use crate::{tidy, web};

use super::binaries;
use super::counts::{Runner, Tally};
use super::needs::{self, Need};

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) needs: &'static [Need],
    /// Who counts its tests; without a runner it is one check.
    pub(crate) tests: Option<Runner>,
    pub(crate) run: fn(&mut Course<'_>) -> Result<(), String>,
}

/// A step on its way.
pub(crate) struct Course<'a> {
    pub(crate) repo: &'a Repo,
    pub(crate) deadline: Option<Instant>,
    pub(crate) tally: Tally,
}

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        title: "cargo fmt --check",
        needs: &[Need::RustTools],
        tests: None,
        run: |course| {
            // The fuzz targets are a workspace of their own.
            let fuzz = course.cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
            course.cargo(&["fmt", "--all", "--check"]).and(fuzz)
        },
    },
    Step {
        name: "tidy",
        title: "the layout rules",
        needs: &[],
        tests: None,
        run: |course| match tidy::command(course.repo)? {
            true => Ok(()),
            false => Err("layout rules are broken".to_owned()),
        },
    },
    Step {
        name: "clippy",
        title: "all code and all tests, compiled by clippy, warnings denied",
        needs: &[Need::RustTools],
        tests: None,
        run: |course| binaries::compile(course.repo, course.deadline).map(drop),
    },
    Step {
        name: "rust",
        title: "the tests of all crates",
        needs: &[Need::RustTools, Need::Redis, Need::ZooKeeper, Need::Nginx, Need::SecantusDb, Need::S3],
        tests: Some(Runner::Cargo),
        run: |course| {
            let compiled = binaries::compile(course.repo, course.deadline)?;
            let Course { repo, deadline, tally } = course;
            let mut on_line = |line: &str| tally.line(line);
            let run = binaries::run(repo, compiled, *deadline, &mut on_line);
            run.and(course.run(&mut binaries::documented(course.repo)))
        },
    },
    Step {
        name: "release",
        title: "cargo build --release -p xpush",
        needs: &[],
        tests: None,
        run: |course| course.release_build(),
    },
    Step {
        name: "client",
        title: "@xpush/client: types and unit tests",
        needs: &[Need::Node, Need::Npm("clients/js")],
        tests: Some(Runner::JavaScript),
        run: |course| course.typescript("clients/js"),
    },
    Step {
        name: "web",
        title: "the pages: types, and web/dist as committed",
        needs: &[Need::Node, Need::Npm("web")],
        tests: None,
        run: |course| web::compare(course.repo, course.deadline),
    },
    Step {
        name: "e2e",
        title: "real clients and a real browser against the real binary",
        // `@xpush/client` runs in the browser there, built by its own compiler.
        needs: &[
            Need::Node,
            Need::Npm("e2e"),
            Need::Npm("clients/js"),
            Need::Python,
            Need::Chromium,
            Need::Redis,
            Need::ZooKeeper,
            Need::Nginx,
            Need::SecantusDb,
            Need::S3,
        ],
        tests: Some(Runner::Plain),
        run: |course| {
            // Nothing to do after the step `release`; but never a run against an old binary.
            course.release_build()?;
            course.run(&mut end_to_end(course.repo))
        },
    },
];

impl Course<'_> {
    fn run(&mut self, command: &mut Command) -> Result<(), String> {
        stream(command, self.deadline, &mut |line| self.tally.line(line))
    }

    fn cargo(&mut self, words: &[&str]) -> Result<(), String> {
        self.run(command(self.repo, &["cargo"]).args(words))
    }

    fn release_build(&mut self) -> Result<(), String> {
        self.cargo(&["build", "--locked", "--release", "-p", "xpush"])
    }

    /// The scripts that each of our npm packages has.
    fn typescript(&mut self, folder: &str) -> Result<(), String> {
        self.run(&mut npm(self.repo, folder, &["run", "check"]))?;
        // A line a test; node's form for pipes is seven.
        self.run(npm(self.repo, folder, &["test"]).env("NODE_OPTIONS", "--test-reporter=spec"))
    }
}

fn end_to_end(repo: &Repo) -> Command {
    let mut runner = command(repo, &["node", "e2e/run.mjs"]);
    runner.env("XPUSH_BIN", repo.release_binary()).env("XPUSH_PYTHON", repo.venv().join("bin/python3"));
    needs::name_secantusdb(&mut runner, repo);
    if let Some(chromium) = needs::chromium() {
        runner.env("CHROMIUM", chromium);
    }
    runner
}
