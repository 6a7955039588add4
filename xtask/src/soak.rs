//! `cargo xtask soak`: what takes too long for every run of the tests; its report is docs/soak.md.

mod mixed;
mod seeds;

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::bench::{load_once, number};
use crate::repo::Repo;
use crate::run::{command, read, show, stream};
use crate::suite::needs;

const HELP: &str = "\
Usage: cargo xtask soak [PART ...] [--quick] [--previous BINARY]

Kills the release server hundreds of times under load, restarts a cluster in front of 2,000 clients, publishes for ten minutes and watches the memory, reads pages of
ten million messages. Half an hour or more in all; a part's row in docs/soak.md is written anew when the part has ended.

  PART     only this part (may be several): crash power kills rolling ghosts seeds mixed memory page
  --quick  a minute, and writes nothing
  --previous BINARY  the previous version, for mixed; else it is built from its commit, which takes long the first time
";

/// The report; a row a part.
const REPORT: &str = "docs/soak.md";

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

/// What is done to servers again and again: how often, and in front of how many clients.
const CRASHES: [Crashes; 5] = [
    Crashes {
        part: "crash",
        title: "SIGKILL of the server under load",
        target: "crash",
        test: "nothing_acked_is_lost_however_often_it_is_killed",
        times: "300",
        crowd: None,
    },
    Crashes {
        part: "power",
        title: "the same over a file system that loses what was not synced, two nodes",
        target: "power_loss",
        test: "what_was_acked_survives_power_loss",
        times: "300",
        crowd: None,
    },
    Crashes {
        part: "kills",
        title: "SIGKILL of one of three servers of a cluster under load",
        target: "cluster",
        test: "nothing_acked_is_lost_whichever_server_is_killed",
        times: "100",
        crowd: None,
    },
    Crashes {
        part: "rolling",
        title: "rolling restarts of three servers of a cluster in front of 2,000 clients",
        target: "cluster",
        test: "crowd::rolling_restarts_lose_nothing_and_delay_nobody",
        times: "20",
        crowd: Some("2000"),
    },
    Crashes {
        part: "ghosts",
        title: "2,000 users at three servers, of which one is killed: each leaves once",
        target: "cluster",
        test: "crowd::of_many_users_of_a_killed_server_each_leaves_once",
        times: "1",
        crowd: Some("2000"),
    },
];

struct Crashes {
    part: &'static str,
    title: &'static str,
    target: &'static str,
    test: &'static str,
    times: &'static str,
    /// Where the test has a number of them.
    crowd: Option<&'static str>,
}

/// A long load, and what must come of it.
struct Long {
    part: &'static str,
    title: &'static str,
    full: &'static [&'static str],
    quick: &'static [&'static str],
    figure: &'static str,
    most: f64,
    unit: &'static str,
}

static LOADS: [Long; 2] = [
    Long {
        part: "memory",
        title: "ten minutes of durable publishing, 2,000/s: growth of the server's memory in the second half",
        full: &["durable", "--prefix", "kept:", "--rate", "2000", "--seconds", "600"],
        quick: &["durable", "--prefix", "kept:", "--rate", "2000", "--seconds", "4"],
        figure: "RSS MB grown in the second half",
        most: 4.0,
        unit: "MB",
    },
    Long {
        part: "page",
        title: "the newest 50 of ten million messages",
        full: &["page", "--prefix", "kept:", "--messages", "10000000", "--patience", "60"],
        quick: &["page", "--prefix", "kept:", "--messages", "10000"],
        figure: "page ms",
        most: 1.0,
        unit: "ms",
    },
];

/// A part: what it is called at the command line and in the report, and what runs it.
struct Part {
    name: &'static str,
    title: &'static str,
    run: Run,
}

/// Quick when true; and the binary of the previous version, if one was named.
type Run = Box<dyn Fn(&Repo, bool, Option<&str>) -> Finding>;

/// What one part found, and whether it is good.
struct Finding {
    words: String,
    goal: String,
    good: bool,
}

/// In the report's order.
fn parts() -> Vec<Part> {
    let crashes = CRASHES.iter().map(|crashes| Part {
        name: crashes.part,
        title: crashes.title,
        run: Box::new(|repo, quick, _| crashes.run(repo, quick)),
    });
    let loads = LOADS.iter().map(|long| Part {
        name: long.part,
        title: long.title,
        run: Box::new(|repo, quick, _| long.run(repo, quick)),
    });
    let clusters = [
        Part { name: "seeds", title: seeds::TITLE, run: Box::new(|repo, quick, _| seeds::run(repo, quick)) },
        Part { name: "mixed", title: mixed::TITLE, run: Box::new(mixed::run) },
    ];
    crashes.chain(clusters).chain(loads).collect()
}

