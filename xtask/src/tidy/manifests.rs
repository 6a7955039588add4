//! What the Cargo.toml files must hold.

use super::Finding;
use super::tree::Tree;

/// One line of a dependency section.
pub(super) struct Dependency<'a> {
    /// `dependencies`, `dev-dependencies`, `build-dependencies`, also those of a target.
    pub(super) section: &'a str,
    pub(super) name: &'a str,
    /// Everything after the name.
    pub(super) rest: &'a str,
    pub(super) line: usize,
}

/// The dependencies of a manifest, in our one-line form.
pub(super) fn dependencies(manifest: &str) -> impl Iterator<Item = Dependency<'_>> {
    let mut section = "";
    manifest.lines().enumerate().filter_map(move |(index, line)| {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or(header);
            // `workspace.dependencies` and `target.'cfg(…)'.dependencies` end as the plain ones do.
            section = header.rsplit('.').next().unwrap_or(header);
            return None;
        }
        let end = line.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))?;
        let (name, rest) = line.split_at(end);
        let listed = section.ends_with("dependencies") && !name.is_empty();
        listed.then_some(Dependency { section, name, rest, line: index + 1 })
    })
}

/// In the root: a reason beside every version. Elsewhere: no version.
pub(super) fn dependencies_have_reasons(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts("Cargo.toml") {
        let ours = file.path.starts_with("crates/") || file.path.starts_with("xtask/");
        for Dependency { name, rest, line, .. } in dependencies(text) {
            let message = if file.path == "Cargo.toml" && !rest.contains("path =") && !has_comment(rest) {
                format!("{name} is here without a reason: add `# why` to its line")
            } else if ours && !rest.contains("workspace = true") {
                format!("the version of {name} belongs in the root's [workspace.dependencies]")
            } else {
                continue;
            };
            findings.push(Finding { path: file.path.clone(), line, message });
        }
    }
    findings
}

/// A dependency that no source names is left over.
pub(super) fn dependencies_are_used(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts("/Cargo.toml") {
        let folder = file.path.trim_end_matches("Cargo.toml");
        let sources = || tree.texts(".rs").filter(|(source, _)| source.path.starts_with(folder));
        for Dependency { name, line, .. } in dependencies(text) {
            let in_source = name.replace('-', "_");
            if !sources().any(|(_, source)| source.contains(&in_source)) {
                let message = format!("{name} is named in no source");
                findings.push(Finding { path: file.path.clone(), line, message });
            }
        }
    }
    findings
}

/// Have lints of their own, as `unsafe_code` cannot be allowed where it is forbidden: SQLite's file systems are tables of C functions, and nobody wraps the system call
/// for slices.
const MAY_BE_UNSAFE: [&str; 2] = ["crates/volatile/Cargo.toml", "crates/sched/Cargo.toml"];

/// Every other crate takes over the workspace's lints.
pub(super) fn lints_are_shared(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.texts("/Cargo.toml");
    let ours =
        manifests.filter(|(file, _)| file.path.starts_with("crates/") || file.path.starts_with("xtask/"));
    let without = ours.filter(|(file, text)| {
        !MAY_BE_UNSAFE.contains(&&*file.path) && !text.contains("[lints]\nworkspace = true")
    });
    let message = "add `[lints]` with `workspace = true`";
    without
        .map(|(file, _)| Finding { path: file.path.clone(), line: 0, message: message.to_owned() })
        .collect()
}

fn has_comment(rest: &str) -> bool {
    rest.rsplit_once('#').is_some_and(|(_, comment)| comment.trim().len() > 3)
}
