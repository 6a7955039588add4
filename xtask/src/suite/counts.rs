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

/// The counts of one step, gathered line by line.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Counts,
    failures: Vec<String>,
}

impl Tally {
    /// One line of a runner's standard output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(counts) = counts_in(line) {
            self.counts = self.counts + counts;
        }
        if let Some(name) = failure_in(line)
            && self.failures.len() < NAMED
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

/// The counts in a line that is a runner's last word: cargo's (one a test binary), node's (two lines: passed, then
/// failed), vitest's, and the plain form of our own runners.
fn counts_in(line: &str) -> Option<Counts> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        let (_, counts) = rest.split_once(". ")?;
        let mut parts = counts.split("; ");
        return Some(Counts {
            passed: number_before(parts.next()?, " passed")?,
            failed: number_before(parts.next()?, " failed")?,
        });
    }
    if let Some(count) = line.strip_prefix("ℹ pass ").or_else(|| line.strip_prefix("# pass ")) {
        return Some(Counts { passed: count.parse().ok()?, failed: 0 });
    }
    if let Some(count) = line.strip_prefix("ℹ fail ").or_else(|| line.strip_prefix("# fail ")) {
        return Some(Counts { passed: 0, failed: count.parse().ok()? });
    }
    if let Some(rest) = line.strip_prefix("Tests  ") {
        let mut counts = Counts::default();
        for part in rest.split(" (").next()?.split(" | ") {
            counts.passed += number_before(part, " passed").unwrap_or(0);
            counts.failed += number_before(part, " failed").unwrap_or(0);
        }
        return Some(counts);
    }
    let (passed, failed) = line.split_once(", ")?;
    Some(Counts { passed: number_before(passed, " passed")?, failed: number_before(failed, " failed")? })
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

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
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
        let tally = tally(text);
        assert_eq!(tally.counts(), Counts { passed: 41, failed: 1 });
        assert_eq!(tally.into_failures(), ["ws::split"]);
    }

    #[test]
    fn node_prints_passed_and_failed_apart() {
        let tally = tally("✖ resumes (3.1ms)\nℹ tests 8\nℹ pass 7\nℹ fail 1\n# pass 2\n# fail 0");
        assert_eq!(tally.counts(), Counts { passed: 9, failed: 1 });
        assert_eq!(tally.into_failures(), ["resumes (3.1ms)"]);
    }

    #[test]
    fn vitest_may_leave_out_either() {
        assert_eq!(
            tally("      Tests  1 failed | 12 passed | 1 skipped (14)").counts(),
            Counts { passed: 12, failed: 1 }
        );
        assert_eq!(tally("      Tests  12 passed (12)").counts(), Counts { passed: 12, failed: 0 });
        assert_eq!(tally("      Tests  3 failed (3)").counts(), Counts { passed: 0, failed: 3 });
    }

    #[test]
    fn our_own_runners_use_the_plain_form() {
        assert_eq!(tally("12 passed, 3 failed").counts(), Counts { passed: 12, failed: 3 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(
            tally("3 passed, but slowly\ntest result: unknown\nTest Files  1 passed (1)").counts(),
            Counts::default()
        );
    }
}