/// Runs the parts asked for, or all; false when something was not as promised.
pub(crate) fn run(repo: &Repo, words: &[&str]) -> Result<bool, String> {
    if matches!(words, ["--help" | "-h"]) {
        print!("{HELP}");
        return Ok(true);
    }
    let (mut quick, mut previous, mut chosen) = (false, None, Vec::new());
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--quick" => quick = true,
            "--previous" => previous = Some(words.next().ok_or("--previous: which binary?")?),
            part => chosen.push(part),
        }
    }
    let parts = parts();
    if let Some(stray) = chosen.iter().find(|name| parts.iter().all(|part| part.name != **name)) {
        return Err(format!("not understood: {stray}\n\n{HELP}"));
    }
    // What is simulated is built by itself.
    if chosen != ["seeds"] {
        show(&mut command(repo, &["cargo", "build", "--release", "--package", "xpush"]))?;
    }
    let mut rows = std::fs::read_to_string(repo.path(REPORT)).map(|page| rows(&page)).unwrap_or_default();
    let mut good = true;
    for part in parts.iter().filter(|part| chosen.is_empty() || chosen.contains(&part.name)) {
        let started = Instant::now();
        let finding = (part.run)(repo, quick, previous);
        good &= finding.good;
        let row = row(part.title, &finding, &circumstances(repo, started.elapsed().as_secs() / 60));
        println!("\n{row}");
        rows.retain(|kept| !is_of(kept, part.title));
        rows.push(row);
        rows.sort_by_key(|row| parts.iter().position(|part| is_of(row, part.title)));
        if !quick {
            fs::write(repo.path(REPORT), page(repo, &rows)).map_err(|error| error.to_string())?;
            println!("written to {REPORT}");
        }
    }
    Ok(good)
}

impl Crashes {
    fn run(&self, repo: &Repo, quick: bool) -> Finding {
        let mut cargo = real(repo, self.target, self.test);
        if let Some(crowd) = self.crowd.filter(|_| !quick) {
            cargo.env("XPUSH_CROWD", crowd);
        }
        let times = if quick { "5" } else { self.times };
        judged(cargo, times, "nothing lost, doubled or out of order".to_owned())
    }
}

/// A test of the release binary.
fn real(repo: &Repo, target: &str, test: &str) -> Command {
    // Of the whole workspace, whose features are compiled already.
    let mut cargo = command(repo, &["cargo", "test", "--workspace", "--test", target, "--"]);
    cargo.args(["--exact", test, "--nocapture"]);
    cargo.env("XPUSH_BIN", repo.release_binary());
    needs::name_secantusdb(&mut cargo, repo);
    cargo
}

/// What the checker says at the end of a test that plays its faults so many times.
fn judged(mut cargo: Command, times: &str, goal: String) -> Finding {
    cargo.env("XPUSH_CRASHES", times);
    let mut summary = None;
    let outcome = stream(&mut cargo, None, &mut |line| {
        if [" kills, ", " restarts, ", " have left: "].iter().any(|said| line.contains(said)) {
            summary = Some(line.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned());
        }
    });
    let good = outcome.is_ok() && summary.is_some();
    let words = outcome.err().or(summary).unwrap_or_else(|| "nothing was said".to_owned());
    Finding { words, goal, good }
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
        Finding { words, goal, good: faultless && figure.is_some_and(|figure| figure <= self.most) }
    }
}

fn row(title: &str, Finding { words, goal, good }: &Finding, circumstances: &str) -> String {
    format!("| {title} | {words} | {goal} | {} | {circumstances} |", if *good { "ok" } else { "**FAILED**" })
}

fn is_of(row: &str, title: &str) -> bool {
    row.strip_prefix("| ").is_some_and(|rest| rest.starts_with(&format!("{title} |")))
}

/// The rows of an earlier report: what a part found stays until it runs again.
fn rows(page: &str) -> Vec<String> {
    page.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
        .map(str::to_owned)
        .collect()
}

fn circumstances(repo: &Repo, minutes: u64) -> String {
    let date = read(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default();
    let commit = read(&mut command(repo, &["git", "rev-parse", "--short", "HEAD"])).unwrap_or_default();
    format!("{date}, {minutes} minutes, {commit}")
}

fn page(repo: &Repo, rows: &[String]) -> String {
    let version = |words: &[&str]| read(&mut command(repo, words)).unwrap_or_else(|| "unknown".to_owned());
    format!(
        "# Soak\n\n\
         Written by `cargo xtask soak`; do not edit. The crash tests of `cargo xtask test`, and loads, in a size that takes long.\n\
         Clients write down what they send and hear; a checker (crates/testkit/src/checker.rs) compares their logs with the store.\n\n\
         | | found | goal | | when, how long, commit |\n|---|---|---|---|---|\n{}\n\n\
         Linux {}, {}.\n",
        rows.join("\n"),
        version(&["uname", "-r"]),
        version(&["rustc", "--version"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told() {
        let told =
            |good| row("x", &Finding { words: "5 ms".to_owned(), goal: "≤ 1 ms".to_owned(), good }, "now");
        assert_eq!(told(true), "| x | 5 ms | ≤ 1 ms | ok | now |");
        assert_eq!(told(false), "| x | 5 ms | ≤ 1 ms | **FAILED** | now |");
    }

    #[test]
    fn a_row_is_found_again() {
        let repo = Repo::here();
        let row =
            row("x: y", &Finding { words: "5 ms".to_owned(), goal: "≤ 1 ms".to_owned(), good: true }, "now");
        let found = rows(&page(&repo, std::slice::from_ref(&row)));
        assert_eq!(found, [row]);
        assert!(is_of(&found[0], "x: y") && !is_of(&found[0], "x"));
    }
}
