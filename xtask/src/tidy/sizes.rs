//! How long files and functions may be.

use super::Finding;
use super::rust_source::{code_only, functions};
use super::tree::Tree;

const FILE_LINES: usize = 700;
/// A table of cases is long and still simple.
const TEST_FILE_LINES: usize = 1000;
const FUNCTION_LINES: usize = 80;

pub(super) fn fit_in_the_head(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts(".rs") {
        let lines = text.lines().count();
        let limit = if file.is_rust_test() { TEST_FILE_LINES } else { FILE_LINES };
        if lines > limit {
            let message = format!("{lines} lines; a file has {limit} at most");
            findings.push(Finding { path: file.path.clone(), line: 0, message });
        }
        let long = functions(&code_only(text)).into_iter().filter(|function| function.lines > FUNCTION_LINES);
        findings.extend(long.map(|function| Finding {
            path: file.path.clone(),
            line: function.line,
            message: format!(
                "`{}` has {} lines; a function has {FUNCTION_LINES} at most",
                function.name, function.lines
            ),
        }));
    }
    findings
}
