//! `cargo xtask soak`: what takes too long for every run of the tests; its report is docs/soak.md.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::bench::{load_once, number};
use crate::repo::Repo;
use crate::run::{command, read, show, stream};

const HELP: &str = "\
Usage: cargo xtask soak [--quick]

Kills the release server hundreds of times under load, publishes for ten minutes and watches the memory, reads pages of
ten million messages; writes docs/soak.md when all of it ran. Half an hour or more. --quick: a minute, and writes nothing.
";

/// No bound that a load from one address would meet, and a channel that keeps everything.
const CONFIG: &str = "\
default_app = \"demo\"

[limits]
connections_per_address = 0
events_per_second = 0

[apps.demo]
guests = true

[[apps.demo.rules]]
channels = \"kept:*\"
history = \"durable\"
publish = \"anyone\"
";

/// The crash tests, and how often each kills.
const CRASHES: [Crashes; 3] = [
    Crashes {
        title: "SIGKILL of the server under load",
        package: "xpush",
        target: "crash",
        test: "nothing_acked_is_lost_however_often_it_is_killed",
        kills: "300",
    },
    Crashes {
        title: "the same over a file system that loses what was not synced, two nodes",
        package: "xpush-channel",
        target: "power_loss",
        test: "what_was_acked_survives_power_loss",
        kills: "300",
    },
    Crashes {
        title: "SIGKILL of one of three servers of a cluster under load",
        package: "xpush",
        target: "cluster",
        test: "nothing_acked_is_lost_whichever_server_is_killed",
        kills: "100",
    },
];

struct Crashes {
    title: &'static str,
    package: &'static str,
    target: &'static str,
    test: &'static str,
    kills: &'static str,
}

/// A long load, and what must come of it.
struct Long {
    title: &'static str,
    full: &'static [&'static str],
    quick: &'static [&'static str],
    figure: &'static str,
    most: f64,
    unit: &'static str,
}

static LOADS: [Long; 2] = [
    Long {
        title: "ten minutes of durable publishing, 2,000/s: growth of the server's memory in the second half",
        full: &["durable", "--prefix", "kept:", "--rate", "2000", "--seconds", "600"],
        quick: &["durable", "--prefix", "kept:", "--rate", "2000", "--seconds", "4"],
        figure: "RSS MB grown in the second half",
        most: 4.0,
        unit: "MB",
    },
    Long {
        title: "the newest 50 of ten million messages",
        full: &["page", "--prefix", "kept:", "--messages", "10000000", "--patience", "60"],
        quick: &["page", "--prefix", "kept:", "--messages", "10000"],
        figure: "page ms",
        most: 1.0,
        unit: "ms",
    },
];

/// What one part found: a row of the report, and whether it is good.
struct Finding {
    title: &'static str,
    words: String,
    goal: String,
    good: bool,
}

/// Runs everything; false when something was not as promised.
pub(crate) fn run(repo: &Repo, words: &[&str]) -> Result<bool, String> {
    let quick = match words {
        [] => false,
        ["--quick"] => true,
        ["--help" | "-h"] => {
            print!("{HELP}");
            return Ok(true);
        }
        _ => return Err(format!("not understood: {}\n\n{HELP}", words.join(" "))),
    };
    show(&mut command(repo, &["cargo", "build", "--release", "--package", "xpush"]))?;
    let started = Instant::now();
    let mut findings: Vec<Finding> = CRASHES.iter().map(|crashes| crashes.run(repo, quick)).collect();
    findings.extend(LOADS.iter().map(|long| long.run(repo, quick)));
    let table = table(&findings);
    println!("\n{table}");
    if !quick {
        let page = page(repo, &table, started.elapsed().as_secs() / 60);
        fs::write(repo.path("docs/soak.md"), page).map_err(|error| error.to_string())?;
        println!("written to docs/soak.md");
    }
    Ok(findings.iter().all(|finding| finding.good))
}

impl Crashes {
    fn run(&self, repo: &Repo, quick: bool) -> Finding {
        let mut cargo =
            command(repo, &["cargo", "test", "--package", self.package, "--test", self.target, "--"]);
        cargo.args(["--exact", self.test, "--nocapture"]);
        cargo.env("XPUSH_BIN", repo.release_binary());
        if std::env::var_os("SECANTUSDB_BIN").is_none() {
            cargo.env("SECANTUSDB_BIN", repo.venv().join("bin/secantusd-py"));
        }
        cargo.env("XPUSH_CRASHES", if quick { "5" } else { self.kills });
        let mut summary = None;
        let outcome = stream(&mut cargo, None, &mut |line| {
            if line.contains(" kills, ") {
                summary = Some(line.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned());
            }
        });
        let good = outcome.is_ok() && summary.is_some();
        let words = outcome.err().or(summary).unwrap_or_else(|| "nothing was said".to_owned());
        Finding { title: self.title, words, goal: "nothing lost, doubled or out of order".to_owned(), good }
    }
}

impl Long {
    fn run(&self, repo: &Repo, quick: bool) -> Finding {
        let measured = load_once(repo, CONFIG, if quick { self.quick } else { self.full });
        let goal = format!("≤ {} {}", self.most, self.unit);
        let figure = measured.as_deref().ok().and_then(|line| number(line, self.figure));
        let faults = ["lost", "doubled", "misordered", "stray", "cut"]
            .map(|fault| measured.as_deref().ok().and_then(|line| number(line, fault)).unwrap_or_default());
        let faultless = faults.iter().sum::<f64>() < 0.5;
        let words = match (figure, &measured) {
            (Some(figure), _) if faultless => format!("{figure:.2} {}", self.unit),
            (Some(figure), _) => format!("{figure:.2} {}, with faults: {faults:?}", self.unit),
            (None, Ok(line)) => format!("no figure: {line}"),
            (None, Err(error)) => error.clone(),
        };
        Finding {
            title: self.title,
            words,
            goal,
            good: faultless && figure.is_some_and(|figure| figure <= self.most),
        }
    }
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::from("| | found | goal | |\n|---|---|---|---|\n");
    for Finding { title, words, goal, good } in findings {
        let _ =
            writeln!(text, "| {title} | {words} | {goal} | {} |", if *good { "ok" } else { "**FAILED**" });
    }
    text
}

fn page(repo: &Repo, table: &str, minutes: u64) -> String {
    let version = |words: &[&str]| read(&mut command(repo, words)).unwrap_or_else(|| "unknown".to_owned());
    let date = read(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default();
    format!(
        "# Soak\n\n\
         Written by `cargo xtask soak`; do not edit. The crash tests of `cargo xtask test`, and loads, in a size that takes long.\n\
         Clients write down what they send and hear; a checker (crates/testkit/src/checker.rs) compares their logs with the store.\n\n\
         {table}\n\
         {date}, {minutes} minutes, commit {commit}, Linux {kernel}, {rustc}.\n",
        commit = version(&["git", "rev-parse", "--short", "HEAD"]),
        kernel = version(&["uname", "-r"]),
        rustc = version(&["rustc", "--version"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told() {
        let finding =
            |good| Finding { title: "x", words: "5 ms".to_owned(), goal: "≤ 1 ms".to_owned(), good };
        let text = table(&[finding(true), finding(false)]);
        assert!(text.contains("| x | 5 ms | ≤ 1 ms | ok |"), "{text}");
        assert!(text.ends_with("| x | 5 ms | ≤ 1 ms | **FAILED** |\n"), "{text}");
    }
}
