//! Links from our documents to our files.

use super::Finding;
use super::tree::Tree;

/// `[text](target)`, where the target is a path and no address; outside code.
pub(super) fn lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts(".md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            let broken = targets(line).filter(|target| !fenced && !tree.has(&resolve(folder, target)));
            findings.extend(broken.map(|target| Finding {
                path: file.path.clone(),
                line: index + 1,
                message: format!("there is no {target}"),
            }));
        }
    }
    findings
}

/// The paths that a line links to, without their `#section`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    // Between pairs of backticks is code.
    let prose = line.split('`').step_by(2);
    prose.flat_map(|text| text.split("](").skip(1)).filter_map(|rest| {
        let target = rest.split([')', ' ', '#']).next()?;
        let is_address = target.contains("://") || target.starts_with("mailto:");
        (!target.is_empty() && !is_address).then_some(target)
    })
}

/// A link is relative to its document; one with a leading `/` to the root, as the web shows it.
fn resolve(folder: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
