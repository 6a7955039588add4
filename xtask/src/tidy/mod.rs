//! The layout rules, executable. Each has its reason, which is printed with whatever breaks it.

mod imports;
mod leftovers;
mod links;
mod manifests;
mod names;
mod rust_source;
mod sizes;
mod text;
mod tree;

use crate::repo::Repo;

use tree::Tree;

/// Something that is not as a rule wants it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; 0 when it is about the whole file.
    line: usize,
    message: String,
}

struct Rule {
    name: &'static str,
    why: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "imports",
        why: "wire and core are leaves, the other parts know core only, and nothing but the binary names a backend: \
              so that each part can be read, tested and replaced alone",
        check: imports::between_crates,
    },
    Rule {
        name: "purity",
        why: "what touches no clock, no thread and no socket can be tested with any input, in any order, and fuzzed",
        check: imports::leaves_are_pure,
    },
    Rule {
        name: "wiring",
        why: "one file joins the parts, so that what a backend is used for has one answer",
        check: imports::in_the_binary,
    },
    Rule {
        name: "names",
        why: "a file called util, common or helpers says nothing about what is in it, and everything ends up there",
        check: names::say_something,
    },
    Rule { name: "sizes", why: "what does not fit in the head is two things", check: sizes::fit_in_the_head },
    Rule {
        name: "dependencies",
        why: "every dependency is code that we answer for: its version is set in one place, with the reason beside it",
        check: manifests::dependencies_have_reasons,
    },
    Rule {
        name: "unused",
        why: "a dependency that nobody uses is still built, shipped and patched",
        check: manifests::dependencies_are_used,
    },
    Rule {
        name: "lints",
        why: "a crate without the workspace's lints may use unsafe code unseen",
        check: manifests::lints_are_shared,
    },
    Rule {
        name: "leftovers",
        why: "unfinished code and switched-off tests look like finished ones from outside",
        check: leftovers::none,
    },
    Rule { name: "links", why: "a link that leads nowhere is worse than none", check: links::lead_somewhere },
    Rule {
        name: "machine paths",
        why: "what is true on one machine only does not belong in the project",
        check: text::no_machine_paths,
    },
    Rule {
        name: "large files",
        why: "every clone carries every version of every large file for ever",
        check: text::no_large_files,
    },
    Rule {
        name: "white space",
        why: "invisible differences make noise in diffs; .editorconfig keeps them out",
        check: text::clean_white_space,
    },
];

/// `cargo xtask tidy`: `Ok(false)` when a rule is broken.
pub(crate) fn command(repo: &Repo) -> Result<bool, String> {
    let tree = Tree::of_checkout(&repo.root)?;
    let mut broken = 0;
    for rule in RULES {
        let findings = (rule.check)(&tree);
        if findings.is_empty() {
            continue;
        }
        broken += 1;
        println!("{}: {}", rule.name, rule.why);
        for Finding { path, line, message } in findings {
            match line {
                0 => println!("  {path}: {message}"),
                line => println!("  {path}:{line}: {message}"),
            }
        }
    }
    println!("{} files, {} rules, {broken} broken", tree.files.len(), RULES.len());
    Ok(broken == 0)
}

/// `cargo xtask tidy --list`: the rules with their reasons.
pub(crate) fn list() {
    for rule in RULES {
        println!("{:14} {}", rule.name, rule.why);
    }
}

#[cfg(test)]
mod tests;
