//! Who may know whom.

use super::Finding;
use super::manifests::dependencies;
use super::rust_source::code_only;
use super::tree::Tree;

/// The workspace's crates that each part may use; a folder that is not here is a part that nobody has placed yet.
const MAY_USE: &[(&str, &[&str])] = &[
    ("crates/wire", &[]),
    ("crates/core", &[]),
    ("crates/channel", &["xpush-core", "xpush-wire", "xpush-sched"]),
    ("crates/session", &["xpush-core", "xpush-fetch"]),
    // Both ask servers that apps name.
    ("crates/hooks", &["xpush-core", "xpush-fetch"]),
    ("crates/fetch", &[]),
    ("crates/push", &["xpush-core"]),
    ("crates/ops", &["xpush-core"]),
    ("crates/backends/embedded", &["xpush-core"]),
    ("crates/backends/sqlite", &["xpush-core"]),
    ("crates/backends/redis", &["xpush-core"]),
    ("crates/backends/zookeeper", &["xpush-core"]),
    ("crates/backends/mongodb", &["xpush-core"]),
    ("crates/backends/disk", &["xpush-core"]),
    ("crates/backends/s3", &["xpush-core"]),
    ("crates/sched", &[]),
    // An oracle is only one when it does not share the code that it judges; a system call is none.
    ("crates/bench", &["xpush-sched"]),
    // Below SQLite, for crash tests: knows nothing of what is written through it.
    ("crates/volatile", &[]),
    // Both are for joining things: the one in tests, the other in earnest.
    ("crates/testkit", ANY),
    ("crates/xpush", ANY),
    ("xtask", &[]),
];

const ANY: &[&str] = &["*"];

/// What a crate ships with; what only its tests use is free.
pub(super) fn between_crates(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts("Cargo.toml") {
        let Some(folder) = file.path.strip_suffix("/Cargo.toml") else { continue };
        if !(folder.starts_with("crates/") || folder == "xtask") {
            continue;
        }
        let allowed = MAY_USE.iter().find(|(part, _)| *part == folder).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            let message = "a new part: say in xtask/src/tidy/imports.rs what it may use".to_owned();
            findings.push(Finding { path: file.path.clone(), line: 0, message });
            continue;
        };
        for dependency in dependencies(text) {
            let ours = dependency.name.starts_with("xpush-");
            let free = dependency.section == "dev-dependencies";
            let shipped_testkit = dependency.name == "xpush-testkit";
            let permitted = allowed == ANY || allowed.contains(&dependency.name);
            if ours && !free && (shipped_testkit || !permitted) {
                let message = format!("{folder} may not depend on {}", dependency.name);
                findings.push(Finding { path: file.path.clone(), line: dependency.line, message });
            }
        }
    }
    findings
}

/// Inside the binary, one file names backends.
pub(super) fn in_the_binary(tree: &Tree) -> Vec<Finding> {
    const BACKENDS: &[&str] = &[
        "xpush_embedded",
        "xpush_sqlite",
        "xpush_redis",
        "xpush_zookeeper",
        "xpush_mongodb",
        "xpush_disk",
        "xpush_s3",
    ];
    let sources = tree.texts(".rs").filter(|(file, _)| file.path.starts_with("crates/xpush/src/"));
    let wirings: Vec<Finding> = sources
        .filter(|(file, _)| !file.is_rust_test())
        .filter_map(|(file, text)| {
            let code = code_only(text);
            let named = |line: &str| BACKENDS.iter().find(|backend| line.contains(**backend)).copied();
            let (index, backend) = code.lines().enumerate().find_map(|(i, line)| Some((i, named(line)?)))?;
            let message = format!("names {backend}, and is not the only file that names a backend");
            Some(Finding { path: file.path.clone(), line: index + 1, message })
        })
        .collect();
    if wirings.len() > 1 { wirings } else { Vec::new() }
}

/// What reaches out of a pure crate: the world has to come in through arguments and ports.
const OUTSIDE: &[&str] = &[
    "tokio",
    "mio::",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

/// The leaves compute; their tests may read files.
pub(super) fn leaves_are_pure(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts(".rs") {
        let pure = file.path.starts_with("crates/wire/src/") || file.path.starts_with("crates/core/src/");
        if !pure || file.is_rust_test() {
            continue;
        }
        for (index, line) in before_tests(&code_only(text)).lines().enumerate() {
            for outside in OUTSIDE.iter().filter(|outside| line.contains(**outside)) {
                let message = format!("`{}` does not belong in a pure crate", outside.trim_end_matches(':'));
                findings.push(Finding { path: file.path.clone(), line: index + 1, message });
            }
        }
    }
    findings
}

/// Tests that stand in the file itself are at its end.
fn before_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod ").map_or(code, |at| &code[..at])
}
