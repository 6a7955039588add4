//! `cargo xtask test`: every check, in order, in one run that goes on after a failure and ends with the counts.

mod counts;
mod needs;
mod steps;

use std::time::{Duration, Instant};

use crate::repo::Repo;
use crate::run::seconds;

use counts::Counts;
pub(crate) use needs::npm_packages;

use needs::Need;
use steps::{STEPS, Step};

/// A run on a build machine has to end, and to say which step hung. At a keyboard there is Ctrl-C.
const CI_TIME: Duration = Duration::from_secs(38 * 60);

/// What became of a step.
struct Report {
    step: &'static Step,
    counts: Counts,
    elapsed: Duration,
    /// Why it failed; `None` when all is well.
    problem: Option<String>,
    /// The tests that failed, by name.
    failures: Vec<String>,
}

/// Runs the steps; `Ok(false)` when anything failed.
pub(crate) fn command(repo: &Repo, options: &[&str]) -> Result<bool, String> {
    if options == ["--list"] {
        for step in STEPS {
            println!("{:8} {}", step.name, step.title);
        }
        return Ok(true);
    }
    let chosen = choose(options)?;
    let started = Instant::now();
    let deadline = std::env::var_os("CI").map(|_| started + CI_TIME);

    heading("needs", "what the tests need");
    let missing = needs::install(repo, &chosen);
    for (need, reason) in &missing {
        println!("MISSING {need}: {reason}");
    }
    let reports: Vec<Report> = chosen.iter().map(|step| run(repo, step, &missing, deadline)).collect();

    Ok(summarise(&reports, &missing, started.elapsed()))
}

fn choose(options: &[&str]) -> Result<Vec<&'static Step>, String> {
    let mut chosen = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let name = match *option {
            "--only" => options.next().copied(),
            other => other.strip_prefix("--only="),
        };
        let name = name.ok_or_else(|| format!("`{option}` is not understood; see `cargo xtask help`"))?;
        let step = STEPS.iter().find(|step| step.name == name);
        chosen
            .push(step.ok_or_else(|| format!("no step is called `{name}`; see `cargo xtask test --list`"))?);
    }
    Ok(if chosen.is_empty() { STEPS.iter().collect() } else { chosen })
}

fn run(repo: &Repo, step: &'static Step, missing: &[(Need, String)], deadline: Option<Instant>) -> Report {
    heading(step.name, step.title);
    let started = Instant::now();
    let mut tally = counts::Tally::default();
    let absent = missing.iter().find(|(need, _)| step.needs.contains(need));
    let outcome = match absent {
        Some((need, _)) => Err(format!("not run: {need} is missing")),
        None if deadline.is_some_and(|at| at <= Instant::now()) => Err("not run: out of time".to_owned()),
        None => (step.run)(repo, deadline, &mut tally),
    };
    let mut counts = tally.counts();
    match &outcome {
        // A check that is no test runner counts as one test.
        Ok(()) if counts == Counts::default() && !step.has_tests => counts.passed = 1,
        Ok(()) => {}
        // A failure is never lost, even when no test has failed: think of code that does not compile.
        Err(_) => counts.failed = counts.failed.max(1),
    }
    let problem = match outcome {
        Err(problem) => Some(problem),
        Ok(()) if counts.failed > 0 => Some("tests failed".to_owned()),
        Ok(()) if counts == Counts::default() => {
            // Silence is no success: a runner that found nothing to run is broken.
            counts.failed = 1;
            Some("no test was run".to_owned())
        }
        Ok(()) => None,
    };
    let elapsed = started.elapsed();
    match &problem {
        None => println!("-- {}: ok, {}", step.name, seconds(elapsed)),
        Some(problem) => println!("-- {}: FAILED, {}: {problem}", step.name, seconds(elapsed)),
    }
    Report { step, counts, elapsed, problem, failures: tally.into_failures() }
}

/// Prints the outcome of every step and the counts; true when all is well.
fn summarise(reports: &[Report], missing: &[(Need, String)], elapsed: Duration) -> bool {
    heading("summary", "");
    for (need, reason) in missing {
        println!("MISSING {need}: {reason}");
    }
    let mut total = Counts { passed: 0, failed: missing.len() as u64 };
    for report in reports {
        total = total + report.counts;
        let state = if report.problem.is_none() { "ok" } else { "FAILED" };
        let Counts { passed, failed } = report.counts;
        println!(
            "{state:6}  {:8} {:>9}   {passed} passed, {failed} failed",
            report.step.name,
            seconds(report.elapsed)
        );
        for line in report.problem.iter().chain(&report.failures) {
            println!("          {line}");
        }
    }
    let ok = total.failed == 0;
    let word = if ok { "ok" } else { "FAILED" };
    let Counts { passed, failed } = total;
    println!("\ntest result: {word}. {passed} passed; {failed} failed; finished in {}", seconds(elapsed));
    println!("{passed} passed, {failed} failed");
    ok
}

fn heading(name: &str, title: &str) {
    println!("\n== {name} {title}");
}
