//! What files may not be called.

use super::Finding;
use super::tree::Tree;

const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];
const SOURCES: &[&str] = &["rs", "ts", "tsx", "js", "mjs", "py", "css", "sh"];

/// Files and folders, and modules that are written inline.
pub(super) fn say_something(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let is_source = file.path.rsplit_once('.').is_some_and(|(_, ending)| SOURCES.contains(&ending));
        if !is_source || file.is_generated() {
            continue;
        }
        let parts = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            let message = format!("`{part}` does not say what is in it");
            findings.push(Finding { path: file.path.clone(), line: 0, message });
        }
        for (index, line) in file.text.iter().flat_map(|text| text.lines().enumerate()) {
            let words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
            if let [Some("mod"), Some(name), Some("{")] = first_three(words)
                && EMPTY_NAMES.contains(&name)
            {
                let message = format!("`mod {name}` does not say what is in it");
                findings.push(Finding { path: file.path.clone(), line: index + 1, message });
            }
        }
    }
    findings
}

fn first_three<'a>(mut words: impl Iterator<Item = &'a str>) -> [Option<&'a str>; 3] {
    [words.next(), words.next(), words.next()]
}
