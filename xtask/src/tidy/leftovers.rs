//! What may stand in code for a minute, but not in a commit.

use super::Finding;
use super::rust_source::code_only;
use super::tree::Tree;

const IN_RUST: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// One `only` silences every other test of its file.
const IN_SCRIPTS: &[&str] = &["test.only(", "it.only(", "describe.only(", "debugger;"];

pub(super) fn none(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts(".rs") {
        let code = code_only(text);
        search(&file.path, &code, IN_RUST, &mut findings);
        // An ignored test needs a reason: `#[ignore = "…"]`.
        search(&file.path, &code, &["#[ignore]"], &mut findings);
    }
    for ending in [".ts", ".tsx", ".mjs"] {
        for (file, text) in tree.texts(ending).filter(|(file, _)| !file.is_generated()) {
            search(&file.path, text, IN_SCRIPTS, &mut findings);
        }
    }
    findings
}

fn search(path: &str, code: &str, words: &[&str], findings: &mut Vec<Finding>) {
    for (index, line) in code.lines().enumerate() {
        for word in words.iter().filter(|word| has_word(line, word)) {
            findings.push(Finding {
                path: path.to_owned(),
                line: index + 1,
                message: format!("`{word}` is left"),
            });
        }
    }
}

/// Not as the end of a longer name: `my_todo!` is another macro.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}
