//! Reads what test runners print about their tests.

use std::ops::Add;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// How many failing tests of a step are named in the summary.
const NAMED: usize = 20;

/// Whose output it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// One line of counts a test binary.
    Cargo,
    /// node's own runner (passed and failed on two lines), or vitest.
    JavaScript,
    /// e2e/run.mjs: `N passed, N failed`, once.
    Plain,
}

/// The counts of one step, gathered line by line.
pub(crate) struct Tally {
    runner: Option<Runner>,
    counts: Counts,
    failures: Vec<String>,
}

impl Tally {
    /// Without a runner there is nothing to count.
    pub(crate) fn new(runner: Option<Runner>) -> Self {
        Self { runner, counts: Counts::default(), failures: Vec::new() }
    }

    /// One line of the runner's standard output.
    pub(crate) fn line(&mut self, line: &str) {
        let Some(runner) = self.runner else { return };
        if let Some(counts) = counts_in(runner, line.trim()) {
            self.counts = self.counts + counts;
        }
        if let Some(name) = failure_in(line)
            && self.failures.len() < NAMED
            // node names them a second time, under a heading.
            && name != "failing tests:"
            && !self.failures.iter().any(|known| known == name)
        {
            self.failures.push(name.to_owned());
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn into_failures(self) -> Vec<String> {
        self.failures
    }
}

/// The counts in a line that is a runner's last word.
fn counts_in(runner: Runner, line: &str) -> Option<Counts> {
    match runner {
        Runner::Cargo => {
            let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
            let mut parts = counts.split("; ");
            let passed = number_before(parts.next()?, " passed")?;
            let failed = number_before(parts.next()?, " failed")?;
            Some(Counts { passed, failed })
        }
        Runner::JavaScript => {
            if let Some(rest) = line.strip_prefix("Tests  ") {
                let parts = || rest.split(" (").next().unwrap_or(rest).split(" | ");
                let number = |word| parts().find_map(|part| number_before(part, word)).unwrap_or(0);
                return Some(Counts { passed: number(" passed"), failed: number(" failed") });
            }
            let rest = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?;
            match rest.split_once(' ')? {
                ("pass", count) => Some(Counts { passed: count.parse().ok()?, failed: 0 }),
                ("fail", count) => Some(Counts { passed: 0, failed: count.parse().ok()? }),
                _ => None,
            }
        }
        Runner::Plain => {
            let (passed, failed) = line.split_once(", ")?;
            Some(Counts {
                passed: number_before(passed, " passed")?,
                failed: number_before(failed, " failed")?,
            })
        }
    }
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    text.trim().strip_suffix(word)?.parse().ok()
}

/// The name of a failing test, in the forms of cargo, node and vitest.
fn failure_in(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix("test ") {
        return rest.strip_suffix(" ... FAILED");
    }
    ["not ok ", "✗ ", "✖ ", "FAIL "].iter().find_map(|mark| line.trim_start().strip_prefix(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(runner: Runner, text: &str) -> Tally {
        let mut tally = Tally::new(Some(runner));
        text.lines().for_each(|line| tally.line(line));
        tally
    }

    #[test]
    fn cargo_prints_a_line_a_binary() {
        let text = "running 2 tests\n\
            test ws::masked ... ok\n\
            test ws::split ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s";
        let tally = tally(Runner::Cargo, text);
        assert_eq!(tally.counts(), Counts { passed: 41, failed: 1 });
        assert_eq!(tally.into_failures(), ["ws::split"]);
    }

    #[test]
    fn node_prints_passed_and_failed_apart() {
        let tally = tally(
            Runner::JavaScript,
            "✖ resumes (3.1ms)\n✖ failing tests:\n✖ resumes (3.1ms)\nℹ tests 8\nℹ pass 7\nℹ fail 1\n# pass 2\n# fail 0",
        );
        assert_eq!(tally.counts(), Counts { passed: 9, failed: 1 });
        assert_eq!(tally.into_failures(), ["resumes (3.1ms)"]);
    }

    #[test]
    fn vitest_may_leave_out_either() {
        assert_eq!(
            tally(Runner::JavaScript, "      Tests  1 failed | 12 passed | 1 skipped (14)").counts(),
            Counts { passed: 12, failed: 1 }
        );
        assert_eq!(
            tally(Runner::JavaScript, "      Tests  12 passed (12)").counts(),
            Counts { passed: 12, failed: 0 }
        );
        assert_eq!(
            tally(Runner::JavaScript, "      Tests  3 failed (3)").counts(),
            Counts { passed: 0, failed: 3 }
        );
    }

    #[test]
    fn our_own_runners_use_the_plain_form() {
        assert_eq!(tally(Runner::Plain, "12 passed, 3 failed").counts(), Counts { passed: 12, failed: 3 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let text =
            "3 passed, but slowly\ntest result: unknown\nTest Files  1 passed (1)\n# tests 4\n# passed by 4";
        for runner in [Runner::Cargo, Runner::JavaScript, Runner::Plain] {
            assert_eq!(tally(runner, text).counts(), Counts::default());
        }
    }

    #[test]
    fn a_runner_is_read_in_its_own_form_only() {
        let text = "# pass 3\n# fail 1\n4 passed, 2 failed";
        assert_eq!(tally(Runner::Plain, text).counts(), Counts { passed: 4, failed: 2 });
        assert_eq!(tally(Runner::JavaScript, text).counts(), Counts { passed: 3, failed: 1 });
    }
}
