//! `cargo xtask test`: every check, in order, in one run that goes on after a failure and ends with the counts.

mod binaries;
mod counts;
pub(crate) mod needs;
mod steps;

use std::time::{Duration, Instant};

use crate::repo::Repo;
use crate::run::seconds;

use counts::{Counts, Tally};
pub(crate) use needs::npm_packages;

use needs::Need;
use steps::{Course, STEPS, Step};

/// A run on a build machine has to end before the machine ends it (at 90 minutes), and to say which step hung. It takes half an hour
/// on two cores, and more than twice that on slow ones. At a keyboard there is Ctrl-C.
const CI_TIME: Duration = Duration::from_secs(85 * 60);

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
    let mut course = Course { repo, deadline, tally: Tally::new(step.tests) };
    let absent = missing.iter().find(|(need, _)| step.needs.contains(need));
    let outcome = match absent {
        Some((need, _)) => Err(format!("not run for want of: {need}")),
        None if deadline.is_some_and(|at| at <= Instant::now()) => Err("not run: out of time".to_owned()),
        None => (step.run)(&mut course),
    };
    let (counts, problem) = judge(outcome, course.tally.counts(), step.tests.is_some());
    let elapsed = started.elapsed();
    match &problem {
        None => println!("-- {}: ok, {}", step.name, seconds(elapsed)),
        Some(problem) => println!("-- {}: FAILED, {}: {problem}", step.name, seconds(elapsed)),
    }
    Report { step, counts, elapsed, problem, failures: course.tally.into_failures() }
}

/// The counts to report and what is wrong: no failure is lost because no test was counted, and silence is no success.
fn judge(outcome: Result<(), String>, counted: Counts, has_tests: bool) -> (Counts, Option<String>) {
    match outcome {
        // Think of code that does not compile.
        Err(problem) => (Counts { failed: counted.failed.max(1), ..counted }, Some(problem)),
        Ok(()) if counted.failed > 0 => (counted, Some("tests failed".to_owned())),
        Ok(()) if has_tests && counted.passed == 0 => {
            (Counts { passed: 0, failed: 1 }, Some("no test was run".to_owned()))
        }
        Ok(()) if has_tests => (counted, None),
        // A check that is no test runner counts as one test.
        Ok(()) => (Counts { passed: 1, failed: 0 }, None),
    }
}

/// Prints the outcome of every step and the counts; true when all is well.
fn summarise(reports: &[Report], missing: &[(Need, String)], elapsed: Duration) -> bool {
    heading("summary", "");
    for (need, reason) in missing {
        println!("MISSING {need}: {reason}");
    }
    let mut total = Counts::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        outcome: Result<(), &str>,
        passed: u64,
        failed: u64,
        has_tests: bool,
    ) -> (u64, u64, Option<String>) {
        let (counts, problem) = judge(outcome.map_err(str::to_owned), Counts { passed, failed }, has_tests);
        (counts.passed, counts.failed, problem)
    }

    #[test]
    fn a_failure_is_counted_even_when_no_test_was() {
        assert_eq!(judged(Err("no compiler"), 0, 0, true), (0, 1, Some("no compiler".into())));
        assert_eq!(judged(Err("stale"), 12, 0, true), (12, 1, Some("stale".into())));
        assert_eq!(judged(Err("exit 101"), 12, 3, true), (12, 3, Some("exit 101".into())));
    }

    #[test]
    fn a_runner_that_hides_its_failures_or_runs_nothing_fails() {
        assert_eq!(judged(Ok(()), 12, 3, true), (12, 3, Some("tests failed".into())));
        assert_eq!(judged(Ok(()), 0, 0, true), (0, 1, Some("no test was run".into())));
    }

    #[test]
    fn what_is_well_is_counted() {
        assert_eq!(judged(Ok(()), 12, 0, true), (12, 0, None));
        assert_eq!(judged(Ok(()), 0, 0, false), (1, 0, None));
    }

    #[test]
    fn steps_are_chosen_by_name() {
        let names = |options: &[&str]| {
            choose(options).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>()).ok()
        };
        assert_eq!(names(&[]), Some(STEPS.iter().map(|step| step.name).collect()));
        assert_eq!(names(&["--only", "e2e", "--only=fmt"]), Some(vec!["e2e", "fmt"]));
        for wrong in [&["--only"][..], &["--only", "nothing"], &["fmt"]] {
            assert_eq!(names(wrong), None, "{wrong:?}");
        }
    }
}
