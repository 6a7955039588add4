//! Rules for any committed file.

use super::Finding;
use super::tree::{File, Tree};

const LARGE: u64 = 1024 * 1024;
/// Large files that have to be here, with the reason beside each.
const MAY_BE_LARGE: &[&str] = &[];

/// Pieces of paths that exist on somebody's machine only, and where to look for them. Written in two pieces, so that
/// this file does not find itself.
const MACHINE_PATHS: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), ""),
    (concat!("/ro", "ot/"), ""),
    (concat!("/Us", "ers/"), ""),
    (concat!("/tm", "p/"), ".md"),
];

pub(super) fn no_machine_paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, suffix) in MACHINE_PATHS {
        for (file, text) in tree.texts(suffix) {
            for (index, line) in text.lines().enumerate().filter(|(_, line)| begins_path(line, path)) {
                let shown: String = line.trim().chars().take(80).collect();
                let message = format!("`{path}` is a place on one machine: {shown}");
                findings.push(Finding { path: file.path.clone(), line: index + 1, message });
            }
        }
    }
    findings
}

/// `a/tmp/b` and `example.org/work/` are no such paths.
fn begins_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}*".contains(c))
    })
}

pub(super) fn no_large_files(tree: &Tree) -> Vec<Finding> {
    let large =
        tree.files.iter().filter(|file| file.size > LARGE && !MAY_BE_LARGE.contains(&file.path.as_str()));
    large
        .map(|file| Finding {
            path: file.path.clone(),
            line: 0,
            message: format!(
                "{} KiB; list it in xtask/src/tidy/text.rs if it has to be here",
                file.size / 1024
            ),
        })
        .collect()
}

pub(super) fn clean_white_space(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is_generated() && !file.is_fixture()) {
        let Some(text) = &file.text else { continue };
        let mut find = |line, message: &str| {
            findings.push(Finding { path: file.path.clone(), line, message: message.to_owned() });
        };
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with('\r') {
                find(index + 1, "carriage return at the end of the line");
            } else if line.ends_with([' ', '\t']) {
                find(index + 1, "white space at the end of the line");
            }
        }
        if !text.is_empty() && !ends_well(file, text) {
            find(text.lines().count(), "a text file ends with one line end");
        }
    }
    findings
}

/// One-line files that a program reads whole (`.nvmrc` and its like) end as others do; only pictures are let off,
/// because drawing programs write them so.
fn ends_well(file: &File, text: &str) -> bool {
    file.path.ends_with(".svg") || (text.ends_with('\n') && !text.ends_with("\n\n"))
}
