//! The tests of `cargo test`: those that look at clocks and wait for servers one after the other, and beside them, at a lower priority, those that only compute.
//!
//! (cargo-nextest gives each test a process; ours share the servers that their binary has started.)

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::repo::Repo;
use crate::run::{command, listen, read, seconds};

use super::needs;

/// How the titles of those begin that only compute: however slow they are, they end as they would.
const COMPUTING: [&str; 7] =
    ["channel src/", "core ", "embedded ", "testkit ", "volatile ", "wire ", "xtask "];

/// How much lower, by `nice`: a third of what the others get.
const NICENESS: &str = "5";

/// A compiled test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    /// As people find it: `xpush tests/serve.rs`.
    title: String,
    program: PathBuf,
    /// The folder of its package, in which cargo would start it.
    package: PathBuf,
}

impl Binary {
    /// What a line of `cargo test --no-run --message-format=json` tells of a test; the most tell of something else.
    pub(super) fn told(message: &str) -> Option<Self> {
        let program = PathBuf::from(text(message, "executable")?);
        let profile = &message[message.find("\"profile\":{")?..];
        if !profile[..profile.find('}')?].contains("\"test\":true") {
            return None;
        }
        let package = PathBuf::from(text(message, "manifest_path")?).parent()?.to_owned();
        let source = PathBuf::from(text(message, "src_path")?);
        let source = source.strip_prefix(&package).unwrap_or(&source);
        let title = format!("{} {}", package.file_name()?.display(), source.display());
        Some(Self { title, program, package })
    }

    fn only_computes(&self) -> bool {
        COMPUTING.iter().any(|beginning| self.title.starts_with(beginning))
    }
}

/// The text of a field. Cargo's names and paths have nothing in them that JSON escapes; of one that has, nothing is read.
fn text<'a>(message: &'a str, field: &str) -> Option<&'a str> {
    let key = format!("\"{field}\":\"");
    let rest = &message[message.find(&key)? + key.len()..];
    let text = &rest[..rest.find('"')?];
    (!text.contains('\\')).then_some(text)
}

/// Compiles all code and all tests, by clippy, whose compiler is rustc's: to check them first and compile them then would take twice as long.
pub(super) fn compile(repo: &Repo, deadline: Option<Instant>) -> Result<Vec<Binary>, String> {
    let mut found = Vec::new();
    let mut cargo =
        cargo_test(repo, &["--no-fail-fast", "--no-run", "--message-format=json-render-diagnostics"]);
    listen(&mut cargo, deadline, &mut |line| found.extend(Binary::told(line)))?;
    Ok(found)
}

/// The examples in the documentation of the code.
pub(super) fn documented(repo: &Repo) -> Command {
    cargo_test(repo, &["--no-fail-fast", "--doc"])
}

/// Not `cargo clippy`, which only checks. What it would set is set here: its driver, in the place of rustc for our own crates, and what is denied.
fn cargo_test(repo: &Repo, options: &[&str]) -> Command {
    let mut cargo = command(repo, &["cargo", "test", "--locked", "--workspace"]);
    cargo.args(options).env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    cargo.env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    cargo
}

/// Runs them all, whatever fails. What one prints is shown when it has ended, and given to `on_line`.
pub(super) fn run(
    repo: &Repo,
    binaries: Vec<Binary>,
    deadline: Option<Instant>,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<(), String> {
    // The tests of what was linked with the standard library's own file look for it.
    let libraries = read(&mut command(repo, &["rustc", "--print", "target-libdir"]));
    let shown = Mutex::new((on_line, Vec::new()));
    let run_all = |binaries: Vec<Binary>, prefix: &[&str]| {
        for binary in binaries {
            let program = binary.program.to_string_lossy();
            let mut test = command(repo, &[prefix, &[&program]].concat());
            test.current_dir(&binary.package).env("CARGO_MANIFEST_DIR", &binary.package);
            needs::name_secantusdb(&mut test, repo);
            test.envs(libraries.iter().map(|folder| ("LD_LIBRARY_PATH", folder)));
            println!("    Starting {}", binary.title);
            let begun = Instant::now();
            let mut lines = Vec::new();
            let outcome = listen(&mut test, deadline, &mut |line| lines.push(line.to_owned()));

            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let (on_line, failed) = &mut *shown;
            println!("       Ended {}, {}", binary.title, seconds(begun.elapsed()));
            for line in &lines {
                println!("{line}");
                on_line(line);
            }
            if let Err(problem) = outcome {
                println!("{}: {problem}", binary.title);
                failed.push(binary.title);
            }
        }
    };
    let (computing, waiting) = binaries.into_iter().partition(Binary::only_computes);
    thread::scope(|scope| {
        scope.spawn(|| run_all(waiting, &[]));
        scope.spawn(|| run_all(computing, &["nice", "-n", NICENESS]));
    });
    let (_, failed) = shown.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///src/xpush/crates/core#xpush-core@0.2.0","manifest_path":"/src/xpush/crates/core/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"released","src_path":"/src/xpush/crates/core/tests/released.rs","edition":"2024","doc":false,"doctest":false,"test":true},"profile":{"opt_level":"0","debuginfo":1,"debug_assertions":true,"overflow_checks":true,"test":true},"features":[],"filenames":["/src/target/debug/deps/released-1"],"executable":"/src/target/debug/deps/released-1","fresh":false}"#;

    #[test]
    fn a_test_is_found_with_its_package() {
        let found = Binary::told(TEST).unwrap();
        assert_eq!(found.title, "core tests/released.rs");
        assert_eq!(found.program, PathBuf::from("/src/target/debug/deps/released-1"));
        assert_eq!(found.package, PathBuf::from("/src/xpush/crates/core"));
        assert!(found.only_computes());
        let waiting = Binary::told(&TEST.replace("crates/core/", "crates/hooks/")).unwrap();
        assert!(!waiting.only_computes(), "{waiting:?}");
    }

    #[test]
    fn what_is_no_test_is_left_out() {
        // Its target may have tests; it is not compiled as one.
        let program = TEST.replace(r#"checks":true,"test":true"#, r#"checks":true,"test":false"#);
        let library =
            TEST.replace(r#""executable":"/src/target/debug/deps/released-1""#, r#""executable":null"#);
        for other in [&program, &library, r#"{"reason":"build-finished","success":true}"#, "", "{"] {
            assert_eq!(Binary::told(other), None);
        }
    }
}
